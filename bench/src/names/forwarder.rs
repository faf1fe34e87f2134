//! A name service with nothing around it: hickory's server, one zone in memory, and its forwarder.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use hickory_server::Server as NameServer;
use hickory_server::net::runtime::TokioRuntimeProvider;
use hickory_server::proto::rr::rdata::{A, SOA};
use hickory_server::proto::rr::{LowerName, Name, RData, Record};
use hickory_server::resolver::config::NameServerConfig;
use hickory_server::store::forwarder::{ForwardConfig, ForwardZoneHandler};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use tokio::net::UdpSocket;
use tokio::runtime::{Builder, Runtime};

use super::server::Server;
use crate::namespace::Namespace;

/// Where it answers, as the others do.
const ADDRESS: (Ipv4Addr, u16) = (Ipv4Addr::new(127, 0, 0, 11), 53);
const TTL_S: u32 = 5;

/// A running one.
pub(super) struct Forwarder {
    _server: NameServer<Catalog>,
    _runtime: Runtime,
}

impl Forwarder {
    /// Starts it in a host with one name in one zone, as the server whose work is counted.
    pub(super) fn start(
        host: &Namespace,
        server: &Server,
        upstream: IpAddr,
        local: (&str, &str),
    ) -> Result<Self> {
        let catalog = catalog(local)?;
        let (namespace, server) = (host.clone(), server.clone());
        let enter = move || {
            if let Err(error) = namespace.enter().and_then(|()| server.join()) {
                eprintln!("a thread of the forwarder is elsewhere or not counted: {error:#}");
            }
        };
        let runtime = Builder::new_multi_thread().enable_all().on_thread_start(enter).build()?;
        // On a thread of the runtime, for the socket's sake.
        let server = runtime.block_on(runtime.spawn(serve(catalog, upstream)));
        Ok(Self { _server: server.context("the forwarder's start")??, _runtime: runtime })
    }
}

async fn serve(mut catalog: Catalog, upstream: IpAddr) -> Result<NameServer<Catalog>> {
    let name_servers = vec![NameServerConfig::udp_and_tcp(upstream)];
    let config = ForwardConfig { name_servers, ..ForwardConfig::default() };
    let forward = ForwardZoneHandler::builder_tokio(config).build();
    let forward = forward.map_err(|error| anyhow!("forwarder: {error}"))?;
    catalog.upsert(LowerName::from(Name::root()), vec![Arc::new(forward)]);
    let mut server = NameServer::new(catalog);
    server.register_socket(UdpSocket::bind(ADDRESS).await.context("socket of the forwarder")?);
    Ok(server)
}

fn catalog((domain, host): (&str, &str)) -> Result<Catalog> {
    let origin = Name::from_ascii(format!("{domain}."))?;
    let name = Name::from_ascii(format!("{host}.{domain}."))?;
    let mut zone = InMemoryZoneHandler::<TokioRuntimeProvider>::empty(
        origin.clone(),
        ZoneType::Primary,
        AxfrPolicy::Deny,
    );
    let soa = SOA::new(origin.clone(), origin.clone(), 1, 60, 60, 60, TTL_S);
    zone.upsert_mut(Record::from_rdata(origin.clone(), TTL_S, RData::SOA(soa)), 1);
    let address = RData::A(A(Ipv4Addr::new(172, 18, 0, 2)));
    zone.upsert_mut(Record::from_rdata(name, TTL_S, address), 1);
    let mut catalog = Catalog::new();
    catalog.upsert(LowerName::from(origin), vec![Arc::new(zone)]);
    Ok(catalog)
}
