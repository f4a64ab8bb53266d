//! Purges of an owner: what leaves memory and disk, what stays, and what a restart remembers.

use std::time::{Duration, SystemTime};

use client::Transport;
use edge::config::DiskConfig;
use format::{Kind, Lease, Locator, OwnerSecret, PolicyName, Purge, Purged, Record};
use futures::future::join_all;
use testing::{Call, noise_of, until};

use crate::{
    neighbour::{self, Neighbour, brought},
    site::{Site, Stored},
};

/// An edge with a disk, and what its owner stored: read often enough to lie there.
struct Scene {
    base: Site,
    site: Site,
    folder: tempfile::TempDir,
    stored: Vec<Stored>,
}

async fn with_disk(base: &Site, folder: &tempfile::TempDir) -> Site {
    let disk = DiskConfig { path: folder.path().join("cache"), bytes_max: 64 << 20 };
    base.beside(|config| config.cache.disk = Some(disk)).await
}

impl Scene {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let base = Site::start().await;
        let mut stored = Vec::new();
        for seed in [1, 2] {
            stored.push(base.store("film.bin", "application/octet-stream", noise_of(seed, 2_000_000)).await);
        }
        let site = with_disk(&base, &folder).await;
        let scene = Self { base, site, folder, stored };
        for stored in &scene.stored {
            assert_eq!(scene.read(stored).await, "fwd=uri-miss; stored");
            assert_eq!(scene.read(stored).await, "hit");
        }
        scene
    }

    /// Reads an object whole and returns what the edge says of where it came from.
    async fn read(&self, stored: &Stored) -> String {
        let answer = self.site.get(stored, "/", &[]).await;
        assert!(answer.status() == 200 && answer.body() == stored.bytes, "{}", answer.head);
        answer.field("cache-status").unwrap().split_once("; ").unwrap().1.to_owned()
    }

    fn locator(&self, number: usize) -> Locator {
        self.stored[number].sealed.locator
    }

    /// Orders, and waits until the edge has heard of it.
    async fn purge(&self, what: Purged, hard: bool) {
        let before = self.site.counter("evernear_edge_purges_total").await;
        self.order(what, hard).await;
        let heard = async || self.site.counter("evernear_edge_purges_total").await == before + 1;
        until("a purge", heard).await;
    }

    async fn order(&self, what: Purged, hard: bool) {
        let issued = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let purge = Purge { owner: self.base.owner.id(), issued, hard, what };
        let envelope = purge.sign(&self.base.owner).into();
        self.base.origins.purge(&self.base.nodes[0].name, envelope).await.unwrap();
    }

    /// Reads an object until no part of it comes from the disk: it is swept behind the order.
    async fn is_swept(&self, stored: &Stored) {
        until("the disk is swept", || async { self.site.counter("evernear_edge_disk_sweeps_total").await > 0 }).await;
        assert_eq!(self.read(stored).await, "fwd=uri-miss; stored");
    }

    async fn restart(self) -> Self {
        let Self { base, site, folder, stored } = self;
        site.stop().await;
        let site = with_disk(&base, &folder).await;
        Self { base, site, folder, stored }
    }

    async fn stop(self) {
        self.site.stop().await;
        self.base.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hard_purge_takes_one_object_from_memory_and_disk() {
    let scene = Scene::new().await;
    scene.purge(Purged::Objects([scene.locator(0)].into()), true).await;
    scene.is_swept(&scene.stored[0]).await;
    assert_eq!(scene.read(&scene.stored[1]).await, "hit", "the other stays");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_soft_purge_leaves_the_bytes() {
    let scene = Scene::new().await;
    scene.purge(Purged::All, false).await;
    for stored in &scene.stored {
        assert_eq!(scene.read(stored).await, "hit");
    }
    assert_eq!(scene.site.counter("evernear_edge_disk_sweeps_total").await, 0);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_an_owner_goes_open_or_not() {
    let scene = Scene::new().await.restart().await;
    // Neither is open after the restart: the owner's list finds them.
    scene.purge(Purged::All, true).await;
    until("the disk is swept", || async { scene.site.counter("evernear_edge_disk_sweeps_total").await == 2 }).await;
    for stored in &scene.stored {
        assert_eq!(scene.read(stored).await, "fwd=uri-miss; stored");
    }
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_cannot_be_judged_keeps_no_other_on_the_disk() {
    let scene = Scene::new().await.restart().await;
    let is_swept = async |count: u64| {
        until("a sweep", async || scene.site.counter("evernear_edge_disk_sweeps_total").await == count).await;
    };
    // The one that the owner's list has first.
    let [first, second] = if scene.locator(0) < scene.locator(1) { [0, 1] } else { [1, 0] };
    scene.site.weather.garble(scene.locator(first));
    scene.purge(Purged::All, true).await;
    is_swept(1).await;
    assert_eq!(scene.read(&scene.stored[second]).await, "fwd=uri-miss; stored");
    // It comes to it once there is a record.
    scene.site.weather.fair();
    is_swept(2).await;
    assert_eq!(scene.read(&scene.stored[first]).await, "fwd=uri-miss; stored");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_was_away_hears_of_it_when_it_comes_back() {
    let scene = Scene::new().await;
    let Scene { base, site, folder, stored } = scene;
    site.stop().await;
    let scene = Scene { site: base.beside(|_| {}).await, base, folder, stored };
    scene.order(Purged::Objects([scene.locator(0)].into()), true).await;
    let scene = scene.restart().await;
    scene.is_swept(&scene.stored[0]).await;
    assert_eq!(scene.read(&scene.stored[1]).await, "hit; detail=disk");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_another_owner_filed_does_not_say_what_is_swept() {
    let scene = Scene::new().await.restart().await;
    // Another owner's object of the same shape, under a lease for the locator of the purged one.
    let mut other = scene.base.beside(|_| {}).await;
    other.owner = OwnerSecret::from_bytes([9; 32]).keys();
    let foreign = other.store("film.bin", "application/octet-stream", noise_of(3, 2_000_000)).await;
    let (public, sealed) = (foreign.sealed.public.clone(), foreign.sealed.sealed.clone());
    let lease = Lease { locator: scene.locator(0), ..other.lease(&foreign.sealed, &PolicyName::default(), 99, false) };
    let columns = public.columns();
    let forged = Record::new(public, Some(sealed), lease.sign(&other.owner).into(), vec![None; columns]).unwrap();
    // The nearest nodes give it, and only the one that is asked last has the owner's.
    scene.site.weather.replay(&scene.base.nodes[..5], &forged);
    scene.purge(Purged::Objects([scene.locator(0)].into()), true).await;
    until("the sweep", async || scene.site.counter("evernear_edge_disk_sweeps_total").await == 1).await;
    scene.site.weather.fair();
    assert_eq!(scene.read(&scene.stored[0]).await, "fwd=uri-miss; stored", "it is off the disk");
    assert_eq!(scene.read(&scene.stored[1]).await, "hit; detail=disk", "the other stays");
    other.stop().await;
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strips_for_other_edges_are_dropped_at_once_though_no_record_says_whose_they_are() {
    let site = Site::with(|config| config.peers = Some(neighbour::peers()), vec![]).await;
    let stored = site.store("film.bin", "application/octet-stream", noise_of(1, 600_000)).await;
    let neighbour = Neighbour::of(&site, "edge-bru");
    let strip = neighbour.strip(&site, &stored).await;
    assert_eq!(neighbour.strip(&site, &stored).await, strip);
    assert_eq!((brought(&site, "pulled").await, brought(&site, "held").await), (1, 1));
    // The order names the object by its locator, the strip has its id, and no node tells which belongs to which.
    site.weather.without(Call::Record);
    let issued = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let what = Purged::Objects([stored.sealed.locator].into());
    let purge = Purge { owner: site.owner.id(), issued, hard: true, what };
    site.origins.purge(&site.nodes[0].name, purge.sign(&site.owner).into()).await.unwrap();
    let is_pulled_again = async || {
        assert_eq!(neighbour.strip(&site, &stored).await, strip);
        brought(&site, "pulled").await == 2
    };
    until("the strip is dropped", is_pulled_again).await;
    site.stop().await;
}

/// Stores a folder of several blocks, in one stripe.
async fn store_folder(site: &Site, file: &Stored) -> Stored {
    let names: Vec<String> = (0..8_000).map(|number| format!("{number}.txt")).collect();
    let entries: Vec<_> = names.iter().map(|name| (&**name, file, Kind::File)).collect();
    let folder = site.store_directory(&entries).await;
    assert!(folder.bytes.len() > 256 * 1024, "it has several blocks");
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_was_read_for_a_viewer_who_left_is_there_for_the_next_one() {
    let site = Site::start().await;
    let file = site.store("a.txt", "text/plain", b"hello".to_vec()).await;
    let folder = store_folder(&site, &file).await;
    site.weather.late_with(Call::ReadShard, Duration::from_secs(2));
    assert!(site.get(&folder, "/none.txt", &["-m", "1"]).await.head.is_empty(), "it did not wait");
    let fills = async || site.counter("evernear_edge_fills_total").await;
    until("it is read all the same", async || fills().await == 1).await;
    site.weather.fair();
    assert_eq!(site.get(&folder, "/none.txt", &[]).await.status(), 404);
    assert_eq!(fills().await, 1, "what was read is there");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_read_once_for_all_who_ask_and_again_when_it_was_purged() {
    let scene = Scene::new().await;
    let folder = store_folder(&scene.base, &scene.stored[0]).await;
    let fills = async || scene.site.counter("evernear_edge_fills_total").await;
    let before = fills().await;
    let asked = (0..20).map(|_| scene.site.get(&folder, "/none.txt", &[]));
    for answer in join_all(asked).await {
        assert_eq!(answer.status(), 404);
    }
    let once = fills().await - before;
    assert_eq!(once, 1, "one stripe was read");
    assert_eq!(scene.site.get(&folder, "/none.txt", &[]).await.status(), 404);
    assert_eq!(fills().await - before, once, "it is held decoded");

    scene.purge(Purged::Objects([folder.sealed.locator].into()), true).await;
    until("the folder is read again", async || {
        assert_eq!(scene.site.get(&folder, "/none.txt", &[]).await.status(), 404);
        fills().await - before > once
    })
    .await;
    scene.site.stop().await;
    scene.base.stop().await;
}
