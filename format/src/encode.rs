//! The streaming encoder. Plaintext enters in chunks of any size; strips leave stripe by stripe; the manifests come
//! last.
//!
//! ```text
//! write(bytes)* -> EncodedStripe*        end() -> Ending: EncodedStripe*        Ending::seal() -> Sealed
//! ```
//!
//! Memory: one stripe of plaintext being filled and one stripe of strips being handed out, and 32 bytes for each stripe
//! before, 64 with a derived key. The blocks of a stripe are compressed, sealed and hashed on all cores.

use std::collections::BTreeMap;

use bytes::Bytes;
use rayon::prelude::*;

use crate::{
    Capability, Cell, Compression, Erasure, Geometry, Kind, Locator, OwnerId, Profile, PublicManifest, Redundancy,
    ReedSolomon, Root, Row, RowList, SealedManifest, StripHash, Suite,
    cbor::{CborError, Unknown},
    geometry::StripeIndex,
    hazmat::Sealer,
    limits::{BLOCK_BYTES, INLINE_BYTES_MAX, STRIPES_MAX},
    profile::TOP_TIER_BYTES,
    public::Layout,
    seal::{BlockPosition, DataKey},
    sealed, strip,
};

/// Options for encoding an object.
#[derive(Debug, Clone, Copy)]
pub struct EncoderOptions {
    /// The redundancy for each object size.
    pub profile: Profile,
    /// The AEAD of the blocks.
    pub suite: Suite,
    /// Whether blocks may be compressed.
    pub compression: Compression,
    /// The owner. Only this owner's leases count for the object.
    pub owner: OwnerId,
}

/// What readers learn about an object.
#[derive(Debug, Clone)]
pub struct Attributes {
    /// Media type, at most 255 bytes.
    pub mime: String,
    /// File name, at most 255 bytes, or empty.
    pub name: String,
    /// When the object was created, in seconds since 1970.
    pub created: u64,
    /// File or directory.
    pub kind: Kind,
    /// The owner's marks for policies, at most 64.
    pub tags: BTreeMap<String, u32>,
}

/// Why an object cannot be encoded. The uploader is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The object is longer than its redundancy allows.
    #[error("an object of redundancy {redundancy} holds at most {max} bytes; use more data columns or several objects")]
    TooLarge {
        /// The redundancy.
        redundancy: Redundancy,
        /// Bytes allowed.
        max: u64,
    },
    /// The bytes are not those that the key was derived from: what was read twice changed in between. To go on would
    /// seal other bytes under the same key.
    #[error("the bytes changed since their key was derived from them")]
    Changed,
    /// A name, type or tag is out of bounds.
    #[error("the object's name, type or tags are out of bounds")]
    Attributes(#[from] CborError),
}

/// One encoded stripe, ready to be sent to the nodes.
#[derive(Debug, Clone)]
pub struct EncodedStripe {
    /// The index of the stripe.
    pub index: StripeIndex,
    /// The redundancy of the object, the same for all its stripes.
    pub redundancy: Redundancy,
    /// The hashes of the strips.
    pub row: Row,
    /// For each column its strip; none where the tail leaves a column empty.
    pub strips: Vec<Option<Bytes>>,
}

impl EncodedStripe {
    /// Returns the cells that go to the nodes, in the order of the columns.
    pub fn into_cells(self) -> impl Iterator<Item = Cell> {
        let row = self.row;
        self.strips.into_iter().map(move |strip| Cell { row: row.clone(), strip })
    }
}

/// An object as it will be filed.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// The public manifest.
    pub public: PublicManifest,
    /// The sealed manifest.
    pub sealed: Bytes,
    /// The key that the label carries.
    pub capability: Capability,
    /// The name under which nodes file the record.
    pub locator: Locator,
    /// Plaintext bytes.
    pub length: u64,
    /// The hash of each row.
    pub rows: RowList,
}

/// Cuts plaintext into stripes once the size tier is known. The encoder and the de-duplication fingerprint share it.
pub(crate) struct Splitter {
    profile: Profile,
    redundancy: Option<Redundancy>,
    pending: Vec<u8>,
    /// The memory of a stripe that is done with: fresh memory costs its first writer a page fault each 4 KiB.
    spare: Vec<u8>,
    taken: u64,
}

