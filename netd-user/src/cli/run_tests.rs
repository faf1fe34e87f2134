//! `netd run` against a canned daemon, with real processes in a real network namespace.

use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;

use clap::Parser as _;

use super::super::testing::CannedDaemon;
use super::*;

#[derive(clap::Parser)]
#[command(disable_help_flag = true)]
struct Line {
    #[command(flatten)]
    run: RunArgs,
}

/// A network namespace that lives as long as this.
struct Namespace {
    path: PathBuf,
    _alive: mpsc::Sender<()>,
}

impl Namespace {
    fn new() -> Self {
        let (ready, made) = mpsc::channel();
        let (alive, ended) = mpsc::channel::<()>();
        thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
                .expect("this test needs root: run it by 'cargo xtask test'");
            ready.send(nix::unistd::gettid()).unwrap();
            let _ = ended.recv();
        });
        let tid = made.recv().expect("this test needs root: run it by 'cargo xtask test'");
        Self { path: format!("/proc/self/task/{tid}/ns/net").into(), _alive: alive }
    }
}

/// Knows one sandbox.
fn canned_daemon(sandbox: SandboxInspect) -> CannedDaemon {
    CannedDaemon::new(move |request| match request.split(' ').next() {
        Some("POST") => (201, r#"{"Id":"beef","Warnings":[]}"#.to_owned()),
        Some("GET") => (200, serde_json::to_string(&sandbox).unwrap()),
        _ => (204, String::new()),
    })
}

/// A sandbox whose files are below `files`.
fn sandbox_with_files(namespace: &Namespace, files: &std::path::Path) -> SandboxInspect {
    let file = |name: &str, text: &str| {
        std::fs::write(files.join(name), text).unwrap();
        files.join(name).display().to_string()
    };
    SandboxInspect {
        hosts_path: file("hosts", "127.0.0.1\tlocalhost\n192.0.2.7\tinside\n"),
        hostname_path: file("hostname", "inside\n"),
        resolv_conf_path: file("resolv.conf", "nameserver 192.0.2.53\n"),
        ..sandbox(namespace)
    }
}

fn sandbox(namespace: &Namespace) -> SandboxInspect {
    SandboxInspect {
        id: "beef".into(),
        mode: "bridged".into(),
        netns: namespace.path.to_string_lossy().into_owned(),
        hostname: "inside".into(),
        dns: vec!["192.0.2.53".into()],
        ..SandboxInspect::default()
    }
}

fn run_line(client: &Client, words: &[&str]) -> Result<u8, RunError> {
    let line = Line::try_parse_from(std::iter::once(&"run").chain(words)).unwrap();
    live(&line.run, client)
}

fn below_sys(mountinfo: &str) -> std::collections::BTreeSet<&str> {
    let paths = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    paths.filter(|path| path.starts_with("/sys/")).collect()
}

#[test]
fn a_command_sees_its_sandbox_and_its_exit_code_is_ours() {
    let namespace = Namespace::new();
    let files = tempfile::tempdir().unwrap();
    let daemon = canned_daemon(sandbox_with_files(&namespace, files.path()));
    let seen = daemon.dir.path().join("seen");
    let script = format!(
        "(hostname; cat /etc/hostname; tail -n1 /etc/hosts; cat /etc/resolv.conf; ls /sys/class/net; \
         cat /proc/self/mountinfo) > {}; exit 7",
        seen.display()
    );
    assert_eq!(run_line(&daemon.client, &["--", "sh", "-c", &script]).unwrap(), 7);
    let seen = std::fs::read_to_string(seen).unwrap();
    let own = "inside\ninside\n192.0.2.7\tinside\nnameserver 192.0.2.53\nlo\n";
    let mounts = seen.strip_prefix(own).unwrap_or_else(|| panic!("{seen}"));
    let host_mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert_eq!(below_sys(mounts), below_sys(&host_mounts));
    assert_eq!(
        daemon.asked(),
        ["POST /v1/sandboxes", "GET /v1/sandboxes/beef", "DELETE /v1/sandboxes/beef"]
    );
}

#[test]
fn what_a_command_writes_into_its_files_is_seen_by_the_next_one() {
    let namespace = Namespace::new();
    let files = tempfile::tempdir().unwrap();
    let daemon = canned_daemon(sandbox_with_files(&namespace, files.path()));
    run_line(&daemon.client, &["--", "sh", "-c", "echo 192.0.2.8 db >> /etc/hosts"]).unwrap();
    let script = ["sh", "-c", "grep -q db /etc/hosts"].map(std::ffi::OsString::from);
    assert_eq!(exec("beef", &script, &daemon.client), ExitCode::SUCCESS);
}

#[test]
fn the_hosts_files_and_name_stay_as_they_are() {
    let before = ["/etc/hosts", "/etc/resolv.conf", "/proc/sys/kernel/hostname"]
        .map(|path| std::fs::read_to_string(path).unwrap());
    let namespace = Namespace::new();
    let files = tempfile::tempdir().unwrap();
    let daemon = canned_daemon(sandbox_with_files(&namespace, files.path()));
    let script =
        "echo x >> /etc/hosts; echo x > /etc/resolv.conf; hostname other; mount -t tmpfs x /mnt";
    run_line(&daemon.client, &["--", "sh", "-c", script]).unwrap();
    let after = ["/etc/hosts", "/etc/resolv.conf", "/proc/sys/kernel/hostname"]
        .map(|path| std::fs::read_to_string(path).unwrap());
    assert_eq!(before, after);
    assert!(!std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(" /mnt "));
}

#[test]
fn a_command_that_does_not_start_leaves_no_sandbox() {
    let namespace = Namespace::new();
    let daemon = canned_daemon(sandbox(&namespace));
    let error = run_line(&daemon.client, &["--", "/nonexistent/command"]).unwrap_err();
    assert!(matches!(error, RunError::Start(ref start) if start.exit_code() == 127), "{error}");
    assert_eq!(daemon.asked().last().unwrap(), "DELETE /v1/sandboxes/beef");
}

#[test]
fn a_sandbox_without_a_namespace_is_ours_to_report_and_to_remove() {
    let namespace = Namespace::new();
    let gone = SandboxInspect { netns: "/nonexistent/ns".into(), ..sandbox(&namespace) };
    let daemon = canned_daemon(gone);
    let error = run_line(&daemon.client, &["--", "true"]).unwrap_err();
    assert!(matches!(error, RunError::Cli(_)), "{error}");
    assert_eq!(daemon.asked().last().unwrap(), "DELETE /v1/sandboxes/beef");
}

#[test]
fn a_detached_process_owns_its_sandbox_in_a_session_of_its_own() {
    let namespace = Namespace::new();
    let daemon = canned_daemon(sandbox(&namespace));
    assert_eq!(run_line(&daemon.client, &["-d", "--", "sleep", "30"]).unwrap(), 0);
    let (line, body) = daemon.requests().pop().unwrap();
    assert_eq!(line, "PUT /v1/sandboxes/beef/owner");
    let update: OwnerUpdate = serde_json::from_str(&body).unwrap();
    let owned = update.owner.unwrap();
    let pid = Pid::from_raw(owned.pid);
    assert_eq!(owner(u32::try_from(owned.pid).unwrap()).unwrap(), owned);
    assert_eq!(nix::unistd::getsid(Some(pid)), Ok(pid));
    kill(pid, Signal::SIGKILL).unwrap();
    nix::sys::wait::waitpid(pid, None).unwrap();
}

#[test]
fn the_host_network_keeps_the_hosts_surroundings() {
    let namespace = Namespace::new();
    let host = SandboxInspect { mode: "host".into(), dns: Vec::new(), ..sandbox(&namespace) };
    let daemon = canned_daemon(host);
    let seen = daemon.dir.path().join("seen");
    let script = format!("readlink /proc/self/ns/net /proc/self/ns/mnt > {}", seen.display());
    assert_eq!(
        run_line(&daemon.client, &["--network", "host", "--", "sh", "-c", &script]).unwrap(),
        0
    );
    let own = ["net", "mnt"].map(|ns| {
        let link = std::fs::read_link(format!("/proc/self/ns/{ns}")).unwrap();
        format!("{}\n", link.display())
    });
    assert_eq!(std::fs::read_to_string(seen).unwrap(), own.concat());
}

#[test]
fn a_signal_ends_the_command_and_shows_in_the_exit_code() {
    let namespace = Namespace::new();
    let daemon = canned_daemon(sandbox(&namespace));
    assert_eq!(run_line(&daemon.client, &["--", "sh", "-c", "kill -TERM $$"]).unwrap(), 143);
    assert_eq!(daemon.asked().last().unwrap(), "DELETE /v1/sandboxes/beef");
}

#[test]
fn exit_codes_are_a_shells() {
    assert_eq!(exit_code(ExitStatus::from_raw(7 << 8)), 7);
    assert_eq!(exit_code(ExitStatus::from_raw(15)), 143);
}

#[test]
fn a_process_is_told_by_its_start_even_under_a_nasty_name() {
    let stat = "7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
    assert_eq!(start_ticks(stat), Some(4242));
    assert!(owner(std::process::id()).unwrap().start_ticks > 0);
    assert!(owner(u32::MAX).is_err());
}
