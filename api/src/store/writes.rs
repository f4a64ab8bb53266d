//! The one task that writes. It takes what waits into one transaction: a disk makes some hundred of them durable in a
//! second, whatever is in each.

use sqlx::{Connection, Row, Sqlite, SqlitePool, Transaction, query, query_scalar};
use tokio::sync::mpsc;
use twin::Batch;

use super::{
    Fault, Freed, Job, MadeOf, PARTS_MAX, PARTS_OF_DAG_MAX, PINS_MAX, RESUMABLES_MAX, Resumable, StoreError, Write,
    share,
};
use crate::{
    lived::Lived,
    refusal::causes,
    session::{KEYS_MAX, SESSIONS_MAX},
    token::{Maker, TokenId},
};

/// Writes of one transaction.
const GROUP_MAX: usize = 256;
/// The audit log keeps its newest million lines; every so many lines the older ones go.
const TRIM_EVERY: i64 = 10_000;

/// What the end of a statement on `resumables` returns: whose it was, and its bytes where they counted.
macro_rules! counted {
    () => {
        concat!(
            " RETURNING token, CASE WHEN locator IS NULL AND (concat IS NULL OR concat = 'partial') THEN ",
            length_counted!(),
            " ELSE 0 END AS counted"
        )
    };
}

/// Writes until nobody has work any more.
pub(super) async fn run(pool: SqlitePool, mut jobs: mpsc::Receiver<Job>) {
    let mut group = Vec::with_capacity(GROUP_MAX);
    while jobs.recv_many(&mut group, GROUP_MAX).await > 0 {
        let (writes, tell): (Vec<_>, Vec<_>) = group.drain(..).unzip();
        let results = match write_all(&pool, &writes).await {
            Ok(results) => results,
            Err(StoreError::Unwritable { disk }) => {
                tracing::error!("the API's file cannot be written: its disk {disk}");
                writes.iter().map(|_| Err(StoreError::Unwritable { disk })).collect()
            }
            Err(error) => {
                let reason = causes(&error);
                tracing::error!(reason, "the API's file cannot be written");
                writes.iter().map(|_| Err(StoreError::Unwritten { reason: reason.clone() })).collect()
            }
        };
        for (tell, result) in tell.into_iter().zip(results) {
            // Whoever gave up waiting needs no answer.
            let _ = tell.send(result);
        }
    }
    pool.close().await;
}

/// Writes all in one transaction. Each is done whole or not at all, whatever the others come to, but for one that finds
/// the disk full: SQLite ends the transaction then.
async fn write_all(pool: &SqlitePool, writes: &[Write]) -> Result<Vec<Result<Vec<Freed>, StoreError>>, StoreError> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    let mut results = Vec::with_capacity(writes.len());
    for write in writes {
        let mut step = transaction.begin().await?;
        let mut freed = Vec::new();
        let applied = apply(&mut step, write, &mut freed).await;
        match applied {
            Ok(()) => step.commit().await?,
            Err(StoreError::Unwritable { disk }) => return Err(StoreError::Unwritable { disk }),
            Err(_) => step.rollback().await?,
        }
        results.push(applied.map(|()| freed));
    }
    transaction.commit().await?;
    Ok(results)
}

