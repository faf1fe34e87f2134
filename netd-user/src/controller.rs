//! The one mutator: executes commands, one at a time, and makes them durable.
