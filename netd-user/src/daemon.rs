//! Wiring of the daemon: the only place that knows everything.
