//! The addresses that a configuration has the edge listen on: whether they exclude each other, and can be had.

use std::{
    io,
    net::{self, IpAddr, SocketAddr},
};

use super::{Config, ConfigError};

/// What a door is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DoorKind {
    /// Streams.
    Tcp,
    /// Datagrams.
    Udp,
}

/// An address that the edge listens on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Door {
    /// The key that names it.
    pub(crate) field: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) kind: DoorKind,
}

impl Door {
    /// Whether the system gives only one of the two; port 0 is a port of its own each time.
    pub(crate) fn collides(&self, other: &Self) -> bool {
        let covers = |all: IpAddr, one: IpAddr| all == one || all.is_unspecified() && (all.is_ipv6() || one.is_ipv4());
        let (port, one, two) = (self.address.port(), self.address.ip(), other.address.ip());
        let same_port = port != 0 && port == other.address.port();
        self.kind == other.kind && same_port && (covers(one, two) || covers(two, one))
    }

    /// Binds the address and lets go of it again. Returns whether somebody else has it at the moment.
    ///
    /// # Errors
    /// When this machine, or this user, cannot have it at all.
    pub(crate) fn probe(&self) -> io::Result<bool> {
        match self.kind {
            DoorKind::Tcp => client::is_port_taken(self.address),
            DoorKind::Udp => match net::UdpSocket::bind(self.address) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(true),
                bound => bound.map(|_| false),
            },
        }
    }
}

impl Config {
    /// No two doors may want one port.
    pub(super) fn check_doors(&self) -> Result<(), ConfigError> {
        let doors = self.doors();
        for (at, second) in doors.iter().enumerate() {
            if let Some(first) = doors[..at].iter().find(|first| first.collides(second)) {
                return Err(ConfigError::Shared {
                    first: first.field,
                    first_address: first.address,
                    second: second.field,
                    second_address: second.address,
                });
            }
        }
        Ok(())
    }

    /// Returns all that the edge listens on.
    pub(crate) fn doors(&self) -> Vec<Door> {
        let dns =
            self.dns.listen.into_iter().flat_map(|address| {
                [DoorKind::Tcp, DoorKind::Udp].map(|kind| Door { field: "dns.listen", address, kind })
            });
        let mut doors: Vec<Door> = dns.collect();
        doors.push(Door { field: "http.listen", address: self.http.listen, kind: DoorKind::Tcp });
        if let Some(https) = &self.https {
            doors.push(Door { field: "https.listen", address: https.listen, kind: DoorKind::Tcp });
            if https.http3 {
                doors.push(Door { field: "https.listen", address: https.listen, kind: DoorKind::Udp });
            }
        }
        let peers = self.peers.as_ref().map(|peers| peers.listen);
        doors.extend(peers.map(|address| Door { field: "peers.listen", address, kind: DoorKind::Tcp }));
        doors.extend(self.admin.map(|address| Door { field: "admin", address, kind: DoorKind::Tcp }));
        doors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../../edge.sample.toml");

    #[test]
    fn two_doors_do_not_share_a_port() {
        let with = |from: &str, to: &str| {
            assert!(SAMPLE.contains(from), "{from}");
            Config::from_toml(&SAMPLE.replacen(from, to, 1))
        };
        let (admin, https) = ("admin = \"127.0.0.1:9100\"", "listen = \"0.0.0.0:443\"");
        for (from, to, says) in [
            (admin, "admin = \"127.0.0.1:80\"", "`http.listen` (0.0.0.0:80) and `admin` (127.0.0.1:80)"),
            (admin, "admin = \"127.0.0.1:443\"", "`https.listen`"),
            (admin, "admin = \"[::]:53\"", "`dns.listen`"),
            (https, "listen = \"0.0.0.0:80\"", "`http.listen`"),
            (https, "listen = \"0.0.0.0:53\"", "`dns.listen`"),
        ] {
            let refused = with(from, to).unwrap_err();
            assert!(
                matches!(refused, ConfigError::Shared { .. }) && refused.to_string().contains(says),
                "{to}: {refused}"
            );
        }
        for (from, to) in [(admin, "admin = \"[::1]:80\""), (https, "listen = \"0.0.0.0:0\"")] {
            with(from, to).unwrap();
        }
    }
}
