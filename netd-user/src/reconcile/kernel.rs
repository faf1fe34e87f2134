//! The real kernel behind `Effects`.

/// Links by netlink, maps and programs by bpf, ports by sockets.
#[derive(Debug)]
pub struct KernelEffects {}
