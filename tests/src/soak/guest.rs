//! An engine's side: containers that it makes, fills and ends itself, and that publish and revoke ports
//! while they run.

use std::path::PathBuf;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::act::{Act, SERVED, guest_name};
use crate::netns::NAMESPACES;
use crate::plugin::Caller;
use crate::{Host, Netns, eventually};

const PROGRAM: &str = "NetworkDriver.ProgramExternalConnectivity";
const NETWORK: &str = "e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0";
const SHOWN_LEN: usize = 12;

/// An engine with one network.
pub(super) struct Engine<'world> {
    host: &'world Host,
    socket: PathBuf,
}

/// The name that netd gives an engine's network.
pub(super) fn network() -> String {
    NETWORK[..SHOWN_LEN].to_owned()
}

/// The addresses of an engine's container.
pub(super) fn addresses(guest: u8) -> [String; 2] {
    let last = 10 + guest;
    [format!("10.231.0.{last}"), format!("fd31::{last:x}")]
}

/// Where an engine's container is.
pub(super) fn netns(host: &Host, guest: u8) -> Netns {
    Netns::at(std::path::Path::new(NAMESPACES).join(netns_name(host, guest)))
}

fn netns_name(host: &Host, guest: u8) -> String {
    format!("{}-{}", host.name(), guest_name(guest))
}

impl<'world> Engine<'world> {
    /// Makes its network.
    pub(super) fn begin(host: &'world Host, socket: PathBuf) -> Result<Self> {
        let engine = Self { host, socket };
        let pool = |pool: &str, gateway: &str| json!([{"AddressSpace": "LocalDefault", "Pool": pool, "Gateway": gateway}]);
        let options = json!({"com.docker.network.enable_ipv6": true,
            "com.docker.network.generic": {}});
        engine.must(
            "NetworkDriver.CreateNetwork",
            &json!({"NetworkID": NETWORK,
            "Options": options, "IPv4Data": pool("10.231.0.0/24", "10.231.0.1/24"),
            "IPv6Data": pool("fd31::/64", "fd31::1/64")}),
        )?;
        Ok(engine)
    }

    /// Removes its network.
    pub(super) fn end(&self) -> Result<()> {
        self.must("NetworkDriver.DeleteNetwork", &json!({"NetworkID": NETWORK})).map(drop)
    }

    /// Whether the plugin grants it.
    pub(super) fn carry_out(&self, act: &Act) -> Result<bool> {
        match act {
            Act::Enter { guest } => self.enter(*guest).map(|()| true),
            Act::Leave { guest } => self.leave(*guest).map(|()| true),
            Act::Publish { guest, port } => self.publish(*guest, *port),
            Act::Revoke { guest } => {
                self.must("NetworkDriver.RevokeExternalConnectivity", &named(*guest)).map(|_| true)
            }
            Act::MakeNetwork { .. }
            | Act::RemoveNetwork { .. }
            | Act::Create { .. }
            | Act::Run { .. }
            | Act::Kill { .. }
            | Act::Remove { .. }
            | Act::Connect { .. }
            | Act::Disconnect { .. }
            | Act::Restart { .. }
            | Act::Ask => bail!("no engine does {act:?}"),
        }
    }

    /// As an engine does: the endpoint, a namespace, the interface moved there and given its addresses.
    fn enter(&self, guest: u8) -> Result<()> {
        let [v4, v6] = addresses(guest);
        let (with_v4, with_v6) = (format!("{v4}/24"), format!("{v6}/64"));
        let interface = json!({"Address": with_v4, "AddressIPv6": with_v6, "MacAddress": ""});
        let mut create = named(guest);
        create["Interface"] = interface;
        create["Options"] = json!({});
        self.must("NetworkDriver.CreateEndpoint", &create)?;
        let mut join = named(guest);
        let name = netns_name(self.host, guest);
        join["SandboxKey"] = json!(format!("/var/run/docker/netns/{}", guest_name(guest)));
        join["Options"] = json!({});
        let joined = self.must("NetworkDriver.Join", &join)?;
        let Some(link) = joined["InterfaceName"]["SrcName"].as_str() else {
            bail!("no interface: {joined}")
        };
        Netns::create(&name)?;
        self.host.ip(&["link", "set", link, "netns", &name, "name", "eth0"])?;
        for words in [
            &["address", "add", &with_v4, "dev", "eth0"][..],
            &["address", "add", &with_v6, "dev", "eth0", "nodad"],
            &["link", "set", "eth0", "up"],
            &["route", "add", "default", "via", "10.231.0.1"],
            &["-6", "route", "add", "default", "via", "fd31::1"],
        ] {
            crate::process::run("ip", &[&["-netns", &name], words].concat())?;
        }
        Ok(())
    }

    fn leave(&self, guest: u8) -> Result<()> {
        self.must("NetworkDriver.Leave", &named(guest))?;
        self.must("NetworkDriver.DeleteEndpoint", &named(guest))?;
        let name = netns_name(self.host, guest);
        // A server's thread that is just ending holds the mount for a moment.
        eventually(
            "the end of a namespace",
            super::SETTLES_WITHIN,
            || Ok(Netns::delete(&name).ok()),
        )
    }

    fn publish(&self, guest: u8, port: u16) -> Result<bool> {
        let exposed = json!([{"Proto": 6, "Port": SERVED}, {"Proto": 17, "Port": SERVED}]);
        let binding = |proto: u8| {
            json!({"Proto": proto, "IP": "", "Port": SERVED, "HostIP": "", "HostPort": port,
                "HostPortEnd": port})
        };
        let mut program = named(guest);
        program["Options"] = json!({"com.docker.network.endpoint.exposedports": exposed,
            "com.docker.network.portmap": [binding(6), binding(17)]});
        let answered = Caller::connect(&self.socket)?.call(PROGRAM, &program)?;
        let taken = answered.failure().contains("port is already allocated");
        if answered.status != 200 && !taken {
            bail!("{PROGRAM} {program}: {answered:?}");
        }
        Ok(answered.status == 200)
    }

    fn must(&self, method: &str, arguments: &Value) -> Result<Value> {
        let answered = Caller::connect(&self.socket)?.call(method, arguments)?;
        if answered.status != 200 {
            bail!("{method} {arguments}: {answered:?}");
        }
        Ok(answered.body)
    }
}

fn named(guest: u8) -> Value {
    json!({"NetworkID": NETWORK, "EndpointID": format!("{:02x}", 0xc0 + guest).repeat(32)})
}
