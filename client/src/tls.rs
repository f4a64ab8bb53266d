//! Mutual TLS between nodes: TLS 1.3 only, key exchange X25519MLKEM768 only, and certificates of the cluster's own
//! authority with ML-DSA-65 keys. No part relies on classical cryptography alone (post-quantum TLS).
//!
//! A certificate identifies its holder by one DNS name, `NAME.ROLE.evernear.internal`. The name is never resolved.

mod admission;

use std::sync::Arc;

use aws_lc_rs::signature::{KeyPair as _, ML_DSA_65_SIGNING, PqdsaKeyPair};
use format::{NodeName, wire::Role};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ML_DSA_65, PublicKeyData, SignatureAlgorithm, SigningKey,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{self, CryptoProvider},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime, pem::PemObject},
    server::WebPkiClientVerifier,
    version::TLS13,
};
use time::{Duration, OffsetDateTime};
use x509_parser::{extensions::GeneralName, prelude::FromDer};
use zeroize::Zeroizing;

pub use self::admission::{Fingerprint, NodeKey, Requested, pinned_config};
use crate::refused::Serial;

const DOMAIN: &str = "evernear.internal";
/// A new certificate is valid from this long before its issue, because the clocks of nodes may differ.
const CLOCK_SKEW: Duration = Duration::days(2);
const AUTHORITY_LIFETIME: Duration = Duration::days(20 * 365);
const NODE_LIFETIME: Duration = Duration::days(2 * 365);
/// The only ALPN protocol of the node API, HTTP/2 (RFC 9113 section 3.2).
const ALPN: &[u8] = b"h2";

/// Why TLS material cannot be made or used. The operator is at fault unless stated otherwise.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM text has no usable item.
    #[error("no usable {what} in the PEM text")]
    Pem {
        /// The kind of item: certificate or private key.
        what: &'static str,
    },
    /// A certificate could not be made.
    #[error("a certificate cannot be made")]
    Make(#[from] rcgen::Error),
    /// rustls refuses the material.
    #[error("the certificate, its key and its authority do not fit each other")]
    Refused(#[from] rustls::Error),
    /// The certificate of the authority cannot verify any other.
    #[error("the authority's certificate cannot verify anybody")]
    Authority(#[from] rustls::server::VerifierBuilderError),
    /// A certificate was asked for in a wrong way. Whoever asked is at fault.
    #[error("this is no certificate request of an ML-DSA-65 key, signed by it")]
    Request,
    /// A certificate does not name a node. If a peer sent it, the peer is at fault.
    #[error("the certificate names no node: expected one name NAME.ROLE.{DOMAIN}")]
    Name,
    /// The authority took the certificate back. Its holder needs another one.
    #[error("the cluster refuses this certificate of {name}; it needs another from `evernear cluster issue`")]
    Listed {
        /// Its holder.
        name: NodeName,
    },
    /// The certificate has ended. A session that is resumed verifies no chain, so this is asked each time.
    #[error("the certificate of {name} has ended; renew it with `evernear cluster renew`")]
    Ended {
        /// Its holder.
        name: NodeName,
    },
    /// The certificate belongs to another cluster than this process.
    #[error("the files name another authority than the one this process started with; start it again")]
    OtherAuthority,
}

/// Returns the name in a node's certificate, which its callers expect.
#[must_use]
pub fn server_name(name: &NodeName, role: Role) -> ServerName<'static> {
    ServerName::try_from(dns_name(name, role)).expect("a node name and a role are DNS labels")
}

fn dns_name(name: &NodeName, role: Role) -> String {
    format!("{name}.{}.{DOMAIN}", role.as_str())
}

fn parse_dns_name(text: &str) -> Option<(NodeName, Role)> {
    let (name, role) = text.strip_suffix(DOMAIN)?.strip_suffix('.')?.split_once('.')?;
    let role = match role {
        "origin" => Role::Origin,
        "edge" => Role::Edge,
        "twin" => Role::Twin,
        _ => return None,
    };
    Some((name.parse().ok()?, role))
}

/// What the certificate of a node says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// The holder's name.
    pub name: NodeName,
    /// Its role.
    pub role: Role,
    /// The number of this certificate.
    pub serial: Serial,
    /// When it ends, seconds since 1970.
    pub ends: u64,
}