/// Plaintext of one stripe.
pub(crate) struct PlainStripe {
    pub(crate) index: StripeIndex,
    pub(crate) bytes: Vec<u8>,
    pub(crate) last: bool,
    pub(crate) redundancy: Redundancy,
}

impl Splitter {
    pub(crate) fn new(profile: Profile) -> Self {
        Self { profile, redundancy: None, pending: Vec::new(), spare: Vec::new(), taken: 0 }
    }

    /// Consumes input until a stripe is full and known not to be the last, or until the input is used up.
    pub(crate) fn write(&mut self, input: &mut &[u8]) -> Result<Option<PlainStripe>, EncodeError> {
        loop {
            if let Some(stripe) = self.full_stripe()? {
                return Ok(Some(stripe));
            }
            if input.is_empty() {
                return Ok(None);
            }
            let until = match self.redundancy {
                Some(redundancy) => stripe_bytes(redundancy),
                None => usize::try_from(TOP_TIER_BYTES).expect("4 MiB fit every usize"),
            };
            let take = (until + 1).saturating_sub(self.pending.len()).min(input.len());
            let (head, rest) = input.split_at(take);
            self.pending.extend_from_slice(head);
            *input = rest;
            if self.redundancy.is_none() && self.pending.len() as u64 > TOP_TIER_BYTES {
                self.redundancy = self.profile.redundancy(self.pending.len() as u64);
            }
        }
    }

    /// Takes the memory of a stripe back.
    pub(crate) fn reuse(&mut self, PlainStripe { mut bytes, .. }: PlainStripe) {
        bytes.clear();
        self.spare = bytes;
    }

    /// Takes a full stripe if at least one byte follows it.
    fn full_stripe(&mut self) -> Result<Option<PlainStripe>, EncodeError> {
        match self.redundancy {
            Some(redundancy) if self.pending.len() > stripe_bytes(redundancy) => self.cut(redundancy, false).map(Some),
            _ => Ok(None),
        }
    }

    /// Returns the next stripe after the end of the input, or `None` if all were taken or the object is inline.
    pub(crate) fn drain(&mut self) -> Result<Option<PlainStripe>, EncodeError> {
        if self.redundancy.is_none() {
            self.redundancy = self.profile.redundancy(self.pending.len() as u64);
        }
        match self.redundancy {
            Some(redundancy) if !self.pending.is_empty() => {
                let last = self.pending.len() <= stripe_bytes(redundancy);
                self.cut(redundancy, last).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Returns the bytes that were not cut into stripes: the whole plaintext of an inline object.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.pending)
    }

    fn cut(&mut self, redundancy: Redundancy, last: bool) -> Result<PlainStripe, EncodeError> {
        if self.taken == STRIPES_MAX {
            return Err(EncodeError::TooLarge { redundancy, max: STRIPES_MAX * stripe_bytes(redundancy) as u64 });
        }
        let size = stripe_bytes(redundancy);
        let mut rest = std::mem::take(&mut self.spare);
        if !last {
            rest.reserve_exact((self.pending.len() - size).max(size + 1));
            rest.extend_from_slice(&self.pending[size..]);
        }
        let mut bytes = std::mem::replace(&mut self.pending, rest);
        bytes.truncate(size);
        let index = StripeIndex(self.taken);
        self.taken += 1;
        Ok(PlainStripe { index, bytes, last, redundancy })
    }
}

fn stripe_bytes(redundancy: Redundancy) -> usize {
    redundancy.data() * BLOCK_BYTES
}

impl PlainStripe {
    /// Returns the stripe's blocks with their positions in the whole object.
    pub(crate) fn blocks(&self) -> Vec<(BlockPosition, &[u8])> {
        let here =
            Geometry::new(self.redundancy, self.bytes.len() as u64).expect("a stripe is neither empty nor large");
        let blocks = here.blocks();
        (0..blocks)
            .map(|column| {
                let range = here.range(crate::BlockIndex(column));
                let [start, end] = [range.start, range.end].map(|at| usize::try_from(at).expect("inside a slice"));
                let index = crate::BlockIndex(self.index.0 * self.redundancy.data() as u64 + column);
                (BlockPosition { index, last: self.last && column + 1 == blocks }, &self.bytes[start..end])
            })
            .collect()
    }
}

/// Encodes one object. See the module for the order of calls.
///
/// It comes with the key of this object, which nobody else sees: drawn by [`Self::fresh`], or derived from the bytes by
/// [`crate::Fingerprint`]. So nothing else is ever sealed under it.
pub struct Encoder {
    options: EncoderOptions,
    key: DataKey,
    sealer: Sealer,
    splitter: Splitter,
    code: Option<ReedSolomon>,
    hasher: blake3::Hasher,
    length: u64,
    /// The layout so far, without its root.
    layout: Option<Layout>,
    rows: RowList,
    /// If the key was derived from the bytes, the hashes of those up to the end of each stripe.
    derived_from: Option<Vec<blake3::Hash>>,
}

impl Encoder {
    /// Starts an object under a fresh key. `draw` fills a slice with random bytes, as `getrandom::fill` does.
    ///
    /// # Errors
    /// The one of `draw`.
    pub fn fresh<E>(options: EncoderOptions, draw: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        let mut key = DataKey([0; 32]);
        draw(&mut key.0)?;
        Ok(Self::new(options, key, None))
    }

