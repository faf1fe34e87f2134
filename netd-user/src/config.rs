//! The configuration file: TOML in, checked settings out.
