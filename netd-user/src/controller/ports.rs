//! Published ports that the host does not grant: whose they are, and how that is told.

use std::net::IpAddr;
use std::sync::Arc;

use crate::desired::HeldPort;
use crate::model::{Model, Proto, Publication, Sandbox};
use crate::reconcile::ReconcileError;

/// The port that an error is about, with Docker's sentence for it.
pub(super) fn refused_port(error: &ReconcileError) -> Option<(HeldPort, String)> {
    match error {
        ReconcileError::PortBusy(port) | ReconcileError::PortGuarded(port) => {
            Some((*port, sentence(port, "address already in use")))
        }
        ReconcileError::AddressNotAvailable(port) => {
            Some((*port, sentence(port, "cannot assign requested address")))
        }
        ReconcileError::Port { port, source } => Some((*port, sentence(port, &source.to_string()))),
        ReconcileError::Link(_) | ReconcileError::Dataplane(_) | ReconcileError::Injected(_) => {
            None
        }
    }
}

/// The sandbox that publishes a port.
pub(super) fn publisher(model: &Model, port: HeldPort) -> Option<&Arc<Sandbox>> {
    model
        .sandboxes
        .values()
        .find(|sandbox| sandbox.publications.iter().any(|publication| covers(publication, port)))
}

/// Whether a publication takes a host port.
pub(super) fn covers(publication: &Publication, port: HeldPort) -> bool {
    let offset = port.port.checked_sub(publication.host_port);
    publication.proto == port.proto
        && publication.host_ip == port.addr
        && offset.is_some_and(|offset| offset < publication.count)
}

fn sentence(port: &HeldPort, reason: &str) -> String {
    let HeldPort { addr, port, proto } = *port;
    let socket = match addr {
        IpAddr::V4(addr) => format!("{addr}:{port}"),
        IpAddr::V6(addr) => format!("[{addr}]:{port}"),
    };
    format!("failed to bind host port {socket}/{}: {reason}", proto_name(proto))
}

/// The name users write.
pub(super) fn proto_name(proto: Proto) -> &'static str {
    match proto {
        Proto::Tcp => "tcp",
        Proto::Udp => "udp",
        Proto::Sctp => "sctp",
    }
}
