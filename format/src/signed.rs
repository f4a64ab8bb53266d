//! The one envelope of everything that an owner signs: payload, public keys and both signatures. The signed bytes name
//! a domain (domain separation), so a lease cannot be read as a policy.

use crate::{
    OwnerId, OwnerKeys, OwnerPublic,
    cbor::{CborError, Fields, FieldsWriter},
    owner::SIGNATURE_BYTES,
};

mod key {
    pub(super) const PAYLOAD: u64 = 0;
    pub(super) const OWNER: u64 = 1;
    pub(super) const SIGNATURE: u64 = 2;
}

/// The purpose of a signature. It is part of the signed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// A lease.
    Lease,
    /// A policy manifest.
    Policy,
    /// A purge order to the edges' caches.
    Purge,
}

impl Domain {
    fn name(self) -> &'static str {
        match self {
            Self::Lease => "lease",
            Self::Policy => "policy",
            Self::Purge => "purge",
        }
    }

    /// "evernear 2026 v1 signed " ‖ length of the domain u8 ‖ domain ‖ payload.
    fn frame(self, payload: &[u8]) -> Vec<u8> {
        let name = self.name();
        let length = u8::try_from(name.len()).expect("domain names are short");
        [b"evernear 2026 v1 signed ", &[length][..], name.as_bytes(), payload].concat()
    }
}

/// Why an envelope is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignedError {
    /// The bytes are not an envelope.
    #[error("not a signed envelope")]
    Cbor(#[from] CborError),
    /// The keys are of a suite that this version does not know.
    #[error("the owner's keys are of an unknown suite")]
    Keys,
    /// One of the two signatures does not verify.
    #[error("the owner's signatures do not verify")]
    Signature,
}

/// A payload whose two signatures were verified.
#[derive(Debug, Clone)]
pub struct Signed {
    /// The owner who signed.
    pub owner: OwnerId,
    /// The signed bytes.
    pub payload: Vec<u8>,
}

impl Signed {
    /// Signs a payload and returns the encoded envelope.
    #[must_use]
    pub fn seal(keys: &OwnerKeys, domain: Domain, payload: &[u8]) -> Vec<u8> {
        FieldsWriter::default()
            .bytes(key::PAYLOAD, payload)
            .bytes(key::OWNER, keys.public().as_bytes())
            .bytes(key::SIGNATURE, &keys.sign(&domain.frame(payload)))
            .finish()
    }

    /// Decodes an envelope of at most `max` bytes and verifies both signatures.
    ///
    /// # Errors
    /// [`SignedError`].
    pub fn open(envelope: &[u8], domain: Domain, max: usize) -> Result<Self, SignedError> {
        let (owner, payload, signature) = parts(envelope, max)?;
        if !owner.verify(&domain.frame(payload), signature) {
            return Err(SignedError::Signature);
        }
        Ok(Self { owner: owner.id(), payload: payload.to_vec() })
    }

    /// Decodes an envelope of at most `max` bytes without verifying it: anybody may have made it.
    ///
    /// # Errors
    /// [`SignedError`].
    pub(crate) fn unverified(envelope: &[u8], max: usize) -> Result<Self, SignedError> {
        let (owner, payload, _) = parts(envelope, max)?;
        Ok(Self { owner: owner.id(), payload: payload.to_vec() })
    }
}

/// Returns whose envelope it says it is, the payload and the signature.
fn parts(envelope: &[u8], max: usize) -> Result<(OwnerPublic, &[u8], &[u8]), SignedError> {
    let mut fields = Fields::read(envelope, max)?;
    let payload = fields.bytes(key::PAYLOAD)?;
    let owner = OwnerPublic::from_bytes(fields.bytes(key::OWNER)?).ok_or(SignedError::Keys)?;
    let signature = fields.bytes(key::SIGNATURE)?;
    // A valid envelope has no second spelling.
    if signature.len() != SIGNATURE_BYTES || fields.unknown().first_key().is_some() {
        return Err(SignedError::Signature);
    }
    Ok((owner, payload, signature))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OwnerSecret;

    #[test]
    fn both_signatures_the_domain_and_every_byte_count() {
        let keys = OwnerSecret::from_bytes([7; 32]).keys();
        let envelope = Signed::seal(&keys, Domain::Lease, b"payload");
        let opened = Signed::open(&envelope, Domain::Lease, envelope.len()).unwrap();
        assert_eq!((opened.owner, &opened.payload[..]), (keys.id(), &b"payload"[..]));
        assert_eq!(Signed::open(&envelope, Domain::Policy, 9999).unwrap_err(), SignedError::Signature);
        for at in (0..envelope.len()).step_by(7) {
            let mut bad = envelope.clone();
            bad[at] ^= 1;
            // Another valid key pair is another owner, so a changed key must also fail to verify.
            assert!(Signed::open(&bad, Domain::Lease, 9999).is_err(), "{at}");
        }
    }

    #[test]
    fn keys_derive_from_the_secret_alone() {
        let [a, b] = [1, 1].map(|byte| OwnerSecret::from_bytes([byte; 32]).keys().id());
        assert_eq!(a, b);
        assert_ne!(a, OwnerSecret::from_bytes([2; 32]).keys().id());
    }
}
