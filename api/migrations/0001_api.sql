-- Who may use the API. The secret itself is nowhere; its hash is of 256 random bits.
CREATE TABLE tokens (
    id      BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 8),
    hash    BLOB    NOT NULL CHECK (length(hash) = 32),
    name    TEXT    NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    scope   INTEGER NOT NULL CHECK (scope BETWEEN 0 AND 2),
    created INTEGER NOT NULL,
    expires INTEGER,
    revoked INTEGER,
    quota   INTEGER CHECK (quota >= 0),
    rate    INTEGER NOT NULL CHECK (rate > 0)
) STRICT, WITHOUT ROWID;

-- Of tokens that count, no two have one name.
CREATE UNIQUE INDEX tokens_by_name ON tokens (name) WHERE revoked IS NULL;

-- What came through the API. The encrypted index of the owner has the rest: name, label, type, policy, times.
CREATE TABLE uploads (
    batch   BLOB    NOT NULL PRIMARY KEY CHECK (length(batch) = 16),
    token   BLOB    NOT NULL REFERENCES tokens (id),
    -- Milliseconds since 1970; no two uploads have the same, because lists are paged by it.
    created INTEGER NOT NULL UNIQUE,
    -- 0: under way, or cut short by a crash. 1: stored and acknowledged. 2: parts of it are acknowledged and lie in the
    -- spool, others are still to come.
    state   INTEGER NOT NULL CHECK (state BETWEEN 0 AND 2),
    -- How it came: 0 a file or form of /files, 1 a file, 2 a form, 3 a CAR, 4 metadata with files.
    source  INTEGER NOT NULL CHECK (source BETWEEN 0 AND 4),
    -- Of its files; of one that is not whole, of what lies in the spool.
    bytes   INTEGER NOT NULL CHECK (bytes >= 0),
    locator BLOB    UNIQUE CHECK (length(locator) = 32),
    cid     TEXT    CHECK (length(cid) <= 128),
    -- Of all blocks of the DAG.
    dag     INTEGER NOT NULL CHECK (dag >= 0),
    -- What its owner calls it on nft.storage's paths, where that is not the name of the object.
    title   TEXT    CHECK (length(title) <= 1024)
) STRICT, WITHOUT ROWID;

CREATE INDEX uploads_by_token ON uploads (token);
CREATE INDEX uploads_by_cid ON uploads (cid, created);

-- Uploads in several requests. Their bytes lie in the spool, as many of them as `offset` says durably.
CREATE TABLE resumables (
    batch    BLOB    NOT NULL PRIMARY KEY CHECK (length(batch) = 16),
    token    BLOB    NOT NULL REFERENCES tokens (id),
    created  INTEGER NOT NULL,
    expires  INTEGER NOT NULL,
    length   INTEGER NOT NULL CHECK (length >= 0),
    offset   INTEGER NOT NULL CHECK (offset BETWEEN 0 AND length),
    metadata TEXT    CHECK (length(metadata) <= 8192),
    concat   TEXT    CHECK (length(concat) <= 65536),
    -- Lines of a field's name, a colon and its value.
    wishes   TEXT    NOT NULL CHECK (length(wishes) <= 65536),
    locator  BLOB    CHECK (length(locator) = 32)
) STRICT, WITHOUT ROWID;

CREATE INDEX resumables_by_token ON resumables (token);

-- Pins, as the Pinning Service API has them. Whether one is kept its uploads say.
CREATE TABLE pins (
    id      BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    token   BLOB    NOT NULL REFERENCES tokens (id),
    created INTEGER NOT NULL UNIQUE,
    cid     TEXT    NOT NULL CHECK (length(cid) <= 128),
    -- As it came, in JSON.
    pin     TEXT    NOT NULL CHECK (length(pin) <= 1048576)
) STRICT, WITHOUT ROWID;

-- Who did what, when, and what came of it.
CREATE TABLE audit (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    at       INTEGER NOT NULL,
    token    BLOB    NOT NULL CHECK (length(token) = 8),
    action   TEXT    NOT NULL CHECK (length(action) <= 64),
    subject  BLOB    CHECK (length(subject) = 32),
    status   INTEGER NOT NULL,
    bytes    INTEGER NOT NULL
) STRICT;

CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is only appended to'); END;

-- The log has a bound: what is older than its newest million lines may go, and nothing else.
CREATE TRIGGER audit_is_not_cut BEFORE DELETE ON audit
WHEN OLD.sequence > (SELECT max(sequence) FROM audit) - 1000000
BEGIN SELECT RAISE(ABORT, 'the newest million lines of the audit log stay'); END;
