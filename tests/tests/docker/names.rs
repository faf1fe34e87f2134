//! Names of the engine's containers: shown, found, forgotten, and answered for by netd's resolver.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netd_tests::plugin::Caller;
use netd_tests::{eventually, process};
use serde_json::json;

use super::case::{Case, Running};
use super::{Scenario, netd};

pub(super) const SCENARIOS: &[Scenario] = &[
    netd("containers and networks are called as the engine calls them", called),
    netd("netd port answers as docker port does for its own networks", ports),
    netd("names stay while the engine is away, and status tells of it", engine_away),
    netd("an endpoint that the engine has forgotten goes, others stay", forgotten),
    netd("netd.dns=on: containers ask netd, whatever their own rules are", resolver),
    netd("netd.dns=on: last names hold while the engine is away", resolver_alone),
];

/// Names come after the call that made them.
const HEARD_WITHIN: Duration = Duration::from_secs(30);
/// Two listings of the engine's, and a loaded machine.
const FORGOTTEN_WITHIN: Duration = Duration::from_mins(3);

fn shows(case: &Case<'_, '_>, words: &[&str], expected: &str) -> Result<()> {
    let shown = eventually(expected, HEARD_WITHIN, || {
        let said = case.rig.daemon().cli(words)?;
        Ok(said.stdout.contains(expected).then_some(()))
    });
    shown.with_context(|| format!("{:?}", case.rig.daemon().cli(words)))
}

fn called(case: &Case<'_, '_>) -> Result<()> {
    case.dual("app", 51)?;
    let labels = ["--label", "com.docker.compose.project=shop", "--label", "tier=front"];
    let id = case.ok(&Case::start("web", &[&["--network", "app"], &labels[..]].concat()))?;
    shows(
        case,
        &["ps", "--format", "{{.ID}} {{.Names}} {{.Networks}}"],
        &format!("{} web", &id[..12]),
    )?;
    shows(case, &["ps", "--filter", "label=tier=front", "--format", "{{.Networks}}"], "app")?;
    shows(case, &["network", "ls", "--format", "{{.Name}}"], "app")?;
    shows(case, &["network", "inspect", "app"], "\"Name\": \"web\"")?;
    shows(case, &["sandbox", "inspect", &id[..7]], &id)?;
    let metrics = metrics(case)?;
    for series in [
        "netd_endpoints{network=\"app\",state=\"running\"} 1",
        "netd_sandbox_info{sandbox=\"web\",project=\"shop\",service=\"\"} 1",
    ] {
        ensure!(metrics.contains(series), "no {series} in {metrics}");
    }
    monitor_calls_it(case)?;
    case.ok(&["rename", "web", "shop"])?;
    shows(case, &["ps", "--format", "{{.Names}}"], "shop")?;
    let said = case.rig.daemon().cli(&["sandbox", "rm", "shop"])?;
    ensure!(said.stderr.contains("use `docker` to change it"), "{said:?}");
    Ok(())
}

/// How long all calls of the engine have taken so far.
pub(super) fn engine_calls_s(case: &Case<'_, '_>) -> Result<f64> {
    const SERIES: &str = "netd_api_request_duration_seconds_sum{handler=\"";
    let text = metrics(case)?;
    let counts = text.lines().filter_map(|line| {
        let (method, count) = line.strip_prefix(SERIES)?.split_once("\"} ")?;
        (method.starts_with("NetworkDriver.") || method.starts_with("IpamDriver.")).then_some(count)
    });
    Ok(counts.map(str::parse::<f64>).sum::<Result<f64, _>>()?)
}

fn metrics(case: &Case<'_, '_>) -> Result<String> {
    let socket = case.rig.daemon().places().socket();
    let words = ["-sS", "--unix-socket", &socket.to_string_lossy(), "http://netd/metrics"];
    Ok(String::from_utf8(case.rig.host.exec("curl", &words)?.stdout)?)
}

