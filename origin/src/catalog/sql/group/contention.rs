//! Writes of several nodes about the same records and objects at the same time, on `PostgreSQL`: each has its turn, and
//! none wait in a circle.

use futures::future::join_all;
use sqlx::AssertSqlSafe;
use testing::{Sample, postgres::Server};

use super::{
    tests::{record, until_wait},
    *,
};
use crate::catalog::{PostgresCatalog, PostgresUrl, RepairAsk, RepairCause, Revival, sql::repairs};

async fn two_nodes() -> [PostgresCatalog; 2] {
    let url: PostgresUrl = Server::shared().database().parse().unwrap();
    [PostgresCatalog::connect(&url, 99).await.unwrap(), PostgresCatalog::connect(&url, 99).await.unwrap()]
}

/// Makes everybody who writes a row of this table keep it for a while.
async fn keep_rows(catalog: &PostgresCatalog, when: &str, table: &str) {
    let slow = format!(
        "CREATE FUNCTION slow_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             PERFORM pg_sleep(0.3);
             IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER slow {when} ON {table} FOR EACH ROW EXECUTE FUNCTION slow_{table}()"
    );
    sqlx::raw_sql(AssertSqlSafe(slow)).execute(&catalog.writers).await.unwrap();
}

/// Files records of an object under other names, as an owner does who stores the same twice. Returns what erases them.
async fn filed(catalog: &PostgresCatalog, sample: &Sample, names: [u8; 2]) -> [(Lease, Bytes); 2] {
    let named = |lease: Lease, name: u8| Lease { locator: Locator([name; 32]), ..lease };
    for name in names {
        let record = sample.record(&named(sample.lease(1), name), &"o1".parse().unwrap());
        assert_eq!(records::put(catalog, &record).await.unwrap(), Applied::Stored);
    }
    names.map(|name| {
        let erasure = named(sample.erasure(2), name);
        let envelope = sample.sign(&erasure);
        (erasure, envelope)
    })
}

/// Two objects, the lesser id first.
fn objects(seeds: [u8; 2]) -> [Sample; 2] {
    let mut samples = seeds.map(|seed| Sample::new(seed, 40_000));
    samples.sort_by_key(Sample::id);
    samples
}

/// Makes these writes in one group.
async fn as_a_group(catalog: &PostgresCatalog, leases: &[&(Lease, Bytes)]) -> Vec<Answer> {
    let turn = catalog.group.turn.lock().await;
    let puts = join_all(leases.iter().map(|(lease, envelope)| records::put_lease(catalog, lease, envelope)));
    let (puts, ()) = tokio::join!(puts, async {
        until_wait(catalog, leases.len()).await;
        drop(turn);
    });
    puts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_that_erase_records_of_the_same_objects_wait_in_no_circle() {
    let [one, other] = &two_nodes().await;
    let [first, second] = objects([1, 2]);
    let [first, second] = [filed(one, &first, [1, 2]).await, filed(one, &second, [3, 4]).await];
    keep_rows(one, "BEFORE INSERT OR UPDATE", "dead_objects").await;
    let (there, back) = ([&first[0], &second[0]], [&second[1], &first[1]]);
    let (done, others) = tokio::join!(as_a_group(one, &there), as_a_group(other, &back));
    let is_stored = |answer: &Answer| matches!(answer, Ok(Applied::Stored));
    assert!(done.iter().chain(&others).all(is_stored), "{done:?} {others:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_revives_repairs_and_who_erases_their_objects_wait_in_no_circle() {
    let [one, other] = &two_nodes().await;
    for (round, by) in [Revival::Node, Revival::Operator].into_iter().enumerate() {
        let seed = u8::try_from(2 * round + 1).unwrap();
        let [first, second] = objects([seed, seed + 1]);
        // They lie the other way round.
        for sample in [&second, &first] {
            let (object, cause) = (sample.id(), RepairCause::Scan);
            let ask = RepairAsk { object, margin: 1, bytes: 1, cause, target: None, only_lost: vec![] };
            repairs::queue(one, &ask).await.unwrap();
        }
        one.writer().await.unwrap().run("UPDATE repairs SET dead_at_ms = 1", &[]).await.unwrap();
        let [first, second] =
            [filed(one, &first, [seed, 100]).await[0].clone(), filed(one, &second, [seed + 1, 101]).await[0].clone()];
        for name in [100_u8, 101] {
            let gone = "DELETE FROM records WHERE locator = $1";
            one.writer().await.unwrap().run(gone, &[(&[name; 32]).into()]).await.unwrap();
        }
        if round == 0 {
            keep_rows(one, "BEFORE UPDATE OR DELETE", "repairs").await;
        }
        let both = [&first, &second];
        let (revived, erased) = tokio::join!(repairs::revive(one, by), as_a_group(other, &both));
        assert!(revived.is_ok(), "{by:?} {revived:?}");
        assert!(erased.iter().all(|answer| matches!(answer, Ok(Applied::Stored))), "{by:?} {erased:?}");
        assert_eq!(repairs::count(one).await.unwrap(), Default::default(), "nothing is repaired that was erased");
    }
}

/// Whoever only tries gets a record never that is always written, because it is free at no time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_other_nodes_write_all_the_time_has_its_turn() {
    let [catalog, other] = two_nodes().await;
    let (other, wanted) = (Arc::new(other), record(&Sample::new(1, 9), 1));
    let locator = wanted.locator();
    let writing = || {
        let other = other.clone();
        tokio::spawn(async move {
            loop {
                let mut write = other.write().await.unwrap();
                write.alone(Alone::Record(&locator.0)).await.unwrap();
                // Longer than a leader waits.
                tokio::time::sleep(LOCK_PATIENCE * 3 / 2).await;
            }
        })
    };
    let writers = [writing(), writing(), writing()];
    let is_free = async || catalog.write().await.unwrap().alone_if_free(&[Alone::Record(&locator.0)]).await.unwrap()[0];
    while is_free().await {}
    let sample = Sample::new(2, 9);
    // There is always something else to be done, by whoever leads.
    let others = async {
        let turn = catalog.group.turn.lock().await;
        for version in 1.. {
            let other = Arc::new(Write::Record(Box::new(record(&sample, version))));
            let other = catalog.group.push(&other, &Arc::default());
            lead(&catalog).await;
            assert_eq!(other.await.unwrap().unwrap(), Applied::Stored);
        }
        drop(turn);
    };
    let stored = tokio::select! {
        biased;
        () = others => unreachable!("it never ends"),
        stored = records::put(&catalog, &wanted) => stored,
    };
    writers.iter().for_each(tokio::task::JoinHandle::abort);
    assert_eq!(stored.expect("it is passed over until its time is over"), Applied::Stored);
}
