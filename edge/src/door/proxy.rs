//! The PROXY protocol, versions 1 and 2 (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>): a balancer in
//! front of the edge says who the viewer is. Only those named in the configuration are believed, and of them the header
//! is demanded.

use std::net::SocketAddr;

use ppp::{v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The shortest header of either version has more; version 2 begins with just so many bytes of its own.
const SIGNATURE_BYTES: usize = v2::PROTOCOL_PREFIX.len();
/// Of version 2: the signature, version and command, family, and the length of the rest.
const FIXED_BYTES: usize = SIGNATURE_BYTES + 4;
/// "So a 108-byte buffer is always enough to store all the line and a trailing zero" (section 2.1).
const LINE_BYTES_MAX: usize = 107;
/// Addresses, and what the balancer adds of its own (section 2.2.7); no balancer that we know of needs more.
const PAYLOAD_BYTES_MAX: usize = 4096;

/// Reads the header, and not a byte beyond. Returns the viewer, or the balancer where it speaks for itself, as in
/// health checks. None when there is no header that can be understood.
pub(super) async fn viewer(stream: &mut (impl AsyncRead + Unpin), balancer: SocketAddr) -> Option<SocketAddr> {
    let mut header = vec![0; SIGNATURE_BYTES];
    stream.read_exact(&mut header).await.ok()?;
    let viewer = if header == v2::PROTOCOL_PREFIX {
        header.resize(FIXED_BYTES, 0);
        stream.read_exact(&mut header[SIGNATURE_BYTES..]).await.ok()?;
        let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
        if length > PAYLOAD_BYTES_MAX {
            return None;
        }
        header.resize(FIXED_BYTES + length, 0);
        stream.read_exact(&mut header[FIXED_BYTES..]).await.ok()?;
        of_version_2(&v2::Header::try_from(&header[..]).ok()?)
    } else if header.starts_with(v1::PROTOCOL_PREFIX.as_bytes()) {
        while !header.ends_with(v1::PROTOCOL_SUFFIX.as_bytes()) {
            if header.len() == LINE_BYTES_MAX {
                return None;
            }
            header.push(stream.read_u8().await.ok()?);
        }
        of_version_1(&v1::Header::try_from(&header[..]).ok()?)
    } else {
        return None;
    };
    Some(viewer.unwrap_or(balancer))
}

fn of_version_2(header: &v2::Header<'_>) -> Option<SocketAddr> {
    match header.addresses {
        _ if header.command == v2::Command::Local => None,
        v2::Addresses::IPv4(it) => Some((it.source_address, it.source_port).into()),
        v2::Addresses::IPv6(it) => Some((it.source_address, it.source_port).into()),
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
    }
}

fn of_version_1(header: &v1::Header<'_>) -> Option<SocketAddr> {
    match header.addresses {
        v1::Addresses::Tcp4(it) => Some((it.source_address, it.source_port).into()),
        v1::Addresses::Tcp6(it) => Some((it.source_address, it.source_port).into()),
        v1::Addresses::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of `bytes`, and how many of them are left unread.
    async fn read(bytes: &[u8]) -> (Option<String>, usize) {
        let mut rest = bytes;
        let found = viewer(&mut rest, "10.0.0.1:9".parse().unwrap()).await;
        (found.map(|address| address.to_string()), rest.len())
    }

    fn version_2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [v2::PROTOCOL_PREFIX, &[0x20 | command, family], &length, payload, b"GET"].concat()
    }

    #[tokio::test]
    async fn both_versions_are_read_to_their_last_byte_and_no_further() {
        let said = |address: &str| (Some(address.to_owned()), 3);
        assert_eq!(read(b"PROXY TCP4 192.0.2.7 10.0.0.1 5000 80\r\nGET").await, said("192.0.2.7:5000"));
        assert_eq!(read(b"PROXY TCP6 2001:db8::7 ::1 5000 80\r\nGET").await, said("[2001:db8::7]:5000"));
        assert_eq!(read(b"PROXY UNKNOWN\r\nGET").await, said("10.0.0.1:9"));
        let v4 = [192, 0, 2, 7, 10, 0, 0, 1, 0x13, 0x88, 0, 80];
        assert_eq!(read(&version_2(1, 0x11, &v4)).await, said("192.0.2.7:5000"));
        assert_eq!(read(&version_2(1, 0x11, &[&v4[..], &[4, 0, 1, 42]].concat())).await, said("192.0.2.7:5000"));
        let v6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[7], &[0; 16], &[0x13, 0x88, 0, 80]].concat();
        assert_eq!(read(&version_2(1, 0x21, &v6)).await, said("[2001:db8::7]:5000"));
        assert_eq!(read(&version_2(0, 0x11, &v4)).await, said("10.0.0.1:9"), "a health check of the balancer's own");
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let long = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200], b"\r\n".to_vec()].concat();
        let broken: [&[u8]; 7] = [
            b"",
            b"PROXY",
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"PROXY TCP4 nobody 10.0.0.1 5000 80\r\n",
            &long,
            &version_2(1, 0x11, &[1, 2, 3]),
            &version_2(1, 0x11, &[0; PAYLOAD_BYTES_MAX + 1]),
        ];
        for bytes in broken {
            assert_eq!(read(bytes).await.0, None, "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
