//! The host's links: what they are, kept up to date by notifications, and the changes we make.
//!
//! Law: a link is ours if its group is our owner tag; the kernel sets it as it creates the link, so
//! not even a crash leaves one without.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rtnetlink::sys::Socket;

use super::cache::Cache;
use super::inside::Inside;
use super::listener::{self, Heard};
use super::netlink::Netlink;
use super::record::LinkRecord;
use super::{LinkError, facts, gateway, netns, sysctl, veth, watch};
use crate::desired::{Desired, Link};
use crate::facts::HostFacts;
use crate::model::LinkName;

/// The links of the namespace that the daemon runs in.
pub struct HostLinks {
    netlink: Netlink,
    listener: Socket,
    cache: Cache,
    /// None where the kernel does not let us listen: then only full looks find what went inside.
    inside: Option<Inside>,
    owner: u32,
    resolv_conf: PathBuf,
    netns_cookie: u64,
    /// What was told last, while nothing of it has changed.
    told: Option<Arc<HostFacts>>,
}

impl std::fmt::Debug for HostLinks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostLinks").field("owner", &self.owner).finish_non_exhaustive()
    }
}

/// A link of ours as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundLink {
    /// What it is, or none where it is too broken to be changed in place.
    pub link: Option<Link>,
    /// Whether the host's end is up.
    pub up: bool,
}

impl HostLinks {
    /// Reads everything once and listens from then on.
    pub async fn start(owner: u32, resolv_conf: PathBuf) -> Result<Self, LinkError> {
        let mut links = Self {
            listener: listener::open()?,
            netlink: Netlink::connect()?,
            cache: Cache::default(),
            inside: hear_inside(),
            owner,
            resolv_conf,
            netns_cookie: netns::cookie()?,
            told: None,
        };
        links.read_all().await?;
        Ok(links)
    }

    /// The host as it is now; the same allocation as long as nothing changed.
    pub async fn facts(&mut self) -> Result<Arc<HostFacts>, LinkError> {
        self.catch_up().await?;
        let resolver = facts::resolver(&self.resolv_conf)?;
        if let Some(told) = self.told.as_ref().filter(|told| told.resolver == resolver) {
            return Ok(Arc::clone(told));
        }
        let netns_cookie = self.netns_cookie;
        let facts = HostFacts { resolver, netns_cookie, ..self.cache.facts(self.owner) };
        Ok(Arc::clone(self.told.insert(Arc::new(facts))))
    }

    /// Reads everything again.
    pub async fn read_all(&mut self) -> Result<(), LinkError> {
        // What is queued is older than the dumps.
        listener::drain(&self.listener)?;
        self.told = None;
        self.cache = Cache::of_dumps(
            self.netlink.links().await?,
            &self.netlink.addresses().await?,
            &self.netlink.routes().await?,
        );
        self.catch_up().await
    }

    /// Index of a link, of ours or not.
    pub fn index(&self, name: &str) -> Option<u32> {
        self.cache.link(name).map(|link| link.fact.ifindex.0)
    }

    /// Our links. What is inside those of `trusted` is taken from there.
    pub async fn observe(
        &mut self,
        desired: &Desired,
        trusted: &BTreeMap<LinkName, Link>,
    ) -> Result<BTreeMap<LinkName, FoundLink>, LinkError> {
        self.catch_up().await?;
        let mut found = BTreeMap::new();
        for record in self.cache.links_of_group(self.owner) {
            let expected = desired.links.get(&record.name);
            let trusted = trusted.get(&record.name).filter(|link| is_as_left(record, link));
            let link = match (trusted, expected) {
                (Some(trusted), _) => Some(trusted.clone()),
                (None, Some(expected)) => self.look_into(record, expected).await?,
                (None, None) => None,
            };
            found.insert(record.name.clone(), FoundLink { link, up: record.fact.up });
        }
        Ok(found)
    }

    /// Our links in whose sandboxes something went since the last time, as they are now.
    pub async fn strayed(
        &mut self,
        desired: &Desired,
    ) -> Result<BTreeMap<LinkName, Option<Link>>, LinkError> {
        let Some(heard) = self.inside.as_ref().map(Inside::heard) else {
            return Ok(BTreeMap::new());
        };
        let namespaces = heard.take();
        if namespaces.is_empty() {
            return Ok(BTreeMap::new());
        }
        let found = self.look_into_all(&namespaces, desired).await;
        if found.is_err() {
            heard.note(namespaces);
        }
        found
    }

    async fn look_into_all(
        &mut self,
        namespaces: &BTreeSet<i32>,
        desired: &Desired,
    ) -> Result<BTreeMap<LinkName, Option<Link>>, LinkError> {
        self.catch_up().await?;
        let mut found = BTreeMap::new();
        for record in self.cache.links_of_group(self.owner) {
            let concerned = record.peer_namespace.is_some_and(|it| namespaces.contains(&it));
            if let Some(link) = desired.links.get(&record.name).filter(|_| concerned) {
                found.insert(record.name.clone(), self.look_into(record, link).await?);
            }
        }
        Ok(found)
    }

    /// Fires, coalesced, when links (but ours), addresses or routes changed, or something went inside a
    /// sandbox.
    pub fn watch(&self) -> Result<tokio::sync::watch::Receiver<u64>, LinkError> {
        watch::watch(self.owner, self.inside.as_ref().map(Inside::heard))
    }

