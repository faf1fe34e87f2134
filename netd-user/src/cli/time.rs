//! Times and names as lists show and sort them.

use std::cmp::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

/// RFC 3339 in UTC, as Docker's `CreatedAt` writes it.
pub(super) fn created_at(rfc3339: &str) -> String {
    format!("{} +0000 UTC", rfc3339.trim_end_matches('Z').replacen('T', " ", 1))
}

/// Seconds from a time in RFC 3339, UTC, until now; none for other text.
pub(super) fn seconds_since(rfc3339: &str) -> Option<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    Some(now.saturating_sub(unix_seconds(rfc3339)?))
}

fn unix_seconds(rfc3339: &str) -> Option<u64> {
    let number = |from: usize, to: usize| rfc3339.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    // Days from the civil calendar; a year begins in March so that the leap day is its last.
    let (year, month) =
        if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day;
    let since_epoch = days.checked_sub(719_469)?;
    Some(since_epoch * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// A span as Docker tells it: `About a minute`, `3 days`.
pub(super) fn human(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1_800) / 3_600);
    match (seconds, minutes, hours) {
        (0, _, _) => "Less than a second".into(),
        (1, _, _) => "1 second".into(),
        (2..60, _, _) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".into(),
        (_, ..60, _) => format!("{minutes} minutes"),
        (_, _, ..=1) => "About an hour".into(),
        (_, _, ..48) => format!("{hours} hours"),
        (_, _, ..336) => format!("{} days", hours / 24),
        (_, _, ..1_440) => format!("{} weeks", hours / 24 / 7),
        (_, _, ..17_520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// Order in which `net2` comes before `net10`.
pub(super) fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    while !a.is_empty() && !b.is_empty() {
        let ((a_head, a_rest), (b_head, b_rest)) = (chunk(a), chunk(b));
        let order = match (number(a_head), number(b_head)) {
            (Some(x), Some(y)) => x.cmp(&y).then(a_head.len().cmp(&b_head.len())),
            _ => a_head.cmp(b_head),
        };
        if order.is_ne() {
            return order;
        }
        (a, b) = (a_rest, b_rest);
    }
    a.len().cmp(&b.len())
}

fn chunk(text: &str) -> (&str, &str) {
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len());
    text.split_at(end)
}

fn number(text: &str) -> Option<u128> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_shown() {
        assert_eq!(unix_seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(unix_seconds("2000-02-29T12:30:01.5Z"), Some(951_827_401));
        assert_eq!(unix_seconds("2026-11-21T18:44:26Z"), Some(1_795_286_666));
        assert_eq!(unix_seconds("yesterday"), None);
        assert_eq!(created_at("2026-11-21T18:44:26.5Z"), "2026-11-21 18:44:26.5 +0000 UTC");
    }

    #[test]
    fn spans_are_told_as_docker_does() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (150, "2 minutes"),
            (3_600, "About an hour"),
            (7_200, "2 hours"),
            (3 * 86_400, "3 days"),
            (21 * 86_400, "3 weeks"),
            (90 * 86_400, "3 months"),
            (800 * 86_400, "2 years"),
        ] {
            assert_eq!(human(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn numbers_in_names_sort_by_value() {
        let mut names = ["net10", "net2", "a", "net", "net02", "b1c3", "b1c20"];
        names.sort_by(|a, b| natural_order(a, b));
        assert_eq!(names, ["a", "b1c3", "b1c20", "net", "net2", "net02", "net10"]);
    }
}
