//! How long an object stays, by its lease alone.

use std::time::{SystemTime, UNIX_EPOCH};

use client::{ShardAsk, Transport};
use format::{Lease, Record, Retention, wire::Role};
use testing::{Sample, conformance::upload, until};

use crate::world::World;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// An owner's clock that is a minute behind: what is to be kept for half a minute has ended already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_has_ended_by_the_nodes_clock_is_refused_and_says_so() {
    let world = World::start(1, "").await;
    let (twin, one) = (world.caller("t1", Role::Twin), world.name(1));
    let (stored, late) = (Sample::new(1, 40_000), Sample::new(2, 40_000));
    let ended = |sample: &Sample, version| {
        let retention = Retention { keep_until: 0, expires: now() - 30 };
        Lease { retention, ..sample.lease(version) }
    };
    let held = async |sample: &Sample| {
        let record = twin.record(&one, &sample.sealed.locator).await.unwrap();
        record.map(|record| Record::decode(&record).unwrap().lease.version)
    };
    let first = stored.record(&stored.lease(1), &one).encode();
    twin.put_record(&one, &stored.sealed.locator, first.into()).await.unwrap();
    let record = late.record(&ended(&late, 1), &one).encode();
    let renewal = stored.sign(&ended(&stored, 2));
    for refused in [
        twin.put_record(&one, &late.sealed.locator, record.into()).await,
        twin.put_lease(&one, &stored.sealed.locator, renewal).await,
    ] {
        let refused = refused.unwrap_err();
        assert!(!refused.is_retryable() && refused.to_string().contains("by the clock of these nodes"), "{refused}");
    }
    assert_eq!((held(&late).await, held(&stored).await), (None, Some(1)));
    world.end().await;
}

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
    for (sample, keep_until) in [(&ending, 0), (&kept, 1 << 40)] {
        let expires = now() + 2;
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

/// The clock of the catalog was set; a node that is started anew must not believe it sooner than one that went on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_clock_was_set_no_restart_makes_leases_end_sooner() {
    let mut world = World::start(1, "limits.sweep_seconds = 1").await;
    let one = world.name(1);
    let sample = Sample::new(1, 40_000);
    let lease = Lease { retention: Retention { keep_until: 0, expires: now() + 2 }, ..sample.lease(1) };
    let record = sample.record(&lease, &one).encode();
    world.caller("t1", Role::Twin).put_record(&one, &sample.sealed.locator, record.into()).await.unwrap();
    world.stop_node(1).await;
    let note = world.data_dir("o1").join("clock");
    std::fs::write(&note, format!("{} 0", now())).unwrap();
    world.start_node(1).await;
    let waited = || {
        let note = std::fs::read_to_string(&note).unwrap_or_default();
        note.split_once(' ').and_then(|(_, seconds)| seconds.parse::<u64>().ok()).unwrap_or_default()
    };
    until("sweeps after the lease's end", || async { waited() >= 4 }).await;
    let record = world.caller("t1", Role::Twin).record(&one, &sample.sealed.locator).await.unwrap().unwrap();
    assert!(Record::decode(&record).unwrap().sealed.is_some(), "the lease has ended");
    world.end().await;
}
