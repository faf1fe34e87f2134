//! Where a sandbox's name queries go.

use crate::id::Be16;
use crate::layout;

/// The address that a sandbox's resolver configuration names, first octet first: Docker's.
pub const RESOLVER_ADDR: [u8; 4] = [127, 0, 0, 11];

/// The port that clients ask for.
pub const RESOLVER_PORT: u16 = 53;

/// Value of `resolvers`: netd's sockets in a sandbox's namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ResolverValue {
    /// The port of both sockets, UDP and TCP, at `RESOLVER_ADDR`.
    pub port: Be16,
    /// Always zero.
    pub pad: u16,
}

layout!(ResolverValue, 4);
