//! What happens to packets on their way through a published port and out of the host.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use netd_tests::outside::{ROUTER_V4, ROUTER_V6};
use netd_tests::path::{FAR_V4, FAR_V6, Far, ping, told};
use netd_tests::wire::{tcp_echo_server, tcp_request, udp_request};

use super::case::{Case, PUBLISHED};
use super::connection::{Connection, Whose};
use super::{Scenario, both};

pub(super) const SCENARIOS: &[Scenario] = &[
    both("D26 datagrams of eight kilobytes pass a published port both ways", fragments),
    both("D27 errors, path MTU and traceroute find their way through NAT", errors),
    both("D28 half-closed connections go on, and a reset is heard", half_closed),
];

const FAR: [IpAddr; 2] = [IpAddr::V4(FAR_V4), IpAddr::V6(FAR_V6)];

fn fragments(case: &Case<'_, '_>) -> Result<()> {
    case.dual("app", 51)?;
    let web = case.run("web", "app", &PUBLISHED)?;
    let neighbour = case.run("neighbour", "app", &[])?;
    let _servers = web.serve()?;
    let datagram: Vec<u8> = (0..8_192u32).map(|n| n.to_le_bytes()[0]).collect();
    for target in case.published(8080) {
        for from in [case.rig.outside.netns(), &neighbour.netns] {
            let answer = udp_request(from, target, &datagram)?;
            ensure!(answer.echo == datagram, "{target}: {} bytes", answer.echo.len());
        }
    }
    Ok(())
}

fn errors(case: &Case<'_, '_>) -> Result<()> {
    case.dual("app", 51)?;
    let web = case.run("web", "app", &PUBLISHED)?;
    for target in case.published(8080) {
        let refused = told(case.rig.outside.netns(), target)?;
        ensure!(refused == Some(ErrorKind::ConnectionRefused), "{target}: {refused:?}");
    }
    let _servers = web.serve()?;
    let far = Far::behind(case.rig.outside)?;
    let long = vec![0x5a; 300_000];
    for (target, published) in FAR.into_iter().zip(case.published(8080)) {
        let out = SocketAddr::new(target, 7000);
        let _server = tcp_echo_server(far.netns(), out)?;
        for (from, to) in [(far.netns(), published), (&web.netns, out)] {
            let answer = tcp_request(from, to, &long).with_context(|| format!("to {to}"))?;
            ensure!(answer.echo == long, "{to}: {} bytes", answer.echo.len());
        }
    }
    let ways: [[IpAddr; 3]; 2] = [
        ["10.51.0.1".parse()?, ROUTER_V4.into(), FAR[0]],
        ["fd00:51::1".parse()?, ROUTER_V6.into(), FAR[1]],
    ];
    ways.into_iter().try_for_each(|way| traceroute(&web.netns, way))
}

/// As traceroute does: each hop is asked to complain, and the last one answers.
fn traceroute(from: &netd_tests::Netns, way: [IpAddr; 3]) -> Result<()> {
    let [.., target] = way;
    for (hops, hop) in (1u8..).zip(way) {
        let said = ping(from, target, hops)?;
        let is_heard = if hop == target {
            said.contains(" 0% packet loss")
        } else {
            said.contains(&format!("From {hop} ")) && said.contains("exceeded")
        };
        ensure!(is_heard, "{hop}: {said}");
    }
    Ok(())
}

/// That hours of silence are survived is told by the tests of the packet path and of the sweep, which
/// have a clock of their own.
fn half_closed(case: &Case<'_, '_>) -> Result<()> {
    case.dual("app", 51)?;
    let web = case.run("web", "app", &PUBLISHED)?;
    let outside = case.rig.outside.netns();
    for target in case.published(8080) {
        let open = || Connection::open(outside, target, &web.netns);
        let talking = open()?;
        talking.talk()?;
        talking.goes_on_half_closed().with_context(|| format!("{target} half-closed"))?;
        for whose in [Whose::Client, Whose::Server] {
            let broken = open()?.breaks_off(whose);
            broken.with_context(|| format!("{target} broken off by the {whose:?}"))?;
        }
    }
    Ok(())
}
