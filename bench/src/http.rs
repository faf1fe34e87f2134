//! One request to a server on a unix socket.
//!
//! Law: HTTP 1.0, so that the answer ends with the connection and is never in chunks.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// What is sent along.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Body<'a> {
    /// A JSON text, or nothing.
    Json(&'a str),
    /// A tar archive.
    Tar(&'a [u8]),
}

impl<'a> Body<'a> {
    fn parts(self) -> (&'static str, &'a [u8]) {
        match self {
            Self::Json(text) => ("application/json", text.as_bytes()),
            Self::Tar(bytes) => ("application/x-tar", bytes),
        }
    }
}

/// Asks, and returns the body of an answer with a status of 2xx.
pub(crate) fn request(
    socket: &Path,
    patience: Duration,
    (method, path): (&str, &str),
    body: Body<'_>,
) -> Result<String> {
    let mut stream = UnixStream::connect(socket)
        .with_context(|| format!("connecting to {}", socket.display()))?;
    stream.set_read_timeout(Some(patience))?;
    let (kind, body) = body.parts();
    let len = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: bench\r\nContent-Type: {kind}\r\n\
         Content-Length: {len}\r\n\r\n"
    )?;
    stream.write_all(body)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("answer of the daemon")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    ensure!(status.starts_with('2'), "{method} {path}: {status} {body}");
    Ok(body.to_owned())
}
