//! A Docker engine of a host's own: private root, sockets, control groups and mounts, in the host's
//! network namespace.
//!
//! Law: nothing of it is outside its host. Its processes and containers live in the host's control
//! group and end with it; its mounts are in a namespace that ends with them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::daemon::Said;
use crate::{Host, Netns, eventually, process};

/// Names the directory of an engine to use instead of the machine's own: unpacked packages, with all
/// that they need down to the C library.
const ANOTHER: &str = "NETD_ENGINE";
/// The engine, and its client of the same version: another may come first on the search path.
const ENGINE: &str = "/usr/sbin/dockerd";
/// What runs its containers, and its socket.
const KEEPER: &str = "/usr/bin/containerd";
const KEEPER_SOCKET: &str = "containerd.sock";
const CLIENT: &str = "/usr/bin/docker";
/// Name of the image that every container is made of.
pub const IMAGE: &str = "busybox";

const READY_WITHIN: Duration = Duration::from_mins(1);
const STOPS_WITHIN: Duration = Duration::from_mins(1);
const CLIENT_DEADLINE: Duration = Duration::from_mins(15);

/// The engine looks for plugins under `/run/docker` and `/etc/docker` and for control groups under
/// `/sys/fs/cgroup`, whatever it is told: it gets its own of each. Programs of another version lie
/// over the machine's, with their libraries.
const ENTER: &str = r#"
set -eu
directory=$1 plugins=$2 tests=$3 another=$4
shift 4
[ -z "$another" ] || mount -t overlay -o "lowerdir=$another/usr:/usr" overlay /usr
mount -t tmpfs tmpfs "$directory/run"
mkdir -p "$directory/run/docker/plugins" "$directory/run/lock" "$directory/run/$(basename "$tests")"
mount --bind "$plugins" "$directory/run/docker/plugins"
mount --rbind "$tests" "$directory/run/$(basename "$tests")"
mount --rbind "$directory/run" /run
mount -t overlay -o "lowerdir=/etc,upperdir=$directory/etc,workdir=$directory/work" overlay /etc
mkdir -p /etc/docker/plugins
mount --bind "$directory/discovery" /etc/docker/plugins
umount -l /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec "$@"
"#;

/// The mounts that a host's engine sees: they outlive it, so that one started again finds what the
/// last one's containers run on.
pub struct Grounds<'host> {
    host: &'host Host,
    directory: PathBuf,
    // Keeps the mount namespace.
    anchor: Child,
    // Keeps the containers, as a service of its own does on every machine.
    keeper: Option<Child>,
}

/// A running engine; it ends with the value, by force.
pub struct Engine<'host> {
    directory: PathBuf,
    // Whose mounts it sees.
    anchor: u32,
    child: Child,
    host: &'host Host,
}

impl<'host> Grounds<'host> {
    /// Makes the mounts. `plugins` is where the engine finds plugins' sockets.
    pub fn prepare(host: &'host Host, plugins: &Path) -> Result<Self> {
        let another = std::env::var(ANOTHER).unwrap_or_default();
        let engine = format!("{another}{ENGINE}");
        ensure!(Path::new(&engine).exists(), "no engine at {engine}; remedy: `cargo xtask setup`");
        let directory = host.directory().join("engine");
        for below in ["run", "data", "exec", "etc", "work", "discovery"] {
            fs::create_dir_all(directory.join(below))?;
        }
        let shown = |path: &Path| path.display().to_string();
        let places = [shown(&directory), shown(plugins), crate::lab::ROOT.to_owned(), another];
        let enter = ["--mount", "--propagation", "private", "sh", "-c", ENTER, "enter"];
        let places: Vec<&str> = places.iter().map(String::as_str).collect();
        let words = [&enter[..], &places, &["sleep", "infinity"]].concat();
        let anchor = host.spawn("unshare", &words, &log(&directory))?;
        let mut grounds = Self { host, directory, anchor, keeper: None };
        grounds.wait_until_made()?;
        grounds.start_keeper()?;
        Ok(grounds)
    }

