//! The client of the native API: HTTP/1.1 with JSON bodies on the daemon's unix socket. A Docker engine
//! is asked in the same way.
//!
//! Law: calls block. A command line does one thing at a time, so the runtime stays on this thread and
//! the process has no other when it forks.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::error::CliError;
use crate::api::ErrorBody;

/// Where the daemon listens unless told otherwise.
pub(super) const DEFAULT_HOST: &str = "unix:///run/netd/netd.sock";
/// The daemon gives up on a request before that.
const ANSWER_SECONDS: u64 = 120;
/// More than any list of objects comes to; a body beyond it is no answer of ours.
const BODY_LIMIT: usize = 256 << 20;

/// Reads `-H`: `unix:///path`, or an absolute path.
pub(super) fn parse_host(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("unix://").unwrap_or(text);
    if path.starts_with('/') {
        return Ok(PathBuf::from(path));
    }
    Err(format!("'{text}' is no daemon socket: write unix:///path"))
}

/// Makes any text one segment of a path or one value of a query.
pub(super) fn escape(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
        escaped
    })
}

/// What sentences call our own daemon.
const NETD: &str = "the netd daemon";

/// A connection per request to one daemon.
pub(super) struct Client {
    peer: &'static str,
    socket: PathBuf,
    runtime: tokio::runtime::Runtime,
    patience: Duration,
}

impl Client {
    /// Talks to the daemon at a socket; nothing is opened yet.
    pub(super) fn new(socket: &Path) -> Result<Self, CliError> {
        Self::of(NETD, socket)
    }

    /// Talks to another daemon, which sentences call `peer`.
    pub(super) fn of(peer: &'static str, socket: &Path) -> Result<Self, CliError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| CliError::system("cannot start", error))?;
        let patience = Duration::from_secs(ANSWER_SECONDS);
        Ok(Self { peer, socket: socket.to_owned(), runtime, patience })
    }

