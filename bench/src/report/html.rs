//! The web page: one file, no script, nothing fetched.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::svg::{Bar, Line, bars, escape, lines};
use super::{headline, ratio_text};
use crate::results::{Case, Program, Results, Section};
use crate::rig::NETD;
use crate::statistics::Ratio;
use crate::units::{date, short};

const STYLE: &str = "body{font:15px/1.5 sans-serif;max-width:70em;margin:2em auto;padding:0 1em;\
color:#222}table{border-collapse:collapse;margin:.5em 0 1.5em}td,th{padding:.15em .8em;\
border-bottom:1px solid #ddd;text-align:right}td:first-child,th:first-child{text-align:left}\
.refused{color:#a33}small{color:#777}h4{margin-bottom:.3em}table.facts td,table.facts th{text-align:left}h2{margin-top:2em;border-bottom:2px solid #0b7a75}";

const METHOD: &str = "Client, server and all packet work share one CPU at real-time priority, in \
short bursts with rests between. Every round runs each rig once and begins with another. A ratio is \
the median of the ratios of the rounds, more than 1 is better for netd, with its quartiles in \
brackets; where they lie further apart than 15 % of it, it is refused.";

/// The page.
pub(super) fn page(results: &Results) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>netd benchmarks</title>\
         <style>{STYLE}</style><h1>netd benchmarks</h1><p>{METHOD}</p>"
    );
    page.push_str("<h2>In short</h2>");
    page.push_str(&headline::html(results));
    page.push_str("<h2>What is compared</h2>");
    rigs(&mut page, results);
    environment(&mut page, results);
    problems(&mut page, results);
    for (section, title) in [
        (Section::Packets, "Packets"),
        (Section::Traffic, "Transactions and streams"),
        (Section::Scaling, "Scaling"),
        (Section::Control, "Control plane"),
        (Section::Names, "Name queries"),
        (Section::Resources, "CPU and memory"),
    ] {
        let cases: Vec<&Case> =
            results.cases.iter().filter(|case| case.section == section).collect();
        if !cases.is_empty() {
            write!(page, "<h2>{title}</h2>").ok();
            groups(&mut page, &cases);
        }
    }
    programs(&mut page, &results.programs);
    page + "</html>\n"
}

fn rigs(page: &mut String, results: &Results) {
    page.push_str("<table class=\"facts\"><tr><th>rig<th>what it is");
    for (rig, says) in &results.rigs {
        write!(page, "<tr><td>{}<td>{}", escape(rig), escape(says)).ok();
    }
    page.push_str("</table>");
}

fn environment(page: &mut String, results: &Results) {
    page.push_str("<h2>Environment</h2><table class=\"facts\">");
    write!(page, "<tr><td>taken on<td>{}", date(results.environment.taken_at)).ok();
    for (name, value) in &results.environment.facts {
        write!(page, "<tr><td>{}<td>{}", escape(name), escape(value)).ok();
    }
    page.push_str("</table>");
}

fn problems(page: &mut String, results: &Results) {
    if results.problems.is_empty() {
        return;
    }
    page.push_str("<h2>Not measured</h2><ul class=\"refused\">");
    for problem in &results.problems {
        write!(page, "<li>{}", escape(problem)).ok();
    }
    page.push_str("</ul>");
}

fn groups(page: &mut String, cases: &[&Case]) {
    let mut seen = BTreeSet::new();
    for case in cases {
        if !seen.insert(&case.group) {
            continue;
        }
        write!(page, "<h3>{}</h3>", escape(&case.group)).ok();
        let members: Vec<&Case> =
            cases.iter().copied().filter(|other| other.group == case.group).collect();
        over_size(page, &members);
        for member in members.into_iter().filter(|case| case.scale.is_none()) {
            table(page, member);
        }
    }
}

