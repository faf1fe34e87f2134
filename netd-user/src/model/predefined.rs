//! The predefined networks `bridge`, `host` and `none`.
//!
//! Law: they follow the settings at each start as far as their endpoints allow: options always,
//! prefixes only while nobody holds an address. They keep id and index.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::apply::Change;
use super::create_network::Plan;
use super::id::NetworkId;
use super::network::{
    BridgeOptions, DEFAULT_GATEWAY_V4, DEFAULT_GATEWAY_V6, DriverKind, Network, Pool,
};
use super::options;
use super::pool::masked;
use super::refusal::Refusal;
use super::subnet::AskedPool;
use super::{Outcome, Settings};

/// Name of the predefined bridge network.
pub(super) const BRIDGE: &str = "bridge";
/// Name of the predefined network that is the host's namespace.
pub(super) const HOST: &str = "host";
/// Name of the predefined network without one.
pub(super) const NONE: &str = "none";

impl Change<'_> {
    pub(super) fn ensure_predefined(&mut self) -> Result<Outcome, Refusal> {
        for (name, driver) in [(HOST, DriverKind::Host), (NONE, DriverKind::Null)] {
            if self.model.network_named(name).is_none() {
                let plan = plain_plan()?;
                let network = self.plan_network(plan, driver, None)?;
                self.put_network(Network { name: name.to_owned(), predefined: true, ..network });
            }
        }
        let held = self.model.network_named(BRIDGE).map(|network| Network::clone(network));
        let wanted = self.now.settings.bridge.as_deref() != Some("none");
        match (held, wanted) {
            (None, true) => self.create_bridge()?,
            (Some(held), true) => self.refresh_bridge(held)?,
            (Some(held), false) if !self.is_used(held.id) => {
                self.model.networks.remove(&held.id);
            }
            (Some(_) | None, false) => {}
        }
        Ok(Outcome::Done)
    }

    fn create_bridge(&mut self) -> Result<(), Refusal> {
        let plan = self.bridge_plan()?;
        let pools = self.plan_pools(&plan)?;
        let options = shown(&plan.bridge);
        let network = self.plan_network(plan, DriverKind::Bridge, None)?;
        let name = BRIDGE.to_owned();
        self.put_network(Network { name, predefined: true, pools, options, ..network });
        Ok(())
    }

    fn refresh_bridge(&mut self, held: Network) -> Result<(), Refusal> {
        let mut plan = self.bridge_plan()?;
        // Its own prefix must not stand in the way of the new one, and a device can't be renamed
        // under its endpoints.
        self.model.networks.remove(&held.id);
        let used = self.is_used(held.id);
        if used {
            plan.bridge.device.clone_from(&held.bridge.device);
            (plan.ipv4, plan.ipv6) = (held.ipv4, held.ipv6);
        }
        let pools = if used { held.pools } else { self.refresh_pools(&plan, &held.pools)? };
        let options = shown(&plan.bridge);
        let network = self.plan_network(plan, DriverKind::Bridge, None)?;
        let (id, index, created_ns) = (held.id, held.index, held.created_ns);
        let name = held.name;
        self.put_network(Network {
            id,
            index,
            created_ns,
            name,
            predefined: true,
            pools,
            options,
            ..network
        });
        Ok(())
    }

    /// Prefixes of the settings; where they leave the choice to us, those it has.
    fn refresh_pools(&self, plan: &Plan, held: &[Pool]) -> Result<Vec<Pool>, Refusal> {
        let mut asked = plan.asked.clone();
        for (on, v6) in [(plan.ipv4, false), (plan.ipv6, true)] {
            let mut of_family = held.iter().filter(|pool| pool.subnet.is_ipv6() == v6);
            let free = !asked.iter().any(|pool| pool.subnet.is_ipv6() == v6);
            let kept = of_family.next().filter(|pool| on && free && !pool.configured);
            asked.extend(kept.map(|pool| AskedPool {
                subnet: pool.subnet,
                range: None,
                gateway: None,
                aux_addresses: BTreeMap::new(),
            }));
        }
        let automatic = asked.len() > plan.asked.len();
        let plan = Plan { asked, bridge: plan.bridge.clone(), ..*plan };
        let mut pools = self.plan_pools(&plan)?;
        if automatic {
            for pool in &mut pools {
                let was = held.iter().find(|held| held.subnet == pool.subnet);
                pool.configured = was.map_or(pool.configured, |was| was.configured);
            }
        }
        Ok(pools)
    }

    fn is_used(&self, network: NetworkId) -> bool {
        self.model.endpoints_of_network(network).next().is_some()
    }

    fn bridge_plan(&self) -> Result<Plan, Refusal> {
        let settings = &self.now.settings;
        let bridge = BridgeOptions {
            device: settings.default_bridge_name.as_str().into(),
            masquerade: settings.ip_masq,
            icc: settings.icc,
            host_binding: settings.ip,
            mtu: settings.mtu,
            ..options::understand(&BTreeMap::new())?
        };
        let mut asked = Vec::new();
        asked.extend(asked_pool(settings, false)?);
        if settings.ipv6 {
            asked.extend(asked_pool(settings, true)?);
        }
        Ok(Plan { ipv4: true, ipv6: settings.ipv6, internal: false, asked, bridge })
    }
}

