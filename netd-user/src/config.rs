//! The daemon's configuration: `/etc/netd/netd.toml`, every key with a default.
//!
//! Law: what is written (`RawConfig`) and what is checked (`Config`) are two types, and every refusal
//! names file, line, key and remedy.

mod changes;
mod check;
mod raw;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::compile::{CompileSettings, FlowTimeouts};
use crate::desired::files::FileDefaults;
use crate::model::Settings;

/// Where the configuration lies unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/netd/netd.toml";

/// The checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Durable state (`/var/lib/netd`).
    pub state_dir: PathBuf,
    /// Sockets and the lock (`/run/netd`).
    pub run_dir: PathBuf,
    /// Pins (`/sys/fs/bpf/netd`).
    pub bpffs_dir: PathBuf,
    /// Root of the cgroup v2 hierarchy; none leaves host sockets alone (`cgroup = "none"`).
    pub cgroup: Option<PathBuf>,
    /// The host's resolver configuration (`/etc/resolv.conf`).
    pub resolv_conf: PathBuf,
    /// The native API (`<run-dir>/netd.sock`).
    pub api_socket: PathBuf,
    /// The plugin socket of a Docker engine (`/run/docker/plugins/netd.sock`); none does without
    /// (`docker-socket = "none"`).
    pub docker_socket: Option<PathBuf>,
    /// The API of a Docker engine, which is asked for the names of its containers
    /// (`/var/run/docker.sock`); none leaves it alone (`docker-api-socket = "none"`).
    pub docker_api_socket: Option<PathBuf>,
    /// Group that may use the API beside root.
    pub group: Option<String>,
    /// Address of the Prometheus endpoint; none turns it off (`metrics-addr = "off"`).
    pub metrics_addr: Option<SocketAddr>,
    /// A tracing filter.
    pub log_level: String,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// How often the kernel is compared in full.
    pub verify_interval: Duration,
    /// How long a request may wait for its change.
    pub request_deadline: Duration,
    /// Masquerade ports, first and last.
    pub snat_ports: (u16, u16),
    /// ICMP errors of our own: per second and CPU, and at once.
    pub icmp_errors: (u32, u32),
    /// Flow table.
    pub flow_table: FlowTable,
    /// What sandboxes resolve names with unless they say otherwise.
    pub dns: DnsDefaults,
    /// How long clients may keep what they are told about a container, seconds.
    pub dns_ttl_s: u32,
    /// What `host-gateway` stands for in sandboxes; empty for the predefined bridge's gateways.
    pub host_gateway: Vec<IpAddr>,
    settings: Settings,
}

/// Sizes and timeouts of the flow table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowTable {
    /// Flows with a reply, each direction one entry; none for the built-in capacity.
    pub size: Option<u32>,
    /// Embryonic flows; none for the built-in capacity.
    pub embryonic_size: Option<u32>,
    /// How long a silent flow is kept.
    pub timeouts: FlowTimeouts,
    /// How long TCP in mid-stream may open a flow after the table was lost, seconds.
    pub tcp_loose_s: u32,
}

/// Docker's `dns`, `dns-opts` and `dns-search`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsDefaults {
    /// Name servers; empty for the host's.
    pub servers: Vec<IpAddr>,
    /// resolv.conf options.
    pub options: Vec<String>,
    /// Search domains.
    pub search: Vec<String>,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object per line.
    Json,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{}: can't be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A line is wrong.
    #[error("{}:{line}: {message}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// Key, what is wrong, remedy.
        message: String,
    },
}

impl Config {
    /// Reads `path`; without one the default path, where a missing file means all defaults.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let file = path.unwrap_or(Path::new(DEFAULT_PATH));
        match std::fs::read_to_string(file) {
            Ok(text) => Self::parse(&text, file),
            Err(error) if path.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                Self::parse("", file)
            }
            Err(source) => Err(ConfigError::Unreadable { path: file.to_owned(), source }),
        }
    }

    /// Reads `text`; `path` is what refusals name.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        raw::read(text).and_then(|raw| check::check(raw, text)).map_err(|fault| ConfigError::Line {
            path: path.to_owned(),
            line: fault.line,
            message: fault.message,
        })
    }

    /// The settings that the model obeys; the ULA prefix is the store's to fill in.
    pub fn base_settings(&self) -> &Settings {
        &self.settings
    }

    /// The settings that the compiler obeys.
    pub fn compile_settings(&self) -> CompileSettings {
        CompileSettings {
            timeouts: self.flow_table.timeouts,
            snat_ports: self.snat_ports,
            icmp_errors: self.icmp_errors,
            mtu: self.settings.mtu,
            name_service: self.cgroup.is_some(),
            files: self.file_defaults(),
            ..CompileSettings::default()
        }
    }

    /// What the files of sandboxes say that were not told otherwise.
    pub fn file_defaults(&self) -> FileDefaults {
        let DnsDefaults { servers, options, search } = self.dns.clone();
        FileDefaults { servers, search, options, host_gateway: self.host_gateway.clone() }
    }

    /// Directory in which namespaces of sandboxes are mounted.
    pub fn netns_dir(&self) -> &Path {
        &self.settings.netns_dir
    }
}

/// A fault of the text: the line it is on and what to say.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    line: usize,
    message: String,
}

/// Line of the byte at `offset`, from 1.
fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests;
