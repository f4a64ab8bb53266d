//! What is read of the store.

use format::{Locator, PolicyName};
use futures::TryStreamExt;
use sqlx::{Row, Sqlite, query, query_scalar, sqlite::SqliteRow};
use twin::Batch;

use super::{Fault, Freed, Line, PinAsk, PinRow, PinStatus, Resumable, Source, Store, StoreError, Upload};
use crate::{
    lived::Lived,
    session::SecretHash,
    token::{Grant, Maker, Scope, TokenHash, TokenId},
};

/// Rows that one look of a sweep takes.
const SWEPT_MAX: i64 = 256;

/// What begins a statement that reads uploads.
macro_rules! uploads {
    () => {
        "SELECT uploads.*, tokens.name AS token_name FROM uploads JOIN tokens ON tokens.id = uploads.token "
    };
}

/// Which uploads a list shows: those with a CID, and of the parts of one DAG the first.
macro_rules! shown {
    () => {
        "cid IS NOT NULL AND (state <> 2 OR NOT EXISTS (SELECT 1 FROM uploads AS other
            WHERE other.cid = uploads.cid AND other.state = 2 AND other.created < uploads.created))"
    };
}

/// What lets SQLite use the index of the few uploads that are not whole: it draws no conclusion from their state.
macro_rules! not_whole {
    () => {
        "state <> 1"
    };
}

/// Uploads under way.
const OPEN: &str = concat!("SELECT batch FROM uploads WHERE state = 0 AND ", not_whole!(), " ORDER BY batch");
/// Parts of CARs.
const PARTIAL: &str = concat!(uploads!(), "WHERE state = 2 AND ", not_whole!());
/// Parts of CARs whose DAG got none since a time.
const OLD: &str = concat!(
    "SELECT batch, cid FROM uploads AS it WHERE state = 2 AND ",
    not_whole!(),
    " AND arrived < $1 AND NOT EXISTS
    (SELECT 1 FROM uploads WHERE cid = it.cid AND state = 2 AND arrived >= $1) ORDER BY created LIMIT $2"
);
/// Bytes that lie in the spool.
const LYING: &str = concat!(
    "SELECT (SELECT coalesce(sum(bytes), 0) FROM uploads WHERE state = 2 AND ",
    not_whole!(),
    ") + (SELECT coalesce(sum(offset), 0) FROM resumables
    WHERE locator IS NULL AND (concat IS NULL OR concat = 'partial'))"
);
/// Those of them that would look at every upload otherwise.
#[cfg(test)]
pub(super) const NOT_WHOLE: [&str; 4] = [OPEN, PARTIAL, OLD, LYING];

/// What begins a statement that reads pins.
macro_rules! pins {
    () => {
        "SELECT id, created, cid, pin, EXISTS (SELECT 1 FROM uploads WHERE uploads.cid = pins.cid AND state = 1) AS kept,
            EXISTS (SELECT 1 FROM uploads WHERE uploads.cid = pins.cid AND state = 2) AS parts FROM pins "
    };
}

/// Which of them a list is asked for.
macro_rules! asked {
    () => {
        "WHERE created < $1 AND created > $2 AND ($3 = '[]' OR cid IN (SELECT value FROM json_each($3)))
            AND CASE WHEN kept THEN $4 WHEN parts THEN $5 ELSE $6 END"
    };
}

