//! Publishing: what the ports that a sandbox asks for come to on its gateway endpoints.
//!
//! Laws: two publications never share an address, port and protocol, and a wildcard shares with
//! every address of its family; ranges are compared as ranges. Rows of a family exist exactly while
//! the sandbox has a gateway endpoint of that family: internal networks open nothing. What is granted
//! stays as it is through later connects: port numbers and counter slots are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use netd_common::map::{MAX_PUBLICATIONS, MAX_PUBLISHED};

use super::apply::Change;
use super::id::SandboxId;
use super::keeper::Keeper;
use super::ledger::{Ledger, unspecified};
use super::network::GatewayMode;
use super::port::{PortSpec, Proto, Publication};
use super::refusal::Refusal;
use super::sandbox::Sandbox;
use super::subnet::family;
use super::{Circumstances, Model};

/// A family's way in.
struct Door {
    v6: bool,
    routed: bool,
    binding: Option<IpAddr>,
}

/// One sandbox's ports being granted.
struct Grant<'a> {
    now: &'a Circumstances,
    doors: Vec<Door>,
    ledger: Ledger,
    before: &'a [Publication],
    next_port: &'a mut BTreeMap<Proto, u16>,
    /// Rows without slots.
    granted: Vec<Publication>,
    warnings: Vec<String>,
}

impl Change<'_> {
    /// Grants a sandbox's ports on the gateway endpoints it has now. Returns what the user should
    /// know.
    pub(super) fn publish(&mut self, id: SandboxId) -> Result<Vec<String>, Refusal> {
        let Some(sandbox) = self.model.sandboxes.get(&id).map(Arc::clone) else {
            unreachable!("the caller has just found it")
        };
        if sandbox.ports.is_empty() && sandbox.publications.is_empty() {
            return Ok(Vec::new());
        }
        let doors = self.doors(id);
        let mut next_port = std::mem::take(&mut self.model.next_port);
        let mut grant = Grant {
            now: self.now,
            doors,
            ledger: Ledger::of_others(&self.model, id),
            before: &sandbox.publications,
            next_port: &mut next_port,
            granted: Vec::new(),
            warnings: Vec::new(),
        };
        let told = |refusal: Refusal| match sandbox.keeper {
            Keeper::Netd => refusal.within(self.blame(&sandbox)),
            // The engine says this itself.
            Keeper::Engine => refusal,
        };
        sandbox.ports.iter().try_for_each(|spec| grant.spec(spec, &self.model)).map_err(told)?;
        let Grant { granted, warnings, .. } = grant;
        let publications = self.number(granted, &sandbox)?;
        self.model.next_port = next_port;
        self.put_sandbox(Sandbox { publications, ..Sandbox::clone(&sandbox) });
        Ok(warnings)
    }

    fn doors(&self, id: SandboxId) -> Vec<Door> {
        let door = |v6| {
            let endpoint = self.model.gateway_endpoint(id, v6)?;
            let network = self.model.networks.get(&endpoint.network)?;
            let routed = network.gateway_mode(v6) == GatewayMode::Routed;
            let binding = network.bridge.host_binding.or(self.now.settings.ip);
            Some(Door { v6, routed, binding })
        };
        [false, true].into_iter().filter_map(door).collect()
    }

    /// How Docker begins a refusal of a port.
    fn blame(&self, sandbox: &Sandbox) -> String {
        let mut gateway = [false, true].into_iter();
        let endpoint = gateway.find_map(|v6| self.model.gateway_endpoint(sandbox.id, v6));
        let id = endpoint.map(|endpoint| endpoint.id.to_string()).unwrap_or_default();
        format!(
            "driver failed programming external connectivity on endpoint {} ({id})",
            sandbox.name
        )
    }

    /// Gives each row a counter slot: the one it had, else the lowest free one.
    fn number(
        &self,
        mut granted: Vec<Publication>,
        sandbox: &Sandbox,
    ) -> Result<Vec<Publication>, Refusal> {
        let others = || {
            let sandboxes = self.model.sandboxes.values().filter(|held| held.id != sandbox.id);
            sandboxes.flat_map(|held| &held.publications)
        };
        let mut kept: BTreeMap<Publication, u32> = sandbox
            .publications
            .iter()
            .map(|row| (Publication { slot: 0, ..row.clone() }, row.slot))
            .collect();
        for row in &mut granted {
            row.slot = kept.remove(row).unwrap_or(0);
        }
        let taken: BTreeSet<u32> =
            others().map(|row| row.slot).chain(granted.iter().map(|row| row.slot)).collect();
        let mut free = (1..MAX_PUBLICATIONS).filter(|slot| !taken.contains(slot));
        for row in granted.iter_mut().filter(|row| row.slot == 0) {
            row.slot = free.next().ok_or_else(|| {
                let most = MAX_PUBLICATIONS - 1;
                Refusal::conflict(format_args!(
                    "too many published ports: netd holds at most {most} publications (map \
                     published_hits): publish ranges in the place of single ports"
                ))
            })?;
        }
        for v6 in [false, true] {
            check_room(others().chain(&granted), v6)?;
        }
        Ok(granted)
    }
}

