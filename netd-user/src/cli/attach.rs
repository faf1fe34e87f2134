//! The flags of `netd run` and `netd sandbox create` that say how a sandbox is attached, translated to
//! one request.

use std::net::IpAddr;

use clap::{ArgAction, Args};

use super::error::CliError;
use super::flags::{self, Pair};
use crate::api::{EndpointConfig, SandboxCreate, SandboxNetwork};
use crate::model::ExtraHost;

/// How a sandbox is named and attached.
#[derive(Debug, Default, Args)]
pub(super) struct AttachArgs {
    /// Unique name; one is made where none is given
    #[arg(long)]
    name: Option<String>,
    /// Network by name, id or id prefix; or name=NET[,ip=A][,ip6=A][,alias=N][,mac-address=M]
    /// [,gw-priority=N][,driver-opt=K=V]; repeat for more [default: bridge]
    #[arg(long, visible_alias = "net", value_name = "NETWORK", value_parser = network)]
    network: Vec<SandboxNetwork>,
    /// IPv4 address on the first network
    #[arg(long)]
    ip: Option<String>,
    /// IPv6 address on the first network
    #[arg(long)]
    ip6: Option<String>,
    /// MAC address on the first network
    #[arg(long, value_parser = flags::mac)]
    mac_address: Option<String>,
    /// Name on the first network beside its own
    #[arg(long, visible_alias = "net-alias", value_name = "NAME")]
    network_alias: Vec<String>,
    /// Host name [default: the short id]
    #[arg(short = 'h', long)]
    hostname: Option<String>,
    /// Name server
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    dns: Vec<String>,
    /// Domain that short names are searched in; '.' for none
    #[arg(long, value_name = "DOMAIN", value_parser = flags::word)]
    dns_search: Vec<String>,
    /// Option of the resolver
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION", value_parser = flags::word)]
    dns_option: Vec<String>,
    /// Line of the hosts file: NAME:ADDRESS, or NAME:host-gateway for the host
    #[arg(long, value_name = "NAME:ADDRESS", value_parser = extra_host)]
    add_host: Vec<String>,
    /// Label of the sandbox
    #[arg(short, long, value_name = "KEY[=VALUE]", value_parser = flags::pair)]
    label: Vec<Pair>,
    /// Publish a port: [HOSTIP:][HOSTPORT[-END]:]PORT[-END][/PROTO]
    #[arg(short, long, value_name = "SPEC")]
    publish: Vec<String>,
    /// Publish all exposed ports to random ports
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Expose a port or a range: PORT[-END][/PROTO]
    #[arg(long, value_name = "PORT")]
    expose: Vec<String>,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

impl AttachArgs {
    /// The request, without owner and namespace.
    pub(super) fn creation(&self) -> Result<SandboxCreate, CliError> {
        Ok(SandboxCreate {
            name: self.name.clone(),
            networks: self.networks()?,
            hostname: self.hostname.clone(),
            dns: self.dns.clone(),
            dns_search: self.dns_search.clone(),
            dns_options: self.dns_option.clone(),
            extra_hosts: self.add_host.clone(),
            labels: flags::to_map(&self.label),
            publish: self.publish.clone(),
            publish_all: self.publish_all,
            expose: self.expose.clone(),
            netns: None,
            owner: None,
        })
    }

    fn networks(&self) -> Result<Vec<SandboxNetwork>, CliError> {
        let mut networks = self.network.clone();
        let plain = self.ip.is_none() && self.ip6.is_none() && self.mac_address.is_none();
        if networks.is_empty() && plain && self.network_alias.is_empty() {
            return Ok(networks);
        }
        if networks.is_empty() {
            networks.push(SandboxNetwork { network: "bridge".into(), ..SandboxNetwork::default() });
        }
        if let Some(first) = networks.first_mut() {
            self.complete(first)?;
        }
        Ok(networks)
    }

