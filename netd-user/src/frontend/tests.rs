//! The API over a real socket with a raw client: whatever is sent, one clear sentence comes back, and
//! others are served meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use super::serve::{Limits, serve};
use super::*;
use crate::api::{DropEvent, ErrorBody, SandboxInspect, Status};
use crate::controller::testing::{Bench, bench};
use crate::dns::NameService;
use crate::observe::events::Hub;

pub(super) struct FakeTelemetry(Hub);

impl FakeTelemetry {
    pub(super) fn new() -> Self {
        Self(Hub::new(8))
    }
}

impl Telemetry for FakeTelemetry {
    fn endpoint_counters(&self) -> BTreeMap<u32, Counters> {
        BTreeMap::from([(1, Counters { from_packets: 3, ..Counters::default() })])
    }

    fn published_hits(&self) -> BTreeMap<u32, u64> {
        BTreeMap::new()
    }

    fn maps(&self) -> Vec<MapStatus> {
        Vec::new()
    }

    fn flows(&self) -> BTreeMap<String, u64> {
        BTreeMap::new()
    }

    fn drops(&self) -> BTreeMap<String, u64> {
        BTreeMap::from([("not_published".to_owned(), 2)])
    }

    fn metrics(&self) -> Result<String, String> {
        Ok("netd_up 1\n".to_owned())
    }

    fn count_request(&self, _: &str, _: u16, _: Duration) {}

    fn events(&self) -> Listener {
        self.0.listen()
    }
}

struct Unseen;

impl crate::dns::service::Witness for Unseen {
    fn answered(
        &self,
        _: crate::dns::service::Source,
        _: hickory_proto::op::ResponseCode,
        _: Duration,
    ) {
    }

    fn failed(&self, _: crate::dns::service::Failure) {}
}

struct Server {
    _directory: tempfile::TempDir,
    socket: PathBuf,
    hub: Hub,
    bench: Bench,
    stop: watch::Sender<bool>,
    _name: socket::BoundSocket,
}

fn limits() -> Limits {
    Limits { head: Duration::from_millis(300), connections: 8, ..Limits::default() }
}

async fn server() -> Server {
    server_with(limits()).await
}

async fn server_with(limits: Limits) -> Server {
    let directory = tempfile::tempdir().expect("directory");
    let socket = directory.path().join("netd.sock");
    let (listener, name) = socket::bind(&socket, None).expect("bind");
    listener.set_nonblocking(true).expect("nonblocking");
    let listener = UnixListener::from_std(listener).expect("listener");
    let (bench, hub) = (bench().await, Hub::new(16));
    let api = Api {
        controller: bench.controller.clone(),
        telemetry: Arc::new(FakeTelemetry(hub.clone())),
        names: NameService::new(
            Arc::default,
            crate::dns::Settings { ttl_s: 5, servers: Vec::new() },
            Arc::new(Unseen),
        )
        .expect("a name service"),
        log: LogControl::new(|filter| match filter {
            "info" => Ok(()),
            other => Err(format!("'{other}' is no log filter")),
        }),
        defaults: Arc::default(),
        started_s: 0,
        deadline: Duration::from_secs(5),
    };
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(serve(listener, api::router(api), limits, stopped));
    Server { _directory: directory, socket, hub, bench, stop, _name: name }
}

impl Server {
    async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.socket).await.expect("connect")
    }

    async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        // The server may answer and hang up before all is written.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let reading = stream.read_to_end(&mut answer);
        let _ = tokio::time::timeout(Duration::from_secs(10), reading).await.expect("an answer");
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n\
             {body}",
            body.len()
        );
        split(&self.raw(request.as_bytes()).await)
    }

    async fn sentence(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let (status, body) = self.ask(method, path, body).await;
        let error: ErrorBody = serde_json::from_str(&body).expect(&body);
        assert!(!error.message.is_empty() && !error.message.contains('\n'), "{}", error.message);
        (status, error.message)
    }
}

fn split(answer: &str) -> (u16, String) {
    let (head, body) = answer.split_once("\r\n\r\n").expect(answer);
    let status = head.split(' ').nth(1).expect(head).parse().expect(head);
    (status, body.to_owned())
}