/// A drop that the container caused is told under its name.
fn monitor_calls_it(case: &Case<'_, '_>) -> Result<()> {
    case.network("back", &["--subnet", "10.52.0.0/24"])?;
    case.run("db", "back", &[])?;
    let (web, target) = (case.running("web")?, case.address("db", "back", false)?);
    let log = case.rig.host.directory().join("monitor.log");
    let socket = case.rig.daemon().places().socket();
    let words = ["-H", &socket.to_string_lossy(), "monitor"];
    let mut monitor = case.rig.host.spawn(process::built("netd")?, &words, &log)?;
    let told = eventually("the drop in the monitor", HEARD_WITHIN, || {
        ensure!(!web.pings(target)?, "{target} answers");
        let text = std::fs::read_to_string(&log)?;
        let told = text.lines().any(|line| line.contains("network=app sandbox=web"));
        Ok(told.then_some(()))
    });
    monitor.kill()?;
    monitor.wait()?;
    told.with_context(|| std::fs::read_to_string(&log).unwrap_or_default())
}

fn ports(case: &Case<'_, '_>) -> Result<()> {
    let published = ["-p", "8080:7000", "-p", "127.0.0.1:9000:90/udp"];
    case.network("app", &[])?;
    case.ok(&["network", "create", "docker"])?;
    case.run("theirs", "docker", &published)?;
    let mut expected: Vec<String> =
        case.ok(&["port", "theirs"])?.lines().map(str::to_owned).collect();
    case.ok(&["rm", "-f", "theirs"])?;
    // The bridge driver of 20.10 publishes on IPv6 where the host has it; the network has none.
    expected.retain(|line| !line.contains("::"));
    expected.sort();
    let id = case.ok(&Case::start("web", &[&["--network", "app"], &published[..]].concat()))?;
    shows(case, &["port", "web"], "7000/tcp")?;
    for name in ["web", &id, &id[..9]] {
        let shown = case.rig.daemon().ok(&["port", name])?;
        let mut shown: Vec<&str> = shown.lines().filter(|line| !line.contains("::")).collect();
        shown.sort_unstable();
        ensure!(shown == expected, "{shown:?}, not {expected:?}");
    }
    let one = case.rig.daemon().ok(&["port", "web", "7000"])?;
    ensure!(one.contains("0.0.0.0:8080"), "{one}");
    case.rig.engine().install_client_plugin("netd", &process::built("netd")?).or_else(installed)?;
    let daemon = format!("unix://{}", case.rig.daemon().places().socket().display());
    let shown = case.ok(&["netd", "-H", &daemon, "port", "web", "90/udp"])?;
    ensure!(shown == "127.0.0.1:9000", "{shown}");
    let shown = case.ok(&["netd", "-H", &daemon, "ps", "--format", "{{.Names}}"])?;
    ensure!(shown == "web", "{shown}");
    Ok(())
}

/// Another scenario may have been first.
fn installed(error: anyhow::Error) -> Result<()> {
    let exists = |it: &std::io::Error| it.kind() == std::io::ErrorKind::AlreadyExists;
    let there = error.downcast_ref::<std::io::Error>().is_some_and(exists);
    if there { Ok(()) } else { Err(error) }
}

fn engine_away(case: &Case<'_, '_>) -> Result<()> {
    case.network("app", &[])?;
    case.run("web", "app", &["-p", "8080:7000"])?;
    shows(case, &["status", "--format", "{{.Engine}}"], "connected")?;
    shows(case, &["port", "web"], "7000/tcp -> 0.0.0.0:8080")?;
    case.rig.crash_engine()?;
    shows(case, &["status"], "not connected")?;
    let health = case.rig.daemon().ok(&["status", "--format", "{{.Health}}"])?;
    let port = case.rig.daemon().ok(&["port", "web"])?;
    case.rig.start_engine()?;
    ensure!(health == "ok", "an engine that is away makes netd {health}");
    ensure!(port.contains("7000/tcp -> 0.0.0.0:8080"), "{port}");
    let connected = |text: &str| text == "connected";
    eventually("the engine to be heard", HEARD_WITHIN, || {
        let engine = case.rig.daemon().ok(&["status", "--format", "{{.Engine}}"])?;
        Ok(connected(&engine).then_some(()))
    })
}

