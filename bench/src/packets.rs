//! Cost of a packet: frames of the generator through each rig.
//!
//! Law: a burst counts only if its frames arrived where they should, or, where they should be
//! dropped, nowhere.

use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::generator::{Flows, Frame, Generator, IngressDrop, ifindex, mac};
use crate::namespace::Namespace;
use crate::results::{Case, Section};
use crate::rig::{
    BRIDGE, Field, GENERATED_SOURCE, Injection, OUTSIDE, SERVER_PORT, Standing, UPLINK, frame,
};
use crate::session::{Effort, Session};
use crate::statistics::Better;
use crate::units::real;

/// Name of the limit: frames dropped at tc ingress of the uplink.
pub(crate) const TC_DROP: &str = "tc drop";
/// Name of the floor: frames dropped by XDP, before they are packets of the stack.
pub(crate) const XDP_DROP: &str = "xdp drop";

/// New flows of all rounds, so many that no rig's table is full after two kinds of them: netd's of
/// unanswered flows has 65 536 entries, and a flow takes two.
const NEW_FLOWS: u32 = 15_000;

/// A burst ends before the kernel takes real-time threads off the CPU.
const LONGEST_BURST_NS: u32 = 400_000_000;

/// Frames that tell how many fit into a burst.
const PROBE: u32 = 200;

/// Frames of neighbour discovery and the like that may arrive during a burst.
const CHATTER: f64 = 20.0;

/// Source port of known flows.
const CLIENT_PORT: u16 = 4_000;

/// A generator aimed at a rig, with the sockets that keep its flow known.
struct Shot {
    generator: Rc<Generator>,
    flows: Flows,
    target: (Namespace, &'static str),
    arrives: bool,
    _sockets: Vec<UdpSocket>,
    ingress_drop: Option<Namespace>,
}

/// All injections at one size.
pub(crate) fn all(
    session: &mut Session,
    standings: &[Standing],
    scale: Option<Scale>,
) -> Result<()> {
    let injections: &[Injection] = match scale {
        None => &Injection::ALL,
        Some(_) => &[Injection::Published, Injection::PublishedNew],
    };
    for injection in injections {
        measure(session, standings, *injection, scale)?;
    }
    Ok(())
}

/// A size that cost is plotted over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// Of what.
    pub(crate) of: &'static str,
    /// How many.
    pub(crate) count: u16,
}

fn measure(
    session: &mut Session,
    standings: &[Standing],
    injection: Injection,
    scale: Option<Scale>,
) -> Result<()> {
    let cases = cases(injection, scale);
    let mut shots = Vec::new();
    for standing in standings {
        let Some(field) = &standing.field else { continue };
        if injection == Injection::IsolationDrop && !field.isolates {
            continue;
        }
        let shot = match Shot::aim(field, injection) {
            Ok(shot) => shot,
            Err(error) => {
                let error = format!("{error:#}");
                session.problem(&cases, standing.rig, &error);
                continue;
            }
        };
        if standing.rig == BRIDGE && injection == Injection::Published && scale.is_none() {
            shots.push((XDP_DROP.to_owned(), shot.dropped_by_xdp()?));
            shots.push((TC_DROP.to_owned(), shot.dropped_on_arrival(field)));
        }
        shots.push((standing.rig.to_owned(), shot));
    }
    let Effort { rounds, frames, .. } = session.effort;
    let cpu = session.cpu;
    let new_flows = (NEW_FLOWS / rounds).saturating_sub(PROBE);
    session.interleave(rounds, cases, shots, |shot| {
        let cost_ns = shot.fire(cpu, (frames, new_flows))?;
        Ok(vec![cost_ns, cost_ns / 1_000.0])
    })
}

/// The cost of a packet and, at the smallest size, the CPU time of a million.
fn cases(injection: Injection, scale: Option<Scale>) -> Vec<Case> {
    let case = |section, group: &str, unit| {
        Case::new(section, group, injection.name(), unit, Better::Lower)
    };
    match scale {
        None => vec![
            case(Section::Packets, "64-byte UDP frames", "ns/packet"),
            case(Section::Resources, "CPU time of a million packets", "CPU s"),
        ],
        Some(scale) => {
            let group = format!("Cost of a packet by {}", scale.of);
            vec![case(Section::Scaling, &group, "ns/packet").at(u64::from(scale.count))]
        }
    }
}

