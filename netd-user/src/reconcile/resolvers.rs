//! Which sandboxes' name queries are answered, and on which sockets.
//!
//! Law: an entry of map `resolvers` is written when its sockets stand and deleted before they close;
//! entries of namespaces that are gone are swept once the sandboxes of a new run are known.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytemuck::bytes_of;
use netd_common::Be16;
use netd_common::map::RESOLVERS;
use netd_common::map::resolver::ResolverValue;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::ReconcileError;
use crate::dataplane::Dataplane;
use crate::link::resolver::{self, ResolverNews};
use crate::model::SandboxId;

/// The open ones.
#[derive(Debug, Default)]
pub(super) struct Resolvers {
    open: BTreeMap<SandboxId, Open>,
    earlier: Arc<BTreeMap<u64, u16>>,
    swept: bool,
    news: Option<UnboundedSender<ResolverNews>>,
}

#[derive(Debug)]
struct Open {
    cookie: u64,
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl Resolvers {
    /// Remembers the ports of the last run.
    pub(super) fn start(dataplane: &Dataplane) -> Result<Self, ReconcileError> {
        let entries = dataplane.resolvers()?.into_iter();
        let earlier = entries.map(|(cookie, value)| (cookie, value.port.get())).collect();
        Ok(Self { earlier: Arc::new(earlier), ..Self::default() })
    }

    /// Tells of every sandbox from now on.
    pub(super) fn listen(&mut self) -> UnboundedReceiver<ResolverNews> {
        let (sender, receiver) = unbounded_channel();
        self.news = Some(sender);
        receiver
    }

    /// What is wrong with who answers, as a sentence: told of sandboxes once, and gone.
    pub(super) fn trouble(&self) -> Option<String> {
        let gone = self.news.as_ref().is_some_and(UnboundedSender::is_closed);
        gone.then(|| "names are no longer served: the log says why; restart netd".to_owned())
    }

    /// Those that stand. One whose namespace has been replaced under its name does not.
    pub(super) fn observe(
        &mut self,
        dataplane: &Dataplane,
    ) -> Result<BTreeSet<SandboxId>, ReconcileError> {
        let stale = self.open.iter().filter(|(_, open)| identity(&open.path) != open.identity);
        for sandbox in stale.map(|(sandbox, _)| *sandbox).collect::<Vec<_>>() {
            self.close(dataplane, sandbox)?;
        }
        Ok(self.open.keys().copied().collect())
    }

    /// Once, when all that should be are open: deletes what earlier runs left of namespaces that are
    /// gone.
    pub(super) fn sweep(&mut self, dataplane: &Dataplane) -> Result<(), ReconcileError> {
        if self.swept {
            return Ok(());
        }
        let live: BTreeSet<u64> = self.open.values().map(|open| open.cookie).collect();
        for cookie in dataplane.resolvers()?.keys().filter(|cookie| !live.contains(cookie)) {
            dataplane.delete(&RESOLVERS, bytes_of(cookie))?;
        }
        self.swept = true;
        Ok(())
    }

    /// Opens a sandbox's sockets.
    pub(super) async fn open(
        &mut self,
        dataplane: &Dataplane,
        sandbox: SandboxId,
        path: &Path,
    ) -> Result<(), ReconcileError> {
        if self.open.contains_key(&sandbox) {
            return Ok(());
        }
        let identity = identity(path);
        let sockets = match resolver::open(path, Arc::clone(&self.earlier)).await {
            // It ended meanwhile, and nobody is left to answer.
            Err(_) if identity.is_none() || self::identity(path) != identity => return Ok(()),
            opened => opened?,
        };
        let value = ResolverValue { port: Be16::new(sockets.port), pad: 0 };
        dataplane.put(&RESOLVERS, bytes_of(&sockets.cookie), bytes_of(&value))?;
        let open = Open { cookie: sockets.cookie, path: path.to_owned(), identity };
        self.open.insert(sandbox, open);
        self.tell(ResolverNews::Opened(sandbox, Box::new(sockets)));
        Ok(())
    }

    /// Closes them.
    pub(super) fn close(
        &mut self,
        dataplane: &Dataplane,
        sandbox: SandboxId,
    ) -> Result<(), ReconcileError> {
        let Some(open) = self.open.get(&sandbox) else { return Ok(()) };
        dataplane.delete(&RESOLVERS, bytes_of(&open.cookie))?;
        self.open.remove(&sandbox);
        self.tell(ResolverNews::Closed(sandbox));
        Ok(())
    }

    fn tell(&self, news: ResolverNews) {
        if let Some(listener) = &self.news {
            // Without a listener the sockets close, as when the daemon stops.
            let _ = listener.send(news);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).map(|found| (found.dev(), found.ino())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_is_gone_is_a_trouble() {
        let mut resolvers = Resolvers::default();
        assert_eq!(resolvers.trouble(), None, "nobody has ever listened");
        let news = resolvers.listen();
        assert_eq!(resolvers.trouble(), None);
        drop(news);
        assert!(resolvers.trouble().is_some());
    }
}
