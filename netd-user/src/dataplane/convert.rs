//! How the flow tables of earlier layouts read: one converter for each layout that flows survive.
//!
//! Law: pure; an entry comes out as a flow whose decision is taken anew, because interfaces and
//! endpoints have other numbers in another layout's tables, or may have.

use bytemuck::{Pod, bytes_of, pod_read_unaligned};
use netd_common::map::ABI;
use netd_common::map::flow::{FlowKey, FlowValue};
use netd_common::{Ipv4, Ipv6};

/// Both families of one layout.
#[derive(Clone, Copy)]
pub(super) struct Converter {
    abi: u64,
    /// IPv4.
    pub(super) v4: Reading<Ipv4>,
    /// IPv6.
    pub(super) v6: Reading<Ipv6>,
}

/// A flow's entry in one direction.
pub(super) type Entry<A> = (FlowKey<A>, FlowValue<A>);

/// One family's table.
#[derive(Clone, Copy)]
pub(super) struct Reading<A> {
    /// Key length in bytes.
    pub(super) key_len: usize,
    /// Value length in bytes.
    pub(super) value_len: usize,
    /// An entry from its bytes.
    pub(super) read: fn(&[u8], &[u8]) -> Entry<A>,
    /// A key to its bytes.
    pub(super) key: fn(&FlowKey<A>) -> Vec<u8>,
}

/// The layouts that flows are carried over from; any other is rebuilt without them.
const KNOWN: &[Converter] = &[
    Converter { abi: ABI, v4: present(), v6: present() },
    #[cfg(feature = "next-layout")]
    Converter { abi: netd_common::map::BASE_ABI, v4: next::widened(), v6: next::widened() },
];

impl Converter {
    /// The converter of a layout, where it is known.
    pub(super) fn of(abi: u64) -> Option<&'static Self> {
        KNOWN.iter().find(|converter| converter.abi == abi)
    }
}

const fn present<A>() -> Reading<A>
where
    FlowKey<A>: Pod,
    FlowValue<A>: Pod,
{
    Reading {
        key_len: size_of::<FlowKey<A>>(),
        value_len: size_of::<FlowValue<A>>(),
        read: |key, value| (pod_read_unaligned(key), undecided(pod_read_unaligned(value))),
        key: |key| bytes_of(key).to_vec(),
    }
}

/// Generation 0 is that of a flow which was never decided.
fn undecided<A>(value: FlowValue<A>) -> FlowValue<A> {
    FlowValue { generation: 0, ..value }
}

/// The layout before `next-layout`: the same without the field that it adds.
#[cfg(feature = "next-layout")]
mod next {
    use std::mem::offset_of;

    use netd_common::map::flow::ADDED_LEN;

    use super::{FlowKey, FlowValue, Pod, Reading, bytes_of, pod_read_unaligned, undecided};

    pub(super) const fn widened<A>() -> Reading<A>
    where
        FlowKey<A>: Pod,
        FlowValue<A>: Pod,
    {
        Reading {
            key_len: size_of::<FlowKey<A>>(),
            value_len: size_of::<FlowValue<A>>() - ADDED_LEN,
            read: |key, value| {
                let (before, after) = value.split_at(offset_of!(FlowValue<A>, added));
                let wide = [before, &[0; ADDED_LEN], after].concat();
                (pod_read_unaligned(key), undecided(pod_read_unaligned(&wide)))
            },
            key: |key| bytes_of(key).to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use netd_common::Be16;

    use super::*;

    #[test]
    fn a_flow_of_the_present_layout_reads_as_it_is_but_undecided() {
        let key = FlowKey { dport: Be16::new(80), proto: 6, ..FlowKey::<Ipv4>::default() };
        let value = FlowValue { generation: 7, last_seen_s: 5, flags: 3, ..FlowValue::default() };
        let reading = Converter::of(ABI).expect("the present layout").v4;
        let (found, flow) = (reading.read)(bytes_of(&key), bytes_of(&value));
        assert_eq!((found, flow), (key, FlowValue { generation: 0, ..value }));
        assert_eq!((reading.key)(&key), bytes_of(&key));
    }

    #[test]
    fn a_layout_that_was_never_known_has_no_converter() {
        assert!(Converter::of(ABI ^ 1).is_none());
    }
}
