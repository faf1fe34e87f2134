//! The tables that the README shows.

use super::targets;
use crate::results::{Case, Results, Section};
use crate::rig::{BRIDGE, IPTABLES, LOOPBACK, NETD, NFTABLES};
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

const HEAD: [&str; 6] = ["", "netd", "iptables", "nftables", "plain bridge", "loopback"];

/// The tables in Markdown: figures, and targets.
pub(super) fn table(results: &Results) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head = line(&HEAD.map(str::to_owned)) + "|---|---|---|---|---|---|\n";
    let figures = rows(results).iter().map(|cells| line(cells)).collect::<String>();
    let aims = line(&targets::HEAD.map(str::to_owned)) + "|---|---|---|---|\n";
    let reached = targets::rows(results).iter().map(|cells| line(cells)).collect::<String>();
    format!("{head}{figures}\n{aims}{reached}")
}

/// The same as tables of the web page.
pub(super) fn html(results: &Results) -> String {
    let figures = table_of(&HEAD, &rows(results));
    figures + &table_of(&targets::HEAD, &targets::rows(results))
}

fn table_of<const N: usize>(head: &[&str; N], rows: &[[String; N]]) -> String {
    let mut table = format!("<table><tr><th>{}", head.join("<th>"));
    for cells in rows {
        table = table + "<tr><td>" + &cells.join("<td>");
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
    let ours = case
        .figure(NETD)
        .map_or_else(|| "-".to_owned(), |figure| format!("{} {}", short(figure.median), case.unit));
    let [iptables, nftables, bridge, loopback] =
        AGAINST.map(|rig| case.ratio(rig).map_or_else(|| "-".to_owned(), |ratio| brief(&ratio)));
    [label, ours, iptables, nftables, bridge, loopback]
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
