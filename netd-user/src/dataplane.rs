//! Maps and programs: the only place that speaks bpf.

pub mod events;
pub mod stats;
pub mod sweep;

use std::path::PathBuf;

/// Why a map or a program could not be used.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// The kernel lacks tcx.
    #[error("kernel {found} is too old: netd needs {}.{} or later (tcx)", .needed.0, .needed.1)]
    KernelTooOld {
        /// `uname -r`.
        found: String,
        /// Major and minor.
        needed: (u32, u32),
    },
    /// The object can't be loaded.
    #[error("load the kernel object: {0}")]
    Object(#[from] aya::EbpfError),
    /// The object lacks a program.
    #[error("the kernel object has no program {0}")]
    MissingProgram(&'static str),
    /// A program was refused or could not be attached.
    #[error("{action} program {program}: {source}")]
    Program {
        /// What was tried.
        action: &'static str,
        /// Which.
        program: String,
        /// The kernel's answer.
        source: aya::programs::ProgramError,
    },
    /// A pinned map of this ABI has another shape.
    #[error("{} is not the map this version expects ({found}); run `netd uninstall`", path.display())]
    PinMismatch {
        /// The pin.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// A map operation was refused.
    #[error("{action} map {map}: {source}")]
    Map {
        /// What was tried.
        action: &'static str,
        /// Which.
        map: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// A map is full.
    #[error("map {map} is full ({capacity} entries)")]
    MapFull {
        /// Which.
        map: String,
        /// Its capacity.
        capacity: u32,
    },
    /// A pin or directory could not be made, read or removed.
    #[error("{action} {}: {source}", path.display())]
    Pin {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
}
