//! A zone that everybody reads at: what a start is told of it, and what its edge needs.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    str::FromStr,
};

use data_encoding::HEXLOWER;
use edge::{
    Zone, ZoneError,
    config::{AcmeConfig, HttpsConfig},
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    folders::Folders,
    keys::KeysError,
    settings::{Listen, Settings},
    up_error::UpError,
};

/// Who certifies a zone where nobody says otherwise, and its name in CAA records.
const LETS_ENCRYPT: (&str, &str) = ("https://acme-v02.api.letsencrypt.org/directory", "letsencrypt.org");
/// Largest file of a secret, in bytes. Ours has 65.
const SECRET_BYTES_MAX: usize = 1024;

/// What a start is told of a zone that everybody reads at. What is absent is at its default, whatever was before.
#[derive(Debug, Clone)]
pub struct PublicOptions {
    /// The zone.
    pub zone: PublicZone,
    /// Where viewers and resolvers reach this machine; one at least.
    pub addresses: Vec<IpAddr>,
    /// Where the edge answers over TLS. Absent: port 443 of every address.
    pub https: Option<SocketAddr>,
    /// The directory of the authority that certifies the zone. Absent: Let's Encrypt's.
    pub acme: Option<String>,
    /// Where that may write to. Absent: nowhere.
    pub contact: Option<String>,
    /// The PEM file of the root that its own HTTPS is trusted by. Absent: the system's roots.
    pub acme_root: Option<PathBuf>,
    /// Resolvers that must see the zone before it is asked. None: those of the system.
    pub resolvers: Vec<SocketAddr>,
}

/// A zone that everybody reads at, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicZone {
    /// Only this machine reads.
    Off,
    /// Everybody does.
    At(Zone),
}

/// A zone that everybody reads at, with what its edge needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Public {
    /// The zone, which the names above it delegate to this machine.
    pub(crate) zone: Zone,
    /// Where viewers and resolvers reach this machine.
    pub(crate) addresses: Vec<IpAddr>,
    /// Where the edge answers over TLS.
    pub(crate) https: SocketAddr,
    /// The directory of the authority that certifies the zone.
    pub(crate) acme: String,
    /// Where that may write to.
    #[serde(default)]
    pub(crate) contact: Option<String>,
    /// The PEM file of the root that its own HTTPS is trusted by. Absent: the system's roots.
    #[serde(default)]
    pub(crate) acme_root: Option<PathBuf>,
    /// Resolvers that must see the zone before it is asked. Absent: those of the system.
    #[serde(default)]
    pub(crate) resolvers: Option<Vec<SocketAddr>>,
    /// Where HTTP was answered before, for this machine alone.
    pub(crate) http_before: SocketAddr,
    /// Where DNS was.
    pub(crate) dns_before: Listen,
}

impl Public {
    /// Returns what counts from this start on. Reads the root, where one is named.
    ///
    /// # Errors
    /// [`UpError`]: what is told cannot be used.
    pub(crate) fn choose(told: Option<&PublicOptions>, before: &Settings) -> Result<Option<Self>, UpError> {
        let Some(told) = told else { return Ok(before.public.clone()) };
        let PublicZone::At(zone) = &told.zone else { return Ok(None) };
        let addresses = told.addresses.clone();
        if addresses.is_empty() || addresses.iter().any(|address| address.is_unspecified() || address.is_multicast()) {
            return Err(UpError::NoAddress { zone: zone.clone() });
        }
        let (http_before, dns_before) = Self::doors_before(before);
        Ok(Some(Self {
            zone: zone.clone(),
            https: told.https.unwrap_or_else(|| everywhere(&addresses, 443)),
            addresses,
            acme: told.acme.clone().unwrap_or_else(|| LETS_ENCRYPT.0.to_owned()),
            contact: told.contact.clone(),
            acme_root: told.acme_root.as_deref().map(root).transpose()?,
            resolvers: (!told.resolvers.is_empty()).then(|| told.resolvers.clone()),
            http_before,
            dns_before,
        }))
    }

    /// Returns where HTTP and DNS are answered for this machine alone.
    pub(crate) fn doors_before(settings: &Settings) -> (SocketAddr, Listen) {
        let local = (settings.http, settings.dns);
        settings.public.as_ref().map_or(local, |public| (public.http_before, public.dns_before))
    }

    /// Returns where DNS is answered if nobody says otherwise: at the one address, where this machine has it, so that
    /// answers go out from there, and other programs keep the port of other addresses.
    pub(crate) fn dns(&self) -> SocketAddr {
        match &*self.addresses {
            [one] if UdpSocket::bind((*one, 0)).is_ok() => SocketAddr::new(*one, 53),
            _ => self.everywhere(53),
        }
    }

    /// Returns a port of every address of this machine.
    pub(crate) fn everywhere(&self, port: u16) -> SocketAddr {
        everywhere(&self.addresses, port)
    }

    /// Returns the edge's door over TLS, with an authority that certifies the zone.
    pub(crate) fn https(&self, secret: PathBuf) -> HttpsConfig {
        HttpsConfig {
            listen: self.https,
            certificate: None,
            key: None,
            acme: Some(AcmeConfig {
                directory: self.acme.clone(),
                contact: self.contact.clone(),
                authority: self.acme_root.clone(),
                caa: (self.acme == LETS_ENCRYPT.0).then(|| LETS_ENCRYPT.1.to_owned()),
                look_seconds: 5,
                resolvers: self.resolvers.clone(),
                retry_seconds: 60,
            }),
            secret: Some(secret),
            redirect: true,
            public_port: None,
            http3: true,
        }
    }

