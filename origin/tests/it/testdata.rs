//! An origin's folder and its catalog as they once were written are read by today's program, through the API.
//!
//! `EVERNEAR_WRITE_TESTDATA=1 ./x test --workspace -E 'test(testdata)'` writes them anew, and those of the twin. Once a
//! format is in use its bytes are never written anew: a new version gets a folder of its own beside them.

use std::{fs, path::Path, sync::Arc, time::SystemTime};

use client::{ReadError, Reader, ReaderOptions, Topology, Transport};
use format::{
    BlobId, Capability, Label, NodeName, NoteId, OpenError, OwnerSecret, PolicyLink, PolicyManifest, PolicyName,
    wire::{ChangeKind, Note, Role},
};
use origin::{
    catalog::{CatalogUrl, ShardRow},
    store::{RealDisk, Store},
};
use testing::{Sample, node, noise_of, place, read};

use crate::{
    store::{list_of, upload},
    world::World,
};

const TESTDATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata");
const WRITE: &str = "EVERNEAR_WRITE_TESTDATA";

/// What became of each object, and its plaintext: so many bytes of noise under its number from 1 on.
const OBJECTS: [(&str, usize); 4] = [("packed", 17_000), ("files", 17_000), ("inline", 500), ("erased", 17_000)];
/// A pack has room for one of these shards, so that there is a full one with its index, and an open one.
const PACK_BYTES_MAX: u32 = 20_000;

fn policy_name() -> PolicyName {
    "geo".parse().unwrap()
}

const BLOB: &[u8] = b"a component";

fn note() -> Note {
    Note { version: 1, sealed: BLOB.to_vec().into() }
}

/// Writes what the test below reads.
async fn write(into: &Path) {
    let (o1, database): (NodeName, _) = ("o1".parse().unwrap(), into.join("catalog.db"));
    let store = Arc::new(Store::open_with(&into.join("o1"), Arc::new(RealDisk), PACK_BYTES_MAX).unwrap());
    let catalog = CatalogUrl::Sqlite(database).open(1000).await.unwrap();
    let mut labels = String::new();
    for (seed, (kind, length)) in (1..).zip(OBJECTS) {
        let sample = Sample::new(seed, length);
        labels += &format!("{kind} {}\n", Label::open(sample.sealed.capability.clone()));
        let record = sample.record(&sample.lease(1), &o1);
        catalog.put_record(&record).await.unwrap();
        match kind {
            "inline" => {}
            "files" => lay_files(&into.join("o1"), &sample),
            _ => _ = upload(&store, &sample, 0).unwrap(),
        }
        if kind == "erased" {
            let lease = sample.erasure(2);
            catalog.put_lease(&lease, &sample.sign(&lease)).await.unwrap();
            assert!(store.remove_shard(&sample.id(), 0, SystemTime::now()).unwrap());
        } else if kind != "inline" {
            let bytes = sample.sealed.public.shard_bytes(0);
            catalog.place_shard(&ShardRow { node: o1.clone(), object: sample.id(), column: 0, bytes }).await.unwrap();
        }
        let filed = catalog.filed(&record.locator()).await.unwrap().unwrap();
        store.put_record(&filed.record, filed.filed_at).unwrap();
    }
    let blob = BlobId::of(BLOB);
    catalog.put_blob(&blob, &BLOB.into()).await.unwrap();
    let keys = OwnerSecret::from_bytes([1; 32]).keys();
    let manifest = PolicyManifest {
        owner: keys.id(),
        name: policy_name(),
        sequence: 1,
        links: vec![PolicyLink { component: blob, component_bytes: 11, config: blob, config_bytes: 11 }],
        not_before: 0,
        expires: 0,
        parent: None,
        unknown: Default::default(),
    };
    catalog.put_policy(&manifest, &manifest.sign(&keys).into()).await.unwrap();
    catalog.put_note(&NoteId([5; 32]), &note()).await.unwrap();
    catalog.announce(&node("o2", place("z2"))).await.unwrap();
    store.put_feed_position(catalog.newest_change().await.unwrap()).unwrap();
    catalog.close().await;
    drop(store);
    fs::write(into.join("labels"), labels).unwrap();
    for passing in ["catalog.lock", "o1/lock", "o1/ballast"] {
        fs::remove_file(into.join(passing)).unwrap();
    }
}

/// Lays a shard as files, as those are that are too large for a pack.
fn lay_files(root: &Path, sample: &Sample) {
    let (public, object) = (&sample.sealed.public, sample.id().to_string());
    let folder = root.join("shards").join(&object[..2]).join(&object[2..4]);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("{object}.0")), sample.shard(0)).unwrap();
    fs::write(folder.join(format!("{object}.0.list")), list_of(sample, 0)).unwrap();
    fs::write(folder.join(format!("{object}.public")), public.encoded()).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_and_a_catalog_of_the_first_version_are_read() {
    let dir = tempfile::tempdir().unwrap();
    if std::env::var_os(WRITE).is_some() {
        write(dir.path()).await;
        let _ = fs::remove_dir_all(TESTDATA);
        copy(dir.path(), Path::new(TESTDATA));
    }
    let dir = tempfile::tempdir().unwrap();
    copy(Path::new(TESTDATA), dir.path());
    let labels = fs::read_to_string(dir.path().join("labels")).unwrap();
    let world = World::start_in(dir, 1, "").await;
    let (edge, o1) = (Arc::new(world.caller("e1", Role::Edge)), world.name(1));
    let topology = Arc::new(Topology::new(world.nodes.clone()));
    let reader = Reader::new(edge.clone(), topology, place("z"), ReaderOptions::default());
    let mut changes = Vec::new();
    for (seed, ((kind, length), line)) in (1..).zip(OBJECTS.into_iter().zip(labels.lines())) {
        let label: Label = line.strip_prefix(kind).unwrap().trim().parse().unwrap();
        let capability: &Capability = label.capability();
        let locator = capability.locator();
        changes.push(ChangeKind::Record { locator });
        let found = read(&reader, capability).await;
        if kind == "erased" {
            changes.push(ChangeKind::Erased { locator });
            assert!(matches!(found, Err(ReadError::Open(OpenError::Erased))), "{found:?}");
        } else {
            assert!(found.unwrap() == noise_of(seed, length), "{kind}");
        }
    }
    let owner = OwnerSecret::from_bytes([1; 32]).keys().id();
    changes.push(ChangeKind::Policy { owner, name: policy_name() });
    changes.push(ChangeKind::Node { name: "o2".parse().unwrap() });
    let news = edge.changes(&o1, 0, 0).await.unwrap().changes;
    assert!(news.iter().map(|change| &change.kind).take(changes.len()).eq(&changes), "{news:?}");
    let envelope = edge.policy(&o1, &owner, &policy_name()).await.unwrap().unwrap();
    let component = PolicyManifest::open(&envelope).unwrap().links[0].component;
    assert_eq!(edge.blob(&o1, &component).await.unwrap().as_deref(), Some(BLOB));
    assert_eq!(edge.note(&o1, &NoteId([5; 32])).await.unwrap(), Some(note()));
    let names: Vec<String> = edge.nodes(&o1).await.unwrap().into_iter().map(|node| node.name.to_string()).collect();
    assert_eq!(names, ["o1", "o2"]);
    world.end().await;
}
