//! Published ports: the syntax and what it comes to.

use super::*;
use crate::model::port::parse_expose;

#[test]
fn dockers_syntax_is_read() {
    for (text, canonical) in [
        ("80", "80/tcp"),
        ("80/UDP", "80/udp"),
        ("80/", "80/tcp"),
        (":80", "80/tcp"),
        ("0:80", "80/tcp"),
        ("8080:80", "8080:80/tcp"),
        ("127.0.0.1::80", "127.0.0.1::80/tcp"),
        ("[::1]:80:80", "[::1]:80:80/tcp"),
        ("::1:80:80", "[::1]:80:80/tcp"),
        ("::ffff:192.0.2.1:80:80", "192.0.2.1:80:80/tcp"),
        ("8000-8010:8000-8010/sctp", "8000-8010:8000-8010/sctp"),
        ("7001-7002:80", "7001-7002:80/tcp"),
        ("published=8080,target=80,protocol=udp", "8080:80/udp"),
        ("target=80", "80/tcp"),
    ] {
        let specs = parse_ports(text).unwrap();
        assert_eq!(specs.len(), 1);
        assert_eq!(specs[0].to_string(), canonical, "{text}");
        assert_eq!(parse_ports(canonical).unwrap(), specs, "{canonical}");
    }
}

#[test]
fn other_syntax_is_refused_in_dockers_words() {
    for (text, refusal) in [
        ("99999:80", "invalid hostPort: 99999"),
        ("0-5:80-85", "invalid hostPort: 0-5"),
        ("+8:80", "invalid hostPort: +8"),
        (
            "8000-8010:80-81",
            "invalid ranges specified for container and host Ports: 80-81 and 8000-8010",
        ),
        ("80:80/foo", "invalid proto: foo"),
        ("1.2.3:80:80", "invalid IP address: 1.2.3"),
        ("[1.2.3.4]:80:80", "invalid IP address: [1.2.3.4]"),
        ("80:0", "invalid port specification: \"0/tcp\""),
        ("80:90-80", "invalid containerPort: 90-80"),
        ("x", "invalid containerPort: x"),
        ("", "no port specified: <empty>"),
        ("80:", "no port specified: 80:<empty>"),
        ("published=80,x", "invalid publish opts format (should be name=value but got 'x')"),
    ] {
        assert_eq!(parse_ports(text).unwrap_err().message, refusal, "{text}");
    }
    assert_eq!(parse_expose("80-90/udp"), Ok((80, 90, Proto::Udp)));
    assert_eq!(
        parse_expose("80:80").unwrap_err().message,
        "invalid port format for --expose: 80:80"
    );
    assert_eq!(parse_expose("0").unwrap_err().message, "invalid range format for --expose: 0");
}

#[test]
fn a_port_opens_on_both_families_where_both_have_a_gateway() {
    let mut world = World::new();
    world.network(NetworkSpec { ipv6: Some(true), ..named("six") });
    world.sandbox(publishing("four", &[], &["8080:80"]));
    assert_eq!(world.ports("four"), ["0.0.0.0:8080->80*1/tcp"]);
    world.sandbox(publishing("both", &["six"], &["81", "9000-9009:9000-9009/udp"]));
    assert_eq!(
        world.ports("both"),
        [
            "0.0.0.0:32768->81*1/tcp",
            "[::]:32768->81*1/tcp",
            "0.0.0.0:9000->9000*10/udp",
            "[::]:9000->9000*10/udp"
        ]
    );
}

