//! The plans of what every sweep asks of each engine: it costs what it finds, and not what the catalog has.

use sqlx::{AssertSqlSafe, Row};
use testing::postgres::Server;

use super::{Arg, Cells, expiry, feed, repairs, shards};
use crate::catalog::{PostgresCatalog, PostgresUrl, SqliteCatalog};

/// The statements, and their arguments as `PostgreSQL` writes them.
const SWEEP: &[(&str, &[&str])] = &[
    (expiry::UNREAD, &["9::bigint"]),
    (expiry::DUE, &["9::bigint", "9::bigint"]),
    (expiry::END, &[ID, "9::bigint"]),
    (repairs::FORGET_ERASED, &[ID]),
    (feed::TRIM, &["9::bigint"]),
    (shards::DEAD, &["'o1'::text", "9::bigint", ID, "1::bigint", "9::bigint"]),
    (shards::DEAD_OBJECTS, &[ID, "9::bigint"]),
    (shards::ABANDONED, &["'o1'::text", "9::bigint", ID, ID]),
    (shards::FORGET, &["'o1'::text", ID, "1::bigint", "9::bigint"]),
    (shards::FORGET_DEAD, &[ID]),
    (shards::LOCK_DEAD, &[ID]),
    (shards::ABANDON, &["'o1'::text", ID, "1::bigint"]),
    (shards::TOTALS, &["'o1'::text"]),
];
const ID: &str = r"'\x01'::bytea";
/// Rows of a cluster that has stored a while, and lost little.
const ROWS: &str = r"
    INSERT INTO records (locator, object, owner, public, sealed, lease, lease_version, keep_until, ends_at, placement, erased_at)
        SELECT sha256(int4send(i)), sha256(int4send(i)), sha256('o'), '\x00', CASE WHEN i > 50 THEN '\x00'::bytea END, '\x00',
               1, 0, 4000000000 + i, '[null]', CASE WHEN i > 50 THEN NULL ELSE 1 END
        FROM generate_series(1, 20000) i;
    ALTER TABLE shards DISABLE TRIGGER USER;
    INSERT INTO shards (node, object, shard_column, shard_bytes, committed_at)
        SELECT 'o' || (i % 4), sha256(int4send(i / 4)), i % 4, 9, 1 FROM generate_series(4, 80000) i;
    INSERT INTO dead_objects (object, since) SELECT sha256(int4send(i)), 1 FROM generate_series(1, 50) i;
    INSERT INTO repairs (object, margin, lost_bytes, cause, asked_at_ms)
        SELECT sha256(int4send(i)), 1, 1, 'scan', 1 FROM generate_series(1, 20000) i;
    INSERT INTO changes (kind) SELECT '{}' FROM generate_series(1, 20000) i;
    INSERT INTO node_counts (node, shards, shard_bytes) SELECT 'n' || i, 1, 1 FROM generate_series(1, 20000) i;
    INSERT INTO node_deltas (node, shards, shard_bytes) SELECT 'n' || i, 1, 1 FROM generate_series(1, 20000) i;
    ANALYZE";

async fn steps_of_sqlite(catalog: &SqliteCatalog, statement: &str, args: usize) -> Vec<String> {
    let plan: &'static str = format!("EXPLAIN QUERY PLAN {statement}").leak();
    let rows = catalog.reader().await.unwrap().all(plan, &vec![Arg::Number(1); args]).await.unwrap();
    rows.iter().map(|row| Cells::text(row, 3).unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_sweep_searches_and_never_reads_a_whole_table_of_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = SqliteCatalog::open(&dir.path().join("catalog.db"), 10).await.unwrap();
    for (statement, args) in SWEEP {
        let steps = steps_of_sqlite(&catalog, statement, args.len()).await;
        // The index has just the rows that are asked for.
        let is_bounded = |step: &String| !step.contains("SCAN") || step.contains("USING INDEX records_unread");
        assert!(steps.iter().all(|step| is_bounded(step) && !step.contains("TEMP B-TREE")), "{statement}: {steps:?}");
    }
    // The dead first, in order, and the shards of each by their name.
    let steps = steps_of_sqlite(&catalog, shards::DEAD, 5).await;
    assert!(steps[0].starts_with("SEARCH d USING PRIMARY KEY (object>"), "{steps:?}");
    assert!(steps.iter().any(|step| step.starts_with("SEARCH s USING PRIMARY KEY (node=? AND object=?")), "{steps:?}");
}

async fn steps_of_postgres(catalog: &PostgresCatalog, statement: &str, args: &[&str], plan: &str) -> Vec<String> {
    let types: Vec<&str> = args.iter().map(|arg| arg.split_once("::").unwrap().1).collect();
    let mut connection = catalog.writers.acquire().await.unwrap();
    // As a server plans for any arguments, and for these.
    let prepare = format!(
        "SET plan_cache_mode = {plan}; PREPARE asked({}) AS {statement}; EXPLAIN EXECUTE asked({}); DEALLOCATE asked",
        types.join(", "),
        args.join(", ")
    );
    let rows = sqlx::raw_sql(AssertSqlSafe(prepare)).fetch_all(&mut *connection).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>(0)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_searches_and_never_reads_a_whole_table_of_postgres() {
    let url: PostgresUrl = Server::shared().database().parse().unwrap();
    let catalog = PostgresCatalog::connect(&url, 10).await.unwrap();
    sqlx::raw_sql(ROWS).execute(&catalog.writers).await.unwrap();
    for plan in ["force_generic_plan", "force_custom_plan"] {
        for (statement, args) in SWEEP {
            let steps = steps_of_postgres(&catalog, statement, args, plan).await;
            // The list of the dead is short, and may be read whole and sorted.
            let is_bounded = |step: &String| !step.contains("Seq Scan") || step.contains("Seq Scan on dead_objects");
            assert!(steps.iter().all(is_bounded), "{statement}: {steps:#?}");
        }
        let dead = steps_of_postgres(&catalog, shards::DEAD, SWEEP[5].1, plan).await;
        assert!(dead.iter().any(|step| step.contains("(object = d.object)")), "{dead:#?}");
        let end = steps_of_postgres(&catalog, expiry::END, SWEEP[2].1, plan).await;
        assert!(end.iter().any(|step| step.contains("records_pkey")), "{end:#?}");
    }
}