impl Store {
    /// Returns a token with the hash of its secret, ended ones too.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn token(&self, id: TokenId) -> Result<Option<(Grant, TokenHash)>, StoreError> {
        let row = query("SELECT * FROM tokens WHERE id = $1").bind(&id.0[..]).fetch_optional(&self.readers).await?;
        row.as_ref().map(grant).transpose()
    }

    /// Returns all tokens, ended ones too, the oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tokens(&self) -> Result<Vec<Grant>, StoreError> {
        let rows = query("SELECT * FROM tokens ORDER BY created, id").fetch_all(&self.readers).await?;
        rows.iter().map(|row| grant(row).map(|(grant, _)| grant)).collect()
    }

    /// Returns the token of this name or id that was not ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_token(&self, text: &str) -> Result<Option<Grant>, StoreError> {
        let mut tokens = self.tokens().await?;
        tokens.retain(|grant| grant.revoked.is_none());
        // An id first: it is one token's, whatever others are called.
        let at = tokens.iter().position(|it| it.id.to_string() == text);
        let at = at.or_else(|| tokens.iter().position(|it| it.name == text));
        Ok(at.map(|at| tokens.swap_remove(at)))
    }

    /// Returns the token that a session acts for, where both count at `now`, seconds since 1970.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn session(&self, hash: SecretHash, now: u64) -> Result<Option<Grant>, StoreError> {
        self.grant_of("SELECT tokens.* FROM tokens JOIN sessions ON sessions.token = tokens.id WHERE sessions.hash = $1 AND sessions.expires > $2", hash, now).await
    }

    /// Returns the token that a one-time link signs in for, where both count at `now`, seconds since 1970.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn key(&self, hash: SecretHash, now: u64) -> Result<Option<Grant>, StoreError> {
        self.grant_of("SELECT tokens.* FROM tokens JOIN console_keys ON console_keys.token = tokens.id WHERE console_keys.hash = $1 AND console_keys.expires > $2", hash, now).await
    }

    async fn grant_of(&self, ask: &'static str, hash: SecretHash, now: u64) -> Result<Option<Grant>, StoreError> {
        let ask = query(ask).bind(&hash.0[..]).bind(i64::try_from(now).unwrap_or(i64::MAX));
        let row = ask.fetch_optional(&self.readers).await?;
        let found = row.as_ref().map(grant).transpose()?.map(|(grant, _)| grant);
        Ok(found.filter(|grant| grant.ended(now).is_none()))
    }

    /// Returns the names of the policies that were published through the API.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn policies(&self) -> Result<Vec<PolicyName>, StoreError> {
        let names: Vec<String> =
            query_scalar("SELECT name FROM policies ORDER BY name").fetch_all(&self.readers).await?;
        let damaged = |_| StoreError::Damaged { table: "policies" };
        names.iter().map(|name| name.parse().map_err(damaged)).collect()
    }

    /// Returns a policy as its owner wrote it, with its version; none for one that was published otherwise.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn policy(&self, name: &PolicyName) -> Result<Option<(u64, String)>, StoreError> {
        let policy = query("SELECT version, source FROM policies WHERE name = $1").bind(name.as_str());
        let row = policy.fetch_optional(&self.readers).await?;
        row.map(|row| Ok((unsigned(row.try_get("version")?, "policies")?, row.try_get("source")?))).transpose()
    }

    /// Returns the time that twins on this file saw pass; none before the first one wrote it down.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn lived(&self) -> Result<Option<Lived>, StoreError> {
        const TABLE: &str = "lived";
        let row = query("SELECT seconds, latest FROM lived").fetch_optional(&self.readers).await?;
        let lived = |row: SqliteRow| {
            let [seconds, latest] = [row.try_get("seconds")?, row.try_get("latest")?];
            Ok::<_, StoreError>(Lived { seconds: unsigned(seconds, TABLE)?, latest: unsigned(latest, TABLE)? })
        };
        row.map(lived).transpose()
    }

    /// Returns the uploads that are under way, or were when a crash came.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_batches(&self) -> Result<Vec<Batch>, StoreError> {
        let batches: Vec<Vec<u8>> = query_scalar(OPEN).fetch_all(&self.readers).await?;
        batches.iter().map(|bytes| exact(bytes, "uploads").map(Batch)).collect()
    }

    /// Returns the bytes that count for a token's quota: stored and about to be, by it and those that it made.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn used(&self, token: TokenId) -> Result<u64, StoreError> {
        const SUM: &str = concat!(
            "WITH RECURSIVE line (id, links) AS (
                 SELECT id, links FROM tokens WHERE id = $1
                 UNION SELECT made.id, made.links FROM tokens AS made JOIN line ON made.maker = line.id
                 WHERE NOT line.links)
             SELECT (SELECT coalesce(sum(bytes), 0) FROM uploads WHERE token IN (SELECT id FROM line))
                 + (SELECT coalesce(sum(",
            length_counted!(),
            "), 0) FROM resumables WHERE token IN (SELECT id FROM line)
                    AND locator IS NULL AND (concat IS NULL OR concat = 'partial'))"
        );
        unsigned(query_scalar(SUM).bind(&token.0[..]).fetch_one(&self.readers).await?, "uploads")
    }

    /// Returns what counts for each token: bytes of its quota, and of them those in the spool.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn counted(&self) -> Result<Vec<Freed>, StoreError> {
        const SUM: &str = concat!(
            "SELECT token, sum(stored) AS stored, sum(spooled) AS spooled FROM (
                 SELECT token, bytes AS stored, CASE state WHEN 2 THEN bytes ELSE 0 END AS spooled FROM uploads
                 UNION ALL SELECT token, ",
            length_counted!(),
            ", ",
            length_counted!(),
            " FROM resumables WHERE locator IS NULL AND (concat IS NULL OR concat = 'partial')) GROUP BY token"
        );
        let rows = query(SUM).fetch_all(&self.readers).await?;
        let counted = |row: &SqliteRow| {
            Ok::<_, StoreError>(Freed {
                token: TokenId(exact(row.try_get("token")?, "uploads")?),
                stored: unsigned(row.try_get("stored")?, "uploads")?,
                spooled: unsigned(row.try_get("spooled")?, "uploads")?,
            })
        };
        rows.iter().map(counted).collect()
    }

    /// Returns when the newest upload or pin was begun, milliseconds since 1970; zero when there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn newest_ms(&self) -> Result<u64, StoreError> {
        let newest = query_scalar(
            "SELECT max((SELECT coalesce(max(created), 0) FROM uploads), (SELECT coalesce(max(created), 0) FROM pins))",
        )
        .fetch_one(&self.readers)
        .await?;
        unsigned(newest, "uploads")
    }

    /// Returns the upload of an object.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn upload(&self, locator: &Locator) -> Result<Option<Upload>, StoreError> {
        let row = query(concat!(uploads!(), "WHERE locator = $1")).bind(&locator.0[..]);
        row.fetch_optional(&self.readers).await?.as_ref().map(upload).transpose()
    }

    /// Returns uploads of one DAG, also parts of it, the newest first, from before a time in milliseconds on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn by_cid(&self, cid: &str, before_ms: u64, limit: u32) -> Result<Vec<Upload>, StoreError> {
        const PAGE: &str =
            concat!(uploads!(), "WHERE cid = $1 AND uploads.created < $2 ORDER BY uploads.created DESC LIMIT $3");
        let before = i64::try_from(before_ms).unwrap_or(i64::MAX);
        let rows = query(PAGE).bind(cid).bind(before).bind(i64::from(limit));
        rows.fetch_all(&self.readers).await?.iter().map(upload).collect()
    }

    /// Returns the parts of a DAG that is not whole, the oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn parts(&self, cid: &str) -> Result<Vec<Upload>, StoreError> {
        let rows = query(concat!(uploads!(), "WHERE state = 2 AND cid = $1 ORDER BY uploads.created")).bind(cid);
        rows.fetch_all(&self.readers).await?.iter().map(upload).collect()
    }

    /// Returns some of the parts whose DAG got none since a time, in seconds that were seen to pass, each with its DAG.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn parts_before(&self, lived: u64) -> Result<Vec<(Batch, String)>, StoreError> {
        let old = query(OLD).bind(i64::try_from(lived).unwrap_or(i64::MAX)).bind(SWEPT_MAX);
        old.fetch_all(&self.readers).await?.iter().map(part).collect()
    }

    /// Returns some of the parts whose tokens were ended, each with its DAG. Those of tokens that ended by themselves
    /// wait for their week: a clock that is ahead for a moment ends nothing that was acknowledged.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn parts_of_ended(&self) -> Result<Vec<(Batch, String)>, StoreError> {
        let ended = query(
            "SELECT batch, cid FROM uploads
             WHERE state = 2 AND token IN (SELECT id FROM tokens WHERE revoked IS NOT NULL) LIMIT $1",
        );
        ended.bind(SWEPT_MAX).fetch_all(&self.readers).await?.iter().map(part).collect()
    }

    /// Returns uploads with a CID, the newest first, from before a time in milliseconds on; and how many there are.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn uploads(&self, before_ms: Option<u64>, limit: u32) -> Result<(Vec<Upload>, u64), StoreError> {
        let before = before_ms.and_then(|it| i64::try_from(it).ok()).unwrap_or(i64::MAX);
        const PAGE: &str =
            concat!(uploads!(), "WHERE ", shown!(), " AND uploads.created < $1 ORDER BY uploads.created DESC LIMIT $2");
        const COUNT: &str = concat!("SELECT count(*) FROM uploads WHERE ", shown!());
        let rows = query(PAGE).bind(before).bind(i64::from(limit)).fetch_all(&self.readers).await?;
        let count = query_scalar(COUNT).fetch_one(&self.readers).await?;
        Ok((rows.iter().map(upload).collect::<Result<_, _>>()?, unsigned(count, "uploads")?))
    }

    /// Returns the uploads of which parts are to come.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn partial(&self) -> Result<Vec<Upload>, StoreError> {
        let rows = query(PARTIAL).fetch_all(&self.readers).await?;
        rows.iter().map(upload).collect()
    }

    /// Returns the objects of the next uploads that were stored, after one of them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn kept(&self, after: Option<Batch>, limit: u32) -> Result<Vec<(Locator, Batch)>, StoreError> {
        const TABLE: &str = "uploads";
        const PAGE: &str = "SELECT locator, batch FROM uploads
            WHERE state = 1 AND locator IS NOT NULL AND batch > $1 ORDER BY batch LIMIT $2";
        let after = after.map_or_else(Vec::new, |batch| batch.0.to_vec());
        let rows = query(PAGE).bind(after).bind(i64::from(limit)).fetch_all(&self.readers).await?;
        let kept = |row: &SqliteRow| {
            let (locator, batch) = (exact(row.try_get("locator")?, TABLE)?, exact(row.try_get("batch")?, TABLE)?);
            Ok::<_, StoreError>((Locator(locator), Batch(batch)))
        };
        rows.iter().map(kept).collect()
    }

    /// Returns an upload in several requests.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn resumable(&self, batch: Batch) -> Result<Option<Resumable>, StoreError> {
        let row = query("SELECT * FROM resumables WHERE batch = $1").bind(&batch.0[..]);
        row.fetch_optional(&self.readers).await?.as_ref().map(resumable).transpose()
    }

    /// Returns the bytes that lie durably in the spool, of those that [`Self::counted`] counts there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn lying(&self) -> Result<u64, StoreError> {
        unsigned(query_scalar(LYING).fetch_one(&self.readers).await?, "resumables")
    }

    /// Returns the uploads in several requests whose bytes are in the spool.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn spooled(&self) -> Result<Vec<Batch>, StoreError> {
        let all = "SELECT batch FROM resumables WHERE locator IS NULL";
        let batches: Vec<Vec<u8>> = query_scalar(all).fetch_all(&self.readers).await?;
        batches.iter().map(|bytes| exact(bytes, "resumables").map(Batch)).collect()
    }

    /// Returns some of the uploads in several requests that are whole and due to be stored at a time, in seconds that
    /// were seen to pass, of tokens that count at `now`, seconds since 1970.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn due(&self, lived: u64, now: u64) -> Result<Vec<Resumable>, StoreError> {
        const DUE: &str = "SELECT * FROM resumables WHERE locator IS NULL AND offset = length
            AND (concat IS NULL OR concat <> 'partial') AND due <= $1 AND token IN
            (SELECT id FROM tokens WHERE revoked IS NULL AND (expires IS NULL OR expires > $3)) ORDER BY due LIMIT $2";
        let rows = query(DUE).bind(i64::try_from(lived).unwrap_or(i64::MAX)).bind(SWEPT_MAX);
        let rows = rows.bind(i64::try_from(now).unwrap_or(i64::MAX));
        rows.fetch_all(&self.readers).await?.iter().map(resumable).collect()
    }

    /// Returns some of the uploads in several requests that have expired at a time, in seconds that were seen to pass,
    /// as [`Resumable::has_expired`] says it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn expired(&self, lived: u64) -> Result<Vec<Resumable>, StoreError> {
        const EXPIRED: &str = "SELECT * FROM resumables WHERE expires <= $1 AND final IS NULL AND (locator IS NOT NULL
            OR offset < length OR concat = 'partial' OR refused = 1) ORDER BY expires LIMIT $2";
        let rows = query(EXPIRED).bind(i64::try_from(lived).unwrap_or(i64::MAX)).bind(SWEPT_MAX);
        rows.fetch_all(&self.readers).await?.iter().map(resumable).collect()
    }

    /// Returns some of the uploads in several requests whose tokens were ended, or have ended by themselves at `now`,
    /// seconds since 1970, and whose own time is over too, in seconds that were seen to pass: a clock that is ahead for
    /// a moment ends nothing that was acknowledged. Parts go with the upload that they belong to.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn resumables_of_ended(&self, lived: u64, now: u64) -> Result<Vec<Batch>, StoreError> {
        const ENDED: &str = "SELECT batch FROM resumables WHERE final IS NULL AND token IN
            (SELECT id FROM tokens WHERE revoked IS NOT NULL OR (tokens.expires <= $1 AND resumables.expires <= $3))
            LIMIT $2";
        let ended = query_scalar(ENDED).bind(i64::try_from(now).unwrap_or(i64::MAX)).bind(SWEPT_MAX);
        let ended = ended.bind(i64::try_from(lived).unwrap_or(i64::MAX));
        let batches: Vec<Vec<u8>> = ended.fetch_all(&self.readers).await?;
        batches.iter().map(|bytes| exact(bytes, "resumables").map(Batch)).collect()
    }

    /// Returns the parts of an upload in several requests, in no order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn parts_of(&self, batch: Batch) -> Result<Vec<Batch>, StoreError> {
        let parts = query_scalar("SELECT batch FROM resumables WHERE final = $1").bind(&batch.0[..]);
        let batches: Vec<Vec<u8>> = parts.fetch_all(&self.readers).await?;
        batches.iter().map(|bytes| exact(bytes, "resumables").map(Batch)).collect()
    }

    /// Returns a pin.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn pin(&self, id: Batch) -> Result<Option<PinRow>, StoreError> {
        let row = query(concat!(pins!(), "WHERE id = $1")).bind(&id.0[..]);
        row.fetch_optional(&self.readers).await?.as_ref().map(pin).transpose()
    }

    /// Returns the newest pins that an ask takes, and how many it takes. What SQLite cannot decide `takes` does; then
    /// each row is looked at, one at a time.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn pins(
        &self,
        ask: &PinAsk,
        limit: usize,
        takes: Option<&(dyn Fn(&PinRow) -> bool + Sync)>,
    ) -> Result<(Vec<PinRow>, u64), StoreError> {
        const PAGE: &str = concat!("SELECT * FROM (", pins!(), ") ", asked!(), " ORDER BY created DESC LIMIT $7");
        const COUNT: &str = concat!("SELECT count(*) AS count FROM (", pins!(), ") ", asked!());
        let end = |ms: Option<u64>, or: i64| ms.and_then(|it| i64::try_from(it).ok()).unwrap_or(or);
        let status = |status| i64::from(ask.statuses.contains(&status));
        let cids = serde_json::to_string(&ask.cids).unwrap_or_default();
        let bound = |text: &'static str| {
            let text =
                query::<Sqlite>(text).bind(end(ask.before_ms, i64::MAX)).bind(end(ask.after_ms, -1)).bind(cids.clone());
            text.bind(status(PinStatus::Pinned)).bind(status(PinStatus::Pinning)).bind(status(PinStatus::Failed))
        };
        let Some(takes) = takes else {
            let rows = bound(PAGE).bind(i64::try_from(limit).unwrap_or(i64::MAX)).fetch_all(&self.readers).await?;
            let count = bound(COUNT).fetch_one(&self.readers).await?;
            let found = rows.iter().map(pin).collect::<Result<_, _>>()?;
            return Ok((found, unsigned(count.try_get("count")?, "pins")?));
        };
        let page = bound(PAGE).bind(-1);
        let (mut rows, mut found, mut count) = (page.fetch(&self.readers), Vec::new(), 0);
        while let Some(row) = rows.try_next().await? {
            let row = pin(&row)?;
            if takes(&row) {
                count += 1;
                if found.len() < limit {
                    found.push(row);
                }
            }
        }
        Ok((found, count))
    }

    /// Returns lines of the audit log with their numbers, the newest first, from below a number on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn audit(&self, before: Option<u64>, limit: u32) -> Result<Vec<(u64, Line)>, StoreError> {
        let before = before.and_then(|it| i64::try_from(it).ok()).unwrap_or(i64::MAX);
        let lines = query("SELECT * FROM audit WHERE sequence < $1 ORDER BY sequence DESC LIMIT $2");
        let rows = lines.bind(before).bind(i64::from(limit)).fetch_all(&self.readers).await?;
        rows.iter().map(line).collect()
    }
}