/// Reads the certificate of the holder of a chain, which its caller has verified.
///
/// # Errors
/// [`TlsError::Name`].
pub fn leaf_of(certificates: &[CertificateDer<'_>]) -> Result<Leaf, TlsError> {
    let leaf = certificates.first().ok_or(TlsError::Name)?;
    let (_, leaf) = x509_parser::certificate::X509Certificate::from_der(leaf).map_err(|_| TlsError::Name)?;
    let names = leaf.subject_alternative_name().ok().flatten().ok_or(TlsError::Name)?;
    let [GeneralName::DNSName(name)] = names.value.general_names[..] else { return Err(TlsError::Name) };
    let (name, role) = parse_dns_name(name).ok_or(TlsError::Name)?;
    let ends = u64::try_from(leaf.validity().not_after.timestamp()).unwrap_or(0);
    Ok(Leaf { name, role, serial: Serial::new(leaf.raw_serial()), ends })
}

/// Reads a node's certificate from PEM, unverified.
///
/// # Errors
/// [`TlsError`].
pub fn leaf_of_pem(pem: &[u8]) -> Result<Leaf, TlsError> {
    leaf_of(&[CertificateDer::from_pem_slice(pem).map_err(|_| TlsError::Pem { what: "certificate" })?])
}

/// A certificate and its key, as PEM.
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// PKCS #8 private key. It is wiped on drop.
    pub key: Zeroizing<String>,
}

/// A signing key, of the authority or of a node. rcgen can make ML-DSA keys but cannot read them back, so AWS-LC reads
/// them.
struct SigningPair {
    pair: PqdsaKeyPair,
    pem: Zeroizing<String>,
}

impl SigningPair {
    fn from_pem(pem: &str) -> Result<Self, TlsError> {
        let wrong = TlsError::Pem { what: "ML-DSA-65 private key" };
        let der =
            PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| TlsError::Pem { what: "private key" })?;
        let pair = PqdsaKeyPair::from_pkcs8(&ML_DSA_65_SIGNING, der.secret_pkcs8_der()).map_err(|_| wrong)?;
        Ok(Self { pair, pem: Zeroizing::new(pem.to_owned()) })
    }
}

impl PublicKeyData for SigningPair {
    fn der_bytes(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ML_DSA_65
    }
}

impl SigningKey for SigningPair {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let mut signature = vec![0; self.pair.algorithm().signature_len()];
        let written = self.pair.sign(message, &mut signature).map_err(|_| rcgen::Error::RingUnspecified)?;
        signature.truncate(written);
        Ok(signature)
    }
}

/// The cluster's own certificate authority.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, SigningPair>,
}

