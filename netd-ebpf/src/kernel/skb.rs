//! A packet in the kernel.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use aya_ebpf::helpers::generated::{
    bpf_check_mtu, bpf_l3_csum_replace, bpf_l4_csum_replace, bpf_skb_change_head,
    bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_pull_data, bpf_skb_store_bytes,
};
use bytemuck::Pod;
use netd_common::IfIndex;
use netd_common::map::fragment::{HELD_LEN, held_len};
use netd_common::wire::{ETHERNET_LEN, Ethernet};

use super::PACKET_HOST;
use super::repeat::repeat;
use crate::headers::{self, Payload};
use crate::packet::{ChecksumField, Cover, HEAD_LEN, PacketBuf, Refused};

/// Linux 6.16 on: the pseudo header is IPv6's, which no header checksum makes up for.
const BPF_F_IPV6: u64 = 1 << 7;

/// `bpf_check_mtu`: the segments of a super-packet, too.
const BPF_MTU_CHK_SEGS: u64 = 1;

/// The packet that a program was called for.
#[derive(Debug)]
pub(super) struct Skb {
    ctx: *mut __sk_buff,
}

impl Skb {
    /// Of the program's context.
    #[inline(always)]
    pub(super) const fn new(ctx: *mut __sk_buff) -> Self {
        Self { ctx }
    }

    /// Where a value lies in the part of the frame that can be read in place. Never kept: whatever
    /// moves the data makes it stale, and the verifier refuses it then.
    #[inline(always)]
    fn place<T>(&self, offset: u32) -> Option<*mut InFrame<T>> {
        // SAFETY: the context is the one the kernel gave the program.
        let (start, end) = unsafe { ((*self.ctx).data as usize, (*self.ctx).data_end as usize) };
        let place = start + offset as usize;
        (place + size_of::<T>() <= end).then_some(place as *mut InFrame<T>)
    }
}

#[inline(always)]
const fn done(code: i64) -> Result<(), Refused> {
    if code == 0 { Ok(()) } else { Err(Refused) }
}

/// `headers::options`: 0 for none, else 1, or 2 where they name routers.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn walk_options(ctx: *mut __sk_buff, end: u32) -> u32 {
    headers::options(&Skb::new(ctx), end).map_or(0, |routed| 1 + u32::from(routed))
}

/// `headers::option`: 0 for none, else twice its length, and one more where it names routers.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_option(ctx: *mut __sk_buff, at: u32, end: u32) -> u32 {
    headers::option(&Skb::new(ctx), at, end).map_or(0, |(len, routed)| len << 1 | u32::from(routed))
}

/// `headers::extensions`, as `Payload::word`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn walk_extensions(ctx: *mut __sk_buff, at: u32, proto: u32) -> u64 {
    Payload::word(headers::extensions(&Skb::new(ctx), at, proto as u8))
}

/// Makes the frame's first `HEAD_LEN` bytes, or all that it has, readable where they lie. A driver or
/// a tunnel may leave them in a page of their own; a frame that cannot be had together is read as if
/// it ended there.
#[inline(always)]
pub(super) fn bring_head(ctx: *mut __sk_buff) {
    // SAFETY: the context is the one the kernel gave the program.
    let (start, end, len) = unsafe { ((*ctx).data, (*ctx).data_end, (*ctx).len) };
    if end - start < HEAD_LEN && end - start < len {
        // SAFETY: takes plain numbers; the kernel checks the length.
        unsafe { bpf_skb_pull_data(ctx, len.min(HEAD_LEN)) };
    }
}

/// A value in a frame: the kernel aligns frames to two bytes, and not always to more.
#[repr(C, packed(2))]
struct InFrame<T>(T);

/// Whether there is such an interface: the cheapest helper that says so, whatever the MTU.
#[inline(always)]
pub(super) fn exists(ctx: *mut __sk_buff, ifindex: IfIndex) -> bool {
    const NO_SUCH_DEVICE: i64 = -19;
    let mut len = 0;
    // SAFETY: the helper reads and writes the one word.
    let code = unsafe { bpf_check_mtu(ctx.cast(), ifindex.0, &raw mut len, 0, 0) };
    code != NO_SUCH_DEVICE
}

impl PacketBuf for Skb {
    #[inline(always)]
    fn head<T: Pod>(&self, offset: u32) -> Option<T> {
        let place = self.place::<T>(offset)?;
        // SAFETY: the place is within the frame, and any bytes are a value of plain data.
        Some(unsafe { (*place).0 })
    }

    #[inline(always)]
    fn store_head<T: Pod>(&mut self, offset: u32, value: &T) -> Result<(), Refused> {
        let place = self.place::<T>(offset).ok_or(Refused)?;
        // SAFETY: the place is within the frame; the kernel made it the program's own to write
        // before the program began.
        unsafe { (*place).0 = *value };
        Ok(())
    }

    #[inline(always)]
    fn options(&self, end: u32) -> Option<bool> {
        match walk_options(self.ctx, end) {
            0 => None,
            found => Some(found == 2),
        }
    }

    #[inline(always)]
    fn option(&self, at: u32, end: u32) -> Option<(u32, bool)> {
        let found = read_option(self.ctx, at, end);
        (found != 0).then_some((found >> 1, found & 1 != 0))
    }

    #[inline(always)]
    fn extensions(&self, at: u32, proto: u8) -> Option<Payload> {
        Payload::from_word(walk_extensions(self.ctx, at, u32::from(proto)))
    }

    #[inline(always)]
    fn repeat<G: FnMut(&Self, u32) -> bool>(&self, rounds: u32, mut body: G) {
        repeat(&mut Self::new(self.ctx), rounds, |skb, round| body(skb, round));
    }

