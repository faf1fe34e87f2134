//! The one mutator: every change of state is a `Command` that goes through here.
//!
//! Laws: one task owns the model and the reconciler; a command is answered only after the kernel holds
//! its change and the store has it, or after neither does; what background work can't mend is told in
//! the view, never only in the log.

mod circumstances;
mod compilation;
mod due;
mod effective;
mod owner;
mod parts;
mod ports;
mod whereabouts;
mod worker;
mod world;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::compile::CompileSettings;
use crate::facts::HostFacts;
use crate::model::{Command, Model, Outcome, Refusal, SandboxId, Settings};
use crate::reconcile::{Applied, Compile, Effects, ReconcileError, Reconciler, Tended};
use crate::roster::{Called, EngineLink, Places};
use crate::store::StoreError;

use compilation::Compilation;

pub use circumstances::{Host, ProcHost};
pub use parts::{Parts, StartError};
pub use worker::Worker;

/// Commands that may wait at once; the next one is told that the daemon is busy.
pub const QUEUE_LEN: usize = 256;

/// The reconciler as the controller sees it.
pub trait Kernel: Send + 'static {
    /// The host as it is now; the same allocation as long as nothing changed.
    fn facts(&mut self) -> impl Future<Output = Result<Arc<HostFacts>, ReconcileError>> + Send;
    /// Makes the kernel match; repeated, it writes nothing.
    fn apply(
        &mut self,
        compile: &dyn Compile,
    ) -> impl Future<Output = Result<Applied, ReconcileError>> + Send;
    /// The same after reading everything back.
    fn verify(
        &mut self,
        compile: &dyn Compile,
    ) -> impl Future<Output = Result<Applied, ReconcileError>> + Send;
    /// The same after reading back what can be read without entering a sandbox.
    fn patrol(
        &mut self,
        compile: &dyn Compile,
    ) -> impl Future<Output = Result<Applied, ReconcileError>> + Send;
    /// Puts back what is nobody's desire but the start's, and tells what runs out.
    fn tend(&mut self) -> impl Future<Output = Tended> + Send;
}

impl<E: Effects + 'static> Kernel for Reconciler<E> {
    async fn facts(&mut self) -> Result<Arc<HostFacts>, ReconcileError> {
        Self::facts(self).await
    }

    async fn apply(&mut self, compile: &dyn Compile) -> Result<Applied, ReconcileError> {
        Self::apply(self, compile).await
    }

    async fn verify(&mut self, compile: &dyn Compile) -> Result<Applied, ReconcileError> {
        Self::verify(self, compile).await
    }

    async fn patrol(&mut self, compile: &dyn Compile) -> Result<Applied, ReconcileError> {
        Self::patrol(self, compile).await
    }

    async fn tend(&mut self) -> Tended {
        Self::tend(self).await
    }
}

/// Who wants to know how the work goes.
pub trait Observer: Send + Sync {
    /// The kernel was brought in line, or was not.
    fn reconciled(&self, took: Duration, succeeded: bool);
    /// Others had changed what is ours, and so many things were put right.
    fn repaired(&self, changes: usize);
    /// A command that made an endpoint was carried out.
    fn endpoint_set_up(&self, took: Duration);
}

/// Numbers of the controller that may differ between hosts and tests.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// How long a request may wait for its change.
    pub deadline: Duration,
    /// How often the kernel is compared in full.
    pub verify_interval: Duration,
    /// First pause before background work that failed is tried again; it doubles up to a minute.
    pub first_retry: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            verify_interval: Duration::from_mins(3),
            first_retry: Duration::from_secs(1),
        }
    }
}

/// Settings that a running controller can change.
#[derive(Clone, Debug)]
pub struct Live {
    /// Settings of the model; the ULA prefix stays the store's.
    pub settings: Settings,
    /// Settings of the compiler.
    pub compile: CompileSettings,
    /// How often the kernel is compared in full.
    pub verify_interval: Duration,
}

