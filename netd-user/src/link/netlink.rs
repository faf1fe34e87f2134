//! Requests to one namespace's route netlink: links, addresses, routes.

use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

use futures_util::TryStreamExt;
use futures_util::stream::FuturesOrdered;
use ipnetwork::IpNetwork;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};
use rtnetlink::packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use rtnetlink::packet_route::route::{
    RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Error, Handle, LinkUnspec, RouteMessageBuilder};
use tokio::task::JoinHandle;

use super::listing::list;
use super::{LinkError, netns};
use crate::desired::Route;
use crate::fault;

/// `IP6_RT_PRIO_ADDRCONF`: what IPv6 routes have that the kernel makes by itself.
const KERNEL_METRIC: u32 = 256;

/// A connection to the route netlink of one namespace.
#[derive(Debug)]
pub(super) struct Netlink {
    handle: Handle,
    connection: JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Netlink {
    /// To the calling thread's namespace.
    pub(super) fn connect() -> Result<Self, LinkError> {
        let (connection, handle, _unasked) = rtnetlink::new_connection()
            .map_err(|source| netlink_error("connect to", "the kernel", source))?;
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }

    /// To the namespace at `path`, where `first` runs before.
    pub(super) async fn connect_in<T: Send + 'static>(
        path: &Path,
        first: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(Self, T), LinkError> {
        netns::visit(path, || {
            let answer = first();
            Ok((Self::connect()?, answer))
        })
        .await?
    }

    /// The link of that name.
    pub(super) async fn link(&self, name: &str) -> Result<Option<LinkMessage>, LinkError> {
        let request = self.handle.link().get().match_name(name).execute();
        match Box::pin(request).try_next().await {
            Err(error) if errno(&error) == Some(libc::ENODEV) => Ok(None),
            other => other.map_err(refused("look up link", name)),
        }
    }

    /// Every link.
    pub(super) async fn links(&self) -> Result<Vec<LinkMessage>, LinkError> {
        let mut question = LinkMessage::default();
        let short = LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]);
        question.attributes.push(short);
        let pick = |message| {
            if let RouteNetlinkMessage::NewLink(link) = message { Some(link) } else { None }
        };
        let listed = list(&self.handle, &RouteNetlinkMessage::GetLink(question), pick).await;
        listed.map_err(refused("list", "links"))
    }

    /// Every address.
    pub(super) async fn addresses(&self) -> Result<Vec<AddressMessage>, LinkError> {
        let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let pick = |message| {
            if let RouteNetlinkMessage::NewAddress(address) = message {
                Some(address)
            } else {
                None
            }
        };
        list(&self.handle, &question, pick).await.map_err(refused("list", "addresses"))
    }

    /// Every route of both families.
    pub(super) async fn routes(&self) -> Result<Vec<RouteMessage>, LinkError> {
        let mut all = self.routes_of(AddressFamily::Inet, "IPv4 routes").await?;
        all.extend(self.routes_of(AddressFamily::Inet6, "IPv6 routes").await?);
        Ok(all)
    }

    async fn routes_of(
        &self,
        family: AddressFamily,
        object: &'static str,
    ) -> Result<Vec<RouteMessage>, LinkError> {
        let mut question = RouteMessage::default();
        question.header.address_family = family;
        let pick = |message| {
            if let RouteNetlinkMessage::NewRoute(route) = message { Some(route) } else { None }
        };
        let listed = list(&self.handle, &RouteNetlinkMessage::GetRoute(question), pick).await;
        listed.map_err(refused("list", object))
    }

    /// Creates a link.
    pub(super) async fn create(&self, name: &str, link: LinkMessage) -> Result<(), LinkError> {
        fault::point();
        self.handle.link().add(link).execute().await.map_err(|error| match errno(&error) {
            Some(libc::EEXIST) => LinkError::Foreign(name.to_owned()),
            _ => refused("create link", name)(error),
        })
    }

    /// Changes a link.
    pub(super) async fn change(&self, name: &str, link: LinkMessage) -> Result<(), LinkError> {
        fault::point();
        self.handle.link().change(link).execute().await.map_err(refused("change link", name))
    }

    /// Raises a link.
    pub(super) async fn raise(&self, name: &str, index: u32) -> Result<(), LinkError> {
        self.change(name, LinkUnspec::new_with_index(index).up().build()).await
    }

    /// Deletes a link; one that is gone already is no error.
    pub(super) async fn delete(&self, name: &str, index: u32) -> Result<(), LinkError> {
        fault::point();
        match self.handle.link().del(index).execute().await {
            Err(error) if errno(&error) == Some(libc::ENODEV) => Ok(()),
            other => other.map_err(refused("delete link", name)),
        }
    }

    /// Adds an address, usable at once.
    pub(super) async fn add_address(&self, index: u32, addr: IpNetwork) -> Result<(), LinkError> {
        fault::point();
        let mut request = self.handle.address().add(index, addr.ip(), addr.prefix()).replace();
        let message = request.message_mut();
        message.header.flags |= AddressHeaderFlags::Nodad;
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        request.execute().await.map_err(refused("add address", addr.to_string()))
    }

    /// Removes an address; one that is gone already is no error.
    pub(super) async fn remove_address(
        &self,
        index: u32,
        addr: IpNetwork,
    ) -> Result<(), LinkError> {
        fault::point();
        let mut message = AddressMessage::default();
        message.header.family = family(addr.ip());
        message.header.prefix_len = addr.prefix();
        message.header.index = index;
        message.attributes.push(AddressAttribute::Local(addr.ip()));
        match self.handle.address().del(message).execute().await {
            Err(error) if errno(&error) == Some(libc::EADDRNOTAVAIL) => Ok(()),
            other => other.map_err(refused("remove address", addr.to_string())),
        }
    }

    /// Adds a route through a link.
    pub(super) async fn add_route(
        &self,
        index: u32,
        route: Route,
        onlink: bool,
    ) -> Result<(), LinkError> {
        fault::point();
        let mut message = route_message(index, route)?;
        if onlink {
            message.header.flags |= RouteFlags::Onlink;
        }
        let request = self.handle.route().add(message).replace();
        request.execute().await.map_err(refused("add route", route.destination.to_string()))
    }

    /// Puts back the route to an address' prefix, as the kernel makes it with the address
    /// (`fib_add_ifaddr`, `addrconf_prefix_route`); one that is there is no error.
    pub(super) async fn add_prefix_route(
        &self,
        index: u32,
        addr: IpNetwork,
    ) -> Result<(), LinkError> {
        fault::point();
        let mut message = route_message(index, Route { destination: addr, via: None })?;
        message.header.protocol = RouteProtocol::Kernel;
        message.attributes.push(match addr.ip() {
            IpAddr::V4(ip) => RouteAttribute::PrefSource(ip.into()),
            IpAddr::V6(_) => RouteAttribute::Priority(KERNEL_METRIC),
        });
        match self.handle.route().add(message).execute().await {
            Err(error) if errno(&error) == Some(libc::EEXIST) => Ok(()),
            other => other.map_err(refused("add the route of", addr.to_string())),
        }
    }

    /// Lets the host's stack hear IPv6 groups on a link that is up: the kernel makes this route by
    /// itself only where there is a carrier (`addrconf_add_mroute`). Its metric is the link's alone: a
    /// route of another link with the same one would be in the way.
    pub(super) async fn add_group_route(&self, name: &str, index: u32) -> Result<(), LinkError> {
        const LOCAL: u32 = libc::RT_TABLE_LOCAL as u32;
        const GROUPS: Ipv6Addr = Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0);
        let message = RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(GROUPS, 8)
            .output_interface(index)
            .table_id(LOCAL)
            .kind(RouteType::Multicast)
            .priority(KERNEL_METRIC + index)
            .build();
        match self.handle.route().add(message).execute().await {
            Err(error) if errno(&error) == Some(libc::EEXIST) => Ok(()),
            other => other.map_err(refused("add the route of groups to", name)),
        }
    }

    /// Removes a route through a link; one that is gone already is no error.
    pub(super) async fn remove_route(&self, index: u32, route: Route) -> Result<(), LinkError> {
        fault::point();
        match self.handle.route().del(route_message(index, route)?).execute().await {
            Err(error) if errno(&error) == Some(libc::ESRCH) => Ok(()),
            other => other.map_err(refused("remove route", route.destination.to_string())),
        }
    }
}

