//! What random stories come by: every cell of the truth table and every reason, often enough that
//! an agreement of the packet path and its model means something.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::vec::Vec;

use netd_common::DropReason::{self, *};
use netd_common::Hook::{self, *};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::endurance::story;
use crate::testing::reach::Column::{self, *};
use crate::testing::reach::End::{self, *};
use crate::testing::reach::Row::{self, *};
use crate::testing::reach::Subject::{self, *};
use crate::testing::reach::{Met, Speaker};

/// Stories that the claims are about.
const STORIES: u32 = 3_000;
/// What was met less often was met by luck.
const OFTEN: u32 = 3;

/// How often random stories come by each cell; always the same ones.
fn reached() -> &'static BTreeMap<Met, u32> {
    static REACHED: OnceLock<BTreeMap<Met, u32>> = OnceLock::new();
    REACHED.get_or_init(|| {
        let mut runner = TestRunner::deterministic();
        let bytes = proptest::collection::vec(any::<u8>(), 2_048);
        let mut counts = BTreeMap::new();
        for _ in 0..STORIES {
            let bytes = bytes.new_tree(&mut runner).expect("bytes").current();
            for met in story(&bytes) {
                *counts.entry(met).or_default() += 1;
            }
        }
        counts
    })
}

fn check(hook: Hook, subject: Subject, ends: &[End], families: &[bool]) {
    for end in ends {
        for v6 in families {
            let met = Met { v6: *v6, hook, subject, end: *end };
            let times = reached().get(&met).copied().unwrap_or_default();
            assert!(times >= OFTEN, "{met:?} was reached {times} times");
        }
    }
}

/// In IPv4 and in IPv6.
fn reaches(hook: Hook, subject: Subject, ends: &[End]) {
    check(hook, subject, ends, &[false, true]);
}

#[test]
fn random_stories_reach_every_cell_of_a_containers_row() {
    let cell = |column, ends: &[End]| reaches(FromContainer, Flow(Container, column), ends);
    cell(OwnNetwork, &[Deliver, Drop(IccDisabled), Drop(UnknownDestination), Replicate]);
    cell(OtherNetwork, &[Drop(NetworkIsolation), Deliver, Drop(NotPublished)]);
    cell(OtherNetwork, &[Drop(InvalidState)]);
    cell(OwnGateway, &[HostStack]);
    cell(HostAddress, &[HostStack]);
    cell(PublishedPort, &[Deliver, Drop(TtlExceeded)]);
    cell(Column::Outside, &[Uplink, Drop(NoRoute), Drop(TooBig), Drop(TtlExceeded)]);
    cell(Column::Outside, &[Drop(InvalidState), Drop(SnatExhausted)]);
    cell(Group, &[Replicate, HostStack, Drop(UnicastInBroadcast)]);
    cell(Column::Nobody, &[Drop(MartianAddress)]);
    let internal = |column, ends: &[End]| reaches(FromContainer, Flow(Internal, column), ends);
    internal(OwnNetwork, &[Deliver, Drop(IccDisabled)]);
    internal(OtherNetwork, &[Drop(NetworkIsolation)]);
    internal(OwnGateway, &[HostStack]);
    internal(HostAddress, &[Drop(InternalNetwork)]);
    internal(PublishedPort, &[Drop(InternalNetwork)]);
    internal(Column::Outside, &[Drop(InternalNetwork)]);
    internal(Group, &[Replicate, HostStack]);
}

#[test]
fn random_stories_reach_a_container_that_speaks_by_its_address_in_another_network() {
    let cell = |column, ends: &[End]| reaches(FromContainer, Flow(Elsewhere, column), ends);
    cell(Column::Outside, &[Uplink]);
}

#[test]
fn random_stories_reach_every_check_of_what_a_container_sends() {
    let checks = [UnknownEndpoint, SpoofedSource, UnsupportedProtocol, Truncated, SourceRouted];
    reaches(FromContainer, Flow(Container, Column::Outside), &checks.map(Drop));
    for hook in [ToContainer, FromContainer] {
        reaches(hook, Flow(Container, OwnNetwork), &[Drop(UnknownEndpoint)]);
    }
    reaches(ToContainer, Flow(Container, OwnNetwork), &[Accept]);
}

#[test]
fn random_stories_reach_every_cell_of_a_strangers_row_on_every_kind_of_uplink() {
    for hook in [FromNetdev, FromL3dev] {
        let cell = |column, ends: &[End]| reaches(hook, Flow(Row::Outside, column), ends);
        cell(OwnNetwork, &[Deliver, Drop(NotPublished), Drop(InternalNetwork)]);
        cell(OwnNetwork, &[Drop(InvalidState), Drop(UnknownDestination)]);
        cell(OwnGateway, &[Drop(NotPublished)]);
        // The last for a masquerade port in the loose window alone.
        cell(HostAddress, &[Untouched, Deliver, Drop(InvalidState)]);
        cell(PublishedPort, &[Deliver]);
        cell(Column::Outside, &[Untouched]);
        cell(Group, &[Untouched]);
    }
    let lies = [Drop(SpoofedSource), Drop(MartianAddress), Drop(TtlExceeded)];
    reaches(FromNetdev, Flow(Row::Outside, OwnNetwork), &lies);
    for hook in [ToNetdev, ToL3dev] {
        reaches(hook, Flow(Row::Host, Column::Outside), &[Untouched, Drop(LeakedSource)]);
    }
}

