//! One family's tables, the same for both.

use aya_ebpf::btf_maps::lpm_trie::Key;
use netd_common::map::endpoint::{AddressKey, AddressValue};
use netd_common::map::flow::{FlowKey, FlowValue};
use netd_common::map::network::HostAddressValue;
use netd_common::map::published::{PublishedKey, PublishedValue};
use netd_common::{Family, IfIndex, NetworkIndex, V4, V6};

use super::super::host::{find_socket, route_v4, route_v6, tuple_v4, tuple_v6};
use super::{
    ADDRESSES_V4, ADDRESSES_V6, FLOWS_NEW_V4, FLOWS_NEW_V6, FLOWS_V4, FLOWS_V6, HOST_ADDRS_V4,
    HOST_ADDRS_V6, Maps, PUBLISHED_V4, PUBLISHED_V6, SUBNETS_V4, SUBNETS_V6, copy_in_order,
    embryonic_taken,
};
use crate::tables::{FamilyTables, FlowTable, Insert, InsertError, Route};

macro_rules! family_tables {
    ($family:ty, $addresses:ident, $subnets:ident, $host:ident, $published:ident, $flows:ident, $flows_new:ident, $route:ident, $tuple:ident) => {
        impl FamilyTables<$family> for Maps {
            #[inline(always)]
            fn address(&self, key: &AddressKey<<$family as Family>::Addr>) -> Option<AddressValue> {
                // SAFETY: copied at once; the controller replaces entries, it never edits them.
                unsafe { $addresses.get(key) }.copied()
            }

            #[inline(always)]
            fn subnet(&self, addr: <$family as Family>::Addr) -> Option<NetworkIndex> {
                let bits = size_of_val(&addr) as u32 * 8;
                $subnets.get(&Key::new(bits, addr)).map(|value| value.network)
            }

            #[inline(always)]
            fn host_address(&self, addr: &<$family as Family>::Addr) -> Option<HostAddressValue> {
                // SAFETY: copied at once; the controller replaces entries, it never edits them.
                unsafe { $host.get(addr) }.copied()
            }

            #[inline(always)]
            fn published(
                &self,
                key: &PublishedKey<<$family as Family>::Addr>,
            ) -> Option<PublishedValue<<$family as Family>::Addr>> {
                // SAFETY: copied at once; the controller replaces entries, it never edits them.
                unsafe { $published.get(key) }.copied()
            }

            #[inline(always)]
            fn flow(
                &self,
                table: FlowTable,
                key: &FlowKey<<$family as Family>::Addr>,
            ) -> Option<FlowValue<<$family as Family>::Addr>> {
                match table {
                    // SAFETY: copied at once. What another CPU changes in place (time, flags,
                    // generation with its target) is valid old or new.
                    FlowTable::Confirmed => unsafe { $flows.get(key) }.copied(),
                    // SAFETY: as above.
                    FlowTable::New => unsafe { $flows_new.get(key) }.copied(),
                }
            }

            #[inline(always)]
            fn read_flow(
                &self,
                table: FlowTable,
                key: &FlowKey<<$family as Family>::Addr>,
                into: &mut FlowValue<<$family as Family>::Addr>,
            ) -> bool {
                let entry = match table {
                    // SAFETY: as in `flow`.
                    FlowTable::Confirmed => unsafe { $flows.get(key) },
                    // SAFETY: as above.
                    FlowTable::New => unsafe { $flows_new.get(key) },
                };
                let Some(entry) = entry else {
                    return false;
                };
                copy_in_order(entry, into);
                true
            }

            #[inline(always)]
            fn update_flow(
                &mut self,
                table: FlowTable,
                key: &FlowKey<<$family as Family>::Addr>,
                change: impl FnOnce(&mut FlowValue<<$family as Family>::Addr>),
            ) {
                let entry = match table {
                    FlowTable::Confirmed => $flows.get_ptr_mut(key),
                    FlowTable::New => $flows_new.get_ptr_mut(key),
                };
                if let Some(entry) = entry {
                    // SAFETY: the entry's memory outlives the program; a lost race between CPUs
                    // leaves one of two valid values in each field.
                    change(unsafe { &mut *entry });
                }
            }

            #[inline(always)]
            fn insert_flow(
                &mut self,
                table: FlowTable,
                key: &FlowKey<<$family as Family>::Addr>,
                value: &FlowValue<<$family as Family>::Addr>,
                mode: Insert,
            ) -> Result<(), InsertError> {
                let mode = update_mode(mode);
                inserted(match table {
                    FlowTable::Confirmed => $flows.insert(key, value, mode),
                    FlowTable::New => $flows_new.insert(key, value, mode),
                })
            }

            #[inline(always)]
            fn remove_flow(&mut self, table: FlowTable, key: &FlowKey<<$family as Family>::Addr>) {
                match table {
                    FlowTable::Confirmed => {
                        // An entry that is not there is as good as removed.
                        let _absent = $flows.remove(key);
                    }
                    FlowTable::New => {
                        if $flows_new.remove(key).is_ok() {
                            embryonic_taken();
                        }
                    }
                }
            }

            #[inline(always)]
            fn route(
                &self,
                device: IfIndex,
                src: &<$family as Family>::Addr,
                dst: &<$family as Family>::Addr,
            ) -> Route<<$family as Family>::Addr> {
                $route(self.ctx, device, src, dst)
            }

            #[inline(never)]
            fn host_socket(&self, key: &FlowKey<<$family as Family>::Addr>) -> bool {
                let mut tuple = $tuple(key);
                find_socket(self.ctx, key.proto, (&raw mut tuple).cast(), size_of_val(&tuple))
            }
        }
    };
}

family_tables!(
    V4,
    ADDRESSES_V4,
    SUBNETS_V4,
    HOST_ADDRS_V4,
    PUBLISHED_V4,
    FLOWS_V4,
    FLOWS_NEW_V4,
    route_v4,
    tuple_v4
);
family_tables!(
    V6,
    ADDRESSES_V6,
    SUBNETS_V6,
    HOST_ADDRS_V6,
    PUBLISHED_V6,
    FLOWS_V6,
    FLOWS_NEW_V6,
    route_v6,
    tuple_v6
);

#[inline(always)]
const fn update_mode(mode: Insert) -> u64 {
    match mode {
        Insert::Absent => 1,
        Insert::Replace => 0,
    }
}

#[inline(always)]
const fn inserted(result: Result<(), i32>) -> Result<(), InsertError> {
    const EEXIST: i32 = -17;
    match result {
        Ok(()) => Ok(()),
        Err(EEXIST) => Err(InsertError::Exists),
        Err(_) => Err(InsertError::Full),
    }
}
