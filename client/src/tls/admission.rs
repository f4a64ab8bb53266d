//! How a machine that has no certificate yet gets one. It makes its key and asks by a certificate signing request
//! (PKCS #10, RFC 2986). The authority's door answers over TLS 1.3 with X25519MLKEM768, and the asker pins the
//! authority by a hash that it was told beforehand.
//!
//! The door shows a certificate of its own and the authority's. Its name is none of a node, so no node passes for the
//! door, and the door for no node.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{ML_DSA_65, UnparsedPublicKey},
};
use format::{NodeName, wire::Role};
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PKCS_ML_DSA_65, PublicKeyData,
};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{
        CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime,
        pem::PemObject,
    },
    version::TLS13,
};
use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer};
use zeroize::Zeroizing;

use super::{Authority, NODE_LIFETIME, SigningPair, TlsError, params, provider};

/// The name in the door's certificate. `join` is no role.
const DOOR: &str = "door.join.evernear.internal";
/// The protocol of the door.
const ALPN: &[u8] = b"evernear-join/1";
/// The object identifier of ML-DSA-65 (RFC 9881 section 2).
const ML_DSA_65_OID: &str = "2.16.840.1.101.3.4.3.18";

/// The SHA-256 of a certificate, as `openssl x509 -fingerprint -sha256` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Takes that of a certificate.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self::of_bytes(certificate)
    }

    /// Takes that of the first certificate of a PEM text.
    ///
    /// # Errors
    /// [`TlsError::Pem`].
    pub fn of_pem(pem: &str) -> Result<Self, TlsError> {
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes());
        Ok(Self::of(&certificate.map_err(|_| TlsError::Pem { what: "certificate" })?))
    }

    fn of_bytes(bytes: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Self(hash)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        write!(f, "{first:02X}")?;
        rest.iter().try_for_each(|byte| write!(f, ":{byte:02X}"))
    }
}

/// A key of a node that has no certificate yet.
pub struct NodeKey(SigningPair);

impl NodeKey {
    /// Makes a key.
    ///
    /// # Errors
    /// [`TlsError::Make`].
    pub fn create() -> Result<Self, TlsError> {
        Self::from_pem(&Zeroizing::new(KeyPair::generate_for(&PKCS_ML_DSA_65)?.serialize_pem()))
    }

    /// Reads a key back.
    ///
    /// # Errors
    /// [`TlsError::Pem`].
    pub fn from_pem(pem: &str) -> Result<Self, TlsError> {
        Ok(Self(SigningPair::from_pem(pem)?))
    }

    /// Returns it as PKCS #8.
    #[must_use]
    pub fn pem(&self) -> &Zeroizing<String> {
        &self.0.pem
    }

    /// Returns a request for a certificate of this key, in PEM, signed by the key. It says nothing else: name and role
    /// are the authority's to say.
    ///
    /// # Errors
    /// [`TlsError::Make`].
    pub fn request(&self) -> Result<String, TlsError> {
        Ok(CertificateParams::default().serialize_request(&self.0)?.pem()?)
    }
}

/// A public key whose holder asked for a certificate, and signed that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requested {
    key: Vec<u8>,
}

impl Requested {
    /// Reads a request in PEM and verifies its signature. What it says beside the key is passed over.
    ///
    /// # Errors
    /// [`TlsError::Request`].
    pub fn read(pem: &str) -> Result<Self, TlsError> {
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).map_err(|_| TlsError::Request)?;
        let (rest, request) = X509CertificationRequest::from_der(&der).map_err(|_| TlsError::Request)?;
        let asked = &request.certification_request_info;
        let key = &asked.subject_pki;
        let is_ours = key.algorithm.algorithm.to_id_string() == ML_DSA_65_OID && rest.is_empty();
        let bytes: &[u8] = &key.subject_public_key.data;
        let signed = UnparsedPublicKey::new(&ML_DSA_65, bytes).verify(asked.raw, &request.signature_value.data);
        match (is_ours, signed) {
            (true, Ok(())) => Ok(Self { key: bytes.to_vec() }),
            _ => Err(TlsError::Request),
        }
    }

    /// Returns a hash that tells it from every other key.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_bytes(&self.key)
    }

    /// Returns whether a certificate, as PEM, is of this key.
    #[must_use]
    pub fn is_in(&self, certificate: &str) -> bool {
        let Ok(der) = CertificateDer::from_pem_slice(certificate.as_bytes()) else { return false };
        let parsed = x509_parser::certificate::X509Certificate::from_der(&der);
        parsed.is_ok_and(|(_, leaf)| *leaf.public_key().subject_public_key.data == self.key[..])
    }
}

impl PublicKeyData for Requested {
    fn der_bytes(&self) -> &[u8] {
        &self.key
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ML_DSA_65
    }
}

impl Authority {
    /// Issues the certificate, as PEM, of a node whose key lies elsewhere.
    ///
    /// # Errors
    /// [`TlsError::Make`].
    pub fn certify(&self, key: &Requested, name: &NodeName, role: Role) -> Result<String, TlsError> {
        self.sign(key, name, role)
    }

