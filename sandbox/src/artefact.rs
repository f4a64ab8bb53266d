//! Compiled policies (artefacts), and their form on this machine's own disk.
//!
//! Machine code can do everything this process can. So an [`Artefact`] comes only from our own compiler, or from bytes
//! that a keyed MAC proves to be ours. The caller uses a key that never leaves the machine.
//!
//! Sealed layout: MAC 32 B | BLAKE3 of the wasm 32 B | machine code.

use crate::admit::Admitted;

const MAC_BYTES: usize = 32;
const HASH_BYTES: usize = 32;
/// The context of this key derivation: it separates this use of a key from all others.
const CONTEXT: &str = "evernear 2026 v1 compiled policy";

/// Machine code of one component, made by this installation.
#[derive(Debug, Clone)]
pub struct Artefact {
    wasm_hash: blake3::Hash,
    code: Vec<u8>,
}

/// Why stored bytes are not an artefact of this machine. Delete them and compile again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ArtefactError {
    /// The bytes are cut off.
    #[error("stored artefact has only {bytes} bytes; delete it and compile again")]
    Short {
        /// Bytes found.
        bytes: usize,
    },
    /// The bytes changed on disk, or were sealed under another key.
    #[error("stored artefact was not sealed with this machine's key; delete it and compile again")]
    Mac,
}

impl Artefact {
    pub(crate) fn new(admitted: &Admitted<'_>, code: Vec<u8>) -> Self {
        Self { wasm_hash: blake3::hash(admitted.wasm()), code }
    }

    pub(crate) fn code(&self) -> &[u8] {
        &self.code
    }

    pub(crate) fn is_of(&self, admitted: &Admitted<'_>) -> bool {
        self.wasm_hash == blake3::hash(admitted.wasm())
    }

    /// Seals the artefact for the disk under a key of this machine.
    #[must_use]
    pub fn seal(&self, key: &[u8; 32]) -> Vec<u8> {
        let mut sealed = vec![0; MAC_BYTES];
        sealed.extend_from_slice(self.wasm_hash.as_bytes());
        sealed.extend_from_slice(&self.code);
        let mac = mac(key, &sealed[MAC_BYTES..]);
        sealed[..MAC_BYTES].copy_from_slice(mac.as_bytes());
        sealed
    }

    /// Opens the output of [`Artefact::seal`].
    ///
    /// # Errors
    /// [`ArtefactError`] if a single bit differs or the key is another.
    pub fn open(key: &[u8; 32], sealed: &[u8]) -> Result<Self, ArtefactError> {
        let short = ArtefactError::Short { bytes: sealed.len() };
        let (tag, content) = sealed.split_first_chunk::<MAC_BYTES>().ok_or(short)?;
        let (wasm_hash, code) = content.split_first_chunk::<HASH_BYTES>().ok_or(short)?;
        // blake3::Hash compares in constant time.
        if mac(key, content) != blake3::Hash::from_bytes(*tag) {
            return Err(ArtefactError::Mac);
        }
        Ok(Self { wasm_hash: blake3::Hash::from_bytes(*wasm_hash), code: code.to_vec() })
    }
}

fn mac(key: &[u8; 32], content: &[u8]) -> blake3::Hash {
    blake3::keyed_hash(&blake3::derive_key(CONTEXT, key), content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_what_this_key_sealed() {
        let artefact = Artefact { wasm_hash: blake3::hash(b"wasm"), code: b"code".to_vec() };
        let sealed = artefact.seal(&[1; 32]);
        assert_eq!(Artefact::open(&[1; 32], &sealed).map(|opened| opened.code), Ok(b"code".to_vec()));
        assert_eq!(Artefact::open(&[2; 32], &sealed).err(), Some(ArtefactError::Mac));
        for at in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1;
            assert_eq!(Artefact::open(&[1; 32], &flipped).err(), Some(ArtefactError::Mac), "byte {at}");
            let cut = Artefact::open(&[1; 32], &sealed[..at]);
            assert!(cut.is_err(), "cut at {at}");
        }
    }
}
