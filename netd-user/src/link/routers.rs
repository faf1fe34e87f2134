//! Default routers that the host has learned from router advertisements.
//!
//! Law: they stay. The kernel forgets them all whenever an interface of the namespace is told to
//! forward IPv6, for it takes the host to have become a router; it spares those on interfaces that
//! accept advertisements even so. For that moment, and no longer, theirs do.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::LinkError;

/// Routes of the calling thread's namespace.
const ROUTES: &str = "/proc/thread-self/net/ipv6_route";
/// `RTF_DEFAULT` and `RTF_ADDRCONF`: learned from an advertisement.
const LEARNED: u32 = 0x0005_0000;
/// What an interface has that accepts advertisements as long as it does not forward.
const ACCEPTS: &str = "1";
/// The same, and while it forwards.
const ACCEPTS_ALWAYS: &str = "2";

/// Does something that makes the kernel forget learned routers, and keeps them.
pub(super) fn kept<T>(work: impl FnOnce() -> Result<T, LinkError>) -> Result<T, LinkError> {
    let routes = match fs::read_to_string(ROUTES) {
        Ok(routes) => routes,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(source) => return Err(failed("read", ROUTES.into(), source)),
    };
    let mut lifted = Vec::new();
    let done = lift(holders(&routes), &mut lifted).and_then(|()| work());
    let restored: Vec<_> = lifted.iter().map(|path| write(path, ACCEPTS)).collect();
    restored.into_iter().collect::<Result<(), _>>().and(done)
}

/// Has the interfaces accept advertisements whether they forward or not, and notes where.
fn lift(interfaces: BTreeSet<&str>, lifted: &mut Vec<PathBuf>) -> Result<(), LinkError> {
    for interface in interfaces {
        let path: PathBuf = ["/proc/sys/net/ipv6/conf", interface, "accept_ra"].iter().collect();
        // Who is not as expected, or has just gone, is left alone.
        if fs::read_to_string(&path).is_ok_and(|found| found.trim() == ACCEPTS) {
            write(&path, ACCEPTS_ALWAYS)?;
            lifted.push(path);
        }
    }
    Ok(())
}

/// Interfaces behind which a learned default router is.
fn holders(routes: &str) -> BTreeSet<&str> {
    let holder = |line| {
        let fields: Vec<&str> = str::split_whitespace(line).collect();
        let [_, "00", .., flags, interface] = fields[..] else { return None };
        let flags = u32::from_str_radix(flags, 16).ok()?;
        (flags & LEARNED == LEARNED).then_some(interface)
    };
    routes.lines().filter_map(holder).collect()
}

fn write(path: &Path, value: &str) -> Result<(), LinkError> {
    match fs::write(path, value) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        written => written.map_err(|source| failed("write", path.to_owned(), source)),
    }
}

fn failed(action: &'static str, path: PathBuf, source: std::io::Error) -> LinkError {
    LinkError::File { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_learned_default_routes_count() {
        let any = "00000000000000000000000000000000";
        let line = |prefix: &str, flags: &str, interface: &str| {
            format!(
                "{any} {prefix} {any} 00 {any} 00000400 00000001 00000000 {flags} {interface}\n"
            )
        };
        let routes = [
            line("00", "00450003", "learned"),
            line("00", "00450003", "learned"),
            line("00", "00000003", "static"),
            line("40", "00450001", "prefix"),
            line("00", "00200200", "lo"),
        ];
        assert_eq!(holders(&routes.concat()), BTreeSet::from(["learned"]));
    }
}
