//! Projects of compose: the examples as their scripts bring them up, and one that comes and goes
//! twenty times.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netd_tests::outside::WORLD_V4;
use netd_tests::wire::{ANSWER_DEADLINE, tcp_echo_server};
use netd_tests::{Netns, eventually, process};
use serde_json::Value;

use super::case::{Case, Driver};
use super::{Scenario, both, netd};

pub(super) const SCENARIOS: &[Scenario] = &[
    both("example multi-tier: who reaches whom, and who does not", multi_tier),
    both("example two-networks: each reached by name, and only from its own", two_networks),
    netd("G10 compose up and down twenty times leaves nothing", twenty_times),
];

/// A database and three interpreters start at once on a machine that has other work.
const SERVES_WITHIN: Duration = Duration::from_mins(2);

/// Prints which of its arguments, each a host and a port, take a connection.
const PROBE: &str = r#"
import socket, sys
from concurrent.futures import ThreadPoolExecutor

def taken(target):
    host, port = target.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), 3).close()
    except OSError:
        return None
    return target

with ThreadPoolExecutor(16) as pool:
    print("\n".join(filter(None, pool.map(taken, sys.argv[1:]))))
"#;

/// A service of a project: its port, and the networks that it is on.
struct Service {
    name: &'static str,
    port: u16,
    networks: &'static [&'static str],
}

const SHOP: [Service; 5] = [
    Service { name: "proxy", port: 443, networks: &["frontend"] },
    Service { name: "api", port: 8000, networks: &["frontend", "backend"] },
    Service { name: "database", port: 5432, networks: &["backend"] },
    Service { name: "cache", port: 6379, networks: &["backend"] },
    Service { name: "monitoring", port: 9090, networks: &["monitoring"] },
];

const GUESTS: [Service; 3] = [
    Service { name: "nginx", port: 80, networks: &["public-net-1"] },
    Service { name: "app", port: 8000, networks: &["public-net-1", "private-net-1"] },
    Service { name: "database", port: 6379, networks: &["private-net-1"] },
];

/// An example that has come up.
struct Example<'case, 'rig, 'host> {
    case: &'case Case<'rig, 'host>,
    script: PathBuf,
    driver: &'static str,
}

/// What HTTP answered.
struct Page {
    status: String,
    body: String,
}

fn multi_tier(case: &Case<'_, '_>) -> Result<()> {
    let shop = Example::up(case, "multi-tier")?;
    let outside = case.rig.outside.netns();
    let home = format!("https://{}/", case.uplinks()[0]);
    eventually("the shop's answer", SERVES_WITHIN, || {
        Ok((fetch(outside, &home, &[])?.status == "200").then_some(()))
    })?;
    let plain = fetch(outside, &home.replace("https", "http"), &[])?.status;
    ensure!(plain == "301", "plain HTTP says {plain}");
    let ordered = fetch(outside, &home, &["--data", "tea"])?.body;
    ensure!(ordered.contains("\"order\": 1"), "{ordered}");
    every_instance_serves(outside, &home)?;
    shop.reaches_by_network(&SHOP)?;
    shop.is_closed_to_the_outside(&[5432, 6379, 8000, 9090])?;
    shop.has_way_out(&["proxy", "api", "monitoring"], &["database", "cache"])?;
    prometheus_scrapes_netd(case)?;
    shop.down()
}

fn every_instance_serves(outside: &Netns, home: &str) -> Result<()> {
    let mut instances = BTreeSet::new();
    eventually("an answer of each instance", SERVES_WITHIN, || {
        let page: Value = serde_json::from_str(&fetch(outside, home, &[])?.body)?;
        ensure!(page["orders"] == 1, "{page}");
        instances.insert(page["instance"].as_str().context("no instance")?.to_owned());
        Ok((instances.len() == 3).then_some(()))
    })
}

/// Prometheus itself says so, to a process of the host: its port is on loopback alone.
fn prometheus_scrapes_netd(case: &Case<'_, '_>) -> Result<()> {
    let ask = |query: &str| -> Result<Option<String>> {
        let query = format!("query={query}");
        let url = "http://127.0.0.1:9090/api/v1/query";
        let said =
            case.rig.host.exec("curl", &["-sG", "-m", "5", url, "--data-urlencode", &query])?;
        let answer: Value = serde_json::from_slice(&said.stdout).unwrap_or_default();
        Ok(answer["data"]["result"][0]["value"][1].as_str().map(str::to_owned))
    };
    eventually("the first scrape of netd", SERVES_WITHIN, || {
        Ok((ask("up{job=\"netd\"}")?.as_deref() == Some("1")).then_some(()))
    })?;
    if case.driver == Driver::Netd {
        eventually("the hits on the proxy's port", SERVES_WITHIN, || {
            let hits = ask("sum(netd_published_hits_total{port=\"443\"})")?;
            Ok(hits.and_then(|hits| hits.parse::<f64>().ok()).filter(|hits| *hits >= 4.0))
        })?;
    }
    Ok(())
}

