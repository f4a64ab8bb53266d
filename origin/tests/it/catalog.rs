//! What every catalog engine promises, written against the trait alone. An engine joins by one
//! more test in the macro `promise`.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use format::{
    BlobId, NodeName, ObjectId, PolicyLink, PolicyManifest, Retention,
    wire::{ChangeKind, NodeEntry, Role},
};
use origin::catalog::{
    Applied, CURSOR_BYTES_MAX, Catalog, CatalogError, CatalogUrl, DeadRepair, ERROR_CHARS_MAX, LOCATORS_MAX, Refused,
    Repair, RepairAsk, RepairCause, RepairEnd, RepairQueue, ShardRow, SqliteCatalog, TICKETS_MAX, Ticket,
};

use crate::{postgres::Server, sample::Sample};

const KEPT: u32 = 20;

/// Longest wait for a server that comes back.
const DEADLINE: Duration = Duration::from_secs(30);

async fn sqlite(path: &Path) -> Arc<dyn Catalog> {
    Arc::new(SqliteCatalog::open(path, KEPT).await.unwrap())
}

fn sqlite_url(dir: &tempfile::TempDir) -> CatalogUrl {
    CatalogUrl::Sqlite(dir.path().join("catalog.db"))
}

/// Runs a promise on every engine.
macro_rules! promise {
    ($name:ident) => {
        promise!($name(open));
    };
    // The promise opens the catalog itself, several times.
    ($name:ident(url)) => {
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                let dir = tempfile::tempdir().unwrap();
                super::promises::$name(super::sqlite_url(&dir)).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                super::promises::$name(super::Server::shared().database().await).await;
            }
        }
    };
    ($name:ident(open)) => {
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                let dir = tempfile::tempdir().unwrap();
                super::promises::$name(&*super::sqlite_url(&dir).open(super::KEPT).await.unwrap()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                let url = super::Server::shared().database().await;
                super::promises::$name(&*url.open(super::KEPT).await.unwrap()).await;
            }
        }
    };
}

promise!(leases_only_grow);
promise!(the_erased_stay_erased);
promise!(promises_to_keep_are_kept);
promise!(placement_follows_the_shards);
promise!(dead_shards_are_those_without_a_living_record);
promise!(owners_see_their_living_locators_in_pages);
promise!(policies_only_grow_and_need_their_blobs);
promise!(nodes_are_news_when_they_move);
promise!(the_feed_pages_and_resets);
promise!(living_objects_come_in_pages_with_their_shards);
promise!(a_nodes_rows_come_in_pages);
promise!(a_lost_shard_is_gone_at_once);
promise!(repairs_are_taken_by_risk_and_one_at_a_time);
promise!(repairs_come_back_or_die_by_their_holders_word);
promise!(what_is_lost_during_a_repair_is_repaired_after_it);
promise!(the_erased_need_no_repair);
promise!(tickets_merge_and_are_bounded);
promise!(named_work_has_one_holder_and_goes_on_where_it_was);
promise!(leases_end_by_themselves_but_no_promise_is_broken);
promise!(many_takers_never_share_a_repair_or_a_ticket);
promise!(of_two_processes_that_race_for_a_lease_the_growing_version_wins(url));
promise!(the_feed_never_shows_a_smaller_number_after_a_larger_one(url));
promise!(a_call_that_is_dropped_happens_or_not(url));

fn refused<T: std::fmt::Debug>(result: Result<T, CatalogError>) -> Refused {
    match result {
        Err(CatalogError::Refused(refused)) => refused,
        other => panic!("not refused: {other:?}"),
    }
}

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

/// Long enough that no hold ends while a test runs.
const HOLD: Duration = Duration::from_secs(3600);

fn entry(name: &str, zone: &str, free_bytes: u64) -> NodeEntry {
    NodeEntry {
        name: node(name),
        role: Role::Origin,
        address: Some("127.0.0.1:7".parse().unwrap()),
        public: vec![],
        place: format::Place {
            country: "BE".parse().unwrap(),
            region: "r".into(),
            zone: zone.into(),
            latitude: 1.0,
            longitude: 2.0,
        },
        capacity_bytes: 100,
        free_bytes,
        load: 0,
        seen: 0,
    }
}

fn ask(object: u8, margin: i32) -> RepairAsk {
    RepairAsk { object: ObjectId([object; 32]), margin, bytes: 10, cause: RepairCause::Scan }
}

mod promises {
    use super::*;

    pub(super) async fn leases_only_grow(catalog: &dyn Catalog) {
        let sample = Sample::new(1, 40_000);
        let put = |version| sample.record(&sample.lease(version), &node("o1"));
        let (two, three) = (put(2), put(3));
        let renewal = |version| (sample.lease(version), sample.sign(&sample.lease(version)));
        let (lease, envelope) = renewal(1);
        assert_eq!(refused(catalog.put_lease(&lease, &envelope).await), Refused::NoRecord);
        assert_eq!(catalog.put_record(&two).await.unwrap(), Applied::Stored);
        assert_eq!(catalog.put_record(&two).await.unwrap(), Applied::Unchanged);
        assert_eq!(refused(catalog.put_lease(&lease, &envelope).await), Refused::Older { held: 2, asked: 1 });
        // The same version in other bytes: signatures are randomised, so signing again is enough.
        let other = format::Lease { retention: Retention { keep_until: 0, expires: 99 }, ..sample.lease(2) };
        assert_eq!(refused(catalog.put_lease(&other, &sample.sign(&other)).await), Refused::SameVersion { held: 2 });
        assert_eq!(catalog.put_record(&three).await.unwrap(), Applied::Stored);
        assert_eq!(refused(catalog.put_record(&two).await), Refused::Older { held: 3, asked: 2 });
        let (lease, envelope) = renewal(4);
        assert_eq!(catalog.put_lease(&lease, &envelope).await.unwrap(), Applied::Stored);
        assert_eq!(catalog.put_lease(&lease, &envelope).await.unwrap(), Applied::Unchanged);
        let held = catalog.record(&sample.sealed.locator).await.unwrap().unwrap();
        assert_eq!((held.lease.version, &held.lease_envelope), (4, &envelope));
        assert_eq!(held.sealed, Some(sample.sealed.sealed.clone()));
        assert_eq!(held.public.id(), sample.sealed.public.id());
        let huge = sample.lease(1 << 63);
        assert_eq!(
            refused(catalog.put_lease(&huge, &sample.sign(&huge)).await),
            Refused::VersionTooLarge { asked: 1 << 63 }
        );
        let thief = Sample::new(7, 40_000);
        let stolen = format::Lease { locator: sample.sealed.locator, ..thief.lease(9) };
        let stolen = (stolen.clone(), thief.sign(&stolen));
        assert_eq!(
            refused(catalog.put_lease(&stolen.0, &stolen.1).await),
            Refused::OtherOwner { held: sample.owner.id() }
        );
        let under = thief.record(&stolen.0, &node("o1"));
        assert_eq!(refused(catalog.put_record(&under).await), Refused::OtherObject { held: sample.sealed.public.id() });
        assert!(catalog.record(&thief.sealed.locator).await.unwrap().is_none());
    }

