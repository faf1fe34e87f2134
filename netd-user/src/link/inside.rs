//! Hears what is taken away inside sandboxes: one socket for all of them, which the kernel tells of every
//! namespace that a link of this one leads into (`NETLINK_LISTEN_ALL_NSID`).
//!
//! Laws: only losses are noted, an address, a route or a link that goes or goes down, so that what we make
//! ourselves is no news; a message that was lost is made good by the next full look.

use std::collections::BTreeSet;
use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, NetlinkAddr, recvmsg};
use rtnetlink::sys::Socket;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::LinkError;
use super::listener;
use super::netlink::netlink_error;

/// Several messages share a datagram.
const DATAGRAM_LEN: usize = 32 << 10;
/// `struct nlmsghdr`.
const HEADER_LEN: usize = 16;
/// `struct ifinfomsg`.
const LINK_LEN: usize = 16;

/// The ear, and what it has heard.
#[derive(Debug)]
pub(super) struct Inside {
    heard: Arc<Heard>,
    task: JoinHandle<()>,
}

/// Namespaces that lost something, by the number that this one knows them under.
#[derive(Debug, Default)]
pub(super) struct Heard {
    namespaces: Mutex<BTreeSet<i32>>,
    news: Notify,
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Inside {
    /// Listens from now on.
    pub(super) fn listen() -> Result<Self, LinkError> {
        let failed = |source| netlink_error("listen to", "sandboxes", source);
        let socket = listener::open()?;
        socket.set_listen_all_namespaces(true).map_err(failed)?;
        // SAFETY: the socket owns its descriptor, and nothing takes it out of the `AsyncFd`.
        let socket = unsafe { AsyncFd::register(socket) };
        let socket = socket.map_err(|error| failed(error.into()))?;
        let heard = Arc::<Heard>::default();
        let task = tokio::spawn(listen(socket, Arc::clone(&heard)));
        Ok(Self { heard, task })
    }

    /// What has been heard, to be waited for.
    pub(super) fn heard(&self) -> Arc<Heard> {
        Arc::clone(&self.heard)
    }
}

impl Heard {
    /// Namespaces that lost something since the last time.
    pub(super) fn take(&self) -> BTreeSet<i32> {
        std::mem::take(&mut *self.lock())
    }

    /// These are still to be looked at.
    pub(super) fn note(&self, namespaces: BTreeSet<i32>) {
        if !namespaces.is_empty() {
            self.lock().extend(namespaces);
            self.news.notify_one();
        }
    }

    /// Waits until something is heard.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<i32>> {
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn listen(socket: AsyncFd<Socket>, heard: Arc<Heard>) {
    loop {
        let Ok(mut ready) = socket.readable().await else { return };
        match drain(socket.get_ref()) {
            Ok(namespaces) => heard.note(namespaces),
            Err(error) => tracing::debug!(%error, "messages of sandboxes were lost"),
        }
        ready.clear_ready();
    }
}

/// Takes everything out of the queue.
fn drain(socket: &Socket) -> io::Result<BTreeSet<i32>> {
    let mut namespaces = BTreeSet::new();
    let mut datagram = vec![0; DATAGRAM_LEN];
    loop {
        match receive(socket, &mut datagram) {
            Ok((len, Some(namespace))) if tells_loss(&datagram[..len]) => {
                namespaces.insert(namespace);
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(namespaces),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// A datagram and the namespace that it came from, unless that is ours.
fn receive(socket: &Socket, datagram: &mut [u8]) -> nix::Result<(usize, Option<i32>)> {
    let mut control = nix::cmsg_space!(i32);
    let mut parts = [IoSliceMut::new(datagram)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let message =
        recvmsg::<NetlinkAddr>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    let namespace = message.cmsgs()?.find_map(|control| number_in(&control));
    Ok((message.bytes, namespace))
}

/// The number that the kernel adds to messages of other namespaces.
fn number_in(control: &ControlMessageOwned) -> Option<i32> {
    let ControlMessageOwned::Unknown(control) = control else { return None };
    let header = control.cmsg_header;
    let is_number =
        header.cmsg_level == libc::SOL_NETLINK && header.cmsg_type == libc::NETLINK_LISTEN_ALL_NSID;
    let bytes = control.data_bytes.first_chunk().filter(|_| is_number);
    bytes.map(|bytes| i32::from_ne_bytes(*bytes))
}

/// Whether any message of a datagram tells that something went.
fn tells_loss(mut datagram: &[u8]) -> bool {
    while let Some(len) = word(datagram, 0).map(|len| len as usize) {
        let message = &datagram[..len.min(datagram.len())];
        if len < HEADER_LEN || is_loss(message) {
            return len >= HEADER_LEN;
        }
        datagram = datagram.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

fn is_loss(message: &[u8]) -> bool {
    let Some(kind) = message.get(4..6).map(|bytes| u16::from_ne_bytes([bytes[0], bytes[1]])) else {
        return false;
    };
    match kind {
        libc::RTM_DELLINK | libc::RTM_DELADDR | libc::RTM_DELROUTE => true,
        libc::RTM_NEWLINK => message.get(HEADER_LEN..).is_some_and(goes_down),
        _ => false,
    }
}

/// Whether a link has just gone down. One that is new has all flags changed.
fn goes_down(link: &[u8]) -> bool {
    let (Some(flags), Some(changed)) = (word(link, 8), word(link, 12)) else { return false };
    let up = libc::IFF_UP.cast_unsigned();
    link.len() >= LINK_LEN && flags & up == 0 && changed & up != 0 && changed != u32::MAX
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u32, changed: u32) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_LEN + LINK_LEN];
        bytes[..4].copy_from_slice(&32u32.to_ne_bytes());
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[24..28].copy_from_slice(&flags.to_ne_bytes());
        bytes[28..32].copy_from_slice(&changed.to_ne_bytes());
        bytes
    }

    const UP: u32 = libc::IFF_UP.cast_unsigned();

    #[test]
    fn what_goes_or_goes_down_is_a_loss() {
        for kind in [libc::RTM_DELLINK, libc::RTM_DELADDR, libc::RTM_DELROUTE] {
            assert!(tells_loss(&message(kind, UP, 0)), "{kind}");
        }
        assert!(tells_loss(&message(libc::RTM_NEWLINK, 0, UP)));
        let second = [message(libc::RTM_NEWADDR, 0, 0), message(libc::RTM_DELADDR, 0, 0)];
        assert!(tells_loss(&second.concat()));
    }

    #[test]
    fn what_comes_or_changes_is_none() {
        assert!(!tells_loss(&message(libc::RTM_NEWLINK, 0, u32::MAX)), "a link is made");
        assert!(!tells_loss(&message(libc::RTM_NEWLINK, UP, UP)), "it comes up");
        assert!(!tells_loss(&message(libc::RTM_NEWLINK, 0, 0)), "it changes while it is down");
        assert!(!tells_loss(&message(libc::RTM_NEWROUTE, 0, 0)));
    }

    #[test]
    fn a_message_that_is_cut_short_tells_nothing() {
        let whole = message(libc::RTM_NEWLINK, 0, UP);
        for len in 0..whole.len() {
            assert!(!tells_loss(&whole[..len]), "{len} bytes");
        }
        assert!(!tells_loss(&[0; 64]), "a length of nothing ends the walk");
    }
}
