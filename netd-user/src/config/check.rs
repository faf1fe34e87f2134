//! Written values to checked ones: defaults, ranges, what must fit together.

mod dataplane;
mod names;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use super::raw::{OneOrMany, RawConfig};
use super::{Config, Fault, line_at};
use crate::model::{AddressPool, Settings};

/// The kernel's bound on interface names (`IFNAMSIZ` without the NUL).
const INTERFACE_NAME_MAX: usize = 15;
/// What follows `bridge-prefix` and `veth-prefix`.
const BRIDGE_SUFFIX: usize = 12;
const VETH_SUFFIX: usize = 7;
const DOCKER_SOCKET: &str = "/run/docker/plugins/netd.sock";
const DOCKER_API_SOCKET: &str = "/var/run/docker.sock";
const DEFAULT_METRICS_ADDR: &str = "127.0.0.1:9959";
const DEFAULT_VERIFY_S: u32 = 180;
const DEFAULT_DEADLINE_S: u32 = 30;

/// A key and what is wrong with its value.
struct Wrong(&'static str, String);

type Checked<T> = Result<T, Wrong>;

/// Checks every value, in the order of the documentation.
pub(super) fn check(raw: RawConfig, text: &str) -> Result<Config, Fault> {
    build(raw).map_err(|Wrong(key, what)| Fault {
        line: line_of(text, key),
        message: format!("key '{key}': {what}"),
    })
}

fn build(raw: RawConfig) -> Checked<Config> {
    let settings = settings(&raw)?;
    let run_dir = path("run-dir", raw.run_dir, "/run/netd")?;
    let api_socket = match raw.api_socket {
        Some(socket) => absolute("api-socket", socket)?,
        None => run_dir.join("netd.sock"),
    };
    Ok(Config {
        state_dir: path("state-dir", raw.state_dir, "/var/lib/netd")?,
        run_dir,
        bpffs_dir: path("bpffs-dir", raw.bpffs_dir, "/sys/fs/bpf/netd")?,
        cgroup: path_or_none("cgroup", raw.cgroup, mounted_cgroup())?,
        resolv_conf: path("resolv-conf", raw.resolv_conf, "/etc/resolv.conf")?,
        api_socket,
        docker_socket: path_or_none("docker-socket", raw.docker_socket, DOCKER_SOCKET)?,
        docker_api_socket: path_or_none(
            "docker-api-socket",
            raw.docker_api_socket,
            DOCKER_API_SOCKET,
        )?,
        group: raw.group,
        metrics_addr: metrics_addr(raw.metrics_addr.as_deref())?,
        log_level: log_level(raw.log_level)?,
        log_format: raw.log_format,
        verify_interval: seconds("verify-interval", raw.verify_interval, DEFAULT_VERIFY_S)?,
        request_deadline: seconds("request-deadline", raw.request_deadline, DEFAULT_DEADLINE_S)?,
        snat_ports: dataplane::snat_ports(raw.snat_ports.as_deref())?,
        icmp_errors: dataplane::icmp_errors(raw.icmp_error_rate, raw.icmp_error_burst)?,
        flow_table: dataplane::flow_table(&raw.flow_table)?,
        dns: names::dns(raw.dns, raw.dns_opts, raw.dns_search)?,
        dns_ttl_s: names::ttl(raw.dns_ttl)?,
        host_gateway: match raw.host_gateway_ip {
            Some(OneOrMany::One(one)) => vec![one],
            Some(OneOrMany::Many(many)) => many,
            None => Vec::new(),
        },
        settings,
    })
}

fn settings(raw: &RawConfig) -> Checked<Settings> {
    let bip = bridge_address("bip", raw.bip, true)?;
    let bip6 = bridge_address("bip6", raw.bip6, false)?;
    let bridge_prefix =
        link_prefix("bridge-prefix", raw.bridge_prefix.as_deref(), "br-", BRIDGE_SUFFIX)?;
    let veth_prefix = link_prefix("veth-prefix", raw.veth_prefix.as_deref(), "veth", VETH_SUFFIX)?;
    Ok(Settings {
        default_address_pools: pools(raw.default_address_pools.as_ref())?,
        ula_prefix: unset_ula(),
        bip,
        bip6,
        fixed_cidr: fixed_cidr("fixed-cidr", raw.fixed_cidr, ("bip", bip), true)?,
        fixed_cidr_v6: fixed_cidr("fixed-cidr-v6", raw.fixed_cidr_v6, ("bip6", bip6), false)?,
        default_gateway: family("default-gateway", raw.default_gateway, true)?,
        default_gateway_v6: family("default-gateway-v6", raw.default_gateway_v6, false)?,
        ipv6: raw.ipv6.unwrap_or(false),
        icc: raw.icc.unwrap_or(true),
        ip_masq: raw.ip_masq.unwrap_or(true),
        ip: raw.ip,
        mtu: mtu(raw.mtu, raw.ipv6.unwrap_or(false))?,
        bridge: bridge(raw.bridge.as_deref())?,
        default_network_opts: network_opts(raw)?,
        bridge_prefix,
        veth_prefix,
        default_bridge_name: link_name(
            "default-bridge-name",
            raw.default_bridge_name.as_deref().unwrap_or("netd0"),
        )?,
        netns_dir: path("netns-dir", raw.netns_dir.clone(), "/run/netns")?,
    })
}

/// Stands in the settings until the controller replaces it with the store's own prefix.
fn unset_ula() -> Ipv6Network {
    Ipv6Network::from(Ipv6Addr::UNSPECIFIED)
}

fn path(key: &'static str, given: Option<PathBuf>, default: &str) -> Checked<PathBuf> {
    absolute(key, given.unwrap_or_else(|| PathBuf::from(default)))
}

fn absolute(key: &'static str, path: PathBuf) -> Checked<PathBuf> {
    if path.is_absolute() {
        return Ok(path);
    }
    Err(Wrong(key, format!("'{}' is relative: write it from /", path.display())))
}

fn path_or_none(
    key: &'static str,
    given: Option<PathBuf>,
    default: impl Into<PathBuf>,
) -> Checked<Option<PathBuf>> {
    match given.unwrap_or_else(|| default.into()) {
        path if path == Path::new("none") => Ok(None),
        path => absolute(key, path).map(Some),
    }
}

/// Hybrid hosts mount the v2 hierarchy beside the old ones.
fn mounted_cgroup() -> PathBuf {
    let unified = Path::new("/sys/fs/cgroup/unified");
    let root = Path::new("/sys/fs/cgroup");
    if !root.join("cgroup.controllers").exists() && unified.join("cgroup.controllers").exists() {
        return unified.to_owned();
    }
    root.to_owned()
}

fn metrics_addr(given: Option<&str>) -> Checked<Option<SocketAddr>> {
    match given.unwrap_or(DEFAULT_METRICS_ADDR) {
        "off" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            let remedy = "write ADDRESS:PORT such as '127.0.0.1:9959', or 'off'";
            Wrong("metrics-addr", format!("'{text}' is no socket address: {remedy}"))
        }),
    }
}

