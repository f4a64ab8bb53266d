//! What a journal of an upload says, frame by frame.
//!
//! ```text
//! journal = header ‖ frame*           frame = length u32 ‖ nonce 12 ‖ sealed CBOR
//!
//! at  bytes  header (integers little endian)
//!   0     8  magic "evernear"
//!   8     1  what the file is: 3 = an upload that did not end
//!   9     1  version: 1
//!  10     2  zero
//!  12    32  owner id
//!  44    16  batch
//! ```
//!
//! A frame is sealed with ChaCha20-Poly1305 under a key of this owner and batch alone. The header and the frame's
//! number are authenticated with it, so frames cannot change places. Its nonce is random: a journal goes on after a
//! frame that a crash cut short, whose number is used again.

use bytes::Bytes;
use client::Session;
use format::{
    Locator, OwnerId, Retention, RowHash, Suite,
    cbor::{CborError, Fields, FieldsWriter},
    hazmat::Sealer,
    limits::{NODE_NAME_BYTES_MAX, PUBLIC_MANIFEST_BYTES_MAX, TAG_BYTES},
};
use zeroize::Zeroizing;

use super::stamp::{STAMP_BYTES, Stamp};
use crate::index::{Batch, PATH_BYTES_MAX};

const MAGIC: &[u8; 8] = b"evernear";
const FILE_UNFINISHED: u8 = 3;
const VERSION: u8 = 1;
const OWNER_AT: usize = 12;
const BATCH_AT: usize = OWNER_AT + 32;
pub(super) const HEAD_BYTES: usize = BATCH_AT + 16;
const NONCE_AT: usize = 4;
const SEALED_AT: usize = NONCE_AT + 12;
/// Largest frame: a path, and numbers.
const FRAME_BYTES_MAX: usize = 8 * 1024;
const _: () = assert!(PATH_BYTES_MAX + PUBLIC_MANIFEST_BYTES_MAX + 1024 < FRAME_BYTES_MAX);
/// Longest name that a node gives an upload; the transport lets no longer one through.
const UPLOAD_BYTES_MAX: usize = 64;
const CONTEXT: &[u8] = b"evernear 2026 v1 unfinished upload";

/// Keys of the CBOR maps.
mod key {
    pub(super) const KIND: u64 = 0;
    pub(super) const PART: u64 = 1;
    pub(super) const PATH: u64 = 2;
    pub(super) const STAMP: u64 = 3;
    pub(super) const SECRETS: u64 = 4;
    pub(super) const TIME: u64 = 5;
    pub(super) const COLUMN: u64 = 6;
    pub(super) const NODE: u64 = 7;
    pub(super) const UPLOAD: u64 = 8;
    pub(super) const HASH: u64 = 9;
    pub(super) const PUBLIC: u64 = 10;
    pub(super) const KEEP_UNTIL: u64 = 11;
    pub(super) const EXPIRES: u64 = 12;
    pub(super) const ASKED: u64 = 13;
}

/// The random numbers of one object. With the same ones, the same bytes become the same cells.
#[derive(Clone)]
pub(super) struct Secrets {
    /// The data key, unless it comes from the bytes.
    pub(super) key: Zeroizing<[u8; 32]>,
    /// What makes the manifest unlike any other.
    pub(super) random: [u8; 32],
    /// What draws the nodes.
    pub(super) seed: [u8; 32],
}

impl Secrets {
    pub(super) fn draw() -> Result<Self, getrandom::Error> {
        let mut all = Zeroizing::new([0; 96]);
        getrandom::fill(&mut *all)?;
        Ok(Self::read(&all))
    }

    fn read(all: &[u8; 96]) -> Self {
        let part = |at: usize| all[at..at + 32].try_into().expect("32 bytes of 96");
        Self { key: Zeroizing::new(part(0)), random: part(32), seed: part(64) }
    }

    fn expose(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new([&self.key[..], &self.random, &self.seed].concat())
    }
}

