-- What each node holds, kept by every write of a shard: counting its rows took as long as it has shards, with each sweep.
CREATE TABLE node_totals (
    node        TEXT    NOT NULL PRIMARY KEY,
    shards      INTEGER NOT NULL,
    shard_bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO node_totals (node, shards, shard_bytes) SELECT node, count(*), sum(shard_bytes) FROM shards GROUP BY node;
CREATE TRIGGER shard_came AFTER INSERT ON shards BEGIN
    INSERT INTO node_totals (node, shards, shard_bytes) VALUES (NEW.node, 1, NEW.shard_bytes)
    ON CONFLICT (node) DO UPDATE SET shards = shards + 1, shard_bytes = shard_bytes + excluded.shard_bytes;
END;
CREATE TRIGGER shard_changed AFTER UPDATE OF shard_bytes ON shards WHEN NEW.shard_bytes <> OLD.shard_bytes BEGIN
    UPDATE node_totals SET shard_bytes = shard_bytes + NEW.shard_bytes - OLD.shard_bytes WHERE node = NEW.node;
END;
CREATE TRIGGER shard_went AFTER DELETE ON shards BEGIN
    UPDATE node_totals SET shards = shards - 1, shard_bytes = shard_bytes - OLD.shard_bytes WHERE node = OLD.node;
END;
-- Of objects that lie inline no node has a shard with which their rows would go.
DELETE FROM dead_objects WHERE NOT EXISTS (SELECT 1 FROM shards s WHERE s.object = dead_objects.object);
