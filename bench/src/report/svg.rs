//! Plots as SVG text: bars with quartiles, and lines over size on logarithmic axes.

use std::fmt::Write as _;

use crate::packets::{TC_DROP, XDP_DROP};
use crate::rig::{BRIDGE, DOCKER, IPTABLES, LEGACY, LOOPBACK, NETD, NFTABLES, VETH};
use crate::units::{real, real_len, short};

const WIDTH: f64 = 560.0;
const LABEL_WIDTH: f64 = 90.0;
const VALUE_WIDTH: f64 = 70.0;
const BAR_HEIGHT: f64 = 18.0;
const PLOT_HEIGHT: f64 = 240.0;

/// Room of a size below its points.
const TICK_WIDTH: f64 = 48.0;

/// Colour of lines to read values by.
const GRID: &str = "#e4e4e4";

/// Least distance between the labels of two lines.
const LABEL_HEIGHT: f64 = 13.0;

/// Of rigs that the list below does not name.
const OTHER_COLOUR: &str = "#7b4b94";

/// A rig has one colour wherever it is shown.
const COLOURS: [(&str, &str); 10] = [
    (NETD, "#0b7a75"),
    (IPTABLES, "#c8553d"),
    (LEGACY, "#8a3324"),
    (NFTABLES, "#d9a441"),
    (BRIDGE, "#5b6c8f"),
    (DOCKER, "#2b7fc2"),
    (VETH, "#8e9aaf"),
    (LOOPBACK, "#b0b0b0"),
    (TC_DROP, "#b0b0b0"),
    (XDP_DROP, "#cfcfcf"),
];

/// A bar with its quartiles.
pub(super) struct Bar {
    /// Label.
    pub(super) label: String,
    /// Length.
    pub(super) value: f64,
    /// First quartile.
    pub(super) low: f64,
    /// Third quartile.
    pub(super) high: f64,
}

/// A line of points by size.
pub(super) struct Line {
    /// Label.
    pub(super) label: String,
    /// Size and value.
    pub(super) points: Vec<(u64, f64)>,
}

/// Horizontal bars from zero.
pub(super) fn bars(bars: &[Bar]) -> String {
    let largest = bars.iter().map(|bar| bar.high.max(bar.value)).fold(f64::MIN_POSITIVE, f64::max);
    let room = WIDTH - LABEL_WIDTH - VALUE_WIDTH;
    let mut svg = open(BAR_HEIGHT * real_len(bars.len()));
    for (row, bar) in bars.iter().enumerate() {
        let top = BAR_HEIGHT * real_len(row);
        let middle = top + BAR_HEIGHT / 2.0;
        let at = |value: f64| LABEL_WIDTH + room * value / largest;
        let (label, value) = (escape(&bar.label), short(bar.value));
        text(&mut svg, (LABEL_WIDTH - 6.0, middle + 4.0), "end", &label);
        let (width, colour) = (at(bar.value) - LABEL_WIDTH, colour(&bar.label));
        let height = BAR_HEIGHT - 5.0;
        write!(svg, r#"<rect x="{LABEL_WIDTH}" y="{:.1}" width="{width:.1}" height="{height}" fill="{colour}"/>"#, top + 2.0).ok();
        let (low, high) = (at(bar.low), at(bar.high));
        segment(&mut svg, (low, middle), (high, middle), "#222");
        text(&mut svg, (high.max(at(bar.value)) + 6.0, middle + 4.0), "start", &value);
    }
    svg + "</svg>"
}

/// Lines over size, both axes logarithmic.
pub(super) fn lines(lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| line.points.iter());
    let sizes: Vec<f64> = points().map(|(size, _)| real(*size).max(1.0).log10()).collect();
    let values: Vec<f64> = points().map(|(_, value)| value.max(1e-9).log10()).collect();
    let across = Axis::over(&sizes, LABEL_WIDTH, WIDTH - VALUE_WIDTH - 60.0);
    let up = Axis::over(&values, PLOT_HEIGHT - 30.0, 12.0);
    let mut svg = open(PLOT_HEIGHT);
    for value in gridlines(10_f64.powf(up.least), 10_f64.powf(up.most)) {
        let y = up.place(value.log10());
        segment(&mut svg, (LABEL_WIDTH - 4.0, y), (across.to, y), GRID);
        text(&mut svg, (LABEL_WIDTH - 10.0, y + 4.0), "end", &short(value));
    }
    for line in lines {
        draw(&mut svg, line, (&across, &up));
    }
    labels(&mut svg, lines, (&across, &up));
    sizes_below(&mut svg, lines, &across);
    svg + "</svg>"
}

/// The sizes below their points, as many as have room.
fn sizes_below(svg: &mut String, lines: &[Line], across: &Axis) {
    let mut ticks: Vec<u64> =
        lines.iter().flat_map(|line| line.points.iter()).map(|(size, _)| *size).collect();
    ticks.sort_unstable();
    ticks.dedup();
    let mut taken = f64::INFINITY;
    for tick in ticks.into_iter().rev() {
        let x = across.place(real(tick).max(1.0).log10());
        if taken - x > TICK_WIDTH {
            text(svg, (x, PLOT_HEIGHT - 8.0), "middle", &tick.to_string());
            taken = x;
        }
    }
}

