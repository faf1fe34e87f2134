//! The machine that a run was made on, as far as it bears on the figures.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Where and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Environment {
    /// Unix time, seconds.
    pub(crate) taken_at: u64,
    /// Name and value of what matters.
    pub(crate) facts: BTreeMap<String, String>,
}

/// Looks around.
pub(crate) fn look() -> Environment {
    let taken_at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
    let mut facts = BTreeMap::new();
    let mut note = |name: &str, value: Option<String>| {
        facts.insert(name.to_owned(), value.unwrap_or_else(|| "unknown".to_owned()));
    };
    note("kernel", read("/proc/sys/kernel/osrelease"));
    note("kernel build", read("/proc/sys/kernel/version"));
    note("cpu", cpu_model());
    note("cpus", std::thread::available_parallelism().ok().map(|count| count.to_string()));
    note("mitigations", mitigations());
    note("load before the run", read("/proc/loadavg"));
    note("bpf jit", read("/proc/sys/net/core/bpf_jit_enable"));
    note("netd", Some(env!("CARGO_PKG_VERSION").to_owned()));
    for (name, program, argument) in [
        ("iptables", "iptables", "--version"),
        ("nft", "nft", "--version"),
        ("iproute2", "ip", "-V"),
        ("iperf3", "iperf3", "--version"),
    ] {
        note(name, version(program, argument));
    }
    Environment { taken_at, facts }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn cpu_model() -> Option<String> {
    let table = read("/proc/cpuinfo")?;
    let line = table.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// What the kernel does against each CPU fault that it is affected by.
fn mitigations() -> Option<String> {
    let directory = fs::read_dir("/sys/devices/system/cpu/vulnerabilities").ok()?;
    let mut active: Vec<String> = directory
        .flatten()
        .filter_map(|entry| {
            let state = fs::read_to_string(entry.path()).ok()?;
            let name = entry.file_name().into_string().ok()?;
            (!state.starts_with("Not affected")).then(|| format!("{name}: {}", state.trim()))
        })
        .collect();
    active.sort();
    Some(if active.is_empty() { "none needed".to_owned() } else { active.join("; ") })
}

fn version(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map(str::to_owned)
}