    /// Creates a link of ours; the host's end stays down. What fails half-way is deleted again.
    pub async fn create(&mut self, name: &str, link: &Link) -> Result<(), LinkError> {
        let made = match link {
            Link::Gateway(link) => {
                let made = gateway::create(&self.netlink, name, link, self.owner).await;
                made.and(self.read_addresses().await)
            }
            Link::Veth(link) => veth::create(&self.netlink, name, link, self.owner).await,
            Link::Offered(link) => veth::offer(&self.netlink, name, link, self.owner).await,
        };
        if made.is_err() && self.catch_up().await.is_ok() && self.own_index(name).is_ok() {
            self.delete(name).await?;
        }
        made
    }

    /// Changes a link of ours in place.
    pub async fn change(&mut self, name: &str, from: &Link, to: &Link) -> Result<(), LinkError> {
        self.catch_up().await?;
        let place = (name, self.own_index(name)?);
        match (from, to) {
            (Link::Gateway(from), Link::Gateway(to)) => {
                gateway::change(&self.netlink, place, from, to).await?;
                self.read_addresses().await
            }
            (Link::Veth(from), Link::Veth(to)) => {
                veth::change(&self.netlink, place, from, to).await
            }
            // It is the engine's from the moment it was offered.
            (Link::Offered(_), Link::Offered(_)) => Ok(()),
            (Link::Gateway(_) | Link::Offered(_), Link::Veth(_))
            | (Link::Veth(_) | Link::Offered(_), Link::Gateway(_))
            | (Link::Gateway(_) | Link::Veth(_), Link::Offered(_)) => {
                Err(LinkError::Foreign(name.to_owned()))
            }
        }
    }

    /// Raises the host's end of a link of ours.
    pub async fn raise(&mut self, name: &str) -> Result<(), LinkError> {
        self.catch_up().await?;
        let index = self.own_index(name)?;
        self.netlink.raise(name, index).await?;
        let is_gateway = self.cache.link(name).is_some_and(|link| link.fact.kind == "bridge");
        if is_gateway && sysctl::has_ipv6(name) {
            return self.netlink.add_group_route(name, index).await;
        }
        Ok(())
    }

    /// Deletes a link of ours; one that is gone already is no error.
    pub async fn delete(&mut self, name: &str) -> Result<(), LinkError> {
        self.catch_up().await?;
        match self.own_index(name) {
            Ok(index) => self.netlink.delete(name, index).await,
            Err(LinkError::Missing(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn own_index(&self, name: &str) -> Result<u32, LinkError> {
        match self.cache.link(name) {
            Some(link) if link.group == self.owner => Ok(link.fact.ifindex.0),
            Some(_) => Err(LinkError::Foreign(name.to_owned())),
            None => Err(LinkError::Missing(name.to_owned())),
        }
    }

    async fn look_into(
        &self,
        record: &LinkRecord,
        expected: &Link,
    ) -> Result<Option<Link>, LinkError> {
        let fact = &record.fact;
        let index = fact.ifindex.0;
        match expected {
            Link::Gateway(_) if fact.kind == "bridge" => {
                let addresses = self.cache.routed_addresses_of(index);
                let found = gateway::observe(&record.name, (fact.mac, fact.mtu), addresses);
                Ok(Some(Link::Gateway(found)))
            }
            Link::Veth(expected) if fact.kind == "veth" => {
                // An MTU that no link has: its settings are written again.
                let stands = sysctl::stand(&record.name, sysctl::WITHOUT_IPV6);
                let host = (index, if stands { fact.mtu } else { 0 }, record.peer);
                Ok(veth::observe(host, expected).await?.map(Link::Veth))
            }
            // What the engine has made of its end is not ours to judge.
            Link::Offered(_) if fact.kind == "veth" => Ok(Some(expected.clone())),
            Link::Gateway(_) | Link::Veth(_) | Link::Offered(_) => Ok(None),
        }
    }

    /// IPv6 addresses are announced late, by a work queue (`addrconf_dad_work`), but stand in a dump at
    /// once.
    async fn read_addresses(&mut self) -> Result<(), LinkError> {
        self.catch_up().await?;
        self.told = None;
        self.cache.replace_addresses(&self.netlink.addresses().await?);
        Ok(())
    }

    async fn catch_up(&mut self) -> Result<(), LinkError> {
        match listener::drain(&self.listener)? {
            Heard::Messages(messages) => {
                if !messages.is_empty() {
                    self.told = None;
                }
                for message in messages {
                    self.cache.absorb(message);
                }
            }
            Heard::Overrun => return Box::pin(self.read_all()).await,
        }
        if self.cache.routes_stale() {
            self.cache.replace_routes(&self.netlink.routes().await?);
        }
        Ok(())
    }
}

fn hear_inside() -> Option<Inside> {
    let inside = Inside::listen();
    inside.inspect_err(|error| tracing::warn!(%error, "changes inside sandboxes go unheard")).ok()
}

/// Whether the host's end of a link, and the namespace of the other, are as they were left.
fn is_as_left(record: &LinkRecord, link: &Link) -> bool {
    match link {
        Link::Gateway(_) | Link::Offered(_) => true,
        Link::Veth(veth) => {
            veth.mtu == record.fact.mtu
                && netns::exists(&veth.netns)
                && sysctl::stand(&record.name, sysctl::WITHOUT_IPV6)
        }
    }
}

/// The owner tag of a daemon: a link group that only it uses. Two daemons have two state directories.
pub fn owner_tag(state_dir: &Path) -> u32 {
    use std::os::unix::ffi::OsStrExt;
    let fnv = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    let hash = state_dir.as_os_str().as_bytes().iter().fold(0x811c_9dc5, fnv);
    // iproute2 reads groups as signed numbers; low ones are people's own.
    hash & 0x3fff_ffff | 0x4000_0000
}
