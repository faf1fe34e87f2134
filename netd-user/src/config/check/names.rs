//! Keys of the name service.

use std::net::IpAddr;

use super::{Checked, Wrong};
use crate::config::DnsDefaults;

/// Some clients ask anew for every connection, others never: short enough not to be felt.
const DEFAULT_DNS_TTL_S: u32 = 5;

/// What sandboxes are told.
pub(super) fn dns(
    servers: Vec<IpAddr>,
    options: Vec<String>,
    search: Vec<String>,
) -> Checked<DnsDefaults> {
    let word = |text: &String| !text.is_empty() && !text.contains(char::is_whitespace);
    if let Some(option) = options.iter().find(|option| !word(option)) {
        return Err(Wrong("dns-opts", format!("'{option}' must be one word")));
    }
    if let Some(domain) = search.iter().find(|domain| !word(domain)) {
        return Err(Wrong("dns-search", format!("'{domain}' must be one word")));
    }
    Ok(DnsDefaults { servers, options, search })
}

/// Docker's own is the longest that makes sense for addresses that change hands.
pub(super) fn ttl(given: Option<u32>) -> Checked<u32> {
    match given.unwrap_or(DEFAULT_DNS_TTL_S) {
        seconds @ 0..=600 => Ok(seconds),
        seconds => Err(Wrong("dns-ttl", format!("{seconds} s is too long: at most 600 s"))),
    }
}
