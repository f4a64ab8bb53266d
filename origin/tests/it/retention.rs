//! How long an object stays, by its lease alone.

use std::time::{SystemTime, UNIX_EPOCH};

use client::{ShardAsk, Transport};
use format::{Lease, Record, Retention, wire::Role};
use testing::{Sample, conformance::upload, until};

use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_past_its_expiry_is_erased_everywhere_but_not_one_that_is_to_be_kept() {
    let world = World::start(2, "limits.erase_grace_seconds = 0\nlimits.sweep_seconds = 1").await;
    let twin = world.caller("t1", Role::Twin);
    let [one, two] = [world.name(1), world.name(2)];
    let (ending, kept) = (Sample::new(1, 40_000), Sample::new(2, 40_000));
    for sample in [&ending, &kept] {
        upload(&twin, &one, &sample.columns[0], 0, &sample.sealed.public).await.unwrap();
        let record = bytes::Bytes::from(sample.record(&sample.lease(1), &one).encode());
        for node in [&one, &two] {
            twin.put_record(node, &sample.sealed.locator, record.clone()).await.unwrap();
        }
    }
    let expires = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 1;
    for (sample, keep_until) in [(&ending, 0), (&kept, 1 << 40)] {
        let lease = Lease { retention: Retention { keep_until, expires }, ..sample.lease(2) };
        twin.put_lease(&one, &sample.sealed.locator, sample.sign(&lease)).await.unwrap();
    }
    let is_sealed = async |sample: &Sample, node| {
        let record = twin.record(node, &sample.sealed.locator).await.unwrap().unwrap();
        Record::decode(&record).unwrap().sealed.is_some()
    };
    let shard = |sample: &Sample| ShardAsk { object: sample.id(), column: 0, first: 0, count: 1 };
    for node in [&one, &two] {
        until("the end of the lease", || async { !is_sealed(&ending, node).await }).await;
    }
    until("the removal of the shard", || async { twin.read_shard(&one, shard(&ending)).await.is_err() }).await;
    assert!(is_sealed(&kept, &one).await && is_sealed(&kept, &two).await);
    twin.read_shard(&one, shard(&kept)).await.unwrap();
    world.end().await;
}
