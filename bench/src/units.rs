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

/// The day of a Unix time, in UTC.
pub(crate) fn date(unix_s: u64) -> String {
    let mut days = unix_s / 86_400;
    let mut year = 1970;
    while days >= days_in(year, 1..=12) {
        days -= days_in(year, 1..=12);
        year += 1;
    }
    let mut month = 1;
    while days >= days_in(year, month..=month) {
        days -= days_in(year, month..=month);
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", days + 1)
}

fn days_in(year: u64, months: std::ops::RangeInclusive<u64>) -> u64 {
    let leaps = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = |month| match month {
        2 => 28 + u64::from(leaps),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    months.map(days).sum()
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

    #[test]
    fn dates_know_leap_years() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(951_782_400), "2000-02-29");
        assert_eq!(date(1_767_225_599), "2025-12-31");
    }
}
