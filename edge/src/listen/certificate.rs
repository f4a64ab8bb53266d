//! The certificate that viewers are shown, swapped without a restart: by whoever keeps it from an authority, or from
//! its files. Apart from TLS, so that whoever keeps it, and whoever asks whether there is one, knows no door.

use std::{
    fs, io, mem,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use client::{KeyFileError, read_key_file};
use rustls::{
    client::verify_server_name,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem, pem::PemObject},
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{task::spawn_blocking, time::sleep};
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

use crate::{clock, config::CertificateFiles, zone::Zone};

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
    /// Browsers would refuse every object by this name.
    #[error("{} is for no name below {zone}, so browsers refuse every object; order one for {zone} and *.{zone}", certificate.display())]
    Names {
        /// The certificates' file.
        certificate: PathBuf,
        /// The zone whose labels are objects.
        zone: String,
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

/// What viewers are shown. None before the first order of a certificate came to its end: handshakes fail until then.
#[derive(Debug)]
pub struct Certificate(ArcSwapOption<Presented>);

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

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load().as_ref().map(|presented| Arc::clone(&presented.key))
    }
}

impl Certificate {
    /// Begins with the certificate of the files, or with none yet. Reads files; keep it off a reactor that is busy.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn new(files: Option<&CertificateFiles>) -> Result<Self, CertificateError> {
        Ok(Self(ArcSwapOption::new(files.map(read).transpose()?.map(Presented::of))))
    }

    /// Returns the first name that it is for, wildcards apart.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        let presented = self.0.load();
        let (_, leaf) = parse_x509_certificate(presented.as_ref()?.key.cert.first()?).ok()?;
        let names = leaf.subject_alternative_name().ok()??;
        names.value.general_names.iter().find_map(|name| match name {
            GeneralName::DNSName(name) if !name.starts_with('*') => Some((*name).to_owned()),
            _ => None,
        })
    }

    /// Returns whether browsers would take it for a host of this name.
    #[must_use]
    pub fn is_for(&self, host: &str) -> bool {
        let presented = self.0.load();
        let leaf = presented.as_ref().and_then(|it| ParsedCertificate::try_from(it.key.end_entity_cert().ok()?).ok());
        let name = ServerName::try_from(host).ok();
        leaf.zip(name).is_some_and(|(leaf, name)| verify_server_name(&leaf, &name).is_ok())
    }

    /// Presents another certificate from now on; connections that are open stay.
    ///
    /// # Errors
    /// [`PairError`]; the old one stays.
    pub(crate) fn install(&self, chain: &[u8], key: &[u8]) -> Result<(), PairError> {
        self.0.store(Some(Presented::of(certified_key(chain, key)?)));
        Ok(())
    }

    /// Whether viewers who come at `now`, seconds since 1970, get a certificate that has not ended.
    pub(crate) fn is_there(&self) -> bool {
        self.0.load().is_some()
    }

    pub(crate) fn can_shake_hands(&self, now: u64) -> bool {
        self.0.load().as_ref().is_some_and(|presented| presented.ends == 0 || now < presented.ends)
    }

    /// Takes up a certificate that was renewed in its files, looking `every` so long; a broken one changes nothing. For
    /// ever. Each look tells what it found.
    pub async fn follow_files(self: Arc<Self>, files: CertificateFiles, every: Duration, told: impl Fn(Looked)) {
        let (mut failing, mut ended) = (false, false);
        loop {
            let ends = self.0.load().as_ref().map_or(0, |presented| presented.ends);
            told(Looked::Ends(ends));
            let now = clock::unix_seconds(SystemTime::now());
            if (1..=now).contains(&ends) && !mem::replace(&mut ended, true) {
                tracing::error!(ends, "the certificate has ended, so viewers refuse it; put a new one into its files");
            }
            sleep(every).await;
            let files = files.clone();
            match spawn_blocking(move || read(&files)).await {
                Ok(Ok(read)) => {
                    failing = false;
                    if self.0.load().as_ref().is_none_or(|held| held.key.cert != read.cert) {
                        tracing::info!("certificate taken up");
                        self.0.store(Some(Presented::of(read)));
                        ended = false;
                    }
                }
                Ok(Err(error)) => {
                    told(Looked::Fault);
                    if !failing {
                        failing = true;
                        let error = client::causes(&error);
                        tracing::warn!(error, "the certificate cannot be read again; the old one stays");
                    }
                }
                // The process ends.
                Err(_) => {}
            }
        }
    }
}

/// What a look at the files of a certificate found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// When the certificate that is shown ends, seconds since 1970; 0 if it does not say so.
    Ends(u64),
    /// The files cannot be used, so the one before stays.
    Fault,
}

/// When the edge's own certificate ends, seconds since 1970; 0 if it does not say so.
fn ends(certificate: &CertifiedKey) -> u64 {
    let parsed = certificate.cert.first().and_then(|leaf| parse_x509_certificate(leaf).ok());
    parsed.map_or(0, |(_, leaf)| u64::try_from(leaf.validity().not_after.timestamp()).unwrap_or(0))
}

fn read(files: &CertificateFiles) -> Result<CertifiedKey, CertificateError> {
    let CertificateFiles { certificate, key } = files;
    let read = fs::read(certificate);
    let chain = read.map_err(|source| CertificateError::Read { path: certificate.to_owned(), source })?;
    let secret = read_key_file(key)?;
    let (certificate, key) = (certificate.clone(), key.clone());
    certified_key(&chain, secret.as_bytes()).map_err(|source| CertificateError::Files { certificate, key, source })
}

/// Checks that browsers would take the certificate of the files for the objects of a zone (RFC 6125 section 6.4.3: a
/// star stands for one label).
///
/// # Errors
/// [`CertificateError`].
pub(crate) fn check_names(files: &CertificateFiles, zone: &Zone) -> Result<(), CertificateError> {
    let presented = read(files)?;
    let own = presented.end_entity_cert().and_then(ParsedCertificate::try_from)?;
    let names_labels = ServerName::try_from(format!("label.{}", zone.as_str()))
        .is_ok_and(|label| verify_server_name(&own, &label).is_ok());
    let (certificate, zone) = (files.certificate.clone(), zone.as_str().to_owned());
    if names_labels { Ok(()) } else { Err(CertificateError::Names { certificate, zone }) }
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
