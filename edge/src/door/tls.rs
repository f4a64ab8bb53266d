//! TLS 1.3 of the HTTP door: rustls on aws-lc-rs, X25519MLKEM768 first.

use std::{sync::Arc, time::Duration};

use quinn::crypto::rustls::QuicServerConfig;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ProducesTickets, ResolvesServerCert},
    version::TLS13,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::tickets::Tickets;
use crate::{
    listen::certificate::{Certificate, CertificateError},
    secret::ZoneSecret,
};

/// A handshake ends by then, or the connection is closed.
pub(super) const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// Ends TLS on accepted connections.
pub struct Terminator {
    acceptor: TlsAcceptor,
    certificate: Arc<Certificate>,
    tickets: Arc<dyn ProducesTickets>,
}

impl Terminator {
    /// Sets TLS up for protocols by their names in ALPN, the best first. Sessions are resumed here alone.
    ///
    /// # Errors
    /// [`CertificateError::Setup`].
    pub fn new(certificate: Arc<Certificate>, protocols: &[&str]) -> Result<Self, CertificateError> {
        // Tickets carry the session themselves; rustls renews their key by itself.
        Self::with(certificate, aws_lc_rs::Ticketer::new()?, protocols)
    }

    /// Sets TLS up for viewers. With the zone's secret its other edges resume sessions that began here.
    ///
    /// # Errors
    /// [`CertificateError::Setup`].
    pub(crate) fn for_viewers(
        certificate: Arc<Certificate>,
        secret: Option<Arc<ZoneSecret>>,
    ) -> Result<Self, CertificateError> {
        let protocols = ["h2", "http/1.1"];
        match secret {
            Some(secret) => Self::with(certificate, Arc::new(Tickets(secret)), &protocols),
            None => Self::new(certificate, &protocols),
        }
    }

    fn with(
        certificate: Arc<Certificate>,
        tickets: Arc<dyn ProducesTickets>,
        protocols: &[&str],
    ) -> Result<Self, CertificateError> {
        let acceptor = TlsAcceptor::from(Arc::new(config(&certificate, &tickets, protocols)?));
        Ok(Self { acceptor, certificate, tickets })
    }

    /// Returns the certificate that viewers are shown.
    #[must_use]
    pub fn certificate(&self) -> &Arc<Certificate> {
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
    pub async fn accept(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        match timeout(HANDSHAKE_DEADLINE, self.acceptor.accept(stream)).await {
            Ok(Ok(stream)) => Some(stream),
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
