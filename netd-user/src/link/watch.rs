//! Tells that the host changed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, Stream, StreamExt};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::route::RouteAttribute;
use tokio::sync::watch::{self, Receiver, Sender};

use super::inside::Heard;
use super::listener::GROUPS;
use super::record::link_of;
use super::{LinkError, netlink};

/// Changes of one cause (a link that comes up with addresses and routes) are told once.
const SETTLE: Duration = Duration::from_millis(100);

type Message = NetlinkMessage<RouteNetlinkMessage>;

/// Fires, coalesced, when links (but those of `owner`), addresses or routes changed, and when something
/// went `inside` a sandbox. The number only grows. Ends when the receiver is dropped.
pub(super) fn watch(owner: u32, inside: Option<Arc<Heard>>) -> Result<Receiver<u64>, LinkError> {
    let (connection, _requests, messages) = rtnetlink::new_multicast_connection(&GROUPS)
        .map_err(|source| netlink::netlink_error("listen to", "changes", source))?;
    let (sender, receiver) = watch::channel(0);
    let own = Own { group: owner, links: BTreeSet::new() };
    let messages = messages.map(|(message, _)| message);
    tokio::spawn(async move {
        tokio::select! {
            () = connection => tracing::error!("changes of the host go unnoticed from now on"),
            () = tell(messages, own, &sender) => {}
            () = tell_inside(inside, &sender) => {}
            () = sender.closed() => {}
        }
    });
    Ok(receiver)
}

async fn tell(messages: impl Stream<Item = Message>, mut own: Own, changes: &Sender<u64>) {
    let mut messages = std::pin::pin!(messages);
    while let Some(message) = messages.next().await {
        if !own.is_others(&message) {
            continue;
        }
        tokio::time::sleep(SETTLE).await;
        while let Some(Some(message)) = messages.next().now_or_never() {
            // Only to learn which links are ours: the change is about to be told.
            own.is_others(&message);
        }
        changes.send_modify(|count| *count += 1);
    }
}

async fn tell_inside(inside: Option<Arc<Heard>>, changes: &Sender<u64>) {
    let Some(inside) = inside else { return std::future::pending().await };
    loop {
        inside.news().await;
        tokio::time::sleep(SETTLE).await;
        changes.send_modify(|count| *count += 1);
    }
}

/// Links of ours, whose changes we make ourselves.
struct Own {
    group: u32,
    links: BTreeSet<u32>,
}

impl Own {
    /// Whether others must have done it. Our links' removal counts: nobody else may remove them.
    fn is_others(&mut self, message: &Message) -> bool {
        let NetlinkPayload::InnerMessage(message) = &message.payload else {
            // Lost some: there may have been others' among them.
            return true;
        };
        if let RouteNetlinkMessage::NewLink(link) = message {
            let is_own = link_of(link.clone()).group == self.group;
            if is_own {
                self.links.insert(link.header.index);
            }
            !is_own
        } else if let RouteNetlinkMessage::DelLink(link) = message {
            self.links.remove(&link.header.index);
            true
        } else if let RouteNetlinkMessage::NewAddress(address)
        | RouteNetlinkMessage::DelAddress(address) = message
        {
            !self.links.contains(&address.header.index)
        } else if let RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) =
            message
        {
            let own_way = |attribute: &RouteAttribute| matches!(attribute, RouteAttribute::Oif(index) if self.links.contains(index));
            !route.attributes.iter().any(own_way)
        } else {
            false
        }
    }
}