    pub(crate) fn new(options: EncoderOptions, key: DataKey, derived_from: Option<Vec<blake3::Hash>>) -> Self {
        Self {
            sealer: Sealer::new(options.suite, &key.0),
            splitter: Splitter::new(options.profile),
            options,
            key,
            code: None,
            hasher: blake3::Hasher::new(),
            length: 0,
            layout: None,
            rows: RowList::default(),
            derived_from,
        }
    }

    /// Consumes input until a stripe is ready or the input is used up. Call it again as long as it returns a stripe.
    ///
    /// Costs the CPU work of up to one stripe, for 4 MiB 10 to 18 ms of one core (`bench/results/codec.md`), spread
    /// over all: keep it off the async reactor.
    ///
    /// # Errors
    /// [`EncodeError::TooLarge`], [`EncodeError::Changed`].
    pub fn write(&mut self, input: &mut &[u8]) -> Result<Option<EncodedStripe>, EncodeError> {
        self.splitter.write(input)?.map(|plain| self.encode(plain)).transpose()
    }

    /// Ends the input.
    #[must_use]
    pub fn end(self) -> Ending {
        Ending { encoder: self }
    }

    fn encode(&mut self, plain: PlainStripe) -> Result<EncodedStripe, EncodeError> {
        let redundancy = plain.redundancy;
        let (options, sealer, hasher) = (self.options, &self.sealer, &mut self.hasher);
        let blocks = plain.blocks();
        let ((), mut data) = rayon::join(
            || {
                hasher.update(&plain.bytes);
            },
            || {
                let seal = |(position, block): &(BlockPosition, &[u8])| {
                    strip::seal(block, options.compression, *position, options.suite, sealer)
                };
                blocks.par_iter().map(seal).collect::<Vec<_>>()
            },
        );
        // Before anybody else sees what was sealed.
        self.check(plain.index, plain.last)?;
        let strip_bytes = data.iter().map(Vec::len).max().expect("a stripe has a block");
        data.iter_mut().for_each(|strip| strip.resize(strip_bytes, 0));
        let zeros = vec![0; if data.len() < redundancy.data() { strip_bytes } else { 0 }];
        let mut parity = vec![vec![0; strip_bytes]; redundancy.parity()];
        let columns: Vec<&[u8]> =
            (0..redundancy.data()).map(|c| data.get(c).map_or(&zeros[..], Vec::as_slice)).collect();
        let mut outputs: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
        let code = self.code.get_or_insert_with(|| ReedSolomon::new(redundancy));
        code.encode(&columns, &mut outputs).expect("all columns were made of one length");

        let absent = redundancy.data() - data.len();
        let tail_columns = data.len();
        let present = data.into_iter().map(Some).chain((0..absent).map(|_| None)).chain(parity.into_iter().map(Some));
        let strips: Vec<Option<Bytes>> = present.map(|strip| strip.map(Bytes::from)).collect();
        let hashes: Vec<Option<StripHash>> =
            strips.par_iter().map(|strip| strip.as_deref().map(StripHash::of)).collect();
        let row = Row::new(strip_bytes, &hashes);
        self.note(&plain, tail_columns, &row);
        let index = plain.index;
        self.splitter.reuse(plain);
        Ok(EncodedStripe { index, redundancy, row, strips })
    }