impl Shot {
    fn aim(field: &Field, injection: Injection) -> Result<Self> {
        match injection {
            Injection::Published => Self::published(field),
            Injection::PublishedNew => Self::published_new(field),
            Injection::MasqueradeNew => Self::masquerade_new(field),
            Injection::MasqueradeReply => Self::masquerade_reply(field),
            Injection::SameNetwork => Self::same_network(field),
            Injection::IsolationDrop => Self::isolation(field),
        }
    }

    /// The same frames, dropped at tc ingress while they are sent.
    fn dropped_on_arrival(&self, field: &Field) -> Self {
        Self {
            generator: Rc::clone(&self.generator),
            flows: self.flows,
            target: self.target.clone(),
            arrives: false,
            _sockets: Vec::new(),
            ingress_drop: Some(field.host.clone()),
        }
    }

    /// The same frames, dropped by XDP on the uplink.
    fn dropped_by_xdp(&self) -> Result<Self> {
        let generator = self.generator.dropping()?.into();
        Ok(Self { arrives: false, ..Self::towards(generator, self.flows, self.target.clone()) })
    }

    fn published(field: &Field) -> Result<Self> {
        let server = field.one.namespace.run(|| bind(SERVER_PORT))?;
        let client = field.outside.run(|| bind(CLIENT_PORT))?;
        converse(&client, &server, field.published.into())?;
        let frame = frame(SocketAddrV4::new(OUTSIDE, CLIENT_PORT), field.published);
        Self::at_uplink(field, frame, Flows::One, vec![client, server])
    }

    fn published_new(field: &Field) -> Result<Self> {
        let server = field.one.namespace.run(|| bind(SERVER_PORT))?;
        let frame = frame(SocketAddrV4::new(GENERATED_SOURCE, 0), field.published);
        Self::at_uplink(field, frame, Flows::From, vec![server])
    }

    /// From a container to ever other places outside, each masqueraded anew.
    fn masquerade_new(field: &Field) -> Result<Self> {
        let source = SocketAddrV4::new(field.one.address, CLIENT_PORT);
        let destination = SocketAddrV4::new(GENERATED_SOURCE, SERVER_PORT);
        let macs = [mac(&field.one.namespace, "eth0")?, mac(&field.host, &field.gateway)?];
        let generator = from_one(field, with_macs(frame(source, destination), macs), Flows::Out)?;
        Ok(Self::towards(generator, Flows::Out, (field.outside.clone(), "o0")))
    }

    fn masquerade_reply(field: &Field) -> Result<Self> {
        let server = field.outside.run(|| bind(SERVER_PORT))?;
        let client = field.one.namespace.run(|| bind(CLIENT_PORT))?;
        let address = SocketAddrV4::new(OUTSIDE, SERVER_PORT);
        let SocketAddr::V4(seen) = converse(&client, &server, address.into())? else {
            bail!("an IPv6 address on an IPv4 socket");
        };
        Self::at_uplink(field, frame(address, seen), Flows::One, vec![client, server])
    }

    fn same_network(field: &Field) -> Result<Self> {
        let (one, two) = (&field.one, &field.two);
        let server = two.namespace.run(|| bind(SERVER_PORT))?;
        let client = one.namespace.run(|| bind(CLIENT_PORT))?;
        let (source, destination) = (
            SocketAddrV4::new(one.address, CLIENT_PORT),
            SocketAddrV4::new(two.address, SERVER_PORT),
        );
        converse(&client, &server, destination.into())?;
        let macs = [mac(&one.namespace, "eth0")?, mac(&two.namespace, "eth0")?];
        let frame = with_macs(frame(source, destination), macs);
        let generator = from_one(field, frame, Flows::One)?;
        Ok(Self {
            _sockets: vec![client, server],
            ..Self::towards(generator, Flows::One, two.link())
        })
    }