/// What everybody may see of the state, as of one moment.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The model, under the names that people use.
    pub called: Called,
    /// Whether a container engine tells names.
    pub engine: EngineLink,
    /// The host as the last apply saw it.
    pub facts: Arc<HostFacts>,
    /// Revision of the model.
    pub revision: u64,
    /// Last revision that the kernel holds completely.
    pub applied_revision: u64,
    /// Sandboxes that don't work as asked for, and why.
    pub failures: BTreeMap<SandboxId, String>,
    /// What else is wrong, each a sentence.
    pub problems: Vec<String>,
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// The user's mistake.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A published port can't be had.
    #[error("{0}")]
    Port(String),
    /// The kernel could not be made to match; the change was taken back.
    #[error("the change could not be applied and was taken back: {0}")]
    Apply(#[from] ReconcileError),
    /// The store could not keep it; the change was taken back.
    #[error("the change was taken back: {0}")]
    Store(#[from] StoreError),
    /// The machine gives no entropy.
    #[error("no random numbers: {0}")]
    Entropy(std::io::Error),
    /// Too many commands wait.
    #[error("too many changes are waiting: try again shortly")]
    Busy,
    /// The deadline passed.
    #[error("the change was not done within {} s: see `netd status`", .0.as_secs())]
    Deadline(Duration),
    /// The daemon is stopping.
    #[error("the daemon is stopping: try again when it runs")]
    Stopping,
}

/// A handle to the one mutator. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Controller {
    requests: mpsc::Sender<Request>,
    view: Arc<ArcSwap<View>>,
    settings: Arc<Settings>,
    live: Arc<watch::Sender<Option<Live>>>,
    deadline: Duration,
}

/// A command on its way.
#[derive(Debug)]
struct Request {
    command: Command,
    deadline: Instant,
    unheard: Unheard,
    answer: oneshot::Sender<Result<Outcome, ControllerError>>,
}

/// What becomes of a change whose asker has gone before the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unheard {
    /// It holds.
    Holds,
    /// It is undone: the asker counts it as failed.
    IsTakenBack,
}

impl Controller {
    /// Carries a command out: on return it holds in kernel and store, or nothing of it is left.
    pub async fn execute(&self, command: Command) -> Result<Outcome, ControllerError> {
        self.execute_within(command, self.deadline, Unheard::Holds).await
    }

    /// The same within a time of the asker's.
    pub async fn execute_within(
        &self,
        command: Command,
        limit: Duration,
        unheard: Unheard,
    ) -> Result<Outcome, ControllerError> {
        let (answer, answered) = oneshot::channel();
        let deadline = Instant::now() + limit;
        let request = Request { command, deadline, unheard, answer };
        self.requests.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ControllerError::Busy,
            mpsc::error::TrySendError::Closed(_) => ControllerError::Stopping,
        })?;
        match tokio::time::timeout_at(deadline, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(ControllerError::Stopping),
            Err(_) => Err(ControllerError::Deadline(limit)),
        }
    }

    /// The state as of now.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// The model as of now, under the names that people use.
    pub fn model(&self) -> Arc<Model> {
        Arc::clone(&self.view.load().called.model)
    }

    /// From the next command on other settings hold; the kernel follows at once.
    pub fn reload(&self, live: Live) {
        self.live.send_replace(Some(live));
    }

    /// The settings that the model obeyed at start.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

/// What a compile needs beside the model; its own type so that the worker can hand it on.
#[derive(Clone, Debug)]
struct Compiler {
    settings: CompileSettings,
}

impl Compiler {
    /// `places` tells where engines' sandboxes can be entered.
    fn of(&self, model: Arc<Model>, places: Places) -> Compilation {
        Compilation { model, places, settings: self.settings.clone() }
    }
}

/// Waits for the word to stop, or until nobody can give it any more.
pub async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Fires when the host changed; the value counts changes.
pub type HostChanges = watch::Receiver<u64>;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
