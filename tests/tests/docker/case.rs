//! The rig that all scenarios share, and what one scenario says on one driver.

use std::cell::{Ref, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netd_tests::container::Transport;
use netd_tests::daemon::Said;
use netd_tests::engine::{Grounds, IMAGE};
use netd_tests::host::UPLINK;
use netd_tests::wire::{Server, tcp_echo_server, udp_echo_server};
use netd_tests::{Daemon, Engine, Host, Netns, Outside, eventually};

/// Every server listens here, in the container.
pub(super) const PORT: u16 = 7000;
/// What most scenarios publish it as.
pub(super) const PUBLISHED: [&str; 4] = ["-p", "8080:7000", "-p", "8080:7000/udp"];
/// The engine has a default network already; Prometheus in a container asks for the metrics.
const SETTINGS: &str = "bridge = \"none\"\nmetrics-addr = \"0.0.0.0:9959\"";
/// How long the engine and the kernel may take over what ends by itself.
pub(super) const SETTLES_WITHIN: Duration = Duration::from_secs(30);

/// A driver: a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Driver {
    Netd,
    Bridge,
}

/// One host with an engine and netd.
pub(super) struct Rig<'host> {
    pub(super) outside: &'host Outside,
    pub(super) host: &'host Host,
    daemon: RefCell<Option<Daemon<'host>>>,
    engine: RefCell<Option<Engine<'host>>>,
    grounds: Grounds<'host>,
}

impl<'host> Rig<'host> {
    pub(super) fn start(outside: &'host Outside, host: &'host Host) -> Result<Self> {
        let plugins = host.directory().join("plugins");
        std::fs::create_dir_all(&plugins)?;
        let rig = Self {
            outside,
            host,
            daemon: RefCell::default(),
            engine: RefCell::default(),
            grounds: Grounds::prepare(host, &plugins)?,
        };
        rig.start_daemon()?;
        rig.start_engine()?;
        rig.engine().make_image()?;
        Ok(rig)
    }

    pub(super) fn start_daemon(&self) -> Result<()> {
        self.start_daemon_in(&[])
    }

    pub(super) fn start_engine(&self) -> Result<()> {
        self.start_engine_with(&[])
    }

    pub(super) fn start_engine_with(&self, arguments: &[&str]) -> Result<()> {
        *self.engine.borrow_mut() = Some(self.grounds.start_engine(arguments)?);
        Ok(())
    }

    /// Starts netd with variables of its environment.
    pub(super) fn start_daemon_in(&self, environment: &[&str]) -> Result<()> {
        *self.daemon.borrow_mut() = Some(Daemon::start_in_with(self.host, environment, SETTINGS)?);
        Ok(())
    }

    /// Whatever a scenario that failed has ended.
    pub(super) fn mend(&self) -> Result<()> {
        if self.daemon.borrow().is_none() {
            self.start_daemon()?;
        }
        if self.engine.borrow().is_none() {
            self.start_engine()?;
        }
        Ok(())
    }

    pub(super) fn crash_daemon(&self) -> Result<()> {
        let daemon = self.daemon.borrow_mut().take().context("no daemon runs")?;
        daemon.crash().map(drop)
    }

    pub(super) fn crash_engine(&self) -> Result<()> {
        self.engine.borrow_mut().take().context("no engine runs")?.crash()
    }

    pub(super) fn stop_engine(&self) -> Result<()> {
        self.engine.borrow_mut().take().context("no engine runs")?.stop()
    }

    pub(super) fn daemon(&self) -> Ref<'_, Daemon<'host>> {
        Ref::map(self.daemon.borrow(), |daemon| daemon.as_ref().expect("the daemon runs"))
    }

    pub(super) fn engine(&self) -> Ref<'_, Engine<'host>> {
        Ref::map(self.engine.borrow(), |engine| engine.as_ref().expect("the engine runs"))
    }
}

/// One scenario on one driver.
pub(super) struct Case<'rig, 'host> {
    pub(super) rig: &'rig Rig<'host>,
    pub(super) driver: Driver,
}

/// A running container.
pub(super) struct Running {
    pub(super) name: String,
    pub(super) netns: Netns,
}

impl<'rig, 'host> Case<'rig, 'host> {
    pub(super) fn new(rig: &'rig Rig<'host>, driver: Driver) -> Self {
        Self { rig, driver }
    }

    pub(super) fn docker(&self, arguments: &[&str]) -> Result<Said> {
        self.rig.engine().docker(arguments)
    }

    pub(super) fn ok(&self, arguments: &[&str]) -> Result<String> {
        self.rig.engine().ok(arguments)
    }

