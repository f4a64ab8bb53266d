-- What the edges of a zone share, sealed by them: their certificate for viewers and the order under way for it.
CREATE TABLE notes (
    note    BLOB    NOT NULL PRIMARY KEY CHECK (length(note) = 32),
    version INTEGER NOT NULL CHECK (version > 0),
    sealed  BLOB    NOT NULL CHECK (length(sealed) <= 65536)
) STRICT, WITHOUT ROWID;