/// Two endpoints as an engine leaves them that dies in the middle: one made, one offered, on a network
/// that it knows. A container that runs and one that was only created stay what they are.
fn forgotten(case: &Case<'_, '_>) -> Result<()> {
    let network = case.ok(&case.create(&["--subnet", "10.51.0.0/24", "app"]))?;
    let web = case.run("web", "app", &[])?;
    let create = ["create", "--name", "later", "--network", "app", "busybox", "sleep", "100000"];
    case.ok(&create)?;
    let plugin = case.rig.daemon().places().plugin_socket();
    let mut caller = Caller::connect(&plugin)?;
    for (n, joins) in [(1, false), (2, true)] {
        let endpoint = format!("{n}").repeat(64);
        let interface = json!({"Address": format!("10.51.0.{}/24", 100 + n), "AddressIPv6": "",
            "MacAddress": ""});
        let made = json!({"NetworkID": network, "EndpointID": endpoint, "Interface": interface,
            "Options": {}});
        let answer = caller.call("NetworkDriver.CreateEndpoint", &made)?;
        ensure!(answer.failure().is_empty(), "{answer:?}");
        if joins {
            let key = format!("/var/run/docker/netns/{n}");
            let join = json!({"NetworkID": network, "EndpointID": endpoint, "SandboxKey": key,
                "Options": {}});
            let answer = caller.call("NetworkDriver.Join", &join)?;
            ensure!(answer.failure().is_empty(), "{answer:?}");
        }
    }
    let endpoints = || case.rig.daemon().ok(&["status", "--format", "{{.Endpoints}}"]);
    ensure!(endpoints()? == "3", "{}", endpoints()?);
    eventually(
        "the forgotten to go",
        FORGOTTEN_WITHIN,
        || Ok((endpoints()? == "1").then_some(())),
    )?;
    ensure!(web.pings([10, 51, 0, 1].into())?, "the container that runs has lost its network");
    case.ok(&["start", "later"])?;
    ensure!(case.running("later")?.pings([10, 51, 0, 1].into())?, "no network for a late start");
    Ok(())
}

/// A program that prints what musl's `getaddrinfo` finds, an address a line.
const MUSL: &str = r"
#include <netdb.h>
#include <stdio.h>
#include <arpa/inet.h>
int main(int argc, char **argv) {
    struct addrinfo hints = { .ai_socktype = SOCK_DGRAM }, *found = 0;
    char text[64];
    if (getaddrinfo(argv[1], 0, &hints, &found)) return 1;
    for (; found; found = found->ai_next)
        if (!getnameinfo(found->ai_addr, found->ai_addrlen, text, sizeof text, 0, 0, NI_NUMERICHOST))
            puts(text);
}
";

/// Asks as a container's programs do.
struct Asker<'a, 'rig, 'host> {
    case: &'a Case<'rig, 'host>,
    container: Running,
    pid: String,
}

impl<'a, 'rig, 'host> Asker<'a, 'rig, 'host> {
    fn new(case: &'a Case<'rig, 'host>, name: &str) -> Result<Self> {
        let pid = case.ok(&["inspect", "-f", "{{.State.Pid}}", name])?;
        Ok(Self { case, container: case.running(name)?, pid })
    }

    /// Runs a program of the image, also while no engine runs.
    fn run(&self, words: &[&str]) -> Result<String> {
        let enter = ["-t", &self.pid, "-m", "-n"];
        let said = self.case.rig.host.exec("nsenter", &[&enter[..], words].concat())?;
        Ok(String::from_utf8_lossy(&said.stdout).into_owned())
    }

    /// Runs a program of the machine in the container's network namespace.
    fn run_outside(&self, words: &[&str]) -> Result<()> {
        let enter = ["-t", &self.pid, "-n"];
        let said = self.case.rig.host.exec("nsenter", &[&enter[..], words].concat())?;
        ensure!(said.status.success(), "{said:?}");
        Ok(())
    }

    /// Whether the C library finds exactly this address.
    fn finds(&self, name: &str, address: IpAddr) -> Result<bool> {
        let family = if address.is_ipv4() { "ahostsv4" } else { "ahostsv6" };
        let said = self.run(&["/usr/bin/getent", family, name])?;
        let mut found = said.lines().filter_map(|line| line.split_whitespace().next());
        Ok(!said.is_empty() && found.all(|it| it.parse() == Ok(address)))
    }

