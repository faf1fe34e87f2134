//! What `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` say inside a sandbox, in Docker's form.
//!
//! Law: pure; text is made where it is written, and until then files are compared by what they are
//! made of. A sandbox that shares the host's network has only the files that it was asked to have.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use netd_common::map::resolver::RESOLVER_ADDR;

use crate::facts::HostResolver;
use crate::model::sandbox::SandboxMode;
use crate::model::{HostTarget, Keeper, Sandbox};

const LOCALHOST: &str = "127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
";

/// One of a sandbox's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKind {
    /// `/etc/hosts`.
    Hosts,
    /// `/etc/hostname`.
    Hostname,
    /// `/etc/resolv.conf`.
    ResolvConf,
}

impl FileKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Hosts, Self::Hostname, Self::ResolvConf];

    /// Its name in `/etc`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hosts => "hosts",
            Self::Hostname => "hostname",
            Self::ResolvConf => "resolv.conf",
        }
    }

    /// Whether a sandbox has it to itself.
    pub fn is_own_of(self, sandbox: &Sandbox, defaults: &FileDefaults) -> bool {
        match (sandbox.keeper, sandbox.mode, self) {
            (Keeper::Engine, _, _) => false,
            (Keeper::Netd, SandboxMode::Bridged | SandboxMode::None, _) => true,
            (Keeper::Netd, SandboxMode::Host, Self::Hosts) => !sandbox.extra_hosts.is_empty(),
            (Keeper::Netd, SandboxMode::Host, Self::Hostname) => !sandbox.hostname.is_empty(),
            (Keeper::Netd, SandboxMode::Host, Self::ResolvConf) => {
                let asked = [&sandbox.dns, &sandbox.dns_search, &sandbox.dns_options];
                let told = [&defaults.search, &defaults.options];
                !defaults.servers.is_empty()
                    || asked.into_iter().chain(told).any(|it| !it.is_empty())
            }
        }
    }
}

/// What the daemon tells sandboxes that were not told otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileDefaults {
    /// Name servers; empty for the host's.
    pub servers: Vec<IpAddr>,
    /// Search domains; empty for the host's.
    pub search: Vec<String>,
    /// Options of resolv.conf; empty for the host's.
    pub options: Vec<String>,
    /// What `host-gateway` stands for; empty for the predefined bridge's gateways.
    pub host_gateway: Vec<IpAddr>,
}

/// What all sandboxes' files are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSources {
    /// The daemon's, with what `host-gateway` came to.
    pub defaults: FileDefaults,
    /// The host's.
    pub host: HostResolver,
}

/// What the files of one sandbox are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxFiles {
    /// Whose they are.
    pub sandbox: Arc<Sandbox>,
    /// Its own addresses, in the order of its gateways.
    pub addresses: Vec<IpAddr>,
    /// Whether it asks netd for names.
    pub asks_netd: bool,
    /// What others are made of, too.
    pub sources: Arc<FileSources>,
}

impl SandboxFiles {
    /// The files that it has.
    pub fn kinds(&self) -> impl Iterator<Item = FileKind> {
        let own = |kind: &FileKind| kind.is_own_of(&self.sandbox, &self.sources.defaults);
        FileKind::ALL.into_iter().filter(own)
    }

    /// What a file says; `host_hosts` is the host's own hosts file.
    pub fn text(&self, kind: FileKind, host_hosts: &str) -> String {
        match kind {
            FileKind::Hosts => self.hosts(host_hosts),
            FileKind::Hostname => format!("{}\n", self.sandbox.hostname),
            FileKind::ResolvConf => self.resolv_conf(),
        }
    }

    /// The localhost lines or the host's, what the user adds, and its own addresses with its name.
    fn hosts(&self, host_hosts: &str) -> String {
        let shares_host = self.sandbox.mode == SandboxMode::Host;
        let mut text = if shares_host { host_hosts.to_owned() } else { LOCALHOST.to_owned() };
        if !text.ends_with('\n') {
            text.push('\n');
        }
        for host in &self.sandbox.extra_hosts {
            match host.target {
                HostTarget::Address(address) => line(&mut text, address, &host.name),
                HostTarget::HostGateway => {
                    for address in &self.sources.defaults.host_gateway {
                        line(&mut text, *address, &host.name);
                    }
                }
            }
        }
        for address in &self.addresses {
            line(&mut text, *address, &own_names(&self.sandbox.hostname));
        }
        text
    }

    fn resolv_conf(&self) -> String {
        let FileSources { defaults, host } = &*self.sources;
        let servers = self.servers();
        let search = first_of([&self.sandbox.dns_search, &defaults.search, &host.search]);
        let search: Vec<&str> = search.filter(|domain| *domain != ".").collect();
        let options = first_of([&self.sandbox.dns_options, &defaults.options, &host.options]);
        let mut options: Vec<&str> = options.collect();
        // Names without a dot are looked up as they stand, as with Docker.
        if self.asks_netd && !options.iter().any(|option| option.starts_with("ndots:")) {
            options.push("ndots:0");
        }
        let mut text =
            "# Written by netd; once it is edited, netd leaves it as it is.\n".to_owned();
        for server in servers {
            let _ = writeln!(text, "nameserver {server}");
        }
        for (keyword, values) in [("search", search), ("options", options)] {
            if !values.is_empty() {
                let _ = writeln!(text, "{keyword} {}", values.join(" "));
            }
        }
        text
    }

    fn servers(&self) -> Vec<String> {
        let FileSources { defaults, host } = &*self.sources;
        if self.asks_netd {
            return vec![Ipv4Addr::from(RESOLVER_ADDR).to_string()];
        }
        if !self.sandbox.dns.is_empty() {
            return self.sandbox.dns.clone();
        }
        let others =
            if self.sandbox.mode == SandboxMode::Host { &host.servers } else { &host.remote };
        let known = if defaults.servers.is_empty() { others } else { &defaults.servers };
        known.iter().map(ToString::to_string).collect()
    }
}

