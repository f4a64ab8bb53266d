//! Promises about the rows of shards and what is kept beside them, and about writes that come at once.

use bytes::Bytes;
use format::{Lease, NodeName, ObjectId, Record};
use futures::future::join_all;
use origin::catalog::{Applied, Catalog, CatalogUrl, ShardRow, ShardTotals};
use testing::Sample;

use super::{ago, entry, node};

pub(in crate::catalog) async fn dead_shards_of_a_node_that_is_gone_are_forgotten(catalog: &dyn Catalog) {
    let (o1, gone) = (node("o1"), node("gone"));
    let (hour, at_once) = (3600, 0);
    catalog.announce(&entry("o1", "z1", 50)).await.unwrap();
    let [dead, alive, strange] = [1, 2, 3].map(|seed| Sample::new(seed, 40_000));
    let row =
        |at: &NodeName, sample: &Sample, column| ShardRow { node: at.clone(), object: sample.id(), column, bytes: 9 };
    for at in [&o1, &gone] {
        for sample in [&dead, &alive, &strange] {
            catalog.place_shard(&row(at, sample, 0)).await.unwrap();
        }
    }
    catalog.place_shard(&row(&gone, &dead, 1)).await.unwrap();
    catalog.put_record(&alive.record(&alive.lease(1), &o1)).await.unwrap();
    catalog.put_record(&dead.record(&dead.erasure(1), &o1)).await.unwrap();
    // One that gave way has no record that tells of its death.
    let owned = Sample::new(4, 40_000);
    let squat = Lease { locator: owned.sealed.locator, ..strange.lease(1) };
    catalog.put_record(&strange.record(&squat, &o1)).await.unwrap();
    catalog.restore_record(&owned.record(&owned.lease(1), &o1), 1).await.unwrap();

    let abandon = async |grace: u64, silent: u64| {
        catalog.abandon_shards(ago(catalog, grace).await, ago(catalog, silent).await, None, 9).await.unwrap().shards
    };
    assert_eq!(abandon(hour, hour).await, 0, "they died a moment ago");
    // Two are dead. Each look is at one, whatever it finds of it, and the next one goes on behind it.
    let (mut after, mut shards, mut looks) = (None, Vec::new(), 0);
    loop {
        let look = catalog
            .abandon_shards(ago(catalog, at_once).await, ago(catalog, hour).await, after.as_ref(), 1)
            .await
            .unwrap();
        (after, looks) = (look.after, looks + 1);
        shards.push(look.shards);
        if after.is_none() {
            break;
        }
    }
    assert!(looks <= 3 && shards.iter().sum::<u64>() == 2 && shards.contains(&2), "{shards:?}");
    assert_eq!(abandon(at_once, hour).await, 0);
    let held = async |at: &NodeName| catalog.shards_on(at, None, 9).await.unwrap();
    let mut left = vec![row(&gone, &alive, 0), row(&gone, &strange, 0)];
    left.sort_by_key(|row| row.object);
    assert_eq!(held(&gone).await, left);
    assert_eq!(held(&o1).await.len(), 3, "it is there, and removes its own");
    // It comes back with them after all.
    catalog.place_shard(&row(&gone, &dead, 1)).await.unwrap();
    let found = catalog.dead_shards(&gone, ago(catalog, at_once).await, None, 9).await.unwrap();
    assert!(found.contains(&row(&gone, &dead, 1)) && found.len() == 2, "{found:?}");
    assert_eq!(abandon(at_once, at_once).await, 2, "also one that was silent for so long");
}

pub(in crate::catalog) async fn totals_are_those_of_the_rows(catalog: &dyn Catalog) {
    let o1 = node("o1");
    let row = |column, bytes| ShardRow { node: o1.clone(), object: ObjectId([1; 32]), column, bytes };
    let totals = async || {
        let (told, rows) = (catalog.shard_totals(&o1).await.unwrap(), catalog.shards_on(&o1, None, 99).await.unwrap());
        let counted = ShardTotals { shards: rows.len() as u64, bytes: rows.iter().map(|row| row.bytes).sum() };
        assert_eq!(told, counted);
        (told.shards, told.bytes)
    };
    assert_eq!(totals().await, (0, 0));
    for (column, bytes, told) in [(0, 10, (1, 10)), (1, 5, (2, 15)), (0, 10, (2, 15)), (0, 7, (2, 12)), (2, 0, (3, 12))]
    {
        catalog.place_shard(&row(column, bytes)).await.unwrap();
        assert_eq!(totals().await, told, "{column} {bytes}");
    }
    catalog.place_shard(&ShardRow { node: node("o2"), ..row(0, 99) }).await.unwrap();
    catalog.forget_shard(&row(0, 7), ago(catalog, 3600).await).await.unwrap();
    assert_eq!(totals().await, (3, 12), "it came a moment ago");
    catalog.forget_shard(&row(0, 7), ago(catalog, 0).await).await.unwrap();
    catalog.lose_shard(&row(1, 5)).await.unwrap();
    catalog.lose_shard(&row(1, 5)).await.unwrap();
    assert_eq!(totals().await, (1, 0));
}

/// Those that are written together wait for each other in no circle.
pub(in crate::catalog) async fn writes_of_two_processes_at_once_are_each_answered(url: CatalogUrl) {
    let catalogs = [url.open(1000).await.unwrap(), url.open(1000).await.unwrap()];
    let samples: Vec<Sample> = (1..=40).map(|seed| Sample::new(seed, 9)).collect();
    let alive: Vec<Record> = samples.iter().map(|it| it.record(&it.lease(1), &node("o1"))).collect();
    // One process from the first, the other from the last.
    let both = |len: usize| (0..len).map(|at| (0, at)).chain((0..len).rev().map(|at| (1, at)));
    let puts = both(alive.len()).map(|(catalog, at)| catalogs[catalog].put_record(&alive[at]));
    let told = join_all(puts).await.into_iter().map(Result::unwrap);
    assert_eq!(told.filter(|applied| *applied == Applied::Stored).count(), alive.len());
    let erased: Vec<(Lease, Bytes)> = samples.iter().map(|it| (it.erasure(2), it.sign(&it.erasure(2)))).collect();
    let puts = both(erased.len()).map(|(catalog, at)| catalogs[catalog].put_lease(&erased[at].0, &erased[at].1));
    let told = join_all(puts).await.into_iter().map(Result::unwrap);
    assert_eq!(told.filter(|applied| *applied == Applied::Stored).count(), erased.len());
    let page = catalogs[0].changes(0, 1000).await.unwrap();
    let told: Vec<u64> = page.changes.iter().map(|change| change.sequence).collect();
    assert!(told.is_sorted() && told.len() == 80, "{told:?}");
    for catalog in catalogs {
        catalog.close().await;
    }
}
