//! The HTTP door over TLS, as configured: its certificate, from files or from an authority.

use std::{net::SocketAddr, path::PathBuf};

use serde::Deserialize;

use super::config_error::{ConfigError, check_bounds};
use crate::zone::Zone;

/// The HTTP door over TLS 1.3: HTTP/1.1, HTTP/2 and HTTP/3. TCP and UDP have connections to themselves, as many as
/// [`super::HttpConfig`] says.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpsConfig {
    /// TCP address.
    pub listen: SocketAddr,
    /// Certificates as PEM, the edge's own first: a wildcard of the zone. Read again every
    /// [`super::Config::reread_seconds`]. Absent: `acme` gets one.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// The key of the first, PEM.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// The authority that certifies the zone. Absent: the files say.
    #[serde(default)]
    pub acme: Option<AcmeConfig>,
    /// A file of 64 hex digits, the same at all edges of the zone and nowhere else: it seals session tickets, and what
    /// edges leave with the origins for each other. Absent: sessions are resumed only where they began, and there is no
    /// `acme`.
    #[serde(default)]
    pub secret: Option<PathBuf>,
    /// Whether `http.listen` only sends viewers here. Absent: yes.
    #[serde(default = "default_redirect")]
    pub redirect: bool,
    /// The port that viewers reach, where it is not the one of `listen`. Absent: the one of `listen`.
    #[serde(default)]
    pub public_port: Option<u16>,
    /// Whether HTTP/3 is spoken too, on the UDP port of the same number. Absent: yes.
    #[serde(default = "default_http3")]
    pub http3: bool,
}

/// A certificate authority that speaks ACME (RFC 8555). It asks the DNS door of any edge for proof, so the zone must be
/// delegated to the edges. Naming one agrees to its terms of service.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcmeConfig {
    /// Its directory, for example `https://acme-v02.api.letsencrypt.org/directory`.
    pub directory: String,
    /// Where it may write to, for example `mailto:ops@evernear.example`. Absent: nowhere.
    #[serde(default)]
    pub contact: Option<String>,
    /// The PEM file of the root that its own HTTPS is trusted by. Absent: the system's roots.
    #[serde(default)]
    pub authority: Option<PathBuf>,
    /// The name it goes by in CAA records (RFC 8659), for example `letsencrypt.org`: then no other may certify the
    /// zone, nor may anybody but this account (RFC 8657). Absent: there is no such record.
    #[serde(default)]
    pub caa: Option<String>,
    /// Seconds between looks at what the zone's edges share: what one wrote, all have after so long and a round trip.
    /// The same at all edges of the zone, because who orders waits twice as long for the others to show the proof.
    /// Absent: 5.
    #[serde(default = "default_look_seconds")]
    pub look_seconds: u64,
    /// Resolvers that must see what the zone shows before the authority is asked to look. Absent: those of
    /// /etc/resolv.conf. None, `[]`: the authority is asked at once.
    #[serde(default)]
    pub resolvers: Option<Vec<SocketAddr>>,
    /// Seconds until the next order after one that failed, doubled with each failure up to four hours: authorities
    /// count them (Let's Encrypt: 5 an hour). Absent: 60.
    #[serde(default = "default_retry_seconds")]
    pub retry_seconds: u64,
}

/// The files of a certificate for TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// Certificates as PEM, the server's own first.
    pub certificate: PathBuf,
    /// The key of the first, PEM.
    pub key: PathBuf,
}

impl HttpsConfig {
    /// Returns the files, when it is they that hold the certificate.
    pub(crate) fn files(&self) -> Option<CertificateFiles> {
        Some(CertificateFiles { certificate: self.certificate.clone()?, key: self.key.clone()? })
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match (&self.certificate, &self.key, &self.acme) {
            (Some(_), Some(_), None) => Ok(()),
            (None, None, Some(_)) if self.secret.is_none() => Err(ConfigError::Secret),
            (None, None, Some(acme)) => acme.check(),
            _ => Err(ConfigError::Certificate),
        }
    }
}

impl AcmeConfig {
    fn check(&self) -> Result<(), ConfigError> {
        if let Some(caa) = &self.caa {
            Zone::parse(caa).map_err(|source| ConfigError::Name { field: "https.acme.caa", source })?;
        }
        check_bounds(&[
            ("https.acme.look_seconds", self.look_seconds, 1..=300, "from 1 to 300"),
            ("https.acme.retry_seconds", self.retry_seconds, 1..=14_400, "from 1 to 14400"),
        ])
    }
}

fn default_redirect() -> bool {
    true
}

fn default_http3() -> bool {
    true
}

fn default_look_seconds() -> u64 {
    5
}

fn default_retry_seconds() -> u64 {
    60
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const SAMPLE: &str = include_str!("../../edge.sample.toml");

    #[test]
    fn the_periods_of_acme_have_bounds() {
        let acme = |more: &str| {
            let acme = format!("secret = \"/s\"\n[https.acme]\ndirectory = \"https://ca.example\"\n{more}");
            let files = [
                "certificate = \"/etc/evernear/evernear.example.pem\"\n",
                "key = \"/etc/evernear/evernear.example.key\"\n",
            ];
            let without = |sample: String, line: &str| {
                assert!(sample.contains(line), "{line}");
                sample.replacen(line, "", 1)
            };
            let sample = files.into_iter().fold(SAMPLE.to_owned(), without);
            Config::from_toml(&sample.replacen("[cache]", &format!("{acme}\n[cache]"), 1))
        };
        let periods = |config: Config| config.https.unwrap().acme.map(|acme| (acme.look_seconds, acme.retry_seconds));
        assert_eq!(periods(acme("").unwrap()), Some((5, 60)));
        assert_eq!(periods(acme("look_seconds = 300\nretry_seconds = 14400").unwrap()), Some((300, 14_400)));
        for wrong in ["look_seconds = 0", "look_seconds = 301", "retry_seconds = 0", "retry_seconds = 14401"] {
            assert!(matches!(acme(wrong), Err(ConfigError::Bound { .. })), "{wrong}");
        }
    }
}
