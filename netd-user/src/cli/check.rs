//! `netd check`: whether this machine can run the daemon, and the remedy for whatever it lacks.
//!
//! Law: looks only, changes nothing, starts nothing, and needs no daemon.

mod listener;

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use caps::{CapSet, Capability};
use clap::Args;
use nix::sys::statfs::{BPF_FS_MAGIC, CGROUP2_SUPER_MAGIC, FsType, statfs};

use super::client::Client;
use super::error::CliError;
use crate::api::Status;
use crate::kernel::{self, TooOld};

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Configuration of the daemon that would run here
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

/// Where the daemon would put things, from its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Socket of the API.
    pub api_socket: PathBuf,
    /// Directory of pinned maps and programs.
    pub bpffs_dir: PathBuf,
    /// Root of the cgroup v2 hierarchy, none where socket programs are switched off.
    pub cgroup: Option<PathBuf>,
    /// Directory of network namespaces.
    pub netns_dir: PathBuf,
    /// What a running daemon holds locked, each with the configuration's key for its directory.
    pub locks: [(&'static str, PathBuf); 2],
    /// Address of the metrics; none where they are off.
    pub metrics_addr: Option<SocketAddr>,
}

/// A capability and what it is needed for.
pub type Need = (Capability, &'static str);

/// What a look at one thing came to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Finding {
    /// As it must be.
    Fine(String),
    /// Worth knowing.
    Note(String),
    /// The daemon cannot work like this.
    Wrong { what: String, remedy: String },
}

use Finding::{Fine, Note, Wrong};

fn wrong(what: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Wrong { what: what.into(), remedy: remedy.into() }
}

/// Looks at everything; exit code 1 when something is wrong.
pub(super) fn check(
    places: Result<Places, String>,
    needed: &[Need],
    out: &mut dyn Write,
) -> Result<u8, CliError> {
    let mut findings = host();
    let held = caps::read(None, CapSet::Effective);
    findings.push(("capabilities", capabilities(needed, held)));
    match places {
        Ok(places) => {
            findings.push(("configuration", Fine("can be read".into())));
            findings.extend(at(&places));
        }
        Err(message) => findings.push(("configuration", wrong(message, "correct the file"))),
    }
    for (subject, finding) in &findings {
        writeln!(out, "{}", line(subject, finding))?;
    }
    let failed = findings.iter().any(|(_, finding)| matches!(finding, Wrong { .. }));
    Ok(u8::from(failed))
}

fn line(subject: &str, finding: &Finding) -> String {
    match finding {
        Fine(what) => format!("ok     {subject}: {what}"),
        Note(what) => format!("note   {subject}: {what}"),
        Wrong { what, remedy } => format!("WRONG  {subject}: {what}; {remedy}"),
    }
}

const JIT_SETTING: &str = "/proc/sys/net/core/bpf_jit_enable";
/// Every kernel has it, and shows it where it would show the JIT's: in the initial network namespace.
const SETTING_BESIDE_JIT: &str = "/proc/sys/net/core/dev_weight";

fn host() -> Vec<(&'static str, Finding)> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    vec![
        ("kernel", kernel(&kernel::running())),
        ("BTF", btf(Path::new("/sys/kernel/btf/vmlinux").exists())),
        ("JIT", jit(read(JIT_SETTING).as_deref(), Path::new(SETTING_BESIDE_JIT).exists())),
        ("lockdown", lockdown(read("/sys/kernel/security/lockdown").as_deref())),
        ("IPv4 forwarding", forwarding(read("/proc/sys/net/ipv4/ip_forward").as_deref())),
        ("IPv6 forwarding", forwarding(read("/proc/sys/net/ipv6/conf/all/forwarding").as_deref())),
    ]
}

fn at(places: &Places) -> Vec<(&'static str, Finding)> {
    let served = socket(&places.api_socket);
    let is_running = matches!(served, Running(_));
    let mut findings = vec![
        ("bpffs", bpffs(&places.bpffs_dir, magic(&places.bpffs_dir))),
        ("cgroup v2", cgroup(places.cgroup.as_deref())),
        ("namespaces", netns(&places.netns_dir)),
        ("API socket", served.into()),
        ("metrics", metrics(places.metrics_addr, is_running)),
    ];
    findings.extend(places.locks.iter().map(|(key, file)| (*key, lock(key, file, is_running))));
    findings
}

