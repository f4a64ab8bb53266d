-- Links that sign a browser in, once. Like tokens they are kept as hashes of 256 random bits.
CREATE TABLE console_keys (
    hash    BLOB    NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
    -- What whoever opens the link may do.
    token   BLOB    NOT NULL REFERENCES tokens (id),
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Browsers that are signed in, each as one of the tokens.
CREATE TABLE sessions (
    hash    BLOB    NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
    token   BLOB    NOT NULL REFERENCES tokens (id),
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX sessions_by_token ON sessions (token, created);

-- Policies that were published through the API, as their owner wrote them. Nodes have what they became.
CREATE TABLE policies (
    name    TEXT    NOT NULL PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 63),
    version INTEGER NOT NULL,
    source  TEXT    NOT NULL CHECK (length(source) <= 131072)
) STRICT, WITHOUT ROWID;
