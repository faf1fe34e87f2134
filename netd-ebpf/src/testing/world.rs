//! A host in words: networks, containers and publications.
//!
//! Law: every address is a `Place`, so that a test speaks of who is meant and both families share
//! it. Networks count from 1 to 3, their containers' seats from 2 to 4, uplinks from 1 to 3; the
//! last of them has no Ethernet headers.

use std::vec::Vec;

use arbitrary::{Arbitrary, Result, Unstructured};
use netd_common::{EndpointIndex, IfIndex, MacAddr};

use super::places::Place;

/// Networks are numbered from 1 to this.
pub const NETWORKS: u8 = 3;
/// A network's containers sit from here ...
pub const FIRST_SEAT: u8 = 2;
/// ... to here.
pub const LAST_SEAT: u8 = 4;
/// The last uplink: one without Ethernet headers.
pub const TUNNEL: u8 = 3;
/// The uplink that a network may trust.
pub const TRUSTED: u8 = 2;
/// The masquerade ports: so few that they run out.
pub const POOL: core::ops::RangeInclusive<u16> = 50_000..=50_002;
/// The clock when a story begins.
pub const BEGINS_S: u32 = 1_000;
/// A masquerade port that a socket of the host holds.
pub const HOST_SOCKET: u16 = 50_002;
/// Ports that containers listen on and that are published; the last is one of the pool.
pub const SERVICES: [u16; 3] = [80, 8_080, 50_001];

/// How the outside reaches a network, and it the outside.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By published ports of the host alone.
    Nat,
    /// By every port of a container too.
    Unprotected,
    /// By the published ports of a container; never translated.
    Routed,
}

/// What a container's packets are checked for.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub enum AntiSpoof {
    /// Its MAC and its addresses.
    Address,
    /// Its MAC.
    Mac,
    /// Nothing.
    Off,
}

/// A bridge network.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    /// It has no way out or in.
    pub internal: bool,
    /// Its containers reach each other on published ports only.
    pub quiet: bool,
    /// Its packets leave in the host's name.
    pub masquerade: bool,
    /// They leave in the name of `Place::Host(2)`, wherever they leave.
    pub chosen_source: bool,
    /// What comes by the uplink `TRUSTED` may reach its published ports at the containers' own
    /// addresses.
    pub trusts: bool,
    /// Its gateway mode.
    pub mode: Mode,
    /// What its containers' packets are checked for.
    pub anti_spoof: AntiSpoof,
    /// Who sits there: nobody, or a container in its n-th life.
    pub seats: [Option<Life>; 3],
}

impl Arbitrary<'_> for Network {
    fn arbitrary(u: &mut Unstructured<'_>) -> Result<Self> {
        let mut seats = [Some(0); 3];
        for seat in &mut seats {
            if u.ratio(1, 8)? {
                *seat = None;
            }
        }
        Ok(Self {
            internal: u.ratio(1, 8)?,
            quiet: u.ratio(1, 4)?,
            masquerade: u.ratio(3, 4)?,
            chosen_source: u.ratio(1, 8)?,
            trusts: u.ratio(1, 4)?,
            mode: u.arbitrary()?,
            anti_spoof: u.arbitrary()?,
            seats,
        })
    }
}

impl Network {
    /// Whether its containers' publications are ports of the host.
    pub fn is_published_by_the_host(&self) -> bool {
        !self.internal && self.mode != Mode::Routed
    }
}

/// How often a container was made anew: each has another veth, number and MAC.
pub type Life = u8;

/// A published port.
#[derive(Clone, Copy, Debug)]
pub struct Publication {
    /// On this address of the host, or on all.
    pub host: Option<Place>,
    /// Its port.
    pub port: u16,
    /// TCP, or UDP.
    pub proto: u8,
    /// Whose it is.
    pub network: u8,
    /// The container.
    pub seat: u8,
    /// The container's port.
    pub target: u16,
}

impl Arbitrary<'_> for Publication {
    fn arbitrary(u: &mut Unstructured<'_>) -> Result<Self> {
        Ok(Self {
            host: *u.choose(&[None, Some(Place::Host(1)), Some(Place::Host(2))])?,
            port: *u.choose(&SERVICES)?,
            proto: *u.choose(&[6, 17])?,
            network: u.int_in_range(1..=NETWORKS)?,
            seat: u.int_in_range(FIRST_SEAT..=LAST_SEAT)?,
            target: *u.choose(&SERVICES)?,
        })
    }
}

/// What an operator does to a host.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Change {
    /// A publication goes.
    Revoke(u8),
    /// A publication comes.
    Publish(Publication),
    /// A publication leads to another port of its container.
    Retarget(u8),
    /// A container is made anew.
    Recreate(u8, u8),
    /// A container goes.
    Remove(u8, u8),
    /// A network's settings change; its containers stay.
    Reconfigure(u8, Network),
}

/// The host.
#[derive(Clone, Debug)]
pub struct World {
    /// Its networks.
    pub networks: [Network; NETWORKS as usize],
    /// Its publications; of two with one key the first counts.
    pub publications: Vec<Publication>,
    /// The outside is behind both uplinks, rather than behind the first alone.
    pub two_uplinks: bool,
    /// Until when a lost flow table is made good.
    pub loose_until_s: u32,
    /// The containers of this seat in the first two networks are one, whose way out is the first.
    pub twice: Option<u8>,
}

