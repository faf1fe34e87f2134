//! What a container engine asks for: pools and addresses on their own, networks and endpoints under
//! its own ids, sandboxes that it makes and fills itself.
//!
//! Laws: a command repeated is granted again and changes nothing; what is left or released twice is
//! no mistake; who claims the address of an endpoint that has ended without a word gets it.

mod adopt;
pub mod lease;
mod membership;
mod request;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use ipnetwork::IpNetwork;

use super::apply::Change;
use super::id::{EndpointId, NetworkId};
use super::port::PortSpec;
use super::refusal::Refusal;
use super::{Outcome, PoolId};

pub use adopt::needs_no_gateway;

/// A request of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineCommand {
    /// Takes a prefix, whatever network it is for.
    RequestPool(PoolRequest),
    /// Gives it back. The pool of a network stays until the network goes.
    ReleasePool {
        /// As granted.
        pool: PoolId,
    },
    /// Takes an address of a pool.
    RequestAddress(AddressRequest),
    /// Gives it back, with an endpoint that has it in no sandbox. What a network or a sandbox's
    /// endpoint has stays until that goes.
    ReleaseAddress {
        /// As granted.
        pool: PoolId,
        /// Address.
        addr: IpAddr,
    },
    /// Creates a network under the engine's id.
    CreateNetwork(AdoptedNetwork),
    /// Removes it with its endpoints.
    DeleteNetwork {
        /// The engine's id.
        network: NetworkId,
    },
    /// Creates an endpoint that belongs to no sandbox yet.
    CreateEndpoint(AdoptedEndpoint),
    /// Removes it.
    DeleteEndpoint {
        /// The engine's id.
        endpoint: EndpointId,
    },
    /// Offers the endpoint's interface for a sandbox.
    Join {
        /// The engine's id.
        endpoint: EndpointId,
        /// Path of the sandbox's namespace, which need not exist yet.
        key: PathBuf,
    },
    /// Takes the interface back, and with it the published ports.
    Leave {
        /// The engine's id.
        endpoint: EndpointId,
    },
    /// Makes the endpoint a way in and out of its sandbox and publishes these ports there, instead of
    /// those that the sandbox had.
    Open {
        /// The engine's id.
        endpoint: EndpointId,
        /// Ports.
        ports: Vec<PortSpec>,
    },
    /// Takes that back: the ports are free on return.
    Close {
        /// The engine's id.
        endpoint: EndpointId,
    },
    /// Removes the endpoints of sandboxes that have ended without a word, as every command does.
    Bury,
}

/// A pool asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolRequest {
    /// Name of the address space.
    pub space: String,
    /// The prefix, none for any.
    pub subnet: Option<String>,
    /// The part that addresses are taken from.
    pub range: Option<String>,
    /// Family of any prefix.
    pub v6: bool,
}

/// An address asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressRequest {
    /// The pool, as granted.
    pub pool: PoolId,
    /// The address, none for any.
    pub addr: Option<IpAddr>,
    /// What it is for.
    pub role: AddressRole,
}

/// What an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressRole {
    /// The gateway, or an auxiliary address, or one that an engine tells of again after its start:
    /// granted as often as it is asked for.
    Fixed,
    /// An endpoint: granted once.
    Endpoint,
}

/// A network as the engine sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptedNetwork {
    /// The engine's id.
    pub id: NetworkId,
    /// IPv4 on.
    pub ipv4: bool,
    /// IPv6 on.
    pub ipv6: bool,
    /// No way in or out.
    pub internal: bool,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Pools of both families.
    pub pools: Vec<AdoptedPool>,
}

/// A pool of such a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptedPool {
    /// Whether it comes from a request for a pool made here.
    pub leased: bool,
    /// Prefix.
    pub subnet: IpNetwork,
    /// Gateway.
    pub gateway: Option<IpAddr>,
    /// Auxiliary addresses.
    pub aux_addresses: BTreeMap<String, IpAddr>,
}

/// An endpoint as the engine sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptedEndpoint {
    /// The engine's id.
    pub id: EndpointId,
    /// Its network.
    pub network: NetworkId,
    /// IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// IPv6 address.
    pub v6: Option<Ipv6Addr>,
    /// MAC, none for one of ours.
    pub mac: Option<String>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
}

impl Change<'_> {
    pub(super) fn obey(&mut self, command: EngineCommand) -> Result<Outcome, Refusal> {
        match command {
            EngineCommand::RequestPool(request) => self.request_pool(&request),
            EngineCommand::ReleasePool { pool } => Ok(self.release_pool(&pool)),
            EngineCommand::RequestAddress(request) => self.request_address(request),
            EngineCommand::ReleaseAddress { pool, addr } => self.release_address(&pool, addr),
            EngineCommand::CreateNetwork(network) => self.adopt_network(network),
            EngineCommand::DeleteNetwork { network } => self.delete_network(network),
            EngineCommand::CreateEndpoint(endpoint) => self.adopt_endpoint(endpoint),
            EngineCommand::DeleteEndpoint { endpoint } => self.delete_endpoint(endpoint),
            EngineCommand::Join { endpoint, key } => self.enter(endpoint, key),
            EngineCommand::Leave { endpoint } => self.leave(endpoint),
            EngineCommand::Open { endpoint, ports } => self.open(endpoint, ports),
            EngineCommand::Close { endpoint } => self.close(endpoint),
            EngineCommand::Bury => Ok(Outcome::Done),
        }
    }

    /// Removes endpoints whose sandbox has ended without a word.
    pub(super) fn bury(&mut self, departed: &BTreeSet<EndpointId>) -> Result<(), Refusal> {
        departed.iter().try_for_each(|endpoint| self.delete_endpoint(*endpoint).map(drop))
    }
}
