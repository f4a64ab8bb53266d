//! TLS 1.3 of the HTTP door: rustls on aws-lc-rs, X25519MLKEM768 first.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType, l4::stream::Stream, raw_connect::ProxyDigest,
};
use quinn::crypto::rustls::QuicServerConfig;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ProducesTickets, ResolvesServerCert},
    version::TLS13,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server};

use super::tickets::Tickets;
use crate::{
    listen::certificate::{Certificate, CertificateError},
    secret::ZoneSecret,
};

/// A handshake ends by then, or the connection is closed.
pub(super) const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// Ends TLS on accepted connections.
pub(crate) struct Terminator {
    acceptor: TlsAcceptor,
    certificate: Arc<Certificate>,
    tickets: Arc<dyn ProducesTickets>,
}

impl Terminator {
    /// Sets TLS up. Without a secret no other edge resumes a session that began here.
    ///
    /// # Errors
    /// [`CertificateError::Setup`].
    pub(crate) fn new(
        certificate: Arc<Certificate>,
        secret: Option<Arc<ZoneSecret>>,
    ) -> Result<Self, CertificateError> {
        let tickets: Arc<dyn ProducesTickets> = match secret {
            Some(secret) => Arc::new(Tickets(secret)),
            // Tickets carry the session themselves; rustls renews their key by itself.
            None => aws_lc_rs::Ticketer::new()?,
        };
        let acceptor = TlsAcceptor::from(Arc::new(config(&certificate, &tickets, &["h2", "http/1.1"])?));
        Ok(Self { acceptor, certificate, tickets })
    }

    /// Returns the certificate that viewers are shown.
    pub(crate) fn certificate(&self) -> &Arc<Certificate> {
        &self.certificate
    }

    /// Returns the same for QUIC.
    ///
    /// # Errors
    /// [`CertificateError::Setup`].
    pub(super) fn quic(&self) -> Result<QuicServerConfig, CertificateError> {
        let config = config(&self.certificate, &self.tickets, &["h3"])?;
        QuicServerConfig::try_from(config).map_err(|error| rustls::Error::General(error.to_string()).into())
    }

    /// Shakes hands; none when the other side does not, or not in time.
    pub(super) async fn accept(&self, stream: Stream) -> Option<TlsStream> {
        match timeout(HANDSHAKE_DEADLINE, self.acceptor.accept(stream)).await {
            Ok(Ok(stream)) => Some(TlsStream(Box::new(stream))),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a TLS handshake failed");
                None
            }
            Err(_) => None,
        }
    }
}

fn config(
    certificate: &Arc<Certificate>,
    tickets: &Arc<dyn ProducesTickets>,
    protocols: &[&str],
) -> Result<ServerConfig, rustls::Error> {
    // The workspace builds rustls with `prefer-post-quantum`: its default provider offers X25519MLKEM768 first.
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(certificate) as Arc<dyn ResolvesServerCert>);
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    // No early data: it can be replayed.
    config.ticketer = Arc::clone(tickets);
    Ok(config)
}

/// A connection over TLS, as pingora takes it. Which HTTP it speaks, ALPN said.
#[derive(Debug)]
pub(super) struct TlsStream(Box<server::TlsStream<Stream>>);

impl TlsStream {
    /// Whether the connection is to speak HTTP/2.
    pub(super) fn is_h2(&self) -> bool {
        self.0.get_ref().1.alpn_protocol() == Some(b"h2")
    }

    fn below(&self) -> &Stream {
        self.0.get_ref().0
    }
}

impl Ssl for TlsStream {
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        Some(if self.is_h2() { ALPN::H2 } else { ALPN::H1 })
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for TlsStream {
    async fn shutdown(&mut self) {
        if let Err(error) = AsyncWriteExt::shutdown(&mut self.0).await {
            tracing::debug!(%error, "a TLS connection did not end well");
        }
    }
}

#[async_trait]
impl Peek for TlsStream {}

impl UniqueID for TlsStream {
    fn id(&self) -> UniqueIDType {
        self.below().id()
    }
}

impl GetTimingDigest for TlsStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.below().get_timing_digest()
    }
}

impl GetProxyDigest for TlsStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.below().get_proxy_digest()
    }
}

impl GetSocketDigest for TlsStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.below().get_socket_digest()
    }
}
