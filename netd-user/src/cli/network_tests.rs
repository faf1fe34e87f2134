//! Flags of `netd network` to requests, and networks to rows.

use clap::Parser;

use super::super::testing::CannedDaemon;
use super::*;

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    verb: NetworkVerb,
}

fn parsed(words: &[&str]) -> Result<NetworkVerb, String> {
    let line = Line::try_parse_from(std::iter::once(&"netd").chain(words));
    line.map(|line| line.verb).map_err(|error| error.to_string())
}

fn created(words: &[&str]) -> Result<NetworkCreate, String> {
    let verb = parsed(&[&["create"], words].concat())?;
    let NetworkVerb::Create(args) = verb else { panic!("no create: {verb:?}") };
    creation(&args).map_err(|error| error.to_string())
}

#[test]
fn every_flag_of_create_reaches_the_request() {
    let request = created(&[
        "-d",
        "bridge",
        "--subnet",
        "10.1.0.0/24",
        "--subnet=fd00::/64",
        "--gateway",
        "10.1.0.1",
        "--ip-range",
        "10.1.0.128/25",
        "--aux-address",
        "a=10.1.0.5",
        "--internal",
        "--ipv6",
        "--ipv4=false",
        "--label",
        "k=v",
        "--label",
        "bare",
        "-o",
        "mtu=1400",
        "--ipam-opt",
        "x=y",
        "n",
    ])
    .unwrap();
    assert_eq!(
        serde_json::to_value(request).unwrap(),
        json!({
            "Name": "n", "Driver": "bridge", "EnableIPv4": false, "EnableIPv6": true,
            "Internal": true,
            "IPAM": {"Driver": "default", "Options": {"x": "y"}, "Config": [
                {"Subnet": "10.1.0.0/24", "IPRange": "10.1.0.128/25", "Gateway": "10.1.0.1",
                 "AuxiliaryAddresses": {"a": "10.1.0.5"}},
                {"Subnet": "fd00::/64"},
            ]},
            "Options": {"mtu": "1400"}, "Labels": {"k": "v", "bare": ""},
        })
    );
}

#[test]
fn families_are_the_daemons_choice_unless_named() {
    let request = created(&["n"]).unwrap();
    assert_eq!((request.enable_ipv4, request.enable_ipv6), (None, None));
}

#[test]
fn wrong_values_are_usage_errors() {
    for words in [
        &["create"][..],
        &["create", "a", "b"],
        &["create", "--ipv6=maybe", "n"],
        &["create", "--aux-address", "x", "n"],
        &["create", "--label", "=v", "n"],
        &["create", "--nope", "n"],
        &["ls", "-f", "driver"],
        &["ls", "--format", "{{"],
        &["ls", "extra"],
        &["inspect"],
        &["inspect", "-f", "{{.Name", "n"],
        &["rm"],
        &["prune", "--filter", "label"],
        &["prune", "extra"],
        &["connect", "n"],
        &["connect", "--gw-priority", "x", "n", "c"],
        &["disconnect", "n"],
        &["disconnect", "n", "c", "d"],
    ] {
        assert!(parsed(words).is_err(), "{words:?}");
    }
}

#[test]
fn refusals_of_create_come_before_the_daemon_is_asked() {
    assert_eq!(
        created(&["--gateway", "10.1.0.1", "n"]).unwrap_err(),
        "every ip-range or gateway must have a corresponding subnet"
    );
}

#[test]
fn connect_takes_dockers_flags() {
    let words = [
        "connect",
        "--ip",
        "10.0.0.2",
        "--ip6",
        "fd00::2",
        "--alias",
        "a",
        "--gw-priority",
        "-5",
        "--driver-opt",
        "k=v",
        "net",
        "box",
    ];
    let NetworkVerb::Connect(args) = parsed(&words).unwrap() else { panic!("no connect") };
    assert_eq!(
        serde_json::to_value(connection(&args)).unwrap(),
        json!({"Container": "box", "EndpointConfig": {
            "IPv4Address": "10.0.0.2", "IPv6Address": "fd00::2", "MacAddress": null,
            "Aliases": ["a"], "GwPriority": -5, "DriverOpts": {"k": "v"}}})
    );
}