/// One thing that happened.
#[derive(Clone)]
pub(super) enum Frame {
    /// The upload of a path began, with these options and times, which its owner wrote in these words. The first frame
    /// of a journal, and no other.
    Begun { path: String, options: [u8; 32], retention: Retention, asked: [u8; 32], time: u64 },
    /// A file of it is stored under these secrets. Parts count from zero.
    Part { inner: String, stamp: Stamp, secrets: Secrets, created: u64 },
    /// A column of a part has a session.
    Session { part: u64, column: usize, session: Session },
    /// The next stripe of a part, of this row, is about to be sent.
    Row { part: u64, hash: RowHash },
    /// Nodes are about to be asked to commit a part.
    Public { part: u64, public: Bytes },
    /// A file or folder is stored, or is about to be: the index knows whether it is.
    Done { inner: String, stamp: Stamp, locator: Locator },
}

impl Frame {
    fn encode(&self) -> Vec<u8> {
        let new = |kind: u8| FieldsWriter::default().uint(key::KIND, kind);
        match self {
            Self::Begun { path, options, retention, asked, time } => new(0)
                .text(key::PATH, path)
                .uint(key::TIME, *time)
                .bytes(key::HASH, options)
                .uint(key::KEEP_UNTIL, retention.keep_until)
                .uint(key::EXPIRES, retention.expires)
                .bytes(key::ASKED, asked)
                .finish(),
            Self::Part { inner, stamp, secrets, created } => new(1)
                .text(key::PATH, inner)
                .bytes(key::STAMP, &stamp.encode())
                .bytes(key::SECRETS, &secrets.expose())
                .uint(key::TIME, *created)
                .finish(),
            Self::Session { part, column, session } => new(2)
                .uint(key::PART, *part)
                .uint(key::COLUMN, *column as u64)
                .text(key::NODE, session.node.as_str())
                .text(key::UPLOAD, &session.upload)
                .finish(),
            Self::Row { part, hash } => new(3).uint(key::PART, *part).bytes(key::HASH, &hash.0).finish(),
            Self::Public { part, public } => new(4).uint(key::PART, *part).bytes(key::PUBLIC, public).finish(),
            Self::Done { inner, stamp, locator } => new(5)
                .text(key::PATH, inner)
                .bytes(key::STAMP, &stamp.encode())
                .bytes(key::HASH, locator.as_bytes())
                .finish(),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let mut fields = Fields::read(bytes, FRAME_BYTES_MAX)?;
        let sized = |key, expected| CborError::Value { key, expected };
        let path = |fields: &mut Fields<'_>| fields.text(key::PATH, PATH_BYTES_MAX).map(str::to_owned);
        let stamp = |fields: &mut Fields<'_>| {
            let bytes: &[u8; STAMP_BYTES] =
                fields.bytes(key::STAMP)?.try_into().map_err(|_| sized(key::STAMP, "a stamp"))?;
            Ok::<_, CborError>(Stamp::decode(bytes))
        };
        Ok(match fields.uint::<u8>(key::KIND)? {
            0 => Self::Begun {
                path: path(&mut fields)?,
                time: fields.uint(key::TIME)?,
                options: fields.array32(key::HASH)?,
                retention: Retention { keep_until: fields.uint(key::KEEP_UNTIL)?, expires: fields.uint(key::EXPIRES)? },
                asked: fields.array32(key::ASKED)?,
            },
            1 => Self::Part {
                inner: path(&mut fields)?,
                stamp: stamp(&mut fields)?,
                secrets: {
                    let all = fields.bytes(key::SECRETS)?.try_into();
                    Secrets::read(all.map_err(|_| sized(key::SECRETS, "96 bytes"))?)
                },
                created: fields.uint(key::TIME)?,
            },
            2 => Self::Session {
                part: fields.uint(key::PART)?,
                column: fields.uint(key::COLUMN)?,
                session: Session {
                    node: {
                        let name = fields.text(key::NODE, NODE_NAME_BYTES_MAX)?.parse();
                        name.map_err(|_| sized(key::NODE, "a node's name"))?
                    },
                    upload: fields.text(key::UPLOAD, UPLOAD_BYTES_MAX)?.to_owned(),
                },
            },
            3 => Self::Row { part: fields.uint(key::PART)?, hash: RowHash(fields.array32(key::HASH)?) },
            4 => Self::Public {
                part: fields.uint(key::PART)?,
                public: Bytes::copy_from_slice(fields.bytes(key::PUBLIC)?),
            },
            5 => Self::Done {
                inner: path(&mut fields)?,
                stamp: stamp(&mut fields)?,
                locator: Locator(fields.array32(key::HASH)?),
            },
            _ => return Err(sized(key::KIND, "a kind of frame")),
        })
    }
}

