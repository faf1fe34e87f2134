//! Leases: pools that an engine has asked for on their own, with the addresses taken from them.
//!
//! Law: a pool's id says all that it was asked for with, so one that is told after a loss of memory
//! is understood.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::model::pool::{masked, parse_prefix};

/// A pool granted on its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its id.
    pub id: PoolId,
    /// Addresses taken, and when: Unix time, nanoseconds.
    pub addresses: BTreeMap<IpAddr, i64>,
}

/// A pool's id: `space/prefix` or `space/prefix/range`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PoolId {
    /// Name of the address space.
    pub space: String,
    /// The prefix.
    pub subnet: IpNetwork,
    /// The part that addresses are taken from.
    pub range: Option<IpNetwork>,
}

/// Text that is no pool's id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no pool of netd: SPACE/PREFIX or SPACE/PREFIX/RANGE is needed")]
pub struct InvalidPoolId(String);

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.space, self.subnet)?;
        self.range.map_or(Ok(()), |range| write!(f, "/{range}"))
    }
}

impl FromStr for PoolId {
    type Err = InvalidPoolId;

    fn from_str(text: &str) -> Result<Self, InvalidPoolId> {
        parse(text).ok_or_else(|| InvalidPoolId(text.to_owned()))
    }
}

impl From<PoolId> for String {
    fn from(id: PoolId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for PoolId {
    type Error = InvalidPoolId;

    fn try_from(text: String) -> Result<Self, InvalidPoolId> {
        text.parse()
    }
}

fn parse(text: &str) -> Option<PoolId> {
    let (space, rest) = text.split_once('/').filter(|(space, _)| !space.is_empty())?;
    let second = rest.match_indices('/').nth(1).map(|(at, _)| at);
    let (subnet, range) = match second {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    let prefix = |text: &str| parse_prefix(text).filter(|prefix| *prefix == masked(*prefix));
    let range = match range {
        Some(text) => Some(prefix(text)?),
        None => None,
    };
    Some(PoolId { space: space.to_owned(), subnet: prefix(subnet)?, range })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text() {
        for text in [
            "netdLocal/10.1.0.0/24",
            "netdLocal/10.1.0.0/24/10.1.0.128/25",
            "g/fd00::/64/fd00::/80",
        ] {
            assert_eq!(text.parse::<PoolId>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "x", "/10.1.0.0/24", "x/10.1.0.1/24", "x/10.1.0.0", "x/10.1.0.0/24/y"] {
            assert!(text.parse::<PoolId>().is_err(), "{text}");
        }
    }
}
