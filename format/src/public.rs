//! The public manifest P: what nodes may know of an object. Its hash is the object's id; it anchors every strip.
//!
//! It is small, whatever the object's size: what differs from stripe to stripe lies in the rows.

use bytes::Bytes;

use crate::{
    ObjectId, OwnerId, Profile, Redundancy, Root, StripeIndex, Suite,
    cbor::{CborError, Fields, FieldsWriter},
    limits::{PUBLIC_MANIFEST_BYTES_MAX, STRIP_BYTES_MAX, STRIP_HEADER_BYTES, STRIPES_MAX, TAG_BYTES},
    row::{Row, row_bytes},
    wire::FORMAT_VERSION,
};

/// Keys of the CBOR map; `docs/format.md` section 4.
mod key {
    pub(super) const VERSION: u64 = 0;
    pub(super) const SUITE: u64 = 1;
    pub(super) const OWNER: u64 = 2;
    pub(super) const STRIPES: u64 = 3;
    pub(super) const DATA: u64 = 4;
    pub(super) const PARITY: u64 = 5;
    pub(super) const TAIL_COLUMNS: u64 = 6;
    pub(super) const BODY_BYTES: u64 = 7;
    pub(super) const TAIL_BYTES: u64 = 8;
    pub(super) const ROOT: u64 = 9;
    pub(super) const NAME: u64 = 10;
}

/// How an object's shards are laid out; absent for inline objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) redundancy: Redundancy,
    /// At least one.
    pub(crate) stripes: u64,
    /// Data columns that the last stripe fills.
    pub(crate) tail_columns: usize,
    /// Bytes of a column's strips in all stripes but the last.
    pub(crate) body_bytes: u64,
    /// Bytes of each strip of the last stripe.
    pub(crate) tail_bytes: u64,
    pub(crate) root: Root,
}

/// The public manifest with its encoded bytes. Only the encoded bytes are hashed and sent.
#[derive(Debug, Clone)]
pub struct PublicManifest {
    encoded: Bytes,
    id: ObjectId,
    suite: Suite,
    owner: OwnerId,
    layout: Option<Layout>,
    is_name: bool,
    /// Columns that a lease wants; see [`Self::under`].
    wanted: Option<Redundancy>,
}

impl PublicManifest {
    pub(crate) fn new(suite: Suite, owner: OwnerId, layout: Option<Layout>) -> Self {
        Self::assemble(encode(suite, owner, layout.as_ref()).into(), suite, owner, layout, false)
    }

    /// Makes the public manifest of an owner's stable names: all that nodes learn of a name is whose it is.
    pub(crate) fn of_name(owner: OwnerId) -> Self {
        let suite = Suite::ChaCha20Poly1305;
        let encoded = head(suite, owner).uint(key::STRIPES, 0u8).uint(key::NAME, 1u8).finish();
        Self::assemble(encoded.into(), suite, owner, None, true)
    }

    fn assemble(encoded: Bytes, suite: Suite, owner: OwnerId, layout: Option<Layout>, is_name: bool) -> Self {
        let id = ObjectId(*blake3::hash(&encoded).as_bytes());
        Self { encoded, id, suite, owner, layout, is_name, wanted: layout.map(|layout| layout.redundancy) }
    }

