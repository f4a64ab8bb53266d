//! A load generator that asks a server for the same thing many times: h2load, and for HTTP/3, which Debian's h2load
//! does not support, the client of the crate h3.

use std::{
    net::SocketAddr,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context, Result, ensure};
use bytes::Buf;
use cluster::processes::cpu_seconds;
use futures::future::poll_fn;
use quinn::{ClientConfig, Endpoint, crypto::rustls::QuicClientConfig};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
    version::TLS13,
};
use tokio::task::JoinSet;

/// The protocol of the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// HTTP/1.1, unencrypted.
    Clear,
    /// HTTP/1.1 over TLS 1.3.
    Tls,
    /// HTTP/2 over TLS 1.3, eight concurrent requests on each connection.
    Streams,
    /// HTTP/2 over TLS 1.3, one connection for each request.
    Handshake,
    /// HTTP/3.
    Quic,
}

/// The requests to a server.
pub(crate) struct Load<'a> {
    pub(crate) way: Way,
    pub(crate) url: String,
    /// In place of the URL: a file of URLs below one host, which are asked for in turn; not over HTTP/3.
    pub(crate) list: Option<&'a str>,
    pub(crate) connect_to: SocketAddr,
    pub(crate) requests: u32,
    pub(crate) connections: u32,
    /// First and last byte.
    pub(crate) range: Option<(u64, u64)>,
    /// The content coding that is asked for; not over HTTP/3.
    pub(crate) coding: Option<&'a str>,
    pub(crate) pids: &'a [u32],
    /// PEM of the server's certificate.
    pub(crate) certificate: &'a str,
}

impl Load<'_> {
    /// Sends the requests and returns the server's CPU time per request, in microseconds. An incomplete answer is an
    /// error.
    pub(crate) fn run(&self) -> Result<f64> {
        let before = cpu_seconds(self.pids)?;
        if self.way == Way::Quic {
            self.quic()?;
        } else {
            self.h2load()?;
        }
        Ok((cpu_seconds(self.pids)? - before) * 1e6 / f64::from(self.requests))
    }

    fn h2load(&self) -> Result<()> {
        let connections = if self.way == Way::Handshake { self.requests } else { self.connections };
        let mut command = Command::new("h2load");
        command.args(["-t", "1", "-n", &self.requests.to_string(), "-c", &connections.to_string()]);
        match self.way {
            Way::Clear | Way::Tls => drop(command.arg("--h1")),
            Way::Streams => drop(command.args(["-m", "8"])),
            Way::Handshake | Way::Quic => {}
        }
        if let Some((first, last)) = self.range {
            command.args(["-H", &format!("range: bytes={first}-{last}")]);
        }
        if let Some(coding) = self.coding {
            command.args(["-H", &format!("accept-encoding: {coding}")]);
        }
        match self.list {
            Some(list) => command.args(["-i", list]),
            None => command.arg(&self.url),
        };
        let output = command
            .arg(format!("--connect-to={}", self.connect_to))
            .stdin(Stdio::null())
            .output()
            .context("h2load does not start; it is in Debian's nghttp2-client")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let all = format!("{} succeeded, 0 failed", self.requests);
        ensure!(
            text.contains(&all) && text.contains(&format!("{} 2xx", self.requests)),
            "not all were answered: {text}"
        );
        Ok(())
    }

    fn quic(&self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let left = Arc::new(AtomicU32::new(self.requests));
        runtime.block_on(async {
            let endpoint = endpoint(self.certificate)?;
            let mut viewers = JoinSet::new();
            for _ in 0..self.connections {
                viewers.spawn(view(endpoint.clone(), self.connect_to, self.url.clone(), Arc::clone(&left)));
            }
            while let Some(ended) = viewers.join_next().await {
                ended??;
            }
            Ok(())
        })
    }
}

/// Returns what a client has that trusts a certificate alone, and speaks one protocol over TLS 1.3.
pub(crate) fn trusting(certificate: &str, protocol: &[u8]) -> Result<rustls::ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate)?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13])?;
    let mut tls = tls.with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = vec![protocol.to_owned()];
    Ok(tls)
}

fn endpoint(certificate: &str) -> Result<Endpoint> {
    let mut endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let tls = QuicClientConfig::try_from(trusting(certificate, b"h3")?)?;
    endpoint.set_default_client_config(ClientConfig::new(Arc::new(tls)));
    Ok(endpoint)
}

/// Runs one viewer: it sends one request after the other on one connection, until none is left.
async fn view(endpoint: Endpoint, address: SocketAddr, url: String, left: Arc<AtomicU32>) -> Result<()> {
    let host = url.split('/').nth(2).and_then(|authority| authority.split(':').next()).context("a URL has a host")?;
    let quic = endpoint.connect(address, host)?.await?;
    let (mut driver, mut requests) = h3::client::new(h3_quinn::Connection::new(quic)).await?;
    let driver = tokio::spawn(async move { poll_fn(|cx| driver.poll_close(cx)).await });
    let take = |left: u32| left.checked_sub(1);
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
        let mut stream = requests.send_request(http::Request::get(&url).body(())?).await?;
        stream.finish().await?;
        let head = stream.recv_response().await?;
        let length = head.headers().get(http::header::CONTENT_LENGTH).context("an answer tells its length")?;
        let length: usize = length.to_str()?.parse()?;
        let mut read = 0;
        while let Some(piece) = stream.recv_data().await? {
            read += piece.remaining();
        }
        ensure!(head.status().is_success() && read == length, "{}: {read} bytes of {length}", head.status());
    }
    driver.abort();
    Ok(())
}
