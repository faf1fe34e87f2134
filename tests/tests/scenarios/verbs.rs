//! Every verb and flag of the command line against a real daemon: what it does and what it prints.

use netd_tests::{Container, Daemon, Netns};

use super::{World, container, network};

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[test]
fn every_flag_of_network_create_shows_in_inspect() {
    let world = World::new();
    let daemon = world.daemon();
    let arguments = "network create -d bridge --ipv6 --subnet 10.50.0.0/24 --subnet fd50::/64 \
        --gateway 10.50.0.254 --gateway fd50::fe --ip-range 10.50.0.128/25 --ip-range fd50::100/120 \
        --aux-address a=10.50.0.130 --aux-address b=fd50::101 --label tier=front --label plain \
        -o com.docker.network.driver.mtu=1400 --ipam-driver default front";
    let id = daemon.ok(&arguments.split_whitespace().collect::<Vec<_>>()).unwrap();
    assert!(is_id(&id), "{id}");
    let text = daemon.ok(&["network", "inspect", &id[..12]]).unwrap();
    let shown: serde_json::Value = serde_json::from_str(&text).unwrap();
    let shown = &shown[0];
    assert_eq!((shown["Name"].as_str(), shown["Driver"].as_str()), (Some("front"), Some("bridge")));
    let config = serde_json::json!([
        {"Subnet": "10.50.0.0/24", "IPRange": "10.50.0.128/25", "Gateway": "10.50.0.254",
         "AuxiliaryAddresses": {"a": "10.50.0.130"}},
        {"Subnet": "fd50::/64", "IPRange": "fd50::100/120", "Gateway": "fd50::fe",
         "AuxiliaryAddresses": {"b": "fd50::101"}},
    ]);
    assert_eq!(shown["IPAM"]["Config"], config);
    assert_eq!(shown["Labels"], serde_json::json!({"tier": "front", "plain": ""}));
    assert_eq!((shown["MTU"].as_u64(), shown["Internal"].as_bool()), (Some(1400), Some(false)));
    daemon.ok(&["network", "create", "--internal", "--ipv4=false", "--ipv6", "six"]).unwrap();
    let six = "{{.Internal}} {{.EnableIPv4}} {{.EnableIPv6}} {{len .IPAM.Config}}";
    assert_eq!(daemon.ok(&["network", "inspect", "-f", six, "six"]).unwrap(), "true false true 1");
}

#[test]
fn networks_are_listed_filtered_formatted_pruned_and_removed() {
    let world = World::new();
    let daemon = world.daemon();
    daemon.ok(&["network", "create", "--label", "tier=front", "front"]).unwrap();
    daemon.ok(&["network", "create", "--label", "tier=back", "back"]).unwrap();
    network(&daemon, "used", &[]);
    container(&daemon, "web", "used", &[]);
    let ls = |filters: &[&str]| {
        let mut arguments = vec!["network", "ls", "--format", "{{.Name}}"];
        for filter in filters {
            arguments.extend(["-f", filter]);
        }
        daemon.ok(&arguments).unwrap()
    };
    for (filters, wanted) in [
        (&["type=custom"][..], "back\nfront\nused"),
        (&["type=builtin"], "bridge\nhost\nnone"),
        (&["label=tier=front"], "front"),
        (&["label=tier", "name=ba"], "back"),
        (&["driver=host", "driver=null"], "host\nnone"),
        (&["dangling=true", "type=custom"], "back\nfront"),
        (&["scope=swarm"], ""),
    ] {
        assert_eq!(ls(filters), wanted, "{filters:?}");
    }
    let id = daemon.ok(&["network", "ls", "-q", "--no-trunc", "-f", "name=front"]).unwrap();
    assert!(is_id(&id), "{id}");
    assert_eq!(ls(&[&format!("id={}", &id[..9])]), "front");
    let table = daemon.ok(&["network", "ls"]).unwrap();
    let head: Vec<&str> =
        lines(&table)[0].split("   ").map(str::trim).filter(|it| !it.is_empty()).collect();
    assert_eq!(head, ["NETWORK ID", "NAME", "DRIVER", "SCOPE"]);
    let table = daemon.ok(&["network", "ls", "--format", "table {{.Name}}\t{{.Label \"tier\"}}"]);
    assert!(lines(&table.unwrap()).iter().any(|line| line.split_whitespace().eq(["back", "back"])));
    for line in lines(&daemon.ok(&["network", "ls", "--format", "json"]).unwrap()) {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(row["ID"].is_string() && row["Labels"].is_string(), "{line}");
    }
    assert_eq!(daemon.ok(&["network", "prune", "-f", "--filter", "until=1h"]).unwrap(), "");
    let pruned = daemon.ok(&["network", "prune", "-f", "--filter", "label=tier=front"]).unwrap();
    assert_eq!(pruned, "Deleted Networks:\nfront");
    let pruned = daemon.ok(&["network", "prune", "-f", "--filter", "label!=tier=front"]).unwrap();
    assert_eq!(pruned, "Deleted Networks:\nback");
    assert_eq!(daemon.cli(&["network", "rm", "-f", "nope"]).unwrap().code, Some(0));
    daemon.ok(&["sandbox", "rm", "web"]).unwrap();
    assert_eq!(daemon.ok(&["network", "rm", "used"]).unwrap(), "used");
    assert_eq!(ls(&["type=custom"]), "");
}

