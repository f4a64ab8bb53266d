-- What is remembered of repairs that failed, and which come last.

-- When an attempt failed last, and which node said so.
ALTER TABLE repairs ADD COLUMN failed_at_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE repairs ADD COLUMN failed_by TEXT;
-- The lost columns, with commas, of a repair that is hopeless: two nodes found that these cannot be made again. It may
-- still be moved, and is asked for again when other columns are lost.
ALTER TABLE repairs ADD COLUMN unmakable TEXT;
ALTER TABLE repairs DROP COLUMN hopeless;
-- Those that cannot be read come after all that can.
DROP INDEX repairs_by_turn;
CREATE INDEX repairs_by_turn ON repairs (margin < 0, margin + attempts, asked_at_ms, object) WHERE dead_at_ms IS NULL;
