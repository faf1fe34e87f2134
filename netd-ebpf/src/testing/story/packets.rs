//! Random packets that a hook can meet: most are what their sender would send.

use arbitrary::{Result, Unstructured};
use netd_common::Hook;

use super::super::places::Place;
use super::super::world::SERVICES;
use super::{Device, Mac, Packet};

/// One time in sixteen.
fn rarely(u: &mut Unstructured<'_>) -> Result<bool> {
    u.ratio(1, 16)
}

pub(super) fn plain(hook: Hook, device: Device, u: &mut Unstructured<'_>) -> Result<Packet> {
    const CLIENTS: [u16; 6] = [80, 1_111, 40_000, 50_000, 50_001, 50_002];
    Ok(Packet {
        hook,
        device,
        macs: (Mac::Stranger, Mac::Stranger),
        src: Place::Nobody,
        dst: u.arbitrary()?,
        payload: u.arbitrary()?,
        sport: *u.choose(&CLIENTS)?,
        dport: *u.choose(&SERVICES)?,
        ttl: if rarely(u)? { u.int_in_range(0..=2)? } else { 64 },
        vlan: false,
        forwarded: false,
        for_another: false,
        marked: false,
    })
}

pub(super) fn from_container(
    (network, seat): (u8, u8),
    u: &mut Unstructured<'_>,
) -> Result<Packet> {
    let mut packet = plain(Hook::FromContainer, Device::Veth(network, seat), u)?;
    let own = Mac::Member(network, seat);
    packet.src = if rarely(u)? { u.arbitrary()? } else { Place::Member(network, seat) };
    packet.vlan = rarely(u)?;
    if rarely(u)? {
        let to = *u.choose(&[Mac::Stranger, own, Mac::Gateway(network)])?;
        return Ok(Packet { macs: (to, Mac::Stranger), ..packet });
    }
    if rarely(u)? {
        return Ok(Packet { dst: Place::Group, macs: (Mac::Broadcast, own), ..packet });
    }
    packet.macs = (Mac::Gateway(network), own);
    if let Place::Member(to, neighbor) = packet.dst
        && to == network
        && !rarely(u)?
    {
        packet.macs.0 = Mac::Member(to, neighbor);
    }
    Ok(packet)
}

pub(super) fn from_netdev(u: &mut Unstructured<'_>) -> Result<Packet> {
    let number = u.int_in_range(1..=2)?;
    let mut packet = plain(Hook::FromNetdev, Device::Uplink(number), u)?;
    packet.macs = (Mac::Uplink(number), Mac::Router);
    packet.src = if rarely(u)? { u.arbitrary()? } else { Place::Outside(u.int_in_range(9..=11)?) };
    packet.for_another = rarely(u)?;
    Ok(packet)
}

pub(super) fn from_host((network, seat): (u8, u8), u: &mut Unstructured<'_>) -> Result<Packet> {
    let mut packet = plain(Hook::FromHost, Device::Gateway(network), u)?;
    packet.src = Place::Gateway(network);
    packet.dst = if rarely(u)? { u.arbitrary()? } else { Place::Member(network, seat) };
    let to = [Mac::Member(network, seat), Mac::Stranger, Mac::Broadcast];
    packet.macs = (*u.choose(&to)?, Mac::Gateway(network));
    packet.forwarded = u.ratio(1, 4)?;
    Ok(packet)
}

pub(super) fn leaving((network, seat): (u8, u8), u: &mut Unstructured<'_>) -> Result<Packet> {
    let number = u.int_in_range(1..=2)?;
    let mut packet = plain(Hook::ToNetdev, Device::Uplink(number), u)?;
    let container = u.arbitrary()?;
    packet.src = if container { Place::Member(network, seat) } else { u.arbitrary()? };
    packet.marked = u.ratio(1, 4)?;
    Ok(packet)
}
