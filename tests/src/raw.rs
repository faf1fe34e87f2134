//! A link's raw door: frames leave as they are given, whatever the namespace's own stack would say,
//! and all that passes is heard.

use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, MultiHeaders, SockFlag, SockProtocol, SockType,
    SockaddrStorage, bind, recv, send, sendmmsg, sendto, socket,
};

use crate::{Netns, eventually};

const FRAME_LEN_MAX: usize = 1 << 17;
const HEARD_WITHIN: Duration = Duration::from_secs(20);

/// A sender on one link.
pub struct RawLink {
    socket: OwnedFd,
}

impl RawLink {
    /// Opens a link of a namespace. It receives nothing.
    pub fn open(netns: &Netns, link: &str) -> Result<Self> {
        netns.run(|| {
            let socket =
                socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
            bind(socket.as_raw_fd(), &link_address(link)?)?;
            Ok(Self { socket })
        })
    }

    /// Sends all frames, in their order.
    pub fn send(&self, frames: &[Vec<u8>]) -> Result<()> {
        let mut rest = frames;
        while !rest.is_empty() {
            let slices: Vec<_> = rest.iter().map(|frame| [IoSlice::new(frame)]).collect();
            let nowhere: Vec<Option<LinkAddr>> = vec![None; rest.len()];
            let mut headers = MultiHeaders::preallocate(rest.len(), None);
            let fd = self.socket.as_raw_fd();
            let sent =
                sendmmsg(fd, &mut headers, &slices, &nowhere, [], MsgFlags::empty())?.count();
            ensure!(sent > 0, "the link takes no frame");
            rest = &rest[sent..];
        }
        Ok(())
    }
}

/// A listener on one link.
pub struct Ear {
    socket: OwnedFd,
}

impl Ear {
    /// Listens on a link of a namespace from now on.
    pub fn open(netns: &Netns, link: &str) -> Result<Self> {
        netns.run(|| {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let all = SockProtocol::EthAll;
            let ear = Self { socket: socket(AddressFamily::Packet, SockType::Raw, flags, all)? };
            bind(ear.socket.as_raw_fd(), &link_address(link)?)?;
            // Until it was bound it heard every link.
            ear.heard()?;
            Ok(ear)
        })
    }

    /// The frames that have passed since they were last asked for, in their order, both ways.
    pub fn heard(&self) -> Result<Vec<Vec<u8>>> {
        let mut heard = Vec::new();
        let mut frame = vec![0; FRAME_LEN_MAX];
        loop {
            match recv(self.socket.as_raw_fd(), &mut frame, MsgFlags::empty()) {
                Ok(len) => heard.push(frame[..len].to_vec()),
                Err(Errno::EAGAIN) => return Ok(heard),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// As `heard`, once a frame that has `text` in it is among them.
    pub fn heard_until(&self, text: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut heard = Vec::new();
        eventually("a frame with a certain text", HEARD_WITHIN, || {
            heard.extend(self.heard()?);
            Ok(heard.iter().any(|frame| has(frame, text)).then_some(()))
        })?;
        Ok(heard)
    }
}

/// Whether a frame has a text in it.
pub fn has(frame: &[u8], text: &[u8]) -> bool {
    frame.windows(text.len()).any(|window| window == text)
}

/// The MAC of a link of a namespace.
pub fn mac(netns: &Netns, link: &str) -> Result<[u8; 6]> {
    netns.run(|| link_address(link)?.addr().context("a link without a MAC"))
}

/// Sends an IP packet as it is by the namespace's routes: also by a link without a MAC.
pub fn send_packet(netns: &Netns, to: IpAddr, packet: &[u8]) -> Result<()> {
    netns.run(|| {
        let family = if to.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
        let protocol = SockProtocol::Raw;
        let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        let to = SockaddrStorage::from(SocketAddr::new(to, 0));
        sendto(socket.as_raw_fd(), packet, &to, MsgFlags::empty())?;
        Ok(())
    })
}

/// Says how long super-packets may be that leave by a link, in both families. The `ip` of Debian 12
/// knows the bound of IPv6 alone.
pub fn bound_super_packets(netns: &Netns, link: &str, len: u32) -> Result<()> {
    const GSO_MAX_SIZE: u16 = 41;
    const GSO_IPV4_MAX_SIZE: u16 = 63;
    netns.run(|| {
        let attribute = |kind: u16| [&[8, 0], &kind.to_ne_bytes()[..], &len.to_ne_bytes()].concat();
        // A `struct ifinfomsg` that names the link alone.
        let mut body = vec![0; 16];
        body[4..8].copy_from_slice(&if_nametoindex(link)?.to_ne_bytes());
        body.extend([GSO_MAX_SIZE, GSO_IPV4_MAX_SIZE].into_iter().flat_map(attribute));
        change_link(&body)
    })
}

/// One request to the kernel's links, and whether it did it.
fn change_link(body: &[u8]) -> Result<()> {
    let (family, protocol) = (AddressFamily::Netlink, SockProtocol::NetlinkRoute);
    let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_ACK)?;
    let head = [libc::RTM_NEWLINK.to_ne_bytes(), flags.to_ne_bytes()].concat();
    let len = u32::try_from(16 + body.len())?.to_ne_bytes();
    let message = [&len, &head[..], &[0; 8], body].concat();
    send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut answer = [0; 128];
    recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // A `struct nlmsgerr` behind the header.
    let code = i32::from_ne_bytes(answer[16..20].try_into()?);
    ensure!(code == 0, "{}", Errno::from_raw(-code));
    Ok(())
}

fn link_address(link: &str) -> Result<LinkAddr> {
    let mut held = getifaddrs()?.filter(|it| it.interface_name == link);
    let found = held.find_map(|it| it.address?.as_link_addr().copied());
    found.with_context(|| format!("no link {link}"))
}
