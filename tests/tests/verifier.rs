//! Every program passes the verifier, and costs it no more than is on record.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    reason = "a test fails by panicking, and its helpers are shared by its own crate only"
)]

mod dataplane;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

/// No program may cost the verifier more than this, whatever the record says.
const LIMIT: u32 = 30_000;

const PROGRAMS: &[&str] = &[
    "to_container",
    "to_netdev",
    "from_host",
    "from_container",
    "from_netdev",
    "connect4",
    "connect6",
    "sendmsg4",
    "sendmsg6",
    "recvmsg4",
    "recvmsg6",
    "getpeername4",
    "getpeername6",
    "post_bind4",
    "post_bind6",
];

fn record() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("verified-insns.txt")
}

fn recorded() -> BTreeMap<String, u32> {
    std::fs::read_to_string(record())
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, count)| (name.to_owned(), count.trim().parse().expect("a number")))
        .collect()
}

/// With `NETD_RECORD=1` the record is written anew instead of compared.
#[test]
fn every_program_is_verified_within_its_record() {
    let mut ebpf = dataplane::load();
    let counts: BTreeMap<&str, u32> = PROGRAMS
        .iter()
        .map(|name| {
            let info = dataplane::verify(&mut ebpf, name).info().expect("the program's info");
            (*name, info.verified_instruction_count().expect("a kernel that counts"))
        })
        .collect();
    println!("{:<16}{:>12}{:>12}", "program", "verified", "on record");
    for (name, count) in &counts {
        println!("{name:<16}{count:>12}{:>12}", recorded().get(*name).copied().unwrap_or_default());
    }
    if std::env::var_os("NETD_RECORD").is_some() {
        let mut text = String::new();
        for (name, count) in &counts {
            writeln!(text, "{name} {count}").expect("a string takes all");
        }
        std::fs::write(record(), text).expect("the record is written");
    }
    let recorded = recorded();
    let complaints = overgrown(&counts, &recorded);
    assert!(complaints.is_empty(), "{complaints:?}: where meant, run with NETD_RECORD=1");
}

/// What grew beyond the limit or by more than a tenth, or is not on record.
fn overgrown(counts: &BTreeMap<&str, u32>, recorded: &BTreeMap<String, u32>) -> Vec<String> {
    let complaint = |(name, count): (&&str, &u32)| match recorded.get(*name) {
        _ if *count > LIMIT => Some(format!("{name} has {count} instructions, at most {LIMIT}")),
        None => Some(format!("{name} is not on record")),
        Some(old) if count * 10 > old * 11 => {
            Some(format!("{name} grew from {old} to {count} instructions"))
        }
        Some(_) => None,
    };
    counts.iter().filter_map(complaint).collect()
}

#[test]
fn growth_by_more_than_a_tenth_or_beyond_the_limit_is_complained_of() {
    let recorded = [("a", 1_000), ("b", 1_000), ("d", LIMIT)];
    let recorded = recorded.map(|(name, count)| (name.to_owned(), count)).into();
    let now = [("a", 1_100), ("b", 1_101), ("c", 1), ("d", LIMIT + 1)].into();
    let complaints = [
        "b grew from 1000 to 1101 instructions",
        "c is not on record",
        "d has 30001 instructions, at most 30000",
    ];
    assert_eq!(overgrown(&now, &recorded), complaints);
}
