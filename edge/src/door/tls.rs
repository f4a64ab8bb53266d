//! TLS 1.3 of the HTTP door: rustls on aws-lc-rs, X25519MLKEM768 first, and a certificate that is swapped without a
//! restart.

use std::{
    fs, io, mem,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use client::{KeyFileError, read_key_file};
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType, l4::stream::Stream, raw_connect::ProxyDigest,
};
use quinn::crypto::rustls::QuicServerConfig;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::{ClientHello, ProducesTickets, ResolvesServerCert},
    sign::CertifiedKey,
    version::TLS13,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server};
use x509_parser::parse_x509_certificate;

use super::tickets::Tickets;
use crate::{
    clock,
    config::{CertificateFiles, HttpsConfig},
    metrics::Metrics,
    secret::ZoneSecret,
};

/// A handshake ends by then, or the connection is closed.
pub(super) const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// Why a certificate cannot be used; the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key cannot be read, or everybody can.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The files are no certificate with its key.
    #[error("{} and {} are no certificate with its key", certificate.display(), key.display())]
    Files {
        /// The certificates' file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        source: PairError,
    },
    /// rustls cannot be set up here.
    #[error("TLS cannot be set up")]
    Setup(#[from] rustls::Error),
}

/// Why two texts are no certificate with its key.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// The certificates.
    #[error("the certificates cannot be read as PEM")]
    Certificates(#[source] pem::Error),
    /// The key.
    #[error("the key cannot be read as PEM")]
    Key(#[source] pem::Error),
    /// The key is not the certificate's, or of a kind that TLS does not know.
    #[error("the key is not the certificate's")]
    Pair(#[source] rustls::Error),
}

/// Ends TLS on accepted connections.
pub(crate) struct Terminator {
    acceptor: TlsAcceptor,
    served: Arc<Served>,
}

/// What handshakes need.
#[derive(Debug)]
struct Served {
    /// None before the first order of a certificate came to its end: handshakes fail until then.
    certificate: ArcSwapOption<Presented>,
    tickets: Arc<dyn ProducesTickets>,
}

/// A certificate in force.
#[derive(Debug)]
struct Presented {
    key: Arc<CertifiedKey>,
    /// When it ends, seconds since 1970; 0 if it does not say so.
    ends: u64,
}

impl Presented {
    fn of(key: CertifiedKey) -> Arc<Self> {
        Arc::new(Self { ends: ends(&key), key: Arc::new(key) })
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certificate.load().as_ref().map(|presented| Arc::clone(&presented.key))
    }
}

impl Terminator {
    /// Sets TLS up, with the certificate of the files or with none yet. Without a secret no other edge resumes a
    /// session that began here. Reads files; keep it off a reactor that is busy.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub(crate) fn new(
        files: Option<CertificateFiles<'_>>,
        secret: Option<Arc<ZoneSecret>>,
    ) -> Result<Self, CertificateError> {
        let certificate = files.map(read).transpose()?.map(Presented::of);
        let tickets: Arc<dyn ProducesTickets> = match secret {
            Some(secret) => Arc::new(Tickets(secret)),
            // Tickets carry the session themselves; rustls renews their key by itself.
            None => aws_lc_rs::Ticketer::new()?,
        };
        let served = Arc::new(Served { certificate: ArcSwapOption::new(certificate), tickets });
        let acceptor = TlsAcceptor::from(Arc::new(config(&served, &["h2", "http/1.1"])?));
        Ok(Self { acceptor, served })
    }

    /// Returns the same for QUIC.
    ///
    /// # Errors
    /// [`CertificateError::Setup`].
    pub(super) fn quic(&self) -> Result<QuicServerConfig, CertificateError> {
        let config = config(&self.served, &["h3"])?;
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

    /// Presents another certificate from now on; connections that are open stay.
    ///
    /// # Errors
    /// [`PairError`]; the old one stays.
    pub(crate) fn install(&self, chain: &[u8], key: &[u8]) -> Result<(), PairError> {
        self.served.certificate.store(Some(Presented::of(certified_key(chain, key)?)));
        Ok(())
    }

    /// Whether viewers who come at `now`, seconds since 1970, get a certificate that has not ended.
    pub(crate) fn can_shake_hands(&self, now: u64) -> bool {
        self.served.certificate.load().as_ref().is_some_and(|presented| presented.ends == 0 || now < presented.ends)
    }

    /// Takes up a certificate that was renewed in its files, looking `every` so long; a broken one changes nothing. For
    /// ever.
    pub(crate) async fn follow_files(self: Arc<Self>, config: HttpsConfig, every: Duration, metrics: Arc<Metrics>) {
        let (mut failing, mut ended) = (false, false);
        loop {
            let ends = self.served.certificate.load().as_ref().map_or(0, |presented| presented.ends);
            metrics.certificate_ends.set(ends);
            let now = clock::unix_seconds(SystemTime::now());
            if (1..=now).contains(&ends) && !mem::replace(&mut ended, true) {
                tracing::error!(ends, "the certificate has ended, so viewers refuse it; put a new one into its files");
            }
            sleep(every).await;
            let config = config.clone();
            let reading = spawn_blocking(move || config.files().map(read).transpose());
            match reading.await {
                Ok(Ok(Some(read))) => {
                    failing = false;
                    if self.served.certificate.load().as_ref().is_none_or(|held| held.key.cert != read.cert) {
                        tracing::info!("certificate taken up");
                        self.served.certificate.store(Some(Presented::of(read)));
                        ended = false;
                    }
                }
                Ok(Err(error)) => {
                    metrics.certificate_faults.inc();
                    if !failing {
                        failing = true;
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "the certificate cannot be read again; the old one stays");
                    }
                }
                _ => {}
            }
        }
    }
}

/// When the edge's own certificate ends, seconds since 1970; 0 if it does not say so.
fn ends(certificate: &CertifiedKey) -> u64 {
    let parsed = certificate.cert.first().and_then(|leaf| parse_x509_certificate(leaf).ok());
    parsed.map_or(0, |(_, leaf)| u64::try_from(leaf.validity().not_after.timestamp()).unwrap_or(0))
}

fn config(served: &Arc<Served>, protocols: &[&str]) -> Result<ServerConfig, rustls::Error> {
    // The workspace builds rustls with `prefer-post-quantum`: its default provider offers X25519MLKEM768 first.
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(served) as Arc<dyn ResolvesServerCert>);
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    // No early data: it can be replayed.
    config.ticketer = Arc::clone(&served.tickets);
    Ok(config)
}

