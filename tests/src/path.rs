//! What a sender learns of the way: a place behind a link that takes short packets only, and who
//! complains about what can't go on.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::Command;

use anyhow::Result;

use crate::process::{self, run};
use crate::wire::ANSWER_DEADLINE;
use crate::{Netns, Outside};

/// Its address.
pub const FAR_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// Its address.
pub const FAR_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0, 2);
/// The longest packet towards it.
pub const FAR_MTU: u16 = 1300;

/// A namespace behind a link of the router that takes only short packets, and does not say so. It goes
/// with the value.
pub struct Far {
    name: String,
    netns: Netns,
    router: Netns,
}

impl Far {
    /// Makes it behind the router.
    pub fn behind(outside: &Outside) -> Result<Self> {
        let name = format!("{}-far", outside.name());
        let far = Self { netns: Netns::create(&name)?, name, router: outside.netns().clone() };
        let mtu = FAR_MTU.to_string();
        let link = ["link", "add", "far", "mtu", &mtu, "type", "veth", "peer", "name", "eth0"];
        outside.ip(&[&link[..], &["mtu", "1500", "netns", &far.name]].concat())?;
        let sysctl = ["-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"];
        outside.netns().run(|| run("sysctl", &sysctl))?;
        outside.ip(&["address", "add", "192.0.2.1/24", "dev", "far"])?;
        outside.ip(&["address", "add", "2001:db8:3::1/64", "dev", "far", "nodad"])?;
        outside.ip(&["link", "set", "far", "up"])?;
        let (v4, v6) = (format!("{FAR_V4}/24"), format!("{FAR_V6}/64"));
        for arguments in [
            &["address", "add", &v4, "dev", "eth0"][..],
            &["address", "add", &v6, "dev", "eth0", "nodad"],
            &["link", "set", "eth0", "up"],
            &["route", "add", "default", "via", "192.0.2.1"],
            &["-6", "route", "add", "default", "via", "2001:db8:3::1"],
        ] {
            far.netns.run(|| run("ip", arguments))?;
        }
        Ok(far)
    }

    /// Work run there is done by somebody far away.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        // The link at once, for the next of its name: a namespace's end comes later. The laboratory
        // sweeps what is left.
        let _left = self.router.run(|| run("ip", &["link", "delete", "far"]));
        let _left = Netns::delete(&self.name);
    }
}

/// What a datagram to a port comes to, where nobody answers.
pub fn told(netns: &Netns, target: SocketAddr) -> Result<Option<ErrorKind>> {
    let any: IpAddr = if target.is_ipv6() { [0u16; 8].into() } else { [0u8; 4].into() };
    let socket = netns.run(|| Ok(UdpSocket::bind((any, 0))?))?;
    socket.connect(target)?;
    socket.set_read_timeout(Some(ANSWER_DEADLINE))?;
    socket.send(b"anybody?")?;
    Ok(socket.recv(&mut [0; 8]).err().map(|error| error.kind()))
}

/// What `ping` says of one echo request that may take so many hops.
pub fn ping(netns: &Netns, target: IpAddr, hops: u8) -> Result<String> {
    let (hops, target) = (hops.to_string(), target.to_string());
    let mut command = Command::new("ping");
    command.args(["-n", "-c", "1", "-W", "5", "-t", &hops, &target]);
    let said = netns.run(|| process::output(&mut command, b""))?;
    Ok(String::from_utf8_lossy(&said.stdout).into_owned())
}
