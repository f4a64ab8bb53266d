//! What one frame of the index holds: the entries that were written together.
//!
//! ```text
//!  0  1  kind: 1 = uploads
//!  1     for each entry: its length as u32, little endian, and the entry in CBOR (`entry.rs`)
//! ```
//!
//! Entries of one write share a frame, so a crash leaves all of them or none: only the last frame of an index can be
//! torn. Each entry is decoded before it is written, because an entry that does not come back would make the whole
//! index unreadable.

use format::cbor::CborError;
use zeroize::Zeroizing;

use super::{
    IndexError,
    entry::{ENTRY_BYTES_MAX, Entry},
};

const KIND_UPLOADS: u8 = 1;
/// Largest content of a frame, in bytes: some 800 entries of the usual 300 bytes. A write of more entries makes several
/// frames, one after the other.
pub(super) const CONTENT_BYTES_MAX: usize = 256 * 1024;
const _: () = assert!(1 + 4 + ENTRY_BYTES_MAX <= CONTENT_BYTES_MAX);

/// The content of one frame.
pub(super) struct Content {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// How many entries it has.
    pub(super) entries: usize,
}

/// Packs entries into contents of frames, in their order.
///
/// # Errors
/// [`IndexError::Unfit`] for the first entry that would not come back as it is.
pub(super) fn pack<'e>(entries: impl IntoIterator<Item = &'e Entry>) -> Result<Vec<Content>, IndexError> {
    let texts: Vec<Zeroizing<Vec<u8>>> = entries.into_iter().map(encode).collect::<Result<_, _>>()?;
    let mut contents = Vec::new();
    let mut rest = &texts[..];
    while !rest.is_empty() {
        let mut bytes = 1;
        let fits = |text: &&Zeroizing<Vec<u8>>| {
            bytes += 4 + text.len();
            bytes <= CONTENT_BYTES_MAX
        };
        let (together, after) = rest.split_at(rest.iter().take_while(fits).count());
        contents.push(Content { bytes: join(together), entries: together.len() });
        rest = after;
    }
    Ok(contents)
}

fn join(texts: &[Zeroizing<Vec<u8>>]) -> Zeroizing<Vec<u8>> {
    // Of its final size at once: a vector that grows leaves its bytes in freed memory.
    let bytes = 1 + texts.iter().map(|text| 4 + text.len()).sum::<usize>();
    let mut content = Zeroizing::new(Vec::with_capacity(bytes));
    content.push(KIND_UPLOADS);
    for text in texts {
        let length = u32::try_from(text.len()).expect("an entry was decoded, so it is within its bound");
        content.extend_from_slice(&length.to_le_bytes());
        content.extend_from_slice(text);
    }
    content
}

/// Reads the entries of a frame's content.
///
/// # Errors
/// [`CborError`] when this program does not know what the content holds.
pub(super) fn unpack(content: &[u8]) -> Result<Vec<Entry>, CborError> {
    let Some((&KIND_UPLOADS, mut rest)) = content.split_first() else {
        return Err(CborError::Shape { expected: "a frame of uploads" });
    };
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let cut = CborError::Cut { at: content.len() - rest.len() };
        let (length, after) = rest.split_first_chunk().ok_or(cut.clone())?;
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let (text, after) = after.split_at_checked(length).ok_or(cut)?;
        entries.push(Entry::decode(text)?);
        rest = after;
    }
    Ok(entries)
}

fn encode(entry: &Entry) -> Result<Zeroizing<Vec<u8>>, IndexError> {
    let text = Zeroizing::new(entry.encode());
    let unfit = |source| IndexError::Unfit { name: entry.path.chars().take(300).collect(), source };
    match Entry::decode(&text) {
        Ok(same) if same == *entry => Ok(text),
        Ok(_) => Err(unfit(CborError::Shape { expected: "an entry that comes back as it was written" })),
        Err(source) => Err(unfit(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_program_does_not_know_is_said() {
        assert_eq!(unpack(&[KIND_UPLOADS]), Ok(vec![]));
        assert_eq!(unpack(&[]), Err(CborError::Shape { expected: "a frame of uploads" }));
        assert_eq!(unpack(&[2, 0, 0]), Err(CborError::Shape { expected: "a frame of uploads" }));
        assert_eq!(unpack(&[KIND_UPLOADS, 1, 0, 0]), Err(CborError::Cut { at: 1 }));
        assert_eq!(unpack(&[KIND_UPLOADS, 2, 0, 0, 0, 0xa0]), Err(CborError::Cut { at: 1 }));
        assert_eq!(unpack(&[KIND_UPLOADS, 1, 0, 0, 0, 0xa0]), Err(CborError::Missing { key: 1 }));
    }
}
