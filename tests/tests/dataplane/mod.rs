//! The kernel object as tests load it: small tables, no pins, nothing attached.

#[allow(dead_code, reason = "not every test asks for it")]
pub mod stack;

use aya::programs::{CgroupSock, CgroupSockAddr, Program, SchedClassifier};
use aya::{Ebpf, EbpfLoader};
use netd_user::dataplane::object::DATAPLANE_OBJECT;

/// Loads the object's maps, and no program yet.
pub fn load() -> Ebpf {
    let mut loader = EbpfLoader::new();
    for map in netd_common::map::MAPS {
        if map.capacity > 1_024 && map.capacity < 1 << 20 {
            loader.map_max_entries(map.name, 1_024);
        }
    }
    loader.load(DATAPLANE_OBJECT).expect("the object's maps load")
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
            report.push('\n');
            report.push_str(&cause.to_string());
            source = cause.source();
        }
        let tail: Vec<_> = report.lines().rev().take(120).collect();
        panic!("{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
    }
    program
}

/// Tables of one small host, written as the controller would.
#[allow(dead_code, reason = "not every test needs all tables")]
pub mod tables {
    use aya::maps::{Array, HashMap, LpmTrie, Map, PerCpuArray, PerCpuHashMap};
    use aya::{Ebpf, Pod};

    fn map<'a>(ebpf: &'a mut Ebpf, name: &str) -> &'a mut Map {
        ebpf.map_mut(name).unwrap_or_else(|| panic!("no map {name}"))
    }

    /// Writes a hash entry.
    pub fn put<K: Pod, V: Pod>(ebpf: &mut Ebpf, name: &str, key: K, value: V) {
        let mut table = HashMap::<_, K, V>::try_from(map(ebpf, name)).expect("a hash");
        table.insert(key, value, 0).expect("room in the table");
    }

    /// Reads a hash entry.
    pub fn get<K: Pod, V: Pod>(ebpf: &mut Ebpf, name: &str, key: &K) -> Option<V> {
        let table = HashMap::<_, K, V>::try_from(map(ebpf, name)).expect("a hash");
        table.get(key, 0).ok()
    }

    /// All keys and values.
    pub fn all<K: Pod, V: Pod>(ebpf: &mut Ebpf, name: &str) -> Vec<(K, V)> {
        let table = HashMap::<_, K, V>::try_from(map(ebpf, name)).expect("a hash");
        table.iter().map(|entry| entry.expect("a readable entry")).collect()
    }

    /// Writes an array slot.
    pub fn set<V: Pod>(ebpf: &mut Ebpf, name: &str, slot: u32, value: V) {
        let mut table = Array::<_, V>::try_from(map(ebpf, name)).expect("an array");
        table.set(slot, value, 0).expect("a slot");
    }

    /// Writes a prefix.
    pub fn prefix<A: Pod, V: Pod>(ebpf: &mut Ebpf, name: &str, len: u32, addr: A, value: V) {
        let mut table = LpmTrie::<_, A, V>::try_from(map(ebpf, name)).expect("a trie");
        let key = aya::maps::lpm_trie::Key::new(len, addr);
        table.insert(&key, value, 0).expect("room in the trie");
    }

    /// A per-CPU array slot of every CPU.
    pub fn per_cpu<V: Pod>(ebpf: &mut Ebpf, name: &str, slot: u32) -> Vec<V> {
        let table = PerCpuArray::<_, V>::try_from(map(ebpf, name)).expect("a per-CPU array");
        table.get(&slot, 0).expect("a slot").to_vec()
    }

    /// All keys of a per-CPU hash, with the values of every CPU.
    pub fn all_per_cpu<K: Pod, V: Pod>(ebpf: &mut Ebpf, name: &str) -> Vec<(K, Vec<V>)> {
        let table = PerCpuHashMap::<_, K, V>::try_from(map(ebpf, name)).expect("a per-CPU hash");
        table
            .iter()
            .map(|entry| entry.expect("a readable entry"))
            .map(|(key, values)| (key, values.to_vec()))
            .collect()
    }

    /// Zeroes a per-CPU array slot on every CPU.
    pub fn clear_per_cpu<V: Pod + Default + Clone>(ebpf: &mut Ebpf, name: &str, slot: u32) {
        let mut table = PerCpuArray::<_, V>::try_from(map(ebpf, name)).expect("a per-CPU array");
        let cpus = aya::util::nr_cpus().expect("a number of CPUs");
        let zero = aya::maps::PerCpuValues::try_from(vec![V::default(); cpus]).expect("one a CPU");
        table.set(slot, zero, 0).expect("a slot");
    }

    /// The events of the monitor's ring buffer.
    pub fn events(ebpf: &mut Ebpf) -> Vec<netd_common::verdict::Event> {
        let mut ring = aya::maps::RingBuf::try_from(map(ebpf, "events")).expect("a ring buffer");
        let mut events = Vec::new();
        while let Some(item) = ring.next() {
            events.push(bytemuck::pod_read_unaligned(&item));
        }
        events
    }
}
