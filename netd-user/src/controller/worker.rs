//! The task that owns the model and the kernel: commands one by one, and the work nobody asked for.

mod ends;
mod live;
mod observed;
mod patrol;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::due::{Due, at};
use super::effective::LeftOut;
use super::owner::{Departed, Owners};
use super::{
    Compiler, Controller, ControllerError, Host, HostChanges, Kernel, Live, Observer, Parts,
    QUEUE_LEN, Request, StartError, Tuning, Unheard, View, circumstances, ports, told_to_stop,
    world,
};
use crate::facts::HostFacts;
use crate::fault;
use crate::model::{Command, Model, Outcome, Proto, Settings};
use crate::reconcile::ReconcileError;
use crate::store::{Change, Memory, Store, StoreError};
use live::Turns;
use observed::Observed;

/// How often a random port found busy is drawn anew, as Docker does.
const PORT_TRIES: usize = 10;

/// The one owner of the model.
pub struct Worker<K, S, H> {
    observer: Option<Arc<dyn Observer>>,
    kernel: K,
    store: Arc<Mutex<S>>,
    host: H,
    settings: Arc<Settings>,
    compiler: Compiler,
    tuning: Tuning,
    changes: HostChanges,
    memory: Memory,
    requests: mpsc::Receiver<Request>,
    live: watch::Receiver<Option<Live>>,
    turns: Turns,
    published: Arc<ArcSwap<View>>,
    observed: Observed,
    owners: Owners,
    departed: mpsc::UnboundedReceiver<Departed>,
    state: State,
    due: Due,
}

/// The model and how far the kernel follows it.
#[derive(Debug, Default)]
struct State {
    model: Arc<Model>,
    facts: Arc<HostFacts>,
    revision: u64,
    applied_revision: u64,
    left_out: LeftOut,
    problem: Option<String>,
    /// What the store said when it last refused a change.
    unkept: Option<String>,
    /// What is about to run out.
    shortages: Vec<String>,
    /// The kernel may hold what the model does not say.
    dirty: bool,
}

/// How deep a look a reconciliation takes.
#[derive(Clone, Copy, Debug)]
enum Depth {
    Changes,
    HostSide,
    Everything,
}

impl<K: Kernel, S: Store, H: Host> Worker<K, S, H> {
    /// Loads the store, drops what belonged to processes that are gone, makes the predefined networks
    /// and brings the kernel in line. Trouble of the kernel is told in the view and tried again.
    pub async fn start(parts: Parts<K, S, H>) -> Result<(Self, Controller), StartError> {
        let Parts { mut kernel, mut store, mut host, settings, compile, tuning, changes } = parts;
        let contents = store.load()?;
        let (model, memory) = contents.decode()?;
        let memory = match memory {
            Some(memory) => memory,
            None => world::draw_memory(&mut host).map_err(StartError::Entropy)?,
        };
        let settings = Arc::new(Settings { ula_prefix: memory.ula_prefix, ..settings });
        let facts = kernel.facts().await?;
        let (requests_sender, requests) = mpsc::channel(QUEUE_LEN);
        let (departed_sender, departed) = mpsc::unbounded_channel();
        let published = Arc::new(ArcSwap::default());
        let (live_sender, live) = watch::channel(None);
        let controller = Controller {
            requests: requests_sender,
            view: Arc::clone(&published),
            settings: Arc::clone(&settings),
            live: Arc::new(live_sender),
            deadline: tuning.deadline,
        };
        let state = State { facts, revision: contents.revision, ..State::default() };
        let mut worker = Self {
            observer: None,
            kernel,
            store: Arc::new(Mutex::new(store)),
            host,
            settings,
            compiler: Compiler { settings: compile },
            due: Due::new(&tuning),
            turns: Turns::every(tuning.verify_interval),
            tuning,
            changes,
            memory,
            requests,
            live,
            published,
            observed: Observed::nothing(),
            owners: Owners::new(departed_sender),
            departed,
            state,
        };
        worker.begin(Arc::new(model)).await?;
        Ok((worker, controller))
    }

    /// From now on `observer` is told how the work goes.
    pub fn observe(&mut self, observer: Arc<dyn Observer>) {
        self.observer = Some(observer);
    }

