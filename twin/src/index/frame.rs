//! The bytes of the index: a header, then one sealed frame for each write, newest last.
//!
//! ```text
//! head   0   8  magic "evernear"            frame   0   4  length n of what follows the salt
//!        8   1  what the file is: 2 = index         4   4  check of the length
//!        9   1  version: 1                          8  32  salt
//!       10   2  zero                               40   n  content (`content.rs`), sealed with ChaCha20-Poly1305,
//!       12  32  owner id                                   tag last
//! ```
//!
//! Why the nonce may be zero: each frame draws 32 random bytes of salt and is sealed with `keyed_hash(index key,
//! context ‖ salt)`, a key that seals this frame and nothing else. A counter would repeat a nonce after a crash, after
//! a restored backup of the folder, or when two programs write at once; here is none.
//!
//! The AAD (associated data) of a frame is the BLAKE3 hash of all bytes before it, a hash chain. So frames cannot be
//! changed, swapped, dropped from the middle or copied in from another file. Only truncation at the end, or an old copy
//! put back (rollback), leaves a valid, older index.

use format::{OwnerId, Suite, hazmat::Sealer, limits::TAG_BYTES};
use zeroize::Zeroizing;

use super::content::CONTENT_BYTES_MAX;

const MAGIC: &[u8; 8] = b"evernear";
const FILE_INDEX: u8 = 2;
const VERSION_AT: usize = 9;
const VERSION: u8 = 1;
const OWNER_AT: usize = 12;
pub(super) const HEAD_BYTES: usize = OWNER_AT + 32;
const CHECK_AT: usize = 4;
const SALT_AT: usize = CHECK_AT + 4;
const SEALED_AT: usize = SALT_AT + 32;
const SEALED_BYTES_MAX: usize = CONTENT_BYTES_MAX + TAG_BYTES;
const CONTEXT: &[u8] = b"evernear 2026 v1 index frame";

/// What is wrong with the header of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeadFault {
    /// It is no header.
    None,
    /// The file is of a version that this program does not know.
    Version(u8),
    /// It is the index of another owner.
    OtherOwner,
}

/// Makes the header of an owner's index.
pub(super) fn head(owner: &OwnerId) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(MAGIC);
    head[8..=VERSION_AT].copy_from_slice(&[FILE_INDEX, VERSION]);
    head[OWNER_AT..].copy_from_slice(owner.as_bytes());
    head
}

/// Checks the header of an index.
pub(super) fn check_head(bytes: &[u8], owner: &OwnerId) -> Result<(), HeadFault> {
    let good = head(owner);
    match bytes.get(..HEAD_BYTES) {
        Some(found) if found == good => Ok(()),
        Some(found) if found[..VERSION_AT] == good[..VERSION_AT] && found[VERSION_AT] != VERSION => {
            Err(HeadFault::Version(found[VERSION_AT]))
        }
        Some(found) if found[..OWNER_AT] == good[..OWNER_AT] => Err(HeadFault::OtherOwner),
        _ => Err(HeadFault::None),
    }
}

/// The hash of all bytes so far. The next frame is bound to it.
#[derive(Clone)]
pub(super) struct Chain(blake3::Hasher);

impl Chain {
    pub(super) fn new(head: &[u8]) -> Self {
        Self(blake3::Hasher::new_derive_key("evernear 2026 v1 index chain")).then(head)
    }

    pub(super) fn then(mut self, bytes: &[u8]) -> Self {
        self.0.update(bytes);
        self
    }

    fn aad(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

/// Seals the next frame. The content has at most [`CONTENT_BYTES_MAX`] bytes.
pub(super) fn seal(index_key: &[u8; 32], chain: &Chain, salt: [u8; 32], content: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(SEALED_AT + content.len() + TAG_BYTES);
    let length = u32::try_from(content.len() + TAG_BYTES).expect("a content has a bound far below 4 GiB");
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&check(chain, length));
    frame.extend_from_slice(&salt);
    frame.extend_from_slice(content);
    let tag = Sealer::new(Suite::ChaCha20Poly1305, &frame_key(index_key, &salt)).seal(
        [0; 12],
        &chain.aad(),
        &mut frame[SEALED_AT..],
    );
    frame.extend_from_slice(&tag);
    frame
}

/// What the unread rest of an index begins with.
pub(super) enum Front {
    /// The content of a complete frame, and the frame's length in bytes. This owner wrote it.
    Frame(Zeroizing<Vec<u8>>, usize),
    /// A torn write: the last frame, of which a crash left only a part, or garbage, on the disk. It was never
    /// acknowledged.
    Torn,
    /// A frame that does not open although other bytes follow it.
    Damaged,
}

/// Opens the first frame of `rest`, which is not empty.
pub(super) fn open(index_key: &[u8; 32], chain: &Chain, rest: &[u8]) -> Front {
    let Some(sealed_bytes) = length(chain, rest) else {
        // A crash may leave a file that has grown, but whose bytes were not written: then zeros stand where the frame
        // should be.
        let nothing_follows = rest.iter().skip(SALT_AT).all(|byte| *byte == 0);
        return if nothing_follows { Front::Torn } else { Front::Damaged };
    };
    let frame_bytes = SEALED_AT + sealed_bytes;
    match rest.get(..frame_bytes).and_then(|frame| open_whole(index_key, chain, frame)) {
        Some(content) => Front::Frame(content, frame_bytes),
        None if frame_bytes >= rest.len() => Front::Torn,
        None => Front::Damaged,
    }
}

/// Reads the length of the sealed part. Returns `None` when the length is cut off, changed or out of bounds.
fn length(chain: &Chain, rest: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(*rest.first_chunk()?);
    let bounded = usize::try_from(length).ok().filter(|length| (TAG_BYTES..=SEALED_BYTES_MAX).contains(length));
    bounded.filter(|_| rest.get(CHECK_AT..SALT_AT) == Some(&check(chain, length)))
}

fn open_whole(index_key: &[u8; 32], chain: &Chain, frame: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let salt: &[u8; 32] = frame[SALT_AT..].first_chunk()?;
    let sealed = &frame[SEALED_AT..];
    let mut content = Zeroizing::new(vec![0; sealed.len() - TAG_BYTES]);
    let sealer = Sealer::new(Suite::ChaCha20Poly1305, &frame_key(index_key, salt));
    sealer.open([0; 12], &chain.aad(), sealed, &mut content).ok()?;
    Some(content)
}

fn check(chain: &Chain, length: u32) -> [u8; 4] {
    let hash = *chain.clone().then(&length.to_le_bytes()).0.finalize().as_bytes();
    *hash.first_chunk().expect("a hash is longer than the check")
}

fn frame_key(index_key: &[u8; 32], salt: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    let mut hasher = blake3::Hasher::new_keyed(index_key);
    hasher.update(CONTEXT).update(salt);
    Zeroizing::new(*hasher.finalize().as_bytes())
}
