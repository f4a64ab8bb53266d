//! The sealed manifest M: what a reader must know about an object. The capability is derived from its bytes, so the
//! name commits to everything in it.

use std::collections::BTreeMap;

use minicbor::Decoder;
use zeroize::Zeroizing;

use crate::{
    Capability, Locator, ObjectId, SealError, Suite,
    cbor::{CborError, Fields, FieldsWriter, Unknown},
    hazmat::Sealer,
    limits::{
        INLINE_BYTES_MAX, MIME_BYTES_MAX, NAME_BYTES_MAX, SEALED_MANIFEST_BYTES_MAX, TAG_BYTES, TAG_NAME_BYTES_MAX,
        TAGS_MAX,
    },
    seal::DataKey,
    wire::FORMAT_VERSION,
};

/// Keys of the CBOR map; `docs/format.md` section 5.
mod key {
    pub(super) const VERSION: u64 = 0;
    pub(super) const SUITE: u64 = 1;
    pub(super) const DATA_KEY: u64 = 2;
    pub(super) const OBJECT_ID: u64 = 3;
    pub(super) const LENGTH: u64 = 4;
    pub(super) const HASH: u64 = 5;
    pub(super) const MIME: u64 = 6;
    pub(super) const NAME: u64 = 7;
    pub(super) const CREATED: u64 = 8;
    pub(super) const KIND: u64 = 9;
    pub(super) const INLINE: u64 = 10;
    pub(super) const RANDOM: u64 = 11;
    pub(super) const TAGS: u64 = 12;
}

/// Manifests are always sealed with suite 1, so that every reader on every machine opens them.
const MANIFEST_SUITE: Suite = Suite::ChaCha20Poly1305;

/// What an object's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A file.
    File,
    /// A directory: the bytes are a [`crate::Directory`].
    Directory,
}

/// The sealed manifest, opened.
#[derive(Debug)]
pub struct SealedManifest {
    /// The suite of the blocks.
    pub suite: Suite,
    /// The key of the blocks.
    pub(crate) data_key: DataKey,
    /// BLAKE3 of the public manifest.
    pub object: ObjectId,
    /// Plaintext bytes.
    pub length: u64,
    /// BLAKE3 of the plaintext.
    pub hash: [u8; 32],
    /// Media type with parameters, as sent in Content-Type.
    pub mime: String,
    /// File name, or empty.
    pub name: String,
    /// Seconds since 1970 when the object was stored, by the owner's clock.
    pub created: u64,
    /// File or directory.
    pub kind: Kind,
    /// The whole plaintext of a small object.
    pub inline: Option<Vec<u8>>,
    /// 32 random bytes, so that equal files of one owner get different names.
    pub random: [u8; 32],
    /// The owner's marks, each with a number. Policies read them.
    pub tags: BTreeMap<String, u32>,
    /// Extensions this version does not know, kept unchanged.
    pub unknown: Unknown,
}

