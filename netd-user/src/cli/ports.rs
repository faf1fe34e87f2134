//! Published ports as `docker ps` and `docker port` write them.

use crate::api::PublishedPort;

/// `PORT[/PROTO]`, TCP where none is given.
pub(super) fn wanted(text: &str) -> Result<(u16, String), String> {
    let (port, proto) = text.split_once('/').unwrap_or((text, "tcp"));
    let number = port.parse().ok().filter(|&number: &u16| number != 0);
    let number = number.ok_or_else(|| format!("invalid port '{port}'"))?;
    let proto = proto.to_lowercase();
    if !["tcp", "udp", "sctp"].contains(&proto.as_str()) {
        return Err(format!("invalid proto: {proto}"));
    }
    Ok((number, proto))
}

/// Whether a container port is among the published.
pub(super) fn covers(published: &PublishedPort, port: u16, proto: &str) -> bool {
    let offset = port.checked_sub(published.container_port);
    published.proto == proto && offset.is_some_and(|offset| offset < published.count)
}

/// Where a container port is reached on the host.
pub(super) fn host_side(published: &PublishedPort, port: u16) -> String {
    let offset = port.saturating_sub(published.container_port);
    bracketed(&published.host_ip, published.host_port.saturating_add(offset))
}

/// `80/tcp -> 0.0.0.0:8080`, a line for each port and address, sorted by container port.
pub(super) fn lines(published: &[PublishedPort]) -> Vec<String> {
    let mut lines: Vec<(u16, &str, String)> = published
        .iter()
        .flat_map(|held| {
            (0..held.count).map(move |offset| {
                let port = held.container_port.saturating_add(offset);
                (port, held.proto.as_str(), host_side(held, port))
            })
        })
        .collect();
    lines.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
    lines.iter().map(|(port, proto, host)| format!("{port}/{proto} -> {host}")).collect()
}

/// `0.0.0.0:8080->80/tcp, 90/tcp`: the published ports, then those that are only exposed.
pub(super) fn shown(published: &[PublishedPort], exposed: &[String]) -> String {
    let own = published.iter().map(|held| {
        let container = span(held.container_port, held.count);
        let host = bracketed_span(&held.host_ip, held.host_port, held.count);
        format!("{host}->{container}/{}", held.proto)
    });
    let only_exposed = exposed.iter().filter(|text| {
        let known = wanted(text).ok();
        !known.is_some_and(|(port, proto)| published.iter().any(|p| covers(p, port, &proto)))
    });
    let all: Vec<String> = own.chain(only_exposed.cloned()).collect();
    all.join(", ")
}

fn bracketed(address: &str, port: u16) -> String {
    bracketed_span(address, port, 1)
}

fn bracketed_span(address: &str, port: u16, count: u16) -> String {
    let ports = span(port, count);
    if address.contains(':') {
        format!("[{address}]:{ports}")
    } else {
        format!("{address}:{ports}")
    }
}

fn span(first: u16, count: u16) -> String {
    if count <= 1 {
        return first.to_string();
    }
    format!("{first}-{}", first.saturating_add(count - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(host: &str, host_port: u16, container: u16, count: u16) -> PublishedPort {
        PublishedPort {
            host_ip: host.into(),
            host_port,
            container_port: container,
            count,
            proto: "tcp".into(),
            hits: 0,
        }
    }

    #[test]
    fn ps_shows_both_families_ranges_and_the_merely_exposed() {
        let ports = [published("0.0.0.0", 8080, 80, 1), published("::", 9000, 90, 3)];
        assert_eq!(
            shown(&ports, &["80/tcp".into(), "53/udp".into()]),
            "0.0.0.0:8080->80/tcp, [::]:9000-9002->90-92/tcp, 53/udp"
        );
    }

    #[test]
    fn port_has_a_line_for_each_port_and_address() {
        let ports = [published("0.0.0.0", 9000, 90, 2), published("::1", 8080, 80, 1)];
        assert_eq!(
            lines(&ports),
            ["80/tcp -> [::1]:8080", "90/tcp -> 0.0.0.0:9000", "91/tcp -> 0.0.0.0:9001"]
        );
        assert!(covers(&ports[0], 91, "tcp"));
        assert!(!covers(&ports[0], 92, "tcp") && !covers(&ports[0], 91, "udp"));
        assert_eq!(host_side(&ports[0], 91), "0.0.0.0:9001");
    }

    #[test]
    fn what_is_no_port_is_refused() {
        assert_eq!(wanted("80"), Ok((80, "tcp".into())));
        assert_eq!(wanted("53/UDP"), Ok((53, "udp".into())));
        for text in ["", "0", "65536", "x", "80/foo", "80/", "-1"] {
            assert!(wanted(text).is_err(), "{text}");
        }
    }
}
