//! Least privilege: what the daemon may do, why, and that it may do nothing else.
//!
//! Law: capabilities belong to threads, so all this happens before the runtime starts any.

use caps::{CapSet, Capability, CapsHashSet};

/// What is kept, and what for.
pub const NEEDED: &[(Capability, &str)] = &[
    (Capability::CAP_NET_ADMIN, "links, addresses, routes and programs on them"),
    (Capability::CAP_NET_BROADCAST, "hearing of changes inside sandboxes"),
    (Capability::CAP_BPF, "maps and programs"),
    (Capability::CAP_PERFMON, "programs that use the kernel's own types"),
    (Capability::CAP_SYS_ADMIN, "mounting and entering network namespaces, pins"),
    (Capability::CAP_SYS_PTRACE, "entering namespaces named by a process (/proc/PID/ns/net)"),
    (Capability::CAP_NET_BIND_SERVICE, "holding published ports below 1024"),
    (Capability::CAP_NET_RAW, "sockets bound to one link"),
];

/// Why the daemon can't run with what it has, or can't give up the rest.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// Something is missing.
    #[error(
        "netd daemon needs {0}: run it as root, or grant that (AmbientCapabilities= in systemd)"
    )]
    Missing(String),
    /// The system refuses.
    #[error("capabilities can't be set: {0}")]
    System(String),
}

/// Keeps what is needed, on this thread and all it will start, and drops everything else for good.
pub(super) fn reduce() -> Result<(), PrivilegeError> {
    let system = |error: caps::errors::CapsError| PrivilegeError::System(error.to_string());
    let held = caps::read(None, CapSet::Permitted).map_err(system)?;
    let missing = missing(&held);
    if !missing.is_empty() {
        return Err(PrivilegeError::Missing(missing.join(", ")));
    }
    let kept: CapsHashSet = NEEDED.iter().map(|(capability, _)| *capability).collect();
    if held.contains(&Capability::CAP_SETPCAP) {
        caps::raise(None, CapSet::Effective, Capability::CAP_SETPCAP).map_err(system)?;
        let bounding = caps::read(None, CapSet::Bounding).map_err(system)?;
        for capability in bounding.difference(&kept) {
            caps::drop(None, CapSet::Bounding, *capability).map_err(system)?;
        }
    }
    caps::clear(None, CapSet::Ambient).map_err(system)?;
    caps::set(None, CapSet::Effective, &kept).map_err(system)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(system)?;
    caps::clear(None, CapSet::Inheritable).map_err(system)?;
    nix::sys::prctl::set_no_new_privs().map_err(|e| PrivilegeError::System(e.to_string()))
}

/// Says what is kept.
pub(super) fn announce() {
    for (capability, purpose) in NEEDED {
        tracing::info!(%capability, purpose, "keeping a capability");
    }
    tracing::info!("every other capability is dropped");
}

fn missing(held: &CapsHashSet) -> Vec<String> {
    let missing = NEEDED.iter().filter(|(capability, _)| !held.contains(capability));
    missing.map(|(capability, purpose)| format!("{capability} ({purpose})")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_purpose() {
        let mut held: CapsHashSet = NEEDED.iter().map(|(capability, _)| *capability).collect();
        assert_eq!(missing(&held), Vec::<String>::new());
        held.remove(&Capability::CAP_BPF);
        assert_eq!(missing(&held), ["CAP_BPF (maps and programs)"]);
    }

    #[test]
    fn operators_are_told_what_is_kept() {
        let manual = include_str!("../../../docs/operations.md");
        for (capability, _) in NEEDED {
            assert!(manual.contains(&format!("`{capability}`")), "{capability}");
        }
    }

    #[test]
    fn a_reduced_thread_holds_what_is_needed_and_nothing_else() {
        let held = caps::read(None, CapSet::Permitted).expect("own capabilities");
        if !missing(&held).is_empty() {
            assert!(matches!(reduce(), Err(PrivilegeError::Missing(_))));
            return;
        }
        let left = std::thread::spawn(|| {
            reduce().expect("reduce");
            caps::read(None, CapSet::Permitted).expect("own capabilities")
        });
        let needed: CapsHashSet = NEEDED.iter().map(|(capability, _)| *capability).collect();
        assert_eq!(left.join().expect("thread"), needed);
    }
}
