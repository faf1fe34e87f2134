//! A container engine's side of the plugin protocol, byte for byte as Go's client writes it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

const ANSWERS_WITHIN: Duration = Duration::from_mins(1);

/// A kept-alive connection to a plugin.
pub struct Caller {
    stream: UnixStream,
    host: &'static str,
    unread: Vec<u8>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// HTTP status.
    pub status: u16,
    /// The head, as it came.
    pub head: String,
    /// The body.
    pub body: Value,
}

impl Answered {
    /// What a failure says, in the dialect of network drivers; empty for none.
    pub fn failure(&self) -> &str {
        self.body["Err"].as_str().unwrap_or_default()
    }
}

impl Caller {
    /// To the plugin at `socket`, as engines before 25: with an empty host.
    pub fn connect(socket: &Path) -> Result<Self> {
        Self::connect_as(socket, "")
    }

    /// The same with a host's name in each call's head.
    pub fn connect_as(socket: &Path, host: &'static str) -> Result<Self> {
        let stream = UnixStream::connect(socket).with_context(|| socket.display().to_string())?;
        stream.set_read_timeout(Some(ANSWERS_WITHIN))?;
        Ok(Self { stream, host, unread: Vec::new() })
    }

    /// Calls a method with arguments; `null` sends an empty body, as Go does.
    pub fn call(&mut self, method: &str, arguments: &Value) -> Result<Answered> {
        let body = if arguments.is_null() { String::new() } else { format!("{arguments}\n") };
        self.call_with(method, &body)
    }

    /// Calls a method with a body of any kind.
    pub fn call_with(&mut self, method: &str, body: &str) -> Result<Answered> {
        let accept = "application/vnd.docker.plugins.v1.2+json";
        let (length, host) = (body.len(), self.host);
        write!(
            self.stream,
            "POST /{method} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Go-http-client/1.1\r\n\
             Content-Length: {length}\r\nAccept: {accept}\r\n\r\n{body}"
        )?;
        self.read().with_context(|| format!("{method} {body}"))
    }

    fn read(&mut self) -> Result<Answered> {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.read_more()?;
        };
        let head = String::from_utf8(self.unread.drain(..end).collect())?.to_ascii_lowercase();
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.context("no length")?.trim().parse()?;
        while self.unread.len() < length {
            self.read_more()?;
        }
        let body: Vec<u8> = self.unread.drain(..length).collect();
        Ok(Answered { status, head, body: serde_json::from_slice(&body)? })
    }

    fn read_more(&mut self) -> Result<()> {
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk)? {
            0 => bail!("the plugin closed the connection"),
            read => self.unread.extend_from_slice(&chunk[..read]),
        }
        Ok(())
    }
}
