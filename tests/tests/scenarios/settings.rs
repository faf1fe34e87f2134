//! Keys of the configuration, seen at work: the predefined bridge, pools, names, logs, privileges.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use netd_tests::container::Transport;
use netd_tests::outside::WORLD_V4;
use netd_tests::wire::tcp_echo_server;
use netd_tests::{Container, Daemon, eventually};
use nix::sys::signal::{Signal, kill};

use super::{World, container, is_reached};

fn inspected(daemon: &Daemon<'_>, network: &str, template: &str) -> String {
    daemon.ok(&["network", "inspect", "-f", template, network]).unwrap()
}

#[test]
fn predefined_bridge_needs_no_name_and_carries_traffic_and_published_ports() {
    let world = World::new();
    let daemon = Daemon::start(&world.host, "ipv6 = true").unwrap();
    let web =
        Container::create(&daemon, "web", &["-p", "8080:7000", "-p", "8080:7000/udp"]).unwrap();
    let client = Container::create(&daemon, "client", &[]).unwrap();
    let _servers = web.serve_all(7000).unwrap();
    for target in web.addresses("bridge").unwrap() {
        for transport in Transport::ALL {
            assert!(
                is_reached(&client.netns, SocketAddr::new(target, 7000), transport),
                "{target}"
            );
        }
    }
    for address in world.uplink() {
        for transport in Transport::ALL {
            let target = SocketAddr::new(address, 8080);
            assert!(is_reached(world.outside.netns(), target, transport), "{target}");
        }
    }
    let target = SocketAddr::new(WORLD_V4.into(), 7000);
    let _world = tcp_echo_server(world.outside.netns(), target).unwrap();
    let answer = Transport::Tcp.ask(&client.netns, target).unwrap();
    assert_eq!(answer.seen_as.ip(), world.uplink()[0]);
    let ran = daemon.ok(&["run", "--", "ip", "-br", "address", "show", "eth0"]).unwrap();
    assert!(ran.contains("172.17.0.4/16"), "{ran}");
}

#[test]
fn keys_of_the_predefined_bridge_have_their_effect() {
    let world = World::new();
    let settings = "bip = \"10.7.0.5/24\"\nfixed-cidr = \"10.7.0.128/25\"\nmtu = 1400\n\
        icc = false\nip-masq = false\nip = \"127.0.0.1\"\ndns = [\"192.0.2.53\"]\n\
        dns-search = [\"corp.example\"]\ndns-opts = [\"ndots:3\"]\n\
        default-bridge-name = \"own0\"\nveth-prefix = \"port\"\n";
    let daemon = Daemon::start(&world.host, settings).unwrap();
    let web = Container::create(&daemon, "web", &["-p", "8080:7000"]).unwrap();
    let client = Container::create(&daemon, "client", &[]).unwrap();
    assert_eq!(web.address("bridge", false).unwrap().to_string(), "10.7.0.128");
    let inside =
        daemon.ok(&["run", "--", "sh", "-c", "ip link show eth0; ip route; cat /etc/resolv.conf"]);
    let inside = inside.unwrap();
    let resolver = "nameserver 192.0.2.53\nsearch corp.example\noptions ndots:3";
    for wanted in ["mtu 1400", "default via 10.7.0.5", resolver] {
        assert!(inside.contains(wanted), "{wanted}: {inside}");
    }
    assert_eq!(daemon.ok(&["port", "web"]).unwrap(), "7000/tcp -> 127.0.0.1:8080");
    let links = world.host.exec("ip", &["-br", "link"]).unwrap();
    let links = String::from_utf8_lossy(&links.stdout).into_owned();
    assert!(links.contains("own0") && links.contains("port"), "{links}");
    let _servers = web.serve_all(7000).unwrap();
    let near = SocketAddr::new(web.address("bridge", false).unwrap(), 7000);
    assert!(!client.pings(near.ip()).unwrap(), "neighbours are closed to each other");
    // By a process of the host's control group: others are not this daemon's to translate.
    let wire = netd_tests::process::built("wire").unwrap();
    let asked = world.host.exec(&wire, &["tcp", "127.0.0.1:8080", "hello"]).unwrap();
    assert!(asked.status.success(), "{asked:?}");
    let outside = SocketAddr::new(world.uplink()[0], 8080);
    assert!(
        !is_reached(world.outside.netns(), outside, Transport::Tcp),
        "published on loopback only"
    );
    let listener = || Ok(std::net::UdpSocket::bind((WORLD_V4, 7000))?);
    let listener = world.outside.netns().run(listener).unwrap();
    listener.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let sender = client.netns.run(|| Ok(std::net::UdpSocket::bind(("0.0.0.0", 0))?)).unwrap();
    sender.send_to(b"x", (WORLD_V4, 7000)).unwrap();
    let (_, seen) = listener.recv_from(&mut [0; 8]).unwrap();
    assert_eq!(seen.ip(), client.address("bridge", false).unwrap(), "not masqueraded");
}