fn log_level(given: Option<String>) -> Checked<String> {
    let filter = given.unwrap_or_else(|| "info".to_owned());
    match filter.parse::<tracing_subscriber::EnvFilter>() {
        Ok(_) => Ok(filter),
        Err(_) => Err(Wrong(
            "log-level",
            format!("'{filter}' is no filter: write 'info', 'debug' or 'netd_user::MODULE=trace'"),
        )),
    }
}

fn seconds(key: &'static str, given: Option<u32>, default: u32) -> Checked<Duration> {
    match given.unwrap_or(default) {
        0 => Err(Wrong(key, "0 is too small: at least 1 second is needed".to_owned())),
        seconds => Ok(Duration::from_secs(seconds.into())),
    }
}

fn bridge_address(
    key: &'static str,
    given: Option<IpNetwork>,
    v4: bool,
) -> Checked<Option<IpNetwork>> {
    let Some(net) = given else { return Ok(None) };
    if net.is_ipv4() != v4 {
        return Err(Wrong(key, format!("{net} is of the other address family")));
    }
    if net.prefix() > host_prefix(net) {
        let remedy = "add its prefix length, such as";
        return Err(Wrong(
            key,
            format!("{net} holds no container: {remedy} {}/{}", net.ip(), if v4 { 24 } else { 64 }),
        ));
    }
    if is_network_form(net) && net.prefix() < host_prefix(net) {
        let remedy = "write the bridge's own address with its prefix length, such as";
        let own = next_address(net.network());
        return Err(Wrong(key, format!("{net} is a network: {remedy} {own}/{}", net.prefix())));
    }
    Ok(Some(net))
}

/// Prefix length from which on there is no network address (RFC 3021, RFC 6164).
fn host_prefix(net: IpNetwork) -> u8 {
    if net.is_ipv4() { 31 } else { 127 }
}

fn next_address(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(addr) => Ipv4Addr::from_bits(addr.to_bits().wrapping_add(1)).into(),
        IpAddr::V6(addr) => Ipv6Addr::from_bits(addr.to_bits().wrapping_add(1)).into(),
    }
}

fn is_network_form(net: IpNetwork) -> bool {
    net.ip() == net.network()
}

