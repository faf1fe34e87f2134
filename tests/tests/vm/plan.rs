//! Which machines boot, and which tests of which programs run in each: a table.

use std::fmt;
use std::time::Duration;

/// However its tests go, no machine lives longer. A few minutes are enough where little else runs.
pub(super) const LIVES_FOR: Duration = Duration::from_mins(20);

/// A virtual machine.
pub(super) struct Machine {
    /// How tests name it.
    pub(super) name: &'static str,
    /// The package that its kernel comes from.
    pub(super) package: &'static str,
    /// What its kernel must have loaded.
    pub(super) modules: &'static [&'static str],
    /// In the order in which they run.
    programs: &'static [Program],
}

/// A program of tests, and those of its tests that run.
struct Program {
    name: &'static str,
    tests: &'static [&'static str],
}

/// One test of one program in one machine.
pub(super) struct Planned {
    machine: &'static Machine,
    pub(super) program: &'static str,
    pub(super) test: &'static str,
}

/// They run side by side. Where there are two of one kernel, they share its tests between them.
pub(super) static MACHINES: [Machine; 3] = [
    Machine {
        name: "linux-6.1",
        package: "linux-image-cloud-amd64",
        modules: &["veth", "bridge"],
        programs: &[Program {
            name: "scenarios",
            tests: &["kernels::kernel_without_tcx_is_refused_in_a_sentence_and_nothing_is_made"],
        }],
    },
    Machine {
        name: "linux-6.12-uplinks",
        package: "linux-image-6.12-cloud-amd64",
        modules: &["veth", "bridge", "8021q", "bonding", "tun"],
        programs: &[
            Program {
                name: "verifier",
                tests: &["every_program_is_verified_within_the_budget_whatever_the_kernel"],
            },
            Program {
                name: "scenarios",
                tests: &[
                    "trunk::bonded_uplink_carries_traffic_both_ways_over_the_loss_of_a_link",
                    "trunk::port_published_everywhere_answers_by_the_tag_it_was_asked_with",
                    "trunk::port_published_on_a_tagged_uplink_leaves_other_frames_to_the_host",
                    "trunk::tagged_uplink_carries_traffic_both_ways_and_all_of_it_tagged",
                    "trunk::tagged_uplink_that_goes_and_comes_back_is_one_again",
                    "trunk::uplink_of_two_tags_carries_traffic_both_ways",
                ],
            },
        ],
    },
    Machine {
        name: "linux-6.12-host",
        package: "linux-image-6.12-cloud-amd64",
        modules: &["veth", "bridge", "tun", "tcp_diag", "udp_diag"],
        programs: &[Program {
            name: "scenarios",
            tests: &[
                "egress::container_reaches_the_world_masqueraded_as_the_host",
                "isolation::containers_of_different_networks_are_apart_and_the_drop_says_so",
                "l3_uplink::uplink_without_mac_carries_masqueraded_and_published_traffic_both_ways",
            ],
        }],
    },
];

/// All that a machine's table lists.
pub(super) fn tests_of(machine: &'static Machine) -> impl Iterator<Item = Planned> {
    machine.programs.iter().flat_map(move |program| {
        program.tests.iter().map(move |test| Planned { machine, program: program.name, test })
    })
}

impl Planned {
    /// Whether it runs in this machine.
    pub(super) fn is_of(&self, machine: &Machine) -> bool {
        self.machine.name == machine.name
    }

    /// Whether one of the words is in its name; without words all are asked for.
    pub(super) fn is_asked_for(&self, words: &[String]) -> bool {
        let name = self.to_string();
        words.is_empty() || words.iter().any(|word| name.contains(word.as_str()))
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}::{}", self.machine.name, self.test)
    }
}