impl SealedManifest {
    /// Encodes M. The bytes hold the key and are wiped after use.
    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut to = FieldsWriter::default()
            .uint(key::VERSION, FORMAT_VERSION)
            .uint(key::SUITE, self.suite.id())
            .bytes(key::DATA_KEY, &self.data_key.0)
            .bytes(key::OBJECT_ID, &self.object.0)
            .uint(key::LENGTH, self.length)
            .bytes(key::HASH, &self.hash)
            .text(key::MIME, &self.mime)
            .text(key::NAME, &self.name)
            .uint(key::CREATED, self.created)
            .uint(key::KIND, u8::from(self.kind == Kind::Directory))
            .bytes(key::RANDOM, &self.random)
            .unknown(&self.unknown);
        if let Some(inline) = &self.inline {
            to = to.bytes(key::INLINE, inline);
        }
        if !self.tags.is_empty() {
            to = to.item(key::TAGS, |to| {
                to.map(self.tags.len() as u64)?;
                // Text keys sort by length first in deterministic CBOR: the head comes before the letters.
                let mut tags: Vec<_> = self.tags.iter().collect();
                tags.sort_by_key(|(tag, _)| (tag.len(), *tag));
                tags.into_iter().try_for_each(|(tag, number)| to.str(tag)?.u32(*number).map(drop))
            });
        }
        Zeroizing::new(to.finish())
    }

    /// Decodes M.
    ///
    /// # Errors
    /// [`CborError`] when it is not deterministic CBOR or breaks a bound of the format.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let mut fields = Fields::read(bytes, SEALED_MANIFEST_BYTES_MAX)?;
        if fields.uint::<u8>(key::VERSION)? != FORMAT_VERSION {
            return Err(CborError::Value { key: key::VERSION, expected: "a version this program knows" });
        }
        let inline = match fields.take(key::INLINE) {
            None => None,
            Some(item) => Some(
                Decoder::new(item)
                    .bytes()
                    .ok()
                    .filter(|inline| inline.len() <= INLINE_BYTES_MAX)
                    .ok_or(CborError::Value { key: key::INLINE, expected: "inline bytes in bounds" })?,
            ),
        };
        Ok(Self {
            suite: Suite::from_id(fields.uint(key::SUITE)?)
                .ok_or(CborError::Value { key: key::SUITE, expected: "a suite this program knows" })?,
            data_key: DataKey(fields.array32(key::DATA_KEY)?),
            object: ObjectId(fields.array32(key::OBJECT_ID)?),
            length: fields.uint(key::LENGTH)?,
            hash: fields.array32(key::HASH)?,
            mime: fields.line(key::MIME, MIME_BYTES_MAX)?.to_owned(),
            name: fields.line(key::NAME, NAME_BYTES_MAX)?.to_owned(),
            created: fields.uint(key::CREATED)?,
            kind: match fields.uint::<u8>(key::KIND)? {
                0 => Kind::File,
                1 => Kind::Directory,
                _ => return Err(CborError::Value { key: key::KIND, expected: "a kind this program knows" }),
            },
            inline: inline.map(<[u8]>::to_vec),
            random: fields.array32(key::RANDOM)?,
            tags: read_tags(&mut fields)?,
            unknown: fields.unknown(),
        })
    }
}

fn read_tags(fields: &mut Fields<'_>) -> Result<BTreeMap<String, u32>, CborError> {
    let Some(item) = fields.take(key::TAGS) else { return Ok(BTreeMap::new()) };
    let wrong = || CborError::Value { key: key::TAGS, expected: "a map of tags in bounds" };
    let mut decoder = Decoder::new(item);
    let count = decoder.map().ok().flatten().filter(|count| (1..=TAGS_MAX as u64).contains(count)).ok_or_else(wrong)?;
    let mut tags = BTreeMap::new();
    for _ in 0..count {
        let tag = decoder.str().ok().filter(|tag| tag.len() <= TAG_NAME_BYTES_MAX && !tag.contains(char::is_control));
        let tag = tag.ok_or_else(wrong)?;
        tags.insert(tag.to_owned(), decoder.u32().map_err(|_| wrong())?);
    }
    Ok(tags)
}

/// What the seal of a record's sealed part is bound to: L ‖ oid.
pub(crate) fn aad(locator: &Locator, object: &ObjectId) -> [u8; 64] {
    let mut aad = [0; 64];
    aad[..32].copy_from_slice(&locator.0);
    aad[32..].copy_from_slice(&object.0);
    aad
}

/// Seals encoded M under its own capability: AEAD(Km, nonce 0, AAD = L ‖ oid). This key seals nothing else.
pub(crate) fn seal(manifest: &[u8], capability: &Capability, object: &ObjectId) -> Vec<u8> {
    let sealer = Sealer::new(MANIFEST_SUITE, &capability.manifest_key());
    let mut sealed = manifest.to_vec();
    let tag = sealer.seal([0; 12], &aad(&capability.locator(), object), &mut sealed);
    sealed.extend_from_slice(&tag);
    sealed
}

/// Opens sealed M into its encoded bytes.
pub(crate) fn open(sealed: &[u8], capability: &Capability, object: &ObjectId) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let sealer = Sealer::new(MANIFEST_SUITE, &capability.manifest_key());
    let mut manifest = Zeroizing::new(vec![0; sealed.len().checked_sub(TAG_BYTES).ok_or(SealError)?]);
    sealer.open([0; 12], &aad(&capability.locator(), object), sealed, &mut manifest)?;
    Ok(manifest)
}
