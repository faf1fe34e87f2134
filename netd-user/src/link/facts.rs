//! Files of the host that the controller reads beside netlink.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::LinkError;
use crate::facts::HostResolver;
use crate::fault;

const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// Most settings are shorter.
const SETTING_LEN: usize = 4_096;
const RESERVED_PORTS: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
/// systemd-resolved's address on loopback, and where it lists the servers behind it.
const RESOLVED_STUB: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53));
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";
/// Under the state directory: the reserved ports that we added.
const ADDED_PORTS: &str = "reserved-ports-added";

/// What a resolv.conf says; a missing file says nothing.
pub fn resolver(resolv_conf: &Path) -> Result<HostResolver, LinkError> {
    let mut resolver = match fs::read_to_string(resolv_conf) {
        Ok(text) => parse_resolver(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => HostResolver::default(),
        Err(error) => return Err(failed("read", resolv_conf)(error)),
    };
    let remote = |servers: &[IpAddr]| {
        servers.iter().copied().filter(|server| !server.is_loopback()).collect::<Vec<_>>()
    };
    resolver.remote = if resolver.servers == [RESOLVED_STUB] {
        let behind = fs::read_to_string(RESOLVED).unwrap_or_default();
        remote(&parse_resolver(&behind).servers)
    } else {
        remote(&resolver.servers)
    };
    Ok(resolver)
}

/// The port settings of the namespace that they were opened in. They stay open, as a path below
/// `/proc/sys` is found the slower the more namespaces there are (`proc_sys_compare`).
#[derive(Debug)]
pub struct PortSettings {
    range: File,
    reserved: File,
}

impl PortSettings {
    /// Those of the calling thread's namespace.
    pub fn open() -> Result<Self, LinkError> {
        Ok(Self { range: open(PORT_RANGE)?, reserved: open(RESERVED_PORTS)? })
    }

    /// First and last port that the kernel picks for sockets without one.
    pub fn local_range(&self) -> Result<(u16, u16), LinkError> {
        let invalid =
            || failed("understand", Path::new(PORT_RANGE))(io::ErrorKind::InvalidData.into());
        parse_range(&read(&self.range, PORT_RANGE)?).ok_or_else(invalid)
    }

    /// Ports that the kernel never picks by itself.
    pub fn reserved(&self) -> Result<Vec<RangeInclusive<u16>>, LinkError> {
        Ok(parse_ranges(&read(&self.reserved, RESERVED_PORTS)?))
    }
}

fn open(path: &str) -> Result<File, LinkError> {
    File::open(path).map_err(failed("open", Path::new(path)))
}

/// A setting's text. The kernel tells it in one read, cut to what there is room for; a further one
/// finds the end (`proc_do_large_bitmap`).
fn read(setting: &File, path: &str) -> Result<String, LinkError> {
    let mut bytes = vec![0; SETTING_LEN];
    loop {
        let len = setting.read_at(&mut bytes, 0).map_err(failed("read", Path::new(path)))?;
        if len < bytes.len() {
            bytes.truncate(len);
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
        bytes.resize(bytes.len() * 2, 0);
    }
}

fn reserved_ports() -> Result<Vec<RangeInclusive<u16>>, LinkError> {
    PortSettings::open()?.reserved()
}

/// Reserves the masquerade ports, and remembers which of them were not reserved before. A range left
/// by an earlier run is given back first.
pub fn reserve_ports(state_dir: &Path, (first, last): (u16, u16)) -> Result<(), LinkError> {
    let remembered = state_dir.join(ADDED_PORTS);
    let mut ports = PortSet::of(&reserved_ports()?);
    if let Ok(text) = fs::read_to_string(&remembered) {
        ports.remove(&parse_ranges(&text));
    }
    let mut added = PortSet::of(&[first..=last]);
    added.remove(&ports.ranges());
    // Remembered before it is done: a crash in between gives back what was never taken, and that
    // changes nothing.
    fs::write(&remembered, added.text()).map_err(failed("write", &remembered))?;
    fault::point();
    ports.insert(&added.ranges());
    write_reserved(&ports)
}

/// The reserved ports that we added, as the kernel writes them; none where none were noted.
pub fn added_ports(state_dir: &Path) -> Result<Option<String>, LinkError> {
    let remembered = state_dir.join(ADDED_PORTS);
    match fs::read_to_string(&remembered) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", &remembered)(error)),
    }
}

/// Whether the masquerade ports are reserved.
pub fn are_reserved((first, last): (u16, u16)) -> Result<bool, LinkError> {
    let mut missing = PortSet::of(&[first..=last]);
    missing.remove(&reserved_ports()?);
    Ok(missing.ranges().is_empty())
}

/// Gives the masquerade ports back. Ports that others reserved meanwhile stay so.
pub fn restore_ports(state_dir: &Path) -> Result<(), LinkError> {
    let Some(text) = added_ports(state_dir)? else { return Ok(()) };
    let remembered = state_dir.join(ADDED_PORTS);
    let mut ports = PortSet::of(&reserved_ports()?);
    ports.remove(&parse_ranges(&text));
    write_reserved(&ports)?;
    fs::remove_file(&remembered).map_err(failed("remove", &remembered))
}

fn write_reserved(ports: &PortSet) -> Result<(), LinkError> {
    let path = Path::new(RESERVED_PORTS);
    // An empty write is no write: a newline clears the list.
    fs::write(path, ports.text() + "\n").map_err(failed("write", path))
}

/// A set of ports.
struct PortSet(Vec<bool>);

impl PortSet {
    fn of(ranges: &[RangeInclusive<u16>]) -> Self {
        let mut set = Self(vec![false; usize::from(u16::MAX) + 1]);
        set.insert(ranges);
        set
    }

    fn insert(&mut self, ranges: &[RangeInclusive<u16>]) {
        self.mark(ranges, true);
    }

    fn remove(&mut self, ranges: &[RangeInclusive<u16>]) {
        self.mark(ranges, false);
    }

    fn mark(&mut self, ranges: &[RangeInclusive<u16>], member: bool) {
        for range in ranges {
            self.0[usize::from(*range.start())..=usize::from(*range.end())].fill(member);
        }
    }

    fn ranges(&self) -> Vec<RangeInclusive<u16>> {
        let members = (0..=u16::MAX).filter(|port| self.0[usize::from(*port)]);
        let mut ranges: Vec<RangeInclusive<u16>> = Vec::new();
        for port in members {
            match ranges.last_mut() {
                Some(last) if last.end().checked_add(1) == Some(port) => {
                    *last = *last.start()..=port;
                }
                _ => ranges.push(port..=port),
            }
        }
        ranges
    }

    /// As the kernel prints it: `1,5-9`.
    fn text(&self) -> String {
        let show = |range: &RangeInclusive<u16>| {
            let (first, last) = (range.start(), range.end());
            if first == last { first.to_string() } else { format!("{first}-{last}") }
        };
        self.ranges().iter().map(show).collect::<Vec<_>>().join(",")
    }
}

fn parse_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.trim().split_once(char::is_whitespace)?;
    let (first, last) = (first.parse().ok()?, last.trim().parse().ok()?);
    (first <= last).then_some((first, last))
}

