//! What is read of the store.

use format::{Locator, PolicyName};
use sqlx::{Row, query, query_scalar, sqlite::SqliteRow};
use twin::Batch;

use super::{Line, PinRow, PinStatus, Resumable, Source, Store, StoreError, Upload};
use crate::{
    session::SecretHash,
    token::{Grant, Maker, Scope, TokenHash, TokenId},
};

/// What begins a statement that reads uploads.
macro_rules! uploads {
    () => {
        "SELECT uploads.*, tokens.name AS token_name FROM uploads JOIN tokens ON tokens.id = uploads.token "
    };
}

/// What begins a statement that reads pins.
macro_rules! pins {
    () => {
        "SELECT id, created, cid, pin, EXISTS (SELECT 1 FROM uploads WHERE uploads.cid = pins.cid AND state = 1) AS kept,
            EXISTS (SELECT 1 FROM uploads WHERE uploads.cid = pins.cid AND state = 2) AS parts FROM pins "
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
        let is_it = |it: &Grant| it.revoked.is_none() && (it.name == text || it.id.to_string() == text);
        Ok(self.tokens().await?.into_iter().find(is_it))
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

    /// Returns the uploads that are under way, or were when a crash came.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_batches(&self) -> Result<Vec<Batch>, StoreError> {
        let open = "SELECT batch FROM uploads WHERE state = 0 ORDER BY batch";
        let batches: Vec<Vec<u8>> = query_scalar(open).fetch_all(&self.readers).await?;
        batches.iter().map(|bytes| exact(bytes, "uploads").map(Batch)).collect()
    }

    /// Returns the bytes that a token has stored.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn used(&self, token: TokenId) -> Result<u64, StoreError> {
        const SUM: &str = "SELECT (SELECT coalesce(sum(bytes), 0) FROM uploads WHERE token = $1)
            + (SELECT coalesce(sum(offset), 0) FROM resumables
               WHERE token = $1 AND locator IS NULL AND coalesce(concat, 'partial') = 'partial')";
        unsigned(query_scalar(SUM).bind(&token.0[..]).fetch_one(&self.readers).await?, "uploads")
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

    /// Returns the uploads of one DAG, also one of which parts are to come, the newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn by_cid(&self, cid: &str) -> Result<Vec<Upload>, StoreError> {
        let rows = query(concat!(uploads!(), "WHERE cid = $1 ORDER BY uploads.created DESC")).bind(cid);
        rows.fetch_all(&self.readers).await?.iter().map(upload).collect()
    }

    /// Returns uploads with a CID, the newest first, from before a time in milliseconds on; and how many there are.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn uploads(&self, before_ms: Option<u64>, limit: u32) -> Result<(Vec<Upload>, u64), StoreError> {
        let before = before_ms.and_then(|it| i64::try_from(it).ok()).unwrap_or(i64::MAX);
        const PAGE: &str = concat!(
            uploads!(),
            "WHERE cid IS NOT NULL AND uploads.created < $1 ORDER BY uploads.created DESC LIMIT $2"
        );
        let rows = query(PAGE).bind(before).bind(i64::from(limit)).fetch_all(&self.readers).await?;
        let count = query_scalar("SELECT count(*) FROM uploads WHERE cid IS NOT NULL").fetch_one(&self.readers).await?;
        Ok((rows.iter().map(upload).collect::<Result<_, _>>()?, unsigned(count, "uploads")?))
    }

    /// Returns the uploads of which parts are to come.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn partial(&self) -> Result<Vec<Upload>, StoreError> {
        let rows = query(concat!(uploads!(), "WHERE state = 2")).fetch_all(&self.readers).await?;
        rows.iter().map(upload).collect()
    }

    /// Returns all uploads that were stored.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn kept(&self) -> Result<Vec<Upload>, StoreError> {
        let rows = query(concat!(uploads!(), "WHERE state = 1")).fetch_all(&self.readers).await?;
        rows.iter().map(upload).collect()
    }

    /// Returns an upload in several requests.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn resumable(&self, batch: Batch) -> Result<Option<Resumable>, StoreError> {
        let row = query("SELECT * FROM resumables WHERE batch = $1").bind(&batch.0[..]);
        row.fetch_optional(&self.readers).await?.as_ref().map(resumable).transpose()
    }

    /// Returns all uploads in several requests, stored ones until they expire.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn resumables(&self) -> Result<Vec<Resumable>, StoreError> {
        let rows = query("SELECT * FROM resumables").fetch_all(&self.readers).await?;
        rows.iter().map(resumable).collect()
    }

    /// Returns a pin.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn pin(&self, id: Batch) -> Result<Option<PinRow>, StoreError> {
        let row = query(concat!(pins!(), "WHERE id = $1")).bind(&id.0[..]);
        row.fetch_optional(&self.readers).await?.as_ref().map(pin).transpose()
    }

    /// Returns all pins, the newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn pins(&self) -> Result<Vec<PinRow>, StoreError> {
        let rows = query(concat!(pins!(), "ORDER BY created DESC")).fetch_all(&self.readers).await?;
        rows.iter().map(pin).collect()
    }

    /// Returns how many pins there are.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn pin_count(&self) -> Result<u64, StoreError> {
        unsigned(query_scalar("SELECT count(*) FROM pins").fetch_one(&self.readers).await?, "pins")
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

fn resumable(row: &SqliteRow) -> Result<Resumable, StoreError> {
    const TABLE: &str = "resumables";
    let locator: Option<&[u8]> = row.try_get("locator")?;
    let wishes: &str = row.try_get("wishes")?;
    let wish = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.to_owned()));
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
