-- See the same step of SQLite.
CREATE TABLE dead_objects (
    object BYTEA NOT NULL PRIMARY KEY CHECK (length(object) = 32)
);
INSERT INTO dead_objects (object)
    SELECT DISTINCT object FROM shards
    WHERE EXISTS (SELECT 1 FROM records r WHERE r.object = shards.object AND r.erased_at IS NOT NULL);
