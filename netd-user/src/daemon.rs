//! Wiring of the daemon: the only place that knows everything.
//!
//! Laws: privileges, lock and store are settled before the first thread starts; stopping, however it
//! comes about, leaves the dataplane as it is.

mod inherited;
mod lock;
mod logging;
mod manager;
mod memory;
mod privilege;
mod reload;
mod services;
mod storage;
mod telemetry;
pub mod uninstall;
mod witness;

use std::collections::BTreeMap;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::cli::{Places, Wiring};
use crate::config::{Config, ConfigError};
use crate::controller::StartError;
use crate::dataplane::object::DATAPLANE_OBJECT;
use crate::frontend::LogControl;
use crate::frontend::socket::{self, BoundSocket, SocketError};
use crate::kernel::{self, TooOld};
use crate::reconcile::{ReconcileError, ReconcilerOptions};
use crate::store::StoreError;
use crate::store::sqlite::SqliteStore;

use inherited::Inherited;
use lock::Lock;

pub use inherited::InheritedError;
pub use lock::LockError;
pub use logging::LoggingError;
pub use privilege::{NEEDED, PrivilegeError};
pub use storage::store;

const STATE_LOCK: &str = "netd.lock";
const RUN_LOCK: &str = "netd.pid";

/// Why the daemon does not run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The kernel is too old.
    #[error(transparent)]
    Kernel(#[from] TooOld),
    /// The log can't be set up.
    #[error(transparent)]
    Logging(#[from] LoggingError),
    /// A directory can't be made.
    #[error("{key} {}: can't be made: {source}", path.display())]
    Directory {
        /// The configuration's key.
        key: &'static str,
        /// The directory.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Another daemon is there.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// No durable state.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No API.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// What the service manager handed over is not ours.
    #[error(transparent)]
    Inherited(#[from] InheritedError),
    /// Too little or too much may be done.
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
    /// The metrics address can't be had.
    #[error("metrics-addr {addr}: {source}: set another address, or 'off'")]
    Metrics {
        /// As configured.
        addr: std::net::SocketAddr,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The kernel side can't be opened.
    #[error("the dataplane can't be started: {0}: see `netd check`")]
    Dataplane(#[from] ReconcileError),
    /// A metric is wrong in itself.
    #[error("the metrics can't be registered: {0}")]
    Registry(#[from] prometheus::Error),
    /// The controller can't begin.
    #[error(transparent)]
    Controller(#[from] StartError),
    /// The runtime or signals.
    #[error("the system refuses what every process has: {0}")]
    System(#[from] std::io::Error),
    /// A part ended that never ends.
    #[error("the controller ended unexpectedly: {0}")]
    Ended(String),
}

/// What was settled before the first thread.
#[derive(Debug)]
struct Settled {
    config: Config,
    config_path: Option<PathBuf>,
    log: LogControl,
    store: SqliteStore,
    listener: UnixListener,
    socket: BoundSocket,
    docker: Option<(UnixListener, BoundSocket)>,
    locks: [Lock; 2],
}

/// What the command line needs from this layer.
pub fn wiring() -> Wiring {
    Wiring { daemon: main, places, uninstall: uninstall::main, needed: NEEDED, store }
}

/// Runs the daemon with the configuration of a file, or the default one, until it is told to stop.
/// An error is one sentence on stderr.
pub fn main(config_path: Option<&Path>) -> ExitCode {
    match run(config_path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("netd daemon: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Where the daemon would put things, for `netd check`.
pub fn places(config_path: Option<&Path>) -> Result<Places, String> {
    let config = Config::load(config_path).map_err(|error| error.to_string())?;
    Ok(Places {
        netns_dir: config.netns_dir().to_owned(),
        locks: [
            ("state-dir", config.state_dir.join(STATE_LOCK)),
            ("run-dir", config.run_dir.join(RUN_LOCK)),
        ],
        metrics_addr: config.metrics_addr,
        cgroup: config.cgroup,
        api_socket: config.api_socket,
        bpffs_dir: config.bpffs_dir,
    })
}

/// The same with the error as a value.
pub fn run(config_path: Option<&Path>) -> Result<(), DaemonError> {
    memory::set_up();
    let settled = settle(config_path)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(services::live(settled));
    // Blocking work (a sweep, a look at counters) ends within milliseconds, or with the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    done
}

fn settle(config_path: Option<&Path>) -> Result<Settled, DaemonError> {
    let config = Config::load(config_path)?;
    kernel::fits(&kernel::running())?;
    let log = logging::start(&config.log_level, config.log_format)?;
    directory("state-dir", &config.state_dir)?;
    directory("run-dir", &config.run_dir)?;
    let locks = [
        Lock::take(&config.state_dir, "state-dir", STATE_LOCK)?,
        Lock::take(&config.run_dir, "run-dir", RUN_LOCK)?,
    ];
    let store = SqliteStore::open(&config.state_dir)?;
    let mut inherited = Inherited::take()?;
    let mut listen = |path: &Path, group| match inherited.at(path) {
        Some(listener) => Ok((listener, BoundSocket::Inherited)),
        None => socket::bind(path, group),
    };
    let (listener, socket) = listen(&config.api_socket, config.group.as_deref())?;
    let docker = config.docker_socket.as_deref().map(|path| listen(path, None)).transpose()?;
    inherited.none_left()?;
    raise_file_limit();
    privilege::reduce()?;
    privilege::announce();
    Ok(Settled {
        config,
        config_path: config_path.map(Path::to_owned),
        log,
        store,
        listener,
        socket,
        docker,
        locks,
    })
}

fn directory(key: &'static str, path: &Path) -> Result<(), DaemonError> {
    let made = std::fs::create_dir_all(path);
    made.map_err(|source| DaemonError::Directory { key, path: path.to_owned(), source })
}

/// Each held port, watched owner and connection is a descriptor.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays low");
    }
}

fn reconciler_options(config: &Config) -> ReconcilerOptions {
    let table = &config.flow_table;
    let sizes = [
        (["flows_v4", "flows_v6"], table.size),
        (["flows_new_v4", "flows_new_v6"], table.embryonic_size),
    ];
    let capacities: BTreeMap<String, u32> = sizes
        .into_iter()
        .filter_map(|(names, size)| Some((names, size?)))
        .flat_map(|(names, size)| names.map(|name| (name.to_owned(), size)))
        .collect();
    ReconcilerOptions {
        bpffs_dir: config.bpffs_dir.clone(),
        state_dir: config.state_dir.clone(),
        cgroup: config.cgroup.clone(),
        object: DATAPLANE_OBJECT.into(),
        capacities,
        snat_ports: config.snat_ports,
        resolv_conf: config.resolv_conf.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configured_table_sizes_reach_the_maps_of_both_families() {
        let text = "[flow-table]\nsize = 4096";
        let config = Config::parse(text, Path::new("netd.toml")).expect("configuration");
        let names = |options: ReconcilerOptions| options.capacities.into_iter().collect::<Vec<_>>();
        let wanted = [("flows_v4".to_owned(), 4096), ("flows_v6".to_owned(), 4096)];
        assert_eq!(names(reconciler_options(&config)), wanted);
        for name in ["flows_v4", "flows_v6", "flows_new_v4", "flows_new_v6"] {
            assert!(netd_common::map::MAPS.iter().any(|map| map.name == name), "{name}");
        }
    }
}