/// The round values (1, 2 and 5 times a power of ten) within a range, or else its ends.
fn gridlines(least: f64, most: f64) -> Vec<f64> {
    let round = (-9..=9).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)));
    let inside: Vec<f64> =
        round.filter(|value| (least * 0.999..=most * 1.001).contains(value)).collect();
    if inside.len() < 2 { vec![least, most] } else { inside }
}

/// Each line's name and last value at its end, pushed apart where they would overlap.
fn labels(svg: &mut String, lines: &[Line], (across, up): (&Axis, &Axis)) {
    let mut places: Vec<(f64, &Line, (u64, f64))> = lines
        .iter()
        .filter_map(|line| line.points.last().map(|last| (line, *last)))
        .map(|(line, last)| (up.place(last.1.max(1e-9).log10()), line, last))
        .collect();
    places.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut least = f64::NEG_INFINITY;
    for (y, line, (size, value)) in places {
        let y = y.max(least + LABEL_HEIGHT);
        least = y;
        let label = format!("{} {}", escape(&line.label), short(value));
        let end = across.place(real(size).max(1.0).log10());
        let (x, colour) = (end + 8.0, colour(&line.label));
        write!(svg, r#"<text x="{x:.1}" y="{:.1}" fill="{colour}">{label}</text>"#, y + 4.0).ok();
    }
}

/// Text that markup can hold.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

struct Axis {
    least: f64,
    most: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn over(values: &[f64], from: f64, to: f64) -> Self {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Self { least, most, from, to }
    }

    fn place(&self, value: f64) -> f64 {
        let range = self.most - self.least;
        let part = if range > 0.0 { (value - self.least) / range } else { 0.5 };
        self.from + (self.to - self.from) * part
    }
}

fn draw(svg: &mut String, line: &Line, (across, up): (&Axis, &Axis)) {
    let colour = colour(&line.label);
    let mut before: Option<(f64, f64)> = None;
    for (size, value) in &line.points {
        let point = (across.place(real(*size).max(1.0).log10()), up.place(value.max(1e-9).log10()));
        let (x, y) = point;
        write!(svg, r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{colour}"/>"#).ok();
        if let Some(before) = before {
            segment(svg, before, point, colour);
        }
        before = Some(point);
    }
}

fn open(height: f64) -> String {
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="11">"#
    )
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    write!(svg, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#).ok();
}

fn segment(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str) {
    let (x1, y1, x2, y2) = (from.0, from.1, to.0, to.1);
    write!(
        svg,
        r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="{colour}" stroke-width="1.5"/>"#
    )
    .ok();
}

fn colour(rig: &str) -> &'static str {
    COLOURS.iter().find(|(name, _)| *name == rig).map_or(OTHER_COLOUR, |(_, colour)| colour)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_fills_the_room_and_labels_are_escaped() {
        let bar =
            |label: &str, value| Bar { label: label.to_owned(), value, low: value, high: value };
        let svg = bars(&[bar("a<b", 10.0), bar("c", 5.0)]);
        assert!(svg.contains("a&lt;b") && svg.contains(r#"width="400.0""#), "{svg}");
        assert!(svg.contains(r#"width="200.0""#), "{svg}");
    }

    #[test]
    fn gridlines_are_round_values_within_the_plot() {
        assert_eq!(gridlines(90.0, 600.0), [100.0, 200.0, 500.0]);
        assert_eq!(gridlines(310.0, 320.0), [310.0, 320.0]);
    }

    #[test]
    fn labels_of_equal_lines_do_not_overlap() {
        let line = |label: &str| Line { label: label.to_owned(), points: vec![(1, 5.0), (9, 5.0)] };
        let svg = lines(&[line("netd"), line("iptables")]);
        let places = |rig: &str| {
            let text = svg.split("<text").find(|text| text.contains(rig)).unwrap_or_default();
            text.split("y=\"").nth(1).and_then(|rest| rest.split('"').next()?.parse::<f64>().ok())
        };
        let (one, other) = (places(">netd "), places(">iptables "));
        assert!((one.unwrap_or_default() - other.unwrap_or_default()).abs() >= LABEL_HEIGHT);
    }

    #[test]
    fn a_line_that_ends_early_has_its_label_there() {
        let line = |label: &str, last| Line {
            label: label.to_owned(),
            points: vec![(1, 5.0), (last, 9.0)],
        };
        let svg = lines(&[line("netd", 10_000), line("docker", 100)]);
        let end = |rig: &str| {
            let text = svg.split("<text").find(|text| text.contains(rig)).unwrap_or_default();
            text.split("x=\"").nth(1).and_then(|rest| rest.split('"').next()?.parse::<f64>().ok())
        };
        assert!(end(">docker ") < end(">netd "), "{svg}");
    }

    #[test]
    fn one_point_makes_a_plot() {
        let line = Line { label: "netd".to_owned(), points: vec![(1, 5.0)] };
        assert!(!lines(&[line]).contains("NaN"));
    }
}