#[test]
fn conflicts_are_refused_in_dockers_words() {
    let mut world = World::new();
    world.sandbox(publishing("p1", &[], &["8080:80", "192.0.2.1:9000-9100:9000-9100"]));
    for (ports, text) in [
        ("8080:80", "Bind for 0.0.0.0:8080 failed: port is already allocated"),
        ("127.0.0.1:8080:80", "Bind for 0.0.0.0:8080 failed: port is already allocated"),
        ("9050:80", "Bind for 0.0.0.0:9050 failed: port is already allocated"),
        ("8000-9200:8000-9200", "port is already allocated"),
        ("192.0.2.1:9100:1", "Bind for 192.0.2.1:9100 failed: port is already allocated"),
        (
            "203.0.113.9:8081:80",
            "failed to bind host port 203.0.113.9:8081/tcp: cannot assign requested address",
        ),
    ] {
        let refused = world.sandbox_refused(publishing("p2", &[], &[ports]));
        assert!(refused.ends_with(text), "{refused}");
        let head = "failed to set up container networking: driver failed programming external connectivity on endpoint p2 (";
        assert!(refused.starts_with(head), "{refused}");
    }
    world.sandbox(publishing("p4", &[], &["8080:80/udp", "127.0.0.1:9000:80", "8081:80"]));
    let refused = world.sandbox_refused(publishing("p5", &[], &["70:1", "70:2"]));
    assert!(
        refused.ends_with("Bind for 0.0.0.0:70 failed: port is already allocated"),
        "{refused}"
    );
    let refused = world.sandbox_refused(publishing("p6", &[], &["80/sctp"]));
    assert_eq!(refused, "SCTP publishing is not supported yet by netd: publish tcp or udp");
    world.must(remove_sandbox("p1"));
    world.sandbox(publishing("p2", &[], &["8080:80"]));
}

#[test]
fn a_range_for_one_port_gives_its_first_free() {
    let mut world = World::new();
    world.now.busy_ports = BTreeSet::from([(Proto::Tcp, 7001)]);
    world.sandbox(publishing("p7", &[], &["7001-7002:80"]));
    world.sandbox(publishing("p8", &[], &["7001-7002:80"]));
    assert_eq!(world.ports("p7"), ["0.0.0.0:7002->80*1/tcp"]);
    assert_eq!(world.ports("p8"), ["0.0.0.0:7001->80*1/tcp"]);
    let refused = world.sandbox_refused(publishing("p9", &[], &["7001-7002:80"]));
    assert!(refused.ends_with(": all ports are allocated"), "{refused}");
}

#[test]
fn random_ports_go_round_and_pass_over_busy_ones() {
    let mut world = World::new();
    world.now.busy_ports = BTreeSet::from([(Proto::Tcp, 32_769)]);
    world.sandbox(publishing("a1", &[], &["80"]));
    world.sandbox(publishing("a2", &[], &["80"]));
    assert_eq!(world.ports("a2"), ["0.0.0.0:32770->80*1/tcp"]);
    world.must(remove_sandbox("a1"));
    world.sandbox(publishing("a3", &[], &["80"]));
    assert_eq!(world.ports("a3"), ["0.0.0.0:32771->80*1/tcp"]);
    world.sandbox(publishing("a4", &[], &["80", "80/udp"]));
    assert_eq!(world.ports("a4"), ["0.0.0.0:32768->80*1/tcp", "0.0.0.0:32768->80*1/udp"]);
    assert!(
        world.sandbox_refused(publishing("a5", &[], &["80"])).ends_with("all ports are allocated")
    );
}

#[test]
fn publish_all_opens_what_is_exposed_and_not_yet_published() {
    let mut world = World::new();
    let expose = ["80-82", "81", "53/udp"].map(str::to_owned).to_vec();
    let spec = SandboxSpec { publish_all: true, expose, ..publishing("c1", &[], &["8081:81"]) };
    world.sandbox(spec);
    assert_eq!(
        world.ports("c1"),
        [
            "0.0.0.0:8081->81*1/tcp",
            "0.0.0.0:32768->80*1/tcp",
            "0.0.0.0:32769->82*1/tcp",
            "0.0.0.0:32768->53*1/udp"
        ]
    );
}