fn plain_plan() -> Result<Plan, Refusal> {
    let bridge = options::understand(&BTreeMap::new())?;
    Ok(Plan { ipv4: true, ipv6: false, internal: false, asked: Vec::new(), bridge })
}

/// The prefix that the settings name for a family: that of `bip`, else `fixed-cidr` itself.
fn asked_pool(settings: &Settings, v6: bool) -> Result<Option<AskedPool>, Refusal> {
    let (bip, fixed) = if v6 {
        (settings.bip6, settings.fixed_cidr_v6)
    } else {
        (settings.bip, settings.fixed_cidr)
    };
    let Some(subnet) = bip.or(fixed).map(masked) else { return Ok(None) };
    let range = fixed.map(masked).filter(|_| bip.is_some());
    let aux_addresses = gateways(settings, v6);
    let within =
        |range: &IpNetwork| range.prefix() >= subnet.prefix() && subnet.contains(range.network());
    if let Some(range) = range.filter(|range| !within(range)) {
        return Err(Refusal::invalid(format_args!(
            "fixed-cidr {range} is not within bip {subnet}"
        )));
    }
    if aux_addresses.values().any(|gateway| !subnet.contains(*gateway)) {
        return Err(Refusal::invalid("default gateway ip must be part of the network"));
    }
    // A default gateway that is the bridge itself needs no second reservation.
    let gateway = bip.map(|bip| bip.ip());
    let aux_addresses =
        aux_addresses.into_iter().filter(|(_, addr)| Some(*addr) != gateway).collect();
    Ok(Some(AskedPool { subnet, range, gateway, aux_addresses }))
}

fn gateways(settings: &Settings, v6: bool) -> BTreeMap<String, IpAddr> {
    let (name, gateway) = if v6 {
        (DEFAULT_GATEWAY_V6, settings.default_gateway_v6)
    } else {
        (DEFAULT_GATEWAY_V4, settings.default_gateway)
    };
    gateway.into_iter().map(|gateway| (name.to_owned(), gateway)).collect()
}

/// The options as Docker shows them for its own bridge.
fn shown(bridge: &BridgeOptions) -> BTreeMap<String, String> {
    let key = |name: &str| format!("com.docker.network.bridge.{name}");
    let mut shown = BTreeMap::from([
        (key("default_bridge"), "true".to_owned()),
        (key("enable_icc"), bridge.icc.to_string()),
        (key("enable_ip_masquerade"), bridge.masquerade.to_string()),
        (key("name"), bridge.device.to_string()),
    ]);
    shown.extend(bridge.host_binding.map(|ip| (key("host_binding_ipv4"), ip.to_string())));
    let mtu = bridge.mtu.map(|mtu| mtu.to_string());
    shown.extend(mtu.map(|mtu| ("com.docker.network.driver.mtu".to_owned(), mtu)));
    shown
}
