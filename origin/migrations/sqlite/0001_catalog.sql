-- The catalog's first schema. Migrations are never edited once released; a change is a new file.
-- Times are seconds since 1970 by the database's own clock. Identifiers are 32 raw bytes.

-- What nodes keep of an object, filed under its locator. A row with `erased_at` is a tombstone: it never lives again.
CREATE TABLE records (
    locator       BLOB    NOT NULL PRIMARY KEY CHECK (length(locator) = 32),
    object        BLOB    NOT NULL CHECK (length(object) = 32),
    owner         BLOB    NOT NULL CHECK (length(owner) = 32),
    public        BLOB    NOT NULL,
    sealed        BLOB,
    lease         BLOB    NOT NULL,
    lease_version INTEGER NOT NULL CHECK (lease_version >= 0),
    keep_until    INTEGER NOT NULL CHECK (keep_until >= 0),
    -- JSON list of node names or null, one for each column: the uploader's hint. Rows of `shards` overrule it.
    placement     TEXT    NOT NULL,
    erased_at     INTEGER,
    CHECK (erased_at IS NULL OR sealed IS NULL)
) STRICT;
CREATE INDEX records_by_owner ON records (owner, locator) WHERE erased_at IS NULL;
CREATE INDEX records_by_object ON records (object);

-- Which node holds which shard: written after the shard is durable there, before its upload is acknowledged.
CREATE TABLE shards (
    node          TEXT    NOT NULL,
    object        BLOB    NOT NULL CHECK (length(object) = 32),
    shard_column  INTEGER NOT NULL CHECK (shard_column BETWEEN 0 AND 255),
    shard_bytes   INTEGER NOT NULL CHECK (shard_bytes >= 0),
    committed_at  INTEGER NOT NULL,
    PRIMARY KEY (node, object, shard_column)
) STRICT, WITHOUT ROWID;
CREATE INDEX shards_by_object ON shards (object, shard_column);

-- Policy components and configurations, by their hash.
CREATE TABLE blobs (
    blob          BLOB    NOT NULL PRIMARY KEY CHECK (length(blob) = 32),
    bytes         BLOB    NOT NULL
) STRICT;

CREATE TABLE policies (
    owner         BLOB    NOT NULL CHECK (length(owner) = 32),
    name          TEXT    NOT NULL,
    sequence      INTEGER NOT NULL CHECK (sequence >= 0),
    envelope      BLOB    NOT NULL,
    PRIMARY KEY (owner, name)
) STRICT;

-- The blobs that the newest version of a policy needs; a blob in use cannot go.
CREATE TABLE policy_blobs (
    owner         BLOB    NOT NULL,
    name          TEXT    NOT NULL,
    blob          BLOB    NOT NULL REFERENCES blobs (blob),
    PRIMARY KEY (owner, name, blob),
    FOREIGN KEY (owner, name) REFERENCES policies (owner, name) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- The nodes of the cluster as they last announced themselves; `entry` is the wire's JSON.
CREATE TABLE nodes (
    name          TEXT    NOT NULL PRIMARY KEY,
    entry         TEXT    NOT NULL,
    seen          INTEGER NOT NULL
) STRICT;

-- The change feed. AUTOINCREMENT: a number is never used again, even after the newest rows were trimmed.
CREATE TABLE changes (
    sequence      INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    kind          TEXT    NOT NULL
) STRICT;
