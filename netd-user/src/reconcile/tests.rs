//! The reconciler against a kernel in memory.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netd_common::map::endpoint::{
    AddressKey, AddressValue, EndpointValue, MemberKey, StationKey, StationValue,
};
use netd_common::map::network::{NetworkValue, SubnetKey, SubnetValue, UplinkValue};
use netd_common::map::published::{PublishedKey, PublishedValue};
use netd_common::{Be16, EndpointIndex, Ipv4, MacAddr, NetworkIndex};

use netd_common::Hook;
use netd_common::map::config::Config;

use super::memory::MemoryEffects;
use super::*;
use crate::dataplane::delta::{Table, Visit, in_put_order};
use crate::desired::Link;
use crate::desired::{GatewayLink, Tables, VethLink};
use crate::model::{LinkName, NetnsPath, Proto};

/// A host's networks, each with the numbers of its endpoints; an endpoint publishes its own number.
type World = Vec<(u32, Vec<u32>)>;

#[tokio::test]
async fn an_apply_repeated_writes_nothing() {
    let world = vec![(1, vec![1, 2]), (2, vec![3])];
    let mut reconciler = Reconciler::with_effects(MemoryEffects::with_uplink());
    let first = reconciler.apply(&compiler(&world)).await.unwrap();
    let second = reconciler.apply(&compiler(&world)).await.unwrap();
    assert!(first.changed > 10);
    assert_eq!(second, Applied { changed: 0, repaired: 0, generation: first.generation });
    assert_eq!(reconciler.verify(&compiler(&world)).await.unwrap().changed, 0);
}

#[tokio::test]
async fn what_went_inside_a_sandbox_is_put_back_where_the_kernel_tells_and_nowhere_else_looked_for()
{
    let world = vec![(1, vec![1, 2])];
    let mut reconciler = applied(&world).await;
    let whole = reconciler.effects.state.links.clone();
    let lose = |reconciler: &mut Reconciler<MemoryEffects>, name: &str| {
        let link = reconciler.effects.state.links.get_mut(name).unwrap();
        let Some(Link::Veth(veth)) = link else { panic!("{name} is no veth") };
        veth.mtu = 0;
    };
    for name in ["veth1", "veth2"] {
        lose(&mut reconciler, name);
    }
    reconciler.effects.strayed.insert("veth2".into());
    let applied = reconciler.apply(&compiler(&world)).await.unwrap();
    assert_eq!((applied.repaired, applied.changed > 0), (1, true));
    assert_eq!(reconciler.effects.state.links["veth2"], whole["veth2"]);
    assert_ne!(reconciler.effects.state.links["veth1"], whole["veth1"], "nobody told");
    reconciler.verify(&compiler(&world)).await.unwrap();
    assert_eq!(reconciler.effects.state.links, whole);
}

#[tokio::test]
async fn programs_of_an_earlier_layout_serve_until_every_table_is_written() {
    let world = vec![(1, vec![1, 2])];
    let mut kernel = applied(&world).await.effects;
    let tables = std::mem::take(&mut kernel.state.tables);
    kernel.inherited = std::mem::take(&mut kernel.state.programs);
    kernel.state.heritage = true;
    kernel.log.clear();
    let mut next = Reconciler::with_effects(kernel);
    next.apply(&compiler(&world)).await.unwrap();
    let log = &next.effects.log;
    let inherited = log.iter().position(|step| step == "inherit").unwrap();
    let late: Vec<_> = log[inherited + 1..].iter().filter(|step| *step != "put config 1").collect();
    assert!(late.is_empty(), "{late:?}");
    assert!(!log.iter().any(|step| step.starts_with("attach")), "{log:?}");
    assert_eq!(next.effects.state.tables.published_v4, tables.published_v4);
    assert_eq!(next.apply(&compiler(&world)).await.unwrap().changed, 0);
}

