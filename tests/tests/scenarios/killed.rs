//! kill -9 at every effect: the daemon dies before or after each single change that an operation makes,
//! and the next one comes to exactly what was acknowledged, with nothing orphaned.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use netd_tests::{Daemon, eventually};

use super::{World, network};

/// For what a daemon does by itself.
const SETTLES_WITHIN: Duration = Duration::from_secs(30);
/// No operation has as many points.
const POINTS_AT_MOST: u32 = 300;

const SANDBOX: [&str; 10] = [
    "sandbox",
    "create",
    "--name",
    "web",
    "--network",
    "app",
    "-p",
    "8080:7000",
    "-p",
    "8443:7001/udp",
];

/// An operation, what undoes it, and what stands before it.
struct Operation {
    run: &'static [&'static [&'static str]],
    undo: &'static [&'static [&'static str]],
}

/// Everything of netd's on a host, told without the names and numbers that are drawn anew each time.
type Census = BTreeMap<String, usize>;

/// Fails where the daemon dies meanwhile.
fn census_while_alive(world: &World, daemon: &Daemon<'_>) -> anyhow::Result<Census> {
    let mut lines = Vec::new();
    let say = |program: &str, arguments: &[&str]| {
        let said = world.host.exec(program, arguments).unwrap();
        String::from_utf8_lossy(&said.stdout).into_owned()
    };
    for arguments in [&["-br", "address"][..], &["route"], &["-6", "route"]] {
        let text = say("ip", arguments);
        lines.extend(
            text.lines().map(|line| format!("ip {}: {}", arguments.join(" "), plain(line))),
        );
    }
    let sockets = say("ss", &["-Hlntu"]);
    lines.extend(sockets.lines().map(|line| format!("socket {line}")));
    for namespace in list(&daemon.places().netns()) {
        let inside = netd_tests::Netns::at(daemon.places().netns().join(namespace));
        lines.push("namespace".to_owned());
        for arguments in [&["-br", "address"][..], &["route"], &["-6", "route"]] {
            let mut command = std::process::Command::new("ip");
            let said = inside.run(|| netd_tests::process::output(command.args(arguments), b""))?;
            let text = String::from_utf8(said.stdout)?;
            lines.extend(text.lines().map(|line| format!("inside: {}", plain(line))));
        }
    }
    let ledger = list(&world.host.directory().join("state/namespaces"));
    lines.extend(ledger.iter().map(|_| "remembered namespace".to_owned()));
    let files = world.host.directory().join("state/sandboxes");
    for sandbox in list(&files) {
        for name in ["hosts", "hostname", "resolv.conf"] {
            let text = std::fs::read_to_string(files.join(&sandbox).join(name));
            let text = text.unwrap_or_default().replace(&sandbox[..sandbox.len().min(12)], "ID");
            lines.extend(text.lines().map(|line| format!("{name}: {line}")));
        }
    }
    for pin in pins(daemon.places().bpffs()) {
        lines.push(format!("pin {}", plain(&pin)));
    }
    let status: serde_json::Value =
        serde_json::from_str(&daemon.ok(&["status", "--format", "json"])?)?;
    for map in status["Maps"].as_array().unwrap() {
        let name = map["Name"].as_str().unwrap();
        if !["flows", "drops", "fragments", "socket_peers"].iter().any(|it| name.starts_with(it)) {
            lines.push(format!("map {name} holds {}", map["Entries"]));
        }
    }
    lines.push(format!("problems {}", status["Problems"]));
    lines.extend(settings(world)?);
    for verb in [
        &["ps", "--format", "{{.Names}} {{.Networks}} {{.Ports}}"][..],
        &["network", "ls", "--format", "{{.Name}}"],
    ] {
        let text = daemon.ok(verb)?;
        lines.extend(text.lines().map(|line| format!("object {line}")));
    }
    let mut census = Census::new();
    for line in lines {
        *census.entry(line).or_default() += 1;
    }
    Ok(census)
}

fn census(world: &World, daemon: &Daemon<'_>) -> Census {
    census_while_alive(world, daemon).unwrap()
}

/// Every setting of the kinds that netd writes, of every link and of all.
fn settings(world: &World) -> anyhow::Result<Vec<String>> {
    let kinds = [
        ("ipv4/conf", &["forwarding", "rp_filter"][..]),
        ("ipv6/conf", &["forwarding", "disable_ipv6", "accept_ra", "accept_dad", "addr_gen_mode"]),
        ("ipv4/neigh", &["base_reachable_time_ms"]),
        ("ipv6/neigh", &["base_reachable_time_ms"]),
    ];
    world.host.netns().run(|| {
        let root = Path::new("/proc/sys/net");
        let reserved = std::fs::read_to_string(root.join("ipv4/ip_local_reserved_ports"))?;
        let mut found = vec![format!("reserved ports {}", reserved.trim())];
        for (table, keys) in kinds {
            for link in list(&root.join(table)) {
                for key in keys {
                    let value = std::fs::read_to_string(root.join(table).join(&link).join(key));
                    let value = value.unwrap_or_default();
                    found.push(format!("{table}/{}/{key} = {}", plain(&link), value.trim()));
                }
            }
        }
        Ok(found)
    })
}

fn list(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn pins(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for name in list(root) {
        let path = root.join(&name);
        if path.is_dir() {
            found.extend(pins(&path).into_iter().map(|below| format!("{name}/{below}")));
        } else {
            found.push(name);
        }
    }
    found
}

/// Without drawn names (`vethc0ffee`, `br-0123`), interface numbers, MACs and link-local addresses.
fn plain(line: &str) -> String {
    let word = |word: &str| {
        let word = word.split('@').next().unwrap_or_default();
        if word.matches(':').count() == 5 && word.len() == 17 {
            return "MAC".to_owned();
        }
        if word.starts_with("fe80::") {
            return "fe80::".to_owned();
        }
        let mut text = word.to_owned();
        for prefix in ["veth", "br-"] {
            while let Some(at) = text.find(prefix) {
                let rest = &text[at + prefix.len()..];
                let len = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
                text = format!("{}<{}>{}", &text[..at], &prefix[..2], &rest[len..]);
            }
        }
        text
    };
    // A bridge without ports loses its carrier some time after it has come up.
    let moving = ["UNKNOWN", "DOWN", "UP", "linkdown"];
    let words = line.split_whitespace().filter(|word| !moving.contains(word));
    words.map(word).collect::<Vec<_>>().join(" ")
}

fn census_of_next_daemon(world: &World) -> Census {
    let daemon = world.daemon();
    let found = census(world, &daemon);
    daemon.stop().unwrap();
    found
}

fn differences(found: &Census, expected: &Census) -> Vec<String> {
    let more = found.iter().filter(|(line, count)| expected.get(*line) != Some(count));
    let less = expected.iter().filter(|(line, count)| found.get(*line) != Some(count));
    more.map(|(line, count)| format!("found {count} x {line}"))
        .chain(less.map(|(line, count)| format!("expected {count} x {line}")))
        .collect()
}

fn all(daemon: &Daemon<'_>, lines: &[&[&str]]) -> bool {
    lines.iter().all(|line| daemon.cli(line).unwrap().code == Some(0))
}

/// What a daemon comes to by itself: the number of the expected census that it matches, or none where it
/// dies meanwhile.
fn comes_to(world: &World, daemon: &mut Daemon<'_>, expected: &[&Census]) -> Option<usize> {
    let mut told = Vec::new();
    let settled = eventually("one of the expected states", SETTLES_WITHIN, || {
        if daemon.is_dead()? {
            return Ok(Some(None));
        }
        let Ok(found) = census_while_alive(world, daemon) else { return Ok(None) };
        told = expected.iter().map(|it| differences(&found, it)).collect::<Vec<_>>();
        Ok(told.iter().position(Vec::is_empty).map(Some))
    });
    settled.unwrap_or_else(|error| {
        for differences in &mut told {
            differences.truncate(20);
        }
        panic!("{error}; it differs by {told:#?}")
    })
}

/// Kills the daemon at every point of an operation in turn; how many there were. The daemon that takes
/// up the work is already the one that dies at the next point.
fn die_at_every_point(world: &World, operation: &Operation) -> u32 {
    // Of daemons that have just started: one that runs takes a while to hear of its own changes.
    let before = census_of_next_daemon(world);
    assert!(all(&world.daemon(), operation.run), "{:?} works", operation.run);
    let after = census_of_next_daemon(world);
    assert!(all(&world.daemon(), operation.undo), "{:?} works", operation.undo);
    let undone = census_of_next_daemon(world);
    assert_eq!(differences(&undone, &before), Vec::<String>::new(), "undone");
    // What was not acknowledged may have been kept: the answer was lost, not the change.
    let expected = [&before, &after];
    let dying = |point: u32| Daemon::start_dying(&world.host, &point.to_string()).unwrap();
    let mut daemon = dying(1);
    for point in 1..POINTS_AT_MOST {
        if all(&daemon, operation.run) {
            // The point comes after the operation: its daemon may die yet.
            daemon.crash().unwrap();
            assert!(all(&world.daemon(), operation.undo), "{:?} works", operation.undo);
            return point - 1;
        }
        daemon.has_died().unwrap();
        daemon = dying(point + 1);
        if comes_to(world, &mut daemon, &expected) == Some(0) {
            continue;
        }
        daemon.crash().unwrap();
        let mut plain = world.daemon();
        if comes_to(world, &mut plain, &expected) == Some(1) {
            assert!(all(&plain, operation.undo), "{:?} works", operation.undo);
        }
        plain.stop().unwrap();
        daemon = dying(point + 1);
    }
    panic!("{:?} has no {POINTS_AT_MOST} points", operation.run);
}

#[test]
fn kill_at_any_effect_of_making_a_network_leaves_it_whole_or_not_at_all() {
    let world = World::new();
    let operation = Operation {
        run: &[&["network", "create", "--ipv6", "app"]],
        undo: &[&["network", "rm", "app"]],
    };
    let points = die_at_every_point(&world, &operation);
    assert!(points >= 15, "only {points} points");
}

#[test]
fn kill_at_any_effect_of_removing_a_network_leaves_it_whole_or_not_at_all() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    daemon.stop().unwrap();
    let operation = Operation {
        run: &[&["network", "rm", "app"]],
        undo: &[&["network", "create", "--ipv6", "app"]],
    };
    let points = die_at_every_point(&world, &operation);
    assert!(points >= 5, "only {points} points");
}

#[test]
fn kill_at_any_effect_of_creating_joining_and_publishing_leaves_all_or_nothing() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    daemon.stop().unwrap();
    let operation = Operation { run: &[&SANDBOX], undo: &[&["sandbox", "rm", "web"]] };
    let points = die_at_every_point(&world, &operation);
    assert!(points >= 25, "only {points} points");
}

#[test]
fn kill_at_any_effect_of_deleting_a_sandbox_leaves_all_or_nothing() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    daemon.ok(&SANDBOX).unwrap();
    daemon.stop().unwrap();
    let operation = Operation { run: &[&["sandbox", "rm", "web"]], undo: &[&SANDBOX] };
    let points = die_at_every_point(&world, &operation);
    assert!(points >= 8, "only {points} points");
}

