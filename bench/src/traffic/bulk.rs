//! TCP streams: bytes that arrive while the clock runs.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Burst, PATIENCE, Route, megabytes_per_second};
use crate::cpu::{self, RealTime};
use crate::namespace::join;

const CHUNK_LEN: usize = 128 * 1024;

/// Time for windows to open before the clock starts.
const WARM_UP: Duration = Duration::from_millis(40);

/// What the threads of a burst share.
struct Shared {
    cpu: usize,
    received: AtomicU64,
    done: AtomicBool,
}

/// Runs `flows` streams from client to server.
pub(super) fn streams(route: &Route, cpu: usize, length: Duration, flows: usize) -> Result<Burst> {
    let pairs = connect(route, flows)?;
    let shared = Shared { cpu, received: AtomicU64::new(0), done: AtomicBool::new(false) };
    let shared = &shared;
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for (client, server) in &pairs {
            threads.push(scope.spawn(move || receive(server, shared)));
            threads.push(scope.spawn(move || send(client, shared)));
        }
        let burst = measure(shared, length);
        shared.done.store(true, Ordering::Relaxed);
        threads.into_iter().try_for_each(join)?;
        burst
    })
}

fn measure(shared: &Shared, length: Duration) -> Result<Burst> {
    thread::sleep(WARM_UP);
    let (start, before) = (Instant::now(), shared.received.load(Ordering::Relaxed));
    thread::sleep(length);
    let bytes = shared.received.load(Ordering::Relaxed) - before;
    ensure!(bytes > 0, "no byte arrived");
    Ok(Burst { rate: megabytes_per_second(bytes, start.elapsed()), latency: None })
}

/// Both ends of each stream; a socket keeps the namespace it was made in.
fn connect(route: &Route, flows: usize) -> Result<Vec<(TcpStream, TcpStream)>> {
    let listener = route.server.run(|| {
        let listener = TcpListener::bind(route.listen_address()).context("listening")?;
        Ok(listener)
    })?;
    let clients: Vec<TcpStream> = thread::scope(|scope| {
        join(scope.spawn(|| {
            route.enter_client()?;
            (0..flows)
                .map(|_| TcpStream::connect_timeout(&route.connect, PATIENCE).context("connect"))
                .collect()
        }))
    })?;
    clients
        .into_iter()
        .map(|client| {
            let (server, _) = listener.accept().context("accept")?;
            client.set_write_timeout(Some(PATIENCE))?;
            server.set_read_timeout(Some(PATIENCE))?;
            Ok((client, server))
        })
        .collect()
}

fn receive(mut stream: &TcpStream, shared: &Shared) -> Result<()> {
    cpu::pin(shared.cpu)?;
    let mut chunk = vec![0; CHUNK_LEN];
    let _burst = RealTime::enter()?;
    while !shared.done.load(Ordering::Relaxed) {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(len) => {
                let len = u64::try_from(len).unwrap_or_default();
                shared.received.fetch_add(len, Ordering::Relaxed);
            }
            // The sender fails by itself where the stream stands still.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("reading a stream"),
        }
    }
    stream.shutdown(std::net::Shutdown::Both).or_else(ignore_gone).context("closing a stream")
}

fn send(mut stream: &TcpStream, shared: &Shared) -> Result<()> {
    cpu::pin(shared.cpu)?;
    let chunk = vec![0; CHUNK_LEN];
    let _burst = RealTime::enter()?;
    while !shared.done.load(Ordering::Relaxed) {
        let written = stream.write(&chunk);
        if !shared.done.load(Ordering::Relaxed) {
            written.context("writing a stream")?;
        }
    }
    stream.shutdown(std::net::Shutdown::Both).or_else(ignore_gone).context("closing a stream")
}

fn ignore_gone(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == ErrorKind::NotConnected { Ok(()) } else { Err(error) }
}
