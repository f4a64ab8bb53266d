//! A full disk: writes are refused with 507, reads go on, and removing makes room again.

use std::{
    io::{ErrorKind, Write},
    sync::Arc,
};

use bytes::Bytes;
use client::Transport;
use format::wire::Role;
use hyper::StatusCode;
use origin::store::{AppendError, CommitError, RealDisk, Store, StoreError};
use testing::{
    Sample,
    conformance::{status, upload},
    mount::Mount,
    until,
};

use crate::{
    store::{assert_whole, open, upload as commit},
    world::World,
};

fn is_full(error: &StoreError) -> bool {
    matches!(error, StoreError::Io { source, .. } if source.kind() == ErrorKind::StorageFull)
}

mod needs_root {
    use super::*;

    #[test]
    #[ignore = "needs root"]
    fn a_write_without_room_leaves_nothing_and_what_was_there_reads() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("store");
        let _mount = Mount::small(&root, 8);
        let store = open(&root);
        // In packs and as files.
        let held = [Sample::new(1, 140_000), Sample::new(2, 2 << 20)];
        for sample in &held {
            commit(&store, sample, 0).unwrap();
        }
        // Every amount of room short of enough: none, some for the strips, some for the sidecars.
        let filler = root.join("filler");
        let wanted = [Sample::new(3, 140_000), Sample::new(4, 2 << 20)];
        for room in [0, 4, 64, 72, 140, 512, 520] {
            let mut file = std::fs::File::create(&filler).unwrap();
            while file.write_all(&[1; 4096]).is_ok() {}
            let length = file.metadata().unwrap().len();
            file.set_len(length.saturating_sub(room * 1024)).unwrap();
            for sample in &wanted {
                let mut draft = store.draft("full", 0, sample.columns.len()).unwrap();
                let done = match draft.append(0, &sample.columns[0]) {
                    Ok(()) => draft.commit(0, &sample.sealed.public).map(drop),
                    Err(AppendError::Store(error)) => {
                        drop(draft);
                        Err(CommitError::Store(error))
                    }
                    Err(other) => panic!("{other}"),
                };
                match done {
                    Ok(()) => {
                        let before = std::time::SystemTime::now();
                        assert!(store.remove_shard(&sample.sealed.public.id(), 0, before).unwrap());
                    }
                    Err(CommitError::Store(error)) => assert!(is_full(&error), "{room}: {error:?}"),
                    Err(other) => panic!("{other}"),
                }
                assert!(!store.has_shard(&sample.sealed.public.id(), 0).unwrap());
                assert_eq!(std::fs::read_dir(root.join("tmp")).unwrap().count(), 0);
            }
            held.iter().for_each(|sample| assert_whole(&store, sample, 0));
        }
        drop(store);
        // A start on a full disk, and room again.
        let mut file = std::fs::File::options().append(true).open(&filler).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
        drop(file);
        let store = Arc::new(Store::open(&root, Arc::new(RealDisk)).unwrap());
        assert!(store.damage().is_empty());
        held.iter().for_each(|sample| assert_whole(&store, sample, 0));
        std::fs::remove_file(&filler).unwrap();
        for sample in &wanted {
            commit(&store, sample, 0).unwrap();
        }
        held.iter().chain(&wanted).for_each(|sample| assert_whole(&store, sample, 0));
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs root"]
    async fn a_full_node_answers_507_serves_reads_and_takes_uploads_again_after_an_erasure() {
        let dir = tempfile::tempdir().unwrap();
        let mount = Mount::small(&dir.path().join("o1"), 8);
        let world = World::start_in(dir, 1, "[limits]\nsweep_seconds = 1\nerase_grace_seconds = 0\n").await;
        let (twin, node) = (world.caller("t1", Role::Twin), world.name(1));
        let first = Sample::new(0, 2 << 20);
        let put = async |sample: &Sample| upload(&twin, &node, &sample.columns[0], 0, &sample.sealed.public).await;
        put(&first).await.unwrap();
        let record = first.record(&first.lease(1), &node).encode();
        twin.put_record(&node, &first.sealed.locator, record.into()).await.unwrap();
        let mut stored = 0;
        let refused = loop {
            // 512 KiB of strips each; the reserve of 5 % stays free, and one caller's drafts have half of the rest.
            let sample = Sample::new(stored + 1, 2 << 20);
            match put(&sample).await {
                Ok(()) => stored += 1,
                Err(error) => break Err::<(), _>(error),
            }
            assert!(stored < 16, "the disk has 8 MiB");
        };
        assert_eq!(status(refused), 507);
        assert!(stored > 8, "{stored}");

        let reader = world.identity("e1", Role::Edge);
        let path = format!("/v1/shards/{}/0?first=0&count=2", first.sealed.public.id());
        assert_eq!(world.raw(&reader, "GET", &path, Bytes::new()).await.0, StatusCode::OK);
        assert_eq!(world.raw(&reader, "GET", "/health", Bytes::new()).await.0, StatusCode::OK);
        twin.put_lease(&node, &first.sealed.locator, first.sign(&first.erasure(2))).await.unwrap();
        until("the erased shard's room", || async { put(&Sample::new(99, 2 << 20)).await.is_ok() }).await;
        assert_eq!(world.raw(&reader, "GET", &path, Bytes::new()).await.0, StatusCode::NOT_FOUND);
        let dir = world.end().await;
        drop(mount);
        drop(dir);
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs root"]
    async fn an_erasure_is_taken_on_a_disk_that_others_filled() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("o1");
        let mount = Mount::small(&root, 8);
        let world = World::start_in(dir, 1, "[limits]\nsweep_seconds = 1\nerase_grace_seconds = 0\n").await;
        let (twin, node) = (world.caller("t1", Role::Twin), world.name(1));
        // In a pack, whose removal is an entry of its own, and as files.
        let samples = [Sample::new(1, 140_000), Sample::new(2, 2 << 20)];
        for sample in &samples {
            upload(&twin, &node, &sample.columns[0], 0, &sample.sealed.public).await.unwrap();
            twin.put_record(&node, &sample.sealed.locator, sample.record(&sample.lease(1), &node).encode().into())
                .await
                .unwrap();
        }
        let filler = root.join("filler");
        let mut file = std::fs::File::create(&filler).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
        while file.write_all(&[1]).is_ok() {}
        drop(file);
        assert_eq!(status(twin.put_record(&node, &samples[0].sealed.locator, renewed(&samples[0], &node)).await), 507);
        for sample in &samples {
            twin.put_lease(&node, &sample.sealed.locator, sample.sign(&sample.erasure(9))).await.unwrap();
        }
        let reader = world.identity("e1", Role::Edge);
        for sample in &samples {
            let path = format!("/v1/shards/{}/0?first=0&count=1", sample.sealed.public.id());
            until("the erased shard is gone", || async {
                world.raw(&reader, "GET", &path, Bytes::new()).await.0 == StatusCode::NOT_FOUND
            })
            .await;
        }
        std::fs::remove_file(&filler).unwrap();
        until("the room for erasures is kept again", || async { root.join("ballast").exists() }).await;
        let dir = world.end().await;
        drop(mount);
        drop(dir);
    }
}

/// A record with a renewed lease, which may wait for room.
fn renewed(sample: &Sample, node: &format::NodeName) -> Bytes {
    sample.record(&sample.lease(2), node).encode().into()
}
