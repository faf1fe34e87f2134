//! What netd is to reach, and whether a run shows it.
//!
//! Law: what was not measured, or whose ratio was refused, is neither met nor missed.

use super::headline::FRAMES;
use crate::names::LIMIT;
use crate::packets::TC_DROP;
use crate::results::{Case, Results, Section};
use crate::rig::{BRIDGE, DOCKER, IPTABLES, LOOPBACK, NETD, NFTABLES};
use crate::statistics::Ratio;
use crate::units::short;

/// What is to hold for a case.
#[derive(Clone, Copy, Debug)]
enum Bound {
    /// At least so many times better than a rig.
    Better(&'static str, f64),
    /// At least so many hundredths of what a rig reaches.
    PartOf(&'static str, f64),
    /// At most so many times the cost on a rig.
    TimesCost(&'static str, f64),
    /// The median at most.
    AtMost(f64),
}

/// Which case it is about: section, group, title, size.
type Subject = (Section, &'static str, &'static str, Option<u64>);

/// A target: its subject and what is to hold.
type Target = (&'static str, Subject, &'static [Bound]);

const PUBLISHED: &str = "outside to published";
const NEIGHBORS: &str = "container to container";
const OUTWARD: &str = "container to outside";
const OPERATIONS: &str = "Operations of the daemon";
const CREATE: &str = "endpoint create and join";
const BY_PORTS: &str = "TCP_CRR by published ports";
const MAPS: &str = "Map operations of a packet";
const WRITES: &str = "Map writes of a packet";
const QUERIES: &str = "Name queries";
const LOCAL: &str = "local name";
const LOCAL_COST: &str = "local name, CPU time of the server";
const LOCAL_NAMES: &str = "local names";
const LOCAL_NAMES_COST: &str = "local names, CPU time of the server";

const fn traffic(group: &'static str, title: &'static str) -> Subject {
    (Section::Traffic, group, title, None)
}

const fn by_ports(ports: u64) -> Subject {
    (Section::Scaling, BY_PORTS, PUBLISHED, Some(ports))
}

const fn operation(title: &'static str, scale: u64) -> Subject {
    (Section::Control, OPERATIONS, title, Some(scale))
}

const fn resource(group: &'static str, title: &'static str) -> Subject {
    (Section::Resources, group, title, None)
}

const fn names(title: &'static str) -> Subject {
    (Section::Names, QUERIES, title, None)
}

const fn against_both(iptables: f64, nftables: f64) -> [Bound; 2] {
    [Bound::Better(IPTABLES, iptables), Bound::Better(NFTABLES, nftables)]
}

const PACKET: [Bound; 3] =
    [Bound::Better(IPTABLES, 2.2), Bound::Better(NFTABLES, 2.2), Bound::TimesCost(TC_DROP, 2.6)];
const RR_PUBLISHED: [Bound; 3] =
    [Bound::Better(IPTABLES, 1.25), Bound::Better(NFTABLES, 1.2), Bound::PartOf(LOOPBACK, 0.8)];
const RR_NEIGHBORS: [Bound; 3] =
    [Bound::Better(IPTABLES, 1.25), Bound::Better(NFTABLES, 1.2), Bound::PartOf(LOOPBACK, 0.85)];
const BULK: [Bound; 3] =
    [Bound::Better(IPTABLES, 1.0), Bound::Better(NFTABLES, 1.0), Bound::PartOf(BRIDGE, 0.9)];

/// How many times Docker's rate of local names is asked for.
const NAMES_TIMES: f64 = 5.0;

const TARGETS: [Target; 19] = [
    (
        "packet to a published port",
        (Section::Packets, FRAMES, "published, known flow", None),
        &PACKET,
    ),
    ("TCP_RR published", traffic(PUBLISHED, "TCP_RR"), &RR_PUBLISHED),
    ("TCP_RR container to container", traffic(NEIGHBORS, "TCP_RR"), &RR_NEIGHBORS),
    ("TCP_CRR published, 1 port", by_ports(1), &against_both(1.3, 1.3)),
    ("TCP_CRR published, 1 000 ports", by_ports(1_000), &against_both(2.3, 1.3)),
    ("TCP_CRR published, 10 000 ports", by_ports(10_000), &against_both(10.0, 1.3)),
    ("TCP_RR masqueraded", traffic(OUTWARD, "TCP_RR"), &against_both(1.2, 1.15)),
    ("TCP_CRR masqueraded", traffic(OUTWARD, "TCP_CRR"), &against_both(1.3, 1.25)),
    ("bulk TCP published", traffic(PUBLISHED, "bulk TCP, 1 flow"), &BULK),
    ("bulk TCP container to container", traffic(NEIGHBORS, "bulk TCP, 1 flow"), &BULK),
    ("bulk TCP masqueraded", traffic(OUTWARD, "bulk TCP, 1 flow"), &BULK),
    ("create and join, 1 present", operation(CREATE, 1), &[Bound::AtMost(10.0)]),
    ("create and join, 1 000 present", operation(CREATE, 1_000), &[Bound::AtMost(10.0)]),
    (
        "publish 10 000 ports",
        operation("container with published ports", 10_000),
        &[Bound::AtMost(100.0)],
    ),
    (
        "publish 100 ports, which the engine does one by one",
        operation("container with published ports", 100),
        &[Bound::Better(DOCKER, 100.0)],
    ),
    (
        "daemon RSS, 1 000 endpoints",
        resource("Daemon RSS", "with 1000 endpoints"),
        &[Bound::AtMost(64.0)],
    ),
    ("map operations, known flow", resource(MAPS, "published, known flow"), &[Bound::AtMost(4.0)]),
    (LOCAL_NAMES, names(LOCAL), &[Bound::Better(DOCKER, NAMES_TIMES)]),
    (LOCAL_NAMES_COST, names(LOCAL_COST), &[Bound::Better(DOCKER, NAMES_TIMES)]),
];

/// More of the same kind, beside `TARGETS`: what is compared with itself.
const NEW_FLOW: Target =
    ("map writes, new flow", resource(WRITES, "published, new flow"), &[Bound::AtMost(8.0)]);

const UNKNOWN: &str = "not measured, or no ratio";

/// How far apart the rates at different numbers of ports may lie.
const FLATNESS: f64 = 0.05;

/// Heads of the columns.
pub(super) const HEAD: [&str; 4] = ["target", "asked for", "measured", ""];

/// A row for each bound.
pub(super) fn rows(results: &Results) -> Vec<[String; 4]> {
    let targets = TARGETS.iter().chain([&NEW_FLOW]);
    let bounds = targets.flat_map(|(what, subject, bounds)| {
        let case = find(results, *subject);
        bounds.iter().map(move |bound| row(what, case, *bound))
    });
    let limits = [(LOCAL_NAMES, LOCAL), (LOCAL_NAMES_COST, LOCAL_COST)]
        .map(|(what, title)| limit(what, find(results, names(title))));
    bounds.chain(limits).chain([flatness(results)]).collect()
}

fn find(results: &Results, (section, group, title, scale): Subject) -> Option<&Case> {
    results.cases.iter().find(|case| {
        (case.section, case.group.as_str(), case.title.as_str(), case.scale)
            == (section, group, title, scale)
    })
}

fn row(what: &str, case: Option<&Case>, bound: Bound) -> [String; 4] {
    let (asked, measured) = match bound {
        Bound::Better(rig, least) => {
            let found = ratio(case, rig).map(|it| (decimals(it, least) + "x", it >= least));
            (format!("{least}x {rig} or more"), found)
        }
        Bound::PartOf(rig, least) => {
            let found = ratio(case, rig).map(|it| (format!("{:.0} %", it * 100.0), it >= least));
            (format!("{:.0} % of {rig} or more", least * 100.0), found)
        }
        Bound::TimesCost(rig, most) => {
            let cost = ratio(case, rig).map(|it| 1.0 / it);
            let found = cost.map(|it| (decimals(it, most) + "x", it <= most));
            (format!("{most}x {rig} or less"), found)
        }
        Bound::AtMost(most) => {
            let figure = case.and_then(|case| Some((case, case.figure(NETD)?)));
            let found = figure.map(|(case, it)| {
                (format!("{} {}", short(it.median), case.unit), it.median <= most)
            });
            (format!("{most} or less"), found)
        }
    };
    told(what, asked, measured)
}

/// Two decimals, or three where two would hide on which side of a bound a value lies.
fn decimals(value: f64, bound: f64) -> String {
    let two = format!("{value:.2}");
    if two == format!("{bound:.2}") { format!("{value:.3}") } else { two }
}

/// A ratio that was shown.
fn ratio(case: Option<&Case>, rig: &str) -> Option<f64> {
    match case?.ratio(rig)? {
        Ratio::Shown { median, .. } => Some(median),
        Ratio::Refused { .. } => None,
    }
}

/// Whether what is published beside a port slows it down.
fn flatness(results: &Results) -> [String; 4] {
    let rate = |ports| Some(find(results, by_ports(ports))?.figure(NETD)?.median);
    let rates: Option<Vec<f64>> = [1, 1_000, 10_000].into_iter().map(rate).collect();
    let apart = rates.and_then(|rates| {
        let low = rates.iter().copied().reduce(f64::min)?;
        let high = rates.iter().copied().reduce(f64::max)?;
        Some((high - low) / high)
    });
    let found = apart.map(|it| (format!("{:.1} % apart", it * 100.0), it <= FLATNESS));
    let asked = format!("flat within {:.0} %", FLATNESS * 100.0);
    told("TCP_CRR published, 1 to 10 000 ports", asked, found)
}

/// What is asked for of names, held against a server that does nothing: whether anybody could reach it
/// with this client on this machine.
fn limit(what: &str, case: Option<&Case>) -> [String; 4] {
    let reached =
        case.and_then(|case| Some(ratio(Some(case), DOCKER)? / ratio(Some(case), LIMIT)?));
    let verdict = match reached {
        None => "open",
        Some(times) if times >= NAMES_TIMES => "within reach",
        Some(_) => "out of reach",
    };
    let measured = reached.map_or_else(|| UNKNOWN.to_owned(), |times| format!("{times:.2}x"));
    let asked = format!("{NAMES_TIMES}x {DOCKER} or more");
    [format!("{what}: a server that does nothing"), asked, measured, verdict.to_owned()]
}

fn told(what: &str, asked: String, found: Option<(String, bool)>) -> [String; 4] {
    let (measured, verdict) = match found {
        Some((measured, true)) => (measured, "met"),
        Some((measured, false)) => (measured, "missed"),
        None => (UNKNOWN.to_owned(), "open"),
    };
    [what.to_owned(), asked, measured, verdict.to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::Better;

    fn verdict(bound: Bound, better: Better, ours: f64, theirs: f64) -> String {
        let mut case = Case::new(Section::Traffic, "way", "kind", "unit", better);
        let rounds = |value: f64| (0..5).map(|round| (round, value)).collect();
        case.rigs.insert(NETD.to_owned(), rounds(ours));
        case.rigs.insert(IPTABLES.to_owned(), rounds(theirs));
        let [.., verdict] = row("", Some(&case), bound);
        verdict
    }

    #[test]
    fn a_bound_is_met_from_its_very_value_on() {
        let of = |bound, better, ours| verdict(bound, better, ours, 100.0);
        assert_eq!(of(Bound::Better(IPTABLES, 1.25), Better::Higher, 125.0), "met");
        assert_eq!(of(Bound::Better(IPTABLES, 1.25), Better::Higher, 124.0), "missed");
        assert_eq!(of(Bound::PartOf(IPTABLES, 0.5), Better::Higher, 50.0), "met");
        assert_eq!(of(Bound::PartOf(IPTABLES, 0.5), Better::Higher, 49.0), "missed");
        assert_eq!(of(Bound::TimesCost(IPTABLES, 2.0), Better::Lower, 200.0), "met");
        assert_eq!(of(Bound::TimesCost(IPTABLES, 2.0), Better::Lower, 201.0), "missed");
        assert_eq!(of(Bound::AtMost(10.0), Better::Lower, 10.0), "met");
        assert_eq!(of(Bound::AtMost(10.0), Better::Lower, 11.0), "missed");
    }

    #[test]
    fn what_nobody_could_reach_is_told_from_what_netd_misses() {
        let verdict = |docker: f64, limit: f64| {
            let mut case = Case::new(Section::Names, QUERIES, LOCAL, "queries/s", Better::Higher);
            for (rig, value) in [(NETD, 150.0), (DOCKER, docker), (LIMIT, limit)] {
                let rounds = (0..5).map(|round| (round, value)).collect();
                case.rigs.insert(rig.to_owned(), rounds);
            }
            let [.., measured, verdict] = super::limit("", Some(&case));
            (measured, verdict)
        };
        assert_eq!(verdict(100.0, 200.0), ("2.00x".to_owned(), "out of reach".to_owned()));
        assert_eq!(verdict(40.0, 200.0), ("5.00x".to_owned(), "within reach".to_owned()));
    }

    #[test]
    fn what_is_shown_tells_on_which_side_of_the_bound_it_lies() {
        let shown = [1.298, 1.302, 1.29, 1.36].map(|value| decimals(value, 1.3));
        assert_eq!(shown, ["1.298", "1.302", "1.29", "1.36"]);
    }

    #[test]
    fn what_was_not_measured_or_has_no_ratio_is_open() {
        let [.., verdict] = row("", None, Bound::AtMost(1.0));
        assert_eq!(verdict, "open");
        assert_eq!(super::ratio(None, IPTABLES), None);
    }
}