#[test]
fn containers_are_connected_with_addresses_and_aliases_and_disconnected() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "one", &["--subnet", "10.51.0.0/24", "--subnet", "fd51::/64"]);
    network(&daemon, "two", &["--subnet", "10.52.0.0/24", "--subnet", "fd52::/64"]);
    let web = container(&daemon, "web", "one", &[]);
    let connect = "network connect --ip 10.52.0.9 --ip6 fd52::9 --alias db --driver-opt a=b \
        --gw-priority 5 two web";
    assert_eq!(daemon.ok(&connect.split_whitespace().collect::<Vec<_>>()).unwrap(), "");
    let now = Container::find(&daemon, "web").unwrap();
    assert_eq!(
        now.addresses("two").unwrap(),
        ["10.52.0.9".parse().unwrap(), "fd52::9".parse::<std::net::IpAddr>().unwrap()]
    );
    assert_eq!(now.described()["Networks"]["two"]["Aliases"], serde_json::json!(["db"]));
    let routes =
        |family| web.netns.run(|| netd_tests::process::run("ip", &[family, "route"])).unwrap();
    assert!(routes("-4").contains("default via 10.52.0.1"), "{}", routes("-4"));
    assert!(routes("-6").contains("default via fd52::1"), "{}", routes("-6"));
    daemon.ok(&["network", "disconnect", "two", "web"]).unwrap();
    assert!(routes("-4").contains("default via 10.51.0.1"), "{}", routes("-4"));
    assert!(routes("-6").contains("default via fd51::1"), "{}", routes("-6"));
    assert_eq!(daemon.cli(&["network", "disconnect", "-f", "two", "nope"]).unwrap().code, Some(0));
}

#[test]
fn every_flag_of_run_has_its_effect() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &["--subnet", "10.53.0.0/24", "--subnet", "fd53::/64"]);
    let flags = "run --name web --network app --ip 10.53.0.9 --ip6 fd53::9 \
        --mac-address 02:00:00:00:00:09 --network-alias db --hostname worker --dns 192.0.2.53 \
        --dns-search corp.example --dns-option ndots:3 --label a=b --expose 81 --expose 53/udp \
        -p 8080:80 -p 127.0.0.1:9000-9001:90-91 -P --rm --";
    let script = "hostname; cat /etc/hosts /etc/resolv.conf; ip address show eth0";
    let flags: Vec<&str> = flags.split_whitespace().collect();
    let said = daemon.ok(&[&flags[..], &["sh", "-c", script]].concat()).unwrap();
    for wanted in [
        "worker\n",
        "10.53.0.9\tworker\nfd53::9\tworker\n",
        "nameserver 127.0.0.11\nsearch corp.example\noptions ndots:3\n",
        "10.53.0.9/24",
        "fd53::9/64",
        "02:00:00:00:00:09",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    let detached = [&["run", "-d"], &flags[1..], &["sleep", "1000"]].concat();
    let id = daemon.ok(&detached).unwrap();
    assert!(is_id(&id), "{id}");
    assert_eq!(daemon.ok(&["port", "web", "80"]).unwrap(), "0.0.0.0:8080\n[::]:8080");
    assert_eq!(daemon.ok(&["port", "web", "91/tcp"]).unwrap(), "127.0.0.1:9001");
    for port in ["81/tcp", "53/udp"] {
        assert_eq!(daemon.ok(&["port", "web", port]).unwrap().lines().count(), 2, "{port}");
    }
    let web = Container::find(&daemon, "web").unwrap();
    assert_eq!(web.described()["Networks"]["app"]["Aliases"], serde_json::json!(["db"]));
    for filter in
        ["name=web", "label=a=b", "network=app", "publish=8080", "expose=53/udp", "status=running"]
    {
        let wanted = if filter == "publish=8080" { "" } else { &id[..12] };
        assert_eq!(daemon.ok(&["ps", "-q", "-f", filter]).unwrap(), wanted, "{filter}");
    }
    assert_eq!(daemon.ok(&["ps", "-q", "--no-trunc"]).unwrap(), id);
    assert_eq!(daemon.ok(&["sandbox", "exec", "web", "hostname"]).unwrap(), "worker");
    assert_eq!(
        daemon.cli(&["sandbox", "exec", "web", "--", "sh", "-c", "exit 9"]).unwrap().code,
        Some(9)
    );
    assert_eq!(daemon.ok(&["sandbox", "rm", "web"]).unwrap(), "web");
}