/// Sends all requests, one after the other, then waits for the answers: the kernel carries them out in
/// the order they are sent in, and no answer is waited for in between. The first refusal is the
/// outcome; what was sent after it is carried out all the same.
pub(super) async fn try_in_order<R: Future<Output = Result<(), LinkError>>>(
    requests: impl Iterator<Item = R>,
) -> Result<(), LinkError> {
    // Polled in the order given for the first time, which is when a request is sent.
    let answers = requests.collect::<FuturesOrdered<_>>();
    answers.try_collect().await
}

fn route_message(index: u32, route: Route) -> Result<RouteMessage, LinkError> {
    let invalid = |_| LinkError::Netlink {
        action: "describe route",
        object: route.destination.to_string(),
        source: std::io::ErrorKind::InvalidInput.into(),
    };
    let mut builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(route.destination.network(), route.destination.prefix())
        .map_err(invalid)?
        .output_interface(index);
    if let Some(via) = route.via {
        builder = builder.gateway(via).map_err(invalid)?;
    }
    let mut message = builder.build();
    if route.via.is_none() && route.destination.is_ipv4() {
        message.header.scope = RouteScope::Link;
    }
    Ok(message)
}

fn family(addr: IpAddr) -> AddressFamily {
    if addr.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// The kernel's error number, if it answered at all.
fn errno(error: &Error) -> Option<i32> {
    if let Error::NetlinkError(message) = error { message.to_io().raw_os_error() } else { None }
}

fn refused(action: &'static str, object: impl Into<String>) -> impl FnOnce(Error) -> LinkError {
    let object = object.into();
    move |error| {
        let source = if let Error::NetlinkError(message) = &error {
            message.to_io()
        } else {
            std::io::Error::other(error)
        };
        LinkError::Netlink { action, object, source }
    }
}

pub(super) fn netlink_error(
    action: &'static str,
    object: &str,
    source: std::io::Error,
) -> LinkError {
    LinkError::Netlink { action, object: object.to_owned(), source }
}