impl Authority {
    /// Makes a new authority.
    ///
    /// # Errors
    /// [`TlsError::Make`].
    pub fn create() -> Result<Self, TlsError> {
        let key = SigningPair::from_pem(&Zeroizing::new(KeyPair::generate_for(&PKCS_ML_DSA_65)?.serialize_pem()))?;
        let mut params = params(AUTHORITY_LIFETIME);
        params.distinguished_name.push(DnType::CommonName, "Evernear cluster authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }

    /// Reads an authority back from its certificate and key.
    ///
    /// # Errors
    /// [`TlsError::Pem`] and [`TlsError::Make`].
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, TlsError> {
        let key = SigningPair::from_pem(key)?;
        Ok(Self { certificate: certificate.to_owned(), issuer: Issuer::from_ca_cert_pem(certificate, key)? })
    }

    /// Returns the certificate that every node must have.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    pub(crate) fn issuer(&self) -> &Issuer<'static, impl SigningKey> {
        &self.issuer
    }

    /// Returns the private key. Whoever has it can join the cluster under any name.
    #[must_use]
    pub fn key_pem(&self) -> Zeroizing<String> {
        self.issuer.key().pem.clone()
    }

    /// Issues the certificate of a node, valid for two years.
    ///
    /// # Errors
    /// [`TlsError::Make`].
    pub fn issue(&self, name: &NodeName, role: Role) -> Result<Issued, TlsError> {
        let key = KeyPair::generate_for(&PKCS_ML_DSA_65)?;
        Ok(Issued { certificate: self.sign(&key, name, role)?, key: Zeroizing::new(key.serialize_pem()) })
    }

    fn sign(&self, key: &impl PublicKeyData, name: &NodeName, role: Role) -> Result<String, TlsError> {
        let mut params = params(NODE_LIFETIME);
        params.subject_alt_names = vec![rcgen::SanType::DnsName(dns_name(name, role).try_into()?)];
        params.distinguished_name.push(DnType::CommonName, name.as_str());
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Ok(params.signed_by(key, &self.issuer)?.pem())
    }
}

fn params(lifetime: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    let now = OffsetDateTime::now_utc();
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + lifetime;
    params.distinguished_name = DistinguishedName::new();
    params
}

/// The identity of this process towards other nodes.
pub struct Identity {
    name: NodeName,
    role: Role,
    authority: CertificateDer<'static>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Takes PEM texts as [`Authority`] makes them.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn from_pem(authority: &str, certificate: &str, key: &str) -> Result<Self, TlsError> {
        let read = |pem: &str| {
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| TlsError::Pem { what: "certificate" })
        };
        let chain = vec![read(certificate)?];
        let Leaf { name, role, .. } = leaf_of(&chain)?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| TlsError::Pem { what: "private key" })?;
        Ok(Self { name, role, authority: read(authority)?, chain, key })
    }

    /// Returns the node's name.
    #[must_use]
    pub fn name(&self) -> &NodeName {
        &self.name
    }

    /// Returns the node's role.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Returns the certificate of the cluster's authority.
    #[must_use]
    pub fn authority(&self) -> &CertificateDer<'static> {
        &self.authority
    }

    /// Returns what the own certificate says.
    ///
    /// # Errors
    /// [`TlsError::Name`].
    pub fn leaf(&self) -> Result<Leaf, TlsError> {
        leaf_of(&self.chain)
    }

    #[cfg(test)]
    pub(crate) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Returns the TLS configuration for a server of the node API. It refuses callers without a certificate of the
    /// cluster.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = provider();
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots()?, provider.clone()).build()?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Arc::new(config))
    }

    /// Returns the TLS configuration for a caller of the node API.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Arc::new(config))
    }

    /// Verifies its own certificate as a peer of the same authority would.
    pub(crate) fn verify(&self, now: UnixTime) -> Result<(), TlsError> {
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots()?, provider()).build()?;
        let (own, between) = self.chain.split_first().ok_or(TlsError::Name)?;
        verifier.verify_client_cert(own, between, now)?;
        Ok(())
    }

    fn roots(&self) -> Result<Arc<RootCertStore>, TlsError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone())?;
        Ok(Arc::new(roots))
    }
}

/// AWS-LC with only the hybrid key exchange group. A peer that lacks it is refused.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        kx_groups: vec![crypto::aws_lc_rs::kx_group::X25519MLKEM768],
        ..crypto::aws_lc_rs::default_provider()
    })
}

#[cfg(test)]
mod tests {
    use rustls::{ClientConnection, Connection, NamedGroup, ServerConnection, SignatureScheme};

    use super::*;