fn fixed_cidr(
    key: &'static str,
    given: Option<IpNetwork>,
    (bip_key, bip): (&str, Option<IpNetwork>),
    v4: bool,
) -> Checked<Option<IpNetwork>> {
    let Some(range) = given else { return Ok(None) };
    if range.is_ipv4() != v4 {
        return Err(Wrong(key, format!("{range} is of the other address family")));
    }
    network_form(key, range)?;
    if let Some(bip) = bip
        && (!bip.contains(range.network()) || range.prefix() < bip.prefix())
    {
        return Err(Wrong(key, format!("{range} is not within {bip_key} = {bip}")));
    }
    Ok(Some(range))
}

fn network_form(key: &'static str, net: IpNetwork) -> Checked<()> {
    if is_network_form(net) {
        return Ok(());
    }
    Err(Wrong(key, format!("{net} has host bits: write {}/{}", net.network(), net.prefix())))
}

fn family(key: &'static str, given: Option<IpAddr>, v4: bool) -> Checked<Option<IpAddr>> {
    match given {
        Some(addr) if addr.is_ipv4() != v4 => {
            Err(Wrong(key, format!("{addr} is of the other address family")))
        }
        given => Ok(given),
    }
}

fn mtu(given: Option<u32>, ipv6: bool) -> Checked<Option<u32>> {
    let least = if ipv6 { 1280 } else { 68 };
    match given {
        Some(mtu) if !(least..=65_535).contains(&mtu) => {
            Err(Wrong("mtu", format!("{mtu} is out of range: {least} to 65535 bytes")))
        }
        given => Ok(given),
    }
}

fn bridge(given: Option<&str>) -> Checked<Option<String>> {
    match given {
        None | Some("") => Ok(None),
        Some("none") => Ok(Some("none".to_owned())),
        Some(name) => Err(Wrong(
            "bridge",
            format!("'{name}': only 'none' is known; the device is named by 'default-bridge-name'"),
        )),
    }
}

fn network_opts(raw: &RawConfig) -> Checked<std::collections::BTreeMap<String, String>> {
    let unknown = raw.default_network_opts.keys().find(|driver| *driver != "bridge");
    if let Some(driver) = unknown {
        let what = format!("driver '{driver}' takes no options: only 'bridge' does");
        return Err(Wrong("default-network-opts", what));
    }
    Ok(raw.default_network_opts.get("bridge").cloned().unwrap_or_default())
}

fn link_prefix(
    key: &'static str,
    given: Option<&str>,
    default: &str,
    suffix: usize,
) -> Checked<String> {
    let prefix = link_name(key, given.unwrap_or(default))?;
    let most = INTERFACE_NAME_MAX - suffix;
    if prefix.len() > most {
        return Err(Wrong(key, format!("'{prefix}' is too long: at most {most} bytes")));
    }
    Ok(prefix)
}

fn link_name(key: &'static str, name: &str) -> Checked<String> {
    let allowed = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '%');
    if name.is_empty() || name.len() > INTERFACE_NAME_MAX || !name.chars().all(allowed) {
        let rule = "1 to 15 printable ASCII characters without '/', ':' and '%'";
        return Err(Wrong(key, format!("'{name}' can't name an interface: {rule}")));
    }
    Ok(name.to_owned())
}

fn pools(given: Option<&Vec<AddressPool>>) -> Checked<Vec<AddressPool>> {
    const KEY: &str = "default-address-pools";
    let Some(pools) = given else { return Ok(docker_pools()) };
    if pools.is_empty() {
        return Err(Wrong(KEY, "the list is empty: remove the key for the defaults".to_owned()));
    }
    for pool in pools {
        network_form(KEY, pool.base)?;
        let most = host_prefix(pool.base) - 1;
        if pool.size < pool.base.prefix() || pool.size > most {
            let (base, size, least) = (pool.base, pool.size, pool.base.prefix());
            let what = format!("size {size} does not fit base {base}: use {least} to {most}");
            return Err(Wrong(KEY, what));
        }
    }
    Ok(pools.clone())
}

/// Docker's local pools: 31 networks.
fn docker_pools() -> Vec<AddressPool> {
    let pool = |a: u8, b: u8, prefix: u8, size: u8| {
        let base = Ipv4Network::new(Ipv4Addr::new(a, b, 0, 0), prefix).ok()?;
        Some(AddressPool { base: base.into(), size })
    };
    [
        pool(172, 17, 16, 16),
        pool(172, 18, 16, 16),
        pool(172, 19, 16, 16),
        pool(172, 20, 14, 16),
        pool(172, 24, 14, 16),
        pool(172, 28, 14, 16),
        pool(192, 168, 16, 20),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Line on which `key` is written, 1 where it is not.
fn line_of(text: &str, key: &str) -> usize {
    let Ok(table) = toml::de::DeTable::parse(text) else { return 1 };
    let span = table.get_ref().iter().find(|(name, _)| name.get_ref() == key);
    span.map_or(1, |(name, _)| line_at(text, name.span().start))
}
