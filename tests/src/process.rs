//! Other programs: run to the end with a deadline, or found beside the one that runs.

use std::io::{Read, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::eventually;

/// No command of a test takes longer.
pub const COMMAND_DEADLINE: Duration = Duration::from_mins(1);

/// Runs to the end and gathers what was said; past the deadline the program is killed.
pub fn output(command: &mut Command, input: &[u8]) -> Result<Output> {
    output_within(COMMAND_DEADLINE, command, input)
}

/// The same with a deadline of its own, for what is known to take long.
pub fn output_within(deadline: Duration, command: &mut Command, input: &[u8]) -> Result<Output> {
    let shown = format!("{command:?}");
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().with_context(|| format!("can't start {shown}"))?;
    let stdout = child.stdout.take().map(gather);
    let stderr = child.stderr.take().map(gather);
    if let Some(mut stdin) = child.stdin.take() {
        // A program that reads nothing may end first: its answer says what there is to know.
        let _unread = stdin.write_all(input);
    }
    let status = wait(&mut child, deadline).with_context(|| shown)?;
    Ok(Output { status, stdout: joined(stdout), stderr: joined(stderr) })
}

/// Runs to the end; anything but success is an error that repeats what the program said.
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = output(Command::new(program).args(arguments), b"")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "`{program} {}` failed: {}",
        arguments.join(" "),
        stderr.trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Waits for a child's end; past the deadline it is killed, which is an error.
pub fn wait(child: &mut Child, deadline: Duration) -> Result<ExitStatus> {
    let ended = eventually("the end of the program", deadline, || Ok(child.try_wait()?));
    if ended.is_err() {
        let _already_ended = child.kill();
        child.wait()?;
    }
    ended
}

/// A program of this workspace, built beside the one that runs.
pub fn built(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let found = own.ancestors().skip(1).take(3).map(|dir| dir.join(name)).find(|at| at.is_file());
    let Some(found) = found else {
        bail!("`{name}` is not built; remedy: `cargo build --workspace`");
    };
    Ok(found)
}

/// Builds `netd-next`, this workspace's netd with a later layout of the maps, beside the one that runs.
pub fn build_next_version() -> Result<()> {
    // The first build of a loaded machine compiles the kernel object and its library, too.
    const BUILD_DEADLINE: Duration = Duration::from_mins(30);
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--package", "netd-user"]);
    cargo.args(["--bin", "netd-next", "--features", "next-layout"]);
    let mut child = cargo.stdin(Stdio::null()).spawn().context("can't start cargo")?;
    let status = wait(&mut child, BUILD_DEADLINE)?;
    ensure!(status.success(), "netd-next can't be built");
    Ok(())
}

fn gather(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut said = Vec::new();
        // What was read before a broken pipe is still what the program said.
        let _broken = pipe.read_to_end(&mut said);
        said
    })
}

fn joined(reader: Option<thread::JoinHandle<Vec<u8>>>) -> Vec<u8> {
    reader.and_then(|reader| reader.join().ok()).unwrap_or_default()
}
