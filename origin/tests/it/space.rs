//! A full disk: writes are refused with 507, reads go on, and removing makes room again.

use std::{
    io::{ErrorKind, Write},
    sync::Arc,
};

use axum::body::Body;
use bytes::Bytes;
use client::Transport;
use format::wire::Role;
use hyper::{Request, StatusCode};
use origin::{
    Config, Origin,
    catalog::{CatalogError, CatalogId, CatalogUrl, Found},
    store::{AppendError, CommitError, RealDisk, Store, StoreError},
};
use sqlx::SqlitePool;
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

    /// Fills a disk to its last byte.
    fn fill(filler: &std::path::Path) {
        let mut file = std::fs::File::create(filler).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
        while file.write_all(&[1]).is_ok() {}
    }

    /// Makes a file as it was before the newest step of the schema.
    const STEP_BACK: &str = "DROP TRIGGER shard_came; DROP TRIGGER shard_changed; DROP TRIGGER shard_went; \
                             DROP TABLE node_totals; DELETE FROM _sqlx_migrations WHERE version = 14";

    /// Its disk is another one than that of the shards.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs root"]
    async fn a_catalog_that_opens_late_on_a_full_disk_or_cannot_be_migrated_there_is_told_with_507() {
        for is_there in [false, true] {
            let mut world = World::start(1, "").await;
            let sample = Sample::new(1, 40_000);
            world.stop_node(1).await;
            let [catalog, disk] = ["catalog.db", "full"].map(|name| world.dir.path().join(name));
            let mount = Mount::small(&disk, 4);
            let moved = disk.join("catalog.db");
            if is_there {
                let file = SqlitePool::connect(&format!("sqlite://{}", catalog.display())).await.unwrap();
                sqlx::raw_sql(STEP_BACK).execute(&file).await.unwrap();
                file.close().await;
                std::fs::copy(&catalog, &moved).unwrap();
            } else {
                // A node whose disk knows no catalog takes the one that it finds.
                std::fs::remove_file(world.data_dir("o1").join("catalog")).unwrap();
            }
            fill(&disk.join("filler"));
            let url = CatalogUrl::Sqlite(moved);
            let config = Config { catalog: url.clone(), ..world.config("o1", "") };
            let stop = world.stop.child_token();
            let running = Origin::start(config, world.identity("o1", Role::Origin), stop.clone()).await.unwrap();
            let record = sample.record(&sample.lease(1), &world.name(1)).encode();
            let put = async || {
                let path = format!("/v1/records/{}", sample.sealed.locator);
                let call = Request::put(path).body(Body::from(record.clone())).unwrap();
                running.answer("t1".parse().unwrap(), Role::Twin, call).await.status().as_u16()
            };
            assert_eq!(put().await, 507, "{is_there}");
            std::fs::remove_file(disk.join("filler")).unwrap();
            until("the catalog takes the record", || async { put().await < 300 }).await;
            stop.cancel();
            running.stopped().await.unwrap();
            let dir = world.end().await;
            drop(mount);
            drop(dir);
        }
    }

    /// What was wrong with it could not be looked at before.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs root"]
    async fn another_catalog_that_opens_late_is_told_as_another_one_and_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| dir.path().join(name));
        let _mount = Mount::small(&other, 4);
        let [one, file] = [one, other.join("catalog.db")].map(CatalogUrl::Sqlite);
        std::fs::create_dir_all(&other).unwrap();
        let known = one.open(20).await.unwrap();
        let noted = known.identity().await.unwrap();
        known.close().await;
        let other_id = {
            let catalog = file.open(20).await.unwrap();
            let id = catalog.identity().await.unwrap();
            catalog.close().await;
            id
        };
        fill(&other.join("filler"));
        let late = file.open_known(20, Some(noted)).await;
        let Ok(late) = late else { panic!("{:?}", late.err()) };
        std::fs::remove_file(other.join("filler")).unwrap();
        let told = late.identity().await;
        let is_it = |found: &CatalogId, of: &CatalogId| (*found, *of) == (other_id, noted);
        assert!(
            matches!(&told, Err(CatalogError::Other { noted, found: Found::Id(found) }) if is_it(found, noted)),
            "{told:?}"
        );
        late.close().await;
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
        fill(&filler);
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
