//! SIGHUP: the configuration is read anew; what a running daemon can take over it does, and the rest
//! it names.
//!
//! Law: a configuration that can't be read changes nothing.

use std::path::PathBuf;
use std::sync::Arc;

use super::logging;
use crate::config::{Config, ConfigError};
use crate::controller::{Controller, Live};
use crate::frontend::{Api, Defaults, LogControl, SharedDefaults};

/// What holds the values that can change.
pub(super) struct Reloader {
    running: Config,
    path: Option<PathBuf>,
    log: LogControl,
    defaults: SharedDefaults,
    /// The one mutator.
    pub(super) controller: Controller,
}

/// Why a new configuration was not taken over.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("log-level: {0}")]
    Filter(String),
}

fn live(config: &Config) -> Live {
    Live {
        settings: config.base_settings().clone(),
        compile: config.compile_settings(),
        verify_interval: config.verify_interval,
    }
}

impl Reloader {
    /// For a daemon that runs with `running`, read at `path`.
    pub(super) fn new(running: Config, path: Option<PathBuf>, api: &Api) -> Self {
        let (log, defaults) = (api.log.clone(), Arc::clone(&api.defaults));
        Self { running, path, log, defaults, controller: api.controller.clone() }
    }

    /// Does it and logs what came of it.
    pub(super) fn reload(&mut self) {
        if let Err(error) = self.take_over() {
            tracing::error!(%error, "the configuration was not read anew; nothing changes");
        }
    }

    fn take_over(&mut self) -> Result<(), ReloadError> {
        let new = Config::load(self.path.as_deref())?;
        let taken = self.running.reloaded(&new);
        let changed = self.running.differing(&taken);
        let fixed = taken.differing(&new);
        if changed.contains(&"log-level") {
            logging::parse(&taken.log_level).map_err(ReloadError::Filter)?;
            self.log.set(&taken.log_level).map_err(ReloadError::Filter)?;
        }
        self.defaults.store(Arc::new(Defaults::of(&taken)));
        self.controller.reload(live(&taken));
        self.running = taken;
        tracing::info!(changed = changed.join(", "), "the configuration was read anew");
        if !fixed.is_empty() {
            tracing::warn!(keys = fixed.join(", "), "these are read at start: restart the daemon");
        }
        Ok(())
    }
}
