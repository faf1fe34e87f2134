//! What users see of a running host: metrics and events.
