//! `--add-host`: a line that a user adds to a sandbox's hosts file.
//!
//! Law: what it says is one name and one address, so that no text of a user makes a second line.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::refusal::Refusal;

/// Docker's word for the host's own address.
const GATEWAY: &str = "host-gateway";

/// A name and where it leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtraHost {
    /// The name.
    pub name: String,
    /// Where it leads.
    pub target: HostTarget,
}

/// Where an added name leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostTarget {
    /// To an address.
    Address(IpAddr),
    /// To the host, by the addresses that `host-gateway` stands for.
    HostGateway,
}

impl ExtraHost {
    /// Reads `NAME:ADDRESS` or `NAME=ADDRESS`; an IPv6 address may stand in brackets.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let wrong =
            || Refusal::invalid(format_args!("bad format for add-host: \"{text}\": NAME:ADDRESS"));
        let split = text.split_once('=').or_else(|| text.split_once(':'));
        let (name, address) = split.ok_or_else(wrong)?;
        let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '#';
        if name.is_empty() || !name.chars().all(plain) {
            return Err(wrong());
        }
        let target = if address == GATEWAY {
            HostTarget::HostGateway
        } else {
            let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            let parsed = bare.unwrap_or(address).parse();
            HostTarget::Address(parsed.map_err(|_| {
                Refusal::invalid(format_args!(
                    "invalid IP address in add-host: \"{address}\": an address or {GATEWAY}"
                ))
            })?)
        };
        Ok(Self { name: name.to_owned(), target })
    }
}

impl std::fmt::Display for ExtraHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.target {
            HostTarget::Address(address) => write!(f, "{}:{address}", self.name),
            HostTarget::HostGateway => write!(f, "{}:{GATEWAY}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_added_host_survives_its_text() {
        for (text, shown) in [
            ("db:10.0.0.1", "db:10.0.0.1"),
            ("db=10.0.0.1", "db:10.0.0.1"),
            ("db:2001:db8::1", "db:2001:db8::1"),
            ("db=[::1]", "db:::1"),
            ("up:host-gateway", "up:host-gateway"),
        ] {
            let host = ExtraHost::parse(text).expect(text);
            assert_eq!(host.to_string(), shown);
            assert_eq!(ExtraHost::parse(shown).expect(shown), host);
        }
    }

    #[test]
    fn what_would_be_no_line_of_a_hosts_file_is_refused_in_dockers_words() {
        for text in ["db", ":10.0.0.1", "a b:10.0.0.1", "a\n1.1.1.1 b:10.0.0.1", "#a:10.0.0.1"] {
            let refusal = ExtraHost::parse(text).expect_err(text).to_string();
            assert!(refusal.starts_with("bad format for add-host: "), "{refusal}");
        }
        for text in ["db:", "db:10.0.0", "db:gateway"] {
            let refusal = ExtraHost::parse(text).expect_err(text).to_string();
            assert!(refusal.starts_with("invalid IP address in add-host: "), "{refusal}");
        }
    }
}