#[test]
fn kill_at_any_effect_of_joining_and_leaving_a_second_network_leaves_one_or_both() {
    let world = World::new();
    let daemon = world.daemon();
    for name in ["app", "data"] {
        network(&daemon, name, &[]);
    }
    daemon.ok(&SANDBOX).unwrap();
    daemon.stop().unwrap();
    let join: &[&[&str]] = &[&["network", "connect", "data", "web"]];
    let leave: &[&[&str]] = &[&["network", "disconnect", "data", "web"]];
    let points = die_at_every_point(&world, &Operation { run: join, undo: leave });
    assert!(points >= 12, "only {points} points");
    world.daemon().ok(join[0]).unwrap();
    let points = die_at_every_point(&world, &Operation { run: leave, undo: join });
    assert!(points >= 5, "only {points} points");
}

/// A host that has lost its links makes them anew at the next start, which dies at every point in turn.
#[test]
fn kill_at_any_effect_of_reconciling_at_start_is_made_good_by_the_next_start() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    daemon.ok(&SANDBOX).unwrap();
    let whole = census(&world, &daemon);
    let devices = daemon.ok(&["network", "inspect", "app", "bridge"]).unwrap();
    let devices: serde_json::Value = serde_json::from_str(&devices).unwrap();
    let devices: Vec<&str> =
        devices.as_array().unwrap().iter().filter_map(|it| it["Device"].as_str()).collect();
    assert_eq!(devices.len(), 2);
    daemon.stop().unwrap();
    for point in 1..POINTS_AT_MOST {
        for device in &devices {
            world.host.ip(&["link", "delete", device]).unwrap();
        }
        for namespace in list(&world.host.directory().join("netns")) {
            let file = world.host.directory().join("netns").join(namespace);

            nix::mount::umount(&file).unwrap();
        }
        let died = Daemon::start_dying(&world.host, &format!("start:{point}")).is_err();
        let mut daemon = world.daemon();
        assert_eq!(comes_to(&world, &mut daemon, &[&whole]), Some(0), "point {point}");
        daemon.stop().unwrap();
        if !died {
            assert!(point > 30, "only {point} points");
            return;
        }
    }
    panic!("a start has no {POINTS_AT_MOST} points");
}

