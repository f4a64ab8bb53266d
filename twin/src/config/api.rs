//! `[api]` of `twin.toml`: where and within which bounds the twin answers HTTP (`evernear twin run`).

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use serde::Deserialize;

/// Longest name of a host (RFC 1035 section 2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// How the twin answers HTTP. Every number must be above zero.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiConfig {
    /// Address and port; port 0 takes a free one. Without `certificate` tokens cross this connection in clear, so
    /// beyond loopback it is for a network that nobody else reads, or for what speaks TLS in front. Absent:
    /// `127.0.0.1:8081`.
    pub listen: SocketAddr,
    /// Certificates for TLS 1.3 as PEM, the twin's own first. A relative path starts at the configuration's folder. The
    /// files are read again every ten seconds. Absent: no TLS.
    pub certificate: Option<PathBuf>,
    /// The key of the first, PEM, for its owner alone. Absent with `certificate`.
    pub key: Option<PathBuf>,
    /// Connections at once; more wait in the kernel's queue. One address may have half of them, and one token may have
    /// as many requests under way. Absent: 1,024.
    pub connections_max: u32,
    /// Uploads of over 128 KiB that are encoded at once, 1 to 3: each takes some 25 MiB of memory. More wait. Absent:
    /// 3.
    pub streams_max: u32,
    /// Seconds that an upload waits for its turn before it is told to come again. Absent: 60.
    pub wait_seconds: u64,
    /// Seconds in which some byte of a body must come, or one of an answer be taken. Absent: 30.
    pub idle_seconds: u64,
    /// Bytes a second that a body must bring, and an answer be taken with; a minute's worth may be missing. An upload
    /// that keeps others waiting has to bring up to sixteen times as many. Absent: 16,384.
    pub bytes_per_second_min: u64,
    /// Seconds until the answer to a request without an upload. Absent: 60.
    pub request_seconds: u64,
    /// Seconds that requests under way have to end when the twin stops. Absent: 30.
    pub drain_seconds: u64,
    /// Bytes on the twin's disk of uploads that are not whole: parts of CARs, and resumable uploads from their creation
    /// on. One token may have half of them. Absent: 64 GiB.
    pub spool_bytes_max: u64,
    /// Most bytes of one upload. Absent: as many as a token's quota and the format allow.
    pub upload_bytes_max: Option<u64>,
    /// Names of hosts, as `Host` has them without a port, by which programs without a token ask whether a CID is
    /// stored. Addresses, `localhost` and what ends in `.localhost` need none. Whoever leads a name of their own to
    /// this machine could else have a browser find out what is stored here. The first that the certificate is for
    /// stands in links into the console. Absent: none, and the certificate's first name stands there.
    pub hosts: Vec<String>,
    /// Whether browsers of other machines sign in to the console without TLS: whoever reads along is then signed in
    /// too. Absent: no.
    pub insecure_sign_in: bool,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)),
            certificate: None,
            key: None,
            connections_max: 1024,
            streams_max: 3,
            wait_seconds: 60,
            idle_seconds: 30,
            bytes_per_second_min: 16 << 10,
            request_seconds: 60,
            drain_seconds: 30,
            spool_bytes_max: 64 << 30,
            upload_bytes_max: None,
            hosts: Vec::new(),
            insecure_sign_in: false,
        }
    }
}

impl ApiConfig {
    /// Returns the key that is out of bounds, if any is.
    #[must_use]
    pub fn wrong(&self) -> Option<&'static str> {
        let positive = [
            ("connections_max", u64::from(self.connections_max)),
            ("wait_seconds", self.wait_seconds),
            ("idle_seconds", self.idle_seconds),
            ("bytes_per_second_min", self.bytes_per_second_min),
            ("request_seconds", self.request_seconds),
            ("drain_seconds", self.drain_seconds),
            ("spool_bytes_max", self.spool_bytes_max),
            ("upload_bytes_max", self.upload_bytes_max.unwrap_or(1)),
        ];
        let streams = (!(1..=3).contains(&self.streams_max)).then_some("streams_max");
        let is_name = |name: &String| {
            (1..=HOST_BYTES_MAX).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        };
        let hosts = (!self.hosts.iter().all(is_name)).then_some("hosts");
        positive.into_iter().find(|(_, value)| *value == 0).map(|(key, _)| key).or(streams).or(hosts)
    }

    /// How long an upload waits for its turn.
    #[must_use]
    pub fn wait(&self) -> Duration {
        Duration::from_secs(self.wait_seconds)
    }

    /// In which time some byte of a body must come.
    #[must_use]
    pub fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_seconds)
    }

    /// How long a request without an upload may take.
    #[must_use]
    pub fn request(&self) -> Duration {
        Duration::from_secs(self.request_seconds)
    }

    /// How long requests under way may take when the twin stops.
    #[must_use]
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}
