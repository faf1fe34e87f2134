//! Pipeline and model: over any story of a random host they agree on every packet.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netd_ebpf::testing::story::Story;
use netd_ebpf::testing::truth;

fuzz_target!(|story: Story| {
    truth::compare(&story);
});
