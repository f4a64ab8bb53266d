-- Of a node's totals each writer kept the row until its commit, and the next one waited for that. Writers add a row each
-- now, and the sweep puts these together.
LOCK TABLE shards IN SHARE ROW EXCLUSIVE MODE;
ALTER TABLE node_totals RENAME TO node_counts;
CREATE TABLE node_deltas (
    node        TEXT   COLLATE "C" NOT NULL,
    shards      BIGINT NOT NULL,
    shard_bytes BIGINT NOT NULL
);
CREATE INDEX node_deltas_by_node ON node_deltas (node);
CREATE VIEW node_totals AS
    SELECT node, CAST(sum(shards) AS BIGINT) AS shards, CAST(sum(shard_bytes) AS BIGINT) AS shard_bytes
    FROM (SELECT node, shards, shard_bytes FROM node_counts
          UNION ALL SELECT node, shards, shard_bytes FROM node_deltas) AS counted
    GROUP BY node;
CREATE OR REPLACE FUNCTION count_shard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO node_deltas (node, shards, shard_bytes) VALUES (NEW.node, 1, NEW.shard_bytes);
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO node_deltas (node, shards, shard_bytes) VALUES (NEW.node, 0, NEW.shard_bytes - OLD.shard_bytes);
    ELSE
        INSERT INTO node_deltas (node, shards, shard_bytes) VALUES (OLD.node, -1, -OLD.shard_bytes);
    END IF;
    RETURN NULL;
END $$;
