-- What repair, scrub and retention need. Times that end in _ms are milliseconds since 1970: holds are short.

-- Second at which the lease ends by itself, `keep_until` taken in; 0 never. NULL: filed before this column, not read out of
-- the lease yet.
ALTER TABLE records ADD COLUMN ends_at INTEGER CHECK (ends_at >= 0);
CREATE INDEX records_by_end ON records (ends_at) WHERE erased_at IS NULL AND ends_at > 0;
CREATE INDEX records_unread ON records (locator) WHERE ends_at IS NULL;
-- The living records of an object; the scan over all objects pages through it.
DROP INDEX records_by_object;
CREATE INDEX records_by_object ON records (object, erased_at, lease_version);

-- Objects that lack shards, one row each.
CREATE TABLE repairs (
    object        BLOB    NOT NULL PRIMARY KEY CHECK (length(object) = 32),
    -- Healthy columns above k; below zero the object cannot be read.
    margin        INTEGER NOT NULL,
    lost_bytes    INTEGER NOT NULL CHECK (lost_bytes >= 0),
    cause         TEXT    NOT NULL,
    asked_at_ms   INTEGER NOT NULL,
    -- How often it was asked for while held, and how often of these when it was taken: a repair that ends knows whether
    -- something was lost since it began.
    asks          INTEGER NOT NULL DEFAULT 0,
    asks_taken    INTEGER NOT NULL DEFAULT 0,
    attempts      INTEGER NOT NULL DEFAULT 0,
    not_before_ms INTEGER NOT NULL DEFAULT 0,
    holder        TEXT,
    held_until_ms INTEGER NOT NULL DEFAULT 0,
    error         TEXT,
    -- Given up; somebody must look.
    dead_at_ms    INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX repairs_by_risk ON repairs (margin, asked_at_ms, object) WHERE dead_at_ms IS NULL;
CREATE INDEX repairs_dead ON repairs (dead_at_ms, object) WHERE dead_at_ms IS NOT NULL;

-- Shards of which a reader got a wrong strip; a hint until somebody verified it.
CREATE TABLE tickets (
    node           TEXT    NOT NULL,
    object         BLOB    NOT NULL CHECK (length(object) = 32),
    shard_column   INTEGER NOT NULL CHECK (shard_column BETWEEN 0 AND 255),
    stripe         INTEGER NOT NULL CHECK (stripe >= 0),
    reported_at_ms INTEGER NOT NULL,
    holder         TEXT,
    held_until_ms  INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (node, object, shard_column)
) STRICT, WITHOUT ROWID;

-- Work that one origin at a time does, and how far it came.
CREATE TABLE works (
    name          TEXT    NOT NULL PRIMARY KEY,
    reached       BLOB    NOT NULL CHECK (length(reached) <= 1024),
    holder        TEXT    NOT NULL,
    held_until_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
