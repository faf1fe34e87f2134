//! What is packaged: units that systemd's own checker accepts, as confined as the daemon's work allows,
//! and a sample of the configuration that says nothing but the defaults.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use netd_tests::process;
use netd_user::config::Config;

/// `systemd-analyze security` from 0 (confined) to 100; it calls everything below 50 OK.
const EXPOSURE_AT_MOST: &str = "50";

fn packaged(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(file)
}

/// Runs the checker, which must say nothing.
fn analyzed(arguments: &[&str]) {
    let output = process::output(Command::new("systemd-analyze").args(arguments), b"").unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{arguments:?}: {output:?}");
}

#[test]
fn units_are_accepted_by_systemds_checker() {
    let dir = tempfile::tempdir().unwrap();
    let netd = process::built("netd").unwrap();
    let service = fs::read_to_string(packaged("netd.service")).unwrap();
    // The program lies where it was built, and its manual is not installed.
    let service = service.replace("/usr/bin/netd", &netd.to_string_lossy());
    let units = [
        ("netd.service", service),
        ("netd.socket", fs::read_to_string(packaged("netd.socket")).unwrap()),
    ];
    let written = units.map(|(name, text)| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    });
    analyzed(&["verify", "--man=no", &written[0], &written[1]]);
}

#[test]
fn service_is_confined() {
    let service = packaged("netd.service");
    let threshold = format!("--threshold={EXPOSURE_AT_MOST}");
    analyzed(&["security", "--no-pager", "--offline=true", &threshold, &service.to_string_lossy()]);
}

#[test]
fn service_may_do_what_the_daemon_needs_and_nothing_else() {
    let service = fs::read_to_string(packaged("netd.service")).unwrap();
    let line = service.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let mut granted: Vec<&str> = line.unwrap().split(' ').collect();
    let mut needed: Vec<String> =
        netd_user::daemon::NEEDED.iter().map(|(capability, _)| capability.to_string()).collect();
    granted.sort_unstable();
    needed.sort_unstable();
    assert_eq!(granted, needed);
}

#[test]
fn socket_unit_listens_where_the_daemon_looks() {
    let config = Config::parse("", Path::new("netd.toml")).unwrap();
    let unit = fs::read_to_string(packaged("netd.socket")).unwrap();
    let listens: Vec<&Path> =
        unit.lines().filter_map(|line| line.strip_prefix("ListenStream=")).map(Path::new).collect();
    assert_eq!(listens, [config.api_socket.as_path(), config.docker_socket.as_deref().unwrap()]);
}

#[test]
fn sample_configuration_says_the_defaults() {
    let sample = fs::read_to_string(packaged("netd.toml")).unwrap();
    let keys = |line: &str| {
        // A sentence begins with `# `, a key that is commented out with `#`.
        line.strip_prefix('#').filter(|key| !key.starts_with(' ')).unwrap_or(line).to_owned()
    };
    let set: Vec<String> = sample.lines().map(keys).collect();
    let file = Path::new("netd.toml");
    let defaults = Config::parse("", file).unwrap();
    assert_eq!(Config::parse(&set.join("\n"), file).unwrap(), defaults);
    assert_eq!(Config::parse(&sample, file).unwrap(), defaults);
    assert!(set.iter().filter(|line| line.contains(" = ")).count() > 20, "{set:?}");
}
