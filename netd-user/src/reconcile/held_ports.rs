//! Ports of the host held by bound sockets, so that a program that wants one meets the conflict.
//!
//! Law: a held socket never receives: TCP does not listen, datagrams are filtered away.

use crate::model::Proto;

/// The protocol's name.
pub const fn name_of(proto: Proto) -> &'static str {
    match proto {
        Proto::Tcp => "tcp",
        Proto::Udp => "udp",
        Proto::Sctp => "sctp",
    }
}
