-- See the same step of SQLite.
CREATE TABLE moves (
    one   BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    id    BYTEA  NOT NULL CHECK (length(id) = 16),
    move  BYTEA  NOT NULL CHECK (length(move) = 16),
    gone  BIGINT NOT NULL CHECK (gone IN (0, 1)),
    place TEXT   NOT NULL
);
