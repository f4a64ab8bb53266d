//! What is held of the records that a group of writes is about, by one statement for all.

use std::collections::HashMap;

use format::{Locator, ObjectId, OwnerId};

use super::{
    Arg, Cells, Driver, Session,
    group::Write,
    id, number,
    session::Single,
    wide::{Wide, each},
};
use crate::catalog::{CatalogError, rule::Held};

const TABLE: &str = "records";

/// One row for each that is held just so. Of a record also its manifests are compared, and it is alive.
static KNOWN: Wide = Wide::new(|count| {
    let asked = each(count, |at| {
        let [number, locator, lease, object, sealed, dead] = [1, 2, 3, 4, 5, 6].map(|column| 6 * at + column);
        format!("(${number}, ${locator}, ${lease}, ${object}, ${sealed}, ${dead})")
    });
    format!(
        "WITH asked (number, locator, lease, object, sealed, dead) AS (VALUES {asked})
         SELECT a.number FROM asked a JOIN records r ON r.locator = a.locator
         WHERE r.lease = a.lease AND (a.dead OR r.erased_at IS NULL)
           AND (a.object IS NULL OR (r.object = a.object AND r.sealed = a.sealed))"
    )
});

/// Returns of which writes nothing is news. A lease is held by a record that is as alive as it says; where the columns
/// lie is not looked at, because nobody signs it.
pub(super) async fn known<D: Driver>(read: &mut Single<D>, writes: &[&Write]) -> Result<Vec<bool>, CatalogError> {
    let (statement, width) = KNOWN.of(writes.len());
    let mut known = vec![false; writes.len()];
    let asked: Vec<_> = writes.iter().map(|write| Asked::of(write)).collect();
    let mut args = Vec::with_capacity(6 * width);
    for place in 0..width {
        // What fills it up is asked twice.
        let at = place.min(asked.len().saturating_sub(1));
        let Some(Asked { locator, lease, object, sealed, is_dead }) = asked.get(at) else { return Ok(known) };
        let object = object.as_ref().map(|object| &object.0[..]);
        let number = i64::try_from(at).unwrap_or(i64::MAX);
        args.extend([
            number.into(),
            (&locator.0).into(),
            (*lease).into(),
            Arg::Bytes(object),
            Arg::Bytes(*sealed),
            (*is_dead).into(),
        ]);
    }
    for row in read.all(statement, &args).await? {
        let at: usize = number(row.number(0)?, TABLE)?;
        *known.get_mut(at).ok_or(CatalogError::Damaged { table: TABLE })? = true;
    }
    Ok(known)
}

struct Asked<'w> {
    locator: Locator,
    lease: &'w [u8],
    /// Of a record.
    object: Option<ObjectId>,
    sealed: Option<&'w [u8]>,
    /// Whether a record that has died counts.
    is_dead: bool,
}

impl<'w> Asked<'w> {
    fn of(write: &'w Write) -> Self {
        match write {
            Write::Record(record) => Self {
                locator: record.locator(),
                lease: &record.lease_envelope,
                object: Some(record.public.id()),
                sealed: record.sealed.as_deref(),
                is_dead: false,
            },
            Write::Lease(lease, envelope) => {
                Self { locator: lease.locator, lease: envelope, object: None, sealed: None, is_dead: lease.erased }
            }
        }
    }
}

static HELD: Wide = Wide::new(|count| {
    format!(
        "SELECT unixepoch(), locator, object, owner, lease_version, lease, keep_until, erased_at, sealed, filed_at,
             CAST(CASE WHEN placement <> '[]' THEN 1 ELSE 0 END AS BIGINT)
         FROM (SELECT 1) AS one LEFT JOIN records ON locator IN ({})",
        each(count, |at| format!("${}", at + 1))
    )
});

/// Reads what is held under several locators, and the database's clock, seconds since 1970.
pub(super) async fn held<D: Driver>(
    write: &mut Session<D>,
    locators: &[Locator],
) -> Result<(HashMap<Locator, Held>, u64), CatalogError> {
    let (statement, width) = HELD.of(locators.len());
    let last = locators.last().copied().unwrap_or(Locator([0; 32]));
    let args: Vec<Arg<'_>> = (0..width).map(|at| (&locators.get(at).unwrap_or(&last).0).into()).collect();
    let (mut found, mut now) = (HashMap::new(), 0);
    for row in write.all(statement, &args).await? {
        now = number(row.number(0)?, "clock")?;
        let Some(locator) = row.maybe_bytes(1)? else { continue };
        let held = Held {
            object: ObjectId(id(row.bytes(2)?, TABLE)?),
            owner: OwnerId(id(row.bytes(3)?, TABLE)?),
            version: number(row.number(4)?, TABLE)?,
            envelope: row.bytes(5)?.to_vec(),
            keep_until: number(row.number(6)?, TABLE)?,
            erased: row.maybe_number(7)?.is_some(),
            sealed: row.maybe_bytes(8)?.map(<[u8]>::to_vec),
            filed_at: number(row.number(9)?, TABLE)?,
            has_columns: row.number(10)? != 0,
        };
        found.insert(Locator(id(locator, TABLE)?), held);
    }
    Ok((found, now))
}