    fn start_keeper(&mut self) -> Result<()> {
        let at = |name: &str| self.directory.join(name).display().to_string();
        let configuration = at("containerd.toml");
        let text = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{}\"\n",
            at("data/containerd"),
            at("exec/containerd"),
            at(KEEPER_SOCKET),
        );
        fs::write(&configuration, text)?;
        self.keeper = Some(self.enter(KEEPER, &["--config", &configuration])?);
        eventually("the keeper of containers", READY_WITHIN, || {
            Ok(std::os::unix::net::UnixStream::connect(at(KEEPER_SOCKET)).ok().map(drop))
        })
    }

    /// Starts a program among the mounts.
    fn enter(&self, program: &str, arguments: &[&str]) -> Result<Child> {
        let target = self.anchor.id().to_string();
        let words = [&["--mount", "--target", &target, program], arguments].concat();
        self.host.spawn("nsenter", &words, &log(&self.directory))
    }

    /// The anchor becomes `sleep` when all is mounted.
    fn wait_until_made(&mut self) -> Result<()> {
        let name = format!("/proc/{}/comm", self.anchor.id());
        eventually("the engine's mounts", READY_WITHIN, || {
            if let Some(status) = self.anchor.try_wait()? {
                let log = fs::read_to_string(log(&self.directory)).unwrap_or_default();
                bail!("the mounts failed ({status}): {log}");
            }
            Ok((fs::read_to_string(&name)?.trim() == "sleep").then_some(()))
        })
    }

    /// Starts the engine with further arguments and waits until it answers. One started again finds
    /// what the last one had.
    pub fn start_engine(&self, arguments: &[&str]) -> Result<Engine<'host>> {
        let own = own_arguments(self.host, &self.directory);
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        let child = self.enter(ENGINE, &[&own[..], arguments].concat())?;
        let (directory, anchor) = (self.directory.clone(), self.anchor.id());
        let mut engine = Engine { directory, anchor, child, host: self.host };
        engine.wait_until_ready().with_context(|| format!("its log:\n{}", engine.log()))?;
        Ok(engine)
    }
}

impl Drop for Grounds<'_> {
    fn drop(&mut self) {
        // Both only fail for a process that has ended and was waited for: then all is done.
        for child in self.keeper.iter_mut().chain([&mut self.anchor]) {
            let _already_ended = child.kill();
            let _already_waited = child.wait();
        }
    }
}

impl<'host> Engine<'host> {
    fn wait_until_ready(&mut self) -> Result<()> {
        eventually("the engine's answer", READY_WITHIN, || {
            if let Some(status) = self.child.try_wait()? {
                bail!("the engine ended ({status})");
            }
            Ok((self.docker(&["version"])?.code == Some(0)).then_some(()))
        })
    }

