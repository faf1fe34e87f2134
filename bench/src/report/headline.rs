//! The tables that the README shows.

use super::targets;
use crate::names::{FORWARDER, LIMIT};
use crate::results::{Case, Results, Section};
use crate::rig::{BRIDGE, DOCKER, IPTABLES, LOOPBACK, NETD, NFTABLES};
use crate::statistics::Ratio;
use crate::units::short;

const BEGIN: &str = "<!-- benchmarks: begin -->";
const END: &str = "<!-- benchmarks: end -->";

/// Rows of the headline: what is said, section, group, title.
const ROWS: [(&str, Section, &str, &str); 14] = [
    ("Packet to a published port, known flow", Section::Packets, FRAMES, "published, known flow"),
    ("Packet to a published port, new flow", Section::Packets, FRAMES, "published, new flows"),
    ("Packet masqueraded, new flow", Section::Packets, FRAMES, "masquerade, new flows"),
    ("Packet within a network", Section::Packets, FRAMES, "same network"),
    ("TCP_RR, outside to published", Section::Traffic, PUBLISHED, "TCP_RR"),
    ("TCP_RR, outside to published, IPv6", Section::Traffic, PUBLISHED_V6, "TCP_RR"),
    ("TCP_RR, container to container", Section::Traffic, "container to container", "TCP_RR"),
    ("TCP_RR, container to outside", Section::Traffic, "container to outside", "TCP_RR"),
    ("TCP_CRR, outside to published", Section::Scaling, "TCP_CRR by published ports", PUBLISHED),
    ("TCP_CRR, outside to published, IPv6", Section::Traffic, PUBLISHED_V6, "TCP_CRR"),
    ("TCP_CRR, container to container", Section::Traffic, "container to container", "TCP_CRR"),
    ("TCP_CRR, container to outside", Section::Traffic, "container to outside", "TCP_CRR"),
    ("TCP_CRR, host to published", Section::Traffic, "host to published", "TCP_CRR"),
    ("Bulk TCP, outside to published", Section::Traffic, PUBLISHED, "bulk TCP, 1 flow"),
];

pub(super) const FRAMES: &str = "64-byte UDP frames";
const PUBLISHED: &str = "outside to published";
const PUBLISHED_V6: &str = "outside to published, IPv6";

const AGAINST: [&str; 4] = [IPTABLES, NFTABLES, BRIDGE, LOOPBACK];

/// Titles of the rows about names.
const NAME_ROWS: [&str; 7] = [
    "local name",
    "local name, CPU time of the server",
    "local name, 99th percentile of the time to an answer",
    "external name, asked before",
    "external name, asked before, 99th percentile of the time to an answer",
    "external name, new",
    "external name, new, 99th percentile of the time to an answer",
];

const NAMES_AGAINST: [&str; 3] = [DOCKER, FORWARDER, LIMIT];

const NAMES_HEAD: [&str; 5] = ["", "netd", "docker", "hickory", "limit"];

const HEAD: [&str; 6] = ["", "netd", "iptables", "nftables", "plain bridge", "loopback"];

/// The tables in Markdown: figures, those of names, and targets.
pub(super) fn table(results: &Results) -> String {
    let figures = markdown(&HEAD, &rows(results));
    let names = markdown(&NAMES_HEAD, &name_rows(results));
    let aims = markdown(&targets::HEAD, &targets::rows(results));
    format!("{figures}\n{names}\n{aims}")
}

fn markdown<const N: usize>(head: &[&str; N], rows: &[[String; N]]) -> String {
    let rows = rows.iter().map(|cells| format!("| {} |\n", cells.join(" | ")));
    format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(N)) + &rows.collect::<String>()
}

/// The same as tables of the web page.
pub(super) fn html(results: &Results) -> String {
    let figures = table_of(&HEAD, &rows(results));
    let names = table_of(&NAMES_HEAD, &name_rows(results));
    figures + &names + &table_of(&targets::HEAD, &targets::rows(results))
}

fn table_of<const N: usize>(head: &[&str; N], rows: &[[String; N]]) -> String {
    let mut table = format!("<table><tr><th>{}", head.join("<th>"));
    for cells in rows {
        let row = format!("<tr><td>{}", cells.join("<td>"));
        table += &row.replace("<td>missed", "<td class=\"refused\">missed");
    }
    table + "</table>"
}

/// What is measured, ours, and the ratios to the others.
fn rows(results: &Results) -> Vec<[String; 6]> {
    let mut rows = Vec::new();
    for (label, section, group, title) in ROWS {
        let cases = results
            .cases
            .iter()
            .filter(|case| case.section == section && case.group == group && case.title == title);
        rows.extend(cases.map(|case| row(label, case)));
    }
    rows
}

fn row(label: &str, case: &Case) -> [String; 6] {
    let label = match case.scale {
        None => label.to_owned(),
        Some(1) => format!("{label}, 1 port"),
        Some(ports) => format!("{label}, {ports} ports"),
    };
    let [iptables, nftables, bridge, loopback] = AGAINST.map(|rig| against(case, rig));
    [label, ours(case), iptables, nftables, bridge, loopback]
}

fn name_rows(results: &Results) -> Vec<[String; 5]> {
    let named = |title: &&str| {
        let of = |case: &&Case| case.section == Section::Names && case.title == *title;
        let case = results.cases.iter().find(of)?;
        let [docker, forwarder, limit] = NAMES_AGAINST.map(|rig| against(case, rig));
        Some([(*title).to_owned(), ours(case), docker, forwarder, limit])
    };
    NAME_ROWS.iter().filter_map(named).collect()
}

fn ours(case: &Case) -> String {
    let figure = case.figure(NETD);
    figure.map_or_else(|| "-".to_owned(), |it| format!("{} {}", short(it.median), case.unit))
}

fn against(case: &Case, rig: &str) -> String {
    let ratio = case.rigs.contains_key(rig).then(|| case.ratio(rig)).flatten();
    ratio.map_or_else(|| "-".to_owned(), |it| brief(&it))
}

/// A ratio in a table that has no room for its quartiles.
fn brief(ratio: &Ratio) -> String {
    match ratio {
        Ratio::Shown { median, .. } => format!("{median:.2}x"),
        Ratio::Refused { .. } => "refused".to_owned(),
    }
}

/// The text with what is between its markers replaced; none without markers.
pub(super) fn between_markers(text: &str, table: &str) -> Option<String> {
    let begin = text.find(BEGIN)? + BEGIN.len();
    let end = begin + text.get(begin..)?.find(END)?;
    Some(format!("{}\n\n{table}\n{}", text.get(..begin)?, text.get(end..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let expected = format!("before\n{BEGIN}\n\n| new |\n\n{END}\nafter\n");
        assert_eq!(between_markers(&text, "| new |\n"), Some(expected));
        assert_eq!(between_markers("no markers", "| new |\n"), None);
    }
}
