//! Another kernel: a virtual machine in software emulation that runs programs of this workspace from
//! memory alone.
//!
//! Laws: it has no network card and no disk; it ends with the value, with the thread that booted it,
//! and by itself when its time is over; what it says comes line by line, its kernel's words apart.

mod initramfs;
mod kernel;

use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

pub use initramfs::Initramfs;
pub use kernel::Kernel;

/// In software: where tests run, the processor's own help is often missing or broken. Time goes by
/// instructions, not by the clock of this machine: a busy one makes nothing late, and where the
/// machine would only wait it goes on at once.
const EMULATION: [&str; 10] = [
    "-accel",
    "tcg",
    "-icount",
    "shift=2,sleep=off",
    "-rtc",
    "clock=vm",
    "-cpu",
    "max,la57=off",
    "-m",
    "1536",
];
const NOTHING_ELSE: [&str; 8] = [
    "-nodefaults",
    "-no-user-config",
    "-no-reboot",
    "-nic",
    "none",
    "-display",
    "none",
    "-monitor",
];
/// The first serial line is the kernel's, the second the programs'.
const KERNEL_LINE: &str = "console=ttyS0 panic=-1";

/// A machine that runs.
pub struct Machine {
    child: Child,
    lines: Receiver<String>,
    kernel_log: PathBuf,
    ends_at: Instant,
    // The kernel's log and the image live as long as the machine.
    _directory: TempDir,
}

impl Machine {
    /// Boots a kernel, which runs what `initramfs` says and then ends.
    pub fn boot(kernel: &Kernel, initramfs: &Initramfs, lives_for: Duration) -> Result<Self> {
        let directory = TempDir::new()?;
        let image = initramfs.pack(directory.path(), lives_for)?;
        let kernel_log = directory.path().join("kernel.log");
        let mut child = command(&kernel.image(), &image, &kernel_log)
            .spawn()
            .context("can't start qemu-system-x86_64; remedy: `cargo xtask setup`")?;
        let said = child.stdout.take().context("a piped output is there")?;
        let lines = listen(said);
        Ok(Self {
            child,
            lines,
            kernel_log,
            ends_at: Instant::now() + lives_for,
            _directory: directory,
        })
    }

    /// The next line that its programs say; none when it has ended. A machine whose time is over is
    /// an error.
    pub fn next_line(&mut self) -> Result<Option<String>> {
        let left = self.ends_at.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => bail!("the machine's time is over"),
        }
    }

    /// What its kernel and its emulator have said.
    pub fn kernel_log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.kernel_log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both only fail for a process that has ended and was waited for: then all is done.
        let _already_ended = self.child.kill();
        let _already_waited = self.child.wait();
    }
}

/// The emulator dies with the thread that starts it.
fn command(image: &Path, initramfs: &Path, kernel_log: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
    command.args(EMULATION).args(NOTHING_ELSE).arg("none");
    command.arg("-serial").arg(format!("file:{}", kernel_log.display()));
    command.args(["-serial", "stdio", "-append", KERNEL_LINE]);
    command.arg("-kernel").arg(image).arg("-initrd").arg(initramfs);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

fn listen(said: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(said).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}
