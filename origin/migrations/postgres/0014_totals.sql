-- See the same step of SQLite. Nobody places or forgets a shard between the count and the triggers.
LOCK TABLE shards IN SHARE ROW EXCLUSIVE MODE;
CREATE TABLE node_totals (
    node        TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    shards      BIGINT NOT NULL,
    shard_bytes BIGINT NOT NULL
);
INSERT INTO node_totals (node, shards, shard_bytes)
    SELECT node, count(*), CAST(sum(shard_bytes) AS BIGINT) FROM shards GROUP BY node;
CREATE FUNCTION count_shard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO node_totals AS t (node, shards, shard_bytes) VALUES (NEW.node, 1, NEW.shard_bytes)
        ON CONFLICT (node) DO UPDATE SET shards = t.shards + 1, shard_bytes = t.shard_bytes + excluded.shard_bytes;
    ELSIF TG_OP = 'UPDATE' THEN
        UPDATE node_totals SET shard_bytes = shard_bytes + NEW.shard_bytes - OLD.shard_bytes WHERE node = NEW.node;
    ELSE
        UPDATE node_totals SET shards = shards - 1, shard_bytes = shard_bytes - OLD.shard_bytes WHERE node = OLD.node;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER shard_counted AFTER INSERT OR DELETE ON shards FOR EACH ROW EXECUTE FUNCTION count_shard();
CREATE TRIGGER shard_changed AFTER UPDATE OF shard_bytes ON shards FOR EACH ROW
    WHEN (NEW.shard_bytes <> OLD.shard_bytes) EXECUTE FUNCTION count_shard();
DELETE FROM dead_objects WHERE NOT EXISTS (SELECT 1 FROM shards s WHERE s.object = dead_objects.object);