/// The header of a journal, and what seals its frames.
#[derive(Clone)]
pub(super) struct Seals {
    head: [u8; HEAD_BYTES],
    key: Zeroizing<[u8; 32]>,
}

impl Seals {
    pub(super) fn new(index_key: &[u8; 32], owner: &OwnerId, batch: Batch) -> Self {
        let mut head = [0; HEAD_BYTES];
        head[..8].copy_from_slice(MAGIC);
        head[8..10].copy_from_slice(&[FILE_UNFINISHED, VERSION]);
        head[OWNER_AT..BATCH_AT].copy_from_slice(owner.as_bytes());
        head[BATCH_AT..].copy_from_slice(&batch.0);
        let mut hasher = blake3::Hasher::new_keyed(index_key);
        hasher.update(CONTEXT).update(&batch.0);
        Self { head, key: Zeroizing::new(*hasher.finalize().as_bytes()) }
    }

    pub(super) fn head(&self) -> &[u8; HEAD_BYTES] {
        &self.head
    }

    pub(super) fn seal(&self, number: u64, frame: &Frame) -> Result<Vec<u8>, getrandom::Error> {
        let mut nonce = [0; 12];
        getrandom::fill(&mut nonce)?;
        let text = Zeroizing::new(frame.encode());
        let length = u32::try_from(text.len() + TAG_BYTES).expect("a frame has a few KiB");
        let mut sealed = [&length.to_le_bytes()[..], &nonce, &text].concat();
        let sealer = Sealer::new(Suite::ChaCha20Poly1305, &self.key);
        let tag = sealer.seal(nonce, &self.aad(number), &mut sealed[SEALED_AT..]);
        sealed.extend_from_slice(&tag);
        Ok(sealed)
    }

    /// Opens the first frame of `rest` and returns it with its length in bytes; none when it does not open.
    pub(super) fn open(&self, number: u64, rest: &[u8]) -> Option<(Frame, usize)> {
        let sealed_bytes = usize::try_from(u32::from_le_bytes(*rest.first_chunk()?)).ok()?;
        if !(TAG_BYTES..=FRAME_BYTES_MAX).contains(&sealed_bytes) {
            return None;
        }
        let nonce = *rest.get(NONCE_AT..)?.first_chunk()?;
        let sealed = rest.get(SEALED_AT..SEALED_AT + sealed_bytes)?;
        let mut text = Zeroizing::new(vec![0; sealed_bytes - TAG_BYTES]);
        let sealer = Sealer::new(Suite::ChaCha20Poly1305, &self.key);
        sealer.open(nonce, &self.aad(number), sealed, &mut text).ok()?;
        Some((Frame::decode(&text).ok()?, SEALED_AT + sealed_bytes))
    }

    fn aad(&self, number: u64) -> Vec<u8> {
        [&self.head[..], &number.to_le_bytes()].concat()
    }
}

/// Returns how many bytes at the end of a journal may be a frame that was not written whole.
pub(super) const TORN_BYTES_MAX: usize = SEALED_AT + FRAME_BYTES_MAX;
