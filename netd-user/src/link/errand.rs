//! Sockets made in other namespaces, for those who can't go there themselves.
//!
//! Law: one thread, made for it, goes from namespace to namespace and ends when nobody sends it any
//! more; a socket stays in the namespace that it was made in.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};
use std::thread;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use tokio::sync::oneshot;

/// Sends the thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Errands {
    jobs: mpsc::Sender<Job>,
}

#[derive(Debug)]
struct Job {
    netns: Arc<File>,
    kind: SockType,
    v6: bool,
    answer: oneshot::Sender<io::Result<OwnedFd>>,
}

impl Errands {
    /// Starts the thread.
    pub fn start() -> io::Result<Self> {
        let (jobs, received) = mpsc::channel::<Job>();
        let work = move || {
            for job in received {
                let made = make(&job);
                // Who asked may have given up meanwhile: the socket closes.
                let _ = job.answer.send(made);
            }
        };
        thread::Builder::new().name("errands".to_owned()).spawn(work)?;
        Ok(Self { jobs })
    }

    /// A bound datagram socket of the family of `peer`, not blocking.
    pub async fn udp(&self, netns: &Arc<File>, peer: SocketAddr) -> io::Result<UdpSocket> {
        let socket = UdpSocket::from(self.socket(netns, SockType::Datagram, peer).await?);
        let any: IpAddr = if peer.is_ipv6() {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        };
        bind(&socket, SocketAddr::new(any, 0))?;
        Ok(socket)
    }

    /// A stream socket of the family of `peer`, not connected and not blocking.
    pub async fn tcp(&self, netns: &Arc<File>, peer: SocketAddr) -> io::Result<TcpStream> {
        Ok(TcpStream::from(self.socket(netns, SockType::Stream, peer).await?))
    }

    async fn socket(
        &self,
        netns: &Arc<File>,
        kind: SockType,
        peer: SocketAddr,
    ) -> io::Result<OwnedFd> {
        let (answer, answered) = oneshot::channel();
        let job = Job { netns: Arc::clone(netns), kind, v6: peer.is_ipv6(), answer };
        let gone = || io::Error::other("the thread that makes sockets is gone");
        self.jobs.send(job).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

fn make(job: &Job) -> io::Result<OwnedFd> {
    setns(&*job.netns, CloneFlags::CLONE_NEWNET)?;
    let family = if job.v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(family, job.kind, flags, None)?)
}

fn bind(socket: &UdpSocket, address: SocketAddr) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let address = nix::sys::socket::SockaddrStorage::from(address);
    Ok(nix::sys::socket::bind(socket.as_raw_fd(), &address)?)
}
