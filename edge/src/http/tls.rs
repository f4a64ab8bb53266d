//! TLS 1.3 of the HTTP door: rustls on aws-lc-rs, X25519MLKEM768 first, and a certificate that is swapped without a restart.

use std::{
    io,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora_core::{
    protocols::{
        ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
        UniqueID, UniqueIDType, l4::stream::Stream, raw_connect::ProxyDigest,
    },
    server::ShutdownWatch,
};
use quinn::crypto::rustls::QuicServerConfig;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
    version::TLS13,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server};

use crate::config::HttpsConfig;

/// A handshake ends by then, or the connection is closed.
pub(super) const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Between looks at the files of the certificate: a renewed one counts within this.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Why a certificate cannot be used; the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file is missing or is no PEM of its kind.
    #[error("{} cannot be read as PEM", path.display())]
    Pem {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// The key is not the certificate's, or of a kind that TLS does not know.
    #[error("{} and {} do not go together", certificate.display(), key.display())]
    Pair {
        /// The certificates' file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// rustls cannot be set up here.
    #[error("TLS cannot be set up")]
    Setup(#[from] rustls::Error),
}

/// Ends TLS on accepted connections.
pub(crate) struct Terminator {
    acceptor: TlsAcceptor,
    current: Arc<Current>,
    files: HttpsConfig,
}

/// The certificate that handshakes present.
#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Terminator {
    /// Reads the certificate and sets TLS up. Reads files; keep it off a reactor that is busy.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub(crate) fn new(files: &HttpsConfig) -> Result<Self, CertificateError> {
        let current = Arc::new(Current(ArcSwap::from_pointee(read(files)?)));
        let acceptor = TlsAcceptor::from(Arc::new(config(&current, &["h2", "http/1.1"])?));
        Ok(Self { acceptor, current, files: files.clone() })
    }

    /// Returns the same for QUIC.
    ///
    /// # Errors
    /// [`CertificateError::Setup`].
    pub(super) fn quic(&self) -> Result<QuicServerConfig, CertificateError> {
        let config = config(&self.current, &["h3"])?;
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

    /// Takes up a certificate that was renewed; a broken one changes nothing. Until the shutdown.
    pub(super) async fn follow_files(&self, mut shutdown: ShutdownWatch) {
        let mut failing = false;
        loop {
            tokio::select! {
                () = sleep(LOOK_EVERY) => {}
                _ = shutdown.wait_for(|down| *down) => return,
            }
            let files = self.files.clone();
            match spawn_blocking(move || read(&files)).await {
                Ok(Ok(read)) => {
                    failing = false;
                    if read.cert != self.current.0.load().cert {
                        tracing::info!(certificate = %self.files.certificate.display(), "certificate taken up");
                        self.current.0.store(Arc::new(read));
                    }
                }
                Ok(Err(error)) if !failing => {
                    failing = true;
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "the certificate cannot be read again; the old one stays");
                }
                _ => {}
            }
        }
    }
}

fn config(current: &Arc<Current>, protocols: &[&str]) -> Result<ServerConfig, rustls::Error> {
    // The workspace builds rustls with `prefer-post-quantum`: its default provider offers X25519MLKEM768 first.
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(current) as Arc<dyn ResolvesServerCert>);
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    // Tickets carry the session themselves; rustls renews their key by itself. No early data: it can be replayed.
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(config)
}

fn read(files: &HttpsConfig) -> Result<CertifiedKey, CertificateError> {
    let HttpsConfig { certificate, key, .. } = files;
    let failed = |path: &PathBuf| {
        let path = path.clone();
        move |source| CertificateError::Pem { path, source }
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
    let chain = chain.and_then(|chain| if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) });
    let chain = chain.map_err(failed(certificate))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(failed(key))?;
    CertifiedKey::from_der(chain, secret, &aws_lc_rs::default_provider()).map_err(|source| CertificateError::Pair {
        certificate: certificate.clone(),
        key: key.clone(),
        source,
    })
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
