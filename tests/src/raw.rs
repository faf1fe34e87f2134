//! A link's raw door: frames leave as they are given, whatever the namespace's own stack would say.

use std::io::IoSlice;
use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context, Result, ensure};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, MultiHeaders, SockFlag, SockType, bind, sendmmsg, socket,
};

use crate::Netns;

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

/// The MAC of a link of a namespace.
pub fn mac(netns: &Netns, link: &str) -> Result<[u8; 6]> {
    netns.run(|| link_address(link)?.addr().context("a link without a MAC"))
}

fn link_address(link: &str) -> Result<LinkAddr> {
    let mut held = getifaddrs()?.filter(|it| it.interface_name == link);
    let found = held.find_map(|it| it.address?.as_link_addr().copied());
    found.with_context(|| format!("no link {link}"))
}