#[tokio::test]
async fn nothing_is_left_of_an_empty_world() {
    let mut reconciler = applied(&vec![(1, vec![1, 2]), (7, vec![5])]).await;
    reconciler.apply(&compiler(&Vec::new())).await.unwrap();
    let mut state = reconciler.effects.state.clone();
    state.tables.config.clear();
    let mut bare = Reconciler::with_effects(MemoryEffects::with_uplink());
    bare.apply(&compiler(&Vec::new())).await.unwrap();
    bare.effects.state.tables.config.clear();
    assert_eq!(state, bare.effects.state);
}

#[tokio::test]
async fn a_failure_at_any_effect_is_undone_by_applying_the_old_world() {
    for (old, new) in transitions() {
        let before = applied(&old).await;
        let mut fails_at = 1;
        while fails_then_undoes(&before, &old, &new, fails_at).await {
            fails_at += 1;
        }
        assert!(fails_at > 3, "{old:?} to {new:?} takes effects that can fail");
    }
}

#[tokio::test]
async fn a_failure_at_any_effect_is_made_good_by_trying_again() {
    for (old, new) in transitions() {
        let expected = content(&applied(&new).await);
        for fails_at in 1..60 {
            let mut reconciler = applied(&old).await;
            reconciler.effects.done = 0;
            reconciler.effects.fails_at = Some(fails_at);
            let _ = reconciler.apply(&compiler(&new)).await;
            reconciler.effects.fails_at = None;
            reconciler.apply(&compiler(&new)).await.unwrap();
            assert_eq!(content(&reconciler), expected, "{old:?} to {new:?}, failed at {fails_at}");
        }
    }
}

#[tokio::test]
async fn an_endpoint_is_made_in_the_stated_order() {
    let mut reconciler = applied(&vec![(1, vec![])]).await;
    reconciler.effects.log.clear();
    reconciler.apply(&compiler(&vec![(1, vec![4])])).await.unwrap();
    let expected = "hold 4004, create namespace /run/netns/4, create link veth4, put networks 1, \
                    put endpoints 1, put addresses_v4 1, put stations 1, put members 1, \
                    attach from_container to veth4, attach to_container to veth4, raise link veth4, \
                    put published_v4 1, put config 1";
    assert_eq!(reconciler.effects.log.join(", "), expected);
}

#[tokio::test]
async fn an_endpoint_is_removed_in_the_reverse_order() {
    let mut reconciler = applied(&vec![(1, vec![4])]).await;
    reconciler.effects.log.clear();
    reconciler.apply(&compiler(&vec![(1, vec![])])).await.unwrap();
    let expected = "put networks 1, delete published_v4 1, delete members 1, delete stations 1, \
                    delete addresses_v4 1, delete endpoints 1, put config 1, \
                    end sockets to {10.0.1.4}, \
                    detach from_container from veth4, detach to_container from veth4, \
                    delete link veth4, delete namespace /run/netns/4, release 4004";
    assert_eq!(reconciler.effects.log.join(", "), expected);
}

#[tokio::test]
async fn a_link_that_somebody_deleted_comes_back_under_its_new_index() {
    let world = vec![(1, vec![1, 2])];
    let mut reconciler = applied(&world).await;
    let effects = &mut reconciler.effects;
    let old = effects.indexes.remove("veth1").unwrap();
    effects.state.links.remove("veth1");
    effects.state.up.remove("veth1");
    effects.state.programs.retain(|(link, _)| link != "veth1");
    // The kernel's own removal leaves entries behind; they are replaced before anything refers anew.
    effects.state.tables = Tables::default();
    reconciler.verify(&compiler(&world)).await.unwrap();
    let new = reconciler.effects.indexes["veth1"];
    assert_ne!(new, old);
    assert_eq!(content(&reconciler), content(&applied(&world).await));
}

#[tokio::test]
async fn a_broken_link_is_retired_before_it_is_made_again() {
    let world = vec![(1, vec![1, 2])];
    let mut reconciler = applied(&world).await;
    reconciler.effects.state.links.insert("veth1".into(), None);
    reconciler.verify(&compiler(&world)).await.unwrap();
    assert_eq!(content(&reconciler), content(&applied(&world).await));
}

