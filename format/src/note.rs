//! The note of a lease: what the owner's index needs to know of an object and what only the owner can read.
//!
//! Every lease carries one, so whoever has the owner secret finds all objects of the owner again without the index, and
//! all stable names by what the owner calls them. Nodes see bytes of one length for objects and of one for names, which
//! tell nothing: each note has a salt that is derived from what it says, and a key of its own.

use std::fmt;

use bytes::Bytes;
use zeroize::Zeroizing;

use crate::{
    Capability, Locator,
    limits::{NAME_BYTES_MAX, TAG_BYTES},
    seal::{self, SALT_BYTES},
};

const BATCH_AT: usize = 32;
const PLACE_AT: usize = BATCH_AT + 16;
const PLAIN_BYTES: usize = PLACE_AT + 1;
/// Bytes of a sealed note: salt, capability, batch, place in it, tag.
pub(crate) const NOTE_BYTES: usize = SALT_BYTES + PLAIN_BYTES + TAG_BYTES;
const WORD_AT: usize = PLAIN_BYTES + 1;
const NAME_PLAIN_BYTES: usize = WORD_AT + NAME_BYTES_MAX;
/// The same of a stable name, with the length of what the owner calls it, and that, filled up with zeros.
pub(crate) const NAME_NOTE_BYTES: usize = SALT_BYTES + NAME_PLAIN_BYTES + TAG_BYTES;

/// What a note says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerNote {
    /// Opens the object.
    pub capability: Capability,
    /// Number of the upload that stored it: a folder and everything in it have one.
    pub batch: [u8; 16],
    /// Whether it is what that upload was asked to store.
    pub place: NotePlace,
    /// Of a stable name, what the owner calls it.
    pub name: Option<String>,
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
#[derive(Clone, PartialEq, Eq)]
pub struct SealedNote(pub(crate) Bytes);

impl OwnerNote {
    /// Seals the note for the lease of this object. `note_key` is [`crate::OwnerSecret::note_key`].
    ///
    /// # Panics
    /// When the name is longer than [`NAME_BYTES_MAX`].
    #[must_use]
    pub fn seal(&self, note_key: &[u8; 32]) -> SealedNote {
        let mut plain = Zeroizing::new(vec![0; if self.name.is_some() { NAME_PLAIN_BYTES } else { PLAIN_BYTES }]);
        plain[..BATCH_AT].copy_from_slice(self.capability.expose());
        plain[BATCH_AT..PLACE_AT].copy_from_slice(&self.batch);
        plain[PLACE_AT] = u8::from(self.place == NotePlace::Inner);
        if let Some(name) = &self.name {
            plain[PLAIN_BYTES] = u8::try_from(name.len()).expect("the caller bounds the name");
            plain[WORD_AT..WORD_AT + name.len()].copy_from_slice(name.as_bytes());
        }
        SealedNote(seal::seal_alone(note_key, &self.capability.locator().0, &plain).into())
    }
}

impl SealedNote {
    /// Opens the note of the lease of the object at `locator`. Returns `None` when it is not this owner's note of this
    /// object, or says what this version does not know.
    #[must_use]
    pub fn open(&self, note_key: &[u8; 32], locator: &Locator) -> Option<OwnerNote> {
        let plain = seal::open_alone(note_key, &locator.0, &self.0).ok()?;
        let capability = Capability::from_bytes(*plain.first_chunk()?);
        let place = match plain[PLACE_AT] {
            0 => NotePlace::Top,
            1 => NotePlace::Inner,
            _ => return None,
        };
        let batch = *plain[BATCH_AT..].first_chunk()?;
        let name = match plain.get(PLAIN_BYTES..)?.split_first() {
            None => None,
            Some((length, word)) => Some(str::from_utf8(word.get(..usize::from(*length))?).ok()?.to_owned()),
        };
        (capability.locator() == *locator).then_some(OwnerNote { capability, batch, place, name })
    }
}

impl fmt::Debug for SealedNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealedNote(..)")
    }
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
        let longest = "x".repeat(NAME_BYTES_MAX);
        for (place, name, bytes) in [
            (NotePlace::Top, None, NOTE_BYTES),
            (NotePlace::Inner, None, NOTE_BYTES),
            (NotePlace::Top, Some("a site".to_owned()), NAME_NOTE_BYTES),
            (NotePlace::Top, Some(longest), NAME_NOTE_BYTES),
        ] {
            let note = OwnerNote { capability: capability.clone(), batch: [4; 16], place, name };
            let sealed = note.seal(&keys[0]);
            assert_eq!(sealed.open(&keys[0], &locator), Some(note));
            assert_eq!(sealed.open(&keys[1], &locator), None);
            assert_eq!(sealed.open(&keys[0], &Locator([6; 32])), None);
            assert_eq!(sealed.0.len(), bytes);
            for at in 0..bytes {
                let mut bad = sealed.0.to_vec();
                bad[at] ^= 1;
                assert_eq!(SealedNote(bad.into()).open(&keys[0], &locator), None, "byte {at}");
            }
            assert!(!sealed.0.windows(32).any(|window| window == [3; 32]));
        }
    }
}
