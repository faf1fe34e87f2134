//! The harness's server and client as a program, to be run where no thread of a test can be: as a
//! sandbox's own process. `wire serve PORT…` serves TCP and UDP on both families until it is ended;
//! `wire tcp|udp ADDRESS TEXT` asks once and prints `seen as …, answered from …`; `wire keep ADDRESS`
//! and `wire stay-udp|stay-tcp ADDRESS` keep asking from one socket, which stays connected or not;
//! `wire peer-udp|peer-tcp ADDRESS` asks from a connected socket and prints the peer it names;
//! `wire from SOURCE tcp|udp ADDRESS` asks from a socket that is bound to an address.

use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use netd_tests::wire::{ANSWER_DEADLINE, Answer, ask_tcp, ask_udp, serve_tcp, serve_udp};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind as bind_to, connect, socket,
};

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
        ["keep", target] => keep(target.parse()?),
        ["stay-udp", target] => stay_udp(target.parse()?),
        ["stay-tcp", target] => stay_tcp(target.parse()?),
        ["from", source, way, target] => from(source.parse()?, way, target.parse()?),
        ["peer-udp", target] => peer_udp(target.parse()?),
        ["peer-tcp", target] => {
            println!("peer {}", TcpStream::connect(target)?.peer_addr()?);
            Ok(())
        }
        _ => {
            bail!(
                "usage: wire serve PORT… | tcp|udp ADDRESS TEXT | \
                 keep|stay-udp|stay-tcp|peer-udp|peer-tcp ADDRESS | from SOURCE tcp|udp ADDRESS"
            )
        }
    }
}

fn say(answer: &Answer) {
    println!("seen as {}, answered from {}", answer.seen_as, answer.from);
}

const BETWEEN_QUESTIONS: Duration = Duration::from_millis(50);

fn udp_socket(target: SocketAddr) -> Result<UdpSocket> {
    let any = match target {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(BETWEEN_QUESTIONS))?;
    Ok(socket)
}

/// Names the target with each datagram, until the program is ended.
fn keep(target: SocketAddr) -> Result<()> {
    let socket = udp_socket(target)?;
    for number in 0u32.. {
        let asked = socket.send_to(b"again", target).and_then(|_| socket.recv_from(&mut [0; 128]));
        println!("{} {number}", if asked.is_ok() { "answered" } else { "silence" });
        thread::sleep(BETWEEN_QUESTIONS);
    }
    Ok(())
}

/// Connects once, and asks until the socket says that it has ended.
fn stay_udp(target: SocketAddr) -> Result<()> {
    let socket = udp_socket(target)?;
    socket.connect(target)?;
    for number in 0u32.. {
        match socket.send(b"again").and_then(|_| socket.recv(&mut [0; 128])) {
            Ok(_) => println!("answered {number}"),
            Err(error) if has_ended(&error) => break,
            Err(error) => println!("silence {number}: {error}"),
        }
        thread::sleep(BETWEEN_QUESTIONS);
    }
    println!("ended");
    Ok(())
}

/// Binds, asks and says who answered.
fn from(source: IpAddr, way: &str, target: SocketAddr) -> Result<()> {
    let from = if way == "udp" {
        let socket = UdpSocket::bind((source, 0))?;
        socket.set_read_timeout(Some(ANSWER_DEADLINE))?;
        socket.send_to(b"who?", target)?;
        socket.recv_from(&mut [0; 128])?.1
    } else {
        let v4 = source.is_ipv4();
        let family = if v4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        bind_to(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(source, 0)))?;
        connect(socket.as_raw_fd(), &SockaddrStorage::from(target))?;
        TcpStream::from(socket).peer_addr()?
    };
    println!("answered from {from}");
    Ok(())
}

/// Connects, asks, takes an answer from nobody else, and says who that was.
fn peer_udp(target: SocketAddr) -> Result<()> {
    let socket = udp_socket(target)?;
    socket.set_read_timeout(Some(ANSWER_DEADLINE))?;
    socket.connect(target)?;
    socket.send(b"who?")?;
    socket.recv(&mut [0; 128])?;
    println!("peer {}", socket.peer_addr()?);
    Ok(())
}

/// The socket says so once; after that it has no peer.
fn has_ended(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::ConnectionAborted
        || error.raw_os_error() == Some(nix::errno::Errno::EDESTADDRREQ as i32)
}

/// Connects once, and waits for the end of the connection.
fn stay_tcp(target: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(target)?;
    println!("answered 0");
    match stream.read(&mut [0]) {
        Err(error) if error.kind() == ErrorKind::ConnectionAborted => println!("ended"),
        other => println!("{other:?}"),
    }
    Ok(())
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
