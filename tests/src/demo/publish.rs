//! One published port, asked for by everybody who can reach the host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result};
use netd_user::compile::CompileSettings;

use super::probe::{Expected, Place, over_both};
use super::stage::{PUBLISHED_PORT, Stage};
use crate::Container;
use crate::outside::{ROUTER_V4, ROUTER_V6};

/// Who asks; the words for it; where; as whom the server should see it.
type Caller = (Place, &'static str, Vec<IpAddr>, [IpAddr; 2]);

/// Over TCP and UDP, IPv4 and IPv6, from everywhere.
pub(super) fn reached(stage: &mut Stage<'_>) -> Result<()> {
    for (place, words, targets, sources) in callers(stage)? {
        stage.report.say(words);
        let probes = over_both(targets.into_iter().map(|target| {
            let source = sources[usize::from(target.is_ipv6())];
            (SocketAddr::new(target, PUBLISHED_PORT), Expected::SeenAs(source))
        }));
        stage.probe(place, &probes)?;
    }
    Ok(())
}

fn callers(stage: &Stage<'_>) -> Result<[Caller; 4]> {
    let uplink = stage.uplink().to_vec();
    let settings = CompileSettings::default();
    let hairpin = [settings.hairpin_v4.into(), settings.hairpin_v6.into()];
    let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let everywhere = [&loopback[..], &uplink].concat();
    let neighbour = stage.addresses("client", "frontend")?;
    Ok([
        (
            Place::Outside,
            "From outside: the client's address is kept.",
            uplink.clone(),
            [ROUTER_V4.into(), ROUTER_V6.into()],
        ),
        (
            Place::Sandbox("client"),
            "From another container: its address is kept.",
            uplink.clone(),
            neighbour,
        ),
        (
            Place::Sandbox("web"),
            "From the container itself: seen as the address kept for that.",
            uplink,
            hairpin,
        ),
        (
            Place::Host,
            "From the host, on loopback and on its own address: seen as the network's gateway.",
            everywhere,
            gateways(stage)?,
        ),
    ])
}

fn gateways(stage: &Stage<'_>) -> Result<[IpAddr; 2]> {
    let web = Container::find(stage.daemon()?, "web")?;
    let gateway = |key: &str| -> Result<IpAddr> {
        let text = web.described()["Networks"]["frontend"][key].as_str().unwrap_or_default();
        text.parse().with_context(|| format!("web has no {key}"))
    };
    Ok([gateway("Gateway")?, gateway("IPv6Gateway")?])
}