    /// What a command line that must be refused says.
    pub(super) fn refused(&self, arguments: &[&str]) -> Result<String> {
        let said = self.docker(arguments)?;
        ensure!(said.code != Some(0), "`docker {}` was granted", arguments.join(" "));
        Ok(said.stderr)
    }

    /// Refused, and in words that contain these.
    pub(super) fn refused_with(&self, arguments: &[&str], words: &str) -> Result<()> {
        let said = self.refused(arguments)?;
        ensure!(said.contains(words), "`docker {}` said: {said}", arguments.join(" "));
        Ok(())
    }

    /// The words that create a network of this case's driver.
    pub(super) fn create<'w>(&self, arguments: &[&'w str]) -> Vec<&'w str> {
        let driver: &[&str] = match self.driver {
            Driver::Netd => &["-d", "netd", "--ipam-driver", "netd"],
            Driver::Bridge => &["-d", "bridge"],
        };
        [&["network", "create"], driver, arguments].concat()
    }

    pub(super) fn network(&self, name: &str, arguments: &[&str]) -> Result<()> {
        self.ok(&self.create(&[arguments, &[name]].concat())).map(drop)
    }

    /// A network of both families: 10.N.0.0/24 and `fd00:N::/64`.
    pub(super) fn dual(&self, name: &str, n: u8) -> Result<()> {
        self.dual_with(name, n, &[])
    }

    /// The same with further words.
    pub(super) fn dual_with(&self, name: &str, n: u8, arguments: &[&str]) -> Result<()> {
        let (v4, v6) = (format!("10.{n}.0.0/24"), format!("fd00:{n}::/64"));
        let subnets = ["--ipv6", "--subnet", &v4, "--subnet", &v6];
        self.network(name, &[&subnets, arguments].concat())
    }

    /// The words that start a container which only sleeps.
    pub(super) fn start<'w>(name: &'w str, arguments: &[&'w str]) -> Vec<&'w str> {
        let own = ["run", "-d", "--stop-timeout=0", "--name", name];
        [&own[..], arguments, &[IMAGE, "sleep", "100000"]].concat()
    }

    /// A container on a network.
    pub(super) fn run(&self, name: &str, network: &str, arguments: &[&str]) -> Result<Running> {
        let arguments = [&["--network", network], arguments].concat();
        self.ok(&Self::start(name, &arguments))?;
        self.running(name)
    }

    pub(super) fn running(&self, name: &str) -> Result<Running> {
        Ok(Running { name: name.to_owned(), netns: self.rig.engine().netns_of(name)? })
    }

    /// Runs a command in a container; whether it succeeds.
    pub(super) fn exec(&self, name: &str, command: &[&str]) -> Result<Said> {
        self.docker(&[&["exec", name], command].concat())
    }

    pub(super) fn address(&self, container: &str, network: &str, v6: bool) -> Result<IpAddr> {
        let key = if v6 { "GlobalIPv6Address" } else { "IPAddress" };
        let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").{key}}}}}");
        let text = self.ok(&["inspect", "-f", &format, container])?;
        text.parse().with_context(|| format!("{container} has no {key} on {network}: '{text}'"))
    }

    /// Host addresses on its uplink.
    pub(super) fn uplinks(&self) -> [IpAddr; 2] {
        [self.rig.host.v4().into(), self.rig.host.v6().into()]
    }

    /// A port of the host's on its uplink.
    pub(super) fn published(&self, port: u16) -> [SocketAddr; 2] {
        self.uplinks().map(|address| SocketAddr::new(address, port))
    }

    /// Does something while the host has other addresses on its uplink, too.
    pub(super) fn with_other_addresses(
        &self,
        work: impl FnOnce([IpAddr; 2]) -> Result<()>,
    ) -> Result<()> {
        const OTHERS: [(&str, &str); 2] = [("198.51.100.210", "24"), ("2001:db8:1::210", "64")];
        let change = |verb: &str| {
            OTHERS.map(|(address, len)| {
                let prefix = format!("{address}/{len}");
                self.rig.host.ip(&["address", verb, &prefix, "dev", UPLINK, "nodad"])
            })
        };
        let others = [OTHERS[0].0.parse()?, OTHERS[1].0.parse()?];
        let made: Result<()> = change("add").into_iter().collect();
        let done = made.and_then(|()| work(others));
        change("delete").into_iter().fold(done, Result::and)
    }

    /// A container's address of each family on a network.
    pub(super) fn addresses(&self, container: &str, network: &str) -> Result<[IpAddr; 2]> {
        Ok([self.address(container, network, false)?, self.address(container, network, true)?])
    }

    /// Where its servers listen there.
    pub(super) fn served(&self, container: &str, network: &str) -> Result<[SocketAddr; 2]> {
        Ok(self.addresses(container, network)?.map(|address| SocketAddr::new(address, PORT)))
    }

    /// A container's way out in each family, as `ip route` has it.
    pub(super) fn ways_out(&self, container: &str) -> Result<[Option<String>; 2]> {
        let way_out = |family| -> Result<Option<String>> {
            let routes = self.exec(container, &["ip", family, "route"])?.stdout;
            Ok(routes.lines().find(|it| it.starts_with("default")).map(str::to_owned))
        };
        Ok([way_out("-4")?, way_out("-6")?])
    }

    /// What the driver shows of a container's ports, in the lines of `docker port`.
    pub(super) fn ports_of(&self, container: &str) -> Result<String> {
        match self.driver {
            Driver::Netd => {
                let key = ["inspect", "-f", "{{.NetworkSettings.SandboxKey}}", container];
                let key = self.ok(&key)?;
                self.rig.daemon().ok(&["port", key.rsplit('/').next().unwrap_or_default()])
            }
            Driver::Bridge => self.ok(&["port", container]),
        }
    }

    /// Runs a program of the host's that must succeed; what it says, without the last line's end.
    pub(super) fn host_says(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let said = self.rig.host.exec(program, arguments)?;
        ensure!(said.status.success(), "{program} {}: {said:?}", arguments.join(" "));
        Ok(String::from_utf8_lossy(&said.stdout).trim_end().to_owned())
    }

    /// The host's FORWARD policy and rules, NAT and filter of IPv4.
    pub(super) fn iptables(&self) -> Result<String> {
        let said = self.rig.host.exec("iptables-save", &[])?;
        Ok(String::from_utf8_lossy(&said.stdout).into_owned())
    }

    /// Removes what the scenario made and checks that nothing of it is left.
    pub(super) fn finish(&self) -> Result<()> {
        self.rig.mend()?;
        let containers = self.ok(&["ps", "-aq"])?;
        if !containers.is_empty() {
            self.ok(&[vec!["rm", "-f"], containers.lines().collect()].concat())?;
        }
        self.ok(&["network", "prune", "-f"])?;
        eventually("netd's being empty", SETTLES_WITHIN, || {
            let daemon = self.rig.daemon();
            let sandboxes = daemon.ok(&["ps", "--format", "{{.Names}}"])?;
            let networks = daemon.ok(&["network", "ls", "--format", "{{.Name}}"])?;
            let empty = sandboxes.is_empty() && networks.lines().eq(["host", "none"]);
            Ok(empty.then_some(()))
        })
        .with_context(|| self.rig.daemon().ok(&["ps"]).unwrap_or_default())
    }
}