    pub(super) async fn the_erased_stay_erased(catalog: &dyn Catalog) {
        let sample = Sample::new(1, 40_000);
        catalog.put_record(&sample.record(&sample.lease(1), &node("o1"))).await.unwrap();
        let erasure = sample.erasure(2);
        catalog.put_lease(&erasure, &sample.sign(&erasure)).await.unwrap();
        let dead = || async {
            let held = catalog.record(&sample.sealed.locator).await.unwrap().unwrap();
            assert!(held.sealed.is_none() && held.lease.erased);
            held.lease.version
        };
        assert_eq!(dead().await, 2);
        assert_eq!(refused(catalog.put_record(&sample.record(&sample.lease(3), &node("o1"))).await), Refused::Erased);
        let alive = sample.lease(4);
        assert_eq!(refused(catalog.put_lease(&alive, &sample.sign(&alive)).await), Refused::Erased);
        catalog.put_record(&sample.record(&sample.erasure(5), &node("o1"))).await.unwrap();
        assert_eq!(dead().await, 5);
        let kinds: Vec<_> =
            catalog.changes(0, 10).await.unwrap().changes.into_iter().map(|change| change.kind).collect();
        let locator = sample.sealed.locator;
        assert_eq!(
            kinds,
            [ChangeKind::Record { locator }, ChangeKind::Erased { locator }, ChangeKind::Erased { locator }]
        );
        // Erased before it was ever filed: the tombstone holds the place.
        let late = Sample::new(2, 40_000);
        catalog.put_record(&late.record(&late.erasure(2), &node("o1"))).await.unwrap();
        assert_eq!(refused(catalog.put_record(&late.record(&late.lease(3), &node("o1"))).await), Refused::Erased);
        catalog.purge().await.unwrap();
    }

    pub(super) async fn promises_to_keep_are_kept(catalog: &dyn Catalog) {
        let sample = Sample::new(1, 40_000);
        let until = 1 << 40;
        let kept = |version, keep_until| format::Lease {
            retention: Retention { keep_until, expires: 0 },
            ..sample.lease(version)
        };
        catalog.put_record(&sample.record(&kept(1, until), &node("o1"))).await.unwrap();
        for lease in [sample.erasure(2), kept(2, until - 1), format::Lease { erased: true, ..kept(2, until) }] {
            assert_eq!(refused(catalog.put_lease(&lease, &sample.sign(&lease)).await), Refused::Kept { until });
        }
        let longer = kept(2, u64::MAX);
        assert_eq!(catalog.put_lease(&longer, &sample.sign(&longer)).await.unwrap(), Applied::Stored);
    }

