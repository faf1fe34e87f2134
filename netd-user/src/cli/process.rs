//! Starting a command inside a sandbox: the only file of the CLI that forks.
//!
//! Law: everything is prepared before the fork. Between fork and exec the child makes system calls and
//! nothing else: no allocation, no locks.

use std::ffi::{CStr, CString, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Pid, getpid, getppid, pipe2, sethostname, setsid, write};

/// What the command sees instead of the host's.
#[derive(Default)]
pub(super) struct Surroundings {
    /// Its network namespace; none for the host's.
    pub(super) netns: Option<File>,
    /// Its host name; none for the host's.
    pub(super) hostname: Option<OsString>,
    /// Files that only it sees.
    pub(super) files: Vec<PrivateFile>,
}

/// A file that is seen in another's place in one mount namespace; the mount ends with it, however the
/// processes end.
pub(super) struct PrivateFile {
    source: CString,
    target: CString,
}

impl PrivateFile {
    /// Puts `source` in the place of an existing file; none where there is no such file to cover.
    pub(super) fn new(source: &str, target: &str) -> Option<Self> {
        let covers = !source.is_empty() && Path::new(target).exists();
        covers.then_some(())?;
        Some(Self { source: CString::new(source).ok()?, target: CString::new(target).ok()? })
    }
}

/// How the command relates to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tie {
    /// It dies with us and shares our terminal.
    Child,
    /// It lives on in a session of its own, without our streams.
    Detached,
}

/// Why a command did not start.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    /// It was not even tried.
    #[error("cannot prepare the command's surroundings: {stage}: {source}")]
    Surroundings { stage: &'static str, source: io::Error },
    /// The kernel or the search path refused it.
    #[error("exec: \"{program}\": {source}")]
    Exec { program: String, source: io::Error },
}

impl StartError {
    /// Docker's: 127 not found, 126 cannot be executed, 125 ours.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Surroundings { .. } => 125,
            Self::Exec { source, .. } if source.kind() == io::ErrorKind::NotFound => 127,
            Self::Exec { .. } => 126,
        }
    }
}

/// Starts a command, its program first.
pub(super) fn start(
    words: &[OsString],
    surroundings: Surroundings,
    tie: Tie,
) -> Result<Child, StartError> {
    let (program, arguments) =
        words.split_first().ok_or_else(|| failed("command", Errno::EINVAL))?;
    let (report, reporter) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| failed("pipe", errno))?;
    let mut entry = Entry { surroundings, tie, parent: getpid(), carried: mounts_below_sys() };
    let mut command = Command::new(program);
    command.args(arguments);
    if tie == Tie::Detached {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    }
    // SAFETY: the closure makes system calls on what was prepared here, and neither allocates nor locks.
    unsafe { command.pre_exec(move || entry.enter(&reporter)) };
    let started = command.spawn();
    // The closure holds the writing end: without it the read below ends.
    drop(command);
    started.map_err(|source| explain(source, report, &program.to_string_lossy()))
}

/// A descriptor that becomes readable when the process ends.
pub(super) fn watch(process: &Child) -> nix::Result<OwnedFd> {
    // SAFETY: the call takes numbers only; the process is our child and not yet waited for.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, process.id(), 0) };
    owned(fd)
}

/// A descriptor of the process with that number: it names no other, even after the number has gone
/// to one.
pub(super) fn open_process(pid: i32) -> nix::Result<OwnedFd> {
    // SAFETY: the call takes numbers only.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// Ends the process at once.
pub(super) fn kill(process: &OwnedFd) -> nix::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    let fd = process.as_raw_fd();
    // SAFETY: the descriptor is open for the call, and without information there is nothing to read.
    let result =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, libc::SIGKILL, no_info, 0) };
    Errno::result(result).map(drop)
}

