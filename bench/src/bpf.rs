//! The few `bpf(2)` calls that the generator needs, and the encoding of its instructions.
//!
//! Law: programs here are a handful of instructions written as data; descriptors close by themselves,
//! and with them go programs, maps and links.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use anyhow::{Context, Result};

const MAP_CREATE: libc::c_int = 0;
const PROG_LOAD: libc::c_int = 5;
const PROG_TEST_RUN: libc::c_int = 10;
const LINK_CREATE: libc::c_int = 28;

const MAP_TYPE_ARRAY: u32 = 2;
const LIVE_FRAMES: u32 = 1 << 1;
const LICENSE: &[u8] = b"Dual MIT/GPL\0";

/// A kind of program that we load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// At the driver's edge.
    Xdp,
    /// At tc ingress, by tcx.
    Tcx,
}

impl Kind {
    const fn program_type(self) -> u32 {
        match self {
            Self::Xdp => 6,
            Self::Tcx => 3,
        }
    }

    const fn attach_type(self) -> u32 {
        match self {
            Self::Xdp => 37,
            Self::Tcx => 46,
        }
    }
}

/// One instruction as the kernel reads it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

impl Instruction {
    /// By its parts: opcode, destination, source, offset, immediate.
    pub(crate) const fn new(code: u8, (to, from): (u8, u8), offset: i16, immediate: i32) -> Self {
        Self { code, registers: to | (from << 4), offset, immediate }
    }
}

#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    ifindex: u32,
    attach_type: u32,
}

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    kind: u32,
    key_len: u32,
    value_len: u32,
    capacity: u32,
    flags: u32,
    inner: u32,
}

#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    result: u32,
    data_in_len: u32,
    data_out_len: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_in_len: u32,
    context_out_len: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    more: [u64; 3],
}

/// `struct xdp_md`.
#[repr(C)]
#[derive(Default)]
struct XdpContext {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress: u32,
    queue: u32,
    egress: u32,
}

/// Loads a program.
pub(crate) fn load(kind: Kind, instructions: &[Instruction]) -> Result<OwnedFd> {
    let mut log = vec![0_u8; 65_536];
    let mut attributes = ProgLoad {
        kind: kind.program_type(),
        count: u32::try_from(instructions.len())?,
        instructions: address(instructions),
        license: address(LICENSE),
        log_level: 1,
        log_size: u32::try_from(log.len())?,
        log: log.as_mut_ptr() as u64,
        attach_type: kind.attach_type(),
        ..ProgLoad::default()
    };
    let loaded = open(PROG_LOAD, &mut attributes);
    loaded.with_context(|| {
        let said = log.split(|byte| *byte == 0).next().unwrap_or_default();
        format!("loading a program: {}", String::from_utf8_lossy(said))
    })
}

/// An array of one 8-byte counter.
pub(crate) fn counter() -> Result<OwnedFd> {
    let mut attributes = MapCreate {
        kind: MAP_TYPE_ARRAY,
        key_len: 4,
        value_len: 8,
        capacity: 1,
        ..MapCreate::default()
    };
    open(MAP_CREATE, &mut attributes).context("creating a counter")
}

/// Attaches a program to a link of the caller's namespace until the descriptor closes.
pub(crate) fn attach(kind: Kind, program: &OwnedFd, ifindex: u32) -> Result<OwnedFd> {
    let mut attributes = LinkCreate {
        program: number(program.as_raw_fd())?,
        target: ifindex,
        attach_type: kind.attach_type(),
        ..LinkCreate::default()
    };
    open(LINK_CREATE, &mut attributes).with_context(|| format!("attaching to link {ifindex}"))
}

/// Runs an XDP program `count` times on frames that arrive, for real, on a link of the caller's
/// namespace, and says how many nanoseconds each took by the kernel's clock, which leaves out the
/// set-up of the run.
pub(crate) fn inject(program: &OwnedFd, ifindex: u32, frame: &[u8], count: u32) -> Result<u32> {
    let frame_len = u32::try_from(frame.len())?;
    let context = XdpContext { data_end: frame_len, ingress: ifindex, ..XdpContext::default() };
    let mut attributes = TestRun {
        program: number(program.as_raw_fd())?,
        data_in_len: frame_len,
        data_in: address(frame),
        repeat: count,
        context_in_len: u32::try_from(size_of::<XdpContext>())?,
        context_in: &raw const context as u64,
        flags: LIVE_FRAMES,
        batch: 64,
        ..TestRun::default()
    };
    call(PROG_TEST_RUN, &mut attributes).context("injecting frames")?;
    Ok(attributes.duration)
}

fn address<T>(values: &[T]) -> u64 {
    values.as_ptr() as u64
}

fn number(descriptor: RawFd) -> Result<u32> {
    u32::try_from(descriptor).context("descriptor")
}

fn open<T>(command: libc::c_int, attributes: &mut T) -> io::Result<OwnedFd> {
    let descriptor = call(command, attributes)?;
    // SAFETY: the kernel has just made this descriptor for us, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn call<T>(command: libc::c_int, attributes: &mut T) -> io::Result<RawFd> {
    // SAFETY: the attributes are the kernel's layout for the command, and every address in them
    // belongs to a value that the caller keeps alive across the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>())
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(result).map_err(io::Error::other)
}
