//! What the reconciler can do to a kernel: the seam between its order and the system.
//!
//! Law: every method is one step that can fail alone; a method that finds its work done already
//! succeeds without writing. Counters and the
//! ending of sockets are a courtesy to their readers and owners, and nothing fails for them.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use netd_common::Hook;
use netd_common::map::MapSpec;

use super::ReconcileError;
use crate::dataplane::retire::Living;
use crate::desired::files::SandboxFiles;
use crate::desired::{Desired, HeldPort, Link, Tables};
use crate::facts::HostFacts;
use crate::model::{LinkName, NetnsPath, SandboxId};

/// What is in the kernel of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Links that carry our mark. None where a link is too broken to be changed in place.
    pub links: BTreeMap<LinkName, Option<Link>>,
    /// Those of them that are up.
    pub up: BTreeSet<LinkName>,
    /// Namespaces of ours that exist.
    pub namespaces: BTreeSet<NetnsPath>,
    /// Sandboxes in which name queries are answered.
    pub resolvers: BTreeSet<SandboxId>,
    /// Files of sandboxes, with what they are made of where that is known.
    pub files: BTreeMap<SandboxId, Option<SandboxFiles>>,
    /// Attached programs.
    pub programs: BTreeSet<(LinkName, Hook)>,
    /// Map entries; unused slots of arrays left out.
    pub tables: Tables,
    /// Ports held.
    pub held_ports: BTreeSet<HeldPort>,
    /// Whether links still run the programs of an earlier layout or size of the maps.
    pub heritage: bool,
}

/// Entries of one map as bytes: `count` keys and, where they are written, as many values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// Keys, one after the other.
    pub keys: Vec<u8>,
    /// Values, one after the other; empty for deletions.
    pub values: Vec<u8>,
    /// How many.
    pub count: usize,
}

/// What a look at what the start has made came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tended {
    /// Things put back.
    pub mended: usize,
    /// What could not be, and what is about to run out, each a sentence.
    pub problems: Vec<String>,
}

/// What an effect comes to.
pub type Outcome<T> = Result<T, ReconcileError>;

/// A kernel.
pub trait Effects: Send {
    /// The host as it is now; the same allocation as long as nothing changed.
    fn facts(&mut self) -> impl Future<Output = Outcome<Arc<HostFacts>>> + Send;
    /// Reads back what is ours. The inside of links in `trusted` is taken as it stands there, as long
    /// as the link itself is still the same.
    fn observe(
        &mut self,
        desired: &Desired,
        trusted: &BTreeMap<LinkName, Link>,
    ) -> impl Future<Output = Outcome<Observed>> + Send;
    /// Links whose sandboxes have lost something, as they are now; none where they can't be changed into
    /// what is desired.
    fn strayed(
        &mut self,
        desired: &Desired,
    ) -> impl Future<Output = Outcome<BTreeMap<LinkName, Option<Link>>>> + Send;
    /// Puts back what the start has made and no desired state tells of: socket hooks, pins of maps,
    /// reserved ports.
    fn tend(&mut self) -> impl Future<Output = Tended> + Send;
    /// Creates a namespace mounted at `path`.
    fn create_namespace(&mut self, path: &Path) -> impl Future<Output = Outcome<()>> + Send;
    /// Removes it; what still runs in it keeps it alive, without a name.
    fn delete_namespace(&mut self, path: &Path) -> impl Future<Output = Outcome<()>> + Send;
    /// Opens the sockets that answer name queries in a sandbox's namespace, and leads queries there.
    fn open_resolver(
        &mut self,
        sandbox: SandboxId,
        netns: &Path,
    ) -> impl Future<Output = Outcome<()>> + Send;
    /// Closes them.
    fn close_resolver(&mut self, sandbox: SandboxId) -> impl Future<Output = Outcome<()>> + Send;
    /// Forgets those that an earlier run left and that were not opened again.
    fn sweep_resolvers(&mut self) -> impl Future<Output = Outcome<()>> + Send;
    /// Writes the files of a sandbox; what was edited stays.
    fn write_files(&mut self, files: &SandboxFiles) -> impl Future<Output = Outcome<()>> + Send;
    /// Removes them.
    fn remove_files(&mut self, sandbox: SandboxId) -> impl Future<Output = Outcome<()>> + Send;
    /// Creates a link with everything in it; the host's end stays down.
    fn create_link(&mut self, name: &str, link: &Link) -> impl Future<Output = Outcome<()>> + Send;
    /// Changes MTU, addresses, routes and families in place.
    fn change_link(
        &mut self,
        name: &str,
        from: &Link,
        to: &Link,
    ) -> impl Future<Output = Outcome<()>> + Send;
    /// Raises the host's end.
    fn raise_link(&mut self, name: &str) -> impl Future<Output = Outcome<()>> + Send;
    /// Deletes a link with both ends.
    fn delete_link(&mut self, name: &str) -> impl Future<Output = Outcome<()>> + Send;
    /// Attaches the program of a hook to a link.
    fn attach(&mut self, link: &str, hook: Hook) -> impl Future<Output = Outcome<()>> + Send;
    /// Detaches it; a link that is gone needs nothing.
    fn detach(&mut self, link: &str, hook: Hook) -> impl Future<Output = Outcome<()>> + Send;
    /// Puts this version's programs in the place of an earlier layout's, and takes over its flows. The
    /// tables must be written: from here on they are what packets meet.
    fn inherit(&mut self) -> impl Future<Output = Outcome<BTreeSet<(LinkName, Hook)>>> + Send;
    /// Writes entries.
    fn put(&mut self, map: MapSpec, entries: &Entries) -> impl Future<Output = Outcome<()>> + Send;
    /// Deletes entries; those that are gone need nothing. In an array the slot becomes all zero.
    fn delete(
        &mut self,
        map: MapSpec,
        entries: &Entries,
    ) -> impl Future<Output = Outcome<()>> + Send;
    /// Lets counters follow what has gone since `before`.
    fn retire(&mut self, before: &Living, now: &Living) -> impl Future<Output = ()> + Send;
    /// Ends the host's sockets that are connected to one of these addresses.
    fn end_sockets(&mut self, peers: BTreeSet<IpAddr>) -> impl Future<Output = ()> + Send;
    /// Binds a port.
    fn hold(&mut self, port: HeldPort) -> impl Future<Output = Outcome<()>> + Send;
    /// Lets go of it.
    fn release(&mut self, port: HeldPort) -> impl Future<Output = Outcome<()>> + Send;
}