/// The descriptor that a system call returned.
fn owned(result: libc::c_long) -> nix::Result<OwnedFd> {
    let fd = i32::try_from(Errno::result(result)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel just gave us this descriptor, and nobody else holds it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn failed(stage: &'static str, errno: Errno) -> StartError {
    StartError::Surroundings { stage, source: errno.into() }
}

fn explain(source: io::Error, report: OwnedFd, program: &str) -> StartError {
    let mut told = [u8::MAX];
    let known = File::from(report).read(&mut told).is_ok_and(|length| length == 1);
    let stage = STAGES.get(usize::from(told[0]));
    match stage {
        Some(stage) if known => StartError::Surroundings { stage: stage.name, source },
        _ if known => StartError::Exec { program: program.to_owned(), source },
        _ => StartError::Surroundings { stage: "fork", source },
    }
}

struct Stage {
    name: &'static str,
    perform: fn(&mut Entry) -> nix::Result<()>,
}

/// In order; the number of the one that failed goes through the pipe, or their count before exec.
const STAGES: [Stage; 6] = [
    Stage { name: "network namespace", perform: Entry::join_network },
    Stage { name: "mount namespace", perform: Entry::part_mounts },
    Stage { name: "files of its own", perform: Entry::cover_files },
    Stage { name: "/sys of the network namespace", perform: Entry::replace_sys },
    Stage { name: "host name", perform: Entry::name_host },
    Stage { name: "tie to the parent", perform: Entry::tie },
];

struct Entry {
    surroundings: Surroundings,
    tie: Tie,
    parent: Pid,
    carried: Vec<Carried>,
}

/// A mount below `/sys` that a fresh sysfs would hide.
struct Carried {
    path: CString,
    tree: Option<OwnedFd>,
}

impl Entry {
    fn enter(&mut self, reporter: &OwnedFd) -> io::Result<()> {
        for (number, stage) in (0_u8..).zip(&STAGES) {
            if let Err(errno) = (stage.perform)(self) {
                write(reporter, &[number])?;
                return Err(errno.into());
            }
        }
        write(reporter, &[u8::MAX])?;
        Ok(())
    }

    fn join_network(&mut self) -> nix::Result<()> {
        self.surroundings.netns.as_ref().map_or(Ok(()), |ns| setns(ns, CloneFlags::CLONE_NEWNET))
    }

    fn part_mounts(&mut self) -> nix::Result<()> {
        if self.surroundings.netns.is_none() && self.surroundings.files.is_empty() {
            return Ok(());
        }
        unshare(CloneFlags::CLONE_NEWNS)?;
        // Slave, not private: an unmount on the host must not be held up by us.
        let flags = MsFlags::MS_REC | MsFlags::MS_SLAVE;
        mount(None::<&CStr>, c"/", None::<&CStr>, flags, None::<&CStr>)
    }

    fn cover_files(&mut self) -> nix::Result<()> {
        for file in &self.surroundings.files {
            let (from, to) = (file.source.as_c_str(), file.target.as_c_str());
            mount(Some(from), to, None::<&CStr>, MsFlags::MS_BIND, None::<&CStr>)?;
        }
        Ok(())
    }

    /// Where we have no right to mount a sysfs the host's stays, as it does for any process that only
    /// changes its network namespace.
    fn replace_sys(&mut self) -> nix::Result<()> {
        if self.surroundings.netns.is_none() {
            return Ok(());
        }
        for carried in &mut self.carried {
            carried.tree = clone_tree(&carried.path).ok();
        }
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        match mount(Some(c"sysfs"), c"/sys", Some(c"sysfs"), flags, None::<&CStr>) {
            Ok(()) => self.carry_mounts(),
            Err(Errno::EPERM) => {}
            Err(errno) => return Err(errno),
        }
        Ok(())
    }

    fn carry_mounts(&self) {
        for carried in &self.carried {
            let Some(tree) = &carried.tree else { continue };
            // A directory that this sysfs lacks has nothing to carry over.
            let _ = attach_tree(tree, &carried.path);
        }
    }

    fn name_host(&mut self) -> nix::Result<()> {
        let Some(name) = &self.surroundings.hostname else { return Ok(()) };
        unshare(CloneFlags::CLONE_NEWUTS)?;
        sethostname(name)
    }

    fn tie(&mut self) -> nix::Result<()> {
        SigSet::empty().thread_set_mask()?;
        match self.tie {
            Tie::Detached => setsid().map(drop),
            Tie::Child => {
                set_pdeathsig(Signal::SIGKILL)?;
                // The parent may have died before the request: then nobody would end us.
                if getppid() == self.parent { Ok(()) } else { Err(Errno::ESRCH) }
            }
        }
    }
}

fn clone_tree(path: &CStr) -> nix::Result<OwnedFd> {
    let flags =
        libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_RECURSIVE.cast_unsigned();
    // SAFETY: the path is a valid C string, and the call touches nothing else of ours.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    owned(fd)
}

fn attach_tree(tree: &OwnedFd, path: &CStr) -> nix::Result<()> {
    let (from, here) = (tree.as_raw_fd(), libc::AT_FDCWD);
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH;
    // SAFETY: both paths are valid C strings and the descriptor is open for the call.
    let result = unsafe {
        libc::syscall(libc::SYS_move_mount, from, c"".as_ptr(), here, path.as_ptr(), flags)
    };
    Errno::result(result).map(drop)
}

fn mounts_below_sys() -> Vec<Carried> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut paths: Vec<&str> = Vec::new();
    for path in table.lines().filter_map(|line| line.split(' ').nth(4)) {
        let nested = paths.iter().any(|outer| {
            path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        if path.starts_with("/sys/") && !nested {
            paths.push(path);
        }
    }
    let paths = paths.into_iter().filter_map(|path| CString::new(path).ok());
    paths.map(|path| Carried { path, tree: None }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn a_command_that_does_not_exist_is_127() {
        let error =
            start(&words(&["/nonexistent/x"]), Surroundings::default(), Tie::Child).unwrap_err();
        assert_eq!(error.exit_code(), 127, "{error}");
    }

    #[test]
    fn a_command_that_cannot_be_executed_is_126() {
        let error =
            start(&words(&["/etc/passwd"]), Surroundings::default(), Tie::Child).unwrap_err();
        assert_eq!(error.exit_code(), 126, "{error}");
    }

    #[test]
    fn surroundings_that_cannot_be_made_are_125_and_named() {
        let netns = Some(File::open("/etc/passwd").unwrap());
        let surroundings = Surroundings { netns, ..Surroundings::default() };
        let error = start(&words(&["true"]), surroundings, Tie::Child).unwrap_err();
        assert_eq!(error.exit_code(), 125);
        assert!(error.to_string().contains("network namespace"), "{error}");
    }

    #[test]
    fn no_command_is_refused() {
        assert!(start(&[], Surroundings::default(), Tie::Child).is_err());
    }
}
