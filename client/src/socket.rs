//! What every connection between nodes asks of its socket.

use std::{io, time::Duration};

use format::{
    limits::{BODY_BYTES_PER_SECOND_MIN, STRIP_BYTES_MAX},
    wire::Role,
};
use tokio::{
    io::{AsyncWriteExt, BufStream},
    net::TcpStream,
};

/// How long what was sent may stay without acknowledgement until the connection counts as dead. A dead peer is noticed
/// by this, and not by a ping: over a slow uplink a ping waits behind all that is on its way, while acknowledgements
/// come all the time. What is sent again waits twice as long each time (RFC 6298 section 5.5): after an outage of 8 s
/// the next try is 4 s away, and after one of 40 s it would be 20. A new connection is there at once.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);
/// The same at an owner, whose way may lead through a relay (a tunnel, a proxy) in front of a slow link: that
/// acknowledges, but takes nothing while the link is busy, and the system counts this as silence. Where 24 columns
/// share 0.5 Mbit/s, each waits for 6 s while the others have their turns, and for several such rounds.
const UNACKNOWLEDGED_BY_RELAYS: Duration = Duration::from_secs(60);
/// How long an HTTP/2 ping may take. The slowest way brings in this time a strip for each of many columns, which the
/// ping, or its answer, waits behind.
pub const PING_DEADLINE: Duration =
    Duration::from_secs(STRIP_BYTES_MAX as u64 / BODY_BYTES_PER_SECOND_MIN).saturating_add(UNACKNOWLEDGED);

/// What one system call reads or sends at most. By itself rustls reads 4 KiB at a time, and each frame of HTTP/2, of
/// 16 KiB, is sent alone. Larger frames would save the copies made here, but a body that shares a slow uplink would
/// show its progress too seldom ([`BODY_BYTES_PER_SECOND_MIN`]).
const CALL_BYTES: usize = 64 * 1024;

/// A connection between nodes, below TLS.
pub type Socket = BufStream<TcpStream>;

/// Sets a connection of a caller or node in some `role` up: no delay of small writes, an end when the peer is gone, and
/// few system calls.
///
/// # Errors
/// What the system says.
pub fn socket(stream: TcpStream, role: Role) -> io::Result<Socket> {
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    {
        let most = if role == Role::Twin { UNACKNOWLEDGED_BY_RELAYS } else { UNACKNOWLEDGED };
        let milliseconds = u32::try_from(most.as_millis()).unwrap_or(u32::MAX);
        rustix::net::sockopt::set_tcp_user_timeout(&stream, milliseconds)?;
    }
    Ok(BufStream::with_capacity(CALL_BYTES, CALL_BYTES, stream))
}

/// Returns what became of a handshake. Where it failed, the alert that tells the peer why is sent: it waits with what
/// else was written.
///
/// # Errors
/// What failed the handshake.
pub async fn shaken<T>(handshake: impl Future<Output = Result<T, (io::Error, Socket)>>) -> io::Result<T> {
    match handshake.await {
        Ok(stream) => Ok(stream),
        Err((error, mut socket)) => {
            // A peer that is gone needs no alert.
            let _ = socket.flush().await;
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;
    use crate::tls::{Authority, Identity, server_name};

    #[tokio::test]
    async fn a_connection_ends_when_nothing_is_acknowledged() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for (role, milliseconds) in [(Role::Edge, 10_000), (Role::Origin, 10_000), (Role::Twin, 60_000)] {
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let stream = socket(stream, role).unwrap().into_inner();
            assert!(stream.nodelay().unwrap());
            #[cfg(target_os = "linux")]
            assert_eq!(rustix::net::sockopt::tcp_user_timeout(&stream).unwrap(), milliseconds);
        }
    }

    #[tokio::test]
    async fn a_peer_whose_certificate_is_refused_is_told() {
        let identity = |name: &str, role| {
            let authority = Authority::create().unwrap();
            let issued = authority.issue(&name.parse().unwrap(), role).unwrap();
            Identity::from_pem(authority.certificate_pem(), &issued.certificate, &issued.key).unwrap()
        };
        let (origin, stranger) = (identity("o1", Role::Origin), identity("e1", Role::Edge));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let refused = async {
            let acceptor = TlsAcceptor::from(origin.server_config().unwrap());
            acceptor.accept(listener.accept().await.unwrap().0).await.unwrap_err()
        };
        let refuses = async {
            let connector = TlsConnector::from(stranger.client_config().unwrap());
            let stream = socket(TcpStream::connect(address).await.unwrap(), Role::Edge).unwrap();
            let name = server_name(origin.name(), Role::Origin);
            shaken(connector.connect(name, stream).into_fallible()).await.map(drop).unwrap_err()
        };
        let (refused, _) = tokio::join!(refused, refuses);
        assert!(refused.to_string().contains("fatal alert"), "{refused}");
    }
}