impl Running {
    /// Serves TCP and UDP of both families, until the value goes.
    pub(super) fn serve(&self) -> Result<[Server; 2]> {
        let any = SocketAddr::new([0u16; 8].into(), PORT);
        Ok([tcp_echo_server(&self.netns, any)?, udp_echo_server(&self.netns, any)?])
    }

    /// Whether an address answers one ICMP echo request from here.
    pub(super) fn pings(&self, target: IpAddr) -> Result<bool> {
        pings(&self.netns, target)
    }
}

/// Whether an address answers one ICMP echo request from a namespace.
pub(super) fn pings(from: &Netns, target: IpAddr) -> Result<bool> {
    from.run(|| {
        let mut command = std::process::Command::new("ping");
        command.args(["-n", "-q", "-c", "1", "-W", "2", &target.to_string()]);
        Ok(netd_tests::process::output(&mut command, b"")?.status.success())
    })
}

/// Asks over both protocols; who was asked answers.
pub(super) fn reaches(from: &Netns, target: SocketAddr) -> Result<()> {
    for transport in Transport::ALL {
        let answer = transport.ask(from, target);
        let answer = answer.with_context(|| format!("{} {target}", transport.name()))?;
        ensure!(answer.from == target, "{target} was asked and {} answers", answer.from);
    }
    Ok(())
}

/// Neither protocol gets an answer.
pub(super) fn meets_nothing(from: &Netns, target: SocketAddr) -> Result<()> {
    all_silent(from, &[target])
}

/// None of them answers by either protocol. All are asked at once: silence takes its time.
pub(super) fn all_silent(from: &Netns, targets: &[SocketAddr]) -> Result<()> {
    let asked = targets.iter().flat_map(|target| Transport::ALL.map(|way| (way, *target)));
    std::thread::scope(|scope| {
        let asking: Vec<_> =
            asked.map(|it| (it, scope.spawn(move || it.0.ask(from, it.1).is_ok()))).collect();
        for ((transport, target), asking) in asking {
            let answered = asking.join().expect("asking does not panic");
            ensure!(!answered, "{} {target} answers", transport.name());
        }
        Ok(())
    })
}
