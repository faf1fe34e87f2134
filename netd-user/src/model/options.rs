//! Docker's bridge options: from `-o key=value` to what the dataplane obeys.
//!
//! Law: `netd.*` keys that aren't known are refused by name; others' unknown keys are none of our
//! business, as with Docker.

use std::collections::{BTreeMap, BTreeSet};

use super::network::{AntiSpoof, BridgeOptions, GatewayMode};
use super::refusal::Refusal;

const DEVICE: &str = "com.docker.network.bridge.name";
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const ICC: &str = "com.docker.network.bridge.enable_icc";
const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
const MODE_V4: &str = "com.docker.network.bridge.gateway_mode_ipv4";
const MODE_V6: &str = "com.docker.network.bridge.gateway_mode_ipv6";
const INHIBIT_V4: &str = "com.docker.network.bridge.inhibit_ipv4";
const HOST_V4: &str = "com.docker.network.host_ipv4";
const HOST_V6: &str = "com.docker.network.host_ipv6";
const TRUSTED: &str = "com.docker.network.bridge.trusted_host_interfaces";
const MTU: &str = "com.docker.network.driver.mtu";
const MTU_SHORT: &str = "mtu";
const INTERFACE_PREFIX: &str = "com.docker.network.container_iface_prefix";
const ENABLE_V4: &str = "com.docker.network.enable_ipv4";
const ENABLE_V6: &str = "com.docker.network.enable_ipv6";
const ANTI_SPOOF: &str = "netd.anti_spoof";
/// Whether members ask netd for names.
const NAMES: &str = "netd.dns";
/// Name servers of the members, addresses separated by commas.
pub const NAME_SERVERS: &str = "netd.dns.servers";
const OWN: [&str; 3] = [ANTI_SPOOF, NAMES, NAME_SERVERS];

/// Least MTU of IPv4 (RFC 791) and IPv6 (RFC 8200) links, largest that a veth takes.
const MTU_RANGE: std::ops::RangeInclusive<i64> = 68..=65_535;
const MTU_LEAST_V6: u32 = 1_280;

/// The families that options switch on or off, where the spec itself doesn't say.
pub(super) fn enabled(
    options: &BTreeMap<String, String>,
    v6: bool,
) -> Result<Option<bool>, Refusal> {
    let key = if v6 { ENABLE_V6 } else { ENABLE_V4 };
    options.contains_key(key).then(|| flag(options, key, false)).transpose()
}

/// Reads all options; the device is the one named, or empty.
pub(super) fn understand(options: &BTreeMap<String, String>) -> Result<BridgeOptions, Refusal> {
    refuse_unknown(options)?;
    check_name_servers(options)?;
    Ok(BridgeOptions {
        device: device(options)?.into(),
        masquerade: flag(options, MASQUERADE, true)?,
        icc: flag(options, ICC, true)?,
        host_binding: parsed(options, HOST_BINDING)?,
        gateway_mode_v4: gateway_mode(options, MODE_V4)?,
        gateway_mode_v6: gateway_mode(options, MODE_V6)?,
        inhibit_ipv4: flag(options, INHIBIT_V4, false)?,
        host_ipv4: parsed(options, HOST_V4)?,
        host_ipv6: parsed(options, HOST_V6)?,
        trusted: trusted(options)?,
        mtu: mtu(options)?,
        interface_prefix: interface_prefix(options)?,
        anti_spoof: anti_spoof(options)?,
        names: names(options)?,
    })
}

/// Refuses what options and the network's own switches don't allow together.
pub(super) fn check(bridge: &BridgeOptions, ipv6: bool, internal: bool) -> Result<(), Refusal> {
    let isolated =
        [bridge.gateway_mode_v4, bridge.gateway_mode_v6].contains(&GatewayMode::Isolated);
    if isolated && !internal {
        return Err(Refusal::invalid(
            "gateway mode 'isolated' can only be used for an internal network",
        ));
    }
    match bridge.mtu {
        Some(mtu) if ipv6 && mtu < MTU_LEAST_V6 => Err(Refusal::invalid(format_args!(
            "invalid MTU number: {mtu}: IPv6 needs {MTU_LEAST_V6} bytes or more"
        ))),
        Some(_) | None => Ok(()),
    }
}

/// Whether the kernel takes a text as the name of a link.
pub(super) fn is_link_name(name: &str) -> bool {
    let graphic =
        |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':' && byte != b'%';
    (1..=15).contains(&name.len()) && name.bytes().all(graphic) && name != "." && name != ".."
}

fn refuse_unknown(options: &BTreeMap<String, String>) -> Result<(), Refusal> {
    match options.keys().find(|key| key.starts_with("netd.") && !OWN.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(Refusal::invalid(format_args!(
            "unknown network option {key}: netd knows {}",
            OWN.join(", ")
        ))),
    }
}