impl Grant<'_> {
    fn spec(&mut self, spec: &PortSpec, model: &Model) -> Result<(), Refusal> {
        let routed: Vec<_> = self
            .doors
            .iter()
            .filter(|door| door.routed)
            .filter_map(|door| door.opens(spec))
            .collect();
        for host_ip in routed {
            self.put(&[unspecified(host_ip.is_ipv6())], &row(0, spec.container, spec.proto));
        }
        let addrs: Vec<_> = self
            .doors
            .iter()
            .filter(|door| !door.routed)
            .filter_map(|door| door.opens(spec))
            .collect();
        self.warn(spec);
        if addrs.is_empty() {
            return Ok(());
        }
        let (first, last) = spec.container;
        match spec.host {
            Some(host) if host.1 - host.0 == last - first => {
                self.check_addresses(&addrs, host.0, spec.proto, model)?;
                self.fixed(&addrs, host, spec)
            }
            Some(host) => {
                self.check_addresses(&addrs, host.0, spec.proto, model)?;
                let port = self.pick_within(&addrs, host, spec)?;
                self.put(&addrs, &row(port, spec.container, spec.proto));
                Ok(())
            }
            None => {
                self.check_addresses(&addrs, 0, spec.proto, model)?;
                (first..=last).try_for_each(|container| {
                    let port = self.pick_random(&addrs, container, spec.proto)?;
                    self.put(&addrs, &row(port, (container, container), spec.proto));
                    Ok(())
                })
            }
        }
    }

    /// An address named by the user whose family no network of the sandbox provides.
    fn warn(&mut self, spec: &PortSpec) {
        let Some(ip) = spec.host_ip.filter(|_| !self.doors.is_empty()) else { return };
        if !self.doors.iter().any(|door| door.v6 == ip.is_ipv6()) {
            let family = family(ip.is_ipv6());
            self.warnings.push(format!(
                "Published port {spec} is not open: no network of the container provides {family}"
            ));
        }
    }

    fn fixed(
        &mut self,
        addrs: &[IpAddr],
        host: (u16, u16),
        spec: &PortSpec,
    ) -> Result<(), Refusal> {
        for addr in addrs {
            if let Some((held, port)) = self.ledger.conflict(*addr, host, spec.proto) {
                let named = if held.is_unspecified() { held } else { *addr };
                return Err(Refusal::conflict(format_args!(
                    "Bind for {named}:{port} failed: port is already allocated"
                )));
            }
        }
        self.put(addrs, &row(host.0, spec.container, spec.proto));
        Ok(())
    }

    /// The port it had, else the first of the range that is free and not known to be busy, else the
    /// first free one: a reserved port may be asked for by name.
    fn pick_within(
        &self,
        addrs: &[IpAddr],
        host: (u16, u16),
        spec: &PortSpec,
    ) -> Result<u16, Refusal> {
        let within = |port: &u16| (host.0..=host.1).contains(port);
        let free = |port: &u16| self.is_free(addrs, *port, spec.proto);
        let quiet = |port: &u16| !self.now.passes_over(spec.proto, *port) && free(port);
        self.had(addrs, spec.container.0, spec.proto)
            .filter(within)
            .or_else(|| (host.0..=host.1).find(quiet))
            .or_else(|| (host.0..=host.1).find(free))
            .ok_or_else(all_allocated)
    }

    /// The port it had, else the next one round robin.
    fn pick_random(
        &mut self,
        addrs: &[IpAddr],
        container: u16,
        proto: Proto,
    ) -> Result<u16, Refusal> {
        if let Some(port) = self.had(addrs, container, proto) {
            return Ok(port);
        }
        let (first, last) = self.now.port_range;
        let range = first.max(1)..=last;
        let start = self.next_port.get(&proto).copied().filter(|port| range.contains(port));
        let start = start.unwrap_or(*range.start());
        let mut turn = (start..=last).chain(*range.start()..start);
        let port = turn
            .find(|port| !self.now.passes_over(proto, *port) && self.is_free(addrs, *port, proto));
        let port = port.ok_or_else(all_allocated)?;
        self.next_port.insert(proto, if port >= last { *range.start() } else { port + 1 });
        Ok(port)
    }

    /// A free host port that a container port had before this change.
    fn had(&self, addrs: &[IpAddr], container: u16, proto: Proto) -> Option<u16> {
        let rows = self.before.iter().filter(|row| row.proto == proto && row.takes_host_port());
        let ports = rows.filter_map(|row| {
            let offset = container.checked_sub(row.container_port)?;
            (offset < row.count).then(|| row.host_port.saturating_add(offset))
        });
        ports.into_iter().find(|port| self.is_free(addrs, *port, proto))
    }

    fn is_free(&self, addrs: &[IpAddr], port: u16, proto: Proto) -> bool {
        addrs.iter().all(|addr| self.ledger.conflict(*addr, (port, port), proto).is_none())
    }

    /// A named address must be the host's; one that was granted before may have gone for a while.
    fn check_addresses(
        &self,
        addrs: &[IpAddr],
        port: u16,
        proto: Proto,
        model: &Model,
    ) -> Result<(), Refusal> {
        let ours = |addr: &IpAddr| {
            addr.is_unspecified()
                || addr.is_loopback()
                || self.now.host_addresses.contains(addr)
                || self.before.iter().any(|row| row.host_ip == *addr)
                || model
                    .networks
                    .values()
                    .any(|network| network.pools.iter().any(|pool| pool.gateway == Some(*addr)))
        };
        match addrs.iter().find(|addr| !ours(addr)) {
            None => Ok(()),
            Some(addr) => Err(Refusal::invalid(format_args!(
                "failed to bind host port {}/{proto}: cannot assign requested address",
                std::net::SocketAddr::new(*addr, port)
            ))),
        }
    }

    /// Notes a row on each address; one that continues the last is joined to it.
    fn put(&mut self, addrs: &[IpAddr], row: &Publication) {
        for addr in addrs {
            let row = Publication { host_ip: *addr, ..row.clone() };
            if row.takes_host_port() {
                self.ledger.put(*addr, (row.host_port, row.host_port_last()), row.proto);
            }
            let mut rows = self.granted.iter_mut().rev().take(addrs.len());
            match rows.find(|last| row.count == 1 && row.continues(last)) {
                Some(last) => last.count += 1,
                None => self.granted.push(row),
            }
        }
    }
}

