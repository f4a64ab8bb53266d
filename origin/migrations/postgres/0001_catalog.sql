-- The catalog's schema on PostgreSQL: the tables of migrations/sqlite, which say what they mean, in this engine's types.
-- Names, columns and rules are the same, because the statements are; a change is a new file in both folders.
-- Texts sort by their bytes (COLLATE "C"), whatever the cluster's locale.

-- SQLite's words for the database's clock. STABLE, by the statement's begin: indexes can be used with them.
CREATE FUNCTION unixepoch() RETURNS BIGINT LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT floor(extract(epoch FROM statement_timestamp()))::BIGINT $$;
CREATE FUNCTION unixepoch_ms() RETURNS BIGINT LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT floor(extract(epoch FROM statement_timestamp()) * 1000)::BIGINT $$;

CREATE TABLE records (
    locator       BYTEA  NOT NULL PRIMARY KEY CHECK (length(locator) = 32),
    object        BYTEA  NOT NULL CHECK (length(object) = 32),
    owner         BYTEA  NOT NULL CHECK (length(owner) = 32),
    public        BYTEA  NOT NULL,
    sealed        BYTEA,
    lease         BYTEA  NOT NULL,
    lease_version BIGINT NOT NULL CHECK (lease_version >= 0),
    keep_until    BIGINT NOT NULL CHECK (keep_until >= 0),
    ends_at       BIGINT CHECK (ends_at >= 0),
    placement     TEXT   NOT NULL,
    erased_at     BIGINT,
    CHECK (erased_at IS NULL OR sealed IS NULL)
);
CREATE INDEX records_by_owner ON records (owner, locator) WHERE erased_at IS NULL;
CREATE INDEX records_by_object ON records (object, erased_at, lease_version);
CREATE INDEX records_by_end ON records (ends_at) WHERE erased_at IS NULL AND ends_at > 0;
CREATE INDEX records_unread ON records (locator) WHERE ends_at IS NULL;

CREATE TABLE shards (
    node          TEXT   COLLATE "C" NOT NULL,
    object        BYTEA  NOT NULL CHECK (length(object) = 32),
    shard_column  BIGINT NOT NULL CHECK (shard_column BETWEEN 0 AND 255),
    shard_bytes   BIGINT NOT NULL CHECK (shard_bytes >= 0),
    committed_at  BIGINT NOT NULL,
    PRIMARY KEY (node, object, shard_column)
);
CREATE INDEX shards_by_object ON shards (object, shard_column);

CREATE TABLE blobs (
    blob          BYTEA  NOT NULL PRIMARY KEY CHECK (length(blob) = 32),
    bytes         BYTEA  NOT NULL
);

CREATE TABLE policies (
    owner         BYTEA  NOT NULL CHECK (length(owner) = 32),
    name          TEXT   COLLATE "C" NOT NULL,
    sequence      BIGINT NOT NULL CHECK (sequence >= 0),
    envelope      BYTEA  NOT NULL,
    PRIMARY KEY (owner, name)
);

CREATE TABLE policy_blobs (
    owner         BYTEA  NOT NULL,
    name          TEXT   COLLATE "C" NOT NULL,
    blob          BYTEA  NOT NULL REFERENCES blobs (blob),
    PRIMARY KEY (owner, name, blob),
    FOREIGN KEY (owner, name) REFERENCES policies (owner, name) ON DELETE CASCADE
);

CREATE TABLE nodes (
    name          TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    entry         TEXT   NOT NULL,
    seen          BIGINT NOT NULL
);

-- A number is drawn under a lock that lasts until the commit is visible; the identity alone would not keep their order.
CREATE TABLE changes (
    sequence      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind          TEXT   NOT NULL
);

CREATE TABLE repairs (
    object        BYTEA  NOT NULL PRIMARY KEY CHECK (length(object) = 32),
    margin        BIGINT NOT NULL,
    lost_bytes    BIGINT NOT NULL CHECK (lost_bytes >= 0),
    cause         TEXT   NOT NULL,
    asked_at_ms   BIGINT NOT NULL,
    asks          BIGINT NOT NULL DEFAULT 0,
    asks_taken    BIGINT NOT NULL DEFAULT 0,
    attempts      BIGINT NOT NULL DEFAULT 0,
    not_before_ms BIGINT NOT NULL DEFAULT 0,
    holder        TEXT,
    held_until_ms BIGINT NOT NULL DEFAULT 0,
    error         TEXT,
    dead_at_ms    BIGINT
);
CREATE INDEX repairs_by_risk ON repairs (margin, asked_at_ms, object) WHERE dead_at_ms IS NULL;
CREATE INDEX repairs_dead ON repairs (dead_at_ms, object) WHERE dead_at_ms IS NOT NULL;

CREATE TABLE tickets (
    node           TEXT   COLLATE "C" NOT NULL,
    object         BYTEA  NOT NULL CHECK (length(object) = 32),
    shard_column   BIGINT NOT NULL CHECK (shard_column BETWEEN 0 AND 255),
    stripe         BIGINT NOT NULL CHECK (stripe >= 0),
    reported_at_ms BIGINT NOT NULL,
    holder         TEXT,
    held_until_ms  BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (node, object, shard_column)
);

CREATE TABLE works (
    name          TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    reached       BYTEA  NOT NULL CHECK (length(reached) <= 1024),
    holder        TEXT   NOT NULL,
    held_until_ms BIGINT NOT NULL
);
