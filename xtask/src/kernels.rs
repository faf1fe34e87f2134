//! Other kernels than this machine's, for the tests in virtual machines: the distribution's packages,
//! unpacked beside what cargo builds and never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::run;

/// Each stands for the newest kernel of its line: one below what netd runs on, and one above.
pub(crate) const PACKAGES: [&str; 2] = ["linux-image-cloud-amd64", "linux-image-6.12-cloud-amd64"];

/// Where a package's kernel lies once it is unpacked.
pub(crate) fn directory(package: &str) -> PathBuf {
    run::target().join("kernels").join(package)
}

/// Fetches and unpacks the kernel that a package stands for; its place is there when all of it is.
/// The archives' lists may be old, or not there yet.
pub(crate) fn fetch(package: &str) -> Result<()> {
    fetch_listed(package).or_else(|_old_lists| {
        said(Command::new("apt-get").args(["-qq", "update"]))?;
        fetch_listed(package)
    })
}

fn fetch_listed(package: &str) -> Result<()> {
    let place = directory(package);
    let half = place.with_extension("half");
    let _from_before = fs::remove_dir_all(&half);
    fs::create_dir_all(half.join("deb"))?;
    let image = image_of(package)?;
    said(Command::new("apt-get").current_dir(half.join("deb")).args(["-qq", "download", &image]))?;
    let found = fs::read_dir(half.join("deb"))?.next().context("apt-get brought nothing")??;
    said(Command::new("dpkg-deb").arg("-x").arg(found.path()).arg(&half))?;
    fs::remove_dir_all(half.join("deb"))?;
    describe_modules(&half)?;
    fs::rename(&half, &place).with_context(|| place.display().to_string())
}

/// The package that a name without a version depends on.
fn image_of(package: &str) -> Result<String> {
    let depends = said(Command::new("apt-cache").args(["depends", "--important", package]))?;
    let image = dependency(&depends);
    image.with_context(|| format!("the configured archives have no kernel {package}"))
}

fn dependency(depends: &str) -> Option<String> {
    let mut names = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    names.find(|name| name.starts_with("linux-image-")).map(str::to_owned)
}

/// What a module needs is told by no package: it is found out.
fn describe_modules(root: &Path) -> Result<()> {
    let mut releases = fs::read_dir(root.join("lib/modules"))?;
    let release = releases.next().context("the package has no modules")??.file_name();
    said(Command::new("busybox").args(["depmod", "-b"]).arg(root).arg(release)).map(drop)
}

fn said(command: &mut Command) -> Result<String> {
    let shown = run::shown(command);
    let output = command.output().with_context(|| format!("can't start `{shown}`"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{shown}` failed: {}", complaint.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::dependency;

    #[test]
    fn kernel_is_what_a_name_without_a_version_depends_on() {
        let text =
            "linux-image-6.12-cloud-amd64\n  Depends: linux-image-6.12.9+deb12-cloud-amd64\n";
        assert_eq!(dependency(text).as_deref(), Some("linux-image-6.12.9+deb12-cloud-amd64"));
        assert_eq!(dependency("linux-image-cloud-amd64\n"), None);
    }
}
