//! A canned daemon for tests of what the CLI asks and how it takes the answers.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{Receiver, channel};

use super::client::Client;

/// Answers every request by `answer`, which is given the request's method and path.
pub(super) struct CannedDaemon {
    /// Where its socket is; gone with it.
    pub(super) dir: tempfile::TempDir,
    /// Talks to it.
    pub(super) client: Client,
    requests: Receiver<(String, String)>,
}

impl CannedDaemon {
    /// Listens until the test ends.
    pub(super) fn new(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (asked, requests) = channel();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let (line, body) = read(&mut stream);
                // Before the answer: whoever has that may look at once at what was asked.
                asked.send((line.clone(), body)).ok();
                write(&mut stream, &answer(&line));
            }
        });
        Self { dir, client: Client::new(&socket).unwrap(), requests }
    }

    /// Method, path and body of each request so far.
    pub(super) fn requests(&self) -> Vec<(String, String)> {
        self.requests.try_iter().collect()
    }

    /// Method and path of each request so far.
    pub(super) fn asked(&self) -> Vec<String> {
        self.requests().into_iter().map(|(line, _)| line).collect()
    }
}

fn write(stream: &mut UnixStream, (status, text): &(u16, String)) {
    let length = text.len();
    write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{text}").unwrap();
}

/// The request's method and path, and its body.
fn read(stream: &mut UnixStream) -> (String, String) {
    let (mut request, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let length = stream.read(&mut piece).unwrap();
        request.extend_from_slice(&piece[..length]);
        let text = String::from_utf8_lossy(&request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let expected = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= expected.map_or(0, |length| length.parse().unwrap()) {
            let line = head.lines().next().unwrap_or_default();
            return (line.trim_end_matches(" HTTP/1.1").to_owned(), body.to_owned());
        }
    }
}