    /// Serves until told to stop or until nobody can ask any more. What the kernel holds stays.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            let due = self.due.clone();
            tokio::select! {
                biased;
                () = told_to_stop(&mut stop) => break,
                Some(departed) = self.departed.recv() => self.remove_departed(departed).await,
                () = sleep_until(due.verify) => self.verify().await,
                () = sleep_until(due.patrol) => self.patrol().await,
                () = at(due.settle) => self.settle().await,
                () = at(due.retry) => self.retry().await,
                () = self.turns.next() => {}
                Ok(()) = self.live.changed() => self.take_over().await,
                Ok(()) = self.changes.changed() => self.due.settle(),
                () = self.observed.changed() => self.take_roster().await,
                request = self.requests.recv() => match request {
                    Some(request) => self.serve(request).await,
                    None => break,
                },
            }
        }
    }

    async fn begin(&mut self, stored: Arc<Model>) -> Result<(), StartError> {
        self.state.model = Arc::clone(&stored);
        let mut model = stored;
        for sandbox in world::orphans(&model) {
            tracing::info!(%sandbox, "the owner of a sandbox is gone, removing it");
            model =
                self.granted(&model, Command::RemoveSandbox { sandbox: sandbox.to_string() })?;
        }
        model = self.granted(&model, Command::EnsurePredefined)?;
        self.commit(&model).await?;
        self.state.dirty = true;
        self.adopt(model);
        self.converge(Depth::Everything).await;
        Ok(())
    }

    fn granted(&mut self, model: &Model, command: Command) -> Result<Arc<Model>, StartError> {
        let (facts, settings) = (Arc::clone(&self.state.facts), Arc::clone(&self.settings));
        let departed = world::departed(model, &facts);
        let circumstances =
            circumstances::gather(&mut self.host, &facts, &settings, &BTreeSet::new(), departed)
                .map_err(StartError::Entropy)?;
        Ok(Arc::new(model.apply(command, &circumstances)?.0))
    }

    async fn serve(&mut self, request: Request) {
        if request.answer.is_closed() || request.deadline <= Instant::now() {
            let _ = request.answer.send(Err(ControllerError::Deadline(self.tuning.deadline)));
            return;
        }
        let started = Instant::now();
        let before = Arc::clone(&self.state.model);
        let result = self.execute(request.command).await;
        if let Some(observer) = &self.observer
            && self.state.model.endpoints.len() > before.endpoints.len()
        {
            observer.endpoint_set_up(started.elapsed());
        }
        let granted = result.is_ok();
        let heard = request.answer.send(result).is_ok();
        match request.unheard {
            Unheard::IsTakenBack if granted && !heard => self.take_back(before).await,
            Unheard::IsTakenBack | Unheard::Holds => {}
        }
    }

    async fn execute(&mut self, command: Command) -> Result<Outcome, ControllerError> {
        world::check(&command)?;
        let result = self.attempt(command).await;
        if self.state.dirty {
            self.converge(Depth::Changes).await;
        }
        result
    }

    async fn attempt(&mut self, command: Command) -> Result<Outcome, ControllerError> {
        self.state.left_out.look_for_namespaces(&self.state.model);
        let mut busy = BTreeSet::new();
        loop {
            let (model, outcome) = self.grant(command.clone(), &busy).await?;
            match self.reconcile(&model, Depth::Changes).await {
                Ok(_) => {
                    self.keep(model).await?;
                    return Ok(outcome);
                }
                Err(error) => self.give_way(&model, error, &mut busy)?,
            }
        }
    }

    async fn grant(
        &mut self,
        command: Command,
        busy: &BTreeSet<(Proto, u16)>,
    ) -> Result<(Arc<Model>, Outcome), ControllerError> {
        self.state.facts = self.kernel.facts().await?;
        let (facts, settings) = (Arc::clone(&self.state.facts), Arc::clone(&self.settings));
        let departed = self.observed.departed(&self.state.model, &facts);
        let circumstances =
            circumstances::gather(&mut self.host, &facts, &settings, busy, departed)
                .map_err(ControllerError::Entropy)?;
        let (model, outcome) = self.state.model.apply(command, &circumstances)?;
        Ok((Arc::new(model), outcome))
    }

    /// Decides whether a failed apply is worth another try: with another random port, or without a
    /// port that an older sandbox has lost.
    fn give_way(
        &mut self,
        model: &Model,
        error: ReconcileError,
        busy: &mut BTreeSet<(Proto, u16)>,
    ) -> Result<(), ControllerError> {
        let Some((port, sentence)) = ports::refused_port(&error) else {
            return Err(error.into());
        };
        if ports::publisher(&self.state.model, port).is_some() {
            let news = self.state.left_out.leave_out(model, port, &sentence);
            return if news { Ok(()) } else { Err(ControllerError::Port(sentence)) };
        }
        let drawn_again = !busy.insert((port.proto, port.port));
        if drawn_again || busy.len() >= PORT_TRIES {
            return Err(ControllerError::Port(sentence));
        }
        Ok(())
    }

    async fn keep(&mut self, model: Arc<Model>) -> Result<(), ControllerError> {
        if let Err(error) = self.commit(&model).await {
            self.state.dirty = true;
            self.state.unkept = Some(error.to_string());
            return Err(error.into());
        }
        self.state.dirty = false;
        self.adopt(model);
        Ok(())
    }

    async fn commit(&mut self, model: &Arc<Model>) -> Result<(), StoreError> {
        let revision = self.state.revision + 1;
        let mut change = Change::between(&self.state.model, model, revision)?;
        if self.state.revision == 0 || self.memory.next_port != model.next_port {
            self.memory.next_port.clone_from(&model.next_port);
            change.remember(&self.memory)?;
        }
        if change.is_empty() {
            return Ok(());
        }
        fault::point();
        self.write(change).await?;
        fault::point();
        self.state.revision = revision;
        Ok(())
    }

    /// Writes a change as it is.
    async fn write(&mut self, change: Change) -> Result<(), StoreError> {
        let store = Arc::clone(&self.store);
        let commit = move || store.lock().unwrap_or_else(PoisonError::into_inner).commit(&change);
        let done = tokio::task::spawn_blocking(commit).await;
        done.unwrap_or_else(|error| Err(StoreError::Commit(error.to_string())))?;
        self.state.unkept = None;
        Ok(())
    }

    fn adopt(&mut self, model: Arc<Model>) {
        self.owners.follow(&model);
        self.state.model = model;
        if !self.state.dirty && self.state.left_out.is_empty() {
            self.state.applied_revision = self.state.revision;
        }
        self.publish();
    }

    /// Makes the kernel match what of a model can be had; how many writes that took.
    async fn reconcile(
        &mut self,
        model: &Arc<Model>,
        depth: Depth,
    ) -> Result<usize, ReconcileError> {
        let effective = self.state.left_out.effective(model);
        self.observed.whereabouts.look(&effective, &self.observed.roster);
        let compile = self.compiler.of(effective, self.observed.whereabouts.places());
        let started = Instant::now();
        self.state.dirty = true;
        let applied = match depth {
            Depth::Changes => self.kernel.apply(&compile).await,
            Depth::HostSide => self.kernel.patrol(&compile).await,
            Depth::Everything => self.kernel.verify(&compile).await,
        };
        if let Some(observer) = &self.observer {
            observer.reconciled(started.elapsed(), applied.is_ok());
        }
        if let Ok(applied) = &applied {
            self.tell_repairs(applied.repaired);
        }
        applied.map(|applied| applied.changed)
    }

    /// Brings the kernel in line with the model as it is, without what can't be had.
    async fn converge(&mut self, depth: Depth) {
        let model = Arc::clone(&self.state.model);
        self.due.settle = None;
        self.state.left_out = LeftOut::default();
        self.look_for_losses(&model).await;
        let result = loop {
            let Err(error) = self.reconcile(&model, depth).await else { break Ok(()) };
            match ports::refused_port(&error) {
                Some((port, why)) if self.state.left_out.leave_out(&model, port, &why) => {}
                Some(_) | None => break Err(error),
            }
        };
        self.converged(result).await;
    }

    async fn converged(&mut self, result: Result<(), ReconcileError>) {
        self.state.dirty = result.is_err();
        self.state.problem = result.err().map(|error| error.to_string());
        if let Some(problem) = &self.state.problem {
            tracing::error!(problem, "the kernel could not be brought in line, trying again");
        }
        if let Ok(facts) = self.kernel.facts().await {
            self.state.facts = facts;
        }
        if self.state.problem.is_none() && self.state.left_out.is_empty() {
            self.state.applied_revision = self.state.revision;
            self.due.calm(&self.tuning);
        } else {
            self.due.try_again();
        }
        self.publish();
    }

    fn publish(&self) {
        let state = &self.state;
        self.published.store(Arc::new(View {
            called: self.observed.call(&state.model),
            engine: self.observed.roster.link.clone(),
            facts: Arc::clone(&state.facts),
            revision: state.revision,
            applied_revision: state.applied_revision,
            failures: state.left_out.failures(&state.model),
            problems: state.problems(),
        }));
    }
}
