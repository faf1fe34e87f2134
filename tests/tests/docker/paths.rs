//! Ways between networks, and what fits through them.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netd_tests::host::UPLINK;
use netd_tests::outside::{WORLD_V4, WORLD_V6};

use super::case::{Case, PORT, all_silent, reaches};
use super::{Scenario, both, netd};

pub(super) const SCENARIOS: &[Scenario] = &[
    both("C06 published port is reached from another network", published_elsewhere),
    netd("C14 containers have the uplink's MTU, and large transfers pass", uplink_mtu),
];

fn published_elsewhere(case: &Case<'_, '_>) -> Result<()> {
    case.dual("one", 51)?;
    case.dual("two", 52)?;
    let web = case.run("web", "two", &["-p", "8080:7000", "-p", "8080:7000/udp"])?;
    let client = case.run("client", "one", &[])?;
    let _servers = web.serve()?;
    let gateways: [IpAddr; 4] = [
        [10, 52, 0, 1].into(),
        [10, 51, 0, 1].into(),
        "fd00:52::1".parse()?,
        "fd00:51::1".parse()?,
    ];
    for address in case.uplinks().into_iter().chain(gateways) {
        reaches(&client.netns, SocketAddr::new(address, 8080))?;
    }
    // Not by the container's own address and port.
    all_silent(&client.netns, &case.served("web", "two")?)
}

/// More than any buffer on the way takes at once.
const TRANSFER_LEN: usize = 4 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

fn uplink_mtu(case: &Case<'_, '_>) -> Result<()> {
    let outcome = [1400, 9000].into_iter().try_for_each(|mtu| {
        case.rig.host.ip(&["link", "set", UPLINK, "mtu", &mtu.to_string()])?;
        with_uplink_of(case, mtu).with_context(|| format!("uplink of {mtu}"))
    });
    case.rig.host.ip(&["link", "set", UPLINK, "mtu", "1500"])?;
    outcome
}

/// The far end of the uplink keeps its 1500.
fn with_uplink_of(case: &Case<'_, '_>, mtu: u32) -> Result<()> {
    case.dual("app", 51)?;
    let web = case.run("web", "app", &["-p", "8080:7000"])?;
    let shown = case.exec("web", &["ip", "link", "show", "eth0"])?.stdout;
    ensure!(shown.contains(&format!("mtu {mtu} ")), "{shown}");
    let outside = case.rig.outside.netns();
    for inward in case.published(8080) {
        transfer(&web.netns, ([0u16; 8], PORT).into(), outside, inward).context("inward")?;
    }
    for world in [IpAddr::from(WORLD_V4), WORLD_V6.into()] {
        let outward = SocketAddr::new(world, 9000);
        transfer(outside, outward, &web.netns, outward).context("outward")?;
    }
    case.ok(&["rm", "-f", "web"])?;
    case.ok(&["network", "rm", "app"]).map(drop)
}

/// A client sends as much as was said, and the server as much back.
fn transfer(
    server: &netd_tests::Netns,
    listens: SocketAddr,
    client: &netd_tests::Netns,
    target: SocketAddr,
) -> Result<()> {
    let listener = server.run(|| Ok(TcpListener::bind(listens)?))?;
    let connect = || Ok(TcpStream::connect_timeout(&target, PATIENCE)?);
    let mut asking = patient(client.run(connect).context("connecting")?)?;
    let mut serving = patient(listener.accept()?.0)?;
    std::thread::scope(|scope| {
        let echo = scope.spawn(move || -> Result<()> {
            let mut heard = vec![0; TRANSFER_LEN];
            serving.read_exact(&mut heard).context("the server hears")?;
            serving.write_all(&heard).context("the server says")
        });
        asking.write_all(&vec![7; TRANSFER_LEN]).context("the client says")?;
        let mut heard = vec![0; TRANSFER_LEN];
        asking.read_exact(&mut heard).context("the client hears")?;
        echo.join().expect("a server returns")
    })
}

fn patient(stream: TcpStream) -> Result<TcpStream> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}
