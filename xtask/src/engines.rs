//! Other Docker engines than this machine's, with the client, containerd, runc and compose that go with
//! them: packages of another release of the distribution, unpacked beside what cargo builds and never
//! installed.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::run;

const PACKAGES: &str = "--include=docker.io,docker-cli,containerd,runc,docker-compose";

/// Unpacks the engine of a release (`trixie`, `sid`) with all that it needs, once; where it lies.
pub(crate) fn ensure(release: &str) -> Result<PathBuf> {
    let place = run::target().join("engines").join(release);
    if place.exists() {
        return Ok(place);
    }
    let half = place.with_extension("half");
    let _from_before = fs::remove_dir_all(&half);
    fs::create_dir_all(&half)?;
    let mut unpack = Command::new("mmdebstrap");
    unpack.args(["--quiet", "--variant=extract", PACKAGES, &format!("--aptopt={}", freshness()?)]);
    run::run(unpack.arg(release).arg(&half)).context("it can't be had from the archives")?;
    fs::rename(&half, &place).with_context(|| place.display().to_string())?;
    Ok(place)
}

/// A machine that works on old archives has told its apt so.
fn freshness() -> Result<String> {
    let told = Command::new("apt-config").args(["dump", "Acquire::Check-Valid-Until"]).output()?;
    let told = String::from_utf8_lossy(&told.stdout).trim().to_owned();
    Ok(if told.is_empty() { "Acquire::Check-Valid-Until \"true\";".to_owned() } else { told })
}
