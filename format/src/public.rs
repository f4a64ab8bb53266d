//! The public manifest P: what nodes may know about an object. Its hash is the object's id, and it contains the root of
//! every shard.

use bytes::Bytes;

use crate::{
    ObjectId, OwnerId, Profile, Redundancy, Root, Suite,
    cbor::{CborError, Fields, FieldsWriter, Unknown},
    geometry::StripeIndex,
    limits::{PUBLIC_MANIFEST_BYTES_MAX, STRIP_BYTES_MAX, STRIP_HEADER_BYTES, STRIPES_MAX, TAG_BYTES},
    wire::FORMAT_VERSION,
};

/// Keys of the CBOR map; `docs/format.md` section 4.
mod key {
    pub(super) const VERSION: u64 = 0;
    pub(super) const SUITE: u64 = 1;
    pub(super) const DATA: u64 = 2;
    pub(super) const PARITY: u64 = 3;
    pub(super) const STRIPES: u64 = 4;
    pub(super) const TAIL_COLUMNS: u64 = 5;
    pub(super) const STRIP_RUNS: u64 = 6;
    pub(super) const ROOTS: u64 = 7;
    pub(super) const OWNER: u64 = 8;
}

/// A run of consecutive stripes whose strips have one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StripRun {
    /// Stripes in the run, at least one.
    pub stripes: u64,
    /// Bytes of each strip.
    pub strip_bytes: u32,
}

/// The layout of an object's shards; absent for inline objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) redundancy: Redundancy,
    pub(crate) tail_columns: usize,
    pub(crate) runs: Vec<StripRun>,
    pub(crate) roots: Vec<Root>,
}

/// The public manifest with its encoded bytes. Only the encoded bytes are hashed and sent.
#[derive(Debug, Clone)]
pub struct PublicManifest {
    encoded: Bytes,
    id: ObjectId,
    suite: Suite,
    owner: OwnerId,
    layout: Option<Layout>,
    /// For each run: its first stripe, and the bytes of a full column before it.
    starts: Vec<(u64, u64)>,
}

impl PublicManifest {
    pub(crate) fn new(suite: Suite, owner: OwnerId, layout: Option<Layout>) -> Self {
        let encoded = encode(suite, owner, layout.as_ref(), &Unknown::new());
        Self::assemble(encoded.into(), suite, owner, layout)
    }

    fn assemble(encoded: Bytes, suite: Suite, owner: OwnerId, layout: Option<Layout>) -> Self {
        let mut starts = Vec::new();
        let (mut stripe, mut offset) = (0, 0);
        for run in layout.iter().flat_map(|layout| &layout.runs) {
            starts.push((stripe, offset));
            stripe += run.stripes;
            offset += run.stripes * u64::from(run.strip_bytes);
        }
        let id = ObjectId(*blake3::hash(&encoded).as_bytes());
        Self { encoded, id, suite, owner, layout, starts }
    }

    /// Decodes and checks P.
    ///
    /// # Errors
    /// [`CborError`] when it is not deterministic CBOR or breaks a bound of the format.
    pub fn decode(encoded: Bytes) -> Result<Self, CborError> {
        let mut fields = Fields::read(&encoded, PUBLIC_MANIFEST_BYTES_MAX)?;
        if fields.uint::<u8>(key::VERSION)? != FORMAT_VERSION {
            return Err(CborError::Value { key: key::VERSION, expected: "a version this program knows" });
        }
        let suite = Suite::from_id(fields.uint(key::SUITE)?)
            .ok_or(CborError::Value { key: key::SUITE, expected: "a suite this program knows" })?;
        let owner = OwnerId(fields.array32(key::OWNER)?);
        let stripes: u64 = fields.uint(key::STRIPES)?;
        let layout = if stripes == 0 { None } else { Some(read_layout(&mut fields, stripes)?) };
        Ok(Self::assemble(encoded, suite, owner, layout))
    }

    /// Returns the manifest with only as many parity columns as the profile of a lease names. This applies to a custom
    /// profile with the same data columns and fewer parity columns: the columns beyond those are surplus. Every other
    /// profile changes nothing. The id and the encoded bytes stay the same.
    #[must_use]
    pub fn under(mut self, profile: Profile) -> Self {
        if let (Some(layout), Profile::Custom(wanted)) = (&mut self.layout, profile)
            && wanted.data() == layout.redundancy.data()
            && wanted.parity() < layout.redundancy.parity()
        {
            layout.redundancy = wanted;
            layout.roots.truncate(wanted.columns());
        }
        self
    }

    /// Returns the encoded bytes.
    #[must_use]
    pub fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// Returns BLAKE3 of the encoded bytes.
    #[must_use]
    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// Returns the sealing suite of the blocks.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Returns the only owner whose leases count for this object.
    #[must_use]
    pub fn owner(&self) -> OwnerId {
        self.owner
    }

    /// Returns the redundancy, or `None` for an inline object.
    #[must_use]
    pub fn redundancy(&self) -> Option<Redundancy> {
        self.layout.as_ref().map(|layout| layout.redundancy)
    }

