//! Builds the kernel object and puts it into `OUT_DIR`, where `dataplane/object.rs` embeds it.
//! It has a target directory of its own: the outer build holds the lock of the usual one.

// The one rule for finding a compiler; what only `cargo xtask setup` uses of it is unused here.
#[path = "../xtask/src/toolchain.rs"]
mod toolchain;

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use toolchain::Toolchain;

const OVERRIDE: &str = "NETD_DATAPLANE_OBJECT";
const SOURCES: [&str; 7] = [
    "Cargo.toml",
    "netd-common/Cargo.toml",
    "netd-common/src",
    "netd-ebpf/Cargo.toml",
    "netd-ebpf/src",
    "netd-user/build.rs",
    "xtask/src/toolchain.rs",
];

fn main() {
    if let Err(error) = embed() {
        println!("cargo::error={error}");
    }
}

fn embed() -> Result<(), Box<dyn Error>> {
    tell_compiler()?;
    println!("cargo::rerun-if-env-changed={OVERRIDE}");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let object = match env::var_os(OVERRIDE) {
        Some(path) => PathBuf::from(path),
        None => build(&out)?,
    };
    println!("cargo::rerun-if-changed={}", object.display());
    let copied = fs::copy(&object, out.join("netd-dataplane"));
    copied
        .map_err(|error| format!("can't read the kernel object {}: {error}", object.display()))?;
    Ok(())
}

/// For `netd_build_info`. The revision is told by whoever packages: `NETD_REVISION`.
fn tell_compiler() -> Result<(), Box<dyn Error>> {
    let rustc = env::var("RUSTC")?;
    let said = std::process::Command::new(rustc).arg("--version").output()?.stdout;
    let version = String::from_utf8(said)?;
    let number = version.split(' ').nth(1).ok_or("rustc tells no version")?;
    println!("cargo::rustc-env=NETD_RUSTVERSION={number}");
    println!("cargo::rerun-if-env-changed=NETD_REVISION");
    Ok(())
}

fn build(out: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let manifest = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let workspace = manifest.parent().ok_or("the manifest has no workspace above it")?;
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }
    let next = env::var_os("CARGO_FEATURE_NEXT_LAYOUT").is_some();
    let target = target_root(out).join(if next { "bpf-next" } else { "bpf" });
    let toolchain = Toolchain::find()?;
    println!("the kernel object is built by {toolchain}");
    let mut cargo = toolchain.cargo("build", workspace, &target);
    if next {
        cargo.args(["--features", "next-layout"]);
    }
    let output = cargo.output()?;
    if !output.status.success() {
        // Cargo repeats a build script's words only when it fails: these are the compiler's.
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        std::process::exit(1);
    }
    Ok(target.join("bpfel-unknown-none/bpf/netd-dataplane"))
}

/// Cargo marks the root of its target directory, wherever the user has put it.
fn target_root(out: &Path) -> &Path {
    out.ancestors().find(|dir| dir.join("CACHEDIR.TAG").is_file()).unwrap_or(out)
}