fn kernel(release: &str) -> Finding {
    match kernel::fits(release) {
        Ok(()) => Fine(release.to_owned()),
        Err(old) => wrong(old.what(), TooOld::REMEDY),
    }
}

fn btf(exists: bool) -> Finding {
    if exists {
        return Fine("/sys/kernel/btf/vmlinux".into());
    }
    wrong(
        "/sys/kernel/btf/vmlinux is missing",
        "run a kernel built with CONFIG_DEBUG_INFO_BTF=y, as distributions do, with sysfs on /sys",
    )
}

fn jit(setting: Option<&str>, is_shown_here: bool) -> Finding {
    match setting.map(str::trim) {
        Some("1" | "2") => Fine("on".into()),
        Some(_) => wrong(
            "programs would be interpreted, many times slower",
            "set it on by 'sysctl net.core.bpf_jit_enable=1'",
        ),
        None if is_shown_here => {
            wrong("the kernel has no BPF JIT compiler", "run a kernel built with CONFIG_BPF_JIT=y")
        }
        None => Note("the kernel tells it in the machine's initial network namespace only".into()),
    }
}

fn lockdown(state: Option<&str>) -> Finding {
    if state.is_some_and(|state| state.contains("[confidentiality]")) {
        return wrong(
            "confidentiality mode forbids BPF to read kernel memory",
            "boot with lockdown=integrity or none",
        );
    }
    Fine("does not forbid BPF".into())
}

fn capabilities(
    needed: &[Need],
    held: Result<caps::CapsHashSet, caps::errors::CapsError>,
) -> Finding {
    let held = match held {
        Ok(held) => held,
        Err(error) => return wrong(error.to_string(), "run as root"),
    };
    let missing: Vec<String> = needed
        .iter()
        .filter(|(capability, _)| !held.contains(capability))
        .map(|(capability, purpose)| format!("{capability} ({purpose})"))
        .collect();
    if missing.is_empty() {
        return Fine("all held".into());
    }
    wrong(format!("missing {}", missing.join(", ")), "run as root or grant them")
}

fn forwarding(setting: Option<&str>) -> Finding {
    match setting.map(str::trim) {
        Some("0") => Fine("off, which netd leaves so: its programs forward by themselves".into()),
        Some(_) => Note(
            "on, which netd does not need: the host routes for others, by its own firewall's rules"
                .into(),
        ),
        None => Note("the kernel does not speak this family".into()),
    }
}

/// Type of the file system that a path is on, or would be once its directories are made.
fn magic(path: &Path) -> Option<FsType> {
    path.ancestors().find_map(|place| statfs(place).ok()).map(|found| found.filesystem_type())
}

fn bpffs(place: &Path, magic: Option<FsType>) -> Finding {
    let shown = place.display();
    if magic == Some(BPF_FS_MAGIC) {
        return Fine(shown.to_string());
    }
    wrong(
        format!("{shown} is on no BPF file system"),
        "mount one by 'mount -t bpf bpf /sys/fs/bpf', or set bpffs-dir",
    )
}

fn cgroup(place: Option<&Path>) -> Finding {
    let Some(place) = place else {
        return Note("switched off: the host's own processes cannot reach published ports".into());
    };
    let shown = place.display();
    if magic(place) == Some(CGROUP2_SUPER_MAGIC) {
        return Fine(shown.to_string());
    }
    wrong(
        format!("{shown} is no cgroup v2 hierarchy"),
        "boot with systemd.unified_cgroup_hierarchy=1, \
         or mount one by 'mount -t cgroup2 cgroup2 DIR' and set cgroup",
    )
}

fn netns(place: &Path) -> Finding {
    let shown = place.display();
    let existing = place.ancestors().find(|place| place.exists());
    match existing.map(|place| nix::unistd::access(place, nix::unistd::AccessFlags::W_OK)) {
        Some(Ok(())) => Fine(shown.to_string()),
        Some(Err(errno)) => wrong(
            format!("{shown} cannot be written: {}", errno.desc()),
            "run as root, or set netns-dir",
        ),
        None => wrong(format!("{shown} cannot be made"), "set netns-dir"),
    }
}

