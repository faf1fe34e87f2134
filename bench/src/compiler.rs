//! The pure core: granting one more endpoint, compiling and comparing, by the number of endpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use ipnetwork::{Ipv4Network, Ipv6Network};
use netd_common::{IfIndex, MacAddr};
use netd_user::compile::{CompileSettings, compile};
use netd_user::dataplane::delta::{Table, Visit, in_put_order};
use netd_user::desired::{Desired, Tables};
use netd_user::facts::{HostFacts, LinkFact, UplinkFact};
use netd_user::model::network::SubnetSpec;
use netd_user::model::{
    AddressPool, Circumstances, Command, Endpoint, EndpointId, EndpointSpec, Model, NetworkSpec,
    PortSpec, Proto, Sandbox, SandboxId, SandboxSpec, Settings,
};

use crate::interrupt;
use crate::results::{Case, Section};
use crate::rig::{HOST, NETD, UPLINK};
use crate::session::Session;
use crate::statistics::Better;

const SIZES: [u16; 3] = [10, 1_000, 10_000];
const NETWORK: &str = "bench";

/// All sizes; every tenth sandbox publishes a port.
pub(crate) fn all(session: &mut Session) -> Result<()> {
    let mut world = World::new()?;
    for size in SIZES {
        world.grow(size)?;
        let facts = world.facts();
        let held = compile(&world.model, &facts, &CompileSettings::default());
        let mut cases =
            ["grant one endpoint", "compile", "difference with one endpoint more"].map(case);
        for case in &mut cases {
            case.scale = Some(u64::from(size));
        }
        for round in 0..session.effort.rounds {
            interrupt::check()?;
            let values = world.round(&facts, &held)?;
            for (case, value) in cases.iter_mut().zip(values) {
                case.rigs.entry(NETD.to_owned()).or_default().insert(round, value);
            }
        }
        session.finish(cases.into());
    }
    Ok(())
}

fn case(title: &str) -> Case {
    Case::new(Section::Control, "The pure core by endpoints", title, "ms", Better::Lower)
}

/// A model that grows.
struct World {
    model: Model,
    settings: Arc<Settings>,
    size: u16,
}

impl World {
    fn new() -> Result<Self> {
        let mut world = Self { model: Model::default(), settings: Arc::new(settings()?), size: 0 };
        let subnet = SubnetSpec { subnet: "172.30.0.0/16".to_owned(), ..SubnetSpec::default() };
        let spec = NetworkSpec {
            name: NETWORK.to_owned(),
            subnets: vec![subnet],
            ..NetworkSpec::default()
        };
        world.model = world.apply(Command::CreateNetwork(Box::new(spec)))?;
        Ok(world)
    }

    /// Adds copies of the first sandbox until there are so many: granting each in turn would take
    /// longer than all that is measured.
    fn grow(&mut self, size: u16) -> Result<()> {
        if self.size == 0 {
            self.model = self.apply(creation(0))?;
            self.size = 1;
        }
        let sandbox = self.model.sandboxes.values().next().context("no sandbox")?.clone();
        let endpoint = self.model.endpoints.values().next().context("no endpoint")?.clone();
        for number in self.size..size {
            self.add(number, Sandbox::clone(&sandbox), Endpoint::clone(&endpoint));
        }
        self.size = size;
        Ok(())
    }

    fn add(&mut self, number: u16, sandbox: Sandbox, endpoint: Endpoint) {
        let mut id = [0xff; 32];
        id[..2].copy_from_slice(&number.to_be_bytes());
        let mut publications = sandbox.publications.clone();
        for publication in &mut publications {
            publication.host_port += number;
            publication.slot += u32::from(number);
        }
        publications.retain(|_| number.is_multiple_of(10));
        let name = sandbox_name(number);
        let sandbox = Sandbox { id: SandboxId(id), name, publications, ..sandbox };
        let [high, low] = number.to_be_bytes();
        let endpoint = Endpoint {
            id: EndpointId(id),
            sandbox: Some(SandboxId(id)),
            index: endpoint.index + u32::from(number),
            v4: Some(Ipv4Addr::new(172, 30, high + 1, low)),
            mac: MacAddr([2, 0, 0, 0, high, low]),
            veth: format!("veth{number}").into(),
            ..endpoint
        };
        self.model.sandboxes.insert(sandbox.id, Arc::new(sandbox));
        self.model.endpoints.insert(endpoint.id, Arc::new(endpoint));
    }

