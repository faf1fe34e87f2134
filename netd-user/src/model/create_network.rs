//! Creating a network.
//!
//! Law: words are checked before anything is taken; an automatic name of a device is never one that
//! another network or endpoint has.

use std::collections::BTreeMap;

use netd_common::map::MAX_NETWORKS;

use super::apply::Change;
use super::id::NetworkId;
use super::ipam::lowest_index;
use super::keeper::Keeper;
use super::network::{BridgeOptions, DriverKind, GatewayMode, Network, NetworkSpec, Pool};
use super::options;
use super::refusal::Refusal;
use super::subnet::{AskedPool, family, parse_subnets};
use super::{Model, Outcome};

/// The IPAM driver that gives out addresses.
pub(super) const IPAM_DEFAULT: &str = "default";
/// The IPAM driver that doesn't.
const IPAM_NULL: &str = "null";
const NAME_LEN_MAX: usize = 255;
const LINK_NAME_LEN_MAX: usize = 15;

/// What is settled about a network before it takes anything.
pub(super) struct Plan {
    pub(super) ipv4: bool,
    pub(super) ipv6: bool,
    pub(super) internal: bool,
    pub(super) asked: Vec<AskedPool>,
    pub(super) bridge: BridgeOptions,
}

impl Change<'_> {
    pub(super) fn create_network(&mut self, spec: NetworkSpec) -> Result<Outcome, Refusal> {
        check_name(&spec.name)?;
        let asked = parse_subnets(&spec.subnets)?;
        if self.model.network_named(&spec.name).is_some() {
            let name = &spec.name;
            return Err(Refusal::conflict(format_args!("network with name {name} already exists")));
        }
        check_driver(spec.driver.as_deref())?;
        let options = with_defaults(spec.options, &self.now.settings.default_network_opts);
        let plan = Plan {
            ipv4: spec.ipv4.or(options::enabled(&options, false)?).unwrap_or(true),
            ipv6: spec.ipv6.or(options::enabled(&options, true)?).unwrap_or(false),
            internal: spec.internal,
            asked,
            bridge: options::understand(&options)?,
        };
        let ipam_driver = check_ipam(spec.ipam_driver, &plan.asked)?;
        let network = Network {
            name: spec.name,
            pools: if ipam_driver == IPAM_NULL { Vec::new() } else { self.plan_pools(&plan)? },
            ipam_driver,
            ipam_options: spec.ipam_options,
            options,
            labels: spec.labels,
            ..self.plan_network(plan, DriverKind::Bridge, None)?
        };
        let id = network.id;
        self.put_network(network);
        Ok(Outcome::Network(id))
    }

    /// A network with an index and a device of its own, and no pools yet; with an id that is free
    /// where none is given.
    pub(super) fn plan_network(
        &mut self,
        plan: Plan,
        driver: DriverKind,
        id: Option<NetworkId>,
    ) -> Result<Network, Refusal> {
        if driver == DriverKind::Bridge && !plan.ipv4 && !plan.ipv6 {
            return Err(Refusal::invalid("IPv4 or IPv6 must be enabled"));
        }
        options::check(&plan.bridge, plan.ipv6, plan.internal)?;
        let index = lowest_index(MAX_NETWORKS, self.model.networks.values().map(|n| n.index));
        let index = index.ok_or_else(|| {
            let most = MAX_NETWORKS - 1;
            Refusal::conflict(format_args!(
                "no free network slot: netd holds at most {most} networks (map networks): \
                 remove those that are not used with `netd network prune`"
            ))
        })?;
        let (id, device) = match id {
            Some(id) => (id, self.device_of(id, &plan.bridge.device)?),
            None => self.identify(&plan.bridge.device, driver)?,
        };
        Ok(Network {
            id,
            index,
            name: String::new(),
            created_ns: self.now.now_ns,
            driver,
            keeper: Keeper::Netd,
            predefined: false,
            ipv4: plan.ipv4,
            ipv6: plan.ipv6,
            internal: plan.internal,
            pools: Vec::new(),
            ipam_driver: IPAM_DEFAULT.to_owned(),
            ipam_options: BTreeMap::new(),
            options: BTreeMap::new(),
            bridge: BridgeOptions { device: device.into(), ..plan.bridge },
            labels: BTreeMap::new(),
        })
    }

    /// A free id, and the device asked for or one named after the id.
    fn identify(
        &mut self,
        device: &str,
        driver: DriverKind,
    ) -> Result<(NetworkId, String), Refusal> {
        loop {
            let id = NetworkId(self.rand.id());
            let named = match (driver, device) {
                (DriverKind::Host | DriverKind::Null, _) => String::new(),
                (DriverKind::Bridge, "") => {
                    link_name(&self.now.settings.bridge_prefix, &id.to_string(), 12)
                }
                (DriverKind::Bridge, asked) => {
                    check_device(&self.model, id, asked)?;
                    asked.to_owned()
                }
            };
            // Without a device, or with one that was asked for and checked, there is no other choice.
            let settled = named.is_empty() || !device.is_empty();
            let chosen = settled || !is_link_taken(&self.model, &named);
            if chosen && !self.model.networks.contains_key(&id) {
                return Ok((id, named));
            }
        }
    }

    /// The device asked for, or one named after the id.
    fn device_of(&self, id: NetworkId, asked: &str) -> Result<String, Refusal> {
        let own = link_name(&self.now.settings.bridge_prefix, &id.to_string(), 12);
        let device = if asked.is_empty() { own } else { asked.to_owned() };
        check_device(&self.model, id, &device)?;
        Ok(device)
    }

    /// The pools of all families that are on.
    pub(super) fn plan_pools(&self, plan: &Plan) -> Result<Vec<Pool>, Refusal> {
        let mut pools = Vec::new();
        for (on, v6) in [(plan.ipv4, false), (plan.ipv6, true)] {
            if on {
                let mode = mode_of(&plan.bridge, v6);
                pools.extend(self.model.grant_pools(self.now, &plan.asked, v6, mode)?);
                self.check_pool_room(&pools, v6)?;
            }
        }
        Ok(pools)
    }

    /// The dataplane's prefix tables hold so many prefixes of a family.
    pub(super) fn check_pool_room(&self, pools: &[Pool], v6: bool) -> Result<(), Refusal> {
        let granted = pools.iter().map(|pool| pool.subnet);
        let count = self.model.pools().chain(granted).filter(|pool| pool.is_ipv6() == v6).count();
        if count <= MAX_NETWORKS as usize {
            return Ok(());
        }
        Err(Refusal::conflict(format_args!(
            "no free subnet slot: netd holds at most {MAX_NETWORKS} {} subnets (map subnets_{}): \
             remove networks that are not used with `netd network prune`",
            family(v6),
            if v6 { "v6" } else { "v4" }
        )))
    }
}

