//! What the engine is asked, and what is told of it.

use super::super::testing::CannedDaemon;
use super::*;

const NETWORKS: &str = r#"[
  {"Name": "bridge", "Id": "b0", "Driver": "bridge", "EnableIPv6": false, "Internal": false,
   "IPAM": {"Driver": "default", "Options": null, "Config": [{"Subnet": "172.17.0.0/16"}]},
   "Options": {"com.docker.network.bridge.default_bridge": "true"}, "Labels": {}},
  {"Name": "host", "Id": "b1", "Driver": "host", "IPAM": {"Driver": "default", "Config": []}},
  {"Name": "shop_db", "Id": "b2", "Driver": "bridge", "Internal": true, "EnableIPv6": true,
   "Attachable": true,
   "IPAM": {"Driver": "default", "Options": null, "Config": [
     {"Subnet": "10.9.0.0/24", "IPRange": "10.9.0.128/25", "Gateway": "10.9.0.1",
      "AuxiliaryAddresses": {"printer": "10.9.0.9"}},
     {"Subnet": "fd00:9::/64", "Gateway": "fd00:9::1/64"}]},
   "Options": {"com.docker.network.driver.mtu": "1400"},
   "Labels": {"com.docker.compose.project": "shop", "owner": "it's me"}},
  {"Name": "busy", "Id": "b3", "Driver": "bridge",
   "IPAM": {"Driver": "default", "Config": [{"Subnet": "10.8.0.0/24"}]}, "Options": null,
   "Labels": null},
  {"Name": "ours", "Id": "b4", "Driver": "netd", "IPAM": {"Driver": "netd", "Config": null}}
]"#;
const CONTAINERS: &str = r#"[
  {"Names": ["/web"], "State": "running", "NetworkSettings": {"Networks": {"busy": {"NetworkID": "b3"}}}},
  {"Names": ["/old"], "State": "exited", "NetworkSettings": {"Networks": {"busy": {"NetworkID": ""}}}},
  {"Names": ["/bare"], "State": "running", "NetworkSettings": {"Networks": null}}
]"#;

/// An engine that refuses what `refuses` says so of.
fn engine(refuses: fn(&str, usize) -> bool) -> CannedDaemon {
    let creations = std::sync::atomic::AtomicUsize::new(0);
    CannedDaemon::new(move |line| match line {
        "GET /networks" => (200, NETWORKS.to_owned()),
        "GET /containers/json?all=1" => (200, CONTAINERS.to_owned()),
        other => {
            let turn = creations.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if refuses(other, turn) {
                return (404, r#"{"message": "plugin \"netd\" not found"}"#.to_owned());
            }
            (201, "{}".to_owned())
        }
    })
}

fn asked(engine: &CannedDaemon, words: &[&str]) -> (String, Result<(), CliError>) {
    let dry_run = words.contains(&"--dry-run");
    let names = words.iter().filter(|word| !word.starts_with('-'));
    let networks = names.map(|name| (*name).to_owned()).collect();
    let args = ImportArgs { dry_run, docker_host: PathBuf::new(), networks };
    let mut out = Vec::new();
    let outcome = import(&args, &engine.client, &mut out);
    (String::from_utf8(out).unwrap(), outcome)
}

#[test]
fn dry_run_prints_a_script_and_asks_for_nothing() {
    let engine = engine(|_, _| true);
    let (script, outcome) = asked(&engine, &["--dry-run"]);
    outcome.unwrap();
    let wanted = "\
# Docker's bridge networks as netd networks. Each is removed and made anew under its own name, because
# two networks can't have one address range.

# bridge: kept: the engine's own default network can't be replaced; give containers a network of their own

# busy: kept: web, old are on it, and a container knows its network by an id that would change: \
remove the container (docker compose down, docker rm), then import again

# shop_db: on netd, with 10.9.0.0/24, fd00:9::/64 and its options and labels as they are
# shop_db: in the compose file of project shop, write `driver: netd` and `ipam: {driver: netd}` \
below this network's name
docker network rm shop_db
docker network create -d netd --ipam-driver netd --internal --attachable --ipv6 \
--subnet 10.9.0.0/24 --ip-range 10.9.0.128/25 --gateway 10.9.0.1 --aux-address printer=10.9.0.9 \
--subnet fd00:9::/64 --gateway fd00:9::1 -o com.docker.network.driver.mtu=1400 \
--label com.docker.compose.project=shop --label 'owner=it'\\''s me' shop_db
";
    assert_eq!(script, wanted);
    assert_eq!(engine.asked(), ["GET /networks", "GET /containers/json?all=1"]);
}

#[test]
fn free_network_is_replaced_and_one_in_use_is_left_and_told() {
    let engine = engine(|_, _| false);
    let (told, outcome) = asked(&engine, &[]);
    assert!(matches!(outcome, Err(CliError::Told)));
    assert!(told.contains("shop_db: on netd") && told.contains("busy: kept: web, old"), "{told}");
    let requests = engine.requests();
    let lines: Vec<&str> = requests[2..].iter().map(|(line, _)| line.as_str()).collect();
    assert_eq!(lines, ["DELETE /networks/b2", "POST /networks/create"]);
    let body: serde_json::Value = serde_json::from_str(&requests[3].1).unwrap();
    assert_eq!((&body["Name"], &body["Driver"]), (&"shop_db".into(), &"netd".into()));
    assert_eq!(body["IPAM"]["Config"][1]["Gateway"], "fd00:9::1");
    assert_eq!(body["Labels"]["owner"], "it's me");
}

#[test]
fn network_that_netd_cannot_have_is_dockers_again() {
    // The removal is granted, the first creation is not, the second is.
    let engine = engine(|line, turn| line.starts_with("POST") && turn == 1);
    let (told, outcome) = asked(&engine, &["shop_db"]);
    assert!(matches!(outcome, Err(CliError::Told)));
    assert!(!told.contains("on netd"), "{told}");
    let requests = engine.requests();
    let body: serde_json::Value = serde_json::from_str(&requests[4].1).unwrap();
    assert_eq!((&body["Driver"], &body["IPAM"]["Driver"]), (&"bridge".into(), &"default".into()));
}

#[test]
fn unknown_network_is_refused_before_anything_is_changed() {
    let engine = engine(|_, _| false);
    let (_, outcome) = asked(&engine, &["shop_db", "nope"]);
    assert!(outcome.unwrap_err().to_string().contains("no bridge network nope"));
    assert_eq!(engine.asked().len(), 2);
}

#[test]
fn engine_that_does_not_run_is_named() {
    let engine = Client::of(ENGINE, std::path::Path::new("/nonexistent/docker.sock")).unwrap();
    let args = ImportArgs { dry_run: true, docker_host: PathBuf::new(), networks: Vec::new() };
    let error = import(&args, &engine, &mut Vec::new()).unwrap_err().to_string();
    let wanted = "Cannot connect to the Docker daemon at unix:///nonexistent/docker.sock. \
                  Is the Docker daemon running?";
    assert_eq!(error, wanted);
}
