//! Random hosts and what happens to them: the packet path keeps its promises and agrees with its
//! model, also on all that the fuzzer has kept.

use std::collections::BTreeSet;
use std::path::Path;

use arbitrary::{Arbitrary as _, Unstructured};
use netd_common::DropReason::{self, *};
use netd_common::Hook;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::testing::ordeal::{Ordeal, endure};
use crate::testing::story::Story;
use crate::testing::truth;
use crate::verdict::Decision;

fn ordeal(bytes: &[u8]) {
    if let Ok(ordeal) = Ordeal::arbitrary(&mut Unstructured::new(bytes)) {
        endure(&ordeal);
    }
}

fn story(bytes: &[u8]) -> Vec<(Hook, Decision)> {
    let story = Story::arbitrary(&mut Unstructured::new(bytes));
    story.map_or_else(|_| Vec::new(), |story| truth::compare(&story))
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..2_048)
}

proptest! {
    #[test]
    fn whatever_arrives_every_promise_is_kept(bytes in any_bytes()) {
        ordeal(&bytes);
    }

    #[test]
    fn the_packet_path_and_its_model_agree(bytes in any_bytes()) {
        story(&bytes);
    }
}

/// Runs what the fuzzer has kept for a target.
fn replay(target: &str, run: impl Fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let kept = std::fs::read_dir(&corpus).expect("the fuzzer's corpus is in the repository");
    let runs = kept.map(|file| run(&std::fs::read(file.unwrap().path()).unwrap())).count();
    assert!(runs > 50, "{runs} files in {}", corpus.display());
}

#[test]
fn every_promise_is_kept_on_what_the_fuzzer_has_kept() {
    replay("packets", ordeal);
}

#[test]
fn the_model_agrees_on_what_the_fuzzer_has_kept() {
    replay("truth", |bytes| drop(story(bytes)));
}

/// What the table can say at each hook.
fn reachable() -> BTreeSet<(Hook, String)> {
    let kinds: [(Hook, &[&str], &[DropReason]); 5] = [
        (
            Hook::FromContainer,
            &["Deliver", "Uplink", "HostStack", "Replicate"],
            &[
                UnknownEndpoint,
                SpoofedSource,
                NetworkIsolation,
                InternalNetwork,
                IccDisabled,
                UnknownDestination,
                SnatExhausted,
                NoRoute,
                TtlExceeded,
                UnsupportedProtocol,
                InvalidState,
                MartianAddress,
            ],
        ),
        (Hook::ToContainer, &["Accept"], &[UnknownEndpoint]),
        (Hook::FromHost, &["ToVeth", "Replicate"], &[NotPublished]),
        (
            Hook::FromNetdev,
            &["Deliver", "Untouched"],
            &[
                NotPublished,
                InternalNetwork,
                InvalidState,
                UnknownDestination,
                TtlExceeded,
                SpoofedSource,
                MartianAddress,
            ],
        ),
        (Hook::ToNetdev, &["Untouched"], &[LeakedSource]),
    ];
    let of = |(hook, sent, dropped): (Hook, &[&str], &[DropReason])| {
        let sent = sent.iter().map(|kind| (hook, (*kind).to_owned()));
        let dropped = dropped.iter().map(|reason| (hook, format!("Drop({reason:?})")));
        sent.chain(dropped).collect::<Vec<_>>()
    };
    kinds.into_iter().flat_map(of).collect()
}

fn kind((hook, decision): (Hook, Decision)) -> (Hook, String) {
    let says = format!("{decision:?}");
    let is_drop = matches!(decision, Decision::Drop(_));
    let end = if is_drop { None } else { says.find('(') };
    (hook, says[..end.unwrap_or(says.len())].to_owned())
}

#[test]
fn random_stories_reach_every_cell_of_the_truth_table() {
    let mut runner = TestRunner::deterministic();
    let bytes = proptest::collection::vec(any::<u8>(), 2_048);
    let mut missing = reachable();
    for _ in 0..2_000 {
        let bytes = bytes.new_tree(&mut runner).expect("bytes").current();
        for decided in story(&bytes) {
            missing.remove(&kind(decided));
        }
        if missing.is_empty() {
            return;
        }
    }
    panic!("never reached: {missing:?}");
}

#[test]
fn the_manual_tells_where_each_reason_drops_a_packet() {
    let manual = include_str!("../../../docs/packet-path.md");
    let start = manual.find("## Direction by direction").expect("the section");
    let end = manual.find("## Who reaches whom").expect("the next one");
    for reason in DropReason::ALL {
        let name = format!("`{}`", reason.name());
        assert!(manual[start..end].contains(&name), "{name} is missing");
    }
}
