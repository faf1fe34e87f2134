//! Grace periods of RCU made short while programs are attached and detached.
//!
//! tcx waits for one on every change of a hook, with the lock of all links held (`tcx_entry_sync`):
//! 4 to 20 ms each, 20 to 40 us where the host's switch asks for expedited ones.
//!
//! Laws: the switch is on for single system calls, never across an await, and is put back as it was
//! found; only one daemon holds it at a time, so none takes another's setting for the host's; a mark
//! that lives as long as the switch (on bpffs: until a reboot) tells a later run of a killed one.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

/// The host's switch (kernel/ksysfs.c).
const SWITCH: &str = "/sys/kernel/rcu_expedited";

/// The switch, turned on until the value goes.
#[derive(Debug)]
pub(super) struct Expedited<'a> {
    switch: Flock<File>,
    mark: &'a Path,
}

/// Turns the switch on and back.
#[derive(Debug)]
pub(super) struct GracePeriods {
    switch: PathBuf,
    mark: PathBuf,
}

impl GracePeriods {
    /// Over the host's switch, with its mark at `mark`. What a killed run left on is turned off.
    pub(super) fn new(mark: PathBuf) -> Self {
        Self::over(PathBuf::from(SWITCH), mark)
    }

    fn over(switch: PathBuf, mark: PathBuf) -> Self {
        let periods = Self { switch, mark };
        if periods.mark.exists() {
            drop(periods.lock().map(|switch| Expedited { switch, mark: &periods.mark }));
        }
        periods
    }

    /// Short grace periods until the value goes. None where the host has them already, or does not
    /// let us: attaching takes longer then, and works the same.
    pub(super) fn expedite(&self) -> Option<Expedited<'_>> {
        let mut switch = self.lock().ok()?;
        let mut found = String::new();
        switch.read_to_string(&mut found).ok()?;
        let left_by_us = self.mark.exists();
        if !left_by_us && (found.trim() != "0" || fs::create_dir(&self.mark).is_err()) {
            return None;
        }
        let mut expedited = Expedited { switch, mark: &self.mark };
        expedited.turn("1").ok()?;
        Some(expedited)
    }

    /// Never waits: anyone who can read the switch can lock it.
    fn lock(&self) -> io::Result<Flock<File>> {
        let file = File::options().read(true).write(true).open(&self.switch)?;
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error.into())
    }
}

impl Expedited<'_> {
    fn turn(&mut self, value: &str) -> io::Result<()> {
        self.switch.seek(SeekFrom::Start(0))?;
        self.switch.write_all(value.as_bytes())
    }
}

impl Drop for Expedited<'_> {
    fn drop(&mut self) {
        // The mark goes only with the setting: what could not be put back now is by the next run.
        if self.turn("0").is_ok() {
            let _ = fs::remove_dir(self.mark);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn switch_of(dir: &Path, value: &str) -> GracePeriods {
        let switch = dir.join("switch");
        fs::write(&switch, value).expect("a file");
        GracePeriods::over(switch, dir.join("mark"))
    }

    fn value(dir: &Path) -> String {
        fs::read_to_string(dir.join("switch")).expect("a file")
    }

    #[test]
    fn the_switch_is_on_as_long_as_the_value_lives() {
        let dir = tempfile::tempdir().expect("a directory");
        let periods = switch_of(dir.path(), "0");
        let expedited = periods.expedite();
        assert!(expedited.is_some() && dir.path().join("mark").exists());
        assert_eq!(value(dir.path()), "1");
        drop(expedited);
        assert_eq!(value(dir.path()), "0");
        assert!(!dir.path().join("mark").exists());
    }

    #[test]
    fn a_host_that_has_it_on_keeps_it_on() {
        let dir = tempfile::tempdir().expect("a directory");
        let periods = switch_of(dir.path(), "1");
        assert!(periods.expedite().is_none());
        assert_eq!(value(dir.path()), "1");
    }

    #[test]
    fn what_a_killed_run_left_on_is_turned_off() {
        let dir = tempfile::tempdir().expect("a directory");
        std::mem::forget(switch_of(dir.path(), "0").expedite());
        assert_eq!(value(dir.path()), "1");
        // The forgotten lock lives on with the old file: a killed process has none.
        fs::remove_file(dir.path().join("switch")).expect("removed");
        let periods = switch_of(dir.path(), "1");
        assert_eq!(value(dir.path()), "0");
        assert!(periods.expedite().is_some());
    }

    #[test]
    fn a_host_without_the_switch_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let periods = GracePeriods::over(dir.path().join("none"), dir.path().join("mark"));
        assert!(periods.expedite().is_none());
        assert!(!dir.path().join("mark").exists());
    }
}
