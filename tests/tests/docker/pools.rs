//! What a network may be asked for with: subnets, ranges, auxiliary addresses, and none at all.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};

use super::case::{Case, Driver, PORT, reaches};
use super::{Scenario, both, netd};

pub(super) const SCENARIOS: &[Scenario] = &[
    netd("B05 subnet with host bits is refused", host_bits),
    both("B05 ranges, gateways and auxiliary addresses of other subnets are refused", strangers),
    both("B06 addresses come from the range, its first is the gateway's", range),
    both("B06 range of IPv6 wider than 64 bits", wide_range),
    both("B07 auxiliary addresses are kept from containers, wherever in the subnet", auxiliary),
    both("B09 first and last address of a subnet are nobody's", edges),
    netd("B09 subnet of two addresses has a gateway and a container", two_addresses),
    netd("B20 network without addresses has links and no way anywhere", no_addresses),
];

/// Engines before 29 take it for the subnet that it is in; netd says what is meant, as 29 does.
fn host_bits(case: &Case<'_, '_>) -> Result<()> {
    let words = "invalid subnet 10.51.0.1/24: it should be 10.51.0.0/24";
    case.refused_with(&case.create(&["--subnet", "10.51.0.1/24", "app"]), words)
}

fn strangers(case: &Case<'_, '_>) -> Result<()> {
    for (option, value, words) in [
        ("--ip-range", "10.52.0.0/25", "no matching subnet for range 10.52.0.0/25"),
        ("--ip-range", "10.51.0.0/16", "block is bigger than its parent subnet 10.51.0.0/24"),
        ("--gateway", "10.52.0.1", "no matching subnet for gateway 10.52.0.1"),
        ("--aux-address", "printer=10.52.0.1", "no matching subnet for aux-address 10.52.0.1"),
    ] {
        let network = case.create(&["--subnet", "10.51.0.0/24", option, value, "app"]);
        case.refused_with(&network, words).with_context(|| format!("{option} {value}"))?;
    }
    // Nothing of them is left.
    case.network("app", &["--subnet", "10.51.0.0/24"])
}

fn range(case: &Case<'_, '_>) -> Result<()> {
    case.network("app", &["--subnet", "10.51.0.0/24", "--ip-range", "10.51.0.128/25"])?;
    case.network(
        "named",
        &["--subnet", "10.52.0.0/24", "--ip-range", "10.52.0.128/25", "--gateway", "10.52.0.1"],
    )?;
    for (network, gateway, first) in
        [("app", [10, 51, 0, 128], [10, 51, 0, 129]), ("named", [10, 52, 0, 1], [10, 52, 0, 128])]
    {
        let web = case.run(network, network, &[])?;
        has_address(case, network, network, first.into())?;
        let routes = case.exec(network, &["ip", "route"])?.stdout;
        ensure!(routes.contains(&format!("default via {}", IpAddr::from(gateway))), "{routes}");
        ensure!(web.pings(gateway.into())?, "the gateway of {network} is silent");
    }
    // A user may ask for one outside of it.
    case.run("outside", "app", &["--ip", "10.51.0.9"])?;
    has_address(case, "outside", "app", [10, 51, 0, 9].into())
}

fn has_address(case: &Case<'_, '_>, name: &str, network: &str, expected: IpAddr) -> Result<()> {
    let address = case.address(name, network, expected.is_ipv6())?;
    ensure!(address == expected, "{name} has {address}, not {expected}");
    Ok(())
}

fn wide_range(case: &Case<'_, '_>) -> Result<()> {
    let v6 = ["--ipv6", "--subnet", "fd00:51::/48", "--ip-range", "fd00:51:0:8000::/49"];
    case.network("app", &[&v6[..], &["--subnet", "10.51.0.0/24"]].concat())?;
    let (web, client) = (case.run("web", "app", &[])?, case.run("client", "app", &[])?);
    let _servers = web.serve()?;
    has_address(case, "web", "app", "fd00:51:0:8000::1".parse()?)?;
    has_address(case, "client", "app", "fd00:51:0:8000::2".parse()?)?;
    reaches(&client.netns, (case.address("web", "app", true)?, PORT).into())
}

fn auxiliary(case: &Case<'_, '_>) -> Result<()> {
    let subnet = ["--subnet", "10.51.0.0/24", "--ip-range", "10.51.0.0/28"];
    let kept = ["--aux-address", "router=10.51.0.2", "--aux-address", "printer=10.51.0.200"];
    case.network("app", &[subnet, kept].concat())?;
    case.run("web", "app", &[])?;
    has_address(case, "web", "app", [10, 51, 0, 3].into())?;
    for kept in ["10.51.0.2", "10.51.0.200"] {
        let start = Case::start("other", &["--network", "app", "--ip", kept]);
        case.refused_with(&start, "Address already in use")?;
        case.ok(&["rm", "other"])?;
    }
    Ok(())
}

fn edges(case: &Case<'_, '_>) -> Result<()> {
    case.network("app", &["--subnet", "10.51.0.0/30"])?;
    case.network("six", &["--ipv6", "--subnet", "10.52.0.0/24", "--subnet", "fd00:52::/124"])?;
    for (network, option, edge) in
        [("app", "--ip", "10.51.0.0"), ("app", "--ip", "10.51.0.3"), ("six", "--ip6", "fd00:52::")]
    {
        let start = Case::start("edge", &["--network", network, option, edge]);
        case.refused(&start).with_context(|| edge.to_owned())?;
        case.ok(&["rm", "edge"])?;
    }
    // One is neither the gateway's nor special; the last of IPv6 is as good as any.
    case.run("web", "app", &[])?;
    has_address(case, "web", "app", [10, 51, 0, 2].into())?;
    case.refused(&Case::start("more", &["--network", "app"]))?;
    case.run("last", "six", &["--ip6", "fd00:52::f"]).map(drop)
}

/// This engine takes one for the gateway, whatever the driver says (from 28 on it asks).
fn two_addresses(case: &Case<'_, '_>) -> Result<()> {
    case.network("app", &["--ipv6", "--subnet", "10.51.0.8/31", "--subnet", "fd00:51::8/127"])?;
    let web = case.run("web", "app", &["-p", "8080:7000", "-p", "8080:7000/udp"])?;
    let _servers = web.serve()?;
    has_address(case, "web", "app", [10, 51, 0, 9].into())?;
    has_address(case, "web", "app", "fd00:51::9".parse()?)?;
    for gateway in [IpAddr::from([10, 51, 0, 8]), "fd00:51::8".parse()?] {
        ensure!(web.pings(gateway)?, "{gateway} is silent");
    }
    for address in case.uplinks() {
        reaches(case.rig.outside.netns(), (address, 8080).into())?;
    }
    case.refused_with(&Case::start("more", &["--network", "app"]), "no available")
}

fn no_addresses(case: &Case<'_, '_>) -> Result<()> {
    debug_assert_eq!(case.driver, Driver::Netd);
    case.ok(&["network", "create", "-d", "netd", "--ipam-driver", "null", "app"])?;
    let web = case.run("web", "app", &["-p", "8080:7000"])?;
    let shown = case.exec(&web.name, &["ip", "address", "show", "eth0"])?.stdout;
    ensure!(shown.contains("UP") && !shown.contains("inet "), "{shown}");
    let routes = case.exec(&web.name, &["ip", "route"])?.stdout;
    ensure!(routes.trim().is_empty(), "{routes}");
    case.run("other", "app", &[])?;
    case.ok(&["restart", "-t", "0", "web"]).map(drop)
}
