//! Garbage collection of real maps; the clock is an argument. Needs root.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use netd_common::map::FRAGMENTS_HELD;
use netd_common::map::counter::{DropKey, TrafficCounter};
use netd_common::map::flow::{FLOW_ASSURED, FLOW_REPLY};
use netd_common::map::fragment::{FragmentKey, HELD_LEN, HELD_S, HeldKey, HeldValue};
use netd_common::wire::{TCP, UDP};
use netd_common::{Be16, DropReason, EndpointIndex, Hook, NetworkIndex};

use super::*;
use crate::dataplane::object::DATAPLANE_OBJECT;
use crate::dataplane::{Dataplane, remains};

const NOW: u32 = 100_000;
const CAPACITY: u32 = 40_000;
const CONFIG_VALUE: Config = Config {
    tcp_syn_s: 30,
    tcp_established_s: 86_400,
    udp_s: 30,
    udp_assured_s: 180,
    ..Config::ZERO
};

/// The dataplane on a bpf file system of the test's own.
struct Place {
    dataplane: Option<Dataplane>,
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tables = [&FLOWS_NEW_V4, &FLOWS_NEW_V6, &FLOWS_V4, &FLOWS_V6];
        let capacities: BTreeMap<String, u32> =
            tables.into_iter().map(|map| (map.name.to_owned(), CAPACITY)).collect();
        let opened = Dataplane::open(&dir.path().join("bpf"), DATAPLANE_OBJECT, &capacities);
        let dataplane = opened.expect("this test needs root");
        dataplane.put(&CONFIG, &0u32.to_ne_bytes(), bytemuck::bytes_of(&CONFIG_VALUE)).unwrap();
        Self { dataplane: Some(dataplane), dir }
    }

    fn dataplane(&self) -> &Dataplane {
        self.dataplane.as_ref().unwrap()
    }

    fn put<A: Address>(&self, map: &MapSpec, entries: &[Entry<A>])
    where
        FlowKey<A>: Pod,
        FlowValue<A>: Pod,
    {
        let (keys, values): (Vec<_>, Vec<_>) = entries.iter().copied().unzip();
        let (keys, values) = (bytemuck::cast_slice(&keys), bytemuck::cast_slice(&values));
        self.dataplane().put(map, keys, values).unwrap();
    }

    fn holds<A: Address>(&self, map: &MapSpec, key: &FlowKey<A>) -> bool
    where
        FlowKey<A>: Pod,
        FlowValue<A>: Pod,
    {
        read::<A>(self.dataplane().maps.get(map), key).unwrap().is_some()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.dataplane.take());
        for pinned in remains::pinned(&self.dir.path().join("bpf")).unwrap_or_default() {
            let _gone = remains::remove(&pinned);
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        for point in points.filter(|point| Path::new(point).starts_with(self.dir.path())) {
            let _gone = nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

/// An address of either family from four bytes.
trait Sample {
    fn of(bytes: [u8; 4]) -> Self;
}

impl Sample for Ipv4 {
    fn of(bytes: [u8; 4]) -> Self {
        Self::new(bytes)
    }
}

impl Sample for Ipv6 {
    fn of(bytes: [u8; 4]) -> Self {
        Self([u32::from_ne_bytes(bytes); 4])
    }
}

/// Both entries of a flow of this number, seen at these times.
fn pair<A: Address + Sample>(number: u32, proto: u8, seen: [u32; 2]) -> [Entry<A>; 2] {
    let [a, b, high, low] = number.to_be_bytes();
    let port = |low, high| Be16::new(u16::from_be_bytes([low, high]));
    let value = FlowValue {
        src: A::of([10, 0, a, b]),
        dst: A::of([10, 1, a, b]),
        sport: port(high, low),
        dport: Be16::new(80),
        last_seen_s: seen[0],
        flags: FLOW_ASSURED,
        ..FlowValue::default()
    };
    let back = FlowValue {
        src: value.dst,
        dst: value.src,
        sport: value.dport,
        dport: value.sport,
        last_seen_s: seen[1],
        flags: FLOW_ASSURED | FLOW_REPLY,
        ..FlowValue::default()
    };
    [(twin(proto, &back), value), (twin(proto, &value), back)]
}

/// Sweeps until every table has been walked once.
fn sweep_all(place: &Place, now_s: u32) -> Swept {
    let mut sweeper = place.dataplane().sweeper();
    let mut all = Swept::default();
    for _ in 0..=CAPACITY as usize / SHARD_LEN + 1 {
        let swept = sweeper.sweep_at(now_s).unwrap();
        all.scanned += swept.scanned;
        all.removed += swept.removed;
        all.expired.extend(swept.expired);
    }
    all
}

fn on_a_full_table<A: Address + Sample>(map: &MapSpec)
where
    FlowKey<A>: Pod,
    FlowValue<A>: Pod,
{
    let place = Place::new();
    let (past, fresh) = (NOW - 181, NOW - 180);
    let seen = |number: u32| match number % 4 {
        0 => [past, past],
        1 => [past, fresh],
        2 => [fresh, past],
        _ => [fresh, fresh],
    };
    let all: Vec<[Entry<A>; 2]> =
        (0..CAPACITY / 2).map(|number| pair(number, UDP, seen(number))).collect();
    place.put(map, all.as_flattened());
    let swept = sweep_all(&place, NOW);
    assert_eq!(swept.removed, u64::from(CAPACITY / 4), "both entries of each fourth pair");
    for (number, pair) in (0..).zip(&all) {
        let kept = pair.map(|(key, _)| place.holds(map, &key));
        assert_eq!(kept, [number % 4 != 0; 2], "pair {number}: {:?}", seen(number));
    }
}

#[test]
fn on_a_full_table_a_pair_goes_only_if_both_of_its_entries_are_past() {
    on_a_full_table::<Ipv4>(&FLOWS_V4);
    on_a_full_table::<Ipv6>(&FLOWS_V6);
}

#[test]
fn pair_of_which_either_entry_moved_since_it_was_read_stays() {
    let place = Place::new();
    let map = place.dataplane().maps.get(&FLOWS_V4);
    let clock = Clock { config: CONFIG_VALUE, now_s: NOW };
    let old: [Entry<Ipv4>; 2] = pair(1, UDP, [0, 0]);
    for moved in 0..2 {
        let mut now = old;
        now[moved].1.last_seen_s = NOW;
        place.put(&FLOWS_V4, &now);
        for stale in &old {
            assert_eq!(remove_pair(map, stale, &clock).unwrap(), 0);
        }
        assert!(old.iter().all(|(key, _)| place.holds(&FLOWS_V4, key)));
    }
    place.put(&FLOWS_V4, &old);
    assert_eq!(remove_pair(map, &old[0], &clock).unwrap(), 2);
}

#[test]
fn idle_tcp_of_four_hours_outlives_every_sweep_and_goes_after_its_timeout() {
    let timeout = crate::compile::FlowTimeouts::default().tcp_established_s;
    assert_eq!(CONFIG_VALUE.tcp_established_s, timeout, "what is shown here is the default's");
    let place = Place::new();
    let v4: [Entry<Ipv4>; 2] = pair(1, TCP, [NOW, NOW - 1]);
    let v6: [Entry<Ipv6>; 2] = pair(1, TCP, [NOW - 1, NOW]);
    place.put(&FLOWS_V4, &v4);
    place.put(&FLOWS_V6, &v6);
    for now_s in (NOW..=NOW + 4 * 3_600).step_by(60).chain([NOW + timeout]) {
        assert_eq!(sweep_all(&place, now_s).removed, 0, "after {} seconds", now_s - NOW);
    }
    assert_eq!(sweep_all(&place, NOW + timeout + 1).removed, 4);
}

#[test]
fn swept_embryonic_entries_are_no_evicted_ones() {
    let place = Place::new();
    let pairs: [Entry<Ipv4>; 2] = pair(1, UDP, [0, 0]);
    place.put(&FLOWS_NEW_V4, &pairs);
    let slot = (FlowStat::Created as u32).to_ne_bytes();
    let stats = place.dataplane().maps.get(&FLOW_STATS);
    let mut cpus = stats.lookup(&slot).unwrap().unwrap();
    cpus[..8].copy_from_slice(&3u64.to_ne_bytes());
    stats.put(&slot, &cpus).unwrap();
    let evicted = || place.dataplane().stats().flow_stats().unwrap()["evicted"];
    assert_eq!(evicted(), 4, "of six entries, two are there");
    assert_eq!(sweep_all(&place, NOW).removed, 2);
    assert_eq!(evicted(), 4);
}

const HELD: DropKey = DropKey {
    endpoint: EndpointIndex(3),
    network: NetworkIndex(1),
    reason: DropReason::FragmentExpired as u16,
    hook: Hook::FromContainer as u16,
};

/// Fragments of one datagram that wait since then, as drops or as copies.
fn hold(place: &Place, fragments: &[(DropKey, u32)]) {
    let v4 = |octets| [Ipv4::new(octets).0, 0, 0, 0];
    let datagram = FragmentKey {
        src: v4([10, 1, 0, 2]),
        dst: v4([192, 0, 2, 1]),
        proto: UDP,
        version: 4,
        ..FragmentKey::default()
    };
    for (slot, (drop, held_s)) in (0..).zip(fragments) {
        let key = HeldKey { datagram, slot };
        let value = HeldValue { held_s: *held_s, len: 100, drop: *drop, bytes: [0; HELD_LEN] };
        let (key, value) = (bytemuck::bytes_of(&key), bytemuck::bytes_of(&value));
        place.dataplane().put(&FRAGMENTS_HELD, key, value).unwrap();
    }
}

#[test]
fn held_fragments_expire_after_their_time_and_only_those_taken_from_their_way_are_drops() {
    let place = Place::new();
    let copy = DropKey { reason: 0, ..HELD };
    hold(&place, &[(HELD, NOW), (copy, NOW), (HELD, NOW), (HELD, NOW + 1)]);
    assert_eq!(sweep_all(&place, NOW + HELD_S).expired, []);
    let told = sweep_all(&place, NOW + HELD_S + 1).expired;
    assert_eq!(told.len(), 2);
    assert_eq!(sweep_all(&place, NOW + HELD_S + 2).expired.len(), 1);
    let expected = Event {
        timestamp_ns: u64::from(NOW + HELD_S + 1) * 1_000_000_000,
        src: Ipv4Addr::new(10, 1, 0, 2).to_ipv6_mapped().into(),
        dst: Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().into(),
        endpoint: HELD.endpoint,
        network: HELD.network,
        len: 100,
        reason: DropReason::FragmentExpired as u8,
        hook: Hook::FromContainer as u8,
        family: 4,
        proto: UDP,
        ..Event::default()
    };
    assert_eq!(told[0], expected);
    let stats = place.dataplane().stats();
    let counted = TrafficCounter { packets: 3, bytes: 300 };
    assert_eq!(stats.drops().unwrap(), BTreeMap::from([(HELD, counted)]));
    assert_eq!(stats.flow_stats().unwrap()["fragments_expired"], 3);
}

#[test]
fn held_fragments_that_others_pushed_out_are_drops_of_nobody_in_particular() {
    let place = Place::new();
    let copy = DropKey { reason: 0, ..HELD };
    hold(&place, &[(HELD, NOW), (HELD, NOW), (copy, NOW)]);
    for (stat, count) in [(FlowStat::FragmentsHeld, 9), (FlowStat::FragmentsReleased, 3)] {
        held::add(place.dataplane().maps.get(&FLOW_STATS), stat, count).unwrap();
    }
    // Of nine, two wait and three went on.
    sweep_all(&place, NOW);
    sweep_all(&place, NOW);
    let stats = place.dataplane().stats();
    let nobody = DropKey {
        endpoint: EndpointIndex::NONE,
        network: NetworkIndex::HOST,
        reason: DropReason::FragmentExpired as u16,
        hook: Hook::FromNetdev as u16,
    };
    let counted = TrafficCounter { packets: 4, bytes: 0 };
    assert_eq!(stats.drops().unwrap(), BTreeMap::from([(nobody, counted)]));
    assert_eq!(stats.flow_stats().unwrap()["fragments_evicted"], 4);
}
