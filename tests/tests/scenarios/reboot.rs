//! A reboot: pins, links, namespaces, processes and settings are gone, the store is there.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use netd_tests::container::Transport;
use netd_tests::daemon::Places;
use netd_tests::outside::{WORLD_V4, WORLD_V6};
use netd_tests::wire::{tcp_echo_server, udp_echo_server};
use netd_tests::{Container, Host, Netns};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::footprint::say;
use super::{World, container, is_reached, network};

/// Takes from a host what a reboot takes.
fn reboot(host: &Host, places: &Places) {
    fs::remove_dir_all(places.bpffs()).unwrap();
    let links = say(host, "ip", &["-br", "link"]);
    let ours = |name: &&str| ["br-", "netd0", "veth"].iter().any(|own| name.starts_with(own));
    let names = links.lines().filter_map(|line| line.split([' ', '@']).next()).filter(ours);
    for name in names {
        // A pair goes by itself, some time after the namespace that its other end is in.
        let _gone_already = host.ip(&["link", "delete", name]);
    }
    for entry in fs::read_dir(places.netns()).unwrap() {
        let path = entry.unwrap().path();
        umount2(&path, MntFlags::MNT_DETACH).unwrap();
        fs::remove_file(path).unwrap();
    }
    for entry in fs::read_dir(places.socket().parent().unwrap()).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let cleared = "net.ipv4.ip_local_reserved_ports=";
    say(host, "sysctl", &["-w", cleared]);
}

#[test]
fn everything_is_back_after_a_reboot_before_anybody_asks() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let ports = ["-p", "8080:7000", "-p", "8080:7000/udp"];
    let before = [
        container(&daemon, "web", "app", &ports).addresses("app").unwrap(),
        container(&daemon, "db", "app", &[]).addresses("app").unwrap(),
    ];
    let started = daemon.ok(&["run", "-d", "--name", "job", "--", "sleep", "1000"]);
    started.unwrap();
    let job = Container::find(&daemon, "job").unwrap().described()["Pid"].as_i64().unwrap();
    let foreign = format!("{}-mine", world.host.name());
    Netns::create(&foreign).unwrap();
    let path = format!("/run/netns/{foreign}");
    daemon.ok(&["sandbox", "create", "--name", "filled", "--netns", &path]).unwrap();
    let places = daemon.places().clone();
    daemon.crash().unwrap();
    kill(Pid::from_raw(i32::try_from(job).unwrap()), Signal::SIGKILL).unwrap();
    Netns::delete(&foreign).unwrap();
    reboot(&world.host, &places);

    let daemon = netd_tests::Daemon::start_degraded(&world.host).unwrap();
    let after = ["web", "db"].map(|name| Container::find(&daemon, name).unwrap());
    assert_eq!([0, 1].map(|n: usize| after[n].addresses("app").unwrap()), before);
    let names = daemon.ok(&["ps", "--format", "{{.Names}} {{.State}}"]).unwrap();
    let mut names: Vec<&str> = names.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["db running", "filled failed", "web running"]);
    let [web, db] = &after;
    let _servers = web.serve_all(7000).unwrap();
    for (address, target) in world.uplink().into_iter().zip(web.addresses("app").unwrap()) {
        for transport in Transport::ALL {
            let published = SocketAddr::new(address, 8080);
            assert!(is_reached(world.outside.netns(), published, transport), "{published}");
            assert!(is_reached(&db.netns, SocketAddr::new(target, 7000), transport), "{target}");
        }
    }
    let worlds: [IpAddr; 2] = [WORLD_V4.into(), WORLD_V6.into()];
    for address in worlds {
        let there = SocketAddr::new(address, 7100);
        let _tcp = tcp_echo_server(world.outside.netns(), there).unwrap();
        let _udp = udp_echo_server(world.outside.netns(), there).unwrap();
        for transport in Transport::ALL {
            assert!(is_reached(&db.netns, there, transport), "{there}");
        }
    }
    let held = say(&world.host, "ss", &["-Hltnu", "sport", "=", ":8080"]);
    assert!(!held.is_empty(), "published ports are held");
    let reserved = say(&world.host, "sysctl", &["-n", "net.ipv4.ip_local_reserved_ports"]);
    assert_eq!(reserved.trim(), "49152-65535");
    daemon.ok(&["sandbox", "rm", "filled"]).unwrap();
    assert_eq!(daemon.cli(&["status"]).unwrap().code, Some(0));
}