fn parse_ranges(text: &str) -> Vec<RangeInclusive<u16>> {
    let parse = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (first <= last).then_some(first..=last)
    };
    text.trim().split(',').filter_map(parse).collect()
}

fn parse_resolver(text: &str) -> HostResolver {
    let mut resolver = HostResolver::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let keyword = words.next().unwrap_or_default();
        let values = words.map(ToOwned::to_owned);
        match keyword {
            // A scope (`fe80::1%eth0`) names a link that containers don't have.
            "nameserver" => {
                let addresses = values.take(1).filter_map(|it| it.parse::<IpAddr>().ok());
                resolver.servers.extend(addresses);
            }
            "search" | "domain" => resolver.search = values.collect(),
            "options" => resolver.options.extend(values),
            _ => {}
        }
    }
    resolver
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LinkError {
    let path = path.to_owned();
    move |source| LinkError::File { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_local_port_range_is_read_as_the_kernel_writes_it() {
        assert_eq!(parse_range("32768\t60999\n"), Some((32_768, 60_999)));
        assert_eq!(parse_range("60999 32768"), None);
        assert_eq!(parse_range(""), None);
    }

    #[test]
    fn a_setting_longer_than_the_first_read_is_read_whole() {
        let mut file = tempfile::tempfile().unwrap();
        let ports: Vec<String> = (0..3_000).map(|number| (2 * number + 1).to_string()).collect();
        io::Write::write_all(&mut file, ports.join(",").as_bytes()).unwrap();
        assert_eq!(parse_ranges(&read(&file, "").unwrap()).len(), 3_000);
    }

    #[test]
    fn port_sets_survive_their_text() {
        for text in ["", "1", "1,5-9,65535", "0-65535", "8080,9148"] {
            assert_eq!(PortSet::of(&parse_ranges(text)).text(), text);
        }
    }

    #[test]
    fn removing_what_was_added_leaves_what_was_there() {
        let mut ports = PortSet::of(&parse_ranges("50000,60000-60010"));
        let mut added = PortSet::of(&[49152..=65535]);
        added.remove(&ports.ranges());
        ports.insert(&added.ranges());
        assert_eq!(ports.text(), "49152-65535");
        ports.remove(&added.ranges());
        assert_eq!(ports.text(), "50000,60000-60010");
    }

    #[test]
    fn a_resolv_conf_is_read_past_comments_and_scopes() {
        let text = "# nameserver 9.9.9.9\nnameserver 1.1.1.1 # one\n search x\noptions ndots:1\n\
                    nameserver\nnameserver fe80::1%eth0\n  nameserver 2001:db8::53\n";
        let read = parse_resolver(text);
        let found: Vec<String> = read.servers.iter().map(ToString::to_string).collect();
        assert_eq!(found, ["1.1.1.1", "2001:db8::53"]);
        assert_eq!((read.search, read.options), (vec!["x".into()], vec!["ndots:1".into()]));
    }
}