    /// Runs its client, whatever it answers.
    pub fn docker(&self, arguments: &[&str]) -> Result<Said> {
        let output = process::output(self.command(CLIENT).args(arguments), b"")?;
        Ok(Said {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// The same; the answer is its output without the last line's end. Refusals are errors.
    pub fn ok(&self, arguments: &[&str]) -> Result<String> {
        let said = self.docker(arguments)?;
        ensure!(said.code == Some(0), "`docker {}` failed: {said:?}", arguments.join(" "));
        Ok(said.stdout.trim_end().to_owned())
    }

    /// Runs a program that finds this engine by its environment, as compose does. It may take as long
    /// as an image takes to be made.
    pub fn client(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = self.command(program);
        let output = process::output_within(CLIENT_DEADLINE, command.args(arguments), b"")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "`{command:?}` failed: {said}");
        Ok(said)
    }

    /// A client's program, of the engine's own version: it sees the same mounts.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &self.anchor.to_string(), program]);
        command.env("DOCKER_HOST", format!("unix://{}", self.socket().display()));
        // Nobody's own configuration: plugins of the command line are found below this one.
        command.env("DOCKER_CONFIG", self.directory.join("config"));
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// Its version, and compose's.
    pub fn says(&self) -> Result<String> {
        let compose = self.client_says("docker-compose", &["version", "--short"])?;
        let engine = self.ok(&["version", "--format", "{{.Server.Version}}"])?;
        Ok(format!("engine {engine}, compose {compose}"))
    }

    /// Its version's first number.
    pub fn major(&self) -> Result<u32> {
        let version = self.ok(&["version", "--format", "{{.Server.Version}}"])?;
        let major = version.split('.').next().unwrap_or_default();
        major.parse().with_context(|| format!("engine {version}"))
    }

    fn client_says(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = process::output(self.command(program).args(arguments), b"")?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Its API's socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("docker.sock")
    }

    /// Makes a program a plugin of its client: `docker NAME` runs it.
    pub fn install_client_plugin(&self, name: &str, program: &Path) -> Result<()> {
        let plugins = self.directory.join("config/cli-plugins");
        fs::create_dir_all(&plugins)?;
        let link = plugins.join(format!("docker-{name}"));
        std::os::unix::fs::symlink(program, &link).with_context(|| link.display().to_string())
    }

    /// Makes the image that containers are made of: a static busybox and nothing else.
    pub fn make_image(&self) -> Result<()> {
        let root = self.directory.join("rootfs");
        for below in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
            fs::create_dir_all(root.join(below))?;
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).context("no static busybox")?;
        for applet in ["sh", "ip", "ping", "ping6", "sleep", "cat", "nslookup", "wget", "true"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet))?;
        }
        copy_with_libraries("/usr/bin/getent", &root)?;
        fs::write(root.join("etc/nsswitch.conf"), "hosts: files dns\n")?;
        let (root, archive) = (root.to_string_lossy(), self.directory.join("rootfs.tar"));
        let archive = archive.to_string_lossy();
        process::run("tar", &["-C", &root, "-cf", &archive, "."])?;
        self.ok(&["import", &archive, IMAGE]).map(drop)
    }

    /// Where a file says of a plugin how it is reached: `NAME.spec`, `NAME.json`.
    pub fn discovery(&self) -> PathBuf {
        self.directory.join("discovery")
    }

    /// The namespace of a running container.
    pub fn netns_of(&self, container: &str) -> Result<Netns> {
        let pid = self.ok(&["inspect", "-f", "{{.State.Pid}}", container])?;
        ensure!(pid != "0", "container {container} does not run");
        Ok(Netns::at(format!("/proc/{pid}/ns/net")))
    }

    /// The last lines of its log.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(log(&self.directory)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }

    /// Asks it to stop and waits for its end.
    pub fn stop(mut self) -> Result<()> {
        kill(self.pid()?, Signal::SIGTERM)?;
        process::wait(&mut self.child, STOPS_WITHIN).context("after a request to stop").map(drop)
    }

    /// Ends it as a crash would: its containers run on until the next one starts.
    pub fn crash(mut self) -> Result<()> {
        kill(self.pid()?, Signal::SIGKILL)?;
        Ok(self.child.wait().map(drop)?)
    }

    fn pid(&self) -> Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.child.id())?))
    }

    /// Its host.
    pub fn host(&self) -> &'host Host {
        self.host
    }
}

impl Drop for Engine<'_> {
    fn drop(&mut self) {
        // Both only fail for a process that has ended and was waited for: then all is done.
        let _already_ended = self.child.kill();
        let _already_waited = self.child.wait();
    }
}

fn own_arguments(host: &Host, directory: &Path) -> [String; 7] {
    let at = |name: &str| directory.join(name).display().to_string();
    [
        format!("--data-root={}", at("data")),
        format!("--exec-root={}", at("exec")),
        format!("--pidfile={}", at("pid")),
        format!("--containerd={}", at(KEEPER_SOCKET)),
        format!("--host=unix://{}", at("docker.sock")),
        format!("--cgroup-parent=/{}/engine", host.name()),
        "--storage-driver=overlay2".to_owned(),
    ]
}

/// A program of the machine, which finds the C library's resolver in the image.
fn copy_with_libraries(program: &str, root: &Path) -> Result<()> {
    let listed = process::run("ldd", &[program])?;
    let libraries = listed.split_whitespace().filter(|word| word.starts_with('/'));
    for file in libraries.chain([program]) {
        let target = root.join(file.trim_start_matches('/'));
        fs::create_dir_all(target.parent().context("a file is in a directory")?)?;
        fs::copy(file, &target).with_context(|| file.to_owned())?;
    }
    Ok(())
}

fn log(directory: &Path) -> PathBuf {
    directory.join("engine.log")
}
