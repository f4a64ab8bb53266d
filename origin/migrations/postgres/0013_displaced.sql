-- See the same step of SQLite.
ALTER TABLE dead_objects ADD COLUMN since BIGINT NOT NULL DEFAULT 0;
UPDATE dead_objects SET since = unixepoch();