fn two_networks(case: &Case<'_, '_>) -> Result<()> {
    let guests = Example::up(case, "two-networks")?;
    let outside = case.rig.outside.netns();
    let book = format!("http://{}:8080/", case.uplinks()[0]);
    eventually("the book's first line", SERVES_WITHIN, || {
        Ok((fetch(outside, &book, &["--data", "Ada"])?.status == "200").then_some(()))
    })?;
    let shown = fetch(outside, &book, &[])?.body;
    ensure!(shown.contains("Ada"), "{shown}");
    guests.reaches_by_network(&GUESTS)?;
    guests.is_closed_to_the_outside(&[8000, 6379])?;
    guests.has_way_out(&["nginx", "app"], &["database"])?;
    guests.down()
}

impl<'case, 'rig, 'host> Example<'case, 'rig, 'host> {
    fn up(case: &'case Case<'rig, 'host>, name: &str) -> Result<Self> {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        let driver = match case.driver {
            Driver::Netd => "netd",
            Driver::Bridge => "bridge",
        };
        let example = Self { case, script: examples.join(name).join("run.sh"), driver };
        example.run("up")?;
        Ok(example)
    }

    fn run(&self, verb: &str) -> Result<()> {
        let driver = format!("NETD_EXAMPLES_DRIVER={}", self.driver);
        let script = self.script.to_string_lossy();
        self.case.rig.engine().client("env", &[&driver, &script, verb]).map(drop)
    }

    fn down(&self) -> Result<()> {
        self.run("down")?;
        let left = self.case.ok(&["ps", "-aq"])?;
        ensure!(left.is_empty(), "`down` has left {left}");
        let filter = "label=com.docker.compose.project";
        let left = self.case.ok(&["network", "ls", "-q", "--filter", filter])?;
        ensure!(left.is_empty(), "`down` has left {left}");
        Ok(())
    }

    /// Containers of a service.
    fn containers(&self, service: &str) -> Result<Vec<String>> {
        let filter = format!("label=com.docker.compose.service={service}");
        let ids = self.case.ok(&["ps", "-q", "--filter", &filter])?;
        ensure!(!ids.is_empty(), "no container of {service} runs");
        Ok(ids.lines().map(str::to_owned).collect())
    }

    /// Address of each container of a service on each of its networks, which are named without the
    /// project.
    fn addresses(&self, service: &str) -> Result<Vec<(String, IpAddr)>> {
        let format =
            "{{range $name, $it := .NetworkSettings.Networks}}{{$name}} {{$it.IPAddress}}\n{{end}}";
        let ids = self.containers(service)?;
        let words: Vec<&str> = ids.iter().map(String::as_str).collect();
        let shown = self.case.ok(&[&["inspect", "-f", format], &words[..]].concat())?;
        let read = |line: &str| {
            let (network, address) = line.split_once(' ').context("no address")?;
            let network = network.rsplit('_').next().unwrap_or(network);
            Ok((network.to_owned(), address.parse()?))
        };
        shown.lines().filter(|line| !line.is_empty()).map(read).collect()
    }

    /// Each service finds and reaches another by name where they share a network, and not otherwise;
    /// by address, on the networks that it is on itself and on no other.
    fn reaches_by_network(&self, services: &[Service]) -> Result<()> {
        for from in services {
            let (mut targets, mut expected) = (Vec::new(), BTreeSet::new());
            for to in services.iter().filter(|to| to.name != from.name) {
                let name = format!("{}:{}", to.name, to.port);
                if to.networks.iter().any(|network| from.networks.contains(network)) {
                    expected.insert(name.clone());
                }
                targets.push(name);
                for (network, address) in self.addresses(to.name)? {
                    let target = format!("{address}:{}", to.port);
                    if from.networks.contains(&network.as_str()) {
                        expected.insert(target.clone());
                    }
                    targets.push(target);
                }
            }
            for container in self.containers(from.name)? {
                self.reaches_exactly(&container, &targets, &expected)
                    .with_context(|| format!("from {}", from.name))?;
            }
        }
        Ok(())
    }

    fn reaches_exactly(
        &self,
        container: &str,
        targets: &[String],
        expected: &BTreeSet<String>,
    ) -> Result<()> {
        let words: Vec<&str> = targets.iter().map(String::as_str).collect();
        let said = self.case.exec(container, &[&["python3", "-c", PROBE], &words[..]].concat())?;
        ensure!(said.code == Some(0), "{said:?}");
        let reached: BTreeSet<String> =
            said.stdout.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        ensure!(reached == *expected, "reached {reached:?} instead of {expected:?}");
        Ok(())
    }

    fn is_closed_to_the_outside(&self, ports: &[u16]) -> Result<()> {
        for address in self.case.uplinks() {
            for port in ports {
                let target = SocketAddr::new(address, *port);
                let connect = || Ok(TcpStream::connect_timeout(&target, ANSWER_DEADLINE).is_ok());
                ensure!(!self.case.rig.outside.netns().run(connect)?, "{target} answers");
            }
        }
        Ok(())
    }

    /// The first services reach the world, the others do not.
    fn has_way_out(&self, open: &[&str], closed: &[&str]) -> Result<()> {
        let world = SocketAddr::new(WORLD_V4.into(), 9000);
        let _server = tcp_echo_server(self.case.rig.outside.netns(), world)?;
        for (services, expected) in
            [(open, BTreeSet::from([world.to_string()])), (closed, BTreeSet::new())]
        {
            for service in services {
                for container in self.containers(service)? {
                    self.reaches_exactly(&container, &[world.to_string()], &expected)
                        .with_context(|| format!("from {service}"))?;
                }
            }
        }
        Ok(())
    }
}

