//! The running daemon: the tasks, what connects them, and the signals.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use netd_common::verdict::Event;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::reload::Reloader;
use super::telemetry::DataplaneTelemetry;
use super::witness::NameWitness;
use super::{DaemonError, Settled, manager, reconciler_options, storage};
use crate::compile::CompileSettings;
use crate::config::Config;
use crate::controller::{Controller, Observer, Parts, ProcHost, Tuning, Worker, told_to_stop};
use crate::dataplane::events::EventReader;
use crate::dataplane::sweep::Sweeper;
use crate::dns::{self, NameService, host};
use crate::fault;
use crate::frontend::serve::{Limits, serve};
use crate::frontend::socket::BoundSocket;
use crate::frontend::{Api, Defaults, LogControl, api, docker};
use crate::link::facts;
use crate::observe::events::{Hub, Narrator};
use crate::observe::time::Clock;
use crate::reconcile::Reconciler;
use crate::roster::Roster;
use crate::store::Store;
use crate::store::sqlite::SqliteStore;
use crate::watcher::{self, DockerApi, Pace};

/// Events a monitor may fall behind.
const EVENT_LAG: usize = 4096;
/// How often a shard of the flow table is swept.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How long a command in progress may take to end when the daemon stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Signals that the daemon obeys.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What a signal says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Stop,
    Reload,
}

/// What runs.
struct Services {
    controller: JoinHandle<()>,
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    reloader: Reloader,
}

/// Lives until told to stop.
pub(super) async fn live(settled: Settled) -> Result<(), DaemonError> {
    let mut signals = Signals::listen()?;
    let mut services = tokio::select! {
        started = start(settled) => started?,
        () = signals.stop() => return Ok(()),
    };
    fault::serving();
    manager::ready(&services.reloader.controller.view());
    tracing::info!("ready");
    let result = loop {
        tokio::select! {
            ended = &mut services.controller => break Err(DaemonError::Ended(match ended {
                Ok(()) => "its task returned".to_owned(),
                Err(error) => error.to_string(),
            })),
            word = signals.next() => match word {
                Word::Stop => break Ok(()),
                Word::Reload => {
                    manager::reloading();
                    services.reloader.reload();
                    manager::ready(&services.reloader.controller.view());
                }
            },
        }
    };
    manager::stopping();
    tracing::info!("stopping; the dataplane goes on");
    services.end().await;
    result
}

async fn start(settled: Settled) -> Result<Services, DaemonError> {
    let Settled { config, config_path, log, mut store, listener, socket, docker, locks } = settled;
    let metrics_listener = bind_metrics(&config).await?;
    let mut reconciler = Reconciler::start(reconciler_options(&config)).await?;
    let (stats, events, sweeper) = (reconciler.stats(), reconciler.events()?, reconciler.sweeper());
    let changes = reconciler.watch()?;
    let news = reconciler.resolver_news();
    let compile = compile_settings(&config, &mut store, &reconciler)?;
    let (mut worker, controller) = Worker::start(Parts {
        kernel: reconciler,
        store,
        host: ProcHost::open(),
        settings: config.base_settings().clone(),
        compile,
        tuning: tuning(&config),
        changes,
    })
    .await?;
    let hub = Hub::new(EVENT_LAG);
    let telemetry = DataplaneTelemetry::new(stats, hub.clone(), controller.clone())?;
    let telemetry = Arc::new(telemetry);
    worker.observe(Arc::clone(&telemetry) as Arc<dyn Observer>);
    let witness = NameWitness::new(telemetry.name_metrics(), hub.clone(), controller.clone());
    let names = name_service(&config, controller.clone(), witness)?;
    let turns = worker.count_turns(manager::turn_interval());
    let (rosters, heard) = watch::channel(Arc::default());
    worker.follow(heard);
    let engine = config.docker_api_socket.clone();
    let api = api_state(&config, log, controller.clone(), (&telemetry, Arc::clone(&names)));
    let resolv_conf = config.resolv_conf.clone();
    let state_dir = config.state_dir.clone();
    let reloader = Reloader::new(config, config_path, &api);
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    if let Some(docker) = docker {
        tasks.spawn(serve_engine(docker, controller.clone(), telemetry, stopped.clone())?);
    }
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let router = api::router(api.clone());
    let until = stopped.clone();
    tasks.spawn(async move {
        serve(listener, router, Limits::default(), until).await;
        drop((socket, locks));
    });
    if let Some(listener) = metrics_listener {
        let router = api::metrics_router(api);
        tasks.spawn(serve(listener, router, Limits::default(), stopped.clone()));
    }
    tasks.spawn(Arc::clone(&names).serve(news, stopped.clone()));
    tasks.spawn(host::follow(names, resolv_conf, stopped.clone()));
    if let Some(socket) = engine {
        tasks.spawn(watch_engine(socket, controller.clone(), rosters, stopped.clone()));
    }
    tasks.spawn(sweep(sweeper, hub.clone(), controller.clone(), stopped.clone()));
    tasks.spawn(manager::follow(turns, controller.clone()));
    tasks.spawn(storage::back_up(state_dir, stopped.clone()));
    tasks.spawn(narrate(events, hub, controller, stopped.clone()));
    Ok(Services { controller: tokio::spawn(worker.run(stopped)), tasks, stop, reloader })
}

fn tuning(config: &Config) -> Tuning {
    Tuning {
        deadline: config.request_deadline,
        verify_interval: config.verify_interval,
        ..Tuning::default()
    }
}