/// A link that somebody deletes is made anew by the daemon that runs, which dies at every point in turn.
#[test]
fn kill_at_any_effect_of_repairing_is_made_good_by_the_next_start() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    daemon.ok(&SANDBOX).unwrap();
    let whole = census(&world, &daemon);
    let veth = list(
        &daemon
            .places()
            .bpffs()
            .join(list(daemon.places().bpffs()).into_iter().find(|it| it.len() == 16).unwrap())
            .join("links"),
    );
    let veth = veth
        .iter()
        .find(|pin| pin.starts_with("veth"))
        .unwrap()
        .split('-')
        .next()
        .unwrap()
        .to_owned();
    daemon.stop().unwrap();
    for point in 1..POINTS_AT_MOST {
        let mut daemon = Daemon::start_dying(&world.host, &point.to_string()).unwrap();
        world.host.ip(&["link", "delete", &veth]).unwrap();
        if comes_to(&world, &mut daemon, &[&whole]).is_some() {
            assert!(point > 15, "only {point} points");
            return;
        }
        let mut daemon = world.daemon();
        assert_eq!(comes_to(&world, &mut daemon, &[&whole]), Some(0), "point {point}");
        daemon.stop().unwrap();
    }
    panic!("a repair has no {POINTS_AT_MOST} points");
}
