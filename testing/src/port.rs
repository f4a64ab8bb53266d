//! Ports for programs that cannot be told to take a free one.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

/// Returns a port that nobody uses now, TCP and UDP, below those that Linux gives to connections and to whoever asks
/// for any (32,768 and up), so that none of them takes it before its listener does.
///
/// # Panics
/// When a hundred of them are taken.
#[must_use]
pub fn free_port() -> u16 {
    let free = |port: &u16| {
        let address = (Ipv4Addr::LOCALHOST, *port);
        TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
    };
    let mut tried = std::iter::repeat_with(|| fastrand::u16(10_000..32_768)).take(100);
    tried.find(free).expect("of a hundred ports one is free")
}
