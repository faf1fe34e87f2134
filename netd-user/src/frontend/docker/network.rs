//! `NetworkDriver`: networks, endpoints, and the ports published by them.

use std::net::IpAddr;
use std::path::PathBuf;

use super::options::{NetworkOptions, address, plain, pool, ports};
use super::reply::{Empty, EndpointCreated, GatewaysSkipped, Interface, InterfaceName, Joined};
use super::request::{
    CreateEndpoint, CreateNetwork, EndpointRef, GwAllocCheck, Join, NetworkRef, Program,
};
use super::{Answer, Plugin, PluginError, reply};
use crate::model::endpoint::format_mac;
use crate::model::engine::{AdoptedEndpoint, AdoptedNetwork, needs_no_gateway};
use crate::model::{EndpointId, EngineCommand, NetworkId, Refusal};

/// Which families of a network need no address for a gateway.
pub(super) fn check_gateways(asked: &GwAllocCheck) -> Answer {
    let options = NetworkOptions::read(&asked.options);
    let [v4, v6] = needs_no_gateway(&options.generic, options.internal)?;
    Ok(reply(&GatewaysSkipped { v4, v6 }))
}

impl Plugin {
    pub(super) async fn create_network(&self, asked: CreateNetwork) -> Answer {
        let NetworkOptions { generic, internal, ipv4, ipv6 } = NetworkOptions::read(&asked.options);
        let pools = asked.v4.iter().chain(&asked.v6).map(pool);
        let pools: Vec<_> = pools.collect::<Result<_, _>>()?;
        let network = AdoptedNetwork {
            id: network_id(&asked.network)?,
            ipv4,
            ipv6,
            internal,
            options: generic,
            pools: pools.into_iter().flatten().collect(),
        };
        self.make(EngineCommand::CreateNetwork(network)).await?;
        Ok(reply(&Empty::default()))
    }

    pub(super) async fn delete_network(&self, asked: &NetworkRef) -> Answer {
        if let Ok(network) = asked.network.parse() {
            self.unmake(EngineCommand::DeleteNetwork { network }).await?;
        }
        Ok(reply(&Empty::default()))
    }

    pub(super) async fn create_endpoint(&self, asked: CreateEndpoint<'_>) -> Answer {
        let id = endpoint_id(&asked.endpoint)?;
        let interface = asked.interface;
        let endpoint = AdoptedEndpoint {
            id,
            network: network_id(&asked.network)?,
            v4: match address("address", &interface.v4)? {
                Some(IpAddr::V4(v4)) => Some(v4),
                Some(IpAddr::V6(_)) | None => None,
            },
            v6: match address("address", &interface.v6)? {
                Some(IpAddr::V6(v6)) => Some(v6),
                Some(IpAddr::V4(_)) | None => None,
            },
            mac: Some(interface.mac.clone()).filter(|mac| !mac.is_empty()),
            options: plain(asked.options),
        };
        self.make(EngineCommand::CreateEndpoint(endpoint)).await?;
        let model = self.controller.model();
        let made = model.endpoints.get(&id).ok_or_else(|| gone(id))?;
        // The engine rolls back where it is told what it said itself.
        let mac_address = interface.mac.is_empty().then(|| format_mac(made.mac));
        Ok(reply(&EndpointCreated { interface: Interface { mac_address } }))
    }

    pub(super) async fn delete_endpoint(&self, asked: &EndpointRef) -> Answer {
        self.end(asked, |endpoint| EngineCommand::DeleteEndpoint { endpoint }).await
    }

    pub(super) async fn join(&self, asked: Join) -> Answer {
        let id = endpoint_id(&asked.endpoint)?;
        let key = PathBuf::from(asked.sandbox_key);
        self.make(EngineCommand::Join { endpoint: id, key }).await?;
        let model = self.controller.model();
        let endpoint = model.endpoints.get(&id).ok_or_else(|| gone(id))?;
        let network = model.networks.get(&endpoint.network).ok_or_else(|| gone(id))?;
        let gateway = |v6| model.gateway_of(endpoint, v6).map(|gateway| gateway.to_string());
        Ok(reply(&Joined {
            interface_name: InterfaceName {
                src_name: endpoint.interface.to_string(),
                dst_prefix: network.bridge.interface_prefix.clone(),
            },
            gateway: gateway(false),
            gateway_v6: gateway(true),
            disable_gateway_service: true,
        }))
    }

    pub(super) async fn leave(&self, asked: &EndpointRef) -> Answer {
        self.end(asked, |endpoint| EngineCommand::Leave { endpoint }).await
    }

    pub(super) async fn program(&self, asked: &Program) -> Answer {
        let endpoint = endpoint_id(&asked.endpoint)?;
        let ports = ports(&asked.options.ports)?;
        self.make(EngineCommand::Open { endpoint, ports }).await?;
        Ok(reply(&Empty::default()))
    }

    pub(super) async fn revoke(&self, asked: &EndpointRef) -> Answer {
        self.end(asked, |endpoint| EngineCommand::Close { endpoint }).await
    }

    /// What has no id of ours has nothing that could end.
    async fn end(
        &self,
        asked: &EndpointRef,
        command: impl FnOnce(EndpointId) -> EngineCommand,
    ) -> Answer {
        if let Ok(endpoint) = asked.endpoint.parse() {
            self.unmake(command(endpoint)).await?;
        }
        Ok(reply(&Empty::default()))
    }
}

fn network_id(text: &str) -> Result<NetworkId, PluginError> {
    Ok(text.parse().map_err(|error| Refusal::invalid(format_args!("NetworkID {error}")))?)
}

fn endpoint_id(text: &str) -> Result<EndpointId, PluginError> {
    Ok(text.parse().map_err(|error| Refusal::invalid(format_args!("EndpointID {error}")))?)
}

fn gone(endpoint: EndpointId) -> PluginError {
    PluginError::Gone(format!("endpoint {endpoint}"))
}
