//! The table that the README shows.

use std::fmt::Write as _;

use super::ratio_text;
use crate::results::{Case, Results, Section};
use crate::rig::{BRIDGE, IPTABLES, LOOPBACK, NETD, NFTABLES};
use crate::units::short;

const BEGIN: &str = "<!-- benchmarks: begin -->";
const END: &str = "<!-- benchmarks: end -->";

/// Cases of the headline: section, group, title.
const ROWS: [(Section, &str, &str); 10] = [
    (Section::Packets, "64-byte UDP frames", "published, known flow"),
    (Section::Packets, "64-byte UDP frames", "published, new flows"),
    (Section::Traffic, "outside to published", "TCP_RR"),
    (Section::Traffic, "outside to published", "TCP_CRR"),
    (Section::Scaling, "TCP_CRR by published ports", "outside to published"),
    (Section::Traffic, "container to container", "TCP_RR"),
    (Section::Traffic, "container to outside", "TCP_RR"),
    (Section::Traffic, "container to outside", "TCP_CRR"),
    (Section::Traffic, "host to published", "TCP_CRR"),
    (Section::Traffic, "outside to published", "bulk TCP, 1 flow"),
];

const AGAINST: [&str; 4] = [IPTABLES, NFTABLES, BRIDGE, LOOPBACK];

/// The table in Markdown.
pub(super) fn table(results: &Results) -> String {
    let mut table = "| | netd | against iptables | against nftables | against plain bridge | \
                     against loopback |\n|---|---|---|---|---|---|\n"
        .to_owned();
    for (section, group, title) in ROWS {
        let cases = results
            .cases
            .iter()
            .filter(|case| case.section == section && case.group == group && case.title == title);
        for case in cases {
            row(&mut table, case);
        }
    }
    table
}

fn row(table: &mut String, case: &Case) {
    let scale = case.scale.map(|scale| format!(" at {scale}")).unwrap_or_default();
    let ours = case.figure(NETD).map_or_else(|| "-".to_owned(), |f| short(f.median));
    write!(table, "| {}: {}{scale} | {ours} {} |", case.group, case.title, case.unit).ok();
    for rig in AGAINST {
        let ratio = case.ratio(rig).map_or_else(|| "-".to_owned(), |ratio| ratio_text(&ratio));
        write!(table, " {ratio} |").ok();
    }
    table.push('\n');
}

/// The text with what is between its markers replaced; none without markers.
pub(super) fn between_markers(text: &str, table: &str) -> Option<String> {
    let begin = text.find(BEGIN)? + BEGIN.len();
    let end = begin + text.get(begin..)?.find(END)?;
    Some(format!("{}\n{table}{}", text.get(..begin)?, text.get(end..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let expected = format!("before\n{BEGIN}\n| new |\n{END}\nafter\n");
        assert_eq!(between_markers(&text, "| new |\n"), Some(expected));
        assert_eq!(between_markers("no markers", "| new |\n"), None);
    }
}