/// What a look at the API's socket came to.
enum Served {
    /// Our own daemon answers, of this version.
    Running(String),
    /// Anything else.
    Other(Finding),
}

use Served::Running;

impl From<Served> for Finding {
    fn from(served: Served) -> Self {
        match served {
            Served::Running(what) => Note(what),
            Served::Other(finding) => finding,
        }
    }
}

fn socket(place: &Path) -> Served {
    let shown = place.display();
    let metadata = match std::fs::symlink_metadata(place) {
        Ok(metadata) => metadata,
        Err(error) => return Served::Other(unserved(place, &error)),
    };
    Served::Other(if !metadata.file_type().is_socket() {
        wrong(format!("{shown} exists and is no socket"), "remove it, or set api-socket")
    } else if listener::is_managers(place) {
        Fine(format!("the service manager listens on {shown} and starts netd at the first request"))
    } else if let Err(error) = UnixStream::connect(place) {
        unserved(place, &error)
    } else {
        match Client::new(place).and_then(|client| client.get::<Status>("/v1/status")) {
            Ok(status) => {
                return Running(format!("netd {} is running on {shown}", status.version));
            }
            Err(error) => wrong(
                format!("another program listens on {shown} ({error})"),
                "stop it, or set api-socket",
            ),
        }
    })
}

/// What it means that nobody is met there.
fn unserved(place: &Path, error: &std::io::Error) -> Finding {
    let shown = place.display();
    if error.kind() == ErrorKind::NotFound {
        Fine(format!("{shown} is free"))
    } else if error.kind() == ErrorKind::ConnectionRefused {
        Note(format!("{shown} was left behind by a daemon that is gone"))
    } else {
        wrong(format!("who serves {shown} can't be seen: {error}"), "run as root")
    }
}

fn metrics(addr: Option<SocketAddr>, is_running: bool) -> Finding {
    let Some(addr) = addr else {
        return Note("switched off on TCP, served on the API socket".into());
    };
    match TcpListener::bind(addr) {
        Ok(_) => Fine(format!("{addr} is free")),
        Err(error) if is_running && error.kind() == ErrorKind::AddrInUse => {
            Fine(format!("{addr} is served"))
        }
        Err(error) => wrong(format!("{addr}: {error}"), "set another metrics-addr, or 'off'"),
    }
}

