//! bpf(2) itself.
//!
//! Law: an attribute is a `repr(C)` prefix of `union bpf_attr` whose pointers, held as numbers, point
//! into memory that the caller keeps alive and large enough during the call. Only `batch` and `pin`
//! build attributes, each from slices and C strings on their own stack.

use std::io;

/// `enum bpf_cmd`, uapi/linux/bpf.h.
#[derive(Clone, Copy, Debug)]
#[repr(i32)]
pub(super) enum Command {
    /// `BPF_MAP_LOOKUP_ELEM`.
    LookupElem = 1,
    /// `BPF_MAP_UPDATE_ELEM`.
    UpdateElem = 2,
    /// `BPF_MAP_DELETE_ELEM`.
    DeleteElem = 3,
    /// `BPF_MAP_GET_NEXT_KEY`.
    GetNextKey = 4,
    /// `BPF_OBJ_PIN`.
    ObjectPin = 6,
    /// `BPF_OBJ_GET`.
    ObjectGet = 7,
    /// `BPF_OBJ_GET_INFO_BY_FD`.
    ObjectInfo = 15,
    /// `BPF_MAP_LOOKUP_BATCH`.
    LookupBatch = 24,
    /// `BPF_MAP_UPDATE_BATCH`.
    UpdateBatch = 26,
    /// `BPF_MAP_DELETE_BATCH`.
    DeleteBatch = 27,
    /// `BPF_LINK_CREATE`.
    LinkCreate = 28,
    /// `BPF_LINK_UPDATE`.
    LinkUpdate = 29,
    /// `BPF_LINK_DETACH`.
    LinkDetach = 34,
}

/// One call; the result is 0 or a new file descriptor.
pub(super) fn bpf<Attr>(command: Command, attr: &mut Attr) -> io::Result<i32> {
    // SAFETY: the module's law.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as i32, std::ptr::from_mut(attr), size_of::<Attr>())
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}

/// `CLOCK_MONOTONIC` in seconds: the clock of the flow table.
pub(super) fn monotonic_s() -> u32 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid place for the kernel to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut now) };
    u32::try_from(now.tv_sec).unwrap_or(u32::MAX)
}