    pub(super) async fn placement_follows_the_shards(catalog: &dyn Catalog) {
        let sample = Sample::new(1, 40_000);
        let object = sample.sealed.public.id();
        let row = |name: &str, column| ShardRow { node: node(name), object, column, bytes: 10 };
        catalog.put_record(&sample.record(&sample.lease(1), &node("hint"))).await.unwrap();
        catalog.place_shard(&row("o2", 1)).await.unwrap();
        catalog.place_shard(&row("o2", 1)).await.unwrap();
        catalog.place_shard(&row("hint", 0)).await.unwrap();
        catalog.place_shard(&row("a", 0)).await.unwrap();
        let placement = || async {
            let held = catalog.record(&sample.sealed.locator).await.unwrap().unwrap();
            held.placement.into_iter().map(|name| name.unwrap().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(placement().await, ["hint", "o2", "hint"]);
        assert_eq!(catalog.shard_totals(&node("o2")).await.unwrap().bytes, 10);
        // Committed a moment ago: a removal that was decided an hour ago is not about this one.
        catalog.forget_shard(&row("o2", 1), Duration::from_secs(3600)).await.unwrap();
        assert_eq!(placement().await, ["hint", "o2", "hint"]);
        catalog.forget_shard(&row("o2", 1), Duration::ZERO).await.unwrap();
        catalog.forget_shard(&row("hint", 0), Duration::ZERO).await.unwrap();
        assert_eq!(placement().await, ["a", "hint", "hint"]);
        assert_eq!(catalog.shard_totals(&node("o2")).await.unwrap().shards, 0);
        // The same lease with another placement is a change of placement.
        let record = sample.record(&sample.lease(2), &node("hint"));
        catalog.put_record(&record).await.unwrap();
        let moved = format::Record { placement: vec![None, None, Some(node("o3"))], ..record };
        assert_eq!(catalog.put_record(&moved).await.unwrap(), Applied::Stored);
        assert_eq!(catalog.put_record(&moved).await.unwrap(), Applied::Unchanged);
        let held = catalog.record(&sample.sealed.locator).await.unwrap().unwrap();
        assert_eq!(held.placement, [Some(node("a")), None, Some(node("o3"))]);
    }

    pub(super) async fn dead_shards_are_those_without_a_living_record(catalog: &dyn Catalog) {
        // Two names of one object, as de-duplication makes them, and an object whose record is not there yet.
        let (one, two) = (Sample::of(1, [1; 32], &[7; 40_000]), Sample::of(1, [2; 32], &[7; 40_000]));
        assert_eq!(one.sealed.public.id(), two.sealed.public.id());
        assert_ne!(one.sealed.locator, two.sealed.locator);
        let young = Sample::new(3, 40_000);
        let row =
            |sample: &Sample| ShardRow { node: node("o1"), object: sample.sealed.public.id(), column: 0, bytes: 10 };
        catalog.place_shard(&row(&one)).await.unwrap();
        catalog.place_shard(&row(&young)).await.unwrap();
        for sample in [&one, &two] {
            catalog.put_record(&sample.record(&sample.lease(1), &node("o1"))).await.unwrap();
        }
        let o1 = node("o1");
        let at_once = Duration::ZERO;
        assert_eq!(catalog.dead_shards(&o1, at_once, 10).await.unwrap(), []);
        catalog.put_record(&one.record(&one.erasure(2), &o1)).await.unwrap();
        assert_eq!(catalog.dead_shards(&o1, at_once, 10).await.unwrap(), []);
        catalog.put_record(&two.record(&two.erasure(2), &o1)).await.unwrap();
        assert_eq!(catalog.dead_shards(&o1, at_once, 10).await.unwrap(), [row(&one)]);
        assert_eq!(catalog.dead_shards(&node("o2"), at_once, 10).await.unwrap(), []);
        assert_eq!(catalog.dead_shards(&o1, Duration::from_secs(3600), 10).await.unwrap(), []);
    }

    pub(super) async fn owners_see_their_living_locators_in_pages(catalog: &dyn Catalog) {
        let mut all = Vec::new();
        for random in 0..5 {
            let sample = Sample::of(1, [random; 32], b"inline");
            catalog.put_record(&sample.record(&sample.lease(1), &node("o1"))).await.unwrap();
            all.push(sample);
        }
        all.sort_by_key(|sample| sample.sealed.locator);
        let (owner, other) = (all[0].owner.id(), Sample::new(2, 10).owner.id());
        let expected: Vec<_> = all.iter().map(|sample| sample.sealed.locator).collect();
        assert_eq!(catalog.locators(&owner, None, 10).await.unwrap(), expected);
        assert_eq!(catalog.locators(&owner, None, 2).await.unwrap(), expected[..2]);
        assert_eq!(catalog.locators(&owner, Some(&expected[1]), 2).await.unwrap(), expected[2..4]);
        assert_eq!(catalog.locators(&other, None, 2).await.unwrap(), []);
        let erasure = all[0].erasure(2);
        catalog.put_lease(&erasure, &all[0].sign(&erasure)).await.unwrap();
        assert_eq!(catalog.locators(&owner, None, 10).await.unwrap(), expected[1..]);
    }

    pub(super) async fn policies_only_grow_and_need_their_blobs(catalog: &dyn Catalog) {
        let keys = Sample::new(1, 10).owner;
        let [component, config] = [Bytes::from_static(b"component"), Bytes::from_static(b"config")];
        let link = PolicyLink {
            component: BlobId::of(&component),
            component_bytes: 9,
            config: BlobId::of(&config),
            config_bytes: 6,
        };
        let manifest = |sequence| PolicyManifest {
            owner: keys.id(),
            name: "geo".parse().unwrap(),
            sequence,
            links: vec![link, link],
            not_before: 0,
            expires: 0,
            parent: None,
            unknown: vec![],
        };
        let sign = |sequence| (manifest(sequence), Bytes::from(manifest(sequence).sign(&keys)));
        let (one, first) = sign(1);
        assert!(matches!(refused(catalog.put_policy(&one, &first).await), Refused::NoBlob { .. }));
        assert_eq!(catalog.policy(&keys.id(), &one.name).await.unwrap(), None);
        for blob in [&component, &config, &component] {
            catalog.put_blob(&BlobId::of(blob), blob).await.unwrap();
        }
        assert_eq!(catalog.blob(&BlobId::of(&config)).await.unwrap(), Some(config));
        assert_eq!(catalog.blob(&BlobId([0; 32])).await.unwrap(), None);
        assert_eq!(catalog.put_policy(&one, &first).await.unwrap(), Applied::Stored);
        assert_eq!(catalog.put_policy(&one, &first).await.unwrap(), Applied::Unchanged);
        let (three, third) = sign(3);
        assert_eq!(catalog.put_policy(&three, &third).await.unwrap(), Applied::Stored);
        let (two, second) = sign(2);
        assert_eq!(refused(catalog.put_policy(&two, &second).await), Refused::Older { held: 3, asked: 2 });
        assert_eq!(catalog.policy(&keys.id(), &one.name).await.unwrap(), Some(third));
        let news = catalog.changes(0, 10).await.unwrap().changes;
        assert_eq!(news.len(), 2);
        assert_eq!(news[0].kind, ChangeKind::Policy { owner: keys.id(), name: one.name });
    }

    pub(super) async fn nodes_are_news_when_they_move(catalog: &dyn Catalog) {
        assert_eq!(catalog.announce(&entry("b", "z1", 5)).await.unwrap(), Applied::Stored);
        assert_eq!(catalog.announce(&entry("a", "z1", 5)).await.unwrap(), Applied::Stored);
        assert_eq!(catalog.announce(&entry("a", "z1", 4)).await.unwrap(), Applied::Unchanged);
        assert_eq!(catalog.announce(&entry("a", "z2", 3)).await.unwrap(), Applied::Stored);
        let usurper = NodeEntry { role: Role::Edge, ..entry("a", "z1", 5) };
        assert_eq!(refused(catalog.announce(&usurper).await), Refused::OtherRole { held: Role::Origin });
        let nodes = catalog.nodes().await.unwrap();
        assert!(nodes.iter().all(|node| node.seen > 1_700_000_000));
        let bare: Vec<_> = nodes.into_iter().map(|node| NodeEntry { seen: 0, ..node }).collect();
        assert_eq!(bare, [entry("a", "z2", 3), entry("b", "z1", 5)]);
        assert_eq!(catalog.changes(0, 10).await.unwrap().changes.len(), 3);
    }

    pub(super) async fn the_feed_pages_and_resets(catalog: &dyn Catalog) {
        assert_eq!(catalog.newest_change().await.unwrap(), 0);
        let empty = catalog.changes(0, 10).await.unwrap();
        assert!(empty.changes.is_empty() && !empty.reset && empty.next == 0);
        let sample = Sample::of(1, [1; 32], b"inline");
        catalog.put_record(&sample.record(&sample.lease(1), &node("o1"))).await.unwrap();
        for version in 2..=u64::from(KEPT) {
            let lease = sample.lease(version);
            catalog.put_lease(&lease, &sample.sign(&lease)).await.unwrap();
        }
        let newest = catalog.newest_change().await.unwrap();
        assert_eq!(newest, u64::from(KEPT));
        let page = catalog.changes(0, 15).await.unwrap();
        assert!(!page.reset && page.changes.len() == 15 && page.next == page.changes[14].sequence);
        assert!(page.changes.windows(2).all(|pair| pair[0].sequence < pair[1].sequence));
        let rest = catalog.changes(page.next, 15).await.unwrap();
        assert_eq!((rest.changes.len(), rest.next, rest.reset), (5, newest, false));
        // One more change pushes the oldest out: who knew nothing must start anew, who knew the first need not.
        let lease = sample.lease(1000);
        catalog.put_lease(&lease, &sample.sign(&lease)).await.unwrap();
        let page = catalog.changes(0, 15).await.unwrap();
        assert_eq!((page.changes.len(), page.next, page.reset), (0, newest + 1, true));
        assert!(!catalog.changes(1, 15).await.unwrap().reset);
        // Ahead of the feed: the catalog was restored from an older copy.
        assert!(catalog.changes(newest + 2, 15).await.unwrap().reset);
        assert!(!catalog.changes(newest + 1, 15).await.unwrap().reset);
    }

    pub(super) async fn living_objects_come_in_pages_with_their_shards(catalog: &dyn Catalog) {
        let row =
            |name: &str, sample: &Sample, column| ShardRow { node: node(name), object: sample.id(), column, bytes: 10 };
        let mut all: Vec<_> = (0..5).map(|seed| Sample::new(seed, 40_000)).collect();
        all.sort_by_key(Sample::id);
        for sample in &all {
            catalog.put_record(&sample.record(&sample.lease(1), &node("hint"))).await.unwrap();
        }
        // One that is inline, and one whose record is not there.
        let inline = Sample::of(9, [9; 32], b"inline");
        catalog.put_record(&inline.record(&inline.lease(1), &node("hint"))).await.unwrap();
        catalog.place_shard(&row("o1", &Sample::new(77, 40_000), 0)).await.unwrap();
        for shard in [row("o2", &all[1], 2), row("o1", &all[1], 0), row("o1", &all[1], 2), row("o1", &all[3], 1)] {
            catalog.place_shard(&shard).await.unwrap();
        }
        let ids = |page: &origin::catalog::ObjectPage| page.objects.iter().map(|row| row.id()).collect::<Vec<_>>();
        let expected: Vec<_> = all.iter().map(Sample::id).collect();
        let page = catalog.objects(None, 100).await.unwrap();
        assert_eq!((ids(&page), page.next), (expected.clone(), None));
        let page = catalog.objects(None, 2).await.unwrap();
        assert_eq!((ids(&page), page.next), (expected[..2].to_vec(), Some(expected[1])));
        let page = catalog.objects(page.next.as_ref(), 2).await.unwrap();
        assert_eq!((ids(&page), page.next), (expected[2..4].to_vec(), Some(expected[3])));
        let page = catalog.objects(page.next.as_ref(), 2).await.unwrap();
        assert_eq!((ids(&page), page.next), (expected[4..].to_vec(), None));
        let page = catalog.objects_on(&node("o1"), None, 1).await.unwrap();
        assert_eq!((ids(&page), page.next), (vec![expected[1]], Some(expected[1])));
        assert_eq!(page.objects[0].shards, [(0, node("o1")), (2, node("o1")), (2, node("o2"))]);
        let page = catalog.objects_on(&node("o1"), page.next.as_ref(), 2).await.unwrap();
        assert_eq!((ids(&page), page.next), (vec![expected[3]], None));
        assert!(catalog.objects_on(&node("o9"), None, 2).await.unwrap().objects.is_empty());

        let found = catalog.object(&expected[1]).await.unwrap().unwrap();
        assert_eq!((found.id(), found.lease.version), (expected[1], 1));
        assert_eq!((found.locators, found.shards.len()), (vec![all[1].sealed.locator], 3));
        assert!(catalog.object(&ObjectId([7; 32])).await.unwrap().is_none());
        let erasure = all[1].erasure(2);
        catalog.put_lease(&erasure, &all[1].sign(&erasure)).await.unwrap();
        assert!(catalog.object(&expected[1]).await.unwrap().is_none());
        assert_eq!(ids(&catalog.objects_on(&node("o1"), None, 9).await.unwrap()), [expected[3]]);
        assert_eq!(catalog.objects(None, 100).await.unwrap().objects.len(), 4);

        // Many names of one object: some are named, the newest lease is the one that counts.
        let names: Vec<_> = (0..20).map(|name| Sample::of(1, [name; 32], &[5; 40_000])).collect();
        for (name, version) in names.iter().zip(1..) {
            catalog.put_record(&name.record(&name.lease(version), &node("hint"))).await.unwrap();
        }
        let found = catalog.object(&names[0].id()).await.unwrap().unwrap();
        assert_eq!((found.locators.len(), found.lease.version), (LOCATORS_MAX, 20));
        assert_eq!(found.locators[..2], [names[19].sealed.locator, names[18].sealed.locator]);
    }

    pub(super) async fn a_nodes_rows_come_in_pages(catalog: &dyn Catalog) {
        let row = |name: &str, object, column| ShardRow {
            node: node(name),
            object: ObjectId([object; 32]),
            column,
            bytes: 10 + column as u64,
        };
        let rows = [row("o1", 1, 0), row("o1", 1, 9), row("o1", 1, 10), row("o1", 2, 3)];
        for shard in rows.iter().rev().chain([&row("o2", 1, 1)]) {
            catalog.place_shard(shard).await.unwrap();
        }
        let after = |row: &ShardRow| Some((row.object, row.column));
        assert_eq!(catalog.shards_on(&node("o1"), None, 9).await.unwrap(), rows);
        assert_eq!(catalog.shards_on(&node("o1"), None, 2).await.unwrap(), rows[..2]);
        assert_eq!(catalog.shards_on(&node("o1"), after(&rows[1]), 2).await.unwrap(), rows[2..]);
        assert_eq!(catalog.shards_on(&node("o1"), after(&rows[3]), 2).await.unwrap(), []);
    }

    pub(super) async fn a_lost_shard_is_gone_at_once(catalog: &dyn Catalog) {
        let shard = ShardRow { node: node("o1"), object: ObjectId([1; 32]), column: 3, bytes: 10 };
        catalog.place_shard(&shard).await.unwrap();
        catalog.lose_shard(&ShardRow { column: 4, ..shard.clone() }).await.unwrap();
        assert_eq!(catalog.shard_totals(&shard.node).await.unwrap().shards, 1);
        catalog.lose_shard(&shard).await.unwrap();
        catalog.lose_shard(&shard).await.unwrap();
        assert_eq!(catalog.shard_totals(&shard.node).await.unwrap().shards, 0);
    }

    pub(super) async fn repairs_are_taken_by_risk_and_one_at_a_time(catalog: &dyn Catalog) {
        let (o1, o2) = (node("o1"), node("o2"));
        assert_eq!(catalog.take_repair(&o1, HOLD).await.unwrap(), None);
        for (object, margin) in [(1, 4), (2, 0), (3, 4)] {
            assert_eq!(catalog.queue_repair(&ask(object, margin)).await.unwrap(), Applied::Stored);
        }
        // Safer than known: nothing new. Riskier: replaces margin, bytes and cause.
        assert_eq!(catalog.queue_repair(&ask(1, 5)).await.unwrap(), Applied::Unchanged);
        assert_eq!(catalog.queue_repair(&ask(1, 4)).await.unwrap(), Applied::Unchanged);
        let worse = RepairAsk { bytes: 70, cause: RepairCause::Drain, ..ask(3, -1) };
        assert_eq!(catalog.queue_repair(&worse).await.unwrap(), Applied::Stored);
        let all = RepairQueue { waiting: 3, running: 0, dead: 0, waiting_bytes: 90 };
        assert_eq!(catalog.repair_queue().await.unwrap(), all);
        let first = catalog.take_repair(&o1, HOLD).await.unwrap().unwrap();
        let RepairAsk { object, margin, bytes, cause } = worse;
        assert_eq!(first, Repair { object, margin, bytes, cause, attempts: 1 });
        assert_eq!(catalog.take_repair(&o2, HOLD).await.unwrap().unwrap().object, ask(2, 0).object);
        // A hold that is over at once: the next taker has it, and counts it as another attempt.
        let lapsed = catalog.take_repair(&o1, Duration::ZERO).await.unwrap().unwrap();
        assert_eq!((lapsed.object, lapsed.attempts), (ask(1, 4).object, 1));
        let retaken = catalog.take_repair(&o2, HOLD).await.unwrap().unwrap();
        assert_eq!((retaken.object, retaken.attempts), (ask(1, 4).object, 2));
        assert_eq!(catalog.take_repair(&o1, HOLD).await.unwrap(), None);
        assert!(!catalog.keep_repair(&retaken.object, &o1, HOLD).await.unwrap());
        assert!(catalog.keep_repair(&retaken.object, &o2, HOLD).await.unwrap());
        let all = RepairQueue { waiting: 0, running: 3, dead: 0, waiting_bytes: 0 };
        assert_eq!(catalog.repair_queue().await.unwrap(), all);
        assert!(catalog.keep_repair(&retaken.object, &o2, Duration::ZERO).await.unwrap());
        assert_eq!(catalog.take_repair(&o1, HOLD).await.unwrap().unwrap().attempts, 3);
        assert!(!catalog.keep_repair(&ObjectId([9; 32]), &o1, HOLD).await.unwrap());
    }

    pub(super) async fn repairs_come_back_or_die_by_their_holders_word(catalog: &dyn Catalog) {
        let (o1, o2) = (node("o1"), node("o2"));
        catalog.queue_repair(&ask(1, 0)).await.unwrap();
        let object = ask(1, 0).object;
        let take = || async { catalog.take_repair(&o1, HOLD).await.unwrap() };
        let again = |after| RepairEnd::Again { error: "no node has room".to_owned(), after };
        assert_eq!(take().await.unwrap().attempts, 1);
        // Another's word does not count.
        for end in [RepairEnd::Done, again(Duration::ZERO), RepairEnd::Dead { error: String::new() }] {
            catalog.end_repair(&object, &o2, &end).await.unwrap();
        }
        assert!(catalog.keep_repair(&object, &o1, HOLD).await.unwrap());
        catalog.end_repair(&object, &o1, &again(Duration::ZERO)).await.unwrap();
        assert!(!catalog.keep_repair(&object, &o1, HOLD).await.unwrap());
        assert_eq!(take().await.unwrap().attempts, 2);
        catalog.end_repair(&object, &o1, &again(HOLD)).await.unwrap();
        assert_eq!(take().await, None, "it is not due");
        assert_eq!(catalog.repair_queue().await.unwrap().waiting, 1);

        catalog.queue_repair(&ask(2, 0)).await.unwrap();
        let doomed = take().await.unwrap().object;
        let error = "x\0".to_owned() + &"y".repeat(2 * ERROR_CHARS_MAX);
        catalog.end_repair(&doomed, &o1, &RepairEnd::Dead { error }).await.unwrap();
        assert_eq!(catalog.queue_repair(&ask(2, -9)).await.unwrap(), Applied::Unchanged, "the dead stay dead");
        assert_eq!(take().await, None);
        let dead = catalog.dead_repairs(9).await.unwrap();
        let error = "x".to_owned() + &"y".repeat(ERROR_CHARS_MAX - 1);
        assert_eq!(dead, [DeadRepair { object: doomed, attempts: 1, error }]);
        assert_eq!(catalog.dead_repairs(0).await.unwrap(), []);
        assert_eq!(catalog.revive_repairs().await.unwrap(), 1);
        assert_eq!(catalog.revive_repairs().await.unwrap(), 0);
        let revived = take().await.unwrap();
        assert_eq!((revived.object, revived.attempts), (doomed, 1));
        catalog.end_repair(&doomed, &o1, &RepairEnd::Done).await.unwrap();
        let left = RepairQueue { waiting: 1, running: 0, dead: 0, waiting_bytes: 10 };
        assert_eq!(catalog.repair_queue().await.unwrap(), left);
    }

    pub(super) async fn what_is_lost_during_a_repair_is_repaired_after_it(catalog: &dyn Catalog) {
        let o1 = node("o1");
        catalog.queue_repair(&ask(1, 0)).await.unwrap();
        let taken = catalog.take_repair(&o1, HOLD).await.unwrap().unwrap();
        assert_eq!(catalog.queue_repair(&ask(1, 3)).await.unwrap(), Applied::Stored);
        catalog.end_repair(&taken.object, &o1, &RepairEnd::Done).await.unwrap();
        let again = catalog.take_repair(&o1, HOLD).await.unwrap().unwrap();
        assert_eq!((again.object, again.attempts), (taken.object, 1));
        catalog.end_repair(&taken.object, &o1, &RepairEnd::Done).await.unwrap();
        assert_eq!(catalog.repair_queue().await.unwrap(), RepairQueue::default());
    }

    pub(super) async fn the_erased_need_no_repair(catalog: &dyn Catalog) {
        let (one, two) = (Sample::of(1, [1; 32], &[7; 40_000]), Sample::of(1, [2; 32], &[7; 40_000]));
        for sample in [&one, &two] {
            catalog.put_record(&sample.record(&sample.lease(1), &node("o1"))).await.unwrap();
        }
        catalog.queue_repair(&RepairAsk { object: one.id(), ..ask(0, 0) }).await.unwrap();
        let erasure = one.erasure(2);
        catalog.put_lease(&erasure, &one.sign(&erasure)).await.unwrap();
        assert_eq!(catalog.repair_queue().await.unwrap().waiting, 1, "another name of it lives");
        catalog.put_record(&two.record(&two.erasure(2), &node("o1"))).await.unwrap();
        assert_eq!(catalog.repair_queue().await.unwrap(), RepairQueue::default());
    }

    pub(super) async fn tickets_merge_and_are_bounded(catalog: &dyn Catalog) {
        let (o1, o2) = (node("o1"), node("o2"));
        let ticket = |object: usize, column, stripe| Ticket {
            node: node("bad"),
            object: ObjectId(*blake3::hash(&object.to_le_bytes()).as_bytes()),
            column,
            stripe,
        };
        assert_eq!(catalog.report(&ticket(0, 1, 5)).await.unwrap(), Applied::Stored);
        assert_eq!(catalog.report(&ticket(0, 1, 6)).await.unwrap(), Applied::Unchanged);
        assert_eq!(catalog.report(&ticket(0, 2, 6)).await.unwrap(), Applied::Stored);
        assert_eq!(catalog.take_tickets(&o1, HOLD, 1).await.unwrap().len(), 1);
        assert_eq!(catalog.take_tickets(&o2, Duration::ZERO, 9).await.unwrap().len(), 1);
        let other = catalog.take_tickets(&o2, HOLD, 9).await.unwrap();
        assert_eq!(other.len(), 1, "a hold that is over leaves it to the next");
        assert_eq!(catalog.take_tickets(&o2, HOLD, 9).await.unwrap(), []);
        for column in [1, 2] {
            catalog.end_ticket(&ticket(0, column, 0)).await.unwrap();
        }
        for object in 0..TICKETS_MAX {
            assert_eq!(catalog.report(&ticket(object, 0, 0)).await.unwrap(), Applied::Stored);
        }
        let full = Refused::TooManyTickets { max: TICKETS_MAX };
        assert_eq!(refused(catalog.report(&ticket(TICKETS_MAX, 0, 0)).await), full);
        assert_eq!(catalog.report(&ticket(3, 0, 0)).await.unwrap(), Applied::Unchanged);
        catalog.end_ticket(&ticket(3, 0, 0)).await.unwrap();
        assert_eq!(catalog.report(&ticket(TICKETS_MAX, 0, 0)).await.unwrap(), Applied::Stored);
    }

    pub(super) async fn named_work_has_one_holder_and_goes_on_where_it_was(catalog: &dyn Catalog) {
        let (o1, o2) = (node("o1"), node("o2"));
        assert!(!catalog.keep_work("scan", &o1, HOLD, b"x").await.unwrap());
        assert_eq!(catalog.take_work("scan", &o1, HOLD).await.unwrap(), Some(Bytes::new()));
        assert_eq!(catalog.take_work("scan", &o2, HOLD).await.unwrap(), None);
        assert_eq!(catalog.take_work("expiry", &o2, HOLD).await.unwrap(), Some(Bytes::new()));
        assert!(!catalog.keep_work("scan", &o2, HOLD, b"theirs").await.unwrap());
        assert!(catalog.keep_work("scan", &o1, HOLD, b"mine").await.unwrap());
        assert_eq!(catalog.take_work("scan", &o1, HOLD).await.unwrap(), Some(Bytes::from_static(b"mine")));
        let longest = vec![7; CURSOR_BYTES_MAX];
        assert!(catalog.keep_work("scan", &o1, Duration::ZERO, &longest).await.unwrap());
        assert_eq!(catalog.take_work("scan", &o2, HOLD).await.unwrap(), Some(Bytes::from(longest)));
        assert!(!catalog.keep_work("scan", &o1, HOLD, b"late").await.unwrap());
        assert!(catalog.now().await.unwrap() > 1_700_000_000);
    }

    pub(super) async fn leases_end_by_themselves_but_no_promise_is_broken(catalog: &dyn Catalog) {
        let now = catalog.now().await.unwrap();
        let samples: Vec<_> = (0..5).map(|seed| Sample::new(seed, 40_000)).collect();
        let retention = [(0, 0), (0, now), (now + 5000, now), (0, now + 5000), (now - 5, now - 9)];
        for (sample, (keep_until, expires)) in samples.iter().zip(retention) {
            let lease = format::Lease { retention: Retention { keep_until, expires }, ..sample.lease(1) };
            catalog.put_record(&sample.record(&lease, &node("o1"))).await.unwrap();
        }
        catalog.queue_repair(&RepairAsk { object: samples[1].id(), ..ask(0, 0) }).await.unwrap();
        let since = catalog.newest_change().await.unwrap();
        assert_eq!(catalog.expire(1).await.unwrap(), 1);
        assert_eq!(catalog.expire(9).await.unwrap(), 1);
        assert_eq!(catalog.expire(9).await.unwrap(), 0);
        for (number, sample) in samples.iter().enumerate() {
            let held = catalog.record(&sample.sealed.locator).await.unwrap().unwrap();
            assert_eq!(held.sealed.is_none(), [1, 4].contains(&number), "{number}");
            assert_eq!(catalog.object(&sample.id()).await.unwrap().is_none(), [1, 4].contains(&number));
        }
        assert_eq!(catalog.repair_queue().await.unwrap(), RepairQueue::default());
        // The oldest end comes first.
        let kinds: Vec<_> =
            catalog.changes(since, 9).await.unwrap().changes.into_iter().map(|change| change.kind).collect();
        let erased = [4, 1].map(|number: usize| ChangeKind::Erased { locator: samples[number].sealed.locator });
        assert_eq!(kinds, erased);
        // What ended is dead: neither its old record nor a renewal brings it back, and its owner may still say so.
        let dead = &samples[1];
        let old = format::Lease { retention: Retention { keep_until: 0, expires: now }, ..dead.lease(1) };
        assert!(catalog.put_record(&dead.record(&old, &node("o1"))).await.is_err());
        assert_eq!(refused(catalog.put_record(&dead.record(&dead.lease(2), &node("o1"))).await), Refused::Erased);
        assert!(catalog.record(&dead.sealed.locator).await.unwrap().unwrap().sealed.is_none());
        catalog.put_lease(&dead.erasure(3), &dead.sign(&dead.erasure(3))).await.unwrap();
        // A renewal before the end moves it.
        let renewed = format::Lease { retention: Retention { keep_until: 0, expires: now - 1 }, ..samples[3].lease(2) };
        catalog.put_lease(&renewed, &samples[3].sign(&renewed)).await.unwrap();
        assert_eq!(catalog.expire(9).await.unwrap(), 1);
    }

    pub(super) async fn many_takers_never_share_a_repair_or_a_ticket(catalog: &dyn Catalog) {
        const EACH: u8 = 60;
        for object in 0..EACH {
            catalog.queue_repair(&ask(object, i32::from(object % 3))).await.unwrap();
            let ticket = Ticket { node: node("bad"), object: ObjectId([object; 32]), column: 0, stripe: 0 };
            catalog.report(&ticket).await.unwrap();
        }
        let taker = |number: usize| async move {
            let (holder, mut repairs, mut tickets) = (node(&format!("o{number}")), Vec::new(), Vec::new());
            while let Some(repair) = catalog.take_repair(&holder, HOLD).await.unwrap() {
                repairs.push(repair.object.0[0]);
                let taken = catalog.take_tickets(&holder, HOLD, 2).await.unwrap();
                tickets.extend(taken.iter().map(|ticket| ticket.object.0[0]));
            }
            (repairs, tickets)
        };
        let all = futures::future::join_all((0..8).map(taker)).await;
        let (mut repairs, mut tickets) = (Vec::new(), Vec::new());
        for (some_repairs, some_tickets) in all {
            repairs.extend(some_repairs);
            tickets.extend(some_tickets);
        }
        repairs.sort_unstable();
        tickets.sort_unstable();
        let each: Vec<_> = (0..EACH).collect();
        assert_eq!((&repairs, &tickets), (&each, &each));
    }

    pub(super) async fn of_two_processes_that_race_for_a_lease_the_growing_version_wins(url: CatalogUrl) {
        // Opened at once, so that both race for the schema too.
        let (a, b) = tokio::join!(url.open(KEPT), url.open(KEPT));
        let (a, b) = (a.unwrap(), b.unwrap());
        let sample = Arc::new(Sample::of(1, [1; 32], b"inline"));
        let record = sample.record(&sample.lease(1), &node("o1"));
        let (left, right) = tokio::join!(a.put_record(&record), b.put_record(&record));
        assert!(matches!(
            (left.unwrap(), right.unwrap()),
            (Applied::Stored, Applied::Unchanged) | (Applied::Unchanged, Applied::Stored)
        ));
        for version in 2..20 {
            let envelopes = [(); 2].map(|()| sample.sign(&sample.lease(version)));
            let put = |catalog: Arc<dyn Catalog>, envelope: Bytes| {
                let lease = sample.lease(version);
                tokio::spawn(async move { catalog.put_lease(&lease, &envelope).await })
            };
            let (left, right) =
                tokio::join!(put(a.clone(), envelopes[0].clone()), put(b.clone(), envelopes[1].clone()));
            let (left, right) = (left.unwrap(), right.unwrap());
            let winner = match (&left, &right) {
                (Ok(Applied::Stored), Err(_)) => &envelopes[0],
                (Err(_), Ok(Applied::Stored)) => &envelopes[1],
                other => panic!("one wins and one is refused: {other:?}"),
            };
            let loser = if left.is_err() { left } else { right };
            assert_eq!(refused(loser), Refused::SameVersion { held: version });
            for catalog in [&a, &b] {
                let held = catalog.record(&sample.sealed.locator).await.unwrap().unwrap();
                assert_eq!((held.lease.version, &held.lease_envelope), (version, winner));
            }
        }
        let feed = a.changes(0, 100).await.unwrap().changes;
        assert_eq!(feed.len(), 19, "one change for each version that won");
    }

    pub(super) async fn the_feed_never_shows_a_smaller_number_after_a_larger_one(url: CatalogUrl) {
        const WRITERS: usize = 8;
        const EACH: usize = 40;
        let writer = |number: usize, catalog: Arc<dyn Catalog>| {
            tokio::spawn(async move {
                for moves in 0..EACH {
                    catalog.announce(&entry(&format!("n{number}"), &format!("z{moves}"), 0)).await.unwrap();
                }
            })
        };
        let (a, b) = (url.open(10_000).await.unwrap(), url.open(10_000).await.unwrap());
        let writers: Vec<_> = (0..WRITERS).map(|n| writer(n, [&a, &b][n % 2].clone())).collect();
        let (mut since, mut seen) = (0, Vec::new());
        loop {
            let all_written = writers.iter().all(tokio::task::JoinHandle::is_finished);
            let page = a.changes(since, 1000).await.unwrap();
            assert!(!page.reset && page.changes.iter().all(|change| change.sequence > since));
            since = page.next;
            seen.extend(page.changes.iter().map(|change| change.sequence));
            if all_written && page.changes.is_empty() {
                break;
            }
        }
        let all: Vec<_> = b.changes(0, 1000).await.unwrap().changes.iter().map(|change| change.sequence).collect();
        assert_eq!((seen.len(), seen), (WRITERS * EACH, all));
    }

    pub(super) async fn a_call_that_is_dropped_happens_or_not(url: CatalogUrl) {
        let catalog = url.open(10_000).await.unwrap();
        let mut ended = 0;
        for moves in 0..200_u64 {
            let entry = entry("n", &format!("z{moves}"), 0);
            let announced = tokio::time::timeout(Duration::from_micros(moves * 20), catalog.announce(&entry));
            ended += u64::from(announced.await.is_ok());
        }
        // Whatever was left half done is neither seen nor in the way.
        catalog.announce(&entry("n", "last", 0)).await.unwrap();
        assert_eq!(catalog.nodes().await.unwrap()[0].place.zone, "last");
        assert!((ended..=200).contains(&(catalog.changes(0, 1000).await.unwrap().changes.len() as u64 - 1)));
    }
}

#[tokio::test]
async fn leases_filed_before_there_was_a_column_for_their_end_end_too() {
    use sqlx::Connection;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.db");
    let catalog = sqlite(&path).await;
    let (ending, staying) = (Sample::new(1, 40_000), Sample::new(2, 40_000));
    let ended = format::Lease { retention: Retention { keep_until: 0, expires: 9 }, ..ending.lease(1) };
    catalog.put_record(&ending.record(&ended, &node("o1"))).await.unwrap();
    catalog.put_record(&staying.record(&staying.lease(1), &node("o1"))).await.unwrap();
    catalog.close().await;
    let mut raw = sqlx::SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    sqlx::query("UPDATE records SET ends_at = NULL").execute(&mut raw).await.unwrap();
    raw.close().await.unwrap();
    let catalog = sqlite(&path).await;
    assert_eq!(catalog.expire(9).await.unwrap(), 1);
    assert!(catalog.object(&ending.id()).await.unwrap().is_none());
    assert!(catalog.object(&staying.id()).await.unwrap().is_some());
}

#[tokio::test]
async fn what_is_no_catalog_is_refused_and_a_catalog_opens_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.db");
    sqlite(&path).await.close().await;
    std::fs::write(dir.path().join("other.db"), b"this is no database, it only has the name of one").unwrap();
    assert!(SqliteCatalog::open(&dir.path().join("other.db"), KEPT).await.is_err());
    assert!(SqliteCatalog::open(&path, KEPT).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_is_unavailable_and_one_that_comes_back_serves() {
    // A server of its own: 5 seconds, most of them to make its folder and to stop and start.
    let server = Server::start("stopped");
    let catalog = server.database().await.open(KEPT).await.unwrap();
    let sample = Sample::new(1, 40_000);
    let locator = sample.sealed.locator;
    catalog.put_record(&sample.record(&sample.lease(1), &node("o1"))).await.unwrap();
    server.stop();
    let (lease, envelope) = (sample.lease(2), sample.sign(&sample.lease(2)));
    let unavailable = |error| matches!(error, CatalogError::Unavailable(_));
    for _ in 0..10 {
        assert!(unavailable(catalog.record(&locator).await.unwrap_err()));
        assert!(unavailable(catalog.put_lease(&lease, &envelope).await.unwrap_err()));
        assert!(unavailable(catalog.take_repair(&node("o1"), HOLD).await.unwrap_err()));
        assert!(unavailable(catalog.newest_change().await.unwrap_err()));
    }
    server.resume();
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while catalog.put_lease(&lease, &envelope).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "the catalog does not come back");
    }
    assert_eq!(catalog.record(&locator).await.unwrap().unwrap().lease.version, 2);
    assert_eq!(catalog.newest_change().await.unwrap(), 2);
    catalog.close().await;
    server.stop();
}