fn grant(row: &SqliteRow) -> Result<(Grant, TokenHash), StoreError> {
    const TABLE: &str = "tokens";
    let damaged = || StoreError::Damaged { table: TABLE };
    let optional = |name| row.try_get::<Option<i64>, _>(name)?.map(|it| unsigned(it, TABLE)).transpose();
    let maker = match (row.try_get::<Option<&[u8]>, _>("maker")?, row.try_get::<i64, _>("links")?) {
        (None, 0) => Maker::Owner,
        (None, _) => Maker::Links,
        (Some(id), 0) => Maker::Token(TokenId(exact(id, TABLE)?)),
        (Some(_), _) => return Err(damaged()),
    };
    let grant = Grant {
        id: TokenId(exact(row.try_get("id")?, TABLE)?),
        name: row.try_get("name")?,
        scope: u8::try_from(row.try_get::<i64, _>("scope")?).ok().and_then(Scope::of).ok_or_else(damaged)?,
        created: unsigned(row.try_get("created")?, TABLE)?,
        expires: optional("expires")?,
        revoked: optional("revoked")?,
        quota_bytes: optional("quota")?,
        rate: u32::try_from(row.try_get::<i64, _>("rate")?).map_err(|_| damaged())?,
        maker,
    };
    Ok((grant, TokenHash::from_bytes(exact(row.try_get("hash")?, TABLE)?)))
}

