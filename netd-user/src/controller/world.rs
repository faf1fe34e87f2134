//! Checks of a command against the machine: what the pure model can't see.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ipnetwork::Ipv6Network;

use super::{Host, effective, owner};
use crate::facts::HostFacts;
use crate::model::sandbox::ProcessRef;
use crate::model::{Command, EndpointId, Model, Refusal, SandboxId};
use crate::store::Memory;

const HOST_NAMESPACE: &str = "/proc/self/ns/net";

/// Refuses what names a namespace or a process that is not there.
pub(super) fn check(command: &Command) -> Result<(), Refusal> {
    match command {
        Command::CreateSandbox(spec) => {
            spec.netns.as_deref().map_or(Ok(()), check_namespace)?;
            check_owner(spec.owner)
        }
        Command::SetOwner { owner, .. } => check_owner(*owner),
        Command::EnsurePredefined
        | Command::CreateNetwork(_)
        | Command::RemoveNetwork { .. }
        | Command::PruneNetworks { .. }
        | Command::RemoveSandbox { .. }
        | Command::Connect { .. }
        | Command::Disconnect { .. }
        | Command::Engine(_) => Ok(()),
    }
}

/// Sandboxes whose owner is gone.
pub(super) fn orphans(model: &Model) -> Vec<SandboxId> {
    let owned = model.sandboxes.values().filter_map(|s| Some((s.id, s.owner?)));
    owned.filter(|(_, process)| !owner::is_alive(*process)).map(|(id, _)| id).collect()
}

/// Endpoints whose sandbox an engine has ended without a word: the namespace took its end of the veth
/// pair along, and so the host's.
pub(super) fn departed(model: &Model, facts: &HostFacts) -> BTreeSet<EndpointId> {
    let taken = model.endpoints.values().filter(|endpoint| endpoint.is_with_engine());
    taken.filter(|end| !facts.links.contains_key(&end.veth)).map(|end| end.id).collect()
}

/// What a new store remembers: a ULA /48 with a random global id (RFC 4193).
pub(super) fn draw_memory<H: Host>(host: &mut H) -> std::io::Result<Memory> {
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..6].copy_from_slice(&host.entropy()?[..5]);
    let ula_prefix = Ipv6Network::new(octets.into(), 48).map_err(std::io::Error::other)?;
    Ok(Memory { ula_prefix, next_port: std::collections::BTreeMap::new() })
}

fn check_namespace(path: &Path) -> Result<(), Refusal> {
    if !path.is_absolute() || !effective::is_namespace(path) {
        let remedy = "give the path of one, such as /run/netns/NAME";
        return Err(Refusal::invalid(format!(
            "'{}' is no network namespace: {remedy}",
            path.display()
        )));
    }
    if is_hosts(path) {
        return Err(Refusal::invalid(format!(
            "'{}' is the host's own namespace: connect to network 'host' instead",
            path.display()
        )));
    }
    Ok(())
}

fn check_owner(owner: Option<ProcessRef>) -> Result<(), Refusal> {
    match owner {
        Some(process) if !owner::is_alive(process) => Err(Refusal::invalid(format!(
            "process {} with start time {} is not running",
            process.pid, process.start_ticks
        ))),
        Some(_) | None => Ok(()),
    }
}

/// Whether a path leads to the host's own namespace.
pub(super) fn is_hosts(path: &Path) -> bool {
    same_file(path, Path::new(HOST_NAMESPACE))
}

fn same_file(a: &Path, b: &Path) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
    identity(a).is_some_and(|a| identity(b) == Some(a))
}