impl Arbitrary<'_> for World {
    fn arbitrary(u: &mut Unstructured<'_>) -> Result<Self> {
        let mut publications = Vec::new();
        for _ in 0..u.int_in_range(0..=6)? {
            publications.push(u.arbitrary()?);
        }
        let (networks, two_uplinks) = (u.arbitrary()?, u.arbitrary()?);
        let loose_until_s = BEGINS_S + *u.choose(&[0, 0, 40, 700, 20_000])?;
        let seat = u.int_in_range(FIRST_SEAT..=LAST_SEAT)?;
        let twice = u.ratio(1, 3)?.then_some(seat);
        Ok(Self { networks, publications, two_uplinks, loose_until_s, twice })
    }
}

impl World {
    /// A network.
    pub fn network(&self, network: u8) -> &Network {
        &self.networks[usize::from(network) - 1]
    }

    /// Which life of a container it is; nothing for an empty seat.
    pub fn life(&self, network: u8, seat: u8) -> Option<Life> {
        let slot = usize::from(seat).checked_sub(usize::from(FIRST_SEAT))?;
        self.network(network).seats.get(slot).copied().flatten()
    }

    /// Where the container of a seat, which is its way out, sits too, if the outside asks for it by
    /// its address there.
    pub fn elsewhere(&self, (network, seat): (u8, u8)) -> Option<(u8, u8)> {
        const WAY_OUT: u8 = 1;
        const OTHER: u8 = 2;
        let other = self.network(OTHER);
        let is_asked = !other.internal && (other.mode != Mode::Nat || other.trusts);
        let is_there = self.life(network, seat).is_some() && self.life(OTHER, seat).is_some();
        let is_it = network == WAY_OUT && self.twice == Some(seat);
        (is_it && is_there && is_asked).then_some((OTHER, seat))
    }

    /// A container's number.
    pub fn index(&self, network: u8, seat: u8) -> EndpointIndex {
        let life = u32::from(self.life(network, seat).unwrap_or_default());
        EndpointIndex(life * 100 + u32::from(network) * 10 + u32::from(seat))
    }

    /// A container's host veth; an empty seat's belongs to nobody.
    pub fn veth(&self, network: u8, seat: u8) -> IfIndex {
        IfIndex(1_000 + self.index(network, seat).0)
    }

    /// A container's MAC.
    pub fn mac(&self, network: u8, seat: u8) -> MacAddr {
        member_mac(network, seat, self.life(network, seat).unwrap_or_default())
    }

    /// The publication of a port on an address of the host, and its slot.
    pub fn published(&self, host: Place, port: u16, proto: u8) -> Option<(u32, &Publication)> {
        let on = |address| {
            (0..).zip(self.effective()).find(|(_, it)| {
                it.host == address
                    && (it.port, it.proto) == (port, proto)
                    && self.network(it.network).is_published_by_the_host()
            })
        };
        on(Some(host)).or_else(|| on(None))
    }

    /// Whether a container's own port is published at all.
    pub fn is_exposed(&self, (network, seat): (u8, u8), port: u16, proto: u8) -> bool {
        self.effective()
            .any(|it| (it.network, it.seat, it.target, it.proto) == (network, seat, port, proto))
    }

    /// Those whose container is there.
    pub fn effective(&self) -> impl Iterator<Item = &Publication> {
        self.publications.iter().filter(|it| self.life(it.network, it.seat).is_some())
    }

    /// The uplink toward a place outside.
    pub fn route(&self, to: Place) -> Option<u8> {
        match to {
            Place::Outside(11) => None,
            Place::Outside(10) if self.two_uplinks => Some(2),
            Place::Outside(12) => Some(TUNNEL),
            Place::Outside(_)
            | Place::Member(..)
            | Place::Gateway(_)
            | Place::Host(_)
            | Place::Router(_)
            | Place::Hairpin
            | Place::Loopback
            | Place::LinkLocal(..)
            | Place::Group
            | Place::AllNodes
            | Place::Nobody => Some(1),
        }
    }

    /// Does what an operator asks for.
    pub fn change(&mut self, change: Change) {
        let seat_of = |seat: u8| usize::from(seat % 3);
        let network_of = |network: u8| usize::from(network % NETWORKS);
        match change {
            Change::Revoke(which) if !self.publications.is_empty() => {
                self.publications.remove(usize::from(which) % self.publications.len());
            }
            Change::Revoke(_) => {}
            Change::Publish(publication) => self.publications.push(publication),
            Change::Retarget(which) => {
                let which = usize::from(which) % self.publications.len().max(1);
                if let Some(publication) = self.publications.get_mut(which) {
                    let other = SERVICES.iter().find(|port| **port != publication.target);
                    publication.target = *other.unwrap_or(&publication.target);
                }
            }
            Change::Recreate(network, seat) => {
                let place = &mut self.networks[network_of(network)].seats[seat_of(seat)];
                *place = Some(place.map_or(0, |life| life.wrapping_add(1)));
            }
            Change::Remove(network, seat) => {
                self.networks[network_of(network)].seats[seat_of(seat)] = None;
            }
            Change::Reconfigure(network, new) => {
                let old = &mut self.networks[network_of(network)];
                *old = Network { seats: old.seats, ..new };
            }
        }
    }
}

/// The MAC of a container in one of its lives.
pub const fn member_mac(network: u8, seat: u8, life: Life) -> MacAddr {
    MacAddr([2, 0, 0, life, network, seat])
}

/// A network's gateway device.
pub const fn gateway(network: u8) -> IfIndex {
    IfIndex(10 + network as u32)
}

/// Its MAC.
pub const fn gateway_mac(network: u8) -> MacAddr {
    MacAddr([2, 0, 1, 0, network, 1])
}

/// An uplink.
pub const fn uplink(number: u8) -> IfIndex {
    IfIndex(number as u32)
}

/// Its MAC.
pub const fn uplink_mac(number: u8) -> MacAddr {
    MacAddr([2, 0, 2, 0, 0, number])
}
