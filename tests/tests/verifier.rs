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
use std::io::Write as _;
use std::path::PathBuf;

/// No program may cost the verifier more instructions than this, whatever the record says.
const INSTRUCTION_LIMIT: u32 = 30_000;
/// No function of a program may take as much of the stack as this, in bytes.
const STACK_LIMIT: u32 = 256;

const PROGRAMS: &[&str] = &[
    "to_container",
    "to_netdev",
    "from_host",
    "from_container",
    "from_netdev",
    "to_l3dev",
    "from_l3dev",
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

/// What a program costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cost {
    /// Instructions that the verifier walks.
    instructions: u32,
    /// Bytes of stack of the function that takes most.
    frame: u32,
    /// Bytes of stack of the deepest chain of calls.
    chain: u32,
}

impl Cost {
    /// As it stands in the record.
    fn of(text: &str) -> Self {
        let numbers: Vec<u32> =
            text.split_whitespace().map(|number| number.parse().expect("a number")).collect();
        let [instructions, frame, chain] = numbers[..] else {
            panic!("`{text}` is not instructions, frame and chain");
        };
        Self { instructions, frame, chain }
    }
}

fn recorded() -> BTreeMap<String, Cost> {
    std::fs::read_to_string(record())
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, cost)| (name.to_owned(), Cost::of(cost)))
        .collect()
}

fn measured() -> BTreeMap<String, Cost> {
    let mut ebpf = dataplane::load();
    let stacks = dataplane::stack::of_programs();
    let measure = |name: &&str| {
        let info = dataplane::verify(&mut ebpf, name).info().expect("the program's info");
        let instructions = info.verified_instruction_count().expect("a kernel that counts");
        let dataplane::stack::Stack { frame, chain } = stacks[*name];
        ((*name).to_owned(), Cost { instructions, frame, chain })
    };
    PROGRAMS.iter().map(measure).collect()
}

/// With `NETD_RECORD=1` the record is written anew instead of compared.
#[test]
fn every_program_is_verified_within_its_record_and_the_budget() {
    let costs = measured();
    show(&costs);
    if std::env::var_os("NETD_RECORD").is_some() {
        let mut text = String::new();
        for (name, Cost { instructions, frame, chain }) in &costs {
            writeln!(text, "{name} {instructions} {frame} {chain}").expect("a string takes all");
        }
        std::fs::write(record(), text).expect("the record is written");
    }
    let complaints = overgrown(&costs, &recorded());
    assert!(complaints.is_empty(), "{complaints:?}: where meant, run with NETD_RECORD=1");
}

/// What a program costs differs from kernel to kernel; the budget holds for each.
#[test]
fn every_program_is_verified_within_the_budget_whatever_the_kernel() {
    let costs = measured();
    let complaints = overgrown(&costs, &costs);
    assert!(complaints.is_empty(), "{complaints:?}");
}

/// Past the test runner, which keeps what a test that passes prints.
fn show(costs: &BTreeMap<String, Cost>) {
    let mut table = format!(
        "\n{:<16}{:>14}{:>8}{:>8}   of {INSTRUCTION_LIMIT} instructions, {STACK_LIMIT} bytes of stack\n",
        "program", "instructions", "frame", "chain"
    );
    for (name, Cost { instructions, frame, chain }) in costs {
        writeln!(table, "{name:<16}{instructions:>14}{frame:>8}{chain:>8}").expect("a string");
    }
    std::io::stdout().write_all(table.as_bytes()).expect("an output");
}

/// What grew beyond the budget or by more than a tenth, or is not on record.
fn overgrown(now: &BTreeMap<String, Cost>, recorded: &BTreeMap<String, Cost>) -> Vec<String> {
    let complaint = |(name, cost): (&String, &Cost)| {
        let Cost { instructions, frame, .. } = cost;
        match recorded.get(name) {
            _ if *instructions >= INSTRUCTION_LIMIT => Some(format!(
                "{name} has {instructions} instructions, {INSTRUCTION_LIMIT} are too many"
            )),
            _ if *frame >= STACK_LIMIT => {
                Some(format!("{name} takes {frame} bytes of stack, {STACK_LIMIT} are too many"))
            }
            None => Some(format!("{name} is not on record")),
            Some(old) if instructions * 10 > old.instructions * 11 => Some(format!(
                "{name} grew from {} to {instructions} instructions",
                old.instructions
            )),
            Some(_) => None,
        }
    };
    now.iter().filter_map(complaint).collect()
}

#[test]
fn growth_by_more_than_a_tenth_or_beyond_the_budget_is_complained_of() {
    let cost = |instructions, frame| Cost { instructions, frame, chain: frame };
    let named = |costs: &[(&str, Cost)]| {
        costs.iter().map(|(name, cost)| ((*name).to_owned(), *cost)).collect::<BTreeMap<_, _>>()
    };
    let old = cost(1_000, 100);
    let most = cost(INSTRUCTION_LIMIT, 100);
    let recorded = named(&[("a", old), ("b", old), ("d", most), ("e", old)]);
    let now = named(&[
        ("a", cost(1_100, 255)),
        ("b", cost(1_101, 100)),
        ("c", cost(1, 0)),
        ("d", most),
        ("e", cost(1_000, STACK_LIMIT)),
    ]);
    let complaints = [
        "b grew from 1000 to 1101 instructions",
        "c is not on record",
        "d has 30000 instructions, 30000 are too many",
        "e takes 256 bytes of stack, 256 are too many",
    ];
    assert_eq!(overgrown(&now, &recorded), complaints);
}