    /// Checks that the bytes up to here, the end of a stripe, are those that the key was derived from. The last block
    /// is sealed as such, so where the object ends counts too.
    fn check(&self, StripeIndex(index): StripeIndex, last: bool) -> Result<(), EncodeError> {
        let Some(expected) = &self.derived_from else { return Ok(()) };
        let here =
            usize::try_from(index).ok().and_then(|at| Some((expected.get(at)?, last == (at + 1 == expected.len()))));
        if here == Some((&self.hasher.finalize(), true)) { Ok(()) } else { Err(EncodeError::Changed) }
    }

    fn note(&mut self, plain: &PlainStripe, tail_columns: usize, row: &Row) {
        self.length += plain.bytes.len() as u64;
        self.rows.push(row.hash());
        let before = self.layout.map_or((0, 0), |layout| (layout.stripes, layout.body_bytes + layout.tail_bytes));
        self.layout = Some(Layout {
            redundancy: plain.redundancy,
            stripes: before.0 + 1,
            tail_columns,
            body_bytes: before.1,
            tail_bytes: row.strip_bytes() as u64,
            root: Root([0; 32]),
        });
    }
}

/// The end of an object: the last stripes, then the manifests.
pub struct Ending {
    encoder: Encoder,
}

impl Ending {
    /// Returns the next of the last stripes, or `None` when all were handed out.
    ///
    /// # Errors
    /// [`EncodeError::TooLarge`], [`EncodeError::Changed`].
    pub fn stripe(&mut self) -> Result<Option<EncodedStripe>, EncodeError> {
        self.encoder.splitter.drain()?.map(|plain| self.encoder.encode(plain)).transpose()
    }

    /// Makes both manifests. `random` is 32 fresh random bytes. Call it after [`Self::stripe`] returned `None`: stripes
    /// not taken by then are encoded and discarded, so their shards would be missing.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub fn seal(mut self, attributes: Attributes, random: [u8; 32]) -> Result<Sealed, EncodeError> {
        while self.stripe()?.is_some() {}
        let mut encoder = self.encoder;
        let inline = if encoder.layout.is_none() {
            let rest = encoder.splitter.rest();
            debug_assert!(rest.len() <= INLINE_BYTES_MAX);
            encoder.hasher.update(&rest);
            encoder.length = rest.len() as u64;
            encoder.check(StripeIndex(0), true)?;
            Some(rest)
        } else {
            None
        };
        let Encoder { options, key, hasher, length, layout, rows, .. } = encoder;
        let layout = layout.map(|layout| Layout { root: rows.root(), ..layout });
        let public = PublicManifest::new(options.suite, options.owner, layout);
        let manifest = SealedManifest {
            suite: options.suite,
            data_key: key,
            object: public.id(),
            length,
            hash: *hasher.finalize().as_bytes(),
            mime: attributes.mime,
            name: attributes.name,
            created: attributes.created,
            kind: attributes.kind,
            inline,
            random,
            tags: attributes.tags,
            unknown: Unknown::default(),
        };
        let encoded = manifest.encode();
        // A manifest that no reader would accept must not be stored, so the bounds are checked by reading it back.
        SealedManifest::decode(&encoded)?;
        let capability = Capability::of_manifest(&encoded);
        let sealed = sealed::seal(&encoded, &capability, &public.id()).into();
        let locator = capability.locator();
        Ok(Sealed { public, sealed, capability, locator, length, rows })
    }
}
