//! HTTP clients, each on a connection of its own: some requests on it, then the next connection.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv6Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Path, Report, Volume};
use crate::Netns;

/// Long enough for every retransmission: a request is lost when the connection is.
const PATIENCE: Duration = Duration::from_mins(1);
/// Requests on one connection: both established and new ones meet each restart.
const REQUESTS_PER_CONNECTION: u32 = 16;
const TOLD_AT_MOST: usize = 10;

/// Answers every request with the path that was asked for, until the value goes.
pub(super) struct HttpServer {
    listener: Arc<TcpListener>,
    thread: Option<JoinHandle<()>>,
}

impl HttpServer {
    /// Serves in `netns`, on both families.
    pub(super) fn start(netns: &Netns, port: u16) -> Result<Self> {
        let bound = netns.run(|| Ok(TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))?));
        let listener = Arc::new(bound.with_context(|| format!("tcp port {port}"))?);
        let accepting = Arc::clone(&listener);
        let thread = thread::spawn(move || {
            // Shut down by the value's end, `accept` fails.
            while let Ok((stream, _)) = accepting.accept() {
                thread::spawn(move || serve(&stream));
            }
        });
        Ok(Self { listener, thread: Some(thread) })
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        use std::os::fd::AsRawFd as _;
        let listening = self.listener.as_raw_fd();
        let _already_shut = nix::sys::socket::shutdown(listening, nix::sys::socket::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _panic_was_printed = thread.join();
        }
    }
}

/// A client that breaks off is the client's affair.
fn serve(stream: &TcpStream) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut requests = BufReader::new(stream);
    loop {
        let mut first = String::new();
        requests.read_line(&mut first).ok()?;
        let path = first.split(' ').nth(1)?.to_owned();
        while !first.trim().is_empty() {
            first.clear();
            requests.read_line(&mut first).ok()?;
        }
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len());
        (&mut &*stream).write_all(answer.as_bytes()).ok()?;
    }
}

/// All clients.
pub(super) struct Clients {
    answered: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Clients {
    /// Spreads the connections over the paths.
    pub(super) fn start(paths: &[Path], volume: Volume, stop: &Arc<AtomicBool>) -> Self {
        let (answered, connections) = (Arc::default(), Arc::default());
        let client = |path: &Path| {
            let client = Client {
                path: path.clone(),
                pause: volume.pause,
                stop: Arc::clone(stop),
                answered: Arc::clone(&answered),
                connections: Arc::clone(&connections),
            };
            thread::spawn(move || client.live())
        };
        let threads = paths.iter().cycle().take(volume.connections).map(client).collect();
        Self { answered, connections, threads }
    }

    /// Requests answered so far.
    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits for all of them.
    pub(super) fn finish(self, report: &mut Report) {
        for thread in self.threads {
            match thread.join() {
                Ok(failures) => report.failures.extend(failures),
                Err(_) => report.failures.push("a client broke off".to_owned()),
            }
        }
        report.answered = self.answered.load(Ordering::Relaxed);
        report.connections = self.connections.load(Ordering::Relaxed);
    }
}

struct Client {
    path: Path,
    pause: Duration,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
}

impl Client {
    fn live(&self) -> Vec<String> {
        let mut failures = Vec::new();
        while !self.stop.load(Ordering::Relaxed) && failures.len() < TOLD_AT_MOST {
            if let Err(error) = self.visit() {
                failures.push(format!("{}: {error:#}", self.path.name));
            }
        }
        failures
    }

    fn visit(&self) -> Result<()> {
        let target = self.path.http;
        let connect = || Ok(TcpStream::connect_timeout(&target, PATIENCE)?);
        let stream = self.path.from.run(connect).context("connecting")?;
        self.connections.fetch_add(1, Ordering::Relaxed);
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut answers = BufReader::new(&stream);
        for number in 0..REQUESTS_PER_CONNECTION {
            ask(&stream, &mut answers, number).with_context(|| format!("request {number}"))?;
            self.answered.fetch_add(1, Ordering::Relaxed);
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            thread::sleep(self.pause);
        }
        Ok(stream.shutdown(Shutdown::Both)?)
    }
}

fn ask(mut stream: &TcpStream, answers: &mut BufReader<&TcpStream>, number: u32) -> Result<()> {
    write!(stream, "GET /{number} HTTP/1.1\r\nHost: load\r\n\r\n")?;
    let (mut line, mut len) = (String::new(), 0);
    loop {
        line.clear();
        ensure!(answers.read_line(&mut line)? > 0, "the connection ended");
        if let Some(text) = line.strip_prefix("Content-Length: ") {
            len = text.trim().parse()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; len];
    answers.read_exact(&mut body)?;
    ensure!(body == format!("/{number}").as_bytes(), "the answer is another's");
    Ok(())
}