fn mode_of(bridge: &BridgeOptions, v6: bool) -> GatewayMode {
    if v6 { bridge.gateway_mode_v6 } else { bridge.gateway_mode_v4 }
}

/// Docker takes any name that isn't blank; control characters would only serve to forge log lines.
fn check_name(name: &str) -> Result<(), Refusal> {
    if name.trim().is_empty() {
        return Err(Refusal::invalid("invalid name: name is empty"));
    }
    if name.len() > NAME_LEN_MAX || name.chars().any(char::is_control) {
        return Err(Refusal::invalid(format_args!(
            "invalid name: {name:?}: at most {NAME_LEN_MAX} bytes without control characters are needed"
        )));
    }
    if ["bridge", "host", "none", "default"].contains(&name) {
        return Err(Refusal::forbidden(format_args!(
            "operation is not permitted on predefined {name} network"
        )));
    }
    Ok(())
}

fn check_driver(driver: Option<&str>) -> Result<(), Refusal> {
    match driver {
        None | Some("" | "bridge") => Ok(()),
        Some(single @ ("host" | "null")) => Err(Refusal::forbidden(format_args!(
            "only one instance of \"{single}\" network is allowed"
        ))),
        Some(other) => Err(Refusal::not_found(format_args!("plugin \"{other}\" not found"))),
    }
}

fn check_ipam(driver: Option<String>, asked: &[AskedPool]) -> Result<String, Refusal> {
    let driver = driver.filter(|name| !name.is_empty()).unwrap_or_else(|| IPAM_DEFAULT.to_owned());
    match driver.as_str() {
        IPAM_DEFAULT => Ok(driver),
        IPAM_NULL if asked.is_empty() => Ok(driver),
        IPAM_NULL => {
            Err(Refusal::invalid("null ipam driver does not handle specific address pool requests"))
        }
        other => Err(Refusal::not_found(format_args!("plugin \"{other}\" not found"))),
    }
}

fn with_defaults(
    mut options: BTreeMap<String, String>,
    defaults: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    for (key, value) in defaults {
        options.entry(key.clone()).or_insert_with(|| value.clone());
    }
    options
}

fn check_device(model: &Model, id: NetworkId, device: &str) -> Result<(), Refusal> {
    if let Some(held) = model.networks.values().find(|network| *network.bridge.device == *device) {
        return Err(Refusal::forbidden(format_args!(
            "cannot create network {id} ({device}): conflicts with network {} ({device}): networks have same bridge name",
            held.id
        )));
    }
    if is_link_taken(model, device) {
        return Err(Refusal::conflict(format_args!(
            "cannot create network {id} ({device}): an endpoint's link has this name"
        )));
    }
    Ok(())
}

/// Whether a link of ours has a name.
pub(super) fn is_link_taken(model: &Model, name: &str) -> bool {
    model.networks.values().any(|network| *network.bridge.device == *name)
        || model.endpoints.values().any(|end| end.link_names().any(|it| it == name))
}

/// A prefix and hex digits, fewer where the kernel's 15 bytes ask for it.
pub(super) fn link_name(prefix: &str, digits: &str, count: usize) -> String {
    let room = LINK_NAME_LEN_MAX.saturating_sub(prefix.len());
    format!("{prefix}{}", &digits[..count.min(room)])
}
