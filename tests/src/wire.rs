//! Real sockets that say what they saw: a server answers each request with the address the request
//! came from, as it saw it, and the client says which address the answer came from.

mod ask;
mod serve;

pub use ask::{ask_tcp, ask_udp, connect_from, tcp_request, udp_request};
pub use serve::{Server, serve_tcp, serve_udp, tcp_echo_server, udp_echo_server};

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};

/// No answer takes longer where there is one.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(3);

/// What a request met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The client's address, as the server saw it.
    pub seen_as: SocketAddr,
    /// Where the answer came from, as the client saw it.
    pub from: SocketAddr,
    /// The port that the client asked from.
    pub own_port: u16,
    /// What the server echoed.
    pub echo: Vec<u8>,
}

/// The server's answer: a line with the peer's address, then the request.
fn encode(peer: SocketAddr, request: &[u8]) -> Vec<u8> {
    [format!("{}\n", canonical(peer)).as_bytes(), request].concat()
}

fn decode((own, from): (SocketAddr, SocketAddr), answer: &[u8]) -> Result<Answer> {
    let text =
        answer.iter().position(|&byte| byte == b'\n').context("an answer without an address")?;
    let seen_as = std::str::from_utf8(&answer[..text])?.parse()?;
    let echo = answer[text + 1..].to_vec();
    Ok(Answer { seen_as, from: canonical(from), own_port: own.port(), echo })
}

/// An IPv4 address is one, also on a socket that serves both families.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_is_read_back_as_it_was_written() {
        let peer: SocketAddr = "[::ffff:10.0.0.1]:4".parse().unwrap();
        let from = "10.0.0.2:80".parse().unwrap();
        let answer = decode((peer, from), &encode(peer, b"a\nb")).unwrap();
        assert_eq!(answer.own_port, 4);
        assert_eq!(answer.seen_as, "10.0.0.1:4".parse().unwrap());
        assert_eq!((answer.from, answer.echo), (from, b"a\nb".to_vec()));
    }
}
