//! Drivers: compiler passes that add links and table entries to `Desired`.