/// What was measured at several sizes: a plot and a table each.
fn over_size(page: &mut String, cases: &[&Case]) {
    let titles: BTreeSet<&String> =
        cases.iter().filter(|case| case.scale.is_some()).map(|case| &case.title).collect();
    for title in titles {
        let scaled: Vec<&Case> =
            cases.iter().copied().filter(|case| &case.title == title).collect();
        let rigs: BTreeSet<&str> =
            scaled.iter().flat_map(|case| case.rigs.keys()).map(String::as_str).collect();
        let mut rigs: Vec<&str> = rigs.into_iter().collect();
        rigs.sort_by_key(|rig| *rig != NETD);
        let plot: Vec<Line> = rigs.iter().map(|rig| line(rig, &scaled)).collect();
        let unit = scaled.first().map_or("", |case| case.unit.as_str());
        write!(page, "<h4>{}, {}</h4>{}", escape(title), escape(unit), lines(&plot)).ok();
        by_size(page, &rigs, &scaled);
    }
}

/// Medians by rig and size, with netd's ratio below where there is one.
fn by_size(page: &mut String, rigs: &[&str], cases: &[&Case]) {
    page.push_str("<table><tr><th>at");
    for case in cases {
        write!(page, "<th>{}", case.scale.unwrap_or_default()).ok();
    }
    for rig in rigs {
        write!(page, "<tr><td>{}", escape(rig)).ok();
        for case in cases {
            page.push_str("<td>");
            let Some(figure) = case.figure(rig) else { continue };
            page.push_str(&short(figure.median));
            if let Some(Ratio::Shown { median, .. }) = case.ratio(rig) {
                write!(page, "<br><small>netd {median:.2}x</small>").ok();
            }
        }
    }
    page.push_str("</table>");
}

fn line(rig: &str, cases: &[&Case]) -> Line {
    let point = |case: &&Case| Some((case.scale?, case.figure(rig)?.median));
    Line { label: rig.to_owned(), points: cases.iter().filter_map(point).collect() }
}

fn table(page: &mut String, case: &Case) {
    write!(page, "<h4>{}, {}</h4>", escape(&case.title), escape(&case.unit)).ok();
    if case.rigs.len() > 1 {
        page.push_str(&bars(&bars_of(case)));
    }
    page.push_str("<table><tr><th>rig<th>median<th>best<th>spread<th>rounds<th>netd against it");
    for (rig, rounds) in order(case) {
        let Some(figure) = case.figure(rig) else { continue };
        let ratio = case.ratio(rig).map(|ratio| ratio_text(&ratio)).unwrap_or_default();
        let class = if ratio.starts_with("no") { " class=\"refused\"" } else { "" };
        write!(
            page,
            "<tr><td>{}<td>{}<td>{}<td>{:.0} %<td>{}<td{class}>{ratio}",
            escape(rig),
            short(figure.median),
            short(figure.best),
            figure.spread() * 100.0,
            rounds.len()
        )
        .ok();
    }
    page.push_str("</table>");
}

fn bars_of(case: &Case) -> Vec<Bar> {
    let bar = |rig: &str| {
        let figure = case.figure(rig)?;
        let (value, low, high) = (figure.median, figure.low, figure.high);
        Some(Bar { label: rig.to_owned(), value, low, high })
    };
    order(case).into_iter().filter_map(|(rig, _)| bar(rig)).collect()
}

/// Rigs with ours first.
fn order(case: &Case) -> Vec<(&str, &crate::results::Rounds)> {
    let mut rigs: Vec<_> = case.rigs.iter().map(|(rig, rounds)| (rig.as_str(), rounds)).collect();
    rigs.sort_by_key(|(rig, _)| *rig != NETD);
    rigs
}

fn programs(page: &mut String, programs: &[Program]) {
    if programs.is_empty() {
        return;
    }
    page.push_str("<h2>Programs</h2><table><tr><th>program<th>verified instructions<th>ns a run");
    for program in programs {
        let run = program.run_ns.map(short).unwrap_or_default();
        let name = escape(&program.name);
        write!(page, "<tr><td>{name}<td>{}<td>{run}", program.verified_instructions).ok();
    }
    page.push_str("</table>");
}
