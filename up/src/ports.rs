//! Ports: which are free, and who has one that is not.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    os::unix::ffi::OsStrExt,
};

/// Ports that are tried above one that is taken.
const TRIED_MAX: u16 = 200;

/// What listens on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Streams.
    Tcp,
    /// Streams and datagrams, both on one port.
    TcpAndUdp,
}

/// Returns a port of 127.0.0.1.
pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// Returns whether another process has an address.
///
/// # Errors
/// When this machine, or this user, cannot have it at all.
pub(crate) fn is_taken(address: SocketAddr, kind: Kind) -> io::Result<bool> {
    let of_datagrams = || match UdpSocket::bind(address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(true),
        bound => bound.map(|_| false),
    };
    Ok(client::is_port_taken(address)? || kind == Kind::TcpAndUdp && of_datagrams()?)
}

/// Returns the first free address from a port on, of those that `is_ours` does not name; none when there is none near.
///
/// # Errors
/// When this machine, or this user, cannot have it at all.
pub(crate) fn free_from(
    first: SocketAddr,
    kind: Kind,
    is_ours: impl Fn(u16) -> bool,
) -> io::Result<Option<SocketAddr>> {
    for port in (first.port()..=u16::MAX).take(TRIED_MAX.into()).filter(|port| !is_ours(*port)) {
        let address = SocketAddr::new(first.ip(), port);
        if !is_taken(address, kind)? {
            return Ok(Some(address));
        }
    }
    Ok(None)
}

/// Returns an address with a port that the system chooses, in the place of port 0: none that `is_ours` names, which it
/// may choose again as long as nobody listens there.
///
/// # Errors
/// When this machine, or this user, cannot have it at all.
pub(crate) fn any(address: SocketAddr, kind: Kind, is_ours: impl Fn(u16) -> bool) -> io::Result<SocketAddr> {
    /// A port free for TCP may be taken for UDP; so often in a row it is not.
    const TRIES_MAX: usize = 16;
    for _ in 0..TRIES_MAX {
        let chosen = TcpListener::bind(address)?.local_addr()?;
        if !is_ours(chosen.port()) && !is_taken(chosen, kind)? {
            return Ok(chosen);
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// Returns who has a port, as far as this user may see: `nginx (process 123)`. Reads /proc, on Linux alone.
pub(crate) fn holder(port: u16) -> Option<String> {
    let tables = ["tcp", "tcp6", "udp", "udp6"].map(|table| fs::read_to_string(format!("/proc/net/{table}")));
    let sockets: Vec<String> = tables.iter().flatten().flat_map(|table| sockets_at(table, port)).collect();
    if sockets.is_empty() {
        return None;
    }
    let has_one = |process: &fs::DirEntry| {
        let Ok(files) = fs::read_dir(process.path().join("fd")) else { return false };
        let targets = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
        targets.map(|to| to.as_os_str().as_bytes().to_vec()).any(|to| sockets.iter().any(|it| it.as_bytes() == to))
    };
    let process = fs::read_dir("/proc").ok()?.flatten().filter(|it| id_of(it).is_some()).find(has_one)?;
    let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
    Some(format!("{} (process {})", name.trim(), id_of(&process)?))
}

fn id_of(process: &fs::DirEntry) -> Option<u32> {
    process.file_name().to_str()?.parse().ok()
}

/// Returns the sockets that listen at a port, or have no other end, as links of descriptors name them. The columns are
/// those of `proc_net(5)`: local address, remote address, state and, the tenth, inode.
fn sockets_at(table: &str, port: u16) -> Vec<String> {
    let local = format!(":{port:04X}");
    let socket = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let is_it = columns.get(1)?.ends_with(&local) && columns.get(2)?.ends_with(":0000");
        is_it.then(|| format!("socket:[{}]", columns.get(9).unwrap_or(&"")))
    };
    table.lines().skip(1).filter_map(socket).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_drawn_a_second_time_is_not_given_to_another_door() {
        let drawn = std::cell::RefCell::new(Vec::new());
        let first_is_ours = |port| {
            drawn.borrow_mut().push(port);
            drawn.borrow().len() == 1
        };
        let chosen = any(loopback(0), Kind::Tcp, first_is_ours).unwrap();
        assert_eq!(drawn.borrow()[1..], [chosen.port()]);
    }

    #[test]
    fn a_taken_port_is_passed_over_and_its_holder_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(is_taken(address, Kind::Tcp).unwrap());
        let free = free_from(address, Kind::Tcp, |_| false).unwrap().unwrap();
        assert!(free.port() > address.port() && free.ip() == address.ip());
        assert_ne!(free_from(address, Kind::Tcp, |port| port == free.port()).unwrap(), Some(free));
        let holder = holder(address.port()).unwrap();
        assert!(holder.ends_with(&format!("(process {})", std::process::id())), "{holder}");
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(
            is_taken("192.0.2.1:7400".parse().unwrap(), Kind::Tcp).is_err(),
            "no machine has TEST-NET-1 (RFC 5737)"
        );
        drop(listener);
        assert!(!is_taken(address, Kind::Tcp).unwrap() && holder_is_gone(address.port()) && datagrams.port() > 0);
    }

    fn holder_is_gone(port: u16) -> bool {
        holder(port).is_none()
    }

    #[test]
    fn datagrams_count_where_both_are_needed() {
        // A port that nothing else here takes in between.
        let address = SocketAddr::from(([127, 0, 0, 1], testing::free_port()));
        let socket = UdpSocket::bind(address).unwrap();
        assert!(is_taken(address, Kind::TcpAndUdp).unwrap() && !is_taken(address, Kind::Tcp).unwrap());
        assert!(holder(address.port()).is_some());
        drop(socket);
        assert!(!is_taken(address, Kind::TcpAndUdp).unwrap());
    }
}
