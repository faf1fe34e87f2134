//! The kernel object as tests load it: small tables, no pins, nothing attached.

use std::path::PathBuf;

use aya::programs::{CgroupSock, CgroupSockAddr, Program, SchedClassifier};
use aya::{Ebpf, EbpfLoader};

/// The bytes of the object.
pub fn object() -> Vec<u8> {
    let path = std::env::var_os("NETD_DATAPLANE_OBJECT").map_or_else(
        || {
            PathBuf::from(env!("CARGO_MANIFEST_DIR"))
                .join("../target/bpf/bpfel-unknown-none/bpf/netd-dataplane")
        },
        PathBuf::from,
    );
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Loads the object's maps, and no program yet.
pub fn load() -> Ebpf {
    let mut loader = EbpfLoader::new();
    for map in netd_common::map::MAPS {
        if map.capacity > 1_024 && map.capacity < 1 << 20 {
            loader.map_max_entries(map.name, 1_024);
        }
    }
    loader.load(&object()).expect("the object's maps load")
}

/// Gives a program to the verifier.
pub fn verify<'a>(ebpf: &'a mut Ebpf, name: &str) -> &'a mut Program {
    let program = ebpf.program_mut(name).unwrap_or_else(|| panic!("{name} is not in the object"));
    let loaded = match program {
        Program::SchedClassifier(program) => SchedClassifier::load(program),
        Program::CgroupSockAddr(program) => CgroupSockAddr::load(program),
        Program::CgroupSock(program) => CgroupSock::load(program),
        other => panic!("{name} is a {:?}", other.prog_type()),
    };
    if let Err(error) = loaded {
        let mut report = format!("{name}: {error}");
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            report.push_str(&format!("\n{cause}"));
            source = cause.source();
        }
        let tail: Vec<_> = report.lines().rev().take(120).collect();
        panic!("{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
    }
    program
}
