//! Objects for tests: deterministic bytes through the real encoder, and a reader with the checks of a real one.

use std::collections::BTreeMap;

use crate::{Encoded, noise::noise};
use bytes::Bytes;
use format::{
    Attributes, BlockIndex, Compression, DecodeError, EncodedStripe, EncoderOptions, Kind, Locator, Object, OwnerId,
    Profile, Sealed, StripeIndex, Suite,
};

/// An encoded object with all its strips.
pub(crate) struct Made {
    pub(crate) sealed: Sealed,
    pub(crate) stripes: Vec<EncodedStripe>,
}

/// Bytes in which every second block compresses.
pub(crate) fn mixed(length: usize) -> Vec<u8> {
    let mut bytes = noise(length);
    for chunk in bytes.chunks_mut(128 * 1024).step_by(2) {
        chunk.fill(b'e');
    }
    bytes
}

pub(crate) fn options(profile: Profile, suite: Suite) -> EncoderOptions {
    EncoderOptions { profile, suite, compression: Compression::Auto, owner: OwnerId([0x0e; 32]) }
}

pub(crate) fn attributes(kind: Kind) -> Attributes {
    Attributes {
        mime: "text/plain".into(),
        name: "made.txt".into(),
        created: 1_795_000_000,
        kind,
        tags: BTreeMap::from([("nft".into(), 7), ("a".into(), 0)]),
    }
}

pub(crate) fn make(bytes: &[u8], options: EncoderOptions, kind: Kind) -> Made {
    make_in_chunks(&[bytes], options, kind)
}

pub(crate) fn make_in_chunks(chunks: &[&[u8]], options: EncoderOptions, kind: Kind) -> Made {
    let Encoded { sealed, stripes } = Encoded::of(chunks, options, [0x5e; 32], attributes(kind), [0x7a; 32]);
    Made { sealed, stripes }
}

impl Made {
    pub(crate) fn open(&self) -> Object {
        let Sealed { capability, locator, public, sealed, .. } = &self.sealed;
        Object::from_manifests(capability, locator, public.clone(), sealed).unwrap()
    }

    pub(crate) fn locator(&self) -> Locator {
        self.sealed.locator
    }

    /// Returns the strips of a stripe that `keep` selects and whose hashes are right: what a reader has after
    /// verifying.
    pub(crate) fn verified(&self, stripe: usize, keep: impl Fn(usize) -> bool) -> Vec<Option<Vec<u8>>> {
        self.stripes[stripe]
            .strips
            .iter()
            .enumerate()
            .map(|(column, strip)| {
                let strip = strip.as_ref().filter(|_| keep(column))?;
                self.stripes[stripe].row.proves(column, Some(strip)).then(|| strip.to_vec())
            })
            .collect()
    }

    /// Reads the whole plaintext from the strips that `keep` selects.
    pub(crate) fn read(&self, keep: impl Fn(usize, usize) -> bool) -> Result<Vec<u8>, DecodeError> {
        let object = self.open();
        if let Some(inline) = object.inline() {
            return Ok(inline.to_vec());
        }
        let geometry = object.geometry().unwrap();
        let mut plain = Vec::new();
        for stripe in 0..self.stripes.len() {
            let mut strips = self.verified(stripe, |column| keep(stripe, column));
            object.recover(StripeIndex(stripe as u64), &self.stripes[stripe].row, &mut strips)?;
            let stripe = StripeIndex(stripe as u64);
            for (column, strip) in strips.iter().flatten().take(geometry.columns(stripe)).enumerate() {
                plain.extend(object.decode(geometry.block(stripe, column), strip)?);
            }
        }
        assert_eq!(*blake3::hash(&plain).as_bytes(), object.manifest().hash);
        Ok(plain)
    }

    pub(crate) fn blocks(&self) -> impl Iterator<Item = BlockIndex> {
        (0..self.open().geometry().map_or(0, format::Geometry::blocks)).map(BlockIndex)
    }

    /// Returns BLAKE3 over everything stored or sent. The golden vectors pin it.
    pub(crate) fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.sealed.public.encoded()).update(&self.sealed.sealed).update(self.sealed.capability.expose());
        for stripe in &self.stripes {
            hasher.update(stripe.row.as_bytes());
            for strip in &stripe.strips {
                hasher.update(strip.as_ref().map_or(&[][..], Bytes::as_ref));
            }
        }
        hasher.finalize().to_string()
    }
}
