//! Removing networks: one by name, or all unused ones that match.

use std::collections::{BTreeMap, BTreeSet};

use super::apply::Change;
use super::keeper::Keeper;
use super::network::Network;
use super::refusal::Refusal;
use super::{Model, Outcome};

/// Endpoints named in a refusal; more are counted.
const NAMED_MOST: usize = 10;
const NS_PER_S: i128 = 1_000_000_000;

impl Change<'_> {
    pub(super) fn remove_network(&mut self, wanted: &str) -> Result<Outcome, Refusal> {
        let network = self.model.find_network(wanted)?;
        let (id, name) = (network.id, &network.name);
        if network.predefined {
            return Err(Refusal::forbidden(format_args!(
                "{name} is a pre-defined network and cannot be removed"
            )));
        }
        if let Some(active) = active_endpoints(&self.model, network) {
            return Err(Refusal::forbidden(format_args!(
                "error while removing network: network {name} has active endpoints ({active})"
            )));
        }
        self.drop_network(id);
        Ok(Outcome::Network(id))
    }

    pub(super) fn prune_networks(
        &mut self,
        filters: &BTreeMap<String, BTreeSet<String>>,
    ) -> Result<Outcome, Refusal> {
        let filter = Filter::parse(filters, self.now.now_ns)?;
        let used: BTreeSet<_> = self.model.endpoints.values().map(|end| end.network).collect();
        let mut names = Vec::new();
        self.model.networks.retain(|id, network| {
            let ours = network.keeper == Keeper::Netd && !network.predefined;
            let keep = !ours || used.contains(id) || !filter.matches(network);
            if !keep {
                names.push(network.name.clone());
            }
            keep
        });
        names.sort_unstable();
        Ok(Outcome::Pruned(names))
    }
}

/// The endpoints on a network in Docker's form, or none.
fn active_endpoints(model: &Model, network: &Network) -> Option<String> {
    let mut named: Vec<_> = model
        .endpoints_of_network(network.id)
        .map(|endpoint| {
            let sandbox = endpoint.sandbox.and_then(|id| model.sandboxes.get(&id));
            let name = sandbox.map_or("", |sandbox| sandbox.name.as_str());
            format!("name:\"{name}\" id:\"{}\"", endpoint.id.short())
        })
        .collect();
    named.sort_unstable();
    let more = named.len().saturating_sub(NAMED_MOST);
    named.truncate(NAMED_MOST);
    if more > 0 {
        named.push(format!("and {more} more"));
    }
    (!named.is_empty()).then(|| named.join(", "))
}

/// Docker's prune filters.
struct Filter<'a> {
    with: Vec<(&'a str, Option<&'a str>)>,
    without: Vec<(&'a str, Option<&'a str>)>,
    until_ns: Option<i128>,
}

impl<'a> Filter<'a> {
    fn parse(
        filters: &'a BTreeMap<String, BTreeSet<String>>,
        now_ns: i64,
    ) -> Result<Self, Refusal> {
        let mut filter = Self { with: Vec::new(), without: Vec::new(), until_ns: None };
        for (key, values) in filters {
            match key.as_str() {
                "label" => filter.with = values.iter().map(|value| label(value)).collect(),
                "label!" => filter.without = values.iter().map(|value| label(value)).collect(),
                "until" => filter.until_ns = until(values, now_ns)?,
                other => return Err(Refusal::invalid(format_args!("invalid filter '{other}'"))),
            }
        }
        Ok(filter)
    }

    fn matches(&self, network: &Network) -> bool {
        let has = |(key, value): &(&str, Option<&str>)| {
            let held = network.labels.get(*key);
            held.is_some_and(|held| value.is_none_or(|value| value == held))
        };
        let old = self.until_ns.is_none_or(|until| i128::from(network.created_ns) < until);
        old && self.with.iter().all(has) && !self.without.iter().any(has)
    }
}

fn label(text: &str) -> (&str, Option<&str>) {
    text.split_once('=').map_or((text, None), |(key, value)| (key, Some(value)))
}