    /// Decodes and checks P. Any key that this version does not know is refused: P says how to read an object, so what
    /// is not understood cannot be left out.
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
        let layout = match fields.uint(key::STRIPES)? {
            0 => None,
            stripes => Some(read_layout(&mut fields, stripes)?),
        };
        let is_name = fields.has(key::NAME);
        if is_name && (fields.uint::<u8>(key::NAME)? != 1 || layout.is_some() || suite != Suite::ChaCha20Poly1305) {
            return Err(CborError::Value { key: key::NAME, expected: "1, beside suite 1 and no stripes" });
        }
        if let Some(key) = fields.unknown().first_key() {
            return Err(CborError::Value { key, expected: "in a public manifest of this version" });
        }
        Ok(Self::assemble(encoded, suite, owner, layout, is_name))
    }

    /// Returns the manifest with as many parity columns as a lease's profile names for the same data columns, when
    /// those are fewer: the others are surplus then. Id, encoded bytes and rows stay what they are. A profile with a
    /// name, or of other data columns, changes nothing, and neither does one without parity: each parity column of a
    /// single data column is a copy of it, and the last of them may be the only good one.
    #[must_use]
    pub fn under(mut self, profile: Profile) -> Self {
        if let (Some(all), Profile::Custom(wanted)) = (&mut self.wanted, profile)
            && wanted.data() == all.data()
            && (1..all.parity()).contains(&wanted.parity())
        {
            *all = wanted;
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

    /// Returns whether this is an owner's stable name, whose sealed part may change with its lease. All else that is
    /// stored stays what it is.
    #[must_use]
    pub fn is_name(&self) -> bool {
        self.is_name
    }

    /// Returns the redundancy, or `None` for an inline object.
    #[must_use]
    pub fn redundancy(&self) -> Option<Redundancy> {
        self.wanted
    }

    /// Returns the number of columns, zero for an inline object.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.wanted.map_or(0, Redundancy::columns)
    }

    /// Returns the number of columns that each row has a place for: all that were stored, whatever a lease wants now.
    #[must_use]
    pub fn row_columns(&self) -> usize {
        self.layout.map_or(0, |layout| layout.redundancy.columns())
    }

    /// Returns the number of stripes, zero for an inline object. Every shard has as many cells.
    #[must_use]
    pub fn stripes(&self) -> u64 {
        self.layout.map_or(0, |layout| layout.stripes)
    }

    /// Returns the data columns that the last stripe fills.
    #[must_use]
    pub fn tail_columns(&self) -> usize {
        self.layout.map_or(0, |layout| layout.tail_columns)
    }

    /// Returns the root of the list of rows; none for an inline object.
    #[must_use]
    pub fn root(&self) -> Option<&Root> {
        self.layout.as_ref().map(|layout| &layout.root)
    }

    /// Returns the number of strips of a column: one for each stripe, or one less if the tail leaves the column empty.
    #[must_use]
    pub fn column_strips(&self, column: usize) -> u64 {
        let Some(layout) = self.layout.filter(|_| column < self.columns()) else { return 0 };
        layout.stripes - u64::from(layout.is_empty_in_tail(column))
    }

    /// Returns whether a row has the shape that the manifest says: a strip in each column, but for those that the tail
    /// leaves empty, and in the last stripe strips of the length of the tail.
    #[must_use]
    pub fn fits(&self, stripe: StripeIndex, row: &Row) -> bool {
        let Some(layout) = self.layout.filter(|layout| stripe.0 < layout.stripes) else { return false };
        let columns = layout.redundancy.columns();
        if stripe.0 + 1 < layout.stripes {
            return row.columns() == columns && row.is_full();
        }
        let has_strip = |column: usize| row.strip(column).is_some() != layout.is_empty_in_tail(column);
        row.columns() == columns && row.strip_bytes() as u64 == layout.tail_bytes && (0..columns).all(has_strip)
    }

    /// Returns the bytes of a whole shard: its strips and its rows. Zero for a column that the object does not have.
    #[must_use]
    pub fn shard_bytes(&self, column: usize) -> u64 {
        let Some(layout) = self.layout.filter(|_| column < self.columns()) else { return 0 };
        let tail = if layout.is_empty_in_tail(column) { 0 } else { layout.tail_bytes };
        layout.body_bytes + tail + layout.stripes * row_bytes(layout.redundancy.columns()) as u64
    }
}

impl Layout {
    fn is_empty_in_tail(&self, column: usize) -> bool {
        (self.tail_columns..self.redundancy.data()).contains(&column)
    }
}

