//! Moments as users read them: RFC 3339, UTC, nanoseconds.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

const NS_PER_SECOND: i128 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
/// Days from 0000-03-01 to 1970-01-01 in the proleptic Gregorian calendar.
const EPOCH_DAYS: i64 = 719_468;
/// Days of the 400 years after which the calendar repeats.
const ERA_DAYS: i64 = 146_097;

/// Unix time in nanoseconds as `2026-11-21T18:44:23.000000001Z`.
pub fn rfc3339(unix_ns: i64) -> String {
    let (seconds, ns) = (unix_ns.div_euclid(1_000_000_000), unix_ns.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(SECONDS_PER_DAY), seconds.rem_euclid(SECONDS_PER_DAY));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ns:09}Z")
}

/// Year, month and day of a day since 1970-01-01. Years begin in March here, so that the leap day is
/// the last of its year and months have a linear rule: 153 days in each five from March on.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + EPOCH_DAYS;
    let (era, day_of_era) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
    let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

/// What turns the kernel's monotonic time into Unix time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    unix_minus_monotonic_ns: i128,
}

impl Clock {
    /// The clocks as they stand now.
    pub fn now() -> nix::Result<Self> {
        let monotonic = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
        let unix = Duration::from(clock_gettime(ClockId::CLOCK_REALTIME)?);
        Ok(Self { unix_minus_monotonic_ns: total_ns(unix) - total_ns(monotonic) })
    }

    /// Clocks that differ by this much, for a known outcome.
    pub const fn with_difference(unix_minus_monotonic_ns: i128) -> Self {
        Self { unix_minus_monotonic_ns }
    }

    /// Unix time of a monotonic time, nanoseconds.
    pub fn unix_ns(self, monotonic_ns: u64) -> i64 {
        let unix = i128::from(monotonic_ns) + self.unix_minus_monotonic_ns;
        i64::try_from(unix).unwrap_or(i64::MAX)
    }
}

fn total_ns(duration: Duration) -> i128 {
    i128::from(duration.as_secs()) * NS_PER_SECOND + i128::from(duration.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_read_as_the_calendar_says() {
        let second = |seconds: i64| rfc3339(seconds * 1_000_000_000);
        assert_eq!(second(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(second(951_782_400), "2000-02-29T00:00:00.000000000Z");
        assert_eq!(second(951_868_799), "2000-02-29T23:59:59.000000000Z");
        assert_eq!(second(1_709_164_800), "2024-02-29T00:00:00.000000000Z");
        assert_eq!(second(4_107_542_400), "2100-03-01T00:00:00.000000000Z");
        assert_eq!(second(1_795_286_663), "2026-11-21T18:44:23.000000000Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(rfc3339(1), "1970-01-01T00:00:00.000000001Z");
    }

    #[test]
    fn every_day_of_eight_centuries_follows_the_one_before() {
        let days_of = |year: i64, month: i64| match month {
            2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let mut today = civil(-150_000);
        for day in -149_999..150_000 {
            let (year, month, date) = today;
            let tomorrow = match (month, date) {
                (12, 31) => (year + 1, 1, 1),
                _ if date == days_of(year, month) => (year, month + 1, 1),
                _ => (year, month, date + 1),
            };
            today = civil(day);
            assert_eq!(today, tomorrow, "day {day}");
        }
    }

    #[test]
    fn monotonic_time_becomes_unix_time() {
        let clock = Clock::with_difference(1_000_000_000_000_000_000);
        assert_eq!(clock.unix_ns(5), 1_000_000_000_000_000_005);
        assert!(Clock::now().unwrap().unix_ns(0) > 0);
    }
}
