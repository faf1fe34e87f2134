//! What ends without anybody asking: owners that exit, sandboxes that an engine lost, changes whose
//! asker has gone.
//!
//! Law: an end goes through the model like a command, so kernel and store follow.

use std::sync::Arc;

use super::{Depth, Worker};
use crate::controller::owner::Departed;
use crate::controller::{Host, Kernel, world};
use crate::model::{Command, EngineCommand, Model, SandboxId};
use crate::store::Store;

impl<K: Kernel, S: Store, H: Host> Worker<K, S, H> {
    /// After changes of the host.
    pub(super) async fn settle(&mut self) {
        self.bury().await;
        self.converge(Depth::Changes).await;
    }

    /// Removes endpoints whose sandbox an engine has ended without a word.
    async fn bury(&mut self) {
        let Ok(facts) = self.kernel.facts().await else { return };
        let departed = world::departed(&self.state.model, &facts);
        if departed.is_empty() {
            return;
        }
        tracing::info!(count = departed.len(), "endpoints ended without a word, removing them");
        if let Err(error) = self.execute(Command::Engine(Box::new(EngineCommand::Bury))).await {
            tracing::warn!(%error, "endpoints that ended stay for now");
            self.due.try_again();
        }
    }

    /// Undoes a change that nobody has heard of and nobody will take back.
    pub(super) async fn take_back(&mut self, before: Arc<Model>) {
        tracing::warn!("the asker has gone before the answer, taking the change back");
        self.state.left_out.look_for_links(&before, &self.state.facts);
        let undone = self.reconcile(&before, Depth::Changes).await;
        if let Err(error) = self.keep(before).await {
            tracing::error!(%error, "a change could not be taken back");
        }
        if undone.is_err() {
            self.state.dirty = true;
            self.due.try_again();
        }
    }

    pub(super) async fn retry(&mut self) {
        self.due.retry = None;
        self.bury().await;
        self.converge(Depth::Changes).await;
        for sandbox in world::orphans(&self.state.model) {
            self.remove(sandbox).await;
        }
    }

    pub(super) async fn remove_departed(&mut self, (id, process): Departed) {
        let owner = self.state.model.sandboxes.get(&id).and_then(|sandbox| sandbox.owner);
        if owner == Some(process) {
            self.remove(id).await;
        }
    }

    async fn remove(&mut self, id: SandboxId) {
        tracing::info!(sandbox = %id, "the owner of a sandbox is gone, removing it");
        let removal = Command::RemoveSandbox { sandbox: id.to_string() };
        if let Err(error) = self.execute(removal).await {
            tracing::warn!(sandbox = %id, %error, "the sandbox stays for now");
            self.due.try_again();
        }
    }
}