    /// Returns the number of columns, zero for an inline object.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.layout.as_ref().map_or(0, |layout| layout.roots.len())
    }

    /// Returns the number of stripes, zero for an inline object.
    #[must_use]
    pub fn stripes(&self) -> u64 {
        self.layout.iter().flat_map(|layout| &layout.runs).map(|run| run.stripes).sum()
    }

    /// Returns the data columns that the last stripe fills.
    #[must_use]
    pub fn tail_columns(&self) -> usize {
        self.layout.as_ref().map_or(0, |layout| layout.tail_columns)
    }

    /// Returns the root of a column's list.
    #[must_use]
    pub fn root(&self, column: usize) -> Option<&Root> {
        self.layout.as_ref()?.roots.get(column)
    }

    /// Returns the length in bytes of each strip of a stripe.
    #[must_use]
    pub fn strip_bytes(&self, stripe: StripeIndex) -> Option<usize> {
        if stripe.0 >= self.stripes() {
            return None;
        }
        let run = self.starts.partition_point(|(first, _)| *first <= stripe.0).checked_sub(1)?;
        usize::try_from(self.layout.as_ref()?.runs.get(run)?.strip_bytes).ok()
    }

    /// Returns the number of strips of a column: one for each stripe, or one less if the tail leaves the column empty.
    #[must_use]
    pub fn column_strips(&self, column: usize) -> u64 {
        let Some(layout) = &self.layout else { return 0 };
        let absent_in_tail = (layout.tail_columns..layout.redundancy.data()).contains(&column);
        if column < layout.roots.len() { self.stripes() - u64::from(absent_in_tail) } else { 0 }
    }

    /// Returns the offset of a stripe's strip in every shard that has it: the sum of the lengths of the strips before
    /// it.
    #[must_use]
    pub fn shard_offset(&self, stripe: StripeIndex) -> u64 {
        let Some(run) = self.starts.partition_point(|(first, _)| *first <= stripe.0).checked_sub(1) else { return 0 };
        let (first, offset) = self.starts[run];
        let strip_bytes = self.layout.as_ref().and_then(|layout| layout.runs.get(run)).map_or(0, |run| run.strip_bytes);
        offset + (stripe.0 - first) * u64::from(strip_bytes)
    }

    /// Returns the bytes of a whole shard.
    #[must_use]
    pub fn shard_bytes(&self, column: usize) -> u64 {
        self.shard_offset(StripeIndex(self.column_strips(column)))
    }
}

fn read_layout(fields: &mut Fields<'_>, stripes: u64) -> Result<Layout, CborError> {
    let redundancy = Redundancy::new(fields.uint(key::DATA)?, fields.uint(key::PARITY)?)
        .map_err(|_| CborError::Value { key: key::DATA, expected: "a redundancy in bounds" })?;
    let tail_columns: usize = fields.uint(key::TAIL_COLUMNS)?;
    if stripes > STRIPES_MAX || !(1..=redundancy.data()).contains(&tail_columns) {
        return Err(CborError::Value { key: key::TAIL_COLUMNS, expected: "a layout in bounds" });
    }
    let roots = fields.bytes(key::ROOTS)?;
    let roots: Vec<Root> = roots.chunks(32).filter_map(|root| root.try_into().ok().map(Root)).collect();
    if roots.len() != redundancy.columns() {
        return Err(CborError::Value { key: key::ROOTS, expected: "one root for each column" });
    }
    let runs = read_runs(fields.take(key::STRIP_RUNS).ok_or(CborError::Missing { key: key::STRIP_RUNS })?, stripes)?;
    Ok(Layout { redundancy, tail_columns, runs, roots })
}

fn read_runs(item: &[u8], stripes: u64) -> Result<Vec<StripRun>, CborError> {
    let wrong = || CborError::Value { key: key::STRIP_RUNS, expected: "runs of strip lengths that sum to the stripes" };
    let mut decoder = minicbor::Decoder::new(item);
    let count = decoder.array().ok().flatten().filter(|count| count.is_multiple_of(2)).ok_or_else(wrong)? / 2;
    let mut runs: Vec<StripRun> = Vec::new();
    let mut total = 0u64;
    for _ in 0..count {
        let run =
            StripRun { stripes: decoder.u64().map_err(|_| wrong())?, strip_bytes: decoder.u32().map_err(|_| wrong())? };
        let shape =
            STRIP_HEADER_BYTES + TAG_BYTES < run.strip_bytes as usize && run.strip_bytes as usize <= STRIP_BYTES_MAX;
        let maximal = runs.last().is_none_or(|last| last.strip_bytes != run.strip_bytes);
        total = total.checked_add(run.stripes).ok_or_else(wrong)?;
        if run.stripes == 0 || !shape || !maximal {
            return Err(wrong());
        }
        runs.push(run);
    }
    if total == stripes { Ok(runs) } else { Err(wrong()) }
}

fn encode(suite: Suite, owner: OwnerId, layout: Option<&Layout>, unknown: &Unknown) -> Vec<u8> {
    let stripes: u64 = layout.iter().flat_map(|layout| &layout.runs).map(|run| run.stripes).sum();
    let mut to = FieldsWriter::default()
        .uint(key::VERSION, FORMAT_VERSION)
        .uint(key::SUITE, suite.id())
        .uint(key::STRIPES, stripes)
        .bytes(key::OWNER, &owner.0)
        .unknown(unknown);
    if let Some(layout) = layout {
        let roots: Vec<u8> = layout.roots.iter().flat_map(|root| root.0).collect();
        to = to
            .uint(key::DATA, layout.redundancy.data() as u64)
            .uint(key::PARITY, layout.redundancy.parity() as u64)
            .uint(key::TAIL_COLUMNS, layout.tail_columns as u64)
            .bytes(key::ROOTS, &roots)
            .item(key::STRIP_RUNS, |to| {
                to.array(layout.runs.len() as u64 * 2)?;
                for run in &layout.runs {
                    to.u64(run.stripes)?.u32(run.strip_bytes)?;
                }
                Ok(())
            });
    }
    to.finish()
}