#[test]
fn random_stories_reach_every_cell_of_the_hosts_row() {
    reaches(FromHost, Flow(Row::Host, OwnNetwork), &[ToVeth, Replicate, Drop(NotPublished)]);
    reaches(FromHost, Flow(Row::Host, Group), &[Replicate, Drop(NotPublished)]);
    reaches(FromHost, Asks(Speaker::Host), &[Answer, Replicate, ToVeth]);
    reaches(FromHost, Claims(Speaker::Host), &[Replicate, ToVeth]);
}

#[test]
fn random_stories_reach_errors_about_known_flows_and_about_none_in_both_directions() {
    let known = [Deliver, Uplink, Drop(TtlExceeded)];
    reaches(FromContainer, Error, &known);
    let about_none = [InvalidState, SpoofedSource, NetworkIsolation, InternalNetwork, IccDisabled];
    reaches(FromContainer, Error, &about_none.map(Drop));
    reaches(FromContainer, Error, &[HostStack, Replicate]);
    for hook in [FromNetdev, FromL3dev] {
        reaches(hook, Error, &[Deliver, Untouched, Drop(NotPublished), Drop(InvalidState)]);
    }
    reaches(FromNetdev, Error, &[Drop(TtlExceeded)]);
}

#[test]
fn random_stories_reach_neighbours_and_routers_words_in_every_anti_spoof_mode() {
    for speaker in [Speaker::OfItsAddress, Speaker::OfItsMac] {
        reaches(FromContainer, Asks(speaker), &[Answer, Replicate, Deliver, HostStack]);
        reaches(FromContainer, Claims(speaker), &[Replicate, Deliver, HostStack]);
        reaches(FromContainer, Claims(speaker), &[Drop(SpoofedNeighbor)]);
        reaches(FromContainer, Router(speaker), &[Drop(RogueRouter)]);
    }
    reaches(FromContainer, Asks(Speaker::OfItsMac), &[Drop(SpoofedNeighbor)]);
    check(FromContainer, Asks(Speaker::OfItsAddress), &[Drop(SpoofedNeighbor)], &[false]);
    check(FromContainer, Asks(Speaker::OfItsAddress), &[Drop(SpoofedSource)], &[true]);
    let anybody = Speaker::Anybody;
    reaches(FromContainer, Asks(anybody), &[Answer, Replicate, Deliver, HostStack]);
    reaches(FromContainer, Claims(anybody), &[Replicate, Deliver, HostStack]);
    reaches(FromContainer, Router(anybody), &[Replicate, Deliver]);
    check(FromContainer, Asks(anybody), &[Drop(IccDisabled)], &[false]);
    reaches(FromNetdev, Asks(Speaker::Outside), &[Untouched]);
}

#[test]
fn random_stories_reach_fragments_that_wait_follow_repeat_and_overlap() {
    for (hook, row) in [(FromContainer, Container), (FromNetdev, Row::Outside)] {
        reaches(hook, Fragment(row), &[Deliver, Held, Again]);
        reaches(hook, Fragment(row), &[Drop(FragmentDuplicate), Drop(FragmentOverlap)]);
    }
    reaches(FromContainer, Fragment(Container), &[Uplink, HostStack, Replicate, Drop(Truncated)]);
    reaches(FromL3dev, Fragment(Row::Outside), &[Deliver, Untouched, Held]);
}

/// Those that no table and no packet bring about: what the kernel refuses, and the bound of a
/// replication, which is the kernel's edge's.
const OF_THE_KERNEL: [DropReason; 2] = [KernelRefused, ReplicationLimit];
/// What the controller counts when a fragment has waited too long, and what befalls the 65th that
/// waits.
const OF_THE_CONTROLLER: [DropReason; 2] = [FragmentExpired, FragmentUnknown];

#[test]
fn random_stories_reach_every_drop_reason() {
    let mut missing = DropReason::ALL.to_vec();
    missing.retain(|reason| !OF_THE_KERNEL.contains(reason) && !OF_THE_CONTROLLER.contains(reason));
    let met: Vec<End> = reached().keys().map(|met| met.end).collect();
    missing.retain(|reason| !met.contains(&Drop(*reason)));
    assert!(missing.is_empty(), "never reached: {missing:?}");
}
