-- Who made a token; null: a command beside the twin, or the twin itself. What a token made ends with it.
ALTER TABLE tokens ADD COLUMN maker BLOB REFERENCES tokens (id);
-- Whether it is the one of all who sign in by a link. Its name is kept for it.
ALTER TABLE tokens ADD COLUMN links INTEGER NOT NULL DEFAULT 0 CHECK (links IN (0, 1));
UPDATE tokens SET name = 'console-' || lower(hex(id)) WHERE name = 'console' AND revoked IS NULL;
CREATE UNIQUE INDEX token_of_links ON tokens (links) WHERE links = 1 AND revoked IS NULL;
CREATE INDEX tokens_by_maker ON tokens (maker) WHERE maker IS NOT NULL;

-- A session is a hash of two secrets from now on; those of one secret are nobody's.
DELETE FROM sessions;
DELETE FROM console_keys;

-- What a line is about that is no object: the name of a token or a policy.
ALTER TABLE audit ADD COLUMN about TEXT CHECK (length(about) <= 64);
