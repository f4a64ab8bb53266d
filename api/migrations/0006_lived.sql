-- Time as it counts for what waits in the spool: seconds that a twin saw pass, and the latest that the clock said.
CREATE TABLE lived (
    one     INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    seconds INTEGER NOT NULL CHECK (seconds >= 0),
    latest  INTEGER NOT NULL CHECK (latest >= 0)
) STRICT;

-- `expires` and `due` of a resumable upload count in it from now on. What is there has its seven days once more.
UPDATE resumables SET expires = 604800, due = 0;

-- When a part of a DAG came, in it.
ALTER TABLE uploads ADD COLUMN arrived INTEGER NOT NULL DEFAULT 0;
