-- When an object was found to be dead. One whose record gave way to an earlier one has no record that tells it.
ALTER TABLE dead_objects ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
UPDATE dead_objects SET since = unixepoch();
