-- Whether this catalog left for another database, or is not all here yet: no origin may use it then, and `identity` has
-- no row. One row at most.
CREATE TABLE moves (
    one   INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    -- The id that stands in `identity` of the one database that may be used.
    id    BLOB    NOT NULL CHECK (length(id) = 16),
    -- Random, and the same in both databases of a move.
    move  BLOB    NOT NULL CHECK (length(move) = 16),
    -- 1: it left for `place`. 0: it comes from there.
    gone  INTEGER NOT NULL CHECK (gone IN (0, 1)),
    -- The other database, as a URL without a password.
    place TEXT    NOT NULL
) STRICT;
