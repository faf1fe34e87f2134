//! The harness itself: its hosts reach each other over real links, and nothing of it stays.

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use netd_tests::host::cgroup_root;
use netd_tests::lab::{PREFIX, ROOT, remove_leftovers, things_named};
use netd_tests::outside::{ROUTER_V4, ROUTER_V6, WORLD_V4, WORLD_V6};
use netd_tests::process::{COMMAND_DEADLINE, built, wait};
use netd_tests::wire::{tcp_echo_server, tcp_request, udp_echo_server, udp_request};
use netd_tests::{Host, Lab, Netns, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn two_hosts_reach_each_other_and_the_world_on_both_families() {
    let lab = Lab::new().unwrap();
    let outside = lab.outside().unwrap();
    let (a, b) = (lab.host(&outside).unwrap(), lab.host(&outside).unwrap());
    let targets: [IpAddr; 6] = [
        b.v4().into(),
        b.v6().into(),
        ROUTER_V4.into(),
        ROUTER_V6.into(),
        WORLD_V4.into(),
        WORLD_V6.into(),
    ];
    for target in targets {
        assert!(a.pings(target).unwrap(), "{target} does not answer");
    }
}

#[test]
fn address_that_nobody_has_does_not_answer() {
    let lab = Lab::new().unwrap();
    let host = lab.host(&lab.outside().unwrap()).unwrap();
    assert!(!host.pings([198, 51, 100, 250]).unwrap());
}

#[test]
fn server_and_client_say_which_addresses_they_saw() {
    let lab = Lab::new().unwrap();
    let outside = lab.outside().unwrap();
    let host = lab.host(&outside).unwrap();
    for (address, client) in
        [(IpAddr::from(host.v4()), IpAddr::from(ROUTER_V4)), (host.v6().into(), ROUTER_V6.into())]
    {
        let any_port = SocketAddr::new(address, 0);
        let tcp = tcp_echo_server(host.netns(), any_port).unwrap();
        let udp = udp_echo_server(host.netns(), any_port).unwrap();
        let over_tcp = tcp_request(outside.netns(), tcp.address(), b"hello").unwrap();
        let over_udp = udp_request(outside.netns(), udp.address(), b"hello").unwrap();
        for (answer, server) in [(over_tcp, &tcp), (over_udp, &udp)] {
            assert_eq!(answer.seen_as.ip(), client);
            assert_eq!(answer.from, server.address());
            assert_eq!(answer.echo, b"hello");
        }
    }
}

#[test]
fn nothing_of_a_laboratory_stays_even_after_a_panic() {
    let name = std::thread::spawn(|| {
        let lab = Lab::new().unwrap();
        let host = lab.host(&lab.outside().unwrap()).unwrap();
        start_server(&host).unwrap();
        std::panic::panic_any(lab.name().to_owned());
    })
    .join()
    .unwrap_err();
    let name = name.downcast::<String>().expect("the panic carries the name");
    assert_eq!(things_named(&name).unwrap(), Vec::<PathBuf>::new());
}

#[test]
fn program_of_a_host_runs_in_its_namespace_and_control_group() {
    let lab = Lab::new().unwrap();
    let outside = lab.outside().unwrap();
    let host = lab.host(&outside).unwrap();
    start_server(&host).unwrap();
    let answer = eventually("the server's answer", netd_tests::wire::ANSWER_DEADLINE, || {
        Ok(tcp_request(outside.netns(), (host.v4(), 80).into(), b"x").ok())
    });
    assert_eq!(answer.unwrap().seen_as.ip(), IpAddr::from(ROUTER_V4));
    let members = std::fs::read_to_string(host.cgroup().join("cgroup.procs")).unwrap();
    assert_eq!(members.lines().count(), 1);
}

#[test]
fn two_laboratories_at_once_do_not_meet() {
    let (first, second) = (Lab::new().unwrap(), Lab::new().unwrap());
    let (ours, theirs) = (first.outside().unwrap(), second.outside().unwrap());
    let (a, b) = (first.host(&ours).unwrap(), second.host(&theirs).unwrap());
    assert_eq!(a.v4(), b.v4());
    let server = tcp_echo_server(a.netns(), (a.v4(), 80).into()).unwrap();
    assert!(tcp_request(ours.netns(), server.address(), b"x").is_ok());
    assert!(tcp_request(theirs.netns(), server.address(), b"x").is_err());
}

#[test]
fn what_a_killed_run_left_is_removed() {
    // The laboratory's start has swept once: what is made from here on is swept by this test alone.
    let lab = Lab::new().unwrap();
    let dead = format!("{PREFIX}dead{}", std::process::id());
    let host = format!("{dead}-h1");
    std::fs::create_dir(Path::new(ROOT).join(&dead)).unwrap();
    Netns::create(&host).unwrap();
    let cgroup = cgroup_root().unwrap().join(&host);
    std::fs::create_dir(&cgroup).unwrap();
    let mut orphan = Command::new("sleep").arg("1000").spawn().unwrap();
    std::fs::write(cgroup.join("cgroup.procs"), orphan.id().to_string()).unwrap();

    remove_leftovers().unwrap();

    assert_eq!(things_named(&dead).unwrap(), Vec::<PathBuf>::new());
    assert!(!orphan.wait().unwrap().success());
    assert!(lab.directory().exists(), "a living laboratory is no leftover");
}

#[test]
fn interrupted_program_leaves_nothing() {
    let mut program = Command::new(built("lab").unwrap()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let opened = lines.map_while(Result::ok).find(|line| line.contains("is open"));
    let name = opened.unwrap().split(' ').next().unwrap().to_owned();
    assert!(!things_named(&name).unwrap().is_empty());

    kill(Pid::from_raw(program.id().cast_signed()), Signal::SIGINT).unwrap();

    assert_eq!(wait(&mut program, COMMAND_DEADLINE).unwrap().code(), Some(130));
    assert_eq!(things_named(&name).unwrap(), Vec::<PathBuf>::new());
}

fn start_server(host: &Host) -> anyhow::Result<()> {
    let log = host.directory().join("wire.log");
    // The laboratory ends it with everything else of the host.
    host.spawn(built("wire")?, &["serve", "80"], &log).map(drop)
}