fn read_layout(fields: &mut Fields<'_>, stripes: u64) -> Result<Layout, CborError> {
    const STRIP_BYTES_MIN: u64 = (STRIP_HEADER_BYTES + TAG_BYTES + 1) as u64;
    let is_strips =
        |bytes: u64, strips: u64| (strips * STRIP_BYTES_MIN..=strips * STRIP_BYTES_MAX as u64).contains(&bytes);
    let redundancy = Redundancy::new(fields.uint(key::DATA)?, fields.uint(key::PARITY)?)
        .map_err(|_| CborError::Value { key: key::DATA, expected: "a redundancy in bounds" })?;
    if stripes > STRIPES_MAX {
        return Err(CborError::Value { key: key::STRIPES, expected: "a number of stripes in bounds" });
    }
    let layout = Layout {
        redundancy,
        stripes,
        tail_columns: fields.uint(key::TAIL_COLUMNS)?,
        body_bytes: fields.uint(key::BODY_BYTES)?,
        tail_bytes: fields.uint(key::TAIL_BYTES)?,
        root: Root(fields.array32(key::ROOT)?),
    };
    if !(1..=redundancy.data()).contains(&layout.tail_columns) {
        return Err(CborError::Value { key: key::TAIL_COLUMNS, expected: "1 to k columns" });
    }
    if !is_strips(layout.body_bytes, stripes - 1) {
        return Err(CborError::Value { key: key::BODY_BYTES, expected: "as many bytes as its strips can have" });
    }
    if !is_strips(layout.tail_bytes, 1) {
        return Err(CborError::Value { key: key::TAIL_BYTES, expected: "as many bytes as a strip can have" });
    }
    Ok(layout)
}

fn encode(suite: Suite, owner: OwnerId, layout: Option<&Layout>) -> Vec<u8> {
    let to = head(suite, owner).uint(key::STRIPES, layout.map_or(0, |layout| layout.stripes));
    let Some(layout) = layout else { return to.finish() };
    to.uint(key::DATA, layout.redundancy.data() as u64)
        .uint(key::PARITY, layout.redundancy.parity() as u64)
        .uint(key::TAIL_COLUMNS, layout.tail_columns as u64)
        .uint(key::BODY_BYTES, layout.body_bytes)
        .uint(key::TAIL_BYTES, layout.tail_bytes)
        .bytes(key::ROOT, &layout.root.0)
        .finish()
}

fn head(suite: Suite, owner: OwnerId) -> FieldsWriter {
    FieldsWriter::default().uint(key::VERSION, FORMAT_VERSION).uint(key::SUITE, suite.id()).bytes(key::OWNER, &owner.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored_as(redundancy: &str) -> PublicManifest {
        let redundancy = redundancy.parse().unwrap();
        let layout =
            Layout { redundancy, stripes: 1, tail_columns: 1, body_bytes: 0, tail_bytes: 1000, root: Root([7; 32]) };
        let encoded = encode(Suite::ChaCha20Poly1305, OwnerId([1; 32]), Some(&layout));
        PublicManifest::decode(encoded.into()).unwrap()
    }

    #[test]
    fn a_lease_takes_parity_away_but_never_the_last_of_it_and_adds_none() {
        for (stored, profile, columns) in [
            ("1+2", "1+1", 2),
            ("1+2", "1+0", 3),
            ("1+1", "1+0", 2),
            ("1+0", "1+0", 1),
            ("4+2", "4+1", 5),
            ("4+2", "4+2", 6),
            ("4+2", "4+3", 6),
            ("4+2", "3+1", 6),
            ("4+2", "archive", 6),
        ] {
            let public = stored_as(stored);
            let under = public.clone().under(profile.parse().unwrap());
            assert_eq!(under.columns(), columns, "{stored} under {profile}");
            assert_eq!(
                (under.id(), under.row_columns()),
                (public.id(), public.row_columns()),
                "{stored} under {profile}"
            );
        }
    }
}
