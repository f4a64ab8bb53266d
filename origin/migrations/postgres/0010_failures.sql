-- See the same step of SQLite.
ALTER TABLE repairs ADD COLUMN failed_at_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE repairs ADD COLUMN failed_by TEXT;
ALTER TABLE repairs ADD COLUMN unmakable TEXT;
ALTER TABLE repairs DROP COLUMN hopeless;
DROP INDEX repairs_by_turn;
CREATE INDEX repairs_by_turn ON repairs ((margin < 0), (margin + attempts), asked_at_ms, object)
    WHERE dead_at_ms IS NULL;
