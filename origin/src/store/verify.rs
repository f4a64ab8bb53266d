//! Whether a shard still is what its object's public manifest says: strips under their rows, rows under the list, list
//! under the root, root in P.
//!
//! Goes in steps, so that whoever looks at terabytes can rest in between and go on after a restart. Where only what
//! lies beside the cells is damaged, it is mended: the list is rebuilt from the cells, P taken from a copy of the
//! record.

use client::{Bug, planted};
use format::{Cell, ObjectId, PublicManifest, Row, row_bytes};

use super::{
    ShardId, Store, StoreError,
    cells::CellList,
    draft::Scrap,
    entry::Body,
    held::{Beside, Held},
    intact,
};

/// What is wrong with a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Harm {
    /// The public manifest is missing or not that of the object.
    #[error("the public manifest is missing or damaged")]
    Public,
    /// The list of row hashes is missing or not under the root.
    #[error("the list of row hashes is missing or damaged")]
    List,
    /// The list says that a cell ends elsewhere than it does.
    #[error("the list has a wrong place for cell {cell}")]
    End {
        /// The cell.
        cell: u64,
    },
    /// What surrounds the shard in its pack cannot be read, so the shard would not be found again without an index.
    #[error("the entry around the shard is damaged")]
    Entry,
    /// The cells are not as many bytes as the manifest says.
    #[error("the cells are {found} bytes where the manifest says {expected}")]
    Length {
        /// Bytes in the manifest.
        expected: u64,
        /// Bytes on the disk.
        found: u64,
    },
    /// A strip does not hash to what its row says, or the row to what the list says, or the disk cannot read them.
    #[error("strip {strip} is damaged")]
    Strip {
        /// The first such strip of the step.
        strip: u64,
    },
}

impl Harm {
    /// Returns whether [`Store::mend_shard`] may help: the strips themselves were not found damaged.
    #[must_use]
    pub fn is_beside_strips(&self) -> bool {
        matches!(self, Self::Public | Self::List | Self::End { .. } | Self::Entry)
    }
}

/// How far a look at a shard came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// All cells before `next` are intact, the others were not looked at.
    More {
        /// Where to go on.
        next: u64,
    },
    /// All strips are.
    Intact,
    /// The shard is damaged.
    Damaged(Harm),
}

/// One step of a look at a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// Bytes of cells that were read and hashed.
    pub bytes: u64,
    /// What they said.
    pub found: Found,
}

impl Store {
    /// Hashes the cells of a shard from `from_strip` on, until `budget_bytes` are used up (one cell at least) or the
    /// shard ends. The first step of a shard also checks its list against the root; later ones take the list for
    /// checked.
    ///
    /// # Errors
    /// [`StoreError::NoShard`]; [`StoreError::Io`] and [`StoreError::Bucket`] when the disk or the object store cannot
    /// say, which is no word about the shard.
    pub fn verify_shard(
        &self,
        object: &ObjectId,
        column: usize,
        from_strip: u64,
        budget_bytes: u64,
    ) -> Result<Checked, StoreError> {
        let damaged = |harm| Ok(Checked { bytes: 0, found: Found::Damaged(harm) });
        let mut held = self.held(object, column)?.ok_or(StoreError::NoShard { object: *object, column })?;
        let Some(public) = intact(held.public(object))? else { return damaged(Harm::Public) };
        if column >= public.row_columns() {
            return damaged(Harm::Public);
        }
        let (expected, found) = (public.shard_bytes(column), held.cells_bytes);
        if found != expected {
            return damaged(Harm::Length { expected, found });
        }
        // Its root is looked at in the first step only: a list may be 40 MiB, and a shard thousands of steps.
        let is_ours = |list: &CellList| from_strip > 0 || public.root() == Some(&list.rows().root());
        let Some(list) = intact(held.list(&public))?.filter(is_ours) else { return damaged(Harm::List) };
        // What was noted may be of another shard than is here now.
        let from_strip = if from_strip < list.len() { from_strip } else { 0 };
        if from_strip == 0 && !held.has_marks()? {
            return damaged(Harm::Entry);
        }
        if planted(Bug::Scrub) {
            return Ok(Checked { bytes: found, found: Found::Intact });
        }
        let Some(start) = list.range(0..from_strip).map(|before| before.end) else { return damaged(Harm::List) };
        let until = start.saturating_add(budget_bytes);
        let (mut strip, mut at) = (from_strip, start);
        while strip < list.len() && (at < until || strip == from_strip) {
            let cell = read_cell(&mut held, &public, column, at, until)?.filter(|cell| cell.is_intact(column));
            let Some(cell) = cell.filter(|cell| Some(cell.row.hash()) == list.row(strip)) else {
                return Ok(Checked { bytes: at - start, found: Found::Damaged(Harm::Strip { strip }) });
            };
            at += cell.size() as u64;
            strip += 1;
            if list.range(0..strip).map(|cells| cells.end) != Some(at) {
                return damaged(Harm::End { cell: strip - 1 });
            }
        }
        let found = if strip < list.len() { Found::More { next: strip } } else { Found::Intact };
        Ok(Checked { bytes: at - start, found })
    }