    fn identity(authority: &Authority, name: &str, role: Role) -> Identity {
        let issued = authority.issue(&name.parse().unwrap(), role).unwrap();
        Identity::from_pem(authority.certificate_pem(), &issued.certificate, &issued.key).unwrap()
    }

    pub(super) fn shake(
        client: Arc<ClientConfig>,
        server: Arc<ServerConfig>,
        expected: ServerName<'static>,
    ) -> Result<(Connection, Connection), rustls::Error> {
        let mut client = Connection::from(ClientConnection::new(client, expected)?);
        let mut server = Connection::from(ServerConnection::new(server)?);
        for _ in 0..10 {
            for turn in 0..2 {
                let (from, to) = if turn == 0 { (&mut client, &mut server) } else { (&mut server, &mut client) };
                let mut bytes = Vec::new();
                while from.wants_write() {
                    from.write_tls(&mut bytes).unwrap();
                }
                let mut bytes = &bytes[..];
                while !bytes.is_empty() {
                    to.read_tls(&mut bytes).unwrap();
                    to.process_new_packets()?;
                }
            }
        }
        Ok((client, server))
    }

    #[test]
    fn nodes_agree_on_the_hybrid_group_and_know_each_other() {
        let authority = Authority::create().unwrap();
        let again = Authority::from_pem(authority.certificate_pem(), &authority.key_pem()).unwrap();
        let origin = identity(&authority, "o1", Role::Origin);
        let edge = identity(&again, "e1", Role::Edge);
        let (client, server) = shake(
            edge.client_config().unwrap(),
            origin.server_config().unwrap(),
            server_name(origin.name(), Role::Origin),
        )
        .unwrap();
        for side in [&client, &server] {
            assert!(!side.is_handshaking());
            assert_eq!(side.negotiated_key_exchange_group().unwrap().name(), NamedGroup::X25519MLKEM768);
            assert_eq!(side.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        }
        assert_eq!(leaf_of(server.peer_certificates().unwrap()).unwrap(), edge.leaf().unwrap());
        assert_eq!((edge.leaf().unwrap().name, edge.leaf().unwrap().role), ("e1".parse().unwrap(), Role::Edge));
        assert!(provider().signature_verification_algorithms.supported_schemes().contains(&SignatureScheme::ML_DSA_65));
    }

    #[test]
    fn strangers_and_impostors_are_refused() {
        let (ours, theirs) = (Authority::create().unwrap(), Authority::create().unwrap());
        let origin = identity(&ours, "o1", Role::Origin);
        let stranger = identity(&theirs, "e1", Role::Edge);
        let name = || server_name(origin.name(), Role::Origin);
        assert!(shake(stranger.client_config().unwrap(), origin.server_config().unwrap(), name()).is_err());
        let impostor = identity(&ours, "o2", Role::Origin);
        let edge = identity(&ours, "e1", Role::Edge);
        assert!(shake(edge.client_config().unwrap(), impostor.server_config().unwrap(), name()).is_err());
        let provider = CryptoProvider {
            kx_groups: vec![crypto::aws_lc_rs::kx_group::X25519],
            ..crypto::aws_lc_rs::default_provider()
        };
        let mut roots = RootCertStore::empty();
        roots.add(edge.authority.clone()).unwrap();
        let classical = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(edge.chain.clone(), edge.key.clone_key())
            .unwrap();
        assert!(shake(Arc::new(classical), origin.server_config().unwrap(), name()).is_err());
    }

    #[test]
    fn only_the_one_form_of_name_is_a_node() {
        let of = |name: &str| {
            let key = KeyPair::generate_for(&PKCS_ML_DSA_65).unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            leaf_of(&[params.self_signed(&key).unwrap().der().clone()])
        };
        assert!(of("o1.origin.evernear.internal").is_ok());
        for bad in [
            "o1.evernear.internal",
            "a.b.origin.evernear.internal",
            "o1.root.evernear.internal",
            "o1.origin.example.org",
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
