//! The list of node certificates that the cluster refuses, in force before they end: a certificate revocation list
//! (CRL, RFC 5280 section 5), signed by the authority alone.
//!
//! Its number only grows. Whoever holds a list takes none of the same or a lower number, so an old list that somebody
//! replays changes nothing, and a thief of a node's key can make none.

use std::{collections::HashSet, fmt};

use aws_lc_rs::signature::{ML_DSA_65, UnparsedPublicKey};
use bytes::Bytes;
use format::limits::REFUSED_BYTES_MAX;
use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, pem::PemObject};
use time::{Duration, OffsetDateTime};
use x509_parser::{certificate::X509Certificate, prelude::FromDer, revocation_list::CertificateRevocationList};

use crate::tls::{Authority, TlsError};

/// When the next list is due, which every list must say (RFC 5280 section 5.1.2.5). Nobody waits for it: a list counts
/// until a newer one comes, since a cluster whose operator is away must go on.
const NEXT_UPDATE: Duration = Duration::days(20 * 365);

/// The serial number of a certificate, unique within its authority: a hash of the key in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(Box<[u8]>);

impl Serial {
    /// Takes the bytes of the DER integer, whose sign byte does not count.
    pub(crate) fn new(der: &[u8]) -> Self {
        let zeros = der.iter().take_while(|byte| **byte == 0).count();
        Self(der[zeros..].into())
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why a list is not taken. Its sender is at fault.
#[derive(Debug, thiserror::Error)]
pub enum RefusedListError {
    /// It is longer than any list.
    #[error("a list of refused certificates has at most {REFUSED_BYTES_MAX} bytes, this one {found}")]
    Large {
        /// Its bytes.
        found: usize,
    },
    /// It is no list.
    #[error("this is no certificate revocation list with a number")]
    Malformed,
    /// Somebody else than the authority made it.
    #[error("the authority of the cluster did not sign the list of refused certificates")]
    Signature,
}

/// A verified list.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RefusedList {
    der: Bytes,
    number: u64,
    serials: HashSet<Serial>,
}

impl RefusedList {
    /// Reads a list and verifies that `authority` signed it. Costs one verification of ML-DSA-65, some 0.1 ms.
    ///
    /// # Errors
    /// [`RefusedListError`].
    pub fn open(der: Bytes, authority: &CertificateDer<'_>) -> Result<Self, RefusedListError> {
        if der.len() > REFUSED_BYTES_MAX {
            return Err(RefusedListError::Large { found: der.len() });
        }
        let (rest, list) = CertificateRevocationList::from_der(&der).map_err(|_| RefusedListError::Malformed)?;
        let number = list.crl_number().and_then(|number| u64::try_from(number).ok());
        let number = number.filter(|_| rest.is_empty()).ok_or(RefusedListError::Malformed)?;
        let (_, authority) = X509Certificate::from_der(authority).map_err(|_| RefusedListError::Signature)?;
        let key = UnparsedPublicKey::new(&ML_DSA_65, &authority.public_key().subject_public_key.data);
        key.verify(list.tbs_cert_list.as_ref(), &list.signature_value.data).map_err(|_| RefusedListError::Signature)?;
        let serials = list.iter_revoked_certificates().map(|refused| Serial::new(refused.raw_serial())).collect();
        Ok(Self { number, serials, der })
    }

    /// Returns its number; zero for the list that every node begins with, which refuses nobody.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns it as it was signed; empty for the first.
    #[must_use]
    pub fn der(&self) -> &Bytes {
        &self.der
    }

    /// Returns whether it refuses the certificate with this number.
    #[must_use]
    pub fn contains(&self, serial: &Serial) -> bool {
        self.serials.contains(serial)
    }

    /// Returns what it refuses, in no order.
    pub fn serials(&self) -> impl Iterator<Item = &Serial> {
        self.serials.iter()
    }
}

impl Authority {
    /// Signs the list of this number, in DER. It replaces every list of a lower number, so it has to name all that is
    /// refused and has not ended.
    ///
    /// # Errors
    /// [`TlsError::Make`].
    pub fn refuse<'s>(&self, number: u64, serials: impl Iterator<Item = &'s Serial>) -> Result<Bytes, TlsError> {
        let now = OffsetDateTime::now_utc();
        let refused = |serial: &Serial| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&serial.0),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: now,
            next_update: now + NEXT_UPDATE,
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: serials.map(refused).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(Bytes::copy_from_slice(params.signed_by(self.issuer())?.der()))
    }

    /// Reads a list back that this authority signed.
    ///
    /// # Errors
    /// [`RefusedListError`].
    pub fn open_refused(&self, der: Bytes) -> Result<RefusedList, RefusedListError> {
        let own = CertificateDer::from_pem_slice(self.certificate_pem().as_bytes());
        RefusedList::open(der, &own.map_err(|_| RefusedListError::Signature)?)
    }
}

/// Reads DER or PEM, in which OpenSSL shows a list.
#[must_use]
pub fn refused_from_file(bytes: Vec<u8>) -> Bytes {
    match CertificateRevocationListDer::from_pem_slice(&bytes) {
        Ok(der) => Bytes::copy_from_slice(&der),
        Err(_) => bytes.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serials(count: u8) -> Vec<Serial> {
        (1..=count).map(|n| Serial::new(&[0, 0x80 | n, n])).collect()
    }

    #[test]
    fn a_list_says_what_was_signed_and_only_the_authority_signs() {
        let authority = Authority::create().unwrap();
        for count in [0, 1, 100] {
            let der = authority.refuse(u64::MAX - u64::from(count), serials(count).iter()).unwrap();
            let list = authority.open_refused(der.clone()).unwrap();
            assert_eq!((list.number(), list.serials().count()), (u64::MAX - u64::from(count), usize::from(count)));
            assert!(serials(count).iter().all(|serial| list.contains(serial)) && list.der() == &der);
            assert!(!list.contains(&Serial::new(&[9, 9])));
            let other = Authority::create().unwrap();
            assert!(matches!(other.open_refused(der), Err(RefusedListError::Signature)));
        }
    }

    #[test]
    fn a_flip_of_any_byte_is_noticed() {
        let authority = Authority::create().unwrap();
        let der = authority.refuse(7, serials(2).iter()).unwrap();
        for at in 0..der.len() {
            let mut bytes = der.to_vec();
            bytes[at] ^= 1;
            let read = authority.open_refused(bytes.into());
            // What is not under the signature may be spelled otherwise; it says the same.
            assert!(read.is_err() || read.is_ok_and(|list| list.number() == 7 && list.serials().count() == 2), "{at}");
        }
        for bad in
            [&b""[..], b"\x30\x00", &[&der[..], b"x"].concat(), &der[..der.len() - 1], &vec![0; REFUSED_BYTES_MAX + 1]]
        {
            assert!(authority.open_refused(Bytes::copy_from_slice(bad)).is_err());
        }
    }

    #[test]
    fn six_thousand_certificates_fit() {
        let authority = Authority::create().unwrap();
        let many: Vec<_> = (0..6000_u32)
            .map(|n| Serial::new(&[[7; 16], n.to_be_bytes().repeat(4).try_into().unwrap()].concat()[12..]))
            .collect();
        let list = authority.open_refused(authority.refuse(1, many.iter()).unwrap()).unwrap();
        assert_eq!(list.serials().count(), 6000);
    }
}