    /// Milliseconds of granting one more, compiling that, and comparing it with what was.
    fn round(&self, facts: &HostFacts, held: &Desired) -> Result<[f64; 3]> {
        let start = Instant::now();
        let model = self.apply(creation(self.size))?;
        let granted = Instant::now();
        let desired = compile(&model, facts, &CompileSettings::default());
        let compiled = Instant::now();
        black_box(Comparison::of(&desired.tables, &held.tables));
        let times = [granted - start, compiled - granted, compiled.elapsed()];
        Ok(times.map(|time| time.as_secs_f64() * 1e3))
    }

    fn apply(&self, command: Command) -> Result<Model> {
        let mut seed = [0; 32];
        seed[..2].copy_from_slice(&self.size.to_le_bytes());
        let now = Circumstances {
            departed: BTreeSet::new(),
            now_ns: 0,
            seed,
            occupied: Vec::new(),
            host_addresses: BTreeSet::from([HOST.into()]),
            port_range: (32_768, 60_999),
            reserved_ports: Vec::new(),
            busy_ports: BTreeSet::new(),
            uplink_mtu: 1_500,
            settings: Arc::clone(&self.settings),
        };
        let granted = self.model.apply(command, &now);
        granted.map(|(model, _)| model).map_err(|refusal| anyhow!("{refusal:?}"))
    }

    /// A host on which every link that the model asks for is there.
    fn facts(&self) -> HostFacts {
        let bare = HostFacts {
            uplinks: vec![UplinkFact {
                name: UPLINK.into(),
                ifindex: IfIndex(1),
                mac: Some(MacAddr([2; 6])),
                mtu: 1_500,
                v4: Some(HOST),
                v6: None,
            }],
            addresses: BTreeMap::from([(HOST.into(), IfIndex(1))]),
            ..HostFacts::default()
        };
        let desired = compile(&self.model, &bare, &CompileSettings::default());
        let link = |ifindex| LinkFact { ifindex, mtu: 1_500, up: true, ..LinkFact::default() };
        let links = (2..).zip(desired.links.into_keys());
        let links = links.map(|(index, name)| (name, link(IfIndex(index)))).collect();
        HostFacts { links, ..bare }
    }
}

fn creation(number: u16) -> Command {
    let ports = PortSpec {
        host_ip: Some(Ipv4Addr::UNSPECIFIED.into()),
        host: Some((10_000 + number, 10_000 + number)),
        container: (80, 80),
        proto: Proto::Tcp,
    };
    Command::CreateSandbox(Box::new(SandboxSpec {
        name: Some(sandbox_name(number)),
        networks: vec![(NETWORK.to_owned(), EndpointSpec::default())],
        ports: if number.is_multiple_of(10) { vec![ports] } else { Vec::new() },
        ..SandboxSpec::default()
    }))
}

fn sandbox_name(number: u16) -> String {
    format!("sandbox{number}")
}

fn settings() -> Result<Settings> {
    let pool = Ipv4Network::new(Ipv4Addr::new(172, 16, 0, 0), 12).context("pool")?;
    let ula = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0);
    Ok(Settings {
        default_address_pools: vec![AddressPool { base: pool.into(), size: 16 }],
        ula_prefix: Ipv6Network::new(ula, 48).context("unique local prefix")?,
        bip: None,
        bip6: None,
        fixed_cidr: None,
        fixed_cidr_v6: None,
        default_gateway: None,
        default_gateway_v6: None,
        ipv6: false,
        icc: true,
        ip_masq: true,
        ip: None,
        mtu: None,
        bridge: None,
        default_network_opts: BTreeMap::new(),
        bridge_prefix: "br-".to_owned(),
        veth_prefix: "veth".to_owned(),
        default_bridge_name: "netd0".to_owned(),
        netns_dir: "/run/netns".into(),
    })
}

/// Counts the writes that turn one state into another, table by table.
struct Comparison<'a> {
    desired: &'a Tables,
    held: &'a Tables,
    writes: usize,
}

impl<'a> Comparison<'a> {
    fn of(desired: &'a Tables, held: &'a Tables) -> usize {
        let mut comparison = Self { desired, held, writes: 0 };
        let Ok(()) = in_put_order(&mut comparison);
        comparison.writes
    }
}

impl Visit for Comparison<'_> {
    type Error = Infallible;

    fn visit<T: Table>(&mut self) -> Result<(), Infallible> {
        self.writes += T::delta(self.desired, self.held).len();
        Ok(())
    }
}
