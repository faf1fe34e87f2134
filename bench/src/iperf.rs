//! iperf3 beside our own stream: the same way and CPU, measured by someone else's program. It polls
//! without sleeping, so in real time one end would keep the other from running: both are merely
//! preferred.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::interrupt;
use crate::namespace::Namespace;
use crate::results::{Case, Section};
use crate::rig::{Family, Path, Standing};
use crate::session::Session;
use crate::statistics::Better;
use crate::traffic::Route;

/// What a client sends: some hundred milliseconds' worth.
const BYTES: &str = "256M";

/// No run takes longer, seconds.
const LONGEST_S: &str = "10";

/// How long a server may take until it listens.
const PATIENCE: Duration = Duration::from_secs(3);

/// From outside to a published port, on every rig.
pub(crate) fn all(session: &mut Session, standings: &[Standing]) -> Result<()> {
    let way = Path::OutsideToPublished;
    let title = "bulk TCP, 1 flow, by iperf3";
    let case = Case::new(Section::Traffic, way.name(), title, "MB/s", Better::Higher);
    let subjects: Vec<(String, Route)> = standings
        .iter()
        .filter_map(|rig| Some((rig.rig.to_owned(), rig.routes.get(&(way, Family::V4))?.clone())))
        .collect();
    let cpu = session.cpu.to_string();
    let rounds = session.effort.rounds;
    session.interleave(rounds, vec![case], subjects, |route| Ok(vec![run(route, &cpu)?]))
}

/// Megabytes a second.
fn run(route: &Route, cpu: &str) -> Result<f64> {
    let mut server = iperf(&route.server, cpu)
        .args(["-s", "-1", "-p", &route.listen.to_string()])
        .stdout(Stdio::null())
        .spawn()
        .context("iperf3")?;
    let rate = client(route, cpu);
    if rate.is_err() {
        server.kill().context("stopping the server")?;
    }
    server.wait().context("waiting for the server")?;
    rate
}

/// Runs the client, again as long as the server does not listen yet: a client that reports as JSON
/// ends well even then.
fn client(route: &Route, cpu: &str) -> Result<f64> {
    let start = Instant::now();
    loop {
        interrupt::check()?;
        let (address, port) = (route.connect.ip().to_string(), route.connect.port().to_string());
        let output = iperf(&route.client, cpu)
            .args(["-c", &address, "-p", &port, "-n", BYTES, "-J"])
            .output()
            .context("iperf3")?;
        match rate(&output.stdout) {
            Ok(rate) => return Ok(rate),
            Err(error) if start.elapsed() > PATIENCE => return Err(error),
            Err(_) => {}
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// iperf3 in a namespace, on one CPU, preferred to what else runs there, and not for ever.
fn iperf(namespace: &Namespace, cpu: &str) -> Command {
    let mut command = namespace.command("timeout");
    command.args([LONGEST_S, "nice", "-n", "-15", "taskset", "-c", cpu, "iperf3"]);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// What the receiver saw.
fn rate(json: &[u8]) -> Result<f64> {
    let report: serde_json::Value = serde_json::from_slice(json).context("report of iperf3")?;
    let bits = report.pointer("/end/sum_received/bits_per_second");
    let bits = bits.and_then(serde_json::Value::as_f64).filter(|bits| *bits > 0.0);
    bits.map(|bits| bits / 8e6).ok_or_else(|| {
        let said = report.get("error").and_then(serde_json::Value::as_str);
        anyhow!("iperf3 saw nothing arrive: {}", said.unwrap_or("no error"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_the_receivers_in_megabytes() {
        let json = br#"{"end":{"sum_sent":{"bits_per_second":9e9},
                               "sum_received":{"bits_per_second":8e9}}}"#;
        assert_eq!(rate(json).ok(), Some(1_000.0));
        assert!(rate(br#"{"error":"refused"}"#).is_err());
    }
}