fn until(values: &BTreeSet<String>, now_ns: i64) -> Result<Option<i128>, Refusal> {
    let mut values = values.iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(Refusal::invalid("more than one until filter specified")),
        (Some(text), None) => {
            let age = duration_ns(text).map(|age| i128::from(now_ns) - age);
            let time = unix_ns(text).or(age).or_else(|| rfc3339_ns(text));
            time.map(Some).ok_or_else(|| {
                Refusal::invalid(format_args!(
                    "failed to parse until filter \"{text}\": Unix seconds, a duration (24h) or RFC 3339 is needed"
                ))
            })
        }
    }
}

/// Seconds since 1970 with up to nine decimals.
fn unix_ns(text: &str) -> Option<i128> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    Some(i128::from(digits(whole)?) * NS_PER_S + fraction_ns(decimals)?)
}

/// A Go duration: `1h30m`, `90s`, `1.5h`.
fn duration_ns(text: &str) -> Option<i128> {
    let mut rest = text;
    let mut total = 0i128;
    while !rest.is_empty() {
        let amount_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (amount, tail) = rest.split_at(amount_len);
        let unit_len = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_len);
        let unit_ns = match unit {
            "h" => 3_600 * NS_PER_S,
            "m" => 60 * NS_PER_S,
            "s" => NS_PER_S,
            "ms" => 1_000_000,
            "us" => 1_000,
            "ns" => 1,
            _ => return None,
        };
        let (whole, decimals) = amount.split_once('.').unwrap_or((amount, "0"));
        let part = i128::from(digits(whole)?) * unit_ns;
        total += part + fraction_ns(decimals)? * unit_ns / NS_PER_S;
        rest = next;
    }
    (!text.is_empty()).then_some(total)
}

/// `2026-01-31T12:00:00.5+02:00`, the zone needed; the date alone is midnight UTC.
fn rfc3339_ns(text: &str) -> Option<i128> {
    let (date, time) = text.split_once(['T', 't', ' ']).unwrap_or((text, "00:00:00Z"));
    let (clock, offset_s) = split_zone(time)?;
    let mut parts = date.split('-').map(digits);
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let (hms, decimals) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut parts = hms.split(':').map(digits);
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    let sound = year <= 9_999 && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !sound || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let days = days_since_1970(year.cast_signed(), month.cast_signed(), day.cast_signed());
    let clock_s = (hour * 3_600 + minute * 60 + second).cast_signed();
    let seconds = days * 86_400 + clock_s - offset_s;
    Some(i128::from(seconds) * NS_PER_S + fraction_ns(decimals)?)
}

/// The clock and the zone's offset from UTC in seconds.
fn split_zone(time: &str) -> Option<(&str, i64)> {
    if let Some(clock) = time.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let (clock, zone) = time.split_at(time.rfind(['+', '-'])?);
    let (hours, minutes) = zone[1..].split_once(':')?;
    let offset_s = (digits(hours).filter(|h| *h < 24)? * 3_600
        + digits(minutes).filter(|m| *m < 60)? * 60)
        .cast_signed();
    Some((clock, if zone.starts_with('-') { -offset_s } else { offset_s }))
}

/// Days of the Gregorian calendar, counted from March so that leap days come last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn digits(text: &str) -> Option<u64> {
    let plain = (1..=12).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// Decimals of one second, in nanoseconds.
fn fraction_ns(decimals: &str) -> Option<i128> {
    let padded = format!("{decimals:0<9}");
    (decimals.len() <= 9).then(|| digits(&padded)).flatten().map(i128::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_all_three_forms() {
        assert_eq!(unix_ns("1700000000.5"), Some(1_700_000_000_500_000_000));
        assert_eq!(duration_ns("1h30m"), Some(5_400 * NS_PER_S));
        assert_eq!(duration_ns("1.5h"), Some(5_400 * NS_PER_S));
        assert_eq!(rfc3339_ns("1970-01-01T00:00:01Z"), Some(NS_PER_S));
        assert_eq!(rfc3339_ns("2024-02-29T12:00:00+02:00"), Some(1_709_200_800 * NS_PER_S));
        assert_eq!(rfc3339_ns("2023-11-14"), Some(1_699_920_000 * NS_PER_S));
    }

    #[test]
    fn other_text_is_no_time() {
        for text in ["", "h", "1x", "1h30", "yesterday", "2024-13-01", "-5", "1.2.3", "2024-01-01T"]
        {
            let read = unix_ns(text).or(duration_ns(text)).or(rfc3339_ns(text));
            assert_eq!(read, None, "{text}");
        }
    }
}
