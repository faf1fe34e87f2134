//! The watcher over an engine that fails on demand, and the engine's API over a raw socket.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::sync::mpsc;

use super::*;
use crate::model::EndpointId;
use crate::roster::{ContainerCard, ContainerDetails};

const NETWORK: NetworkId = NetworkId([1; 32]);

/// An engine that says what it is told to. Clones are the same engine.
#[derive(Clone, Default)]
struct Double {
    state: Arc<Mutex<DoubleState>>,
}

#[derive(Default)]
struct DoubleState {
    names: BTreeMap<ContainerId, String>,
    listeners: Vec<mpsc::UnboundedSender<Happening>>,
    /// The next so many questions fail.
    failures: VecDeque<EngineError>,
    asked: Vec<ContainerId>,
    dead: bool,
}

struct DoubleEvents(mpsc::UnboundedReceiver<Happening>);

impl Events for DoubleEvents {
    async fn next(&mut self) -> Result<Happening, EngineError> {
        self.0.recv().await.ok_or(EngineError::Ended)
    }
}

impl Double {
    fn with<T>(&self, act: impl FnOnce(&mut DoubleState) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn check(&self) -> Result<(), EngineError> {
        self.with(|state| match state.failures.pop_front() {
            Some(failure) => Err(failure),
            None if state.dead => Err(EngineError::Refused(503)),
            None => Ok(()),
        })
    }

    /// A container is called so from now on, and the engine says that something happened.
    fn rename(&self, n: u8, name: &str) {
        self.with(|state| {
            state.names.insert(ContainerId([n; 32]), name.to_owned());
            state
                .listeners
                .retain(|it| it.send(Happening::Container(ContainerId([n; 32]))).is_ok());
        });
    }

    fn remove(&self, n: u8) {
        self.with(|state| {
            state.names.remove(&ContainerId([n; 32]));
            state
                .listeners
                .retain(|it| it.send(Happening::Container(ContainerId([n; 32]))).is_ok());
        });
    }

    fn die(&self, dead: bool) {
        self.with(|state| {
            state.dead = dead;
            state.listeners.clear();
        });
    }
}

fn container(id: ContainerId, name: &str, details: bool) -> Container {
    let endpoints = BTreeMap::from([(EndpointId(id.0), NETWORK)]);
    let card =
        ContainerCard { name: name.to_owned(), running: true, endpoints, ..Default::default() };
    Container { id, card, details: details.then(ContainerDetails::default) }
}

impl Engine for Double {
    type Events = DoubleEvents;

    async fn events(&self) -> Result<DoubleEvents, EngineError> {
        self.check()?;
        let (sender, receiver) = mpsc::unbounded_channel();
        self.with(|state| state.listeners.push(sender));
        Ok(DoubleEvents(receiver))
    }

    async fn networks(&self) -> Result<BTreeMap<NetworkId, NetworkCard>, EngineError> {
        self.check()?;
        let card = NetworkCard { name: "app".to_owned(), ..NetworkCard::default() };
        Ok(BTreeMap::from([(NETWORK, card)]))
    }

    async fn containers(&self) -> Result<Vec<Container>, EngineError> {
        self.check()?;
        let each = self.with(|state| state.names.clone());
        Ok(each.into_iter().map(|(id, name)| container(id, &name, false)).collect())
    }

    async fn container(&self, id: ContainerId) -> Result<Option<Container>, EngineError> {
        self.with(|state| state.asked.push(id));
        self.check()?;
        let name = self.with(|state| state.names.get(&id).cloned());
        Ok(name.map(|name| container(id, &name, true)))
    }
}

struct Watched {
    engine: Double,
    rosters: watch::Receiver<Arc<Roster>>,
    _stop: watch::Sender<bool>,
}

impl Watched {
    fn over(engine: Double) -> Self {
        let (sender, rosters) = watch::channel(Arc::default());
        let (stop, stopped) = watch::channel(false);
        let pace = Pace {
            relist: Duration::from_millis(200),
            first_pause: Duration::from_millis(1),
            longest_pause: Duration::from_millis(20),
        };
        tokio::spawn(watch((engine.clone(), pace), |id| id == NETWORK, sender, stopped));
        Self { engine, rosters, _stop: stop }
    }