    /// Writes all that lies beside the cells of a shard anew, when they still hash to the root in the object's P.
    /// Returns whether the shard is whole then; an object is never mended, repair brings it back. Costs one read of all
    /// its cells, and when P itself is lost, a look at the copies of records.
    ///
    /// # Errors
    /// [`StoreError::NoShard`], [`StoreError::Io`].
    pub fn mend_shard(&self, object: &ObjectId, column: usize) -> Result<bool, StoreError> {
        let mut held = self.held(object, column)?.ok_or(StoreError::NoShard { object: *object, column })?;
        if matches!(held.beside(), Beside::Object(_)) {
            return Ok(false);
        }
        let public = match intact(held.public(object))? {
            None => self.public_in_records(object)?,
            held => held,
        };
        let Some(public) = public else { return Ok(false) };
        if column >= public.row_columns() || held.cells_bytes != public.shard_bytes(column) {
            return Ok(false);
        }
        let mut list = CellList::default();
        while list.len() < public.stripes() {
            let cell = read_cell(&mut held, &public, column, list.cells_bytes(), 0)?;
            let Some(cell) = cell.filter(|cell| cell.is_intact(column)) else { return Ok(false) };
            list.push(&cell);
        }
        if public.root() != Some(&list.rows().root()) || list.cells_bytes() != held.cells_bytes {
            return Ok(false);
        }
        self.write_beside(&mut held, &ShardId { object: *object, column }, &public, &list)?;
        Ok(true)
    }

    /// Writes list and P beside cells that were hashed, unless the shard is no longer where it was.
    fn write_beside(
        &self,
        held: &mut Held,
        shard: &ShardId,
        public: &PublicManifest,
        list: &CellList,
    ) -> Result<(), StoreError> {
        let ShardId { object, column } = *shard;
        let gone = StoreError::NoShard { object, column };
        let list = list.encode();
        let _guard = self.guard(&object.0);
        match held.beside() {
            Beside::Files { public: public_path, list: list_path } => {
                if !held.path.exists() {
                    return Err(gone);
                }
                let scrap =
                    |kind: &str, bytes: &[u8]| Scrap::write(self, &format!("mend-{object}.{column}.{kind}"), bytes);
                scrap("list", &list)?.rename(list_path)?;
                scrap("public", public.encoded())?.rename(public_path)?;
                self.sync_folder(&self.shard_folder(&object));
                Ok(())
            }
            Beside::Pack(_, place) => {
                if self.packs.index().find(shard).is_none_or(|(_, found)| found != *place) {
                    return Err(gone);
                }
                let place = *place;
                let cells_bytes = usize::try_from(held.cells_bytes).expect("a packed shard is small");
                let cells = held.cells(0, cells_bytes, 0)?;
                let body = Body { public: public.encoded(), list: &list, cells: &cells };
                if !body.is_whole(shard) {
                    return Err(held.damaged());
                }
                self.pack_shard(shard, place.written, &body)
            }
            // It was written as one, and is there as one or not at all.
            Beside::Object(_) => Err(held.damaged()),
        }
    }
}

/// Reads the cell that begins at `at`; none when it cannot be read or is no cell. What lies behind it up to `until` is
/// going to be read too.
fn read_cell(
    held: &mut Held,
    public: &PublicManifest,
    column: usize,
    at: u64,
    until: u64,
) -> Result<Option<Cell>, StoreError> {
    let columns = public.row_columns();
    // A sector that cannot be read is damage of this shard; any other error is trouble of the whole machine.
    let Some(mut row) = intact(held.cells(at, row_bytes(columns), until).map(Some))? else { return Ok(None) };
    let Ok(row) = Row::take(&mut row, columns) else { return Ok(None) };
    if row.strip(column).is_none() {
        return Ok(Some(Cell { row, strip: None }));
    }
    let strip = held.cells(at + row_bytes(columns) as u64, row.strip_bytes(), until).map(Some);
    Ok(intact(strip)?.map(|strip| Cell { row, strip: Some(strip) }))
}
