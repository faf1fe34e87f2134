//! A host: a network namespace with an uplink, a control group and a bpf file system of its own.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};

use crate::netns::Netns;
use crate::outside::{ROUTER_V4, ROUTER_V6};
use crate::process::{self, run};
use crate::{Lab, Outside, eventually};

/// The uplink's name on every host.
pub const UPLINK: &str = "eth0";

const ENTERS_WITHIN: Duration = Duration::from_secs(10);

/// One host. It is removed with its laboratory.
pub struct Host {
    name: String,
    directory: PathBuf,
    cgroup: PathBuf,
    netns: Netns,
    number: u8,
    // Keeps the laboratory: its end removes everything here.
    _lab: Lab,
}

impl Host {
    pub(crate) fn create(lab: &Lab, outside: &Outside, number: u32) -> Result<Self> {
        let name = format!("{}-h{number}", lab.name());
        let number = u8::try_from(number).ok().filter(|number| *number < 200);
        let number = number.context("a segment has room for 199 hosts")?;
        let directory = lab.directory().join(format!("h{number}"));
        let cgroup = cgroup_root()?.join(&name);
        let netns = Netns::create(&name)?;
        let host = Self { name, directory, cgroup, netns, number, _lab: lab.clone() };
        host.make_directories()?;
        host.connect(outside)?;
        Ok(host)
    }

    fn make_directories(&self) -> Result<()> {
        fs::create_dir(&self.cgroup).with_context(|| self.cgroup.display().to_string())?;
        for directory in ["", "state", "run", "netns", "bpf"] {
            fs::create_dir(self.directory.join(directory))?;
        }
        // Pins in a file system of its own go with it, whatever happens to who made them.
        mount(Some("bpf"), &self.bpffs(), Some("bpf"), MsFlags::empty(), None::<&str>)
            .context("mounting a bpf file system")
    }

    fn connect(&self, outside: &Outside) -> Result<()> {
        outside.plug(&self.name, UPLINK, &format!("h{}", self.number))?;
        let (v4, v6) = (format!("{}/24", self.v4()), format!("{}/64", self.v6()));
        self.ip(&["address", "add", &v4, "dev", UPLINK])?;
        self.ip(&["address", "add", &v6, "dev", UPLINK, "nodad"])?;
        self.ip(&["link", "set", UPLINK, "up"])?;
        self.ip(&["route", "add", "default", "via", &ROUTER_V4.to_string()])?;
        self.ip(&["-6", "route", "add", "default", "via", &ROUTER_V6.to_string(), "dev", UPLINK])
    }

    /// Its address on the segment.
    pub fn v4(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 51, 100, 10 + self.number)
    }

    /// Its address on the segment.
    pub fn v6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 10 + u16::from(self.number))
    }

    /// Its name, which is its namespace's too.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The control group of all its processes.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// Its own bpf file system.
    pub fn bpffs(&self) -> PathBuf {
        self.directory.join("bpf")
    }

    /// A directory for its files, which has `state`, `run` and `netns` below it.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Changes a link, an address or a route.
    pub fn ip(&self, arguments: &[&str]) -> Result<()> {
        run("ip", &[&["-netns", &self.name], arguments].concat()).map(drop)
    }

    /// Runs a program of the host to its end.
    pub fn exec(&self, program: impl AsRef<Path>, arguments: &[&str]) -> Result<Output> {
        let mut command = self.command(program.as_ref());
        command.args(arguments);
        self.netns.run(|| process::output(&mut command, b""))
    }

    /// Starts a program of the host; what it says goes to `log`. It ends with the host at the latest.
    pub fn spawn(
        &self,
        program: impl AsRef<Path>,
        arguments: &[&str],
        log: &Path,
    ) -> Result<Child> {
        let mut command = self.command(program.as_ref());
        let file = fs::OpenOptions::new().create(true).append(true).open(log)?;
        command.args(arguments).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let spawned = self.netns.run(|| Ok(command.spawn()?));
        let mut child = spawned.context("can't start a program of the host")?;
        self.wait_for_entry(&mut child)?;
        Ok(child)
    }

    /// Until it has entered the control group, a program could outlive the host.
    fn wait_for_entry(&self, child: &mut Child) -> Result<()> {
        let file = format!("/proc/{}/cgroup", child.id());
        eventually("a program's entry into the control group", ENTERS_WITHIN, || {
            let groups = fs::read_to_string(&file).unwrap_or_default();
            let entered = groups.lines().any(|line| line.ends_with(&self.name));
            Ok((entered || child.try_wait()?.is_some()).then_some(()))
        })
    }

    /// The shell enters the control group before it becomes the program, so that no socket of the
    /// program's is ever outside.
    fn command(&self, program: &Path) -> Command {
        const ENTER: &str = r#"echo 0 > "$0" && exec "$@""#;
        let mut command = Command::new("sh");
        command.args(["-c", ENTER]).arg(self.cgroup.join("cgroup.procs")).arg(program);
        command
    }

    /// Whether an address answers one ICMP echo request.
    pub fn pings(&self, address: impl Into<std::net::IpAddr>) -> Result<bool> {
        let address = address.into().to_string();
        let answered = self.exec("ping", &["-n", "-q", "-c", "1", "-W", "2", &address])?;
        Ok(answered.status.success())
    }
}

/// Where the second version's control groups are mounted.
pub fn cgroup_root() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let found = mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let place = words.next()?;
        (words.next()? == "cgroup2").then(|| PathBuf::from(place))
    });
    found.context("no cgroup v2 is mounted; remedy: `cargo xtask setup`")
}