/// A row of one container port, or of all that a spec names; its address and slot come later.
fn row(host_port: u16, container: (u16, u16), proto: Proto) -> Publication {
    let count = (container.1 - container.0).saturating_add(1);
    let host_ip = unspecified(false);
    Publication { slot: 0, host_ip, host_port, container_port: container.0, count, proto }
}

/// The dataplane's tables hold so many ports of a family.
fn check_room<'a>(rows: impl Iterator<Item = &'a Publication>, v6: bool) -> Result<(), Refusal> {
    let of_family = rows.filter(|row| row.host_ip.is_ipv6() == v6);
    if of_family.map(|row| u64::from(row.count)).sum::<u64>() <= u64::from(MAX_PUBLISHED) {
        return Ok(());
    }
    Err(Refusal::conflict(format_args!(
        "too many published ports: netd holds at most {MAX_PUBLISHED} {} ports (map published_{}): \
         publish fewer",
        family(v6),
        if v6 { "v6" } else { "v4" }
    )))
}

impl Publication {
    fn continues(&self, last: &Self) -> bool {
        self.host_ip == last.host_ip
            && self.proto == last.proto
            && last.takes_host_port()
            && last.host_port.checked_add(last.count) == Some(self.host_port)
            && last.container_port.checked_add(last.count) == Some(self.container_port)
    }
}

impl Door {
    /// The host address that a spec opens through it.
    fn opens(&self, spec: &PortSpec) -> Option<IpAddr> {
        match spec.host_ip.or(self.binding) {
            None => Some(unspecified(self.v6)),
            Some(ip) => Some(ip).filter(|ip| ip.is_ipv6() == self.v6),
        }
    }
}

fn all_allocated() -> Refusal {
    Refusal::conflict("all ports are allocated")
}
