-- Whose turn a repair is, and those that nobody can end well.

-- 1: no attempt can do better, so nothing but the object's erasure changes it.
ALTER TABLE repairs ADD COLUMN hopeless INTEGER NOT NULL DEFAULT 0 CHECK (hopeless IN (0, 1));
-- Each attempt that failed counts like a column more: an object whose repair always fails lets the others pass.
DROP INDEX repairs_by_risk;
CREATE INDEX repairs_by_turn ON repairs (margin + attempts, asked_at_ms, object) WHERE dead_at_ms IS NULL;
