-- See the same step of SQLite.
ALTER TABLE repairs ADD COLUMN hopeless BIGINT NOT NULL DEFAULT 0 CHECK (hopeless IN (0, 1));
DROP INDEX repairs_by_risk;
CREATE INDEX repairs_by_turn ON repairs ((margin + attempts), asked_at_ms, object) WHERE dead_at_ms IS NULL;
