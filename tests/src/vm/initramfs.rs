//! All that a machine has: a file tree in memory, with the programs it runs one after another.
//!
//! Law: nothing in it comes from anywhere but the kernel's package and this machine's own files.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::Kernel;
use crate::process::{output, run};

const BUSYBOX: &str = "bin/busybox";
/// Tools of the harness that the shell's own can't replace.
const TOOLS: [&str; 6] = ["bridge", "dig", "getent", "ip", "ping", "socat"];
const SEARCH: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The first process: it sets the stage, and says the rest on the second serial line.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/ RUST_BACKTRACE=0
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
exec </dev/null >/dev/ttyS1 2>&1
for module in /modules/*; do insmod "$module" || echo "$module can't be loaded"; done
ip link set lo up
"#;

/// A tree in the making.
pub struct Initramfs {
    root: TempDir,
    /// What the first process does once the stage is set.
    script: String,
}

impl Initramfs {
    /// A tree with a shell, the harness's tools and these modules of the kernel.
    pub fn new(kernel: &Kernel, modules: &[&str]) -> Result<Self> {
        let tree = Self { root: TempDir::new()?, script: String::new() };
        for directory in ["bin", "dev", "etc", "modules", "proc", "run", "sys", "tmp"] {
            fs::create_dir(tree.root.path().join(directory))?;
        }
        fs::copy(find(Path::new("busybox"))?, tree.root.path().join(BUSYBOX))?;
        fs::write(tree.root.path().join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n")?;
        fs::write(tree.root.path().join("etc/group"), "root:x:0:\n")?;
        fs::write(tree.root.path().join("etc/resolv.conf"), "nameserver 192.0.2.53\n")?;
        for (number, module) in kernel.modules(modules)?.iter().enumerate() {
            tree.add_module(number, module)?;
        }
        for tool in TOOLS {
            let path = find(Path::new(tool))?;
            tree.place(&path, &path)?;
            tree.add_libraries(&path)?;
        }
        Ok(tree)
    }

    /// A program of this workspace, under `/netd`, without its names for a debugger.
    pub fn add_program(&self, program: &Path, name: &str) -> Result<()> {
        let place = self.prepare(&Path::new("/netd").join(name))?;
        let [place_text, program_text] = [&place, program].map(|path| path.display().to_string());
        run("strip", &["-o", &place_text, &program_text])?;
        self.add_libraries(program)
    }

    /// A file at the path it has here.
    pub fn add_file(&self, path: &Path) -> Result<()> {
        self.place(path, path)
    }

    /// A command of the shell to be run in `/netd`, after those that were given before.
    pub fn then_run(&mut self, command: &str) {
        self.script.push_str(command);
        self.script.push('\n');
    }

    /// Makes the image. Whoever runs it, it ends when its time is over.
    pub(super) fn pack(&self, directory: &Path, lives_for: Duration) -> Result<PathBuf> {
        let init = self.root.path().join("init");
        let bound = lives_for.as_secs();
        let script = &self.script;
        let text = format!("{INIT}(sleep {bound}; poweroff -f) &\ncd /netd\n{script}poweroff -f\n");
        fs::write(&init, text)?;
        fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
        let image = directory.join("initramfs");
        let mut archive = Command::new("sh");
        archive
            .current_dir(self.root.path())
            .args(["-ec", "find . | cpio -o -H newc --quiet >\"$0\""]);
        let packed = output(archive.arg(&image), b"")?;
        let said = String::from_utf8_lossy(&packed.stderr);
        ensure!(packed.status.success(), "the image can't be packed: {}", said.trim());
        Ok(image)
    }

    /// The shell of the machine loads plain modules only.
    fn add_module(&self, number: usize, module: &Path) -> Result<()> {
        let name = module.file_stem().context("a module has a name")?.to_string_lossy();
        let place = self.root.path().join(format!("modules/{number:03}-{name}"));
        if module.extension().is_none_or(|extension| extension != "xz") {
            return Ok(fs::copy(module, place).map(drop)?);
        }
        let mut unpack = Command::new("busybox");
        let unpack = unpack.arg("xzcat").arg(module).stdout(File::create(place)?).status()?;
        ensure!(unpack.success(), "{} can't be unpacked", module.display());
        Ok(())
    }

    fn add_libraries(&self, program: &Path) -> Result<()> {
        let listed = run("ldd", &[&program.display().to_string()])?;
        for library in listed.split_whitespace().filter(|word| word.starts_with('/')) {
            self.place(Path::new(library), Path::new(library))?;
        }
        Ok(())
    }

    fn place(&self, from: &Path, to: &Path) -> Result<()> {
        let place = self.prepare(to)?;
        fs::copy(from, place).with_context(|| from.display().to_string())?;
        Ok(())
    }

    /// The path within the tree, with the directories above it.
    fn prepare(&self, path: &Path) -> Result<PathBuf> {
        let place = self.root.path().join(path.strip_prefix("/").unwrap_or(path));
        fs::create_dir_all(place.parent().context("a file lies in a directory")?)?;
        Ok(place)
    }
}

fn find(program: &Path) -> Result<PathBuf> {
    let found = SEARCH.iter().map(|dir| Path::new(dir).join(program)).find(|at| at.is_file());
    found.with_context(|| {
        format!("{} is not installed; remedy: `cargo xtask setup`", program.display())
    })
}