fn line(text: &mut String, address: IpAddr, names: &str) {
    let _ = writeln!(text, "{address}\t{names}");
}

/// A full name is found by its first label, too.
fn own_names(hostname: &str) -> String {
    match hostname.split_once('.') {
        Some((first, _)) => format!("{hostname} {first}"),
        None => hostname.to_owned(),
    }
}

/// The first that is not empty.
fn first_of(lists: [&Vec<String>; 3]) -> impl Iterator<Item = &str> {
    let chosen = lists.into_iter().find(|list| !list.is_empty());
    chosen.into_iter().flatten().map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ExtraHost;

    fn sandbox(change: impl FnOnce(&mut Sandbox)) -> SandboxFiles {
        let mut world = crate::compile::tests::world::World::default();
        world.sandbox(1, "web", &[]);
        let mut sandbox = Sandbox::clone(world.model.sandboxes.values().next().expect("one"));
        sandbox.mode = SandboxMode::Bridged;
        change(&mut sandbox);
        let host = HostResolver {
            servers: vec!["127.0.0.53".parse().expect("address")],
            remote: vec!["10.0.0.1".parse().expect("address")],
            search: vec!["a".into(), "b".into()],
            options: vec!["ndots:2".into(), "edns0".into()],
        };
        let defaults = FileDefaults {
            host_gateway: vec!["172.17.0.1".parse().expect("address")],
            ..FileDefaults::default()
        };
        SandboxFiles {
            sandbox: Arc::new(sandbox),
            addresses: vec!["172.18.0.2".parse().expect("v4"), "fd00::2".parse().expect("v6")],
            asks_netd: false,
            sources: Arc::new(FileSources { defaults, host }),
        }
    }

    /// A file without its comments.
    fn said(files: &SandboxFiles, kind: FileKind) -> String {
        let text = files.text(kind, "192.0.2.1 host\n");
        text.split_inclusive('\n').filter(|line| !line.starts_with('#')).collect()
    }

    #[test]
    fn hosts_names_the_sandboxs_own_addresses_and_what_the_user_adds() {
        let files = sandbox(|it| {
            it.hostname = "web.example".into();
            for text in ["db:10.9.9.9", "up:host-gateway"] {
                it.extra_hosts.push(ExtraHost::parse(text).expect("extra host"));
            }
        });
        let text = said(&files, FileKind::Hosts);
        assert!(text.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost "), "{text}");
        let own = "ip6-allrouters\n10.9.9.9\tdb\n172.17.0.1\tup\n172.18.0.2\tweb.example web\n\
                   fd00::2\tweb.example web\n";
        assert!(text.ends_with(own), "{text}");
    }

    #[test]
    fn what_was_not_asked_for_is_the_daemons_and_then_the_hosts() {
        let files = sandbox(|_| {});
        let of_host = "nameserver 10.0.0.1\nsearch a b\noptions ndots:2 edns0\n";
        assert_eq!(said(&files, FileKind::ResolvConf), of_host);
        let mut told = files.clone();
        let sources = Arc::make_mut(&mut told.sources);
        sources.defaults.servers = vec!["10.0.0.2".parse().expect("address")];
        sources.defaults.search = vec!["corp".into()];
        let of_daemon = "nameserver 10.0.0.2\nsearch corp\noptions ndots:2 edns0\n";
        assert_eq!(said(&told, FileKind::ResolvConf), of_daemon);
        let mut asked = told.clone();
        let sandbox = Arc::make_mut(&mut asked.sandbox);
        sandbox.dns = vec!["127.0.0.1".into()];
        sandbox.dns_search = vec![".".into()];
        sandbox.dns_options = vec!["rotate".into()];
        assert_eq!(said(&asked, FileKind::ResolvConf), "nameserver 127.0.0.1\noptions rotate\n");
    }

    #[test]
    fn who_asks_netd_is_told_so_and_looks_names_up_as_they_stand() {
        let mut files =
            SandboxFiles { asks_netd: true, ..sandbox(|it| it.dns.push("9.9.9.9".into())) };
        let text = "nameserver 127.0.0.11\nsearch a b\noptions ndots:2 edns0\n";
        assert_eq!(said(&files, FileKind::ResolvConf), text, "the host's own ndots stays");
        Arc::make_mut(&mut files.sources).host = HostResolver::default();
        let text = "nameserver 127.0.0.11\noptions ndots:0\n";
        assert_eq!(said(&files, FileKind::ResolvConf), text);
    }

    #[test]
    fn on_the_hosts_network_only_what_was_asked_for_is_a_file_of_its_own() {
        let plain = sandbox(|it| (it.mode, it.hostname) = (SandboxMode::Host, String::new()));
        assert_eq!(plain.kinds().count(), 0);
        let asked = sandbox(|it| {
            it.mode = SandboxMode::Host;
            it.extra_hosts.push(ExtraHost::parse("db:10.9.9.9").expect("extra host"));
            it.dns_search.push("corp".into());
        });
        let asked = SandboxFiles { addresses: Vec::new(), ..asked };
        assert_eq!(asked.kinds().collect::<Vec<_>>(), FileKind::ALL);
        assert_eq!(said(&asked, FileKind::Hosts), "192.0.2.1 host\n10.9.9.9\tdb\n");
        let conf = "nameserver 127.0.0.53\nsearch corp\noptions ndots:2 edns0\n";
        assert_eq!(said(&asked, FileKind::ResolvConf), conf);
    }
}