    async fn until(&mut self, what: &str, holds: impl Fn(&Roster) -> bool) -> Arc<Roster> {
        let waited = self.rosters.wait_for(|roster| holds(roster));
        let roster = tokio::time::timeout(Duration::from_secs(30), waited).await;
        Arc::clone(&roster.unwrap_or_else(|_| panic!("{what}: in vain")).expect("a watcher"))
    }
}

fn named(roster: &Roster, n: u8) -> Option<&str> {
    let held = roster.containers.get(&ContainerId([n; 32]))?;
    held.details.is_some().then_some(held.card.name.as_str())
}

fn engine(names: &[(u8, &str)]) -> Double {
    let engine = Double::default();
    engine.with(|state| {
        let each = names.iter().map(|(n, name)| (ContainerId([*n; 32]), (*name).to_owned()));
        state.names = each.collect();
    });
    engine
}

#[tokio::test]
async fn names_come_by_listing_and_by_what_happens() {
    let mut watched = Watched::over(engine(&[(1, "web")]));
    let roster = watched.until("the listing", |it| named(it, 1) == Some("web")).await;
    assert_eq!(roster.link, EngineLink::Connected);
    assert_eq!(roster.networks[&NETWORK].name, "app");
    watched.engine.rename(1, "shop");
    watched.engine.rename(2, "db");
    watched.until("both", |it| (named(it, 1), named(it, 2)) == (Some("shop"), Some("db"))).await;
    watched.engine.remove(1);
    watched.until("the end", |it| !it.containers.contains_key(&ContainerId([1; 32]))).await;
}

#[tokio::test]
async fn last_names_stay_while_the_engine_is_away_and_new_ones_come_when_it_is_back() {
    let mut watched = Watched::over(engine(&[(1, "web")]));
    watched.until("the listing", |it| named(it, 1).is_some()).await;
    watched.engine.die(true);
    let lost = |it: &Roster| matches!(it.link, EngineLink::Silent(_));
    let roster = watched.until("the loss", lost).await;
    assert_eq!(named(&roster, 1), Some("web"));
    assert_eq!(roster.listed_s, None, "nobody is judged by an old listing");
    watched.engine.rename(1, "other");
    watched.engine.die(false);
    watched.until("the return", |it| named(it, 1) == Some("other")).await;
}

#[tokio::test]
async fn a_question_that_fails_is_asked_again_and_harms_no_other() {
    let mut watched = Watched::over(engine(&[(1, "web"), (2, "db")]));
    watched.until("the listing", |it| named(it, 1).is_some() && named(it, 2).is_some()).await;
    watched.engine.with(|state| state.failures.push_back(EngineError::Late(Duration::ZERO)));
    watched.engine.rename(1, "late");
    watched.engine.rename(2, "soon");
    let roster = watched.until("the other", |it| named(it, 2) == Some("soon")).await;
    assert_eq!(roster.link, EngineLink::Connected);
    watched.until("the first", |it| named(it, 1) == Some("late")).await;
}

#[tokio::test]
async fn each_failure_of_a_start_is_survived() {
    let engine = engine(&[(1, "web")]);
    engine.with(|state| {
        state.failures.extend([
            EngineError::Refused(500),
            EngineError::Garbled("no JSON".to_owned()),
            EngineError::Long(7),
            EngineError::Ended,
        ]);
    });
    let mut watched = Watched::over(engine);
    watched.until("the listing", |it| named(it, 1) == Some("web")).await;
}

/// An engine's API that answers every question with these bytes.
fn answering(directory: &Path, answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> DockerApi {
    let socket = directory.join("docker.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let read = stream.read(&mut head).await.unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..read]).into_owned();
            let path = head.split(' ').nth(1).unwrap_or_default();
            // A client that has heard enough closes.
            let _ = stream.write_all(&answer(path)).await;
        }
    });
    DockerApi::at(socket)
}

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[tokio::test]
async fn answers_of_engines_are_read_whatever_they_leave_out() {
    let directory = tempfile::tempdir().expect("directory");
    let (id, end) = ("a1".repeat(32), "e1".repeat(32));
    let network = NETWORK.to_string();
    let listed = format!(
        r#"[{{"Id":"{id}","Names":["/other/link","/web"],"Labels":null,"State":"running","New":[1],
        "NetworkSettings":{{"Networks":{{"app":{{"NetworkID":"{network}","EndpointID":"{end}"}}}}}}}},
        {{"Id":"no id","Names":null}},{{"Id":"{id}","Names":null}}]"#
    );
    let described = format!(
        r#"{{"Id":"{id}","Name":"/web","State":{{"Running":true,"Pid":7}},"HostConfig":{{"Dns":null}},
        "Config":{{"Hostname":"shop","Labels":{{"a":"b"}}}},"NetworkSettings":{{"Networks":{{"app":
        {{"Aliases":["www"],"DNSNames":["web"],"NetworkID":"{network}","EndpointID":"{end}"}},
        "gone":{{"Aliases":null,"NetworkID":"","EndpointID":""}}}}}}}}"#
    );
    let api = answering(directory.path(), move |path| match path {
        "/containers/json?all=true" => ok(&listed),
        "/networks" => ok(r#"[{"Id":"x","Name":"bad"}]"#),
        path if path.starts_with("/containers/a1") => ok(&described),
        _ => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(),
    });
    let listed = api.containers().await.expect("listed");
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!((listed[0].card.name.as_str(), listed[0].card.running), ("web", true));
    let web = api.container(ContainerId([0xa1; 32])).await.expect("asked").expect("there");
    let details = web.details.expect("details");
    assert_eq!((details.hostname.as_str(), details.pid), ("shop", Some(7)));
    let aliases: Vec<String> = details.aliases.into_values().flatten().collect();
    assert_eq!(aliases, ["web", "www"]);
    assert_eq!(web.card.endpoints, listed[0].card.endpoints);
    assert!(api.container(ContainerId([0xa2; 32])).await.expect("asked").is_none());
    assert!(api.networks().await.expect("asked").is_empty());
}

#[tokio::test]
async fn answers_that_are_none_are_errors() {
    let directory = tempfile::tempdir().expect("directory");
    let missing = DockerApi::at(directory.path().join("nope"));
    let error = missing.containers().await.expect_err("nobody there").to_string();
    assert!(error.contains("nope: No such file"), "{error}");
    let endless = "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n".to_owned();
    let endless = [endless.into_bytes(), vec![b' '; 33 << 20]].concat();
    let api = answering(directory.path(), move |path| match path {
        "/containers/json?all=true" => endless.clone(),
        "/networks" => b"garbage\r\n\r\n".to_vec(),
        _ => ok("{}\n{\"Type\":\"network\",\"Action\":\"create\"}\n7\n"),
    });
    assert!(matches!(api.containers().await, Err(EngineError::Long(_))));
    assert!(matches!(api.networks().await, Err(EngineError::Garbled(_))));
    let mut events = api.events().await.expect("a stream");
    assert_eq!(events.next().await.expect("an object"), Happening::Nothing);
    assert_eq!(events.next().await.expect("an event"), Happening::Networks);
    assert!(events.next().await.is_err());
}