fn upload(row: &SqliteRow) -> Result<Upload, StoreError> {
    const TABLE: &str = "uploads";
    let locator: Option<&[u8]> = row.try_get("locator")?;
    Ok(Upload {
        batch: Batch(exact(row.try_get("batch")?, TABLE)?),
        token: TokenId(exact(row.try_get("token")?, TABLE)?),
        created_ms: unsigned(row.try_get("created")?, TABLE)?,
        source: Source::of(row.try_get("source")?).ok_or(StoreError::Damaged { table: TABLE })?,
        bytes: unsigned(row.try_get("bytes")?, TABLE)?,
        locator: locator.map(|bytes| exact(bytes, TABLE).map(Locator)).transpose()?,
        cid: row.try_get("cid")?,
        dag_bytes: unsigned(row.try_get("dag")?, TABLE)?,
        title: row.try_get("title")?,
        token_name: row.try_get("token_name")?,
    })
}

/// Reads a part of a DAG back, with its DAG.
fn part(row: &SqliteRow) -> Result<(Batch, String), StoreError> {
    Ok((Batch(exact(row.try_get("batch")?, "uploads")?), row.try_get("cid")?))
}

fn resumable(row: &SqliteRow) -> Result<Resumable, StoreError> {
    const TABLE: &str = "resumables";
    let locator: Option<&[u8]> = row.try_get("locator")?;
    let wishes: &str = row.try_get("wishes")?;
    let wish = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let fault = match row.try_get::<Option<String>, _>("fault")? {
        Some(reason) => {
            let due = unsigned(row.try_get("due")?, TABLE)?;
            Some(Fault { reason, due, refused: row.try_get::<i64, _>("refused")? != 0 })
        }
        None => None,
    };
    Ok(Resumable {
        batch: Batch(exact(row.try_get("batch")?, TABLE)?),
        token: TokenId(exact(row.try_get("token")?, TABLE)?),
        created: unsigned(row.try_get("created")?, TABLE)?,
        expires: unsigned(row.try_get("expires")?, TABLE)?,
        length: unsigned(row.try_get("length")?, TABLE)?,
        offset: unsigned(row.try_get("offset")?, TABLE)?,
        metadata: row.try_get("metadata")?,
        concat: row.try_get("concat")?,
        wishes: wishes.lines().filter_map(wish).collect(),
        locator: locator.map(|bytes| exact(bytes, TABLE).map(Locator)).transpose()?,
        final_of: row.try_get::<Option<&[u8]>, _>("final")?.map(|bytes| exact(bytes, TABLE).map(Batch)).transpose()?,
        tries: u32::try_from(row.try_get::<i64, _>("tries")?).unwrap_or(u32::MAX),
        fault,
    })
}