/// Serves a container engine's plugin socket.
fn serve_engine(
    (listener, socket): (std::os::unix::net::UnixListener, BoundSocket),
    controller: Controller,
    telemetry: Arc<DataplaneTelemetry>,
    stopped: watch::Receiver<bool>,
) -> std::io::Result<impl Future<Output = ()>> {
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    Ok(async move {
        let router = docker::router(controller, telemetry);
        serve(listener, router, docker::limits(), stopped).await;
        drop(socket);
    })
}

/// Follows what a container engine calls the members of netd's networks.
fn watch_engine(
    socket: PathBuf,
    controller: Controller,
    rosters: watch::Sender<Arc<Roster>>,
    stopped: watch::Receiver<bool>,
) -> impl Future<Output = ()> {
    let ours = move |network| controller.model().networks.contains_key(&network);
    watcher::watch((DockerApi::at(socket), Pace::default()), ours, rosters, stopped)
}

fn name_service(
    config: &Config,
    controller: Controller,
    witness: NameWitness,
) -> std::io::Result<Arc<NameService>> {
    let settings = dns::Settings { ttl_s: config.dns_ttl_s, servers: config.dns.servers.clone() };
    let service = NameService::new(move || controller.model(), settings, Arc::new(witness))?;
    // Before the first query; a file that can't be read is told by who follows it.
    let resolver = facts::resolver(&config.resolv_conf).unwrap_or_default();
    service.set_host_servers(resolver.servers);
    Ok(service)
}

/// A flow table lost under endpoints that are there already is loose for a while.
fn compile_settings(
    config: &Config,
    store: &mut SqliteStore,
    reconciler: &Reconciler,
) -> Result<CompileSettings, DaemonError> {
    let (model, _) = store.load()?.decode()?;
    let window_s = if model.endpoints.is_empty() { 0 } else { config.flow_table.tcp_loose_s };
    let loose_until_s = reconciler.loose_until_s(window_s)?;
    Ok(CompileSettings { loose_until_s, ..config.compile_settings() })
}

fn api_state(
    config: &Config,
    log: LogControl,
    controller: Controller,
    (telemetry, names): (&Arc<DataplaneTelemetry>, Arc<NameService>),
) -> Api {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Api {
        controller,
        telemetry: Arc::<DataplaneTelemetry>::clone(telemetry),
        names,
        log,
        defaults: Arc::new(ArcSwap::from_pointee(Defaults::of(config))),
        started_s: since_epoch.as_secs().cast_signed(),
        deadline: config.request_deadline,
    }
}

async fn bind_metrics(config: &Config) -> Result<Option<TcpListener>, DaemonError> {
    let Some(addr) = config.metrics_addr else { return Ok(None) };
    let bound = TcpListener::bind(addr).await;
    bound.map(Some).map_err(|source| DaemonError::Metrics { addr, source })
}

impl Services {
    async fn end(mut self) {
        let _ = self.stop.send(true);
        let ended = async {
            while self.tasks.join_next().await.is_some() {}
            if !self.controller.is_finished() {
                let _ = self.controller.await;
            }
        };
        if tokio::time::timeout(STOP_TIMEOUT, ended).await.is_err() {
            tracing::warn!("a change in progress is cut short; the next start completes it");
        }
    }
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Word {
        tokio::select! {
            _ = self.terminate.recv() => Word::Stop,
            _ = self.interrupt.recv() => Word::Stop,
            _ = self.hangup.recv() => Word::Reload,
        }
    }

    /// Passes over everything else: before the start is complete there is nothing to reload.
    async fn stop(&mut self) {
        while self.next().await != Word::Stop {}
    }
}

async fn sweep(
    mut sweeper: Sweeper,
    hub: Hub,
    controller: Controller,
    mut stop: watch::Receiver<bool>,
) {
    let mut narrator = narrator();
    let mut tick = tokio::time::interval(SWEEP_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = told_to_stop(&mut stop) => return,
            _ = tick.tick() => {}
        }
        let swept = tokio::task::spawn_blocking(move || {
            let result = sweeper.sweep();
            (sweeper, result)
        });
        match swept.await {
            Ok((back, result)) => {
                sweeper = back;
                match result {
                    Ok(swept) => {
                        if let Some(narrator) = &mut narrator {
                            tell(&hub, narrator, &swept.expired, &controller);
                        }
                    }
                    Err(error) => tracing::warn!(%error, "the flow table was not swept"),
                }
            }
            Err(error) => return tracing::error!(%error, "the flow table is no longer swept"),
        }
    }
}

async fn narrate(
    mut events: EventReader,
    hub: Hub,
    controller: Controller,
    mut stop: watch::Receiver<bool>,
) {
    let Some(mut narrator) = narrator() else { return };
    loop {
        let event = tokio::select! {
            () = told_to_stop(&mut stop) => return,
            event = events.next() => event,
        };
        match event {
            Ok(event) => tell(&hub, &mut narrator, &[event], &controller),
            Err(error) => return tracing::error!(%error, "events can't be read any more"),
        }
    }
}

fn narrator() -> Option<Narrator> {
    let clock = Clock::now().inspect_err(|error| tracing::error!(%error, "no clock, no events"));
    clock.ok().map(Narrator::new)
}

fn tell(hub: &Hub, narrator: &mut Narrator, events: &[Event], controller: &Controller) {
    for event in events.iter().filter(|_| hub.is_heard()) {
        hub.publish(narrator.tell(event, &controller.model()));
    }
}
