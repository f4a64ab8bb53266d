//! What an edge listens on: sockets that one process hands on to another, with all that waits in their queues.

use std::{
    io,
    net::{self, SocketAddr},
    os::fd::AsFd,
};

use tokio::net::{TcpListener, UdpSocket};

/// Sockets that listen: from a predecessor, or for a successor.
#[derive(Debug, Default)]
pub struct Sockets {
    /// Of streams.
    pub tcp: Vec<net::TcpListener>,
    /// Of datagrams.
    pub udp: Vec<net::UdpSocket>,
}

impl Sockets {
    /// Returns whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tcp.is_empty() && self.udp.is_empty()
    }

    /// Takes the socket that listens on an address, or binds a new one.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) async fn listen(&mut self, address: SocketAddr) -> io::Result<TcpListener> {
        match take(&mut self.tcp, |socket| socket.local_addr().is_ok_and(|its| its == address)) {
            None => TcpListener::bind(address).await,
            Some(socket) => {
                socket.set_nonblocking(true)?;
                TcpListener::from_std(socket)
            }
        }
    }

    /// Takes the datagram socket of an address, or binds a new one.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) async fn bind(&mut self, address: SocketAddr) -> io::Result<UdpSocket> {
        match take(&mut self.udp, |socket| socket.local_addr().is_ok_and(|its| its == address)) {
            None => UdpSocket::bind(address).await,
            Some(socket) => {
                socket.set_nonblocking(true)?;
                UdpSocket::from_std(socket)
            }
        }
    }

    /// Adds a second handle of a door's listener.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub(crate) fn add_tcp(&mut self, socket: &TcpListener) -> io::Result<()> {
        self.tcp.push(socket.as_fd().try_clone_to_owned()?.into());
        Ok(())
    }

    /// Adds a second handle of a door's datagram socket.
    ///
    /// # Errors
    /// As [`Self::add_tcp`].
    pub(crate) fn add_udp(&mut self, socket: &UdpSocket) -> io::Result<()> {
        self.udp.push(socket.as_fd().try_clone_to_owned()?.into());
        Ok(())
    }
}

fn take<S>(sockets: &mut Vec<S>, is_wanted: impl Fn(&S) -> bool) -> Option<S> {
    let at = sockets.iter().position(is_wanted)?;
    Some(sockets.swap_remove(at))
}
