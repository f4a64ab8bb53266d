-- Which catalog this is: the disks of origins note it, so that none takes one that was made anew for the one it knew.
CREATE TABLE identity (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    id  BLOB    NOT NULL CHECK (length(id) = 16)
) STRICT;
INSERT INTO identity (one, id) VALUES (1, randomblob(16));

-- Second at which this locator's first record came, here or on the disk from which it was put back; 0: before this
-- column. Of two owners of one locator the one who came first has it.
ALTER TABLE records ADD COLUMN filed_at INTEGER NOT NULL DEFAULT 0 CHECK (filed_at >= 0);