#[tokio::test]
async fn every_change_of_the_tables_is_a_new_generation() {
    let mut reconciler = applied(&vec![(1, vec![])]).await;
    let before = reconciler.generation();
    let after = reconciler.apply(&compiler(&vec![(1, vec![9])])).await.unwrap();
    assert_eq!(after.generation, before + 1);
}

fn transitions() -> Vec<(World, World)> {
    let small = vec![(1, vec![1])];
    let large = vec![(1, vec![1, 2, 3]), (2, vec![4])];
    let moved = vec![(1, vec![3]), (2, vec![4, 1])];
    let mut pairs = vec![(Vec::new(), small.clone()), (small.clone(), large.clone())];
    pairs.extend([(large.clone(), moved.clone()), (moved, large.clone()), (large, small)]);
    pairs
}

async fn applied(world: &World) -> Reconciler<MemoryEffects> {
    let mut reconciler = Reconciler::with_effects(MemoryEffects::with_uplink());
    reconciler.apply(&compiler(world)).await.unwrap();
    reconciler
}

/// Whether the n-th effect exists, so that there is a next one to try.
async fn fails_then_undoes(
    before: &Reconciler<MemoryEffects>,
    old: &World,
    new: &World,
    fails_at: usize,
) -> bool {
    let mut reconciler = Reconciler::with_effects(before.effects.clone());
    // The first apply after a start writes a new generation; that is not what is tested.
    reconciler.apply(&compiler(old)).await.unwrap();
    reconciler.effects.done = 0;
    reconciler.effects.fails_at = Some(fails_at);
    let failed = reconciler.apply(&compiler(new)).await.is_err();
    reconciler.effects.fails_at = None;
    reconciler.apply(&compiler(old)).await.unwrap();
    assert_eq!(content(&reconciler), content(before), "{old:?} to {new:?}, failed at {fails_at}");
    failed
}

/// What is in the kernel, with names in the place of interface indexes and without the generation.
fn content(reconciler: &Reconciler<MemoryEffects>) -> (Observed, Vec<String>) {
    let mut state = reconciler.effects.state.clone();
    state.tables.config.values_mut().for_each(|config| config.generation = 0);
    let mut lines = Lines { tables: &state.tables, lines: Vec::new() };
    let Ok(()) = in_put_order(&mut lines);
    let mut lines = lines.lines;
    for (name, index) in &reconciler.effects.indexes {
        let index = format!("IfIndex({})", index.0);
        for line in &mut lines {
            *line = line.replace(&index, name);
        }
    }
    lines.sort_unstable();
    (Observed { tables: Tables::default(), ..state }, lines)
}

struct Lines<'a> {
    tables: &'a Tables,
    lines: Vec<String>,
}

impl Visit for Lines<'_> {
    type Error = std::convert::Infallible;

    fn visit<T: Table>(&mut self) -> Result<(), Self::Error> {
        let entries = T::of(self.tables).iter();
        self.lines
            .extend(entries.map(|(key, value)| format!("{} {key:?} {value:?}", T::SPEC.name)));
        Ok(())
    }
}

/// A small compiler: what the real one does, cut down to one family. Its outline knows no index, so
/// that links make no difference to it.
struct SmallCompiler {
    world: World,
}

fn compiler(world: &World) -> SmallCompiler {
    SmallCompiler { world: world.clone() }
}

impl SmallCompiler {
    fn compile(&self, facts: &HostFacts) -> Desired {
        let mut desired = Desired::default();
        let uplink = UplinkValue { mtu: 1500, ..UplinkValue::default() };
        desired.tables.config.insert(0, Config { snat_first: 49_152, ..Config::default() });
        desired.tables.uplinks.insert(facts.links["eth0"].ifindex, uplink);
        desired.programs.insert(("eth0".into(), Hook::FromNetdev));
        for (network, endpoints) in &self.world {
            add_network(&mut desired, facts, *network, endpoints);
        }
        desired
    }
}

