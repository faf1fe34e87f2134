//! Who listens on a unix socket, found without a connection: where the service manager does, a
//! connection would start the daemon.
//!
//! Law: what can't be read is nobody's; the question is then asked by a connection.

use std::fs;
use std::path::Path;

/// State of a socket that listens, as `/proc/net/unix` writes its flags (`__SO_ACCEPTCON`).
const LISTENS: &str = "00010000";
/// Names of service managers begin so: systemd itself, of the machine and of a user, and
/// systemd-socket-activate.
const MANAGER: &str = "systemd";

/// Whether the service manager listens on a socket, and nobody else.
pub(super) fn is_managers(place: &Path) -> bool {
    let Some(inode) = fs::read_to_string("/proc/net/unix").ok().and_then(|it| inode(&it, place))
    else {
        return false;
    };
    let holders = holders(&inode);
    !holders.is_empty() && holders.iter().all(|name| name.starts_with(MANAGER))
}

/// The number of the socket that listens at a path.
fn inode(table: &str, place: &Path) -> Option<String> {
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.find_map(|columns| match columns.as_slice() {
        [_, _, _, LISTENS, _, _, inode, path] if Path::new(path) == place => {
            Some((*inode).to_owned())
        }
        _ => None,
    })
}

/// Names of the processes that have a socket open.
fn holders(inode: &str) -> Vec<String> {
    let socket = format!("socket:[{inode}]");
    let holds = |process: &Path| {
        let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        let mut links = open.filter_map(|entry| fs::read_link(entry.path()).ok());
        links.any(|link| link == Path::new(&socket))
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().map(|it| it.path());
    let holding = processes.filter(|process| holds(process));
    holding.filter_map(|process| fs::read_to_string(process.join("comm")).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_what_listens_is_found_in_the_table_of_sockets() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000: 00000003 00000000 00000000 0001 03 11 /run/netd/netd.sock\n\
            0000: 00000002 00000000 00010000 0001 01 12 /run/netd/netd.sock\n\
            0000: 00000002 00000000 00010000 0001 01 13\n";
        assert_eq!(inode(table, Path::new("/run/netd/netd.sock")).as_deref(), Some("12"));
        assert_eq!(inode(table, Path::new("/run/other.sock")), None);
    }

    #[test]
    fn socket_of_another_program_is_not_the_managers_and_nobody_connects_to_find_out() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("sock");
        let listener = UnixListener::bind(&place).unwrap();
        listener.set_nonblocking(true).unwrap();
        assert!(!is_managers(&place));
        assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        let table = fs::read_to_string("/proc/net/unix").unwrap();
        let own = fs::read_to_string("/proc/self/comm").unwrap();
        // Children that other tests fork hold it for a moment, too.
        assert!(holders(&inode(&table, &place).unwrap()).contains(&own));
    }
}
