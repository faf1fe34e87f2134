//! Which compiler and linker build the kernel object: one rule, shared by netd-user's build script
//! and `cargo xtask`. A compiler serves if it has its library's source beside it and an LLVM that
//! the linker can read; the first candidate that serves is taken, always in the same order.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The LLVM that bpf-linker is built with; it can't read what a newer one writes.
const LINKER_LLVM: u32 = 22;

/// The compiler and the linker that build the kernel object.
pub(crate) struct Toolchain {
    /// The compiler, with its library's source.
    pub(crate) compiler: Compiler,
    /// The linker's path.
    pub(crate) linker: PathBuf,
}

/// A compiler that serves, with the cargo that drives it.
pub(crate) struct Compiler {
    cargo: PathBuf,
    rustc: PathBuf,
    version: String,
}

/// The one sentence that says what is missing.
#[derive(Debug)]
pub(crate) struct Missing(String);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

impl Toolchain {
    /// Finds what is installed.
    pub(crate) fn find() -> Result<Self, Missing> {
        let compiler = Compiler::find()?;
        Ok(Self { compiler, linker: find_linker()? })
    }

    /// The cargo command `verb` on the kernel object, with its artifacts in `target_dir`.
    pub(crate) fn cargo(&self, verb: &str, workspace: &Path, target_dir: &Path) -> Command {
        let mut command = Command::new(&self.compiler.cargo);
        clear_cargo_environment(&mut command);
        command
            .current_dir(workspace)
            .env("RUSTC", &self.compiler.rustc)
            // The library is built from source, which only a nightly does unasked.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", self.flags().join("\x1f"))
            .arg(verb)
            .args(["--package", "netd-ebpf", "--bin", "netd-dataplane", "--features", "kernel"])
            .args(["--target", "bpfel-unknown-none", "-Z", "build-std=core", "--profile", "bpf"])
            .arg("--target-dir")
            .arg(target_dir);
        command
    }

    /// Whether the compiler came with clippy; a distribution's may not.
    #[allow(dead_code, reason = "the build script, which shares this file, lints nothing")]
    pub(crate) fn has_clippy(&self) -> bool {
        self.compiler.cargo.with_file_name("cargo-clippy").is_file()
    }

    fn flags(&self) -> Vec<String> {
        vec![
            format!("--cfg=bpf_target_arch=\"{}\"", env::consts::ARCH),
            // The default CPU has no atomics that return a value: LLVM stops on them.
            "-Ctarget-cpu=v3".to_owned(),
            "-Cdebuginfo=2".to_owned(),
            "-Clink-arg=--btf".to_owned(),
            // Else every array of zeros becomes a call to a loop over single bytes.
            "-Clink-arg=--disable-expand-memcpy-in-order".to_owned(),
            format!("-Clinker={}", self.linker.display()),
        ]
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.compiler, self.linker.display())
    }
}

impl Compiler {
    /// The first candidate that serves.
    pub(crate) fn find() -> Result<Self, Missing> {
        let mut refusals = Vec::new();
        for cargo in candidates() {
            match Self::probe(&cargo) {
                Ok(compiler) => return Ok(compiler),
                Err(reason) => refusals.push(format!("{}: {reason}", cargo.display())),
            }
        }
        Err(Missing(format!(
            "no Rust compiler here can build the kernel object ({}); remedy: `cargo xtask setup`",
            refusals.join("; ")
        )))
    }

    fn probe(cargo: &Path) -> Result<Self, String> {
        let rustc = cargo.with_file_name("rustc");
        let verbose = first_output(Command::new(&rustc).arg("-vV"))?;
        let llvm = llvm_major(&verbose).ok_or("its LLVM version is unknown")?;
        if llvm > LINKER_LLVM {
            return Err(format!("its LLVM {llvm} is newer than the linker's {LINKER_LLVM}"));
        }
        let sysroot = first_output(Command::new(&rustc).args(["--print", "sysroot"]))?;
        let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/Cargo.lock");
        if !source.is_file() {
            return Err("rust-src is missing".to_owned());
        }
        let version = verbose.lines().next().unwrap_or_default().to_owned();
        Ok(Self { cargo: cargo.to_owned(), rustc, version })
    }
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.version, self.rustc.display())
    }
}

/// The cargo of the toolchain that runs us, then rustup's stable, pinned and nightly ones, then
/// Debian's (rustc-web).
fn candidates() -> Vec<PathBuf> {
    let mut found = Vec::from_iter(env::var_os("CARGO").map(PathBuf::from));
    found.extend(rustup_cargos());
    found.push("/usr/bin/cargo".into());
    let mut seen = Vec::new();
    for cargo in found {
        if cargo.is_file() && !seen.contains(&cargo) {
            seen.push(cargo);
        }
    }
    seen
}

