//! The daemon's life and footprint: killed and started again while a connection goes on, and no rule
//! of netfilter's anywhere.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use super::probe::{Expected, Place, over_both};
use super::stage::{PUBLISHED_PORT, Stage};
use crate::Host;
use crate::outside::{ROUTER_V4, ROUTER_V6};
use crate::wire::ANSWER_DEADLINE;

const BETWEEN_WORDS: Duration = Duration::from_millis(50);
const WORD: &[u8] = b"word ";

/// Killed by force; meanwhile everything goes on; started again, it knows everything.
pub(super) fn killed(stage: &mut Stage<'_>) -> Result<()> {
    let before = known(stage)?;
    let target = SocketAddr::new(stage.uplink()[0], PUBLISHED_PORT);
    stage.report.say(&format!(
        "A client outside keeps a connection to {target} and sends a word every {} ms.",
        BETWEEN_WORDS.as_millis()
    ));
    let talk = Talk::start(stage, target)?;
    stage.kill()?;
    let refused = stage.try_netd(&["ps"])?;
    let seen = format!("exit status {}", refused.code.unwrap_or_default());
    stage.report.claim("nobody answers the command line", &seen, refused.code == Some(1));
    let sources = [ROUTER_V4.into(), ROUTER_V6.into()].map(Expected::SeenAs);
    let targets = stage.uplink().map(|address| SocketAddr::new(address, PUBLISHED_PORT));
    stage.probe(Place::Outside, &over_both(targets.into_iter().zip(sources)))?;
    stage.start()?;
    let now = known(stage)?;
    stage.netd(&[
        "ps",
        "--format",
        r"table {{.Names}}\t{{.Networks}}\t{{.Addresses}}\t{{.Status}}",
    ])?;
    stage.report.claim(
        "the same sandboxes, addresses and ports as before",
        if now == before { "the same" } else { &now },
        now == before,
    );
    let (sent, echoed) = talk.end()?;
    let expected = "the client's connection has lost nothing";
    let seen = format!("{sent} words sent, {echoed} echoed");
    stage.report.claim(expected, &seen, sent == echoed && sent > 0);
    Ok(())
}

/// What the daemon knows of its sandboxes, but how long they have been up.
fn known(stage: &Stage<'_>) -> Result<String> {
    let format = "{{.ID}} {{.Names}} {{.Networks}} {{.Addresses}} {{.Ports}} {{.State}} {{.Pid}}";
    stage.daemon()?.ok(&["ps", "--no-trunc", "--format", format])
}

/// A client that goes on talking on one connection.
struct Talk {
    stop: Sender<()>,
    thread: JoinHandle<Result<(usize, usize)>>,
}

impl Talk {
    fn start(stage: &Stage<'_>, target: SocketAddr) -> Result<Self> {
        let connect = || Ok(TcpStream::connect_timeout(&target, ANSWER_DEADLINE)?);
        let mut stream = stage.outside.netns().run(connect)?;
        let (stop, stopped) = channel();
        let talk = move || {
            let mut sent = 0;
            loop {
                stream.write_all(WORD)?;
                sent += 1;
                match stopped.recv_timeout(BETWEEN_WORDS) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            Ok((sent, echoed(stream)?))
        };
        Ok(Self { stop, thread: thread::spawn(talk) })
    }

    /// How many words were sent, and how many came back.
    fn end(self) -> Result<(usize, usize)> {
        drop(self.stop);
        self.thread.join().map_err(|_| anyhow!("the client panicked"))?
    }
}

fn echoed(mut stream: TcpStream) -> Result<usize> {
    stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_seen_as, echo) = answer.split_once('\n').context("no answer of the server's")?;
    Ok(echo.split_whitespace().count())
}

/// What lists netfilter's rules.
const LISTS: [&[&str]; 3] = [&["iptables-save"], &["ip6tables-save"], &["nft", "list", "ruleset"]];

/// Netfilter's rules, without remarks and counters.
pub(super) fn rules(host: &Host) -> Result<Vec<String>> {
    let mut rules = Vec::new();
    for list in LISTS {
        let said = host.exec(list[0], &list[1..])?;
        ensure!(said.status.success(), "{}: {said:?}", list.join(" "));
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        rules.extend(text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned));
    }
    Ok(rules)
}

/// The host's rules are those of before the daemon, and there is no proxy process.
pub(super) fn netfilter(stage: &mut Stage<'_>) -> Result<()> {
    for list in LISTS {
        stage.tried("host", list);
    }
    let now = rules(stage.host)?;
    let expected =
        format!("the {} rules of before the daemon's first start", stage.rules_before.len());
    let held = now == stage.rules_before;
    let seen = if held { format!("the same {} rules", now.len()) } else { now.join("; ") };
    stage.report.claim(&expected, &seen, held);
    let programs = programs(stage.host)?;
    let expected = "no proxy: netd's daemon and the five servers are all of the host's processes";
    let held = programs.iter().filter(|it| *it == "netd").count() == 1
        && programs.iter().filter(|it| *it == "wire").count() == 5
        && programs.len() == 6;
    stage.report.claim(expected, &programs.join(", "), held);
    Ok(())
}

/// Names of all processes of the host's control group.
fn programs(host: &Host) -> Result<Vec<String>> {
    let members = std::fs::read_to_string(host.cgroup().join("cgroup.procs"))?;
    let name = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    let mut names: Vec<String> =
        members.lines().filter_map(name).map(|it| it.trim().to_owned()).collect();
    names.sort();
    Ok(names)
}
