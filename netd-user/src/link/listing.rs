//! The kernel's listings: every link, address or route of a namespace.
//!
//! Law: where the kernel says of a part that things changed while it was read (`NLM_F_DUMP_INTR`), what
//! was there all the time may be absent, and the listing is asked for again; a few times.

use futures_util::StreamExt as _;
use rtnetlink::packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::{Error, Handle};

/// How often it is asked for. The routes of a large router never stand still as long as reading them
/// takes: then the last listing has to do.
const TRIES: usize = 8;

/// One part of a kind of thing.
type Part = NetlinkMessage<RouteNetlinkMessage>;

/// All that answers `question`, as far as `pick` wants it.
///
/// # Errors
/// [`Error::NetlinkError`] with the kernel's number, or what became of the connection.
pub(super) async fn list<T>(
    handle: &Handle,
    question: &RouteNetlinkMessage,
    pick: fn(RouteNetlinkMessage) -> Option<T>,
) -> Result<Vec<T>, Error> {
    let mut listed = ask(handle, question).await?;
    for _ in 1..TRIES {
        if is_whole(&listed) {
            break;
        }
        listed = ask(handle, question).await?;
    }
    if !is_whole(&listed) {
        tracing::debug!(tries = TRIES, "a listing of the kernel's changes faster than it is read");
    }
    listed.into_iter().filter_map(|part| taken(part, pick).transpose()).collect()
}

async fn ask(handle: &Handle, question: &RouteNetlinkMessage) -> Result<Vec<Part>, Error> {
    let mut request = NetlinkMessage::from(question.clone());
    request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    Ok(handle.clone().request(request)?.collect().await)
}

fn is_whole(listed: &[Part]) -> bool {
    listed.iter().all(|part| part.header.flags & NLM_F_DUMP_INTR == 0)
}

fn taken<T>(part: Part, pick: fn(RouteNetlinkMessage) -> Option<T>) -> Result<Option<T>, Error> {
    if let NetlinkPayload::Error(error) = part.payload {
        return Err(Error::NetlinkError(error));
    }
    let told =
        if let NetlinkPayload::InnerMessage(message) = part.payload { pick(message) } else { None };
    Ok(told)
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::link::LinkMessage;

    use super::*;

    fn part(flags: u16) -> Part {
        let mut part = NetlinkMessage::from(RouteNetlinkMessage::NewLink(LinkMessage::default()));
        part.header.flags = flags;
        part
    }

    #[test]
    fn a_listing_that_changed_meanwhile_is_not_whole() {
        assert!(is_whole(&[]));
        assert!(is_whole(&[part(0), part(0)]));
        assert!(!is_whole(&[part(0), part(NLM_F_DUMP_INTR), part(0)]));
    }
}