#[test]
fn ports_follow_the_gateway_and_keep_their_numbers() {
    let mut world = World::new();
    world.network(NetworkSpec { internal: true, ..named("inside") });
    world.network(NetworkSpec { ipv6: Some(true), ..named("six") });
    world.network(named("four"));
    world.sandbox(publishing("c1", &["inside"], &["80", "80", "[::1]:9000:90"]));
    assert!(world.ports("c1").is_empty());
    world.must(connect("four", "c1", EndpointSpec::default()));
    assert_eq!(world.ports("c1"), ["0.0.0.0:32768->80*1/tcp", "0.0.0.0:32769->80*1/tcp"]);
    let slots = |world: &World| -> Vec<u32> {
        world.model.find_sandbox("c1").unwrap().publications.iter().map(|row| row.slot).collect()
    };
    let before = slots(&world);
    world.must(connect("six", "c1", EndpointSpec::default()));
    assert_eq!(
        world.ports("c1"),
        [
            "0.0.0.0:32768->80*1/tcp",
            "[::]:32768->80*1/tcp",
            "0.0.0.0:32769->80*1/tcp",
            "[::]:32769->80*1/tcp",
            "[::1]:9000->90*1/tcp"
        ]
    );
    assert_eq!((slots(&world)[0], slots(&world)[2]), (before[0], before[1]));
    world.must(disconnect("six", "c1"));
    world.must(disconnect("four", "c1"));
    assert!(world.ports("c1").is_empty());
}

#[test]
fn a_named_address_without_its_family_is_warned_of() {
    let mut world = World::new();
    let spec = Box::new(publishing("c1", &[], &["[::1]:80:80"]));
    let Outcome::Sandbox(_, warnings) = world.must(Command::CreateSandbox(spec)) else {
        unreachable!("creation gives an id")
    };
    assert_eq!(
        warnings,
        ["Published port [::1]:80:80/tcp is not open: no network of the container provides IPv6"]
    );
}

#[test]
fn the_default_host_address_is_the_networks_then_the_daemons() {
    let mut world = World::with(Settings { ip: Some("127.0.0.1".parse().unwrap()), ..settings() });
    let key = "com.docker.network.bridge.host_binding_ipv4";
    let spec = NetworkSpec { ipv6: Some(true), ..with_option("n1", key, "192.0.2.1") };
    world.network(spec);
    world.sandbox(publishing("c1", &[], &["80:80"]));
    world.sandbox(publishing("c2", &["n1"], &["80:80"]));
    assert_eq!(world.ports("c1"), ["127.0.0.1:80->80*1/tcp"]);
    assert_eq!(world.ports("c2"), ["192.0.2.1:80->80*1/tcp"]);
}

#[test]
fn routed_mode_takes_no_host_port() {
    let mut world = World::new();
    world.network(with_option("r", "com.docker.network.bridge.gateway_mode_ipv4", "routed"));
    world.sandbox(publishing("c1", &["r"], &["8080:80"]));
    assert_eq!(world.ports("c1"), ["0.0.0.0:0->80*1/tcp"]);
    world.sandbox(publishing("c2", &[], &["8080:80"]));
}

#[test]
fn fifty_thousand_ports_are_one_row() {
    let mut world = World::new();
    world.sandbox(publishing(
        "c1",
        &[],
        &["10000-59999:10000-59999", "10000-59999:10000-59999/udp"],
    ));
    assert_eq!(
        world.ports("c1"),
        ["0.0.0.0:10000->10000*50000/tcp", "0.0.0.0:10000->10000*50000/udp"]
    );
    let refused = world.sandbox_refused(publishing("c2", &[], &["30000:80"]));
    assert!(refused.ends_with("Bind for 0.0.0.0:30000 failed: port is already allocated"));
}

#[test]
fn more_ports_than_the_dataplane_holds_are_refused() {
    let mut world = World::new();
    world.now.host_addresses =
        (1..=5).map(|last| std::net::Ipv4Addr::new(192, 0, 2, last).into()).collect();
    for last in 1..=4 {
        world.sandbox(publishing(
            &format!("c{last}"),
            &[],
            &[&format!("192.0.2.{last}:1-65535:1-65535")],
        ));
    }
    let refused = world.sandbox_refused(publishing("c5", &[], &["192.0.2.5:1-65535:1-65535"]));
    assert!(
        refused.ends_with("netd holds at most 262144 IPv4 ports (map published_v4): publish fewer"),
        "{refused}"
    );
}
