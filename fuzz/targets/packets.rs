//! Parser and pipeline: whatever arrives at a random host, every promise of `laws` is kept.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netd_ebpf::testing::ordeal::{Ordeal, endure};

fuzz_target!(|ordeal: Ordeal| endure(&ordeal));
