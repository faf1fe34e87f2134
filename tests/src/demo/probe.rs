//! Requests in tables: who asks, for what, whom the server should see; all of a table at once, so that
//! waiting for answers that must not come takes no longer than one of them.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

use anyhow::{Context, Result};

use super::stage::Stage;
use crate::container::Transport;
use crate::process;

/// Who asks.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// The client beyond the uplink.
    Outside,
    /// A process of the host.
    Host,
    /// A process in the sandbox of this name.
    Sandbox(&'static str),
}

/// What a request should meet.
#[derive(Clone, Copy)]
pub(super) enum Expected {
    /// A server that sees it come from this address, and answers from the address asked.
    SeenAs(IpAddr),
    /// Nobody.
    Nothing,
}

/// One request.
pub(super) struct Probe {
    pub(super) transport: Transport,
    pub(super) target: SocketAddr,
    pub(super) expected: Expected,
}

/// What a request met.
enum Met {
    Answer { seen_as: SocketAddr, from: SocketAddr },
    Nothing(String),
}

/// A request over each transport to each target.
pub(super) fn over_both(targets: impl IntoIterator<Item = (SocketAddr, Expected)>) -> Vec<Probe> {
    let probe =
        |(target, expected)| Transport::ALL.map(|transport| Probe { transport, target, expected });
    targets.into_iter().flat_map(probe).collect()
}

impl Probe {
    fn tried(&self) -> String {
        format!("{} {}", self.transport.name(), self.target)
    }

    fn expected(&self) -> String {
        match self.expected {
            Expected::SeenAs(address) => format!("seen as {address}"),
            Expected::Nothing => "no answer".to_owned(),
        }
    }

    fn holds(&self, met: &Met) -> bool {
        match (self.expected, met) {
            (Expected::SeenAs(address), Met::Answer { seen_as, from }) => {
                seen_as.ip() == address && *from == self.target
            }
            (Expected::Nothing, Met::Nothing(_)) => true,
            (Expected::SeenAs(_), Met::Nothing(_)) | (Expected::Nothing, Met::Answer { .. }) => {
                false
            }
        }
    }

    fn seen(&self, met: &Met) -> String {
        match met {
            Met::Answer { seen_as, from } if *from == self.target => format!("seen as {seen_as}"),
            Met::Answer { seen_as, from } => format!("seen as {seen_as}, answer from {from}"),
            Met::Nothing(why) => format!("no answer: {why}"),
        }
    }
}

impl Stage<'_> {
    /// Asks all, and prints a table of it.
    pub(super) fn probe(&mut self, place: Place, probes: &[Probe]) -> Result<()> {
        self.announce(place);
        let met = self.ask_all(place, probes)?;
        let tried: Vec<String> = probes.iter().map(Probe::tried).collect();
        let expected: Vec<String> = probes.iter().map(Probe::expected).collect();
        let seen: Vec<String> = probes.iter().zip(&met).map(|(it, met)| it.seen(met)).collect();
        let widths = [width(&tried), width(&expected), width(&seen)];
        self.report.columns(widths);
        for (number, (probe, met)) in probes.iter().zip(&met).enumerate() {
            let cells = [&tried[number], &expected[number], &seen[number]].map(String::as_str);
            self.report.row(cells, widths, probe.holds(met));
        }
        Ok(())
    }

    /// The command line of a table, with words for what its rows hold.
    fn announce(&mut self, place: Place) {
        const REQUEST: [&str; 4] = ["wire", "PROTOCOL", "ADDRESS", "hello"];
        let exec = |name| ["netd", "sandbox", "exec", name, "--"];
        match place {
            Place::Outside => self.tried("outside", &REQUEST),
            Place::Host => self.tried("host", &REQUEST),
            Place::Sandbox(name) => self.tried("host", &[&exec(name)[..], &REQUEST].concat()),
        }
    }

    fn ask_all(&self, place: Place, probes: &[Probe]) -> Result<Vec<Met>> {
        let asker = Asker { stage: self, place };
        thread::scope(|scope| {
            let requests: Vec<_> =
                probes.iter().map(|probe| scope.spawn(|| asker.ask(probe))).collect();
            let joined =
                requests.into_iter().map(|it| it.join().ok().context("a request panicked")?);
            joined.collect()
        })
    }
}

/// Somebody at a place.
struct Asker<'a> {
    stage: &'a Stage<'a>,
    place: Place,
}

impl Asker<'_> {
    fn ask(&self, probe: &Probe) -> Result<Met> {
        let target = probe.target.to_string();
        let request = [probe.transport.name(), &target, "hello"];
        let output = self.run(&request)?;
        let text = String::from_utf8_lossy(&output.stdout);
        if output.status.success() {
            return parse(text.trim()).with_context(|| format!("wire said {text}"));
        }
        Ok(Met::Nothing(last_cause(&String::from_utf8_lossy(&output.stderr))))
    }

    fn run(&self, request: &[&str]) -> Result<Output> {
        let wire: &Path = &self.stage.wire;
        match self.place {
            Place::Outside => {
                let mut command = Command::new(wire);
                command.args(request);
                self.stage.outside.netns().run(|| process::output(&mut command, b""))
            }
            Place::Host => self.stage.host.exec(wire, request),
            Place::Sandbox(name) => {
                let (socket, wire) = (self.stage.socket(), wire.to_string_lossy());
                let exec = ["-H", &socket, "sandbox", "exec", name, "--", &wire];
                self.stage.host.exec(process::built("netd")?, &[&exec[..], request].concat())
            }
        }
    }
}

/// The innermost reason of an error, without the number of the system's.
fn last_cause(text: &str) -> String {
    let causes = text.split("Stack backtrace:").next().unwrap_or_default();
    let last = causes.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let last = last.trim().trim_start_matches(|c: char| c.is_ascii_digit() || c == ':').trim();
    let last = last.split(" (os error").next().unwrap_or_default().to_lowercase();
    // What the end of a socket's deadline is called.
    last.replace("resource temporarily unavailable", "timed out")
}

/// `seen as ADDRESS, answered from ADDRESS`.
fn parse(text: &str) -> Result<Met> {
    let words = text.strip_prefix("seen as ").and_then(|rest| rest.split_once(", answered from "));
    let (seen_as, from) = words.context("no answer of the server's")?;
    Ok(Met::Answer { seen_as: seen_as.parse()?, from: from.parse()? })
}

fn width(cells: &[String]) -> usize {
    cells.iter().map(String::len).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_is_the_innermost_with_or_without_numbers_and_backtrace() {
        let one = "Error: tcp\n\nCaused by:\n    Connection refused (os error 111)\n";
        assert_eq!(last_cause(one), "connection refused");
        let two =
            "Error: a\n\nCaused by:\n    0: b\n    1: No route\n\nStack backtrace:\n   0: _start";
        assert_eq!(last_cause(two), "no route");
    }

    #[test]
    fn answer_from_another_address_than_asked_does_not_hold() {
        let probe = Probe {
            transport: Transport::Udp,
            target: "10.0.0.1:80".parse().unwrap(),
            expected: Expected::SeenAs([10, 0, 0, 9].into()),
        };
        let met = |text: &str| parse(text).unwrap();
        assert!(probe.holds(&met("seen as 10.0.0.9:4, answered from 10.0.0.1:80")));
        assert!(!probe.holds(&met("seen as 10.0.0.9:4, answered from 10.0.0.2:80")));
        assert!(!probe.holds(&met("seen as 10.0.0.8:4, answered from 10.0.0.1:80")));
        assert!(!probe.holds(&Met::Nothing("timed out".to_owned())));
    }
}