async fn apply(to: &mut Transaction<'_, Sqlite>, write: &Write, freed: &mut Vec<Freed>) -> Result<(), StoreError> {
    match write {
        Write::Token(grant, hash) => {
            let maker = match &grant.maker {
                Maker::Token(id) => Some(&id.0[..]),
                Maker::Owner | Maker::Links => None,
            };
            // Of a token that was ended while it made this one nothing is left.
            let added = query(
                "INSERT INTO tokens (id, hash, name, scope, created, expires, revoked, quota, rate, maker, links)
                 SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11
                 WHERE $10 IS NULL OR EXISTS (SELECT 1 FROM tokens WHERE id = $10 AND revoked IS NULL)",
            )
            .bind(&grant.id.0[..])
            .bind(&hash.as_bytes()[..])
            .bind(&grant.name)
            .bind(i64::from(grant.scope.number()))
            .bind(number(grant.created))
            .bind(grant.expires.map(number))
            .bind(grant.revoked.map(number))
            .bind(grant.quota_bytes.map(number))
            .bind(i64::from(grant.rate))
            .bind(maker)
            .bind(i64::from(grant.maker == Maker::Links))
            .execute(&mut **to)
            .await;
            match added {
                Ok(added) if added.rows_affected() == 0 => Err(StoreError::MakerEnded),
                Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                    Err(StoreError::NameTaken { name: grant.name.clone() })
                }
                added => Ok(added.map(drop)?),
            }
        }
        Write::Revoke(token, now) => {
            let revoke = query(
                "WITH RECURSIVE ending (id, links) AS (
                     SELECT id, links FROM tokens WHERE id = $1
                     UNION SELECT made.id, made.links FROM tokens AS made JOIN ending ON made.maker = ending.id
                     WHERE NOT ending.links)
                 UPDATE tokens SET revoked = $2 WHERE id IN (SELECT id FROM ending) AND revoked IS NULL",
            );
            revoke.bind(&token.0[..]).bind(number(*now)).execute(&mut **to).await?;
            for end in [
                "DELETE FROM sessions WHERE token IN (SELECT id FROM tokens WHERE revoked IS NOT NULL)",
                "DELETE FROM console_keys WHERE token IN (SELECT id FROM tokens WHERE revoked IS NOT NULL)",
            ] {
                query(end).execute(&mut **to).await?;
            }
            Ok(())
        }
        Write::Key { hash, token, now, expires } => {
            query("DELETE FROM console_keys WHERE expires <= $1").bind(number(*now)).execute(&mut **to).await?;
            let key = query("INSERT INTO console_keys (hash, token, expires) VALUES ($1, $2, $3)");
            key.bind(&hash.0[..]).bind(&token.0[..]).bind(number(*expires)).execute(&mut **to).await?;
            let trim = query(
                "DELETE FROM console_keys
                 WHERE hash IN (SELECT hash FROM console_keys ORDER BY expires DESC LIMIT -1 OFFSET $1)",
            );
            Ok(trim.bind(i64::from(KEYS_MAX)).execute(&mut **to).await.map(drop)?)
        }
        Write::Session { hash, token, created, expires, key } => {
            if let Some(key) = key {
                let spend = query("DELETE FROM console_keys WHERE hash = $1 AND expires > $2").bind(&key.0[..]);
                if spend.bind(number(*created)).execute(&mut **to).await?.rows_affected() == 0 {
                    return Err(StoreError::Spent);
                }
            }
            query("DELETE FROM sessions WHERE expires <= $1").bind(number(*created)).execute(&mut **to).await?;
            let begin = query("INSERT INTO sessions (hash, token, created, expires) VALUES ($1, $2, $3, $4)");
            let begin = begin.bind(&hash.0[..]).bind(&token.0[..]).bind(number(*created));
            begin.bind(number(*expires)).execute(&mut **to).await?;
            let trim = query(
                "DELETE FROM sessions WHERE hash IN
                 (SELECT hash FROM sessions WHERE token = $1 ORDER BY created DESC, hash = $2 DESC LIMIT -1 OFFSET $3)",
            );
            let trim = trim.bind(&token.0[..]).bind(&hash.0[..]).bind(i64::from(SESSIONS_MAX));
            Ok(trim.execute(&mut **to).await.map(drop)?)
        }
        Write::EndSession(hash) => {
            let gone = query("DELETE FROM sessions WHERE hash = $1").bind(&hash.0[..]);
            Ok(gone.execute(&mut **to).await.map(drop)?)
        }
        Write::Policy { name, version, source } => {
            let kept = query(
                "INSERT INTO policies (name, version, source) VALUES ($1, $2, $3)
                 ON CONFLICT (name) DO UPDATE SET version = excluded.version, source = excluded.source
                 WHERE excluded.version > version",
            );
            let kept = kept.bind(name.as_str()).bind(number(*version)).bind(source);
            Ok(kept.execute(&mut **to).await.map(drop)?)
        }
        Write::Begin { batch, token, created_ms, source, title } => {
            let begin = query(
                "INSERT INTO uploads (batch, token, created, state, source, bytes, dag, title)
                 VALUES ($1, $2, $3, 0, $4, 0, 0, $5)",
            );
            let begin = begin.bind(&batch.0[..]).bind(&token.0[..]).bind(number(*created_ms));
            Ok(begin.bind(i64::from(source.number())).bind(title).execute(&mut **to).await.map(drop)?)
        }
        Write::Partial { batch, token, bytes, cid, arrived } => {
            const OWN: &str =
                concat!(family!(), "SELECT count(*) FROM uploads WHERE state = 2 AND token IN (SELECT id FROM family)");
            let of_dag = query_scalar("SELECT count(*) FROM uploads WHERE cid = $1 AND state = 2").bind(cid);
            let of_dag: i64 = of_dag.fetch_one(&mut **to).await?;
            if of_dag >= number(PARTS_OF_DAG_MAX) {
                return Err(StoreError::Parts { max: PARTS_OF_DAG_MAX });
            }
            let own: i64 = query_scalar(OWN).bind(&token.0[..]).fetch_one(&mut **to).await?;
            if own >= number(PARTS_MAX) {
                return Err(StoreError::Share { max: PARTS_MAX, what: "parts of CARs that are not whole" });
            }
            let partial = query(
                "UPDATE uploads SET state = 2, bytes = $2, cid = $3, arrived = $4 WHERE batch = $1 AND state <> 1",
            );
            let partial = partial.bind(&batch.0[..]).bind(number(*bytes)).bind(cid).bind(number(*arrived));
            Ok(partial.execute(&mut **to).await.map(drop)?)
        }
        Write::Title { batch, title } => {
            let named = query("UPDATE uploads SET title = $2 WHERE batch = $1");
            Ok(named.bind(&batch.0[..]).bind(title).execute(&mut **to).await.map(drop)?)
        }
        Write::Keep { batch, locator, bytes, dag, made_of } => {
            let keep =
                query("UPDATE uploads SET state = 1, locator = $2, bytes = $3, cid = $4, dag = $5 WHERE batch = $1");
            let keep = keep.bind(&batch.0[..]).bind(&locator.0[..]).bind(number(*bytes));
            let keep = keep.bind(dag.as_ref().map(|it| &it.0)).bind(dag.as_ref().map_or(0, |it| number(it.1)));
            if keep.execute(&mut **to).await?.rows_affected() == 0 {
                return Err(StoreError::Gone);
            }
            match made_of {
                MadeOf::Request => {}
                MadeOf::Cars(parts) => {
                    for part in parts {
                        drop_upload(to, *part, freed).await?;
                    }
                }
                MadeOf::Resumable(resumable) => finish(to, *resumable, &locator.0, freed).await?,
            }
            Ok(())
        }
        Write::Resumable { row, parts } => begin_resumable(to, row, parts).await,
        Write::Offset { batch, offset } => {
            let further = query("UPDATE resumables SET offset = $2 WHERE batch = $1");
            Ok(further.bind(&batch.0[..]).bind(number(*offset)).execute(&mut **to).await.map(drop)?)
        }
        Write::Failed { batch, fault: Fault { reason, due, refused }, expires } => {
            let failed = query(
                "UPDATE resumables SET tries = tries + 1, due = $2, fault = $3, refused = $4,
                 expires = CASE WHEN refused < $4 THEN max(expires, $5) ELSE expires END
                 WHERE batch = $1 AND locator IS NULL",
            );
            let failed = failed.bind(&batch.0[..]).bind(number(*due)).bind(reason).bind(i64::from(*refused));
            let failed = failed.bind(number(*expires));
            Ok(failed.execute(&mut **to).await.map(drop)?)
        }
        Write::DropResumable(batch) => {
            const GONE: &str = concat!("DELETE FROM resumables WHERE batch = $1 OR final = $1", counted!());
            let rows = query(GONE).bind(&batch.0[..]).fetch_all(&mut **to).await?;
            for row in &rows {
                freed.push(spooled(row)?);
            }
            Ok(())
        }
        Write::Pin { row, token, instead } => {
            if let Some(instead) = instead {
                query("DELETE FROM pins WHERE id = $1").bind(&instead.0[..]).execute(&mut **to).await?;
            }
            let all: i64 = query_scalar("SELECT count(*) FROM pins").fetch_one(&mut **to).await?;
            const OWN: &str = concat!(family!(), "SELECT count(*) FROM pins WHERE token IN (SELECT id FROM family)");
            let own: i64 = query_scalar(OWN).bind(&token.0[..]).fetch_one(&mut **to).await?;
            if all >= number(PINS_MAX) || own >= number(share(PINS_MAX)) {
                return Err(StoreError::Share { max: share(PINS_MAX), what: "pins" });
            }
            let pin = query("INSERT INTO pins (id, token, created, cid, pin) VALUES ($1, $2, $3, $4, $5)");
            let pin = pin.bind(&row.id.0[..]).bind(&token.0[..]).bind(number(row.created_ms));
            Ok(pin.bind(&row.cid).bind(&row.pin).execute(&mut **to).await.map(drop)?)
        }
        Write::Unpin(id) => {
            let gone = query("DELETE FROM pins WHERE id = $1").bind(&id.0[..]);
            Ok(gone.execute(&mut **to).await.map(drop)?)
        }
        Write::Drop(batch) => drop_upload(to, *batch, freed).await,
        Write::Lived(Lived { seconds, latest }) => {
            let lived = query(
                "INSERT INTO lived (one, seconds, latest) VALUES (1, $1, $2)
                 ON CONFLICT (one) DO UPDATE SET seconds = excluded.seconds, latest = excluded.latest",
            );
            Ok(lived.bind(number(*seconds)).bind(number(*latest)).execute(&mut **to).await.map(drop)?)
        }
        Write::Audit(line) => {
            let added =
                query("INSERT INTO audit (at, token, action, subject, about, status, bytes) VALUES ($1, $2, $3, $4, $5, $6, $7)")
                    .bind(number(line.at_ms))
                    .bind(&line.token.0[..])
                    .bind(&line.action)
                    .bind(line.subject.as_ref().map(|it| &it.0[..]))
                    .bind(&line.about)
                    .bind(i64::from(line.status))
                    .bind(number(line.bytes))
                    .execute(&mut **to)
                    .await?;
            if added.last_insert_rowid() % TRIM_EVERY == 0 {
                let trim = query("DELETE FROM audit WHERE sequence <= (SELECT max(sequence) FROM audit) - 1000000");
                trim.execute(&mut **to).await?;
            }
            Ok(())
        }
    }
}

