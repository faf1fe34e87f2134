//! A plugin between an engine and netd that meddles with one method's calls: what a driver does to the
//! engine when it errs or breaks off.
//!
//! Law: every other call passes unchanged, both ways.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result};

/// What becomes of a call.
#[derive(Clone, Copy, Debug)]
pub enum Meddling {
    /// netd never hears of it, and the connection breaks off.
    Lose,
    /// netd carries it out, and the connection breaks off before the answer.
    LoseAnswer,
    /// netd carries it out, and the engine gets this answer instead.
    Answer(&'static str),
}

/// The plugin; nobody finds it any more when the value has gone.
pub struct Meddler {
    socket: PathBuf,
    calls: Arc<AtomicUsize>,
}

impl Meddler {
    /// Meddles, at `socket`, with the first call of `method` on its way to `netd`.
    pub fn start(
        socket: &Path,
        netd: &Path,
        method: &'static str,
        meddling: Meddling,
    ) -> Result<Self> {
        let listener = UnixListener::bind(socket).with_context(|| socket.display().to_string())?;
        let calls = Arc::new(AtomicUsize::new(0));
        let (netd, counted) = (netd.to_owned(), Arc::clone(&calls));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (netd, counted) = (netd.clone(), Arc::clone(&counted));
                thread::spawn(move || serve(stream, &netd, (method, meddling), &counted));
            }
        });
        Ok(Self { socket: socket.to_owned(), calls })
    }

    /// How often the method was called.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Drop for Meddler {
    fn drop(&mut self) {
        // One that is gone already is found by nobody either.
        let _gone = std::fs::remove_file(&self.socket);
    }
}

/// Passes one connection's calls on. An end of either side is the end of both.
fn serve(
    mut engine: UnixStream,
    netd: &Path,
    (method, meddling): (&str, Meddling),
    calls: &AtomicUsize,
) -> Option<()> {
    loop {
        let call = read_message(&mut engine)?;
        let head = format!("POST /{method} ");
        let first = call.starts_with(head.as_bytes()) && calls.fetch_add(1, Ordering::SeqCst) == 0;
        if first && matches!(meddling, Meddling::Lose) {
            return None;
        }
        let mut driver = UnixStream::connect(netd).ok()?;
        driver.write_all(&call).ok()?;
        let answer = read_message(&mut driver)?;
        let answer = match meddling {
            Meddling::Lose | Meddling::LoseAnswer | Meddling::Answer(_) if !first => answer,
            Meddling::Lose | Meddling::LoseAnswer => return None,
            Meddling::Answer(body) => {
                let length = body.len();
                format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
            }
        };
        engine.write_all(&answer).ok()?;
    }
}

/// A head and as much body as it tells of; none where the other side has ended.
fn read_message(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    let mut byte = [0];
    while !message.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        message.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&message).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.map_or(Some(0), |length| length.trim().parse().ok())?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    message.extend(body);
    Some(message)
}
