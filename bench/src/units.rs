//! Conversions between counts, durations and reals: the only place that casts numbers.
//!
//! Law: a cast here may round, never wrap: reals hold every count below 2^53 exactly.

use std::time::Duration;

/// A count as a real.
#[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub(crate) fn real(count: u64) -> f64 {
    count as f64
}

/// A number of items as a real.
pub(crate) fn real_len(len: usize) -> f64 {
    real(u64::try_from(len).unwrap_or(u64::MAX))
}

/// A real as an index, at least 0.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and an index is bounded by its caller"
)]
pub(crate) fn index(value: f64) -> usize {
    value.max(0.0) as usize
}

/// Nanoseconds of a duration.
pub(crate) fn nanoseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e9
}

/// A number in at most four significant digits, for people.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1e7 => format!("{:.1}M", value / 1e6),
        size if size >= 1e4 => format!("{:.1}k", value / 1e3),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.2e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people_are_short() {
        let shown: Vec<String> =
            [157_812.0, 1_340.4, 43.26, 0.5, 0.0].iter().map(|value| short(*value)).collect();
        assert_eq!(shown, ["157.8k", "1340", "43.3", "0.50", "0.00"]);
    }
}
