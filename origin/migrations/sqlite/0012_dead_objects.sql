-- Objects a record of which has died, until no node has a shard of them: what a sweep looks at in place of all shards. A
-- hint: whether an object is dead, its records say.
CREATE TABLE dead_objects (
    object BLOB NOT NULL PRIMARY KEY CHECK (length(object) = 32)
) STRICT, WITHOUT ROWID;
INSERT INTO dead_objects (object)
    SELECT DISTINCT object FROM shards
    WHERE EXISTS (SELECT 1 FROM records r WHERE r.object = shards.object AND r.erased_at IS NOT NULL);