#[test]
fn path_of_a_namespace_goes_in_and_out() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let create = ["sandbox", "create", "--network", "app", "--print-netns", "--name"];
    let made = daemon.ok(&[&create[..], &["own"]].concat()).unwrap();
    assert!(made.starts_with(&*daemon.places().netns().to_string_lossy()), "{made}");
    let links = Netns::at(&made).run(|| netd_tests::process::run("ip", &["-br", "link"])).unwrap();
    assert!(links.contains("eth0"), "{links}");
    let name = format!("{}-foreign", world.host.name());
    let foreign = Netns::create(&name).unwrap();
    let path = foreign.path().to_string_lossy().into_owned();
    let told = daemon.ok(&[&create[..], &["theirs", "--netns", &path]].concat()).unwrap();
    assert_eq!(told, path);
    let id = daemon.ok(&["sandbox", "create", "--name", "third", "--network", "none"]).unwrap();
    assert!(is_id(&id), "{id}");
    let all = daemon.ok(&["sandbox", "ls", "--format", "{{.Names}}"]).unwrap();
    assert_eq!(lines(&all).len(), 3, "{all}");
    daemon.ok(&["sandbox", "rm", "own", "theirs", "third"]).unwrap();
    assert_eq!(daemon.cli(&["sandbox", "rm", "-f", "own"]).unwrap().code, Some(0));
    Netns::delete(&name).unwrap();
}

/// What `check` says of one subject.
fn checked(daemon: &Daemon<'_>, subject: &str) -> String {
    let file = daemon.places().socket().with_file_name("../netd.toml");
    let said = daemon.cli(&["check", "--config", &file.to_string_lossy()]).unwrap();
    let line = said.stdout.lines().find(|line| line.contains(subject));
    line.unwrap_or_else(|| panic!("{subject}: {said:?}")).to_owned()
}

#[test]
fn check_finds_the_running_daemon_and_what_stands_in_the_way_of_a_second() {
    let world = World::new();
    let daemon = world.daemon();
    assert!(checked(&daemon, " API socket: ").contains("is running on"));
    for subject in
        [" kernel: ", " BTF: ", " bpffs: ", " cgroup v2: ", " capabilities: ", " state-dir: "]
    {
        assert!(checked(&daemon, subject).starts_with("ok "), "{}", checked(&daemon, subject));
    }
    let file = world.host.directory().join("netd.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (socket, other) = (daemon.places().socket(), world.host.directory().join("other.sock"));
    let moved = text.replace(&*socket.to_string_lossy(), &other.to_string_lossy());
    let second = world.host.directory().join("second.toml");
    std::fs::write(&second, moved).unwrap();
    let said = daemon.cli(&["check", "--config", &second.to_string_lossy()]).unwrap();
    assert_eq!(said.code, Some(1), "{said:?}");
    for wanted in
        ["WRONG  state-dir: another netd daemon (process ", "WRONG  metrics: 127.0.0.1:9959"]
    {
        assert!(said.stdout.contains(wanted), "{wanted}: {said:?}");
    }
    assert!(said.stdout.contains("; stop it, or set another state-dir"), "{said:?}");
}
