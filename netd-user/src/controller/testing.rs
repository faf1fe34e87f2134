//! A controller over doubles: a kernel that holds a `Desired` and fails on demand, a store in memory, a
//! machine that stands still.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use netd_common::{IfIndex, MacAddr};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Controller, Host, Kernel, Parts, StartError, Tuning, Worker};
use crate::config::Config;
use crate::desired::{Desired, HeldPort};
use crate::facts::{HostFacts, LinkFact, UplinkFact};
use crate::reconcile::{Applied, Compile, ReconcileError, Tended};
use crate::store::memory::MemoryStore;

/// Shared with the test: clones look at the same kernel.
#[derive(Clone, Default)]
pub(crate) struct FakeKernel {
    shared: Arc<Mutex<FakeState>>,
}

#[derive(Default)]
struct FakeState {
    held: Desired,
    facts: HostFacts,
    taken: BTreeSet<(u16, Taken)>,
    failures: VecDeque<bool>,
    applies: usize,
    pause: Option<Duration>,
    problems: Vec<String>,
}

/// Why a port of the fake host can't be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Taken {
    Busy,
    NoAddress,
}

impl FakeKernel {
    pub(crate) fn new() -> Self {
        let kernel = Self::default();
        kernel.with(|state| state.facts = facts());
        kernel
    }

    /// What it holds.
    pub(crate) fn held(&self) -> Desired {
        self.with(|state| state.held.clone())
    }

    pub(crate) fn applies(&self) -> usize {
        self.with(|state| state.applies)
    }

    /// The next applies go wrong after half of the work: one per entry that is true.
    pub(crate) fn fail_next(&self, failures: &[bool]) {
        self.with(|state| state.failures = failures.iter().copied().collect());
    }

    pub(crate) fn take_port(&self, port: u16, why: Taken) {
        self.with(|state| state.taken.insert((port, why)));
    }

    pub(crate) fn free_ports(&self) {
        self.with(|state| state.taken.clear());
    }

    /// What it runs out of from now on.
    pub(crate) fn run_short(&self, problems: &[&str]) {
        self.with(|state| state.problems = problems.iter().map(|it| (*it).to_owned()).collect());
    }

    /// Each apply takes this long.
    pub(crate) fn slow_down(&self, pause: Duration) {
        self.with(|state| state.pause = Some(pause));
    }

    fn with<T>(&self, act: impl FnOnce(&mut FakeState) -> T) -> T {
        act(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl FakeState {
    fn apply(&mut self, compile: &dyn Compile) -> Result<Applied, ReconcileError> {
        self.applies += 1;
        let desired = compile.whole(&self.facts);
        for port in &desired.held_ports {
            self.check_port(*port)?;
        }
        if self.failures.pop_front() == Some(true) {
            self.held.links = desired.links;
            return Err(ReconcileError::Injected(self.applies));
        }
        let changed = usize::from(self.held != desired);
        self.held = desired;
        Ok(Applied { changed, ..Applied::default() })
    }

    fn check_port(&self, port: HeldPort) -> Result<(), ReconcileError> {
        if self.taken.contains(&(port.port, Taken::Busy)) {
            return Err(ReconcileError::PortBusy(port));
        }
        if self.taken.contains(&(port.port, Taken::NoAddress)) {
            return Err(ReconcileError::AddressNotAvailable(port));
        }
        Ok(())
    }
}

impl Kernel for FakeKernel {
    async fn facts(&mut self) -> Result<Arc<HostFacts>, ReconcileError> {
        Ok(self.with(|state| Arc::new(state.facts.clone())))
    }

    async fn apply(&mut self, compile: &dyn Compile) -> Result<Applied, ReconcileError> {
        if let Some(pause) = self.with(|state| state.pause) {
            tokio::time::sleep(pause).await;
        }
        self.with(|state| state.apply(compile))
    }

    async fn verify(&mut self, compile: &dyn Compile) -> Result<Applied, ReconcileError> {
        self.apply(compile).await
    }

    async fn patrol(&mut self, compile: &dyn Compile) -> Result<Applied, ReconcileError> {
        self.apply(compile).await
    }

    async fn tend(&mut self) -> Tended {
        Tended { mended: 0, problems: self.with(|state| state.problems.clone()) }
    }
}

/// A machine whose clock counts calls.
pub(crate) struct StillHost(u64);

impl Host for StillHost {
    fn now_ns(&mut self) -> i64 {
        1_700_000_000_000_000_000
    }

    fn entropy(&mut self) -> std::io::Result<[u8; 32]> {
        self.0 += 1;
        let mut seed = [7; 32];
        seed[..8].copy_from_slice(&self.0.to_le_bytes());
        Ok(seed)
    }

    fn port_range(&mut self) -> (u16, u16) {
        (32_768, 60_999)
    }

    fn reserved_ports(&mut self) -> Vec<RangeInclusive<u16>> {
        vec![32_768..=32_768]
    }
}

/// A controller that runs, with everything a test may want to turn.
pub(crate) struct Bench {
    /// Turns of the controller's loop.
    pub(crate) turns: watch::Receiver<u64>,
    pub(crate) controller: Controller,
    pub(crate) kernel: FakeKernel,
    pub(crate) store: MemoryStore,
    pub(crate) changes: watch::Sender<u64>,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) task: JoinHandle<()>,
}

/// Over a new store.
pub(crate) async fn bench() -> Bench {
    bench_over(FakeKernel::new(), MemoryStore::default(), quick()).await.expect("start")
}

/// Deadlines short enough for a test.
pub(crate) fn quick() -> Tuning {
    Tuning {
        deadline: Duration::from_secs(5),
        verify_interval: Duration::from_hours(1),
        first_retry: Duration::from_millis(10),
    }
}

pub(crate) async fn bench_over(
    kernel: FakeKernel,
    store: MemoryStore,
    tuning: Tuning,
) -> Result<Bench, StartError> {
    let config = Config::parse("", Path::new("netd.toml")).expect("default configuration");
    let (changes, host_changes) = watch::channel(0);
    let parts = Parts {
        kernel: kernel.clone(),
        store: store.clone(),
        host: StillHost(0),
        settings: config.base_settings().clone(),
        compile: config.compile_settings(),
        tuning,
        changes: host_changes,
    };
    let (mut worker, controller) = Worker::start(parts).await?;
    let turns = worker.count_turns(Duration::from_millis(5));
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(worker.run(stopped));
    Ok(Bench { turns, controller, kernel, store, changes, stop, task })
}

/// Waits until `holds`, at most five seconds.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within five seconds: {what}");
}

fn facts() -> HostFacts {
    let mac = MacAddr([2, 0, 0, 0, 0, 1]);
    let link = LinkFact { ifindex: IfIndex(2), mac, mtu: 1460, up: true, kind: "".into() };
    let v4 = "192.0.2.10".parse().expect("address");
    let uplink = UplinkFact {
        name: "eth0".into(),
        ifindex: IfIndex(2),
        mac: Some(mac),
        mtu: 1460,
        v4: Some(v4),
        v6: None,
    };
    HostFacts {
        links: BTreeMap::from([("eth0".into(), link)]),
        uplinks: vec![uplink],
        addresses: BTreeMap::from([(v4.into(), IfIndex(2))]),
        routes: BTreeSet::from(["192.0.2.0/24".parse().expect("prefix")]),
        ..HostFacts::default()
    }
}
