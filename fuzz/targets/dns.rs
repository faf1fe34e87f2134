//! The name service's handler: whatever a container asks and an upstream answers, clients get what
//! they can read or nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netd_user::dns::ordeal::endure;

fuzz_target!(|bytes: &[u8]| endure(bytes));