/// A daemon on another socket may hold the directory.
fn lock(key: &str, file: &Path, is_running: bool) -> Finding {
    let shown = file.display();
    match File::open(file).map(|held| held.try_lock_shared()) {
        Ok(Err(TryLockError::WouldBlock)) if is_running => Fine(format!("{shown} is held")),
        Ok(Err(TryLockError::WouldBlock)) => {
            let holder = std::fs::read_to_string(file).unwrap_or_default();
            let holder = holder.trim();
            wrong(
                format!("another netd daemon (process {holder}) holds {shown}"),
                format!("stop it, or set another {key}"),
            )
        }
        Ok(Err(TryLockError::Error(error))) => {
            wrong(format!("{shown} cannot be locked: {error}"), format!("set another {key}"))
        }
        Err(error) if error.kind() != ErrorKind::NotFound => {
            wrong(format!("{shown} cannot be read: {error}"), "run as root")
        }
        Ok(Ok(())) | Err(_) => Fine(format!("{shown} is free")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_wrong(finding: &Finding) -> bool {
        matches!(finding, Wrong { .. })
    }

    #[test]
    fn a_kernel_that_is_too_old_is_wrong_and_its_remedy_told() {
        let told = line("kernel", &kernel("6.1.0-28-amd64"));
        let wanted = format!("WRONG  kernel: Linux 6.1.0-28-amd64 has no tcx; {}", TooOld::REMEDY);
        assert_eq!(told, wanted);
        assert_eq!(kernel("6.6.1"), Fine("6.6.1".into()));
    }

    #[test]
    fn the_jit_must_be_on() {
        assert!(!is_wrong(&jit(Some("1\n"), true)));
        assert!(is_wrong(&jit(Some("0\n"), true)) && is_wrong(&jit(None, true)));
    }

    #[test]
    fn a_jit_that_this_namespace_does_not_show_is_no_missing_jit() {
        assert!(!is_wrong(&jit(None, false)));
    }

    #[test]
    fn only_confidentiality_forbids() {
        assert!(is_wrong(&lockdown(Some("none integrity [confidentiality]"))));
        assert!(!is_wrong(&lockdown(Some("none [integrity] confidentiality"))));
        assert!(!is_wrong(&lockdown(None)));
    }

    #[test]
    fn each_missing_capability_is_named_with_its_purpose() {
        let mut held = caps::all();
        held.remove(&Capability::CAP_SYS_ADMIN);
        let needed = [
            (Capability::CAP_SYS_ADMIN, "mounting and entering network namespaces"),
            (Capability::CAP_BPF, "maps and programs"),
        ];
        let finding = capabilities(&needed, Ok(held));
        assert_eq!(
            line("capabilities", &finding),
            "WRONG  capabilities: missing CAP_SYS_ADMIN \
             (mounting and entering network namespaces); run as root or grant them"
        );
        assert_eq!(capabilities(&needed, Ok(caps::all())), Fine("all held".into()));
    }

    #[test]
    fn file_systems_are_told_by_their_magic() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("not/made/yet");
        assert!(magic(&place).is_some());
        assert!(is_wrong(&bpffs(&place, magic(&place))));
        assert!(is_wrong(&cgroup(Some(&place))));
        assert!(!is_wrong(&cgroup(None)));
        assert!(!is_wrong(&bpffs(&place, Some(BPF_FS_MAGIC))));
    }

    #[test]
    fn a_socket_may_be_free_or_stale_but_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("sock");
        assert!(matches!(Finding::from(socket(&place)), Fine(_)));
        let listener = std::os::unix::net::UnixListener::bind(&place).unwrap();
        let other = std::thread::spawn(move || {
            // The look, then the question; both are answered by hanging up.
            drop(listener.accept());
            drop(listener.accept());
        });
        assert!(is_wrong(&Finding::from(socket(&place))));
        other.join().unwrap();
        assert!(matches!(Finding::from(socket(&place)), Note(_)));
        std::fs::remove_file(&place).unwrap();
        std::fs::write(&place, "").unwrap();
        assert!(is_wrong(&Finding::from(socket(&place))));
    }

    #[test]
    fn a_socket_that_may_not_be_asked_is_not_taken_for_a_stale_one() {
        let refused = std::io::Error::from(ErrorKind::PermissionDenied);
        let told = line("API socket", &unserved(Path::new("/run/netd.sock"), &refused));
        let wanted = "WRONG  API socket: who serves /run/netd.sock can't be seen: permission denied; run as root";
        assert_eq!(told, wanted);
    }

    #[test]
    fn a_directory_that_another_daemon_holds_is_told_with_its_process() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("netd.lock");
        assert!(matches!(lock("state-dir", &file, false), Fine(_)));
        std::fs::write(&file, "4711\n").unwrap();
        assert!(matches!(lock("state-dir", &file, false), Fine(_)));
        let holder = File::open(&file).unwrap();
        holder.lock().unwrap();
        assert!(matches!(lock("state-dir", &file, true), Fine(_)));
        let told = line("state-dir", &lock("state-dir", &file, false));
        let wanted = format!(
            "WRONG  state-dir: another netd daemon (process 4711) holds {}; \
             stop it, or set another state-dir",
            file.display()
        );
        assert_eq!(told, wanted);
    }

    #[test]
    fn a_metrics_address_in_use_is_wrong_unless_the_daemon_uses_it() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = taken.local_addr().unwrap();
        assert!(is_wrong(&metrics(Some(addr), false)));
        assert!(!is_wrong(&metrics(Some(addr), true)));
        assert!(is_wrong(&metrics(Some("192.0.2.1:9".parse().unwrap()), true)));
        assert!(matches!(metrics(None, false), Note(_)));
    }

    #[test]
    fn a_broken_configuration_fails_the_check() {
        let mut out = Vec::new();
        let code = check(Err("line 3: unknown key 'foo'".into()), &[], &mut out).unwrap();
        assert_eq!(code, 1);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("WRONG  configuration: line 3: unknown key 'foo'"), "{text}");
    }
}
