//! `cargo xtask setup`: installs what is missing, one line for each thing. Where nothing is missing
//! it changes nothing, needs no root and takes a moment.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Result, bail};

use crate::toolchain::{Compiler, find_linker};
use crate::{kernels, run};

const LINKER_VERSION: &str = "0.13.0";
const FUZZER_VERSION: &str = "0.13.2";
const PINNED_RUST: &str = "1.95.0";

/// What a thing is needed for; each needs also what stands before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    /// To compile.
    Build,
    /// To show the main job.
    Demo,
    /// To run every test, and to measure.
    Test,
    /// To fuzz.
    Fuzz,
}

/// Where a package shows that it is there.
enum Sign {
    Program(&'static str),
    File(&'static str),
}

struct Package {
    name: &'static str,
    sign: Sign,
    purpose: Purpose,
}

const fn program(name: &'static str, program: &'static str, purpose: Purpose) -> Package {
    Package { name, sign: Sign::Program(program), purpose }
}

const fn file(name: &'static str, file: &'static str) -> Package {
    Package { name, sign: Sign::File(file), purpose: Purpose::Build }
}

const PACKAGES: [Package; 26] = [
    program("gcc", "cc", Purpose::Build),
    program("pkg-config", "pkg-config", Purpose::Build),
    program("iproute2", "ip", Purpose::Demo),
    program("iptables", "iptables-save", Purpose::Demo),
    program("nftables", "nft", Purpose::Demo),
    program("procps", "sysctl", Purpose::Demo),
    program("iputils-ping", "ping", Purpose::Demo),
    program("curl", "curl", Purpose::Demo),
    program("bind9-dnsutils", "dig", Purpose::Test),
    program("bpftool", "bpftool", Purpose::Test),
    program("busybox-static", "busybox", Purpose::Test),
    program("cpio", "cpio", Purpose::Test),
    program("dnsperf", "dnsperf", Purpose::Test),
    program("docker-compose", "docker-compose", Purpose::Test),
    program("docker.io", "dockerd", Purpose::Test),
    program("ethtool", "ethtool", Purpose::Test),
    program("iperf3", "iperf3", Purpose::Test),
    program("mmdebstrap", "mmdebstrap", Purpose::Test),
    program("musl-tools", "musl-gcc", Purpose::Test),
    program("openssl", "openssl", Purpose::Test),
    program("prometheus", "promtool", Purpose::Test),
    program("qemu-system-x86", "qemu-system-x86_64", Purpose::Test),
    program("socat", "socat", Purpose::Test),
    program("systemd", "systemd-analyze", Purpose::Test),
    program("tcpdump", "tcpdump", Purpose::Test),
    program("g++", "c++", Purpose::Fuzz),
];

/// Only compiling the linker needs these.
const LINKER_PACKAGES: [Package; 4] = [
    file("llvm-22-dev", "/usr/lib/llvm-22/bin/llvm-config"),
    file("libpolly-22-dev", "/usr/lib/llvm-22/lib/libPolly.a"),
    file("zlib1g-dev", "/usr/include/zlib.h"),
    file("libzstd-dev", "/usr/include/zstd.h"),
];

impl Package {
    fn is_present(&self) -> bool {
        match self.sign {
            Sign::Program(name) => run::find_program(name).is_some(),
            Sign::File(path) => Path::new(path).exists(),
        }
    }
}

/// How one thing stands, with what there is to say about it.
enum State {
    Present(String),
    Installed(String),
    Failed { reason: String, remedy: String },
}

struct Report {
    failures: usize,
}

impl Report {
    fn line(&mut self, item: &str, state: &State) {
        match state {
            State::Present(note) => println!("{item:<16} present    {note}"),
            State::Installed(note) => println!("{item:<16} installed  {note}"),
            State::Failed { reason, remedy } => {
                self.failures += 1;
                println!("{item:<16} failed     {reason}; remedy: {remedy}");
            }
        }
    }

    fn outcome(&self) -> Result<()> {
        match self.failures {
            0 => Ok(()),
            failures => bail!("{failures} of the things above are missing"),
        }
    }
}

/// Installs everything.
pub(crate) fn run(_options: &[String]) -> Result<()> {
    let installed = ensure(Purpose::Test);
    installed.and(ensure_kernels())
}

/// Installs what `purpose` needs and is missing.
pub(crate) fn ensure(purpose: Purpose) -> Result<()> {
    let mut report = Report { failures: 0 };
    let packages: Vec<_> = PACKAGES.iter().filter(|package| package.purpose <= purpose).collect();
    install_packages(&packages, &mut report);
    report.line("rust-src", &rust_source());
    install_linker(&mut report);
    if purpose >= Purpose::Demo {
        report.line("bpffs", &bpffs());
        report.line("cgroup v2", &cgroup2());
        report.line("BTF", &btf());
    }
    if purpose >= Purpose::Fuzz {
        report.line("cargo-fuzz", &fuzzer());
    }
    report.outcome()
}

/// Fetches the kernels that tests boot in virtual machines; all other tests do without.
pub(crate) fn ensure_kernels() -> Result<()> {
    let mut report = Report { failures: 0 };
    for package in kernels::PACKAGES {
        report.line(package, &kernel(package));
    }
    report.outcome()
}

fn kernel(package: &str) -> State {
    let shown = kernels::directory(package).display().to_string();
    if kernels::directory(package).exists() {
        return State::Present(shown);
    }
    match kernels::fetch(package) {
        Ok(()) => State::Installed(shown),
        Err(error) => State::Failed {
            reason: format!("{error:#}"),
            remedy: "add Debian 12's main and security archives and `apt-get update`".to_owned(),
        },
    }
}

fn install_packages(packages: &[&Package], report: &mut Report) {
    let missing: Vec<_> = packages.iter().filter(|package| !package.is_present()).collect();
    let names: BTreeSet<_> = missing.iter().map(|package| package.name).collect();
    let refusal = if names.is_empty() { None } else { apt_install(&names).err() };
    for package in packages {
        let state = if !names.contains(package.name) {
            State::Present(String::new())
        } else if package.is_present() {
            State::Installed("by apt-get".to_owned())
        } else {
            State::Failed {
                reason: refusal.clone().unwrap_or_else(|| "apt-get did not bring it".to_owned()),
                remedy: format!("as root, `apt-get install {}`", package.name),
            }
        };
        report.line(package.name, &state);
    }
}

/// Installs all in one go; if that is refused, one at a time, so that one can't hold up the others.
fn apt_install(names: &BTreeSet<&str>) -> Result<(), String> {
    if !is_root() {
        return Err("installing needs root".to_owned());
    }
    let listed: Vec<_> = names.iter().copied().collect();
    println!("apt-get: installing {}", listed.join(" "));
    let _quiet = NoServices::start();
    let old_lists = quiet(Command::new("apt-get").args(["-qq", "update"])).err();
    if apt_get_install(names.iter().copied()).is_ok() {
        return Ok(());
    }
    let one_by_one = names.iter().map(|name| apt_get_install([*name]));
    let refusals: Vec<_> = one_by_one.filter_map(Result::err).collect();
    refusals.into_iter().next().map_or(Ok(()), |refusal| Err(old_lists.unwrap_or(refusal)))
}

fn apt_get_install<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<(), String> {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    quiet(command.args(["-qq", "install", "--yes", "--no-install-recommends"]).args(names))
}

/// While it lives, Debian's packages start no service of theirs (prometheus would).
struct NoServices {
    made: bool,
}

impl NoServices {
    const POLICY: &str = "/usr/sbin/policy-rc.d";

    fn start() -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let made = !Path::new(Self::POLICY).exists()
            && fs::write(Self::POLICY, "#!/bin/sh\nexit 101\n").is_ok()
            && fs::set_permissions(Self::POLICY, fs::Permissions::from_mode(0o755)).is_ok();
        Self { made }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.made {
            let _already_gone = fs::remove_file(Self::POLICY);
        }
    }
}

/// A compiler with its library's source. The ways are tried in turn: the source for the compiler in
/// use; for a nightly that is installed; a pinned release; Debian's own.
fn rust_source() -> State {
    if let Ok(compiler) = Compiler::find() {
        return State::Present(compiler.to_string());
    }
    let ways: [(&str, &[&str]); 4] = [
        ("rustup", &["component", "add", "rust-src"]),
        ("rustup", &["component", "add", "rust-src", "--toolchain", "nightly"]),
        (
            "rustup",
            &[
                "toolchain",
                "install",
                PINNED_RUST,
                "--profile=minimal",
                "--component=rust-src,clippy",
            ],
        ),
        (
            "apt-get",
            &[
                "-qq",
                "install",
                "--yes",
                "--no-install-recommends",
                "rustc-web",
                "rust-web-src",
                "cargo-web",
            ],
        ),
    ];
    for (program, arguments) in ways {
        let tried = quiet(Command::new(program).args(arguments));
        if let (Ok(()), Ok(compiler)) = (tried, Compiler::find()) {
            return State::Installed(format!("{compiler}, by {program} {}", arguments.join(" ")));
        }
    }
    State::Failed {
        reason: "no way brought a compiler with its library's source".to_owned(),
        remedy: format!("`rustup toolchain install {PINNED_RUST} --component rust-src`"),
    }
}

fn install_linker(report: &mut Report) {
    const ITEM: &str = "bpf-linker";
    if let Some(version) = linker_version() {
        report.line(ITEM, &State::Present(version));
        return;
    }
    install_packages(&LINKER_PACKAGES.each_ref(), report);
    println!("cargo: compiling bpf-linker {LINKER_VERSION}, once");
    let tried = quiet(
        run::cargo(&["install", "bpf-linker", "--version", LINKER_VERSION, "--locked", "--force"])
            .args(["--no-default-features", "--features", "llvm-22"])
            .env("LLVM_PREFIX", "/usr/lib/llvm-22"),
    );
    let state = match (tried, linker_version()) {
        (Ok(()), Some(version)) => State::Installed(version),
        (tried, _) => State::Failed {
            reason: tried.err().unwrap_or_else(|| "it does not start".to_owned()),
            remedy: format!(
                "`LLVM_PREFIX=/usr/lib/llvm-22 cargo install bpf-linker --version {LINKER_VERSION} \
                 --no-default-features --features llvm-22 --locked`"
            ),
        },
    };
    report.line(ITEM, &state);
}

/// The linker's version, if it is the one wanted.
fn linker_version() -> Option<String> {
    let output = Command::new(find_linker().ok()?).arg("--version").output().ok()?;
    let words = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    words.ends_with(LINKER_VERSION).then_some(words)
}

fn fuzzer() -> State {
    if run::find_program("cargo-fuzz").is_some() {
        return State::Present(String::new());
    }
    println!("cargo: compiling cargo-fuzz {FUZZER_VERSION}, once");
    let install = ["install", "cargo-fuzz", "--version", FUZZER_VERSION, "--locked"];
    match quiet(&mut run::cargo(&install)) {
        Ok(()) => State::Installed(FUZZER_VERSION.to_owned()),
        Err(reason) => State::Failed { reason, remedy: format!("`cargo {}`", install.join(" ")) },
    }
}

fn bpffs() -> State {
    const PLACE: &str = "/sys/fs/bpf";
    if mount_point("bpf", Some(PLACE)).is_some() {
        return State::Present(PLACE.to_owned());
    }
    match quiet(Command::new("mount").args(["-t", "bpf", "bpf", PLACE])) {
        Ok(()) => State::Installed(format!("mounted at {PLACE}")),
        Err(reason) => {
            State::Failed { reason, remedy: format!("as root, `mount -t bpf bpf {PLACE}`") }
        }
    }
}

fn cgroup2() -> State {
    mount_point("cgroup2", None).map_or_else(
        || State::Failed {
            reason: "no cgroup v2 is mounted".to_owned(),
            remedy: "as root, `mount -t cgroup2 cgroup2 DIRECTORY`".to_owned(),
        },
        State::Present,
    )
}

fn btf() -> State {
    const FILE: &str = "/sys/kernel/btf/vmlinux";
    if Path::new(FILE).exists() {
        return State::Present(FILE.to_owned());
    }
    State::Failed {
        reason: "the kernel does not describe its types".to_owned(),
        remedy: "boot a kernel of 6.6 or later, built with CONFIG_DEBUG_INFO_BTF".to_owned(),
    }
}

/// Where a file system of this kind is mounted (at this place, if one is given).
fn mount_point(kind: &str, place: Option<&str>) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let at = words.next()?;
        let fits = words.next()? == kind && place.is_none_or(|place| place == at);
        fits.then(|| at.to_owned())
    })
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Runs in silence; the error is the last thing the program said.
fn quiet(command: &mut Command) -> Result<(), String> {
    let shown = run::shown(command);
    let output: Output =
        command.output().map_err(|error| format!("can't start `{shown}`: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    Err(format!("`{shown}` failed: {}", last.trim()))
}
