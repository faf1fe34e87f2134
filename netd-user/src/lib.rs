//! The controller: model, compiler, reconciler, front doors and CLI of netd.
//!
//! Law: dependencies point down only (see `docs/architecture.md`); `main` and `daemon` are the only
//! places that know everything.

pub mod api;
pub mod cli;
pub mod compile;
pub mod config;
pub mod controller;
pub mod daemon;
pub mod dataplane;
pub mod desired;
pub mod dns;
pub mod driver;
pub mod facts;
mod fault;
pub mod frontend;
pub mod kernel;
pub mod link;
pub mod model;
pub mod observe;
pub mod reconcile;
pub mod roster;
pub mod store;
pub mod watcher;