    fn finds_all(&self, name: &str, addresses: &[IpAddr]) -> Result<()> {
        for address in addresses {
            ensure!(self.finds(name, *address)?, "{name} is not {address}");
        }
        Ok(())
    }
}

/// `web` on `app`, `hidden` on `back`, `client` on `app`, which asks netd.
fn named_containers<'a, 'rig, 'host>(
    case: &'a Case<'rig, 'host>,
) -> Result<(Asker<'a, 'rig, 'host>, [IpAddr; 2], String)> {
    for (name, n) in [("app", "51"), ("back", "52")] {
        let (v4, v6) = (format!("10.{n}.0.0/24"), format!("fd00:{n}::/64"));
        let pools = ["--ipv6", "--subnet", &v4, "--subnet", &v6, "-o", "netd.dns=on"];
        case.network(name, &pools)?;
    }
    let known = ["--network-alias", "www", "--label", "com.docker.compose.service=shop"];
    let words = [&["--network", "app", "--hostname", "host"], &known[..]].concat();
    let id = case.ok(&Case::start("web", &words))?;
    case.run("hidden", "back", &[])?;
    case.run("client", "app", &[])?;
    let addresses = [case.address("web", "app", false)?, case.address("web", "app", true)?];
    let asker = Asker::new(case, "client")?;
    // The engine's resolver knows no tasks of a container's.
    eventually("netd's resolver", HEARD_WITHIN, || {
        Ok(asker.finds("tasks.web", addresses[0])?.then_some(()))
    })?;
    Ok((asker, addresses, id))
}

fn resolver(case: &Case<'_, '_>) -> Result<()> {
    let (asker, addresses, id) = named_containers(case)?;
    let flush = || asker.run_outside(&["iptables", "-t", "nat", "-F"]);
    for flushed in [false, true] {
        if flushed {
            flush()?;
        }
        for name in ["web", "WEB", "www", "shop", "host", &id[..12], "web.app", "www.app"] {
            asker.finds_all(name, &addresses)?;
        }
        for name in ["hidden", "hidden.back"] {
            let said = asker.run(&["/usr/bin/getent", "ahosts", name])?;
            ensure!(said.is_empty(), "{name} of another network: {said}");
        }
    }
    let said = case.exec("client", &["nslookup", "www"])?.stdout;
    for address in addresses {
        ensure!(said.contains(&address.to_string()), "nslookup: {said}");
    }
    musl_finds(case, &addresses)?;
    let said = case.rig.daemon().ok(&["dns", "lookup", "www", "--from", "client"])?;
    ensure!(said.contains(&addresses[0].to_string()), "{said}");
    case.ok(&["network", "connect", "app", "hidden"])?;
    eventually("a new member's name", HEARD_WITHIN, || {
        Ok(asker.finds("hidden", case.address("hidden", "app", false)?)?.then_some(()))
    })?;
    case.ok(&["rm", "-f", "web"])?;
    ensure!(asker.run(&["/usr/bin/getent", "ahosts", "web"])?.is_empty(), "web is gone");
    let echo = asker.container.pings([10, 51, 0, 1].into())?;
    ensure!(echo, "the client's network");
    Ok(())
}

fn musl_finds(case: &Case<'_, '_>, addresses: &[IpAddr]) -> Result<()> {
    let directory = case.rig.host.directory();
    let (source, program) = (directory.join("musl.c"), directory.join("musl"));
    let (source_path, path) = (source.to_string_lossy(), program.to_string_lossy());
    std::fs::write(&source, MUSL)?;
    process::run("musl-gcc", &["-static", "-o", &path, &source_path])?;
    case.ok(&["cp", &path, "client:/musl"])?;
    let said = case.exec("client", &["/musl", "www"])?;
    let mut found: Vec<IpAddr> = said.stdout.lines().filter_map(|it| it.parse().ok()).collect();
    found.sort_unstable();
    ensure!(found == addresses, "musl: {said:?}");
    Ok(())
}

fn resolver_alone(case: &Case<'_, '_>) -> Result<()> {
    let (asker, addresses, _) = named_containers(case)?;
    case.rig.crash_engine()?;
    shows(case, &["status"], "not connected")?;
    let held = asker.finds_all("shop", &addresses);
    case.rig.start_engine()?;
    held
}