#[test]
fn pools_and_options_of_networks_come_from_the_configuration() {
    let world = World::new();
    let settings = "bridge = \"none\"\nbridge-prefix = \"n-\"\n\
        default-address-pools = [{ base = \"10.88.0.0/16\", size = 24 }]\n\
        [default-network-opts.bridge]\n\"com.docker.network.driver.mtu\" = \"1300\"\n";
    let daemon = Daemon::start(&world.host, settings).unwrap();
    assert_eq!(daemon.ok(&["network", "ls", "--format", "{{.Name}}"]).unwrap(), "host\nnone");
    let refused = daemon.cli(&["run", "--", "true"]).unwrap();
    assert_eq!(refused.code, Some(125));
    assert!(refused.stderr.contains("network bridge not found"), "{refused:?}");
    for (name, subnet) in [("one", "10.88.0.0/24"), ("two", "10.88.1.0/24")] {
        daemon.ok(&["network", "create", name]).unwrap();
        assert_eq!(inspected(&daemon, name, "{{(index .IPAM.Config 0).Subnet}}"), subnet);
        assert!(inspected(&daemon, name, "{{.Device}}").starts_with("n-"));
    }
    let one = container(&daemon, "on-one", "one", &[]);
    let link = one.netns.run(|| netd_tests::process::run("ip", &["link", "show", "eth0"])).unwrap();
    assert!(link.contains("mtu 1300"), "{link}");
}

/// By default they would be kept for half a minute and longer.
#[test]
fn flows_are_kept_as_long_as_the_configuration_says() {
    let world = World::new();
    let settings = "ipv6 = true\n[flow-table]\nudp = 1\nudp-assured = 1\ntcp-fin = 1\n";
    let daemon = Daemon::start(&world.host, settings).unwrap();
    let ports = ["-p", "8080:7000", "-p", "8080:7000/udp"];
    let web = Container::create(&daemon, "web", &ports).unwrap();
    let _servers = web.serve_all(7000).unwrap();
    let entries = || -> u64 {
        let status = daemon.ok(&["status", "--format", "json"]).unwrap();
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let maps = status["Maps"].as_array().unwrap().clone();
        let of_flows = |map: &&serde_json::Value| map["Name"].as_str().unwrap().contains("flows");
        maps.iter().filter(of_flows).map(|map| map["Entries"].as_u64().unwrap()).sum()
    };
    for address in world.uplink() {
        for transport in Transport::ALL {
            let target = SocketAddr::new(address, 8080);
            assert!(is_reached(world.outside.netns(), target, transport), "{target}");
        }
    }
    eventually("an empty flow table", Duration::from_secs(25), || {
        Ok((entries() == 0).then_some(()))
    })
    .unwrap();
    assert_eq!(super::flow_stat(&daemon, "evicted"), 0, "swept entries are not evicted ones");
}