fn read(files: CertificateFiles<'_>) -> Result<CertifiedKey, CertificateError> {
    let CertificateFiles { certificate, key } = files;
    let read = fs::read(certificate);
    let chain = read.map_err(|source| CertificateError::Read { path: certificate.to_owned(), source })?;
    let secret = read_key_file(key)?;
    let (certificate, key) = (certificate.to_owned(), key.to_owned());
    certified_key(&chain, secret.as_bytes()).map_err(|source| CertificateError::Files { certificate, key, source })
}

/// Reads a chain, the edge's own certificate first, and its key from PEM.
///
/// # Errors
/// [`PairError`].
pub(crate) fn certified_key(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, PairError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
    let chain = chain.and_then(|chain| if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) });
    let chain = chain.map_err(PairError::Certificates)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(PairError::Key)?;
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(PairError::Pair)
}

/// A connection over TLS, as pingora takes it. Which HTTP it speaks, ALPN said.
#[derive(Debug)]
pub(super) struct TlsStream(Box<server::TlsStream<Stream>>);

impl TlsStream {
    fn below(&self) -> &Stream {
        self.0.get_ref().0
    }
}

impl Ssl for TlsStream {
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        match self.0.get_ref().1.alpn_protocol() {
            Some(b"h2") => Some(ALPN::H2),
            _ => Some(ALPN::H1),
        }
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
