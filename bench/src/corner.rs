//! The bench's private corner of the machine: a mount namespace, a directory and a cgroup.
//!
//! Law: what a crash leaves is an empty directory and an empty cgroup named after a dead process, and
//! the next run sweeps both.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

const PREFIX: &str = "netd-bench-";

/// Where hierarchies of control groups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Leaves the machine's mounts alone: from here on, mounts are ours and end with us. To be called
/// while the process has one thread.
pub(crate) fn isolate() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("own mount namespace (root is needed)")?;
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).context("private mounts")
}

/// A directory for one daemon: state, sockets, a bpffs. Removed when dropped.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Makes one with a bpffs in it.
    pub(crate) fn create() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let directory = Self { path: std::env::temp_dir().join(name) };
        directory.mount_bpffs()?;
        Ok(directory)
    }

    /// Mounts an empty bpffs in it.
    pub(crate) fn mount_bpffs(&self) -> Result<()> {
        let bpffs = self.path.join("bpf");
        fs::create_dir_all(&bpffs).with_context(|| bpffs.display().to_string())?;
        mount(Some("bpf"), &bpffs, Some("bpf"), MsFlags::empty(), None::<&str>).context("own bpffs")
    }

    /// Unmounts all that is mounted in it.
    pub(crate) fn unmount(&self) {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let inside = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .filter(|point| Path::new(point).starts_with(&self.path));
        for point in inside.collect::<Vec<_>>().into_iter().rev() {
            warn("unmounting", point, umount2(point, MntFlags::MNT_DETACH));
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The last lines of `log` in it.
    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.path.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.unmount();
        warn("removing", &self.path.display().to_string(), fs::remove_dir_all(&self.path));
    }
}

/// A cgroup of this process with a threaded child for clients on a host, so that only their sockets
/// meet a daemon's programs. Removed when dropped, with the process put back where it was.
#[derive(Debug)]
pub(crate) struct Cgroup {
    home: PathBuf,
    path: PathBuf,
}

impl Cgroup {
    /// Makes it and moves this process into it.
    pub(crate) fn create() -> Result<Self> {
        let root = hierarchy()?;
        sweep(&root);
        let own = fs::read_to_string("/proc/self/cgroup").context("own cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        let cgroup = Self {
            home: root.join(own),
            path: root.join(format!("{PREFIX}{}", std::process::id())),
        };
        fs::create_dir(&cgroup.path).context("own cgroup")?;
        move_to(&cgroup.path)?;
        let clients = cgroup.clients();
        fs::create_dir(&clients).context("cgroup of clients")?;
        fs::write(clients.join("cgroup.type"), "threaded").context("threaded cgroup")?;
        Ok(cgroup)
    }

    /// The child for the threads of clients.
    pub(crate) fn clients(&self) -> PathBuf {
        self.path.join("clients")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let clients = self.clients();
        warn("removing", &clients.display().to_string(), fs::remove_dir(&clients));
        if let Err(error) = move_to(&self.home) {
            eprintln!("{error:#}");
        }
        warn("removing", &self.path.display().to_string(), fs::remove_dir(&self.path));
    }
}

/// Name of a control group of this process, for others to make.
pub(crate) fn group_name(purpose: &str) -> String {
    format!("{PREFIX}{}-{purpose}", std::process::id())
}

/// Removes a control group of that name from every hierarchy, with the empty ones in it.
pub(crate) fn remove_groups(name: &str) {
    let hierarchies = fs::read_dir(CGROUPS).into_iter().flatten().flatten();
    for group in hierarchies.map(|hierarchy| hierarchy.path().join(name)) {
        remove_group(&group);
    }
}

fn remove_group(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&entry.path());
        }
    }
    fs::remove_dir(group).ok();
}

fn hierarchy() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("mounts")?;
    mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&"cgroup2"))
        .and_then(|fields| fields.get(1).map(PathBuf::from))
        .context("no cgroup v2 hierarchy is mounted")
}

fn move_to(cgroup: &Path) -> Result<()> {
    fs::write(cgroup.join("cgroup.procs"), std::process::id().to_string())
        .with_context(|| format!("moving to {}", cgroup.display()))
}

/// Removes what dead runs left: empty cgroups and directories.
fn sweep(root: &Path) {
    for group in dead(root) {
        remove_group(&group);
    }
    for hierarchy in fs::read_dir(CGROUPS).into_iter().flatten().flatten() {
        for group in dead(&hierarchy.path()) {
            remove_group(&group);
        }
    }
    for directory in dead(&std::env::temp_dir()) {
        fs::remove_dir_all(directory).ok();
    }
}

fn dead(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let ours = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let owner = name.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok()?;
        (!Path::new(&format!("/proc/{owner}")).exists()).then(|| entry.path())
    });
    ours.collect()
}

fn warn<E: std::fmt::Display>(doing: &str, what: &str, result: Result<(), E>) {
    if let Err(error) = result {
        eprintln!("{doing} {what}: {error}");
    }
}
