//! The harness's server and client as a program, to be run where no thread of a test can be: as a
//! sandbox's own process. `wire serve PORT…` serves TCP and UDP on both families until it is ended;
//! `wire tcp|udp ADDRESS TEXT` asks once and prints `seen as …, answered from …`.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::thread;

use anyhow::{Context, Result, bail};
use netd_tests::wire::{Answer, ask_tcp, ask_udp, serve_tcp, serve_udp};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["serve", ref ports @ ..] if !ports.is_empty() => serve(ports),
        ["tcp", target, text] => {
            say(&ask_tcp(target.parse()?, text.as_bytes())?);
            Ok(())
        }
        ["udp", target, text] => {
            say(&ask_udp(target.parse()?, text.as_bytes())?);
            Ok(())
        }
        _ => bail!("usage: wire serve PORT… | wire tcp|udp ADDRESS TEXT"),
    }
}

fn say(answer: &Answer) {
    println!("seen as {}, answered from {}", answer.seen_as, answer.from);
}

/// Every port, both protocols, until the program is ended.
fn serve(ports: &[&str]) -> Result<()> {
    // Never closed: whoever started this program ends it.
    let (_running, stop) = UnixStream::pair()?;
    thread::scope(|scope| {
        for port in ports {
            let (listener, socket) = bind(port.parse().with_context(|| format!("port {port}"))?)?;
            let (for_tcp, for_udp) = (stop.try_clone()?, stop.try_clone()?);
            scope.spawn(move || serve_tcp(&listener, &for_tcp));
            scope.spawn(move || serve_udp(&socket, &for_udp));
        }
        println!("serving {}", ports.join(" "));
        Ok(())
    })
}

/// One socket serves both families; where IPv6 is off, IPv4 alone.
fn bind(port: u16) -> Result<(TcpListener, UdpSocket)> {
    let addresses =
        [SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), (Ipv4Addr::UNSPECIFIED, port).into()];
    Ok((TcpListener::bind(&addresses[..])?, UdpSocket::bind(&addresses[..])?))
}