    /// Returns the TLS configuration of the door, with a key that is made here and lies nowhere.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn door_config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let key = KeyPair::generate_for(&PKCS_ML_DSA_65)?;
        let mut params = params(NODE_LIFETIME);
        params.subject_alt_names = vec![rcgen::SanType::DnsName(DOOR.try_into()?)];
        params.distinguished_name.push(DnType::CommonName, "Evernear join door");
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        let authority = CertificateDer::from_pem_slice(self.certificate.as_bytes());
        let chain = vec![certificate, authority.map_err(|_| TlsError::Pem { what: "certificate" })?];
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Nobody comes twice.
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

/// Returns the TLS configuration of whoever asks at the door of an authority, and the door's name. A door whose
/// authority has another certificate is refused before anything is told to it.
///
/// # Errors
/// [`TlsError`].
pub fn pinned_config(authority: Fingerprint) -> Result<(Arc<ClientConfig>, ServerName<'static>), TlsError> {
    let provider = provider();
    let verifier = Pinned { authority, provider: provider.clone() };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok((Arc::new(config), ServerName::try_from(DOOR).expect("it is a name")))
}

/// Verifies a chain as usual, under the one authority whose certificate has this hash.
#[derive(Debug)]
struct Pinned {
    authority: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let unknown = || rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let [authority] = intermediates else { return Err(unknown()) };
        if Fingerprint::of(authority) != self.authority {
            return Err(unknown());
        }
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone()).build();
        verifier.map_err(|_| unknown())?.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Identity, leaf_of_pem, tests::shake},
        *,
    };

    #[test]
    fn a_key_that_never_left_its_machine_gets_a_certificate_that_nodes_accept() {
        let authority = Authority::create().unwrap();
        let key = NodeKey::from_pem(NodeKey::create().unwrap().pem()).unwrap();
        let requested = Requested::read(&key.request().unwrap()).unwrap();
        let name: NodeName = "e2".parse().unwrap();
        let certificate = authority.certify(&requested, &name, Role::Edge).unwrap();
        assert!(requested.is_in(&certificate) && !requested.is_in(authority.certificate_pem()));
        let identity = Identity::from_pem(authority.certificate_pem(), &certificate, key.pem()).unwrap();
        identity.check(&name, Role::Edge, std::time::SystemTime::now()).unwrap();
        assert_ne!(
            requested.fingerprint(),
            Requested::read(&NodeKey::create().unwrap().request().unwrap()).unwrap().fingerprint()
        );
    }

    #[test]
    fn a_request_that_its_key_did_not_sign_is_refused() {
        let request = NodeKey::create().unwrap().request().unwrap();
        let der = CertificateSigningRequestDer::from_pem_slice(request.as_bytes()).unwrap().to_vec();
        let text = |der: &[u8]| {
            let body = data_encoding::BASE64.encode(der);
            format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n")
        };
        assert!(Requested::read(&text(&der)).is_ok());
        // Bytes of the key, and of the signature.
        for at in [der.len() / 3, der.len() - 9] {
            let mut changed = der.clone();
            changed[at] ^= 1;
            assert!(matches!(Requested::read(&text(&changed)), Err(TlsError::Request)), "{at}");
        }
        let mut longer = der.clone();
        longer.push(0);
        let classical = CertificateParams::default().serialize_request(&KeyPair::generate().unwrap()).unwrap();
        for bad in [text(&longer), classical.pem().unwrap(), String::new(), "x".repeat(9000), text(b"")] {
            assert!(matches!(Requested::read(&bad), Err(TlsError::Request)));
        }
    }

    #[test]
    fn only_the_door_of_the_pinned_authority_is_talked_to() {
        let (ours, theirs) = (Authority::create().unwrap(), Authority::create().unwrap());
        let pin = Fingerprint::of_pem(ours.certificate_pem()).unwrap();
        let knock = |server: Arc<ServerConfig>| {
            let (client, name) = pinned_config(pin).unwrap();
            shake(client, server, name).map(|(client, _)| client)
        };
        let client = knock(ours.door_config().unwrap()).unwrap();
        assert_eq!(client.negotiated_key_exchange_group().unwrap().name(), rustls::NamedGroup::X25519MLKEM768);
        assert!(knock(theirs.door_config().unwrap()).is_err(), "a man in the middle with an authority of his own");
        // One who shows the right authority's certificate beside his own.
        let mut forged = ServerConfig::clone(&theirs.door_config().unwrap());
        let key = KeyPair::generate_for(&PKCS_ML_DSA_65).unwrap();
        let own = CertificateParams::new(vec![DOOR.to_owned()]).unwrap().self_signed(&key).unwrap().der().clone();
        let shown = CertificateDer::from_pem_slice(ours.certificate_pem().as_bytes()).unwrap();
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let chain = rustls::sign::CertifiedKey::from_der(vec![own, shown], der, &provider()).unwrap();
        forged.cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(chain));
        assert!(knock(Arc::new(forged)).is_err());
        // A node of the cluster is no door, and the door no node.
        let issued = ours.issue(&"o1".parse().unwrap(), Role::Origin).unwrap();
        let node = Identity::from_pem(ours.certificate_pem(), &issued.certificate, &issued.key).unwrap();
        let (mut node, door) = (ServerConfig::clone(&node.server_config().unwrap()), ours.door_config().unwrap());
        node.alpn_protocols = vec![ALPN.to_vec()];
        assert!(knock(Arc::new(node)).is_err());
        let client = knock(door).unwrap();
        assert!(super::super::leaf_of(client.peer_certificates().unwrap()).is_err());
    }

    #[test]
    fn a_fingerprint_is_written_as_openssl_writes_it() {
        let authority = Authority::create().unwrap();
        let shown = Fingerprint::of_pem(authority.certificate_pem()).unwrap().to_string();
        assert!(shown.len() == 95 && shown.split(':').all(|byte| byte.len() == 2), "{shown}");
        assert!(leaf_of_pem(authority.certificate_pem().as_bytes()).is_err());
        assert!(Fingerprint([0xab; 32]).to_string().starts_with("AB:AB:"));
    }
}
