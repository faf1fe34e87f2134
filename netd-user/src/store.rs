//! Durable state of one host.