#[tokio::test]
async fn a_network_lives_and_dies_over_the_api() {
    let server = server().await;
    let (status, body) = server.ask("POST", "/v1/networks", r#"{"Name":"blue"}"#).await;
    assert_eq!(status, 201, "{body}");
    let sandbox = r#"{"Name":"web","Networks":[{"Network":"blue"}],"Publish":["80:80"]}"#;
    let (status, body) = server.ask("POST", "/v1/sandboxes", sandbox).await;
    assert_eq!(status, 201, "{body}");
    let (_, body) = server.ask("GET", "/v1/sandboxes/web", "").await;
    let shown: SandboxInspect = serde_json::from_str(&body).expect(&body);
    assert_eq!(shown.networks["blue"].counters.from_packets, 3);
    assert_eq!((shown.state.as_str(), shown.ports[0].host_port), ("running", 80));
    assert_eq!(server.sentence("DELETE", "/v1/networks/blue", "").await.0, 403);
    for (method, path, body, wanted) in [
        ("POST", "/v1/networks/blue/disconnect", r#"{"Container":"web"}"#, 204),
        ("POST", "/v1/networks/blue/connect", r#"{"Container":"web"}"#, 200),
        ("GET", "/v1/networks?filters=%7B%22name%22%3A%5B%22blue%22%5D%7D", "", 200),
        ("PUT", "/v1/sandboxes/web/owner", r#"{"Owner":null}"#, 204),
        ("DELETE", "/v1/sandboxes/web", "", 204),
        ("POST", "/v1/networks/prune", "", 200),
    ] {
        let (status, body) = server.ask(method, path, body).await;
        assert_eq!(status, wanted, "{method} {path}: {body}");
    }
    assert_eq!(server.bench.controller.model().networks.len(), 3);
}

#[tokio::test]
async fn every_route_refuses_a_wrong_value_in_one_sentence() {
    let server = server().await;
    for (method, path, body, wanted) in [
        ("POST", "/v1/networks", r#"{"Name":""}"#, 400),
        ("POST", "/v1/networks", r#"{"Name":"x","Driver":"warp"}"#, 404),
        ("POST", "/v1/networks", r#"{"Name":"bridge"}"#, 403),
        ("POST", "/v1/networks", r#"{"Nmae":"x"}"#, 400),
        ("POST", "/v1/networks", "{", 400),
        ("POST", "/v1/networks", "", 400),
        ("GET", "/v1/networks?filters=nonsense", "", 400),
        ("GET", "/v1/networks?filters=%7B%22colour%22%3A%5B%22red%22%5D%7D", "", 400),
        ("GET", "/v1/networks?filter=x", "", 400),
        ("GET", "/v1/networks/nope", "", 404),
        ("GET", "/v1/networks/%ff", "", 400),
        ("DELETE", "/v1/networks/nope", "", 404),
        ("DELETE", "/v1/networks/host", "", 403),
        ("POST", "/v1/networks/prune?filters=%7B%22x%22%3A%5B%22y%22%5D%7D", "", 400),
        ("POST", "/v1/networks/nope/connect", r#"{"Container":"web"}"#, 404),
        ("POST", "/v1/networks/bridge/connect", r#"{"Container":"web"}"#, 404),
        ("POST", "/v1/networks/bridge/disconnect", r#"{"Container":1}"#, 400),
        ("POST", "/v1/sandboxes", r#"{"Name":"web","Publish":["99999:1"]}"#, 400),
        ("POST", "/v1/sandboxes", r#"{"Name":"web","Netns":"/etc/hostname"}"#, 400),
        ("POST", "/v1/sandboxes", r#"{"Name":"web","Owner":{"Pid":1,"StartTicks":1}}"#, 400),
        ("GET", "/v1/sandboxes?filters=%5B%5D", "", 400),
        ("GET", "/v1/sandboxes/nope", "", 404),
        ("DELETE", "/v1/sandboxes/nope", "", 404),
        ("PUT", "/v1/sandboxes/nope/owner", r#"{"Owner":null}"#, 404),
        ("PUT", "/v1/sandboxes/nope/owner", r#"{"Owner":7}"#, 400),
        ("PUT", "/v1/log-level", r#"{"Filter":"loudest"}"#, 400),
        ("PUT", "/v1/log-level", "{}", 400),
        ("GET", "/v1/status/x", "", 404),
        ("GET", "/", "", 404),
        ("PATCH", "/v1/networks", "", 405),
        ("DELETE", "/v1/status", "", 405),
        ("POST", "/v1/events", "", 405),
        ("POST", "/metrics", "", 405),
        ("POST", "/healthz", "", 405),
        ("PUT", "/readyz", "", 405),
        ("PUT", "/v1/openapi.json", "", 405),
    ] {
        let (status, message) = server.sentence(method, path, body).await;
        assert_eq!(status, wanted, "{method} {path} {body}: {message}");
    }
    assert_eq!(server.bench.controller.model().sandboxes.len(), 0);
}

#[tokio::test]
async fn the_daemon_tells_about_itself() {
    let server = server().await;
    let (_, body) = server.ask("GET", "/v1/status", "").await;
    let status: Status = serde_json::from_str(&body).expect(&body);
    assert_eq!((status.health.as_str(), status.drops["not_published"]), ("ok", 2));
    for (path, wanted) in [("/metrics", "netd_up 1\n"), ("/healthz", "ok\n"), ("/readyz", "ok\n")] {
        let (status, body) = server.ask("GET", path, "").await;
        assert!(status == 200 && body.contains(wanted), "{path}: {body}");
    }
    assert_eq!(server.ask("PUT", "/v1/log-level", r#"{"Filter":"info"}"#).await.0, 204);
    let (status, body) = server.ask("GET", "/v1/openapi.json", "").await;
    let described: serde_json::Value = serde_json::from_str(&body).expect(&body);
    let own = serde_json::to_value(api::document()).expect("document");
    assert!(status == 200 && described == own, "{body}");
}

#[tokio::test]
async fn an_oversize_body_is_refused_and_so_are_an_oversize_head_and_garbage() {
    let server = server().await;
    let body = format!(r#"{{"Name":"{}"}}"#, "x".repeat(body::BODY_MAX));
    assert_eq!(server.sentence("POST", "/v1/networks", &body).await.0, 413);
    let head = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(200 << 10));
    assert!(server.raw(head.as_bytes()).await.starts_with("HTTP/1.1 431"));
    let garbage: Vec<u8> = (0..4096_u32).map(|n| n.wrapping_mul(167).to_le_bytes()[0]).collect();
    let answer = server.raw(&garbage).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(server.ask("GET", "/healthz", "").await.0, 200);
}

/// Takes all places but one by requests that never end.
async fn hang(server: &Server) -> Vec<UnixStream> {
    let mut slow = Vec::new();
    for _ in 0..limits().connections - 1 {
        let mut stream = server.connect().await;
        stream.write_all(b"GET /v1/status HTTP/1.1\r\nhos").await.expect("written");
        slow.push(stream);
    }
    slow
}

#[tokio::test]
async fn slow_clients_stall_nobody() {
    let patient = Limits { head: Duration::from_hours(1), ..limits() };
    let server = server_with(patient).await;
    let _slow = hang(&server).await;
    assert_eq!(server.ask("GET", "/healthz", "").await.0, 200);
}

#[tokio::test]
async fn slow_clients_are_cut_off() {
    let server = server().await;
    for mut stream in hang(&server).await {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest));
        ended.await.expect("cut off").expect("closed");
    }
}

#[tokio::test]
async fn a_connection_too_many_is_told_so() {
    let server = server().await;
    let mut open = Vec::new();
    for _ in 0..limits().connections {
        open.push(server.connect().await);
    }
    let mut stream = server.connect().await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let (status, body) = split(&answer);
    let error: ErrorBody = serde_json::from_str(&body).expect(&body);
    assert_eq!((status, error.message.contains("too many")), (503, true));
    let length = format!("content-length: {}\r\n", body.len());
    assert!(answer.contains(&length), "{answer}");
}

#[tokio::test]
async fn events_arrive_as_lines_while_they_happen() {
    let server = server().await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("written");
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while !seen.contains("not_published") {
        server
            .hub
            .publish(DropEvent { reason: "not_published".to_owned(), ..DropEvent::default() });
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut buffer)).await;
        let read = read.expect("in time").expect("open");
        assert_ne!(read, 0, "the stream ended");
        seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    assert!(seen.contains("application/x-ndjson"), "{seen}");
    server.stop.send(true).expect("running");
}

#[test]
fn every_route_is_described() {
    let document = serde_json::to_value(api::document()).expect("document");
    let paths = document["paths"].as_object().expect("paths");
    let described: BTreeSet<String> = paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().expect("item").keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    let wanted = [
        "DELETE /v1/networks/{network}",
        "DELETE /v1/sandboxes/{sandbox}",
        "GET /healthz",
        "GET /metrics",
        "GET /readyz",
        "GET /v1/dns/cache",
        "GET /v1/dns/lookup",
        "POST /v1/dns/flush",
        "GET /v1/events",
        "GET /v1/networks",
        "GET /v1/networks/{network}",
        "GET /v1/openapi.json",
        "GET /v1/sandboxes",
        "GET /v1/sandboxes/{sandbox}",
        "GET /v1/status",
        "POST /v1/networks",
        "POST /v1/networks/prune",
        "POST /v1/networks/{network}/connect",
        "POST /v1/networks/{network}/disconnect",
        "POST /v1/sandboxes",
        "PUT /v1/log-level",
        "PUT /v1/sandboxes/{sandbox}/owner",
    ];
    assert_eq!(described, wanted.map(str::to_owned).into());
}

#[tokio::test]
async fn a_socket_is_taken_from_the_dead_and_never_from_the_living() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("netd.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("stale"));
    let (_listener, name) = socket::bind(&path, None).expect("taken from the dead");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(&path).expect("metadata").permissions(),
    );
    assert_eq!(mode & 0o777, 0o660);
    assert!(matches!(socket::bind(&path, None), Err(socket::SocketError::InUse(_))));
    drop(name);
    assert!(!path.exists());
    std::fs::write(&path, "a file").expect("write");
    assert!(matches!(socket::bind(&path, None), Err(socket::SocketError::NotASocket(_))));
    let own = nix::unistd::Group::from_gid(nix::unistd::getegid()).expect("groups").expect("own");
    // Root may give it to any group, others to their own.
    let group = if nix::unistd::geteuid().is_root() { "daemon" } else { &own.name };
    let shared = directory.path().join("shared.sock");
    let _shared = socket::bind(&shared, Some(group)).expect("shared");
    let gid = std::os::unix::fs::MetadataExt::gid(&std::fs::metadata(&shared).expect("metadata"));
    let wanted = nix::unistd::Group::from_name(group).expect("groups").expect("there");
    assert_eq!(gid, wanted.gid.as_raw());
    let unknown = socket::bind(&directory.path().join("x"), Some("no-such-group"));
    assert!(matches!(unknown, Err(socket::SocketError::UnknownGroup(_))));
}
