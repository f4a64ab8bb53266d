-- See the same step of SQLite.
CREATE TABLE identity (
    one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    id  BYTEA  NOT NULL CHECK (length(id) = 16)
);
INSERT INTO identity (one, id) VALUES (1, decode(replace(gen_random_uuid()::text, '-', ''), 'hex'));
ALTER TABLE records ADD COLUMN filed_at BIGINT NOT NULL DEFAULT 0 CHECK (filed_at >= 0);