impl Compile for SmallCompiler {
    fn outline(&self, facts: &HostFacts) -> Desired {
        Desired { tables: Tables::default(), ..self.compile(facts) }
    }

    fn tables(&self, facts: &HostFacts) -> Tables {
        self.compile(facts).tables
    }

    fn is_same_outline(&self, _one: &HostFacts, _other: &HostFacts) -> bool {
        true
    }
}

fn add_network(desired: &mut Desired, facts: &HostFacts, network: u32, endpoints: &[u32]) {
    let name = LinkName::from(format!("br{network}"));
    let gateway = GatewayLink {
        mac: mac(network),
        mtu: 1500,
        addresses: BTreeSet::new(),
        ipv4: true,
        ipv6: false,
    };
    desired.links.insert(name.clone(), Link::Gateway(gateway));
    desired.programs.insert((name.clone(), Hook::FromHost));
    for endpoint in endpoints {
        add_endpoint(desired, facts, network, *endpoint);
    }
    let Some(link) = facts.links.get(&name) else { return };
    let tables = &mut desired.tables;
    let members = tables.members.keys().filter(|key| key.network.0 == network).count();
    let member_count = u32::try_from(members).unwrap();
    let value = NetworkValue { gateway: link.ifindex, member_count, ..NetworkValue::default() };
    tables.networks.insert(network, value);
    tables.gateways.insert(link.ifindex, network);
    let subnet = SubnetKey { prefix_len: 24, addr: Ipv4::new([10, 0, octet(network), 0]) };
    tables.subnets_v4.insert(subnet, SubnetValue { network: NetworkIndex(network) });
}

fn add_endpoint(desired: &mut Desired, facts: &HostFacts, network: u32, endpoint: u32) {
    let name = LinkName::from(format!("veth{endpoint}"));
    let netns = NetnsPath::from(PathBuf::from(format!("/run/netns/{endpoint}")));
    let link = VethLink {
        netns: netns.clone(),
        interface: "eth0".into(),
        mac: mac(endpoint),
        mtu: 1500 - network,
        addresses: BTreeSet::new(),
        routes: BTreeSet::new(),
        ipv6: false,
    };
    desired.namespaces.insert(netns);
    desired.links.insert(name.clone(), Link::Veth(link));
    desired.programs.insert((name.clone(), Hook::FromContainer));
    desired.programs.insert((name.clone(), Hook::ToContainer));
    let port = 4000 + u16::try_from(endpoint).unwrap();
    desired.held_ports.insert(HeldPort { addr: IpAddr::from([0; 4]), port, proto: Proto::Tcp });
    let Some(link) = facts.links.get(&name) else { return };
    let tables = &mut desired.tables;
    let (network, index) = (NetworkIndex(network), EndpointIndex(endpoint));
    let slot = tables.members.keys().filter(|key| key.network == network).count();
    let slot = u32::try_from(slot).unwrap();
    tables.members.insert(MemberKey { network, slot }, link.ifindex);
    let value = EndpointValue { index, network, ..EndpointValue::default() };
    tables.endpoints.insert(link.ifindex, value);
    let station = StationKey { network, mac: mac(endpoint), pad: 0 };
    tables.stations.insert(station, StationValue { endpoint: index, ifindex: link.ifindex });
    let addr = Ipv4::new([10, 0, octet(network.0), octet(endpoint)]);
    let holder = AddressValue { endpoint: index, ifindex: link.ifindex, ..AddressValue::default() };
    tables.addresses_v4.insert(AddressKey { network, addr }, holder);
    let key = PublishedKey { port: Be16::new(port), proto: 6, ..PublishedKey::default() };
    let value =
        PublishedValue { target: addr, network, endpoint: index, ..PublishedValue::default() };
    tables.published_v4.insert(key, value);
}

fn octet(number: u32) -> u8 {
    u8::try_from(number).unwrap()
}

fn mac(number: u32) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, octet(number)])
}
