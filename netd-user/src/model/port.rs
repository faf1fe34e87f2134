//! Published ports: Docker's `-p` syntax and what it comes to.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::refusal::Refusal;

/// A transport protocol that can be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    /// IP protocol 6.
    Tcp,
    /// IP protocol 17.
    Udp,
    /// IP protocol 132.
    Sctp,
}

/// Publications of more ports than this are held by no sockets: the bind hook alone guards them.
pub const MOST_HELD_PORTS: u16 = 64;

/// One `-p`, parsed: `[HOSTIP:][HOSTPORT[-END]]:CPORT[-CEND][/proto]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSpec {
    /// Host address, none for the default.
    pub host_ip: Option<IpAddr>,
    /// First and last host port, none for a random one.
    pub host: Option<(u16, u16)>,
    /// First and last container port.
    pub container: (u16, u16),
    /// Protocol.
    pub proto: Proto,
}

/// A granted publication: `count` consecutive host ports to as many container ports, on one address.
/// `-p` without an address comes to one of each family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Publication {
    /// Slot of its hit counter, unique on the host.
    pub slot: u32,
    /// Host address; unspecified for every address of its family.
    pub host_ip: IpAddr,
    /// First host port; 0 in gateway mode `routed`, which opens container ports only.
    pub host_port: u16,
    /// First container port.
    pub container_port: u16,
    /// How many ports.
    pub count: u16,
    /// Protocol.
    pub proto: Proto,
}

impl Publication {
    /// The last host port.
    pub fn host_port_last(&self) -> u16 {
        self.host_port.saturating_add(self.count.saturating_sub(1))
    }

    /// Whether it takes host ports: in gateway mode `routed` it opens container ports only.
    pub fn takes_host_port(&self) -> bool {
        self.host_port != 0
    }
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// The short syntax, as `parse_ports` reads it.
impl fmt::Display for PortSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_ip {
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:")?,
            Some(IpAddr::V4(ip)) => write!(f, "{ip}:")?,
            None => {}
        }
        match self.host {
            Some(ports) => write!(f, "{}:", Ports(ports))?,
            None if self.host_ip.is_some() => f.write_str(":")?,
            None => {}
        }
        write!(f, "{}/{}", Ports(self.container), self.proto)
    }
}

struct Ports((u16, u16));

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = self.0;
        if first == last { write!(f, "{first}") } else { write!(f, "{first}-{last}") }
    }
}

/// Reads one `-p`: Docker's short syntax, or its long one (`published=8080,target=80,protocol=udp`).
pub fn parse_ports(text: &str) -> Result<Vec<PortSpec>, Refusal> {
    let short = if text.contains('=') { long_syntax(text)? } else { text.to_owned() };
    let (host_ip, host, container) = split(&short);
    let (container, proto) = split_proto(container, text)?;
    let host_ip = parse_host_ip(host_ip)?;
    let wrong = |what: &str, ports: &str| Refusal::invalid(format_args!("invalid {what}: {ports}"));
    let ports = port_range(container).ok_or_else(|| wrong("containerPort", container))?;
    if ports.0 == 0 {
        let spec = format!("invalid port specification: \"{container}/{proto}\"");
        return Err(Refusal::invalid(spec));
    }
    let host_ports = match host {
        "" | "0" => None,
        _ => Some(port_range(host).filter(|p| p.0 > 0).ok_or_else(|| wrong("hostPort", host))?),
    };
    let single = ports.0 == ports.1;
    if host_ports.is_some_and(|(first, last)| !single && last - first != ports.1 - ports.0) {
        return Err(Refusal::invalid(format_args!(
            "invalid ranges specified for container and host Ports: {container} and {host}"
        )));
    }
    Ok(vec![PortSpec { host_ip, host: host_ports, container: ports, proto }])
}

/// Reads one `--expose`: `80`, `80/udp`, `80-90/tcp`.
pub fn parse_expose(text: &str) -> Result<(u16, u16, Proto), Refusal> {
    if text.contains(':') {
        return Err(Refusal::invalid(format_args!("invalid port format for --expose: {text}")));
    }
    let (ports, proto) = split_proto(text, text)?;
    let range = port_range(ports).filter(|(first, _)| *first > 0);
    let (first, last) = range.ok_or_else(|| {
        Refusal::invalid(format_args!("invalid range format for --expose: {text}"))
    })?;
    Ok((first, last, proto))
}

fn long_syntax(text: &str) -> Result<String, Refusal> {
    let (mut published, mut target, mut proto) = ("", "", "tcp");
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("published", value)) => published = value,
            Some(("target", value)) => target = value,
            Some(("protocol", value)) => proto = value,
            // Docker takes and ignores other fields (`mode`, `name`, `app_protocol`).
            Some((key, _)) if !key.is_empty() => {}
            Some(_) | None => {
                return Err(Refusal::invalid(format_args!(
                    "invalid publish opts format (should be name=value but got '{field}')"
                )));
            }
        }
    }
    Ok(format!("{published}:{target}/{proto}"))
}

/// Host address, host ports, container ports with protocol; what is missing is empty.
fn split(text: &str) -> (&str, &str, &str) {
    let Some((rest, container)) = text.rsplit_once(':') else { return ("", "", text) };
    let Some((host_ip, host)) = rest.rsplit_once(':') else { return ("", rest, container) };
    (host_ip, host, container)
}

fn split_proto<'a>(ports: &'a str, whole: &str) -> Result<(&'a str, Proto), Refusal> {
    let (ports, proto) = ports.split_once('/').unwrap_or((ports, ""));
    if ports.is_empty() {
        return Err(Refusal::invalid(format_args!("no port specified: {whole}<empty>")));
    }
    match proto.to_ascii_lowercase().as_str() {
        "" | "tcp" => Ok((ports, Proto::Tcp)),
        "udp" => Ok((ports, Proto::Udp)),
        "sctp" => Ok((ports, Proto::Sctp)),
        other => Err(Refusal::invalid(format_args!("invalid proto: {other}"))),
    }
}

fn parse_host_ip(text: &str) -> Result<Option<IpAddr>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    let bare = text.strip_prefix('[').map_or(Some(text), |rest| rest.strip_suffix(']'));
    let bracketed = text.starts_with('[');
    let addr: Option<IpAddr> = bare.and_then(|bare| bare.parse().ok());
    addr.filter(|addr| addr.is_ipv6() || !bracketed)
        .map(|addr| Some(addr.to_canonical()))
        .ok_or_else(|| Refusal::invalid(format_args!("invalid IP address: {text}")))
}

fn port_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then_some((first, last))
}

/// Plain digits: Rust would also take a sign.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}
