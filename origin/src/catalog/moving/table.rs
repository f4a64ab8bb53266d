//! The tables of a catalog, their rows as they go from one engine to another, and the sum that shows that all arrived.
//!
//! Keeps true: both engines give the rows of a table in the same order, by its key. Texts in keys sort by their bytes.

use sqlx::Error;

use crate::catalog::sql::Cells;

/// Rows that are written at once, and bytes after which no more are taken in.
const BATCH_ROWS: usize = 1_000;
const BATCH_BYTES: usize = 1024 * 1024;

/// A table that is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: &'static str,
    /// Its key, by which its rows are sorted.
    pub(super) key: &'static str,
}

const fn table(name: &'static str, key: &'static str) -> Table {
    Table { name, key }
}

/// All that is moved, in this order: what a row refers to comes before it. A test compares with the migrations.
pub(super) const TABLES: [Table; 13] = [
    table("blobs", "blob"),
    table("policies", "owner, name"),
    table("policy_blobs", "owner, name, blob"),
    table("records", "locator"),
    table("shards", "node, object, shard_column"),
    table("dead_objects", "object"),
    table("repairs", "object"),
    table("tickets", "node, object, shard_column"),
    table("works", "name"),
    table("nodes", "name"),
    table("notes", "note"),
    table("refused", "one"),
    table("changes", "sequence"),
];

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::catalog) enum Kind {
    Number,
    Text,
    Bytes,
}

impl Kind {
    /// Reads the type of a column as an engine calls it.
    pub(super) fn of(name: &str) -> Option<Self> {
        match name {
            "INTEGER" | "bigint" => Some(Self::Number),
            "TEXT" | "text" => Some(Self::Text),
            "BLOB" | "bytea" => Some(Self::Bytes),
            _ => None,
        }
    }

    /// Reads a cell of a row.
    pub(super) fn read<R: Cells>(self, row: &R, at: usize) -> Result<Cell, Error> {
        Ok(match self {
            Self::Number => Cell::Number(row.maybe_number(at)?),
            Self::Text => Cell::Text(row.maybe_text(at)?.map(str::to_owned)),
            Self::Bytes => Cell::Bytes(row.maybe_bytes(at)?.map(<[u8]>::to_vec)),
        })
    }
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::catalog) struct Column {
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// Names columns in a statement.
pub(super) fn named(columns: &[Column]) -> String {
    columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// A value on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::catalog) enum Cell {
    Number(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

impl Cell {
    /// Returns its content; none where there is nothing.
    fn content(&self) -> Option<&[u8]> {
        match self {
            Self::Number(_) => None,
            Self::Text(text) => text.as_deref().map(str::as_bytes),
            Self::Bytes(bytes) => bytes.as_deref(),
        }
    }
}

/// The cells of a row, in the order of its columns.
pub(in crate::catalog) type Row = Vec<Cell>;

/// Rows that are written together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) rows: Vec<Row>,
    bytes: usize,
}

impl Batch {
    /// Takes a row, and returns whether the batch is full.
    pub(super) fn push(&mut self, row: Row) -> bool {
        self.bytes += row.iter().map(|cell| cell.content().map_or(8, <[u8]>::len)).sum::<usize>();
        self.rows.push(row);
        self.rows.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.bytes = 0;
    }
}

/// How many rows went by, and a hash of all in their order.
#[derive(Debug, Clone)]
pub(super) struct Sum {
    pub(super) rows: u64,
    hash: blake3::Hasher,
}

impl Sum {
    pub(super) fn new() -> Self {
        Self { rows: 0, hash: blake3::Hasher::new_derive_key("evernear 2026 v1 catalog move") }
    }

    /// Takes a row. Each cell says its kind and its length, so no two lists of rows are written alike.
    pub(super) fn add(&mut self, row: &[Cell]) {
        self.rows += 1;
        for cell in row {
            match cell {
                Cell::Number(None) | Cell::Text(None) | Cell::Bytes(None) => self.hash.update(&[0]),
                Cell::Number(Some(number)) => self.hash.update(&[1]).update(&number.to_be_bytes()),
                Cell::Text(Some(text)) => self.long(2, text.as_bytes()),
                Cell::Bytes(Some(bytes)) => self.long(3, bytes),
            };
        }
    }

    fn long(&mut self, kind: u8, content: &[u8]) -> &mut blake3::Hasher {
        self.hash.update(&[kind]).update(&(content.len() as u64).to_be_bytes()).update(content)
    }
}

impl PartialEq for Sum {
    fn eq(&self, other: &Self) -> bool {
        self.rows == other.rows && self.hash.finalize() == other.hash.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(rows: &[Row]) -> Sum {
        let mut sum = Sum::new();
        rows.iter().for_each(|row| sum.add(row));
        sum
    }

    fn bytes(bytes: &[u8]) -> Cell {
        Cell::Bytes(Some(bytes.to_vec()))
    }

    #[test]
    fn every_cell_and_its_place_counts_in_a_sum() {
        let rows = vec![vec![bytes(b"ab"), Cell::Number(Some(1))], vec![bytes(b""), Cell::Number(None)]];
        assert!(sum(&rows) == sum(&rows.clone()));
        let mut others = vec![rows[..1].to_vec(), vec![rows[1].clone(), rows[0].clone()]];
        for cell in [bytes(b"ac"), Cell::Bytes(None), Cell::Text(Some("ab".to_owned())), bytes(b"a")] {
            others.push(vec![vec![cell, rows[0][1].clone()], rows[1].clone()]);
        }
        others.push(vec![rows[0].clone(), vec![bytes(b""), Cell::Number(Some(0))]]);
        for other in others {
            assert!(sum(&rows) != sum(&other), "{other:?}");
        }
        assert!(sum(&[vec![bytes(b"ab"), bytes(b"c")]]) != sum(&[vec![bytes(b"a"), bytes(b"bc")]]));
    }

    #[test]
    fn a_batch_is_bounded_in_rows_and_in_bytes() {
        let mut batch = Batch::default();
        assert!((1..BATCH_ROWS).all(|_| !batch.push(vec![Cell::Number(Some(1))])));
        assert!(batch.push(vec![Cell::Number(None)]));
        batch.clear();
        assert!(!batch.push(vec![bytes(&vec![0; BATCH_BYTES - 1])]));
        assert!(batch.push(vec![bytes(b"1")]));
    }
}