fn pin(row: &SqliteRow) -> Result<PinRow, StoreError> {
    const TABLE: &str = "pins";
    let status = match (row.try_get::<i64, _>("kept")?, row.try_get::<i64, _>("parts")?) {
        (1, _) => PinStatus::Pinned,
        (_, 1) => PinStatus::Pinning,
        _ => PinStatus::Failed,
    };
    Ok(PinRow {
        id: Batch(exact(row.try_get("id")?, TABLE)?),
        created_ms: unsigned(row.try_get("created")?, TABLE)?,
        cid: row.try_get("cid")?,
        pin: row.try_get("pin")?,
        status,
    })
}

fn line(row: &SqliteRow) -> Result<(u64, Line), StoreError> {
    const TABLE: &str = "audit";
    let subject: Option<&[u8]> = row.try_get("subject")?;
    let line = Line {
        at_ms: unsigned(row.try_get("at")?, TABLE)?,
        token: TokenId(exact(row.try_get("token")?, TABLE)?),
        action: row.try_get("action")?,
        subject: subject.map(|bytes| exact(bytes, TABLE).map(Locator)).transpose()?,
        about: row.try_get("about")?,
        status: u16::try_from(row.try_get::<i64, _>("status")?).map_err(|_| StoreError::Damaged { table: TABLE })?,
        bytes: unsigned(row.try_get("bytes")?, TABLE)?,
    };
    Ok((unsigned(row.try_get("sequence")?, TABLE)?, line))
}

/// Reads bytes of a known number back.
fn exact<const BYTES: usize>(bytes: &[u8], table: &'static str) -> Result<[u8; BYTES], StoreError> {
    bytes.try_into().map_err(|_| StoreError::Damaged { table })
}

fn unsigned(number: i64, table: &'static str) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| StoreError::Damaged { table })
}
