//! A kernel of the distribution's, unpacked beside what cargo builds by `cargo xtask setup`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// An image and its modules.
pub struct Kernel {
    release: String,
    directory: PathBuf,
}

impl Kernel {
    /// The one that a package of the distribution stands for.
    pub fn of(package: &str) -> Result<Self> {
        let directory = unpacked(package)?;
        let entries =
            fs::read_dir(directory.join("lib/modules"))?.collect::<Result<Vec<_>, _>>()?;
        ensure!(entries.len() == 1, "{}: not one kernel's modules", directory.display());
        let release = entries[0].file_name().to_string_lossy().into_owned();
        Ok(Self { release, directory })
    }

    /// Its version, as `uname -r` says it.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// What boots.
    pub(super) fn image(&self) -> PathBuf {
        self.directory.join(format!("boot/vmlinuz-{}", self.release))
    }

    /// The files of modules and of all that these need, in the order in which they are loaded.
    pub(super) fn modules(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let below = self.directory.join("lib/modules").join(&self.release);
        let file = below.join("modules.dep");
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let needed = Dependencies::parse(&text).order(names)?;
        Ok(needed.into_iter().map(|path| below.join(path)).collect())
    }
}

/// Cargo's directories have several levels; the kernels lie on one that holds them all.
fn unpacked(package: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let mut places = own.ancestors().skip(1).map(|dir| dir.join("kernels").join(package));
    let Some(found) = places.find(|place| place.is_dir()) else {
        bail!("the kernel of the package {package} is not there; remedy: `cargo xtask setup`");
    };
    Ok(found)
}

/// What `depmod` found: each module's file with those of all that it needs.
struct Dependencies<'text>(BTreeMap<&'text str, Vec<&'text str>>);

impl<'text> Dependencies<'text> {
    fn parse(text: &'text str) -> Self {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        Self(lines.map(|(file, needs)| (file, needs.split_whitespace().collect())).collect())
    }

    /// A line names first what is loaded last.
    fn order(&self, names: &[&str]) -> Result<Vec<&'text str>> {
        let mut ordered: Vec<&str> = Vec::new();
        for name in names {
            let found = self.0.iter().find(|(file, _)| module_name(file) == *name);
            let (file, needs) = found.with_context(|| format!("there is no module {name}"))?;
            for file in needs.iter().rev().chain([file]) {
                if !ordered.contains(file) {
                    ordered.push(file);
                }
            }
        }
        Ok(ordered)
    }
}

/// Before the first dot: `kernel/net/8021q/8021q.ko.xz` is `8021q`.
fn module_name(file: &str) -> &str {
    let name = Path::new(file).file_name().and_then(|name| name.to_str()).unwrap_or(file);
    name.split_once('.').map_or(name, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "net/a.ko.xz: net/b.ko net/c.ko\nnet/b.ko: net/c.ko\nnet/c.ko:\n";

    #[test]
    fn what_a_module_needs_is_loaded_before_it_and_once() {
        let found = Dependencies::parse(TEXT).order(&["b", "a"]).unwrap();
        assert_eq!(found, ["net/c.ko", "net/b.ko", "net/a.ko.xz"]);
    }

    #[test]
    fn module_that_the_kernel_has_not_is_named() {
        let error = Dependencies::parse(TEXT).order(&["d"]).unwrap_err();
        assert_eq!(error.to_string(), "there is no module d");
    }
}