fn spooled(row: &sqlx::sqlite::SqliteRow) -> Result<Freed, StoreError> {
    let (token, bytes) = (token_of(row)?, unsigned(row.try_get("counted")?));
    Ok(Freed { token, stored: bytes, spooled: bytes })
}

fn token_of(row: &sqlx::sqlite::SqliteRow) -> Result<TokenId, StoreError> {
    let token: &[u8] = row.try_get("token")?;
    token.try_into().map(TokenId).map_err(|_| StoreError::Damaged { table: "tokens" })
}

/// Drops an upload, or a part of one.
async fn drop_upload(to: &mut Transaction<'_, Sqlite>, batch: Batch, freed: &mut Vec<Freed>) -> Result<(), StoreError> {
    let gone = query("DELETE FROM uploads WHERE batch = $1 RETURNING token, state, bytes").bind(&batch.0[..]);
    if let Some(row) = gone.fetch_optional(&mut **to).await? {
        let (state, stored) = (row.try_get::<i64, _>("state")?, unsigned(row.try_get("bytes")?));
        freed.push(Freed { token: token_of(&row)?, stored, spooled: if state == 2 { stored } else { 0 } });
    }
    Ok(())
}

/// Adds an upload in several requests, within its token's share. Stored ones, which only tell where their file is,
/// give way.
async fn begin_resumable(to: &mut Transaction<'_, Sqlite>, it: &Resumable, parts: &[Batch]) -> Result<(), StoreError> {
    const OPEN: &str = concat!(
        family!(),
        "SELECT count(*) FROM resumables WHERE locator IS NULL AND token IN (SELECT id FROM family)"
    );
    let open: i64 = query_scalar(OPEN).bind(&it.token.0[..]).fetch_one(&mut **to).await?;
    if open >= number(RESUMABLES_MAX) {
        return Err(StoreError::Share { max: RESUMABLES_MAX, what: "resumable uploads that are not stored" });
    }
    let stored = query(
        "DELETE FROM resumables WHERE batch IN (SELECT batch FROM resumables
         WHERE token = $1 AND locator IS NOT NULL ORDER BY created DESC LIMIT -1 OFFSET $2)",
    );
    stored.bind(&it.token.0[..]).bind(number(RESUMABLES_MAX - 1)).execute(&mut **to).await?;
    let begin = query(
        "INSERT INTO resumables (batch, token, created, expires, length, offset, metadata, concat, wishes)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    );
    let wishes: Vec<String> = it.wishes.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let begin = begin.bind(&it.batch.0[..]).bind(&it.token.0[..]).bind(number(it.created));
    let begin = begin.bind(number(it.expires)).bind(number(it.length)).bind(number(it.offset));
    begin.bind(&it.metadata).bind(&it.concat).bind(wishes.concat()).execute(&mut **to).await?;
    for part in parts {
        let claim = query(
            "UPDATE resumables SET final = $2
             WHERE batch = $1 AND final IS NULL AND concat = 'partial' AND offset = length AND token = $3",
        );
        let claim = claim.bind(&part.0[..]).bind(&it.batch.0[..]).bind(&it.token.0[..]);
        if claim.execute(&mut **to).await?.rows_affected() == 0 {
            return Err(StoreError::Taken { batch: *part });
        }
    }
    Ok(())
}

