//! Pools, addresses and MACs.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use super::case::{Case, Driver};
use super::{Scenario, both, netd};

pub(super) const SCENARIOS: &[Scenario] = &[
    both("B04 overlapping subnets are refused", overlap),
    netd("B08 lowest free address first, and used again", lowest_first),
    both("B10 static addresses are kept and told apart", static_addresses),
    both("B12 full pool refuses, and one freed address suffices", exhaustion),
    netd("A23 several subnets on one network", several_subnets),
    netd("A24 fifty containers at once have fifty addresses and MACs", fifty),
    both("static MAC and IPv6 address are the container's", static_mac),
];

fn overlap(case: &Case<'_, '_>) -> Result<()> {
    case.network("first", &["--subnet", "10.51.0.0/24"])?;
    let again = case.create(&["--subnet", "10.51.0.0/24", "second"]);
    case.refused_with(&again, "Pool overlaps with other one on this address space")?;
    let wider = case.create(&["--subnet", "10.51.0.0/16", "third"]);
    case.refused_with(&wider, "Pool overlaps with other one on this address space")?;
    // What was refused has taken nothing from the first.
    case.run("web", "first", &[]).map(drop)
}

fn lowest_first(case: &Case<'_, '_>) -> Result<()> {
    case.network("app", &["--subnet", "10.51.0.0/24"])?;
    for (name, last) in [("a", 2), ("b", 3), ("c", 4)] {
        let name = format!("c{name}");
        case.run(&name, "app", &[])?;
        let address = case.address(&name, "app", false)?;
        ensure!(address == std::net::IpAddr::from([10, 51, 0, last]), "{name} has {address}");
    }
    case.ok(&["rm", "-f", "cb"])?;
    case.run("again", "app", &[])?;
    let address = case.address("again", "app", false)?;
    ensure!(address == std::net::IpAddr::from([10, 51, 0, 3]), "again has {address}");
    Ok(())
}

fn static_addresses(case: &Case<'_, '_>) -> Result<()> {
    case.network("app", &["--subnet", "10.51.0.0/24"])?;
    case.run("web", "app", &["--ip", "10.51.0.77"])?;
    let again = Case::start("again", &["--network", "app", "--ip", "10.51.0.77"]);
    case.refused_with(&again, "Address already in use")?;
    let outside = Case::start("outside", &["--network", "app", "--ip", "10.99.0.1"]);
    case.refused_with(&outside, "10.99.0.1")?;
    case.ok(&["restart", "-t", "0", "web"])?;
    let address = case.address("web", "app", false)?;
    ensure!(address == std::net::IpAddr::from([10, 51, 0, 77]), "{address}");
    Ok(())
}

fn exhaustion(case: &Case<'_, '_>) -> Result<()> {
    case.network("app", &["--subnet", "10.51.0.0/29"])?;
    for n in 0..5 {
        case.run(&format!("c-{n}"), "app", &[])?;
    }
    let one_more = Case::start("more", &["--network", "app"]);
    case.refused_with(&one_more, "no available")?;
    case.ok(&["rm", "-f", "c-3"])?;
    case.ok(&["start", "more"]).map(drop)
}

fn several_subnets(case: &Case<'_, '_>) -> Result<()> {
    let subnets = ["--subnet", "10.51.0.0/24", "--subnet", "10.52.0.0/24"];
    let gateways = ["--gateway", "10.51.0.9", "--gateway", "10.52.0.9"];
    case.network("app", &[subnets, gateways].concat())?;
    let first = case.run("first", "app", &[])?;
    let second = case.run("second", "app", &["--ip", "10.52.0.50"])?;
    for (container, gateway) in [(&first, "10.51.0.9"), (&second, "10.52.0.9")] {
        let routes = case.exec(&container.name, &["ip", "route"])?.stdout;
        ensure!(routes.contains(&format!("default via {gateway}")), "{routes}");
        ensure!(container.pings(netd_tests::outside::WORLD_V4.into())?, "no way out");
    }
    Ok(())
}

fn fifty(case: &Case<'_, '_>) -> Result<()> {
    case.network("app", &["--subnet", "10.51.0.0/24"])?;
    let names: Vec<String> = (0..50).map(|n| format!("c-{n}")).collect();
    let engine = &*case.rig.engine();
    let outcomes: Vec<Result<String>> = std::thread::scope(|scope| {
        let start = |name| move || engine.ok(&Case::start(name, &["--network", "app"]));
        let runs: Vec<_> = names.iter().map(|name| scope.spawn(start(name))).collect();
        runs.into_iter().map(|run| run.join().expect("a client returns")).collect()
    });
    outcomes.into_iter().collect::<Result<Vec<_>>>()?;
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.MacAddress}}{{end}}";
    let words: Vec<&str> = names.iter().map(String::as_str).collect();
    let shown = case.ok(&[&["inspect", "-f", format], &words[..]].concat())?;
    let addresses: BTreeSet<_> = shown.lines().filter_map(|line| line.split(' ').next()).collect();
    let macs: BTreeSet<_> = shown.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    ensure!((addresses.len(), macs.len()) == (50, 50), "{shown}");
    Ok(())
}

fn static_mac(case: &Case<'_, '_>) -> Result<()> {
    case.dual("app", 51)?;
    let given = ["--mac-address", "02:aa:bb:cc:dd:ee", "--ip6", "fd00:51::77"];
    let web = case.run("web", "app", &given)?;
    let client = case.run("client", "app", &[])?;
    let shown = case.exec(&web.name, &["ip", "address", "show", "eth0"])?.stdout;
    ensure!(shown.contains("02:aa:bb:cc:dd:ee") && shown.contains("fd00:51::77"), "{shown}");
    ensure!(client.pings("fd00:51::77".parse()?)?, "{:?}: no echo", Driver::Netd);
    Ok(())
}