    /// Returns the template of URLs.
    pub(crate) fn url(&self) -> String {
        let port = match self.https.port() {
            443 => String::new(),
            port => format!(":{port}"),
        };
        format!("https://{{label}}.{}{port}/{{name}}", self.zone)
    }
}

/// Returns the path of a root that is there, whatever folder later starts have.
fn root(path: &Path) -> Result<PathBuf, UpError> {
    let unusable = |source| UpError::AcmeRoot { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(unusable)?;
    if !text.contains("-----BEGIN CERTIFICATE-----") {
        return Err(unusable(io::Error::new(io::ErrorKind::InvalidData, "it has no certificate in PEM")));
    }
    std::path::absolute(path).map_err(unusable)
}

/// IPv6's stands for both.
fn everywhere(addresses: &[IpAddr], port: u16) -> SocketAddr {
    let any = match addresses.iter().any(IpAddr::is_ipv6) {
        true => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        false => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    SocketAddr::new(any, port)
}

/// Returns the file of what seals the zone's certificate, made when it is not there. Blocks on the disk.
///
/// # Errors
/// [`UpError`].
pub(crate) fn secret_file(folders: &Folders) -> Result<PathBuf, UpError> {
    let path = folders.keys().join("zone.secret");
    let io = |source| KeysError::Io { path: path.clone(), source };
    if client::read_kept(&path, SECRET_BYTES_MAX).map_err(io)?.map(Zeroizing::new).is_none() {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *bytes)?;
        let text = Zeroizing::new(HEXLOWER.encode(&*bytes) + "\n");
        client::keep(&path, text.as_bytes()).map_err(io)?;
    }
    Ok(path)
}

impl FromStr for PublicZone {
    type Err = ZoneError;

    fn from_str(text: &str) -> Result<Self, ZoneError> {
        match text {
            "off" => Ok(Self::Off),
            text => text.parse().map(Self::At),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(zone: &str, addresses: &[&str]) -> PublicOptions {
        PublicOptions {
            zone: zone.parse().unwrap(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            https: None,
            acme: None,
            contact: None,
            acme_root: None,
            resolvers: Vec::new(),
        }
    }

    #[test]
    fn a_zone_needs_an_address_and_what_a_start_is_told_is_all_that_counts() {
        let local = Settings::new(String::new(), "127.0.0.1:8080".parse().unwrap(), Listen::Off);
        let choose = |told: &PublicOptions, before: &Settings| Public::choose(Some(told), before);
        for addresses in [&[][..], &["0.0.0.0"], &["192.0.2.1", "ff02::1"]] {
            let none = choose(&told("media.example", addresses), &local).unwrap_err();
            assert!(matches!(&none, UpError::NoAddress { .. }) && none.to_string().contains("--address"), "{none}");
        }
        let first = choose(&told("Media.Example.", &["192.0.2.1"]), &local).unwrap().unwrap();
        assert_eq!((first.zone.as_str(), first.https), ("media.example", "0.0.0.0:443".parse().unwrap()));
        assert_eq!(first.url(), "https://{label}.media.example/{name}");
        assert_eq!(first.dns(), "0.0.0.0:53".parse().unwrap(), "no machine has TEST-NET-1");
        let acme = first.https("/s".into()).acme.unwrap();
        assert_eq!((acme.directory.as_str(), acme.caa.as_deref()), (LETS_ENCRYPT.0, Some("letsencrypt.org")));

        let mut public = local.clone();
        (public.public, public.http) = (Some(first.clone()), "0.0.0.0:80".parse().unwrap());
        assert_eq!(Public::choose(None, &public).unwrap().as_ref(), Some(&first));
        let more = PublicOptions {
            https: Some("127.0.0.1:8443".parse().unwrap()),
            acme: Some("https://ca.example".into()),
            contact: Some("mailto:me@example.org".into()),
            ..told("media.example", &["127.0.0.1"])
        };
        let second = choose(&more, &public).unwrap().unwrap();
        assert_eq!((&*second.url(), second.http_before), ("https://{label}.media.example:8443/{name}", local.http));
        assert_eq!(second.https("/s".into()).acme.unwrap().caa, None, "it is another authority's name");
        assert_eq!(second.dns(), "127.0.0.1:53".parse().unwrap());
        let mut again = public;
        again.public = Some(second);
        assert_eq!(choose(&told("media.example", &["192.0.2.1"]), &again).unwrap().unwrap(), first);
        assert_eq!(choose(&told("off", &[]), &again).unwrap(), None);
        let both = choose(&told("media.example", &["192.0.2.1", "2001:db8::1"]), &local).unwrap().unwrap();
        assert_eq!(both.dns(), "[::]:53".parse().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("root.pem");
        let rooted = PublicOptions { acme_root: Some(file.clone()), ..told("media.example", &["192.0.2.1"]) };
        for text in [None, Some("nonsense")] {
            text.inspect(|text| std::fs::write(&file, text).unwrap());
            assert!(matches!(choose(&rooted, &local), Err(UpError::AcmeRoot { .. })), "{text:?}");
        }
    }
}
