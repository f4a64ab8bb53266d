//! The files of a node's identity, and the check that they are the ones in its configuration. `check-config` reports
//! and a start refuses the same faults.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use format::{NodeName, wire::Role};
use rustls::{CertificateError, pki_types::UnixTime};
use serde::Deserialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    key_file::{KeyFileError, read_key_file},
    tls::{Identity, TlsError},
};

/// The files with a node's identity, in PEM, as `evernear cluster issue` makes them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityFiles {
    /// Certificate of the cluster's authority. No default.
    pub authority: PathBuf,
    /// The node's certificate. No default.
    pub certificate: PathBuf,
    /// The node's private key. Other users of the machine may not read it. No default.
    pub key: PathBuf,
}

/// Why an identity is refused. The operator must fix it.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A certificate cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The key cannot be read, or every user can read it.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The files do not form an identity.
    #[error("the certificate, its key and the authority make no identity")]
    Tls(#[from] TlsError),
    /// The certificate is for another kind of node.
    #[error("the certificate is of role {found}; issue one of role {wanted}")]
    Role {
        /// The role in the certificate.
        found: &'static str,
        /// The role that is needed.
        wanted: &'static str,
    },
    /// The certificate is for another node.
    #[error("the certificate names {certificate}, the configuration {configured}")]
    Name {
        /// The name in the certificate.
        certificate: NodeName,
        /// The name in the configuration.
        configured: NodeName,
    },
    /// The certificate has expired.
    #[error("the certificate ended at {ended}; renew it with `evernear cluster renew`")]
    Ended {
        /// When it expired, in UTC.
        ended: String,
    },
    /// The certificate is not valid yet.
    #[error("the certificate counts from {begins} only; is this machine's clock right?")]
    Early {
        /// When it becomes valid, in UTC.
        begins: String,
    },
    /// Another authority issued the certificate.
    #[error("the authority of the cluster did not issue the certificate")]
    Authority(#[source] rustls::Error),
}

impl IdentityFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// [`IdentityError`] if a file cannot be read or is not part of an identity.
    pub fn read(&self) -> Result<Identity, IdentityError> {
        let certificate = |path: &Path| {
            fs::read_to_string(path).map_err(|source| IdentityError::Read { path: path.to_owned(), source })
        };
        let (authority, certificate) = (certificate(&self.authority)?, certificate(&self.certificate)?);
        Ok(Identity::from_pem(&authority, &certificate, &read_key_file(&self.key)?)?)
    }
}

impl Identity {
    /// Checks that this identity is for a node of this name and role, and that other nodes accept it at `now`: the key
    /// belongs to the certificate, the authority issued it, and it is valid at that time.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn check(&self, name: &NodeName, role: Role, now: SystemTime) -> Result<(), IdentityError> {
        if self.role() != role {
            return Err(IdentityError::Role { found: self.role().as_str(), wanted: role.as_str() });
        }
        if self.name() != name {
            return Err(IdentityError::Name { certificate: self.name().clone(), configured: name.clone() });
        }
        // Fails unless the key belongs to the certificate.
        self.client_config()?;
        let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO));
        self.verify(now).map_err(|error| match error {
            TlsError::Refused(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext {
                not_after,
                ..
            })) => IdentityError::Ended { ended: date(not_after) },
            TlsError::Refused(rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext {
                not_before,
                ..
            })) => IdentityError::Early { begins: date(not_before) },
            TlsError::Refused(error) => IdentityError::Authority(error),
            error => error.into(),
        })
    }
}

/// Formats a time for people.
fn date(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).ok();
    let date = seconds.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    date.and_then(|date| date.format(&Rfc3339).ok()).unwrap_or_else(|| format!("second {}", time.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::Authority;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn an_identity_is_checked_as_other_nodes_will_judge_it() {
        let (ours, theirs) = (Authority::create().unwrap(), Authority::create().unwrap());
        let name: NodeName = "e1".parse().unwrap();
        let issued = ours.issue(&name, Role::Edge).unwrap();
        let identity = |authority: &Authority, key: &str| {
            Identity::from_pem(authority.certificate_pem(), &issued.certificate, key).unwrap()
        };
        let (good, now) = (identity(&ours, &issued.key), SystemTime::now());
        good.check(&name, Role::Edge, now).unwrap();
        good.check(&name, Role::Edge, now + 729 * DAY).unwrap();
        let said = |checked: Result<(), IdentityError>| checked.unwrap_err().to_string();
        assert!(said(good.check(&name, Role::Edge, now + 731 * DAY)).starts_with("the certificate ended at 20"));
        assert!(said(good.check(&name, Role::Edge, now - 3 * DAY)).contains("clock"));
        assert!(said(good.check(&name, Role::Origin, now)).contains("is of role edge; issue one of role origin"));
        assert!(said(good.check(&"e9".parse().unwrap(), Role::Edge, now)).contains("names e1, the configuration e9"));
        assert!(said(identity(&theirs, &issued.key).check(&name, Role::Edge, now)).contains("did not issue"));
        let other = ours.issue(&name, Role::Edge).unwrap();
        let mixed = identity(&ours, &other.key).check(&name, Role::Edge, now);
        assert!(matches!(mixed, Err(IdentityError::Tls(_))), "{mixed:?}");
    }
}