#[test]
fn daemon_keeps_only_what_it_needs_and_its_socket_is_the_groups() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let world = World::new();
    let settings = "group = \"daemon\"\nlog-format = \"json\"";
    let daemon = Daemon::start(&world.host, settings).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid().unwrap())).unwrap();
    let held = |set: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(set)).unwrap();
        u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap()
    };
    // net_bind_service, net_broadcast, net_admin, net_raw, sys_ptrace, sys_admin, perfmon, bpf.
    let needed = [10, 11, 12, 13, 19, 21, 38, 39].into_iter().fold(0, |set, bit| set | 1 << bit);
    for (set, wanted) in [("CapPrm", needed), ("CapEff", needed), ("CapBnd", needed), ("CapInh", 0)]
    {
        assert_eq!(held(set), wanted, "{set}");
    }
    assert_eq!(held("NoNewPrivs"), 1);
    let socket = fs::metadata(daemon.places().socket()).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o660);
    let group = nix::unistd::Group::from_name("daemon").unwrap().unwrap();
    assert_eq!(socket.gid(), group.gid.as_raw());
    assert!(daemon.places().log().contains("CAP_PERFMON"), "it says what it keeps");
    for line in daemon.places().log().lines() {
        let told: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(told["level"].is_string() && told["timestamp"].is_string(), "{line}");
    }
}

fn fetched(world: &World, arguments: &[&str]) -> String {
    let said = world.host.exec("curl", &[&["-s", "--max-time", "5"], arguments].concat()).unwrap();
    String::from_utf8_lossy(&said.stdout).into_owned()
}

#[test]
fn metrics_are_served_on_the_configured_address_and_on_the_api_socket() {
    let world = World::new();
    let daemon = Daemon::start(&world.host, "metrics-addr = \"127.0.0.1:9960\"").unwrap();
    let names = |text: &str| -> Vec<String> {
        text.lines().filter(|line| line.starts_with("# TYPE netd_")).map(str::to_owned).collect()
    };
    let on_tcp = names(&fetched(&world, &["http://127.0.0.1:9960/metrics"]));
    let socket = daemon.places().socket();
    let socket = socket.to_string_lossy();
    let on_socket = fetched(&world, &["--unix-socket", &socket, "http://netd/metrics"]);
    assert!(on_tcp.len() > 20, "{on_tcp:?}");
    assert_eq!(names(&on_socket), on_tcp);
    let described = fetched(&world, &["--unix-socket", &socket, "http://netd/v1/openapi.json"]);
    let described: serde_json::Value = serde_json::from_str(&described).unwrap();
    assert!(described["paths"]["/v1/networks"]["post"].is_object(), "{described}");
    daemon.stop().unwrap();
    let _daemon = Daemon::start(&world.host, "metrics-addr = \"off\"").unwrap();
    let listening = world.host.exec("ss", &["-Hltn"]).unwrap();
    assert!(listening.stdout.is_empty(), "{listening:?}");
}

#[test]
fn hangup_reads_the_log_level_anew_and_a_wrong_file_changes_nothing() {
    let world = World::new();
    let daemon = Daemon::start(&world.host, "log-level = \"info\"").unwrap();
    let file = world.host.directory().join("netd.toml");
    let hang_up = |from: &str, to: &str, wanted: &str| {
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace(from, to)).unwrap();
        kill(daemon.pid().unwrap(), Signal::SIGHUP).unwrap();
        eventually(wanted, Duration::from_secs(10), || {
            Ok(daemon.places().log().contains(wanted).then_some(()))
        })
        .unwrap();
    };
    hang_up("\"info\"", "\"netd=loudest\"", "the configuration was not read anew");
    assert!(!daemon.places().log().contains("DEBUG"));
    hang_up("\"netd=loudest\"", "\"debug\"", "the configuration was read anew");
    daemon.ok(&["network", "ls"]).unwrap();
    assert!(daemon.places().log().contains("DEBUG"), "{}", daemon.places().log());
}