/// An upload in several requests was stored: its bytes count as those of the file, its parts are no more.
async fn finish(
    to: &mut Transaction<'_, Sqlite>,
    batch: Batch,
    locator: &[u8],
    freed: &mut Vec<Freed>,
) -> Result<(), StoreError> {
    const WHOLE: &str = concat!(
        "SELECT token, CASE WHEN concat IS NULL THEN ",
        length_counted!(),
        " ELSE 0 END AS counted FROM resumables WHERE batch = $1 AND locator IS NULL"
    );
    let whole = query(WHOLE).bind(&batch.0[..]).fetch_optional(&mut **to).await?.ok_or(StoreError::Gone)?;
    freed.push(spooled(&whole)?);
    let stored = query("UPDATE resumables SET locator = $2, fault = NULL WHERE batch = $1");
    stored.bind(&batch.0[..]).bind(locator).execute(&mut **to).await?;
    const PARTS: &str = concat!("DELETE FROM resumables WHERE final = $1", counted!());
    for row in &query(PARTS).bind(&batch.0[..]).fetch_all(&mut **to).await? {
        freed.push(spooled(row)?);
    }
    Ok(())
}

/// A number that a check of the schema keeps from being below zero.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// SQLite has no unsigned numbers; ours are far below its bound.
fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
