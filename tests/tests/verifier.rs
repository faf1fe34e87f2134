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
const LIMIT: u32 = 80_000;

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
    for (name, count) in &counts {
        println!("{name} {count}");
    }
    if std::env::var_os("NETD_RECORD").is_some() {
        let mut text = String::new();
        for (name, count) in &counts {
            writeln!(text, "{name} {count}").expect("a string takes all");
        }
        std::fs::write(record(), text).expect("the record is written");
    }
    let recorded = recorded();
    for (name, count) in counts {
        let allowed = recorded.get(name).unwrap_or_else(|| panic!("{name} has no record"));
        assert!(count <= LIMIT, "{name}: {count} instructions verified, at most {LIMIT}");
        assert!(
            count <= allowed + allowed / 10,
            "{name}: {count} instructions verified, {allowed} on record"
        );
    }
}
