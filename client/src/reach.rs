//! Checks that this machine offers what a configuration names: folders to write to, ports to listen on.

use std::{
    fs::{self, File},
    io,
    net::SocketAddr,
    path::Path,
};

use tokio::net::TcpSocket;

use crate::Unwritable;

/// Checks that a folder is writable, or can be made if it does not exist, by creating a file and removing it.
/// Permissions alone do not show whether a file system is mounted read-only.
///
/// # Errors
/// The error of the operating system. A full disk is not an error, because its data can still be read.
pub fn is_usable_folder(folder: &Path) -> io::Result<()> {
    // The last ancestor of a relative path is empty. It means the current folder.
    let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
    let probe = there.join(format!(".evernear-check-{}", std::process::id()));
    match File::create(&probe) {
        Ok(_) => fs::remove_file(&probe),
        Err(error) if Unwritable::of(&error) == Some(Unwritable::Full) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Binds a TCP address and releases it. It does not listen, so no client can connect to a server that does not exist.
/// Returns whether another process listens there.
///
/// # Errors
/// If this machine, or this user, cannot use the address at all.
pub fn is_port_taken(address: SocketAddr) -> io::Result<bool> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A listener sets this too: remains of closed connections (TIME_WAIT) do not block the port.
    socket.set_reuseaddr(true)?;
    match socket.bind(address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(true),
        bound => bound.map(|()| false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_free_taken_or_not_ours() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(is_port_taken(address).unwrap());
        drop(listener);
        assert!(!is_port_taken(address).unwrap());
        // TEST-NET-1 (RFC 5737): no machine has this address.
        assert!(is_port_taken("192.0.2.1:7400".parse().unwrap()).is_err());
    }

    #[test]
    fn a_folder_serves_when_it_or_its_parent_takes_files() {
        let dir = std::env::temp_dir().join(format!("evernear-folder-{}", std::process::id()));
        is_usable_folder(&dir.join("a/b")).unwrap();
        assert!(!dir.exists(), "nothing is left behind");
        fs::create_dir_all(&dir).unwrap();
        is_usable_folder(&dir).unwrap();
        fs::write(dir.join("file"), "").unwrap();
        assert!(is_usable_folder(&dir.join("file/below")).is_err());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        fs::remove_dir_all(&dir).unwrap();
    }
}