    fn complete(&self, first: &mut SandboxNetwork) -> Result<(), CliError> {
        let config = &mut first.endpoint_config;
        if !self.network_alias.is_empty() {
            if ["bridge", "default", "host", "none"].contains(&first.network.as_str()) {
                let message = "network-scoped aliases are only supported for user-defined networks";
                return Err(CliError::Refused(message.into()));
            }
            if !config.aliases.is_empty() {
                return both("--network-alias", "alias");
            }
            config.aliases.clone_from(&self.network_alias);
        }
        merge(&mut config.ipv4_address, self.ip.as_ref(), "--ip", "IPv4 address")?;
        merge(&mut config.ipv6_address, self.ip6.as_ref(), "--ip6", "IPv6 address")?;
        merge(&mut config.mac_address, self.mac_address.as_ref(), "--mac-address", "MAC address")
    }
}

fn merge(
    own: &mut Option<String>,
    flag: Option<&String>,
    name: &str,
    what: &str,
) -> Result<(), CliError> {
    match flag {
        Some(_) if own.is_some() => both(name, what),
        Some(value) => {
            *own = Some(value.clone());
            Ok(())
        }
        None => Ok(()),
    }
}

fn both<T>(flag: &str, what: &str) -> Result<T, CliError> {
    Err(CliError::Refused(format!(
        "conflicting options: cannot specify both {flag} and per-network {what}"
    )))
}

fn address(text: &str) -> Result<String, String> {
    text.parse::<IpAddr>()
        .map(|address| address.to_string())
        .map_err(|_| format!("{text} is not an IP address"))
}

fn extra_host(text: &str) -> Result<String, String> {
    ExtraHost::parse(text).map(|host| host.to_string()).map_err(|refusal| refusal.to_string())
}

/// `NETWORK`, or `name=NETWORK,KEY=VALUE,...`.
fn network(text: &str) -> Result<SandboxNetwork, String> {
    let mut network = SandboxNetwork::default();
    if !text.contains('=') {
        text.clone_into(&mut network.network);
        return required(network);
    }
    for field in text.split(',') {
        let (key, value) = field.split_once('=').ok_or_else(|| format!("invalid field {field}"))?;
        let (key, value) = (key.trim().to_lowercase(), value.trim().to_owned());
        if key == "name" {
            network.network = value;
        } else {
            set(&mut network.endpoint_config, &key, value)?;
        }
    }
    required(network)
}

fn required(network: SandboxNetwork) -> Result<SandboxNetwork, String> {
    if network.network.is_empty() {
        return Err("network name/id is not specified".into());
    }
    Ok(network)
}

fn set(config: &mut EndpointConfig, key: &str, value: String) -> Result<(), String> {
    match key {
        "ip" => config.ipv4_address = Some(value),
        "ip6" => config.ipv6_address = Some(value),
        "alias" => config.aliases.push(value),
        "mac-address" => config.mac_address = Some(flags::mac(&value)?),
        "gw-priority" => {
            config.gw_priority = value
                .parse()
                .map_err(|_| format!("invalid gw-priority: '{value}' is no number"))?;
        }
        "driver-opt" => {
            let (key, value) =
                value.split_once('=').ok_or("invalid key value pair format in driver options")?;
            config.driver_opts.insert(key.to_owned(), value.to_owned());
        }
        _ => return Err(format!("invalid field key {key}")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    #[command(disable_help_flag = true)]
    struct Line {
        #[command(flatten)]
        attach: AttachArgs,
    }

    fn asked(line: &str) -> Result<SandboxCreate, String> {
        let words = std::iter::once("x").chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        line.attach.creation().map_err(|error| error.to_string())
    }

    #[test]
    fn every_flag_reaches_the_request() {
        let request = asked(
            "--name n --network a --net name=b,ip=10.0.0.9,alias=x,alias=y,gw-priority=-1,\
             driver-opt=k=v --ip 10.1.0.2 --ip6 fd00::2 --mac-address 02:00:00:00:00:01 \
             --network-alias z -h host --dns 1.1.1.1 --dns-search corp --dns-opt rotate \
             --add-host db=10.9.9.9 -l a=b -p 80:80 -P --expose 90",
        )
        .unwrap();
        let expected = serde_json::json!({
            "Name": "n",
            "Networks": [
                {"Network": "a", "EndpointConfig": {
                    "IPv4Address": "10.1.0.2", "IPv6Address": "fd00::2",
                    "MacAddress": "02:00:00:00:00:01", "Aliases": ["z"],
                    "GwPriority": 0, "DriverOpts": {}}},
                {"Network": "b", "EndpointConfig": {
                    "IPv4Address": "10.0.0.9", "IPv6Address": null, "MacAddress": null,
                    "Aliases": ["x", "y"], "GwPriority": -1, "DriverOpts": {"k": "v"}}},
            ],
            "Hostname": "host", "Dns": ["1.1.1.1"], "DnsSearch": ["corp"],
            "DnsOptions": ["rotate"], "ExtraHosts": ["db:10.9.9.9"], "Labels": {"a": "b"},
            "Publish": ["80:80"], "PublishAll": true, "Expose": ["90"],
            "Netns": null, "Owner": null,
        });
        assert_eq!(serde_json::to_value(request).unwrap(), expected);
    }

    #[test]
    fn without_a_network_the_daemon_chooses_unless_an_address_is_asked_for() {
        assert_eq!(asked("").unwrap().networks, []);
        assert_eq!(asked("--ip 172.17.0.9").unwrap().networks[0].network, "bridge");
    }

    #[test]
    fn wrong_values_are_refused_in_dockers_words() {
        for (line, message) in [
            ("--mac-address zz", "zz is not a valid mac address"),
            ("--dns nope", "nope is not an IP address"),
            ("--add-host db", "bad format for add-host: \"db\""),
            ("--network ip=10.0.0.1", "network name/id is not specified"),
            ("--network name=a,foo", "invalid field foo"),
            ("--network name=a,foo=b", "invalid field key foo"),
            ("--network name=a,gw-priority=x", "invalid gw-priority: 'x' is no number"),
            ("--network name=a,driver-opt=x", "invalid key value pair format in driver options"),
            ("--label =x", "invalid label '=x': empty name"),
            (
                "--network-alias foo",
                "network-scoped aliases are only supported for user-defined networks",
            ),
            (
                "--network name=a,alias=x --network-alias foo",
                "cannot specify both --network-alias and per-network alias",
            ),
            (
                "--network name=a,ip=10.0.0.1 --ip 10.0.0.2",
                "cannot specify both --ip and per-network IPv4 address",
            ),
        ] {
            let error = asked(line).unwrap_err();
            assert!(error.contains(message), "{line}: {error}");
        }
    }
}