    fn isolation(field: &Field) -> Result<Self> {
        let source = SocketAddrV4::new(field.one.address, CLIENT_PORT);
        let destination = SocketAddrV4::new(field.stranger.address, SERVER_PORT);
        let macs = [mac(&field.one.namespace, "eth0")?, mac(&field.host, &field.gateway)?];
        let generator = from_one(field, with_macs(frame(source, destination), macs), Flows::One)?;
        let shot = Self::towards(generator, Flows::One, field.stranger.link());
        Ok(Self { arrives: false, ..shot })
    }

    fn at_uplink(
        field: &Field,
        frame: Frame,
        flows: Flows,
        sockets: Vec<UdpSocket>,
    ) -> Result<Self> {
        let macs = [mac(&field.outside, "o0")?, mac(&field.host, UPLINK)?];
        let uplink = ifindex(&field.host, UPLINK)?;
        let generator = Generator::new(&field.host, uplink, with_macs(frame, macs), flows)?.into();
        Ok(Self { _sockets: sockets, ..Self::towards(generator, flows, field.one.link()) })
    }

    /// Frames that must arrive on a link.
    fn towards(generator: Rc<Generator>, flows: Flows, target: (Namespace, &'static str)) -> Self {
        Self { generator, flows, target, arrives: true, _sockets: Vec::new(), ingress_drop: None }
    }

    /// Nanoseconds a frame.
    fn fire(&self, cpu: usize, (frames, new_flows): (u32, u32)) -> Result<f64> {
        let wanted = if self.flows == Flows::One { frames } else { new_flows };
        let probe_ns = self.count(cpu, PROBE)?.max(1);
        self.count(cpu, wanted.min(LONGEST_BURST_NS / probe_ns).max(PROBE))
            .map(|ns| real(ns.into()))
    }

    /// Sends frames and looks where they went.
    fn count(&self, cpu: usize, frames: u32) -> Result<u32> {
        let host = self.ingress_drop.as_ref();
        let _drop = host.map(|host| IngressDrop::new(host, ifindex(host, UPLINK)?)).transpose()?;
        let (target, link) = &self.target;
        let before = target.received(link)?;
        let cost_ns = self.generator.send(cpu, frames)?;
        let arrived = real(target.received(link)? - before);
        let sent = real(u64::from(frames));
        if self.arrives {
            ensure!(arrived >= 0.99 * sent, "only {arrived} of {sent} frames arrived");
        } else {
            ensure!(arrived < 0.01 * sent + CHATTER, "{arrived} frames arrived that should not");
        }
        Ok(cost_ns)
    }
}

fn from_one(field: &Field, frame: Frame, flows: Flows) -> Result<Rc<Generator>> {
    let link = ifindex(&field.host, &field.one.host_link)?;
    Generator::new(&field.host, link, frame, flows).map(Rc::new)
}

/// The frame between two MACs, the source's first.
pub(crate) fn with_macs(frame: Frame, [source_mac, destination_mac]: [[u8; 6]; 2]) -> Frame {
    Frame { source_mac, destination_mac, ..frame }
}

/// A socket with little room: what nobody reads is dropped behind the path that is measured.
pub(crate) fn bind(port: u16) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(("0.0.0.0", port)).with_context(|| format!("UDP port {port}"))?;
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBuf, &4_096)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    Ok(socket)
}

/// A few datagrams each way, after which every rig knows the flow. Says whom the server saw.
fn converse(client: &UdpSocket, server: &UdpSocket, address: SocketAddr) -> Result<SocketAddr> {
    let mut seen = None;
    for _ in 0..3 {
        client.send_to(&[1], address).context("request")?;
        let (_, from) = server.recv_from(&mut [0; 8]).context("the request did not arrive")?;
        server.send_to(&[1], from).context("response")?;
        client.recv_from(&mut [0; 8]).context("the response did not arrive")?;
        seen = Some(from);
    }
    seen.context("no datagram")
}