fn rustup_cargos() -> Vec<PathBuf> {
    let Some(home) = home("RUSTUP_HOME", ".rustup") else { return Vec::new() };
    let mut names: Vec<_> = std::fs::read_dir(home.join("toolchains"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    names.sort_by_key(|path| (channel_rank(path), path.clone()));
    names.into_iter().map(|path| path.join("bin/cargo")).collect()
}

fn channel_rank(toolchain: &Path) -> u8 {
    let name = toolchain.file_name().unwrap_or_default().to_string_lossy();
    match name.split('-').next() {
        Some("stable") => 0,
        Some("nightly" | "beta") => 2,
        _ => 1,
    }
}

/// The BPF linker: on the search path, or where `cargo install` puts it.
pub(crate) fn find_linker() -> Result<PathBuf, Missing> {
    let installed = home("CARGO_HOME", ".cargo").map(|home| home.join("bin"));
    let search = env::var_os("PATH").unwrap_or_default();
    let mut refusal = "it is not installed".to_owned();
    for directory in env::split_paths(&search).chain(installed) {
        let linker = directory.join("bpf-linker");
        if !linker.is_file() {
            continue;
        }
        match first_output(Command::new(&linker).arg("--version")) {
            Ok(_) => return Ok(linker),
            Err(reason) => refusal = reason,
        }
    }
    Err(Missing(format!("bpf-linker is missing ({refusal}); remedy: `cargo xtask setup`")))
}

fn home(variable: &str, default: &str) -> Option<PathBuf> {
    let standard = || Some(PathBuf::from(env::var_os("HOME")?).join(default));
    env::var_os(variable).map(PathBuf::from).or_else(standard)
}

fn first_output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.env_remove("LD_LIBRARY_PATH").output();
    let output = output.map_err(|error| format!("{program} does not start: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{program} fails: {}", said.lines().next().unwrap_or_default()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn llvm_major(verbose: &str) -> Option<u32> {
    let version = verbose.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.trim().parse().ok()
}

/// A build script or `cargo run` inherits settings meant for the host's build: the kernel object's
/// must not see them. What says where cargo keeps and fetches things stays, and so does the job
/// server.
fn clear_cargo_environment(command: &mut Command) {
    const KEPT: [&str; 6] = [
        "CARGO_HOME",
        "CARGO_MAKEFLAGS",
        "CARGO_NET_",
        "CARGO_HTTP_",
        "CARGO_REGISTRY_",
        "CARGO_REGISTRIES_",
    ];
    const NAMES: [&str; 12] = [
        "RUSTC",
        "RUSTDOC",
        "RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_LINKER",
        "RUSTUP_TOOLCHAIN",
        "CLIPPY_ARGS",
        "CLIPPY_CONF_DIR",
        "TARGET",
        "HOST",
        "LD_LIBRARY_PATH",
    ];
    let cargos =
        env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).filter(|name| {
            name.starts_with("CARGO") && !KEPT.iter().any(|kept| name.starts_with(kept))
        });
    for name in cargos.chain(NAMES.map(str::to_owned)) {
        command.env_remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llvm_version_is_read_from_the_compilers_own_words() {
        let words = "rustc 1.95.0 (59807616e 2026-04-14)\nhost: x86_64\nLLVM version: 22.1.2\n";
        assert_eq!(llvm_major(words), Some(22));
        assert_eq!(llvm_major("rustc 1.95.0"), None);
    }

    #[test]
    fn stable_comes_before_a_pinned_version_before_nightly() {
        let rank = |name| channel_rank(Path::new(name));
        assert!(rank("/t/stable-x86_64") < rank("/t/1.95.0-x86_64"));
        assert!(rank("/t/1.95.0-x86_64") < rank("/t/nightly-2026-05-19"));
    }

    #[test]
    fn settings_of_the_outer_build_do_not_reach_the_kernel_build() {
        let compiler = Compiler {
            cargo: "/bin/true".into(),
            rustc: "/the/rustc".into(),
            version: String::new(),
        };
        let toolchain = Toolchain { compiler, linker: "/the/bpf-linker".into() };
        let command = toolchain.cargo("build", Path::new("/"), Path::new("/t"));
        let changed = |name: &str| command.get_envs().find(|(key, _)| *key == name);
        assert_eq!(
            changed("RUSTC_WORKSPACE_WRAPPER"),
            Some(("RUSTC_WORKSPACE_WRAPPER".as_ref(), None))
        );
        assert_eq!(changed("CARGO_MANIFEST_DIR"), Some(("CARGO_MANIFEST_DIR".as_ref(), None)));
        assert_eq!(changed("RUSTC"), Some(("RUSTC".as_ref(), Some("/the/rustc".as_ref()))));
    }
}
