-- What the edges of a zone share, sealed by them: their certificate for viewers and the order under way for it.
CREATE TABLE notes (
    note    BYTEA  NOT NULL PRIMARY KEY CHECK (length(note) = 32),
    version BIGINT NOT NULL CHECK (version > 0),
    sealed  BYTEA  NOT NULL CHECK (length(sealed) <= 65536)
);