    #[inline(always)]
    fn push_ethernet(&mut self, header: &Ethernet) -> Result<(), Refused> {
        // SAFETY: takes plain numbers; the kernel makes the room.
        done(unsafe { bpf_skb_change_head(self.ctx, ETHERNET_LEN, 0) })?;
        self.store(0, header)
    }

    #[inline(always)]
    fn frame_len(&self) -> u32 {
        // SAFETY: the context is the one the kernel gave the program.
        unsafe { (*self.ctx).len }
    }

    #[inline(always)]
    fn ifindex(&self) -> IfIndex {
        // SAFETY: the context is the one the kernel gave the program.
        IfIndex(unsafe { (*self.ctx).ifindex })
    }

    #[inline(always)]
    fn is_for_host(&self) -> bool {
        // SAFETY: the context is the one the kernel gave the program.
        unsafe { (*self.ctx).pkt_type == PACKET_HOST }
    }

    #[inline(always)]
    fn is_forwarded(&self) -> bool {
        // SAFETY: the context is the one the kernel gave the program.
        unsafe { (*self.ctx).ingress_ifindex != 0 }
    }

    #[inline(always)]
    fn is_super_packet(&self) -> bool {
        // SAFETY: the context is the one the kernel gave the program.
        unsafe { (*self.ctx).gso_size != 0 }
    }

    #[inline(always)]
    fn has_vlan_tag(&self) -> bool {
        // SAFETY: the context is the one the kernel gave the program.
        unsafe { (*self.ctx).vlan_present != 0 }
    }

    #[inline(always)]
    fn mark(&self) -> u32 {
        // SAFETY: the context is the one the kernel gave the program.
        unsafe { (*self.ctx).mark }
    }

    #[inline(always)]
    fn set_mark(&mut self, mark: u32) {
        // SAFETY: the context is the one the kernel gave the program.
        unsafe { (*self.ctx).mark = mark }
    }

    #[inline(always)]
    fn load<T: Pod>(&self, offset: u32) -> Option<T> {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: the helper writes exactly the value's length, or reports failure.
        let code = unsafe {
            bpf_skb_load_bytes(
                self.ctx.cast(),
                offset,
                value.as_mut_ptr().cast(),
                size_of::<T>() as u32,
            )
        };
        if code != 0 {
            return None;
        }
        // SAFETY: written in full, and any bytes are a value of plain data.
        Some(unsafe { value.assume_init() })
    }

    #[inline(always)]
    fn store<T: Pod>(&mut self, offset: u32, value: &T) -> Result<(), Refused> {
        // SAFETY: the helper reads exactly the value's length.
        done(unsafe {
            bpf_skb_store_bytes(
                self.ctx.cast(),
                offset,
                core::ptr::from_ref(value).cast(),
                size_of::<T>() as u32,
                0,
            )
        })
    }

    #[inline(always)]
    fn copy_out(&self, into: &mut [u8; HELD_LEN]) -> Option<u32> {
        let len = self.frame_len();
        if len == 0 || len as usize > HELD_LEN {
            return None;
        }
        // Bounded once more, for verifiers that lose the bound where the compiler compares another
        // register; read once more, or the compiler would see that the mask changes nothing.
        // SAFETY: the context is the one the kernel gave the program.
        let len = unsafe { core::ptr::read_volatile(&raw const (*self.ctx).len) };
        let len = held_len(len);
        // SAFETY: the helper writes `len` bytes, and there is room for as many.
        done(unsafe { bpf_skb_load_bytes(self.ctx.cast(), 0, into.as_mut_ptr().cast(), len) })
            .ok()
            .map(|()| len)
    }

    #[inline(always)]
    fn resize(&mut self, len: u32) -> Result<(), Refused> {
        // SAFETY: takes plain numbers; the kernel checks the length.
        done(unsafe { bpf_skb_change_tail(self.ctx, len, 0) })
    }

    #[inline(always)]
    fn fits(&self, ifindex: IfIndex) -> bool {
        // The length after the Ethernet header: not every link has one.
        let (mut len, flags) = if self.is_super_packet() {
            (0, BPF_MTU_CHK_SEGS)
        } else {
            (self.frame_len().saturating_sub(ETHERNET_LEN), 0)
        };
        // SAFETY: the helper reads and writes the one word.
        let code = unsafe { bpf_check_mtu(self.ctx.cast(), ifindex.0, &raw mut len, 0, flags) };
        // A negative number: no such interface, which the redirect finds out.
        code <= 0
    }

    #[inline(always)]
    fn fold_header_checksum(&mut self, offset: u32, difference: u32) -> Result<(), Refused> {
        // SAFETY: takes plain numbers; the kernel checks the offset.
        done(unsafe { bpf_l3_csum_replace(self.ctx.cast(), offset, 0, u64::from(difference), 0) })
    }

    #[inline(always)]
    fn fold_checksum(
        &mut self,
        field: ChecksumField,
        cover: Cover,
        difference: u32,
    ) -> Result<(), Refused> {
        let mut flags = 0;
        if field.zero_is_none {
            flags |= u64::from(BPF_F_MARK_MANGLED_0);
        }
        if matches!(cover, Cover::PseudoHeader) {
            flags |= u64::from(BPF_F_PSEUDO_HDR);
        }
        let fold = |flags| {
            // SAFETY: takes plain numbers; the kernel checks the offset.
            done(unsafe {
                bpf_l4_csum_replace(self.ctx.cast(), field.offset, 0, u64::from(difference), flags)
            })
        };
        // Kernels before 6.16 refuse the flag they do not know.
        if field.ipv6 && matches!(cover, Cover::PseudoHeader) && fold(flags | BPF_F_IPV6).is_ok() {
            return Ok(());
        }
        fold(flags)
    }
}
