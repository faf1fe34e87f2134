//! Kernels that netd does not run on. `cargo xtask vm` boots one.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use netd_tests::process::{built, run};
use netd_user::kernel::TooOld;

use super::World;

/// A daemon's configuration, all of it below a directory that is not there.
fn configuration(world: &World, below: &Path) -> PathBuf {
    let mut text = String::from("metrics-addr = \"off\"\n");
    let places = ["state-dir", "run-dir", "netns-dir", "api-socket", "docker-socket"];
    for key in places {
        writeln!(text, "{key} = \"{}\"", below.join(key).display()).unwrap();
    }
    writeln!(text, "cgroup = \"{}\"", world.host.cgroup().display()).unwrap();
    writeln!(text, "bpffs-dir = \"{}\"", world.host.bpffs().join("netd").display()).unwrap();
    let file = world.host.directory().join("netd.toml");
    fs::write(&file, text).unwrap();
    file
}

fn links(world: &World) -> BTreeSet<String> {
    let shown = world.host.netns().run(|| run("ip", &["-o", "link"])).unwrap();
    shown.lines().map(str::to_owned).collect()
}

#[test]
#[ignore = "it needs a kernel without tcx: `cargo xtask vm` boots one"]
fn kernel_without_tcx_is_refused_in_a_sentence_and_nothing_is_made() {
    let world = World::new();
    let below = world.host.directory().join("refused");
    let file = configuration(&world, &below).to_string_lossy().into_owned();
    let (netd, before) = (built("netd").unwrap(), links(&world));
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let (release, remedy) = (release.trim(), TooOld::REMEDY);

    let checked = world.host.exec(&netd, &["check", "--config", &file]).unwrap();
    let told = String::from_utf8(checked.stdout).unwrap();
    let wrong: Vec<_> = told.lines().filter(|line| line.starts_with("WRONG")).collect();
    assert_eq!(wrong, [format!("WRONG  kernel: Linux {release} has no tcx; {remedy}")]);
    assert_eq!(checked.status.code(), Some(1));

    let refused = world.host.exec(&netd, &["daemon", "--config", &file]).unwrap();
    let told = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(told, format!("netd daemon: Linux {release} has no tcx: {remedy}\n"));
    assert_eq!((refused.status.code(), refused.stdout), (Some(1), Vec::new()));

    assert!(!below.exists(), "no directory, store or socket");
    assert_eq!(fs::read_dir(world.host.bpffs()).unwrap().count(), 0, "no pin");
    assert_eq!(links(&world), before);
}
