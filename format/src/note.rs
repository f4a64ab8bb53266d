//! The note of a lease: what the owner's index needs to know of an object and what only the owner can read.
//!
//! Every lease carries one, so whoever has the owner secret finds all objects of the owner again without the index.
//! Nodes see bytes of one length, which tell nothing: each note has a random salt, and a key of its own.

use std::fmt;

use zeroize::Zeroizing;

use crate::{Capability, Locator, Suite, limits::TAG_BYTES};

const CONTEXT: &[u8] = b"evernear 2026 v1 lease note";
const SALT_BYTES: usize = 32;
const BATCH_AT: usize = 32;
const PLACE_AT: usize = BATCH_AT + 16;
const PLAIN_BYTES: usize = PLACE_AT + 1;
/// Bytes of a sealed note: salt, capability, batch, place in it, tag.
pub(crate) const NOTE_BYTES: usize = SALT_BYTES + PLAIN_BYTES + TAG_BYTES;

/// What a note says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerNote {
    /// Opens the object.
    pub capability: Capability,
    /// Number of the upload that stored it: a folder and everything in it have one.
    pub batch: [u8; 16],
    /// Whether it is what that upload was asked to store.
    pub place: NotePlace,
}

/// The place of an object in its upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotePlace {
    /// The file or folder that was to be stored.
    Top,
    /// Something inside that folder.
    Inner,
}

/// A sealed note, as a lease carries it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SealedNote(pub(crate) [u8; NOTE_BYTES]);

impl OwnerNote {
    /// Seals the note for the lease of this object. `note_key` is [`crate::OwnerSecret::note_key`], `salt` is 32 fresh
    /// random bytes.
    #[must_use]
    pub fn seal(&self, note_key: &[u8; 32], salt: [u8; 32]) -> SealedNote {
        let mut plain = Zeroizing::new([0; PLAIN_BYTES]);
        plain[..BATCH_AT].copy_from_slice(self.capability.expose());
        plain[BATCH_AT..PLACE_AT].copy_from_slice(&self.batch);
        plain[PLACE_AT] = u8::from(self.place == NotePlace::Inner);
        let locator = self.capability.locator();
        let tag = Suite::ChaCha20Poly1305.sealer(&key(note_key, &salt)).seal([0; 12], &locator.0, &mut plain[..]);
        let mut note = [0; NOTE_BYTES];
        note[..SALT_BYTES].copy_from_slice(&salt);
        note[SALT_BYTES..SALT_BYTES + PLAIN_BYTES].copy_from_slice(&plain[..]);
        note[SALT_BYTES + PLAIN_BYTES..].copy_from_slice(&tag);
        SealedNote(note)
    }
}

impl SealedNote {
    /// Opens the note of the lease of the object at `locator`. Returns `None` when it is not this owner's note of this
    /// object, or says what this version does not know.
    #[must_use]
    pub fn open(&self, note_key: &[u8; 32], locator: &Locator) -> Option<OwnerNote> {
        let (salt, sealed) = self.0.split_first_chunk::<SALT_BYTES>()?;
        let mut plain = Zeroizing::new([0; PLAIN_BYTES]);
        let sealer = Suite::ChaCha20Poly1305.sealer(&key(note_key, salt));
        sealer.open([0; 12], &locator.0, sealed, &mut plain[..]).ok()?;
        let capability = Capability::from_bytes(*plain.first_chunk()?);
        let place = match plain[PLACE_AT] {
            0 => NotePlace::Top,
            1 => NotePlace::Inner,
            _ => return None,
        };
        let batch = *plain[BATCH_AT..].first_chunk()?;
        (capability.locator() == *locator).then_some(OwnerNote { capability, batch, place })
    }
}

impl fmt::Debug for SealedNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealedNote(..)")
    }
}

fn key(note_key: &[u8; 32], salt: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    let mut hasher = blake3::Hasher::new_keyed(note_key);
    hasher.update(CONTEXT).update(salt);
    Zeroizing::new(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OwnerSecret;

    #[test]
    fn only_the_owner_reads_a_note_and_only_of_its_object() {
        let keys = [1, 2].map(|owner| OwnerSecret::from_bytes([owner; 32]).note_key());
        let capability = Capability::from_bytes([3; 32]);
        let locator = capability.locator();
        for place in [NotePlace::Top, NotePlace::Inner] {
            let note = OwnerNote { capability: capability.clone(), batch: [4; 16], place };
            let sealed = note.seal(&keys[0], [5; 32]);
            assert_eq!(sealed.open(&keys[0], &locator), Some(note));
            assert_eq!(sealed.open(&keys[1], &locator), None);
            assert_eq!(sealed.open(&keys[0], &Locator([6; 32])), None);
            for at in 0..NOTE_BYTES {
                let mut bad = sealed;
                bad.0[at] ^= 1;
                assert_eq!(bad.open(&keys[0], &locator), None, "byte {at}");
            }
            assert!(!sealed.0.windows(32).any(|window| window == [3; 32]));
        }
    }
}