/// What a client in a namespace is answered; nothing, where nobody answers.
fn fetch(from: &Netns, url: &str, more: &[&str]) -> Result<Page> {
    let mut command = Command::new("curl");
    command.args(["-sk", "-m", "10", "-w", "\n%{http_code}", url]).args(more);
    let output = from.run(|| process::output(&mut command, b""))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').context("curl says nothing")?;
    Ok(Page { status: status.to_owned(), body: body.to_owned() })
}

const TWENTY: &str = r#"
x-service: &service
  image: busybox
  command: sleep 100000
  stop_grace_period: 0s
services:
  web:
    <<: *service
    ports: ["8080:7000"]
    networks: [front]
    depends_on: {app: {condition: service_healthy}}
  app:
    <<: *service
    networks: [front, back]
    healthcheck: {test: [CMD, ping, -c, "1", -W, "5", db], interval: 300ms, timeout: 10s}
    depends_on: [db]
  db:
    <<: *service
    networks: [back]
networks:
  front: {driver: netd, ipam: {driver: netd}}
  back: {driver: netd, ipam: {driver: netd}, internal: true}
"#;

fn twenty_times(case: &Case<'_, '_>) -> Result<()> {
    let directory = case.rig.host.directory().join("twenty");
    fs::create_dir_all(&directory)?;
    let file = directory.join("compose.yaml").to_string_lossy().into_owned();
    fs::write(&file, TWENTY)?;
    let compose = |verb: &[&str]| {
        let words = [&["-f", &file], verb].concat();
        case.rig.engine().client("docker-compose", &words)
    };
    let before = left_by_projects(case)?;
    for _ in 0..20 {
        compose(&["up", "-d"])?;
        let up = case.rig.daemon().ok(&["status", "--format", "{{.Sandboxes}} {{.Networks}}"])?;
        // The host's own network and the one that is none count, too.
        ensure!(up == "3 4", "sandboxes and networks: {up}");
        compose(&["down", "-t", "0"])?;
        let after = left_by_projects(case)?;
        ensure!(before == after, "{before:?} became {after:?}");
    }
    Ok(())
}

/// What a project that is down must not add to: links, entries of maps that are neither flows nor
/// the host's own addresses, and the engine's networks.
fn left_by_projects(case: &Case<'_, '_>) -> Result<(usize, Vec<String>, String)> {
    let links = case.rig.host.exec("ip", &["-o", "link"])?.stdout;
    let links = String::from_utf8_lossy(&links).lines().count();
    let status: Value =
        serde_json::from_str(&case.rig.daemon().ok(&["status", "--format", "json"])?)?;
    let maps = status["Maps"].as_array().context("no maps")?;
    let durable = |map: &&Value| {
        let name = map["Name"].as_str().unwrap_or_default();
        !["flows", "host_addrs"].iter().any(|other| name.starts_with(other))
    };
    let fill = maps.iter().filter(durable).map(|map| format!("{} {}", map["Name"], map["Entries"]));
    Ok((links, fill.collect(), case.ok(&["network", "ls", "--format", "{{.Name}}"])?))
}
