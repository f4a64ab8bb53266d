//! The copying of all rows, and the look that they arrived.

use futures::TryStreamExt;
use sqlx::{AssertSqlSafe, Error, SqlSafeStr, SqlStr};

use super::{
    Mark, MoveError, Moving, Side, Stage,
    held::{Held, within},
    table::{Batch, Column, Row, Sum, TABLES, Table, named},
};
use crate::catalog::sql::Cells;

/// Copies all tables and compares them, in one transaction of each side.
pub(super) async fn copy_all<S: Side, T: Side>(
    source: &mut Held<S>,
    target: &mut Held<T>,
    come: &Mark,
    told: &mut Told<'_>,
) -> Result<Vec<(&'static str, u64)>, MoveError> {
    source.begin(S::READ).await?;
    for table in TABLES {
        told.of += 2 * source.number(&format!("SELECT count(*) FROM {}", table.name)).await?;
    }
    let last = source.number(S::LAST_NUMBER).await?;
    target.begin(T::WRITE).await?;
    let back = within(T::strip(&mut target.on)).await.map_err(|error| target.failed(error))?;
    let derived = T::DERIVED.iter().map(|(name, _)| *name);
    let names: Vec<&str> = TABLES.iter().rev().map(|table| table.name).chain(derived).collect();
    for statement in T::emptied(&names) {
        target.run(&statement).await?;
    }
    within(come.put::<T>(&mut target.on)).await.map_err(|error| target.failed(error))?;
    let mut sums = Vec::with_capacity(TABLES.len());
    for table in TABLES {
        let columns = source.columns(table).await?;
        if columns.is_empty() || columns != target.columns(table).await? {
            return Err(MoveError::Schema { table: table.name });
        }
        let sum = copy(source, target, table, &columns, told).await?;
        sums.push((table, columns, sum));
    }
    source.commit().await?;
    for statement in T::numbered(last) {
        target.run(&statement).await?;
    }
    let counts = T::DERIVED.iter().map(|(_, count)| (*count).to_owned()).filter(|count| !count.is_empty());
    for statement in counts.chain(back) {
        target.run(&statement).await?;
    }
    for (table, columns, sum) in &sums {
        if read_back(target, *table, columns, told).await? != *sum {
            return Err(MoveError::Differs { table: table.name });
        }
    }
    target.commit().await?;
    Ok(sums.into_iter().map(|(table, _, sum)| (table.name, sum.rows)).collect())
}

/// Copies the rows of a table in pages.
async fn copy<S: Side, T: Side>(
    source: &mut Held<S>,
    target: &mut Held<T>,
    table: Table,
    columns: &[Column],
    told: &mut Told<'_>,
) -> Result<Sum, MoveError> {
    let failed = |source| MoveError::Rows { table: table.name, source };
    let (mut sum, mut batch) = (Sum::new(), Batch::default());
    let mut rows = S::stream(&mut source.on, read(table, columns));
    loop {
        let row = within(rows.try_next()).await.map_err(failed)?;
        let is_last = row.is_none();
        let mut is_full = false;
        if let Some(row) = row {
            let row = cells(&row, columns).map_err(failed)?;
            sum.add(&row);
            is_full = batch.push(row);
        }
        if is_full || is_last && !batch.rows.is_empty() {
            within(T::insert(&mut target.on, table.name, columns, &batch.rows)).await.map_err(failed)?;
            told.passed(Stage::Copying, batch.rows.len() as u64);
            batch.clear();
        }
        if is_last {
            return Ok(sum);
        }
    }
}

/// Reads what was written.
async fn read_back<T: Side>(
    target: &mut Held<T>,
    table: Table,
    columns: &[Column],
    told: &mut Told<'_>,
) -> Result<Sum, MoveError> {
    const TOLD_EVERY: u64 = 1_000;
    let failed = |source| MoveError::Rows { table: table.name, source };
    let mut sum = Sum::new();
    let mut rows = T::stream(&mut target.on, read(table, columns));
    while let Some(row) = within(rows.try_next()).await.map_err(failed)? {
        sum.add(&cells(&row, columns).map_err(failed)?);
        if sum.rows.is_multiple_of(TOLD_EVERY) {
            told.passed(Stage::Comparing, TOLD_EVERY);
        }
    }
    told.passed(Stage::Comparing, sum.rows % TOLD_EVERY);
    Ok(sum)
}

/// Returns the statement that reads a table in order.
fn read(table: Table, columns: &[Column]) -> SqlStr {
    AssertSqlSafe(format!("SELECT {} FROM {} ORDER BY {}", named(columns), table.name, table.key)).into_sql_str()
}

fn cells<R: Cells>(row: &R, columns: &[Column]) -> Result<Row, Error> {
    columns.iter().enumerate().map(|(at, column)| column.kind.read(row, at)).collect()
}

/// Whoever hears how far a move is.
pub(super) struct Told<'t> {
    pub(super) tell: &'t mut (dyn FnMut(Moving) + Send),
    pub(super) rows: u64,
    pub(super) of: u64,
}

impl Told<'_> {
    fn passed(&mut self, stage: Stage, rows: u64) {
        self.rows += rows;
        self.is_at(stage);
    }

    pub(super) fn is_at(&mut self, stage: Stage) {
        (self.tell)(Moving { stage, rows: self.rows, of: self.of });
    }
}
