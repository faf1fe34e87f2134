//! Plots as SVG text: bars with quartiles, and lines over size on logarithmic axes.

use std::fmt::Write as _;

use crate::units::{real, real_len, short};

const WIDTH: f64 = 560.0;
const LABEL_WIDTH: f64 = 90.0;
const VALUE_WIDTH: f64 = 70.0;
const BAR_HEIGHT: f64 = 18.0;
const PLOT_HEIGHT: f64 = 240.0;

const COLOURS: [&str; 7] =
    ["#0b7a75", "#c8553d", "#d9a441", "#5b6c8f", "#8e8e8e", "#b8b8b8", "#7b4b94"];

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
        let (width, colour) = (at(bar.value) - LABEL_WIDTH, colour(row));
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
    let up = Axis::over(&values, PLOT_HEIGHT - 24.0, 10.0);
    let mut svg = open(PLOT_HEIGHT);
    for (row, line) in lines.iter().enumerate() {
        draw(&mut svg, line, colour(row), (&across, &up));
    }
    let mut ticks: Vec<u64> = points().map(|(size, _)| *size).collect();
    ticks.sort_unstable();
    ticks.dedup();
    for tick in ticks {
        let x = across.place(real(tick).max(1.0).log10());
        text(&mut svg, (x, PLOT_HEIGHT - 6.0), "middle", &tick.to_string());
    }
    for end in [up.least, up.most] {
        text(&mut svg, (LABEL_WIDTH - 10.0, up.place(end) + 4.0), "end", &short(10_f64.powf(end)));
    }
    svg + "</svg>"
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

fn draw(svg: &mut String, line: &Line, colour: &str, (across, up): (&Axis, &Axis)) {
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
    let (Some((x, y)), Some((_, value))) = (before, line.points.last()) else { return };
    text(svg, (x + 8.0, y + 4.0), "start", &format!("{} {}", escape(&line.label), short(*value)));
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

fn colour(row: usize) -> &'static str {
    COLOURS[row % COLOURS.len()]
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
    fn one_point_makes_a_plot() {
        let line = Line { label: "netd".to_owned(), points: vec![(1, 5.0)] };
        assert!(!lines(&[line]).contains("NaN"));
    }
}
