//! The secret that the edges of one zone share. It seals what they leave with the origins for each other, and session
//! tickets, so that any edge resumes a session that another began; and owners' links are signed with what is derived
//! from it. At the root, since doors, policies and ACME use it.
//!
//! Symmetric on purpose: what is sealed today stays sealed from who can break public keys tomorrow.

use std::path::Path;

use aws_lc_rs::hmac;
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use client::{KeyFileError, read_key_file};
use data_encoding::HEXLOWER;
use format::OwnerId;
use zeroize::Zeroizing;

/// Hex digits of the file.
const DIGITS: usize = 64;
/// Random, 192 bits: no two are alike however much is sealed.
const NONCE_BYTES: usize = 24;

/// Why the file of the secret cannot be used; the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read, or everybody can.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// It is something else.
    #[error(
        "it must hold 64 lower-case hex digits, the same at every edge of the zone; `openssl rand -hex 32` makes some"
    )]
    Digits,
}

/// The secret.
pub(crate) struct ZoneSecret(Zeroizing<[u8; 32]>);

/// A key derived from it, for one purpose.
pub(crate) struct SealKey(Zeroizing<[u8; 32]>);

/// What an owner signs links with. The edges of a zone derive it from their secret, so it is kept nowhere.
pub struct LinkKey(Zeroizing<[u8; 32]>);

impl LinkKey {
    pub(crate) fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Reads 64 lower-case hex digits; space around them does not count. None for anything else.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; 32]);
        let digits = text.trim().as_bytes();
        (digits.len() == 64).then(|| HEXLOWER.decode_mut(digits, &mut *bytes).ok())??;
        Some(Self(bytes))
    }

    /// Writes 64 lower-case hex digits.
    #[must_use]
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(HEXLOWER.encode(&*self.0))
    }

    /// Returns it as what signs.
    pub(crate) fn hmac(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &*self.0)
    }
}

/// Returns what an owner signs links with at the edges of the zone whose secret is in a file.
///
/// # Errors
/// [`SecretError`].
pub fn link_key(secret: &Path, owner: &OwnerId) -> Result<LinkKey, SecretError> {
    Ok(ZoneSecret::read(secret)?.link_key(owner))
}

impl ZoneSecret {
    /// Reads a file of 64 hex digits; space around them does not count.
    ///
    /// # Errors
    /// [`SecretError`].
    pub(crate) fn read(path: &Path) -> Result<Self, SecretError> {
        let text = read_key_file(path)?;
        let mut secret = Zeroizing::new([0; 32]);
        let digits = text.trim_ascii().as_bytes();
        if digits.len() != DIGITS || HEXLOWER.decode_mut(digits, &mut *secret).is_err() {
            return Err(SecretError::Digits);
        }
        Ok(Self(secret))
    }

    #[cfg(test)]
    pub(crate) fn of(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Derives what nobody can tell from chance without the secret. `context` is a constant of the code.
    pub(crate) fn derive(&self, context: &str, of: &[u8]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(&*self.0).update(of);
        *hasher.finalize().as_bytes()
    }

    /// Derives the key of an owner's signed links.
    pub(crate) fn link_key(&self, owner: &OwnerId) -> LinkKey {
        LinkKey::new(self.derive("evernear 2026-11 v1 signed links of an owner", owner.as_bytes()))
    }

    /// Derives a key.
    pub(crate) fn key(&self, context: &str, of: &[u8]) -> SealKey {
        SealKey(Zeroizing::new(self.derive(context, of)))
    }
}

impl SealKey {
    /// Seals: nonce ‖ ciphertext ‖ tag. `bound` must be the same at opening. None without randomness.
    pub(crate) fn seal(&self, bound: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).ok()?;
        let payload = Payload { msg: plain, aad: bound };
        let sealed = self.cipher().encrypt(&XNonce::from(nonce), payload).ok()?;
        Some([&nonce[..], &sealed].concat())
    }

    /// Opens what [`Self::seal`] sealed; none for anything else.
    pub(crate) fn open(&self, bound: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload { msg: sealed, aad: bound };
        self.cipher().decrypt(&XNonce::from(*nonce), payload).ok().map(Zeroizing::new)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.0).into())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn what_is_sealed_opens_under_its_key_and_bond_alone() {
        let secret = ZoneSecret::of([1; 32]);
        let key = secret.key("test", b"a");
        let sealed = key.seal(b"bond", b"plain").unwrap();
        assert_eq!(key.open(b"bond", &sealed).unwrap().as_slice(), b"plain");
        assert!(key.open(b"band", &sealed).is_none());
        assert!(secret.key("test", b"b").open(b"bond", &sealed).is_none());
        for at in 0..sealed.len() {
            let mut wrong = sealed.clone();
            wrong[at] ^= 1;
            assert!(key.open(b"bond", &wrong).is_none(), "{at}");
            assert!(key.open(b"bond", &sealed[..at]).is_none(), "{at}");
        }
    }

    #[test]
    fn a_secret_is_sixty_four_digits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            ZoneSecret::read(&path)
        };
        assert!(read(&format!("{}\n", "0f".repeat(32))).is_ok());
        for wrong in [String::new(), "0f".repeat(31), "0f".repeat(33), "0g".repeat(32), "0F".repeat(32)] {
            assert!(matches!(read(&wrong), Err(SecretError::Digits)), "{wrong}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(ZoneSecret::read(&path), Err(SecretError::File(KeyFileError::Open { .. }))));
    }

    #[test]
    fn keys_of_links_are_sixty_four_digits() {
        assert_eq!(*LinkKey::from_hex(&format!(" {} \n", *LinkKey::new([7; 32]).to_hex())).unwrap().0, [7; 32]);
        assert!(LinkKey::from_hex("07").is_none() && LinkKey::from_hex(&"X".repeat(64)).is_none());
    }
}
