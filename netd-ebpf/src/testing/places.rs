//! Addresses by what they stand for.
//!
//! Law: both families know every place, and no two places share an address.

use arbitrary::{Arbitrary, Result, Unstructured};
use netd_common::{Address, Ipv4, Ipv6, V4, V6};

use super::build::Build;
use super::world::{FIRST_SEAT, LAST_SEAT, NETWORKS, TUNNEL, member_mac};
use super::{FakeFamily, FakeTables};

/// An address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A seat of a network, taken or not.
    Member(u8, u8),
    /// A network's gateway.
    Gateway(u8),
    /// The host's on an uplink.
    Host(u8),
    /// A stranger's.
    Outside(u8),
    /// The router's behind an uplink.
    Router(u8),
    /// The source of a container that reaches itself.
    Hairpin,
    /// The sender itself.
    Loopback,
    /// The link-local one that the MAC of a container's life gives rise to; IPv6 alone knows it.
    LinkLocal(u8, u8, u8),
    /// A group.
    Group,
    /// The group of all on a link.
    AllNodes,
    /// None.
    Nobody,
}

impl Place {
    /// Whether nobody can be there, as seen from a wire.
    pub const fn is_nobody(self) -> bool {
        self.is_group() || matches!(self, Self::Loopback | Self::Nobody)
    }

    /// Whether it is more than one's.
    pub const fn is_group(self) -> bool {
        matches!(self, Self::Group | Self::AllNodes)
    }

    /// As a family can say it: in IPv4 the container's own address stands for its link-local one.
    #[must_use]
    pub const fn said(self, v6: bool) -> Self {
        match self {
            Self::LinkLocal(network, seat, _) if !v6 => Self::Member(network, seat),
            Self::LinkLocal(..)
            | Self::Member(..)
            | Self::Gateway(_)
            | Self::Host(_)
            | Self::Outside(_)
            | Self::Router(_)
            | Self::Hairpin
            | Self::Loopback
            | Self::Group
            | Self::AllNodes
            | Self::Nobody => self,
        }
    }
}

impl Arbitrary<'_> for Place {
    fn arbitrary(u: &mut Unstructured<'_>) -> Result<Self> {
        let network = u.int_in_range(1..=NETWORKS)?;
        let seat = u.int_in_range(FIRST_SEAT..=LAST_SEAT)?;
        Ok(match u.int_in_range(0..=31u8)? {
            0..=9 => Self::Outside(*u.choose(&[9, 9, 9, 9, 10, 11, 12])?),
            10..=16 => Self::Host(u.int_in_range(1..=TUNNEL)?),
            17..=23 => Self::Member(network, seat),
            24..=26 => Self::Gateway(network),
            27 => Self::Hairpin,
            28 => Self::Loopback,
            29 => Self::LinkLocal(network, seat, u.int_in_range(0..=1)?),
            30 => *u.choose(&[Self::Group, Self::AllNodes])?,
            _ => Self::Nobody,
        })
    }
}

/// What a world needs of a family.
pub trait Globe: Build {
    /// The address of a place.
    fn addr(place: Place) -> Self::Addr;
    /// Whether both are in one network.
    fn same_subnet(a: Self::Addr, b: Self::Addr) -> bool;
    /// The family's tables.
    fn family(tables: &mut FakeTables) -> &mut FakeFamily<Self::Addr>;
}

impl Globe for V4 {
    fn addr(place: Place) -> Ipv4 {
        match place {
            Place::Member(network, seat) => Ipv4::new([10, network, 0, seat]),
            Place::Gateway(network) => Ipv4::new([10, network, 0, 1]),
            Place::Host(number) => Ipv4::new([198, 51, 100, number]),
            Place::Outside(number) => Ipv4::new([203, 0, 113, number]),
            Place::Router(number) => Ipv4::new([198, 51, 100, 200 + number]),
            Place::Hairpin => Ipv4::new([169, 254, 1, 1]),
            Place::Loopback => Ipv4::new([127, 0, 0, 1]),
            Place::LinkLocal(..) => unreachable!("IPv4 does not say it"),
            Place::Group => Ipv4::new([224, 0, 0, 251]),
            Place::AllNodes => Ipv4::new([224, 0, 0, 1]),
            Place::Nobody => Ipv4::ANY,
        }
    }

    fn same_subnet(a: Ipv4, b: Ipv4) -> bool {
        a.octets()[..3] == b.octets()[..3]
    }

    fn family(tables: &mut FakeTables) -> &mut FakeFamily<Ipv4> {
        &mut tables.v4
    }
}

impl Globe for V6 {
    fn addr(place: Place) -> Ipv6 {
        let at = |[a, b, c, d]: [u8; 4], last| {
            Ipv6::new([a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last])
        };
        match place {
            Place::Member(network, seat) => at([0xfd, 0, 0, network], seat),
            Place::Gateway(network) => at([0xfd, 0, 0, network], 1),
            Place::Host(number) => at([0x20, 1, 0xd, 0xb8], number),
            Place::Outside(number) => at([0x20, 1, 0xd, 0xb9], number),
            Place::Router(number) => at([0x20, 1, 0xd, 0xb8], 200 + number),
            Place::Hairpin => at([0xfd, 0xff, 0, 0], 1),
            Place::Loopback => at([0; 4], 1),
            Place::LinkLocal(network, seat, life) => {
                let mut octets = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                octets[8..].copy_from_slice(&member_mac(network, seat, life).eui64());
                Ipv6::new(octets)
            }
            Place::Group => at([0xff, 2, 0, 0], 0xfb),
            Place::AllNodes => at([0xff, 2, 0, 0], 1),
            Place::Nobody => Ipv6::ANY,
        }
    }

    fn same_subnet(a: Ipv6, b: Ipv6) -> bool {
        a.0[0] == b.0[0]
    }

    fn family(tables: &mut FakeTables) -> &mut FakeFamily<Ipv6> {
        &mut tables.v6
    }
}