    /// `GET`, with the answer read as `T`.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        self.parse(&self.request(Method::GET, path, Bytes::new())?)
    }

    /// `POST` without a body, with the answer read as `T`.
    pub(super) fn trigger<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        self.parse(&self.request(Method::POST, path, Bytes::new())?)
    }

    /// `POST` with a body, with the answer read as `T`.
    pub(super) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CliError> {
        self.parse(&self.request(Method::POST, path, self.encode(body)?)?)
    }

    /// A request with a body and no answer but success.
    pub(super) fn tell(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<(), CliError> {
        self.request(method, path, self.encode(body)?).map(drop)
    }

    /// `DELETE`.
    pub(super) fn delete(&self, path: &str) -> Result<(), CliError> {
        self.request(Method::DELETE, path, Bytes::new()).map(drop)
    }

    /// Hands each line of an endless answer to `each`, until the daemon ends it or `each` fails.
    pub(super) fn stream(
        &self,
        path: &str,
        mut each: impl FnMut(&[u8]) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        self.runtime.block_on(async {
            let answer = self.bounded(self.open(Method::GET, path, Bytes::new())).await?;
            let mut body = self.check(answer).await?.into_body();
            let mut pending = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| self.garbled(&error))?;
                pending.extend_from_slice(frame.data_ref().map_or(&[][..], |data| &data[..]));
                while let Some(end) = pending.iter().position(|&byte| byte == b'\n') {
                    let line: Vec<u8> = pending.drain(..=end).collect();
                    each(line.trim_ascii())?;
                }
            }
            Ok(())
        })
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, CliError> {
        self.runtime.block_on(self.bounded(async {
            let answer = self.open(method, path, body).await?;
            self.collect(self.check(answer).await?).await
        }))
    }

    async fn bounded<T>(
        &self,
        work: impl Future<Output = Result<T, CliError>>,
    ) -> Result<T, CliError> {
        tokio::time::timeout(self.patience, work).await.unwrap_or_else(|_| {
            let seconds = self.patience.as_secs();
            Err(CliError::Silent { peer: self.peer, socket: self.socket.clone(), seconds })
        })
    }

    async fn open(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, CliError> {
        let stream =
            UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.garbled(&error))?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "netd")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| CliError::Refused(error.to_string()))?;
        sender.send_request(request).await.map_err(|error| self.garbled(&error))
    }

    async fn check(&self, answer: Response<Incoming>) -> Result<Response<Incoming>, CliError> {
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = self.collect(answer).await?;
        let message = serde_json::from_slice::<ErrorBody>(&body).map_or_else(
            |_| format!("{status}: {}", String::from_utf8_lossy(&body).trim()),
            |error| error.message,
        );
        Err(CliError::Daemon { status: status.as_u16(), message })
    }

    async fn collect(&self, answer: Response<Incoming>) -> Result<Bytes, CliError> {
        let body = Limited::new(answer.into_body(), BODY_LIMIT).collect().await;
        Ok(body.map_err(|error| self.garbled(&*error))?.to_bytes())
    }

    fn encode(&self, body: &impl Serialize) -> Result<Bytes, CliError> {
        serde_json::to_vec(body).map(Bytes::from).map_err(|error| self.garbled(&error))
    }

    fn parse<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, CliError> {
        serde_json::from_slice(body).map_err(|error| self.garbled(&error))
    }

    fn unreachable(&self, error: &io::Error) -> CliError {
        let (peer, socket) = (self.peer, self.socket.clone());
        if error.kind() == io::ErrorKind::PermissionDenied {
            return CliError::Forbidden { peer, socket };
        }
        CliError::Unreachable { peer, socket }
    }

    fn garbled(&self, error: &dyn std::fmt::Display) -> CliError {
        CliError::Garbled { socket: self.socket.clone(), detail: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;
    use std::thread::JoinHandle;

    use super::*;
    use crate::api::NetworkInspect;

    /// Answers one connection with the given bytes after the request's head has come.
    fn canned(answer: &'static str) -> (tempfile::TempDir, Client, JoinHandle<String>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = vec![0; 4096];
            let length = stream.read(&mut head).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&head[..length]).into_owned()
        });
        let client = Client::new(&path).unwrap();
        (dir, client, server)
    }

    #[test]
    fn hosts_are_unix_sockets() {
        assert_eq!(parse_host("unix:///a/b").unwrap(), Path::new("/a/b"));
        assert_eq!(parse_host("/a/b").unwrap(), Path::new("/a/b"));
        for text in ["", "tcp://1.2.3.4:1", "unix://relative", "relative"] {
            assert!(parse_host(text).is_err(), "{text}");
        }
    }

    #[test]
    fn any_name_is_one_path_segment() {
        assert_eq!(escape("a b/c?d#é"), "a%20b%2Fc%3Fd%23%C3%A9");
    }

    #[test]
    fn a_missing_socket_asks_whether_the_daemon_runs() {
        let client = Client::new(Path::new("/nonexistent/netd.sock")).unwrap();
        assert_eq!(
            client.delete("/v1/networks/x").unwrap_err().to_string(),
            "Cannot connect to the netd daemon at unix:///nonexistent/netd.sock. \
             Is the netd daemon running?"
        );
    }

    #[test]
    fn a_refusal_carries_the_daemons_sentence() {
        let (_dir, client, server) = canned(
            "HTTP/1.1 404 Not Found\r\ncontent-length: 36\r\n\r\n{\"message\":\"network nope not found\"}",
        );
        let error = client.delete("/v1/networks/nope").unwrap_err();
        assert_eq!(error.to_string(), "Error response from daemon: network nope not found");
        assert!(error.is_not_found());
        assert!(server.join().unwrap().starts_with("DELETE /v1/networks/nope HTTP/1.1\r\n"));
    }

    #[test]
    fn a_refusal_without_a_body_of_ours_still_says_what_came() {
        let (_dir, client, _server) =
            canned("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 4\r\n\r\noops");
        let error = client.get::<NetworkInspect>("/v1/networks/x").unwrap_err();
        assert_eq!(
            error.to_string(),
            "Error response from daemon: 500 Internal Server Error: oops"
        );
    }

    #[test]
    fn other_bytes_are_told_as_such() {
        for answer in ["SSH-2.0-x\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyes", ""] {
            let (_dir, client, _server) = canned(answer);
            let error = client.get::<NetworkInspect>("/v1/networks/x").unwrap_err();
            assert!(matches!(error, CliError::Garbled { .. }), "{answer}: {error}");
        }
    }

    #[test]
    fn a_silent_daemon_is_given_up_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let mut client = Client::new(&path).unwrap();
        client.patience = Duration::from_millis(50);
        let error = client.delete("/v1/networks/x").unwrap_err();
        assert!(matches!(error, CliError::Silent { .. }), "{error}");
    }

    #[test]
    fn a_stream_comes_line_by_line() {
        let (_dir, client, _server) = canned(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\na\nb\r\n3\r\nc\nd\r\n0\r\n\r\n",
        );
        let mut lines = Vec::new();
        client
            .stream("/v1/events", |line| {
                lines.push(String::from_utf8_lossy(line).into_owned());
                Ok(())
            })
            .unwrap();
        assert_eq!(lines, ["a", "bc"]);
    }
}