fn check_name_servers(options: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let texts = options.get(NAME_SERVERS).into_iter().flat_map(|text| text.split(','));
    match texts.map(str::trim).find(|text| text.parse::<std::net::IpAddr>().is_err()) {
        None => Ok(()),
        Some(text) => Err(Refusal::invalid(format_args!(
            "invalid value {text:?} for {NAME_SERVERS}: write IP addresses, separated by commas"
        ))),
    }
}

fn device(options: &BTreeMap<String, String>) -> Result<String, Refusal> {
    let name = options.get(DEVICE).map_or("", String::as_str);
    if !name.is_empty() && !is_link_name(name) {
        return Err(Refusal::invalid(format_args!(
            "invalid value {name:?} for {DEVICE}: a link's name has 1 to 15 characters without spaces, '/', ':' and '%'"
        )));
    }
    Ok(name.to_owned())
}

fn interface_prefix(options: &BTreeMap<String, String>) -> Result<String, Refusal> {
    let prefix = options.get(INTERFACE_PREFIX).map_or("eth", String::as_str);
    if !is_link_name(prefix) || prefix.len() > 12 {
        return Err(Refusal::invalid(format_args!(
            "invalid value {prefix:?} for {INTERFACE_PREFIX}: 1 to 12 characters of a link's name are needed"
        )));
    }
    Ok(prefix.to_owned())
}

/// Names of links, with a colon between them.
fn trusted(options: &BTreeMap<String, String>) -> Result<BTreeSet<String>, Refusal> {
    let names = options.get(TRUSTED).map_or("", String::as_str);
    let names = names.split(':').filter(|name| !name.is_empty());
    names
        .map(|name| {
            let refusal = || unparsed(TRUSTED, name, "a link's name is needed");
            is_link_name(name).then(|| name.to_owned()).ok_or_else(refusal)
        })
        .collect()
}

/// A switch, in the words of Go's `strconv.ParseBool`.
fn flag(options: &BTreeMap<String, String>, key: &str, default: bool) -> Result<bool, Refusal> {
    let Some(value) = options.get(key) else { return Ok(default) };
    match value.as_str() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(unparsed(
            key,
            value,
            &format!("strconv.ParseBool: parsing \"{value}\": invalid syntax"),
        )),
    }
}

fn parsed<T: std::str::FromStr>(
    options: &BTreeMap<String, String>,
    key: &str,
) -> Result<Option<T>, Refusal> {
    let Some(value) = options.get(key).filter(|value| !value.is_empty()) else { return Ok(None) };
    value.parse().map(Some).map_err(|_| unparsed(key, value, "nil ip"))
}

fn gateway_mode(options: &BTreeMap<String, String>, key: &str) -> Result<GatewayMode, Refusal> {
    let Some(value) = options.get(key) else { return Ok(GatewayMode::Nat) };
    match value.as_str() {
        "" | "nat" => Ok(GatewayMode::Nat),
        "nat-unprotected" => Ok(GatewayMode::NatUnprotected),
        "routed" => Ok(GatewayMode::Routed),
        "isolated" => Ok(GatewayMode::Isolated),
        _ => Err(unparsed(key, value, &format!("unknown gateway mode {value}"))),
    }
}

fn anti_spoof(options: &BTreeMap<String, String>) -> Result<AntiSpoof, Refusal> {
    let Some(value) = options.get(ANTI_SPOOF) else { return Ok(AntiSpoof::Address) };
    match value.as_str() {
        "address" => Ok(AntiSpoof::Address),
        "mac" => Ok(AntiSpoof::Mac),
        "off" => Ok(AntiSpoof::Off),
        _ => Err(unparsed(ANTI_SPOOF, value, "one of address, mac, off is needed")),
    }
}

fn names(options: &BTreeMap<String, String>) -> Result<Option<bool>, Refusal> {
    let Some(value) = options.get(NAMES) else { return Ok(None) };
    match value.as_str() {
        "on" => Ok(Some(true)),
        "off" => Ok(Some(false)),
        _ => Err(unparsed(NAMES, value, "one of on, off is needed")),
    }
}

/// 0 and absence follow the uplink.
fn mtu(options: &BTreeMap<String, String>) -> Result<Option<u32>, Refusal> {
    let Some((key, value)) = [MTU, MTU_SHORT].iter().find_map(|key| options.get_key_value(*key))
    else {
        return Ok(None);
    };
    let digits = value.strip_prefix(['-', '+']).unwrap_or(value);
    let numeric = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.parse::<i64>().map_err(|_| {
        let why = if numeric { "value out of range" } else { "invalid syntax" };
        unparsed(key, value, &format!("strconv.Atoi: parsing \"{value}\": {why}"))
    })?;
    match (number, u32::try_from(number)) {
        (0, _) => Ok(None),
        (_, Ok(mtu)) if MTU_RANGE.contains(&number) => Ok(Some(mtu)),
        (_, Ok(_) | Err(_)) => Err(Refusal::invalid(format_args!("invalid MTU number: {number}"))),
    }
}

fn unparsed(key: &str, value: &str, why: &str) -> Refusal {
    Refusal::invalid(format_args!("failed to parse {key} value: {value} ({why})"))
}