#[test]
fn a_row_has_dockers_placeholders() {
    let network = NetworkInspect {
        name: "front".into(),
        id: "0123456789abcdef".into(),
        created: "2026-01-02T03:04:05.6Z".into(),
        scope: "local".into(),
        driver: "bridge".into(),
        enable_ipv4: true,
        labels: [("a".to_owned(), "b".to_owned())].into(),
        ..NetworkInspect::default()
    };
    let shown = |format| {
        let mut out = Vec::new();
        LISTING.write(&[row(&network, false)], Some(format), false, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    assert_eq!(
        shown("table"),
        "NETWORK ID     NAME      DRIVER    SCOPE\n0123456789ab   front     bridge    local\n"
    );
    assert_eq!(
        shown("{{.ID}} {{.Name}} {{.IPv4}} {{.IPv6}} {{.Internal}} {{.Labels}} {{.Label \"a\"}}"),
        "0123456789ab front true false false a=b b\n"
    );
    assert_eq!(shown("{{.CreatedAt}}"), "2026-01-02 03:04:05.6 +0000 UTC\n");
}

/// Knows the network `front` and no other.
fn canned_daemon() -> CannedDaemon {
    CannedDaemon::new(|request| {
        let known = NetworkInspect { name: "front".into(), ..NetworkInspect::default() };
        match request {
            "GET /v1/networks/front" => (200, serde_json::to_string(&known).unwrap()),
            "DELETE /v1/networks/front" => (204, String::new()),
            _ if request.contains("/prune") => {
                (200, r#"{"NetworksDeleted":["front","back"]}"#.to_owned())
            }
            _ => (404, r#"{"message":"network nope not found"}"#.to_owned()),
        }
    })
}

fn run(daemon: &CannedDaemon, words: &[&str]) -> (Result<(), String>, String) {
    let mut out = Vec::new();
    let done = parsed(words).unwrap().run(&daemon.client, &mut out);
    (done.map_err(|error| error.to_string()), String::from_utf8(out).unwrap())
}

#[test]
fn a_failure_does_not_keep_the_rest_from_being_removed() {
    let daemon = canned_daemon();
    let (done, out) = run(&daemon, &["rm", "nope", "front"]);
    assert!(done.is_err());
    assert_eq!(out, "front\n");
    let expected = ["DELETE /v1/networks/nope", "DELETE /v1/networks/front"];
    assert_eq!(daemon.asked(), expected);
    assert_eq!(run(&daemon, &["rm", "-f", "nope", "front"]), (Ok(()), "front\n".into()));
}

#[test]
fn inspect_shows_what_exists_and_fails_for_what_does_not() {
    let daemon = canned_daemon();
    let (done, out) = run(&daemon, &["inspect", "-f", "{{.Name}}", "nope", "front"]);
    assert!(done.is_err());
    assert_eq!(out, "front\n");
    assert_eq!(run(&daemon, &["inspect", "nope"]).1, "[]\n");
}

#[test]
fn prune_tells_what_it_deleted() {
    let daemon = canned_daemon();
    let (done, out) = run(&daemon, &["prune", "-f", "--filter", "label=a"]);
    assert_eq!((done, out), (Ok(()), "Deleted Networks:\nfront\nback\n\n".into()));
    let filters = escape(r#"{"label":["a"]}"#);
    assert_eq!(daemon.asked(), [format!("POST /v1/networks/prune?filters={filters}")]);
}

#[test]
fn a_forced_disconnect_forgives_what_is_gone_already() {
    let daemon = canned_daemon();
    let message = "Error response from daemon: network nope not found";
    assert_eq!(run(&daemon, &["disconnect", "nope", "box"]).0.unwrap_err(), message);
    assert_eq!(run(&daemon, &["disconnect", "-f", "nope", "box"]).0, Ok(()));
    assert_eq!(run(&daemon, &["connect", "nope", "box"]).0.unwrap_err(), message);
}
