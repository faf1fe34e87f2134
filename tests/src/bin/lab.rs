//! Holds a laboratory of two hosts open, to try things by hand: `ip netns exec NAME …`. An interrupt
//! ends it, and nothing stays.

use std::process::ExitCode;

use anyhow::Result;
use netd_tests::Lab;
use netd_tests::guard::guarded;

fn main() -> Result<ExitCode> {
    guarded(hold)
}

fn hold() -> Result<()> {
    let lab = Lab::new()?;
    let outside = lab.outside()?;
    let hosts = [lab.host(&outside)?, lab.host(&outside)?];
    for host in &hosts {
        println!("{} has {} and {}", host.name(), host.v4(), host.v6());
    }
    println!("{} is open until an interrupt", lab.name());
    loop {
        std::thread::park();
    }
}
