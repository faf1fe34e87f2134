//! Bad input, verb by verb: one clear sentence, an exit code that isn't zero, and nothing half-done.

use super::{World, container, network};

/// Arguments, what the sentence must say.
type Case<'a> = (&'a [&'a str], &'a str);

const CASES: &[Case<'_>] = &[
    (&["network", "create", "app"], "network with name app already exists"),
    (&["network", "create", "host"], "operation is not permitted on predefined host network"),
    (
        &["network", "create", "--subnet", "10.0.0.1/24", "x"],
        "invalid subnet 10.0.0.1/24: it should be 10.0.0.0/24",
    ),
    (
        &["network", "create", "--subnet", "10.77.0.0/25", "x"],
        "Pool overlaps with other one on this address space",
    ),
    (
        &["network", "create", "--subnet", "10.9.0.0/24", "--gateway", "10.8.0.1", "x"],
        "no matching subnet for gateway 10.8.0.1",
    ),
    (
        &["network", "create", "--gateway", "10.8.0.1", "x"],
        "every ip-range or gateway must have a corresponding subnet",
    ),
    (&["network", "create", "-d", "nope", "x"], "nope"),
    (&["network", "create", "-o", "netd.nope=1", "x"], "netd.nope"),
    (&["network", "create", "-o", "com.docker.network.driver.mtu=abc", "x"], "abc"),
    (&["network", "create", "--ipv4=false", "x"], "IPv4 or IPv6 must be enabled"),
    (&["network", "create", ""], "name"),
    (&["network", "inspect", "nope"], "network nope not found"),
    (&["network", "rm", "nope"], "network nope not found"),
    (&["network", "rm", "bridge"], "bridge is a pre-defined network and cannot be removed"),
    (&["network", "rm", "app"], "has active endpoints"),
    (&["network", "prune", "-f", "--filter", "nope=1"], "nope"),
    (&["network", "ls", "--filter", "nope=1"], "nope"),
    (&["network", "connect", "nope", "web"], "network nope not found"),
    (&["network", "connect", "app", "web"], "endpoint with name web already exists in network app"),
    (&["network", "connect", "host", "web"], "cannot connect container to host network"),
    (&["network", "disconnect", "bridge", "web"], "is not connected to"),
    (&["network", "disconnect", "app", "nope"], "nope"),
    (&["sandbox", "create", "--name", "web"], "already in use by container"),
    (&["sandbox", "create", "--network", "nope"], "network nope not found"),
    (&["sandbox", "create", "--network", "app", "--ip", "10.78.0.5"], "10.78.0.5"),
    (&["sandbox", "create", "--network", "app", "--ip", "10.77.0.2"], "Address already in use"),
    (&["sandbox", "create", "--network", "app", "--mac-address", "zz"], "zz"),
    (
        &["sandbox", "create", "--network", "app", "-p", "8080:80"],
        "Bind for 0.0.0.0:8080 failed: port is already allocated",
    ),
    (
        &["sandbox", "create", "--network", "app", "-p", "203.0.113.9:8081:80"],
        "failed to bind host port 203.0.113.9:8081/tcp: cannot assign requested address",
    ),
    (&["sandbox", "create", "--network", "app", "-p", "99999:80"], "99999"),
    (&["sandbox", "create", "--network", "app", "-p", "80/nope"], "nope"),
    (
        &["sandbox", "create", "--network", "app", "-p", "8000-8010:80-81"],
        "invalid ranges specified for container and host Ports: 80-81 and 8000-8010",
    ),
    (&["sandbox", "create", "--network", "app", "--netns", "/no/such/netns"], "/no/such/netns"),
    (&["sandbox", "rm", "nope"], "nope"),
    (&["sandbox", "inspect", "nope"], "nope"),
    (&["sandbox", "exec", "nope", "--", "true"], "nope"),
    (&["port", "nope"], "nope"),
    (&["port", "web", "81/tcp"], "81/tcp"),
    (&["run", "--network", "nope", "--", "true"], "network nope not found"),
    (&["log-level", "no=such=level"], "no=such=level"),
    (&["status", "--format", "{{.Nope"], "template"),
    (&["ps", "--filter", "nope=1"], "nope"),
];

#[test]
fn every_verb_refuses_a_wrong_value_in_one_sentence_and_changes_nothing() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &["--subnet", "10.77.0.0/24"]);
    container(&daemon, "web", "app", &["--ip", "10.77.0.2", "-p", "8080:80"]);
    let state = || {
        let networks = daemon.ok(&["network", "ls", "--no-trunc"]).unwrap();
        (
            networks,
            daemon.ok(&["sandbox", "inspect", "-f", "{{json .Ports}} {{.State}}", "web"]).unwrap(),
            daemon.ok(&["ps", "-q"]).unwrap(),
        )
    };
    let before = state();
    let mut wrong = Vec::new();
    for (arguments, sentence) in CASES {
        let said = daemon.cli(arguments).unwrap();
        let fits = said.code.is_some_and(|code| code != 0)
            && said.stderr.contains(sentence)
            && !said.stderr.contains("panicked");
        if !fits {
            wrong.push(format!("{}: wanted '{sentence}', got {said:?}", arguments.join(" ")));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
    assert_eq!(state(), before);
}

#[test]
fn wrong_configuration_is_refused_with_file_line_and_key() {
    let world = World::new();
    for (settings, words) in [
        ("mtuu = 1500", &["netd.toml", "mtuu"][..]),
        ("mtu = \"many\"", &["netd.toml", "mtu"]),
        ("bip = \"10.0.0.0\"", &["bip"]),
        ("[[default-address-pools]]\nbase = \"10.0.0.0/16\"\nsize = 8", &["default-address-pools"]),
    ] {
        let refused = netd_tests::Daemon::start(&world.host, settings);
        let text = format!("{:#}", refused.err().unwrap_or_else(|| panic!("{settings} was taken")));
        for word in words {
            assert!(text.contains(word), "{settings}: {text}");
        }
    }
}

#[test]
fn missing_daemon_is_told_in_dockers_words() {
    let world = World::new();
    let netd = netd_tests::process::built("netd").unwrap();
    let said = world.host.exec(&netd, &["-H", "unix:///no/such.sock", "ps"]).unwrap();
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    let wanted =
        "Cannot connect to the netd daemon at unix:///no/such.sock. Is the netd daemon running?";
    assert!(text.contains(wanted), "{text}");
    assert_eq!(said.status.code(), Some(1));
}
