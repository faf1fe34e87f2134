//! What `/etc/hosts` and `/etc/resolv.conf` say inside a sandbox, in Docker's form.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::api::SandboxInspect;

/// Where systemd-resolved lists the servers behind its stub on loopback.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

const LOCALHOST: &str = "127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
";

/// The localhost lines, and the sandbox's own addresses with its host name.
pub(super) fn hosts(sandbox: &SandboxInspect) -> String {
    let mut text = LOCALHOST.to_owned();
    for endpoint in sandbox.networks.values() {
        for address in [&endpoint.ip_address, &endpoint.global_ipv6_address] {
            if !address.is_empty() {
                let _ = writeln!(text, "{address}\t{}", sandbox.hostname);
            }
        }
    }
    text
}

/// A resolver's configuration; what is empty is taken from the host's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Resolver {
    /// `--dns`.
    pub(super) servers: Vec<String>,
    /// `--dns-search`; a lone `.` means none.
    pub(super) search: Vec<String>,
    /// `--dns-option`.
    pub(super) options: Vec<String>,
}

impl Resolver {
    /// What was asked for, and `default` for what was not.
    pub(super) fn or(self, default: Self) -> Self {
        let pick = |asked: Vec<String>, default| if asked.is_empty() { default } else { asked };
        Self {
            servers: pick(self.servers, default.servers),
            search: pick(self.search, default.search),
            options: pick(self.options, default.options),
        }
    }

    /// Completes what was asked for by what the host has, as far as a sandbox can use it.
    pub(super) fn completed(mut self, host: &Self) -> Self {
        if self.servers.is_empty() {
            self.servers = host.servers.iter().filter(|text| is_remote(text)).cloned().collect();
        }
        if self.search.is_empty() {
            self.search.clone_from(&host.search);
        }
        if self.options.is_empty() {
            self.options.clone_from(&host.options);
        }
        self.search.retain(|domain| domain != ".");
        self
    }

    /// The same where netd answers at `resolver`: it knows the servers, and names without a dot are
    /// looked up as they stand, as with Docker.
    pub(super) fn asking(self, resolver: &str, host: &Self) -> Self {
        let mut asking = Self { servers: vec![resolver.to_owned()], ..self }.completed(host);
        if !asking.options.iter().any(|option| option.starts_with("ndots:")) {
            asking.options.push("ndots:0".to_owned());
        }
        asking
    }

    /// What the host uses.
    pub(super) fn of_host() -> Self {
        let read = |path| Self::parse(&std::fs::read_to_string(path).unwrap_or_default());
        let own = read("/etc/resolv.conf");
        if own.servers.iter().any(|server| is_remote(server)) {
            return own;
        }
        Self { servers: read(RESOLVED).servers, ..own }
    }

    fn parse(text: &str) -> Self {
        let mut resolver = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let keyword = words.next().unwrap_or_default();
            let values = words.map(ToOwned::to_owned);
            match keyword {
                "nameserver" => resolver.servers.extend(values.take(1)),
                "search" | "domain" => resolver.search = values.collect(),
                "options" => resolver.options.extend(values),
                _ => {}
            }
        }
        resolver
    }

    /// The file.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for server in &self.servers {
            let _ = writeln!(text, "nameserver {server}");
        }
        for (keyword, values) in [("search", &self.search), ("options", &self.options)] {
            if !values.is_empty() {
                let _ = writeln!(text, "{keyword} {}", values.join(" "));
            }
        }
        text
    }
}

/// Whether a name server can be reached from another network namespace.
fn is_remote(server: &str) -> bool {
    server.parse::<IpAddr>().is_ok_and(|address| !address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::EndpointInspect;

    #[test]
    fn hosts_names_the_sandboxs_own_addresses() {
        let endpoint = EndpointInspect {
            ip_address: "172.18.0.2".into(),
            global_ipv6_address: "fd00::2".into(),
            ..EndpointInspect::default()
        };
        let sandbox = SandboxInspect {
            hostname: "web".into(),
            networks: [("front".to_owned(), endpoint)].into(),
            ..SandboxInspect::default()
        };
        assert!(hosts(&sandbox).starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost "));
        assert!(hosts(&sandbox).ends_with("ip6-allrouters\n172.18.0.2\tweb\nfd00::2\tweb\n"));
    }

    #[test]
    fn the_hosts_resolver_fills_what_was_not_asked_for() {
        let host = Resolver::parse(
            "# x\nnameserver 127.0.0.53\nnameserver 10.0.0.1\nsearch a b\noptions ndots:2 edns0\n",
        );
        assert_eq!(
            Resolver::default().completed(&host).text(),
            "nameserver 10.0.0.1\nsearch a b\noptions ndots:2 edns0\n"
        );
        let asked = Resolver {
            servers: vec!["127.0.0.1".into()],
            search: vec![".".into()],
            options: vec!["ndots:0".into()],
        };
        assert_eq!(asked.completed(&host).text(), "nameserver 127.0.0.1\noptions ndots:0\n");
    }
}
