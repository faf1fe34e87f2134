//! Random hosts and what happens to them: the packet path keeps its promises and agrees with its
//! model, also on all that the fuzzer has kept.

use std::path::Path;

use arbitrary::{Arbitrary as _, Unstructured};
use netd_common::DropReason;
use proptest::prelude::*;

use crate::testing::ordeal::{Ordeal, endure};
use crate::testing::reach::Met;
use crate::testing::story::Story;
use crate::testing::truth;

fn ordeal(bytes: &[u8]) {
    if let Ok(ordeal) = Ordeal::arbitrary(&mut Unstructured::new(bytes)) {
        endure(&ordeal);
    }
}

pub(super) fn story(bytes: &[u8]) -> Vec<Met> {
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
