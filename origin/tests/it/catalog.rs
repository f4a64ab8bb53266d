//! What every catalog engine promises, written against the trait alone. An engine joins by one
//! more test in the macro `promise`.

mod shards;
mod work;

use std::{future::poll_fn, path::Path, pin::pin, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use format::{
    BlobId, Locator, ManifestHash, NodeName, NoteId, PolicyLink, PolicyManifest, PublicManifest, Purge, Purged,
    Retention,
    wire::{ChangeKind, NodeEntry, Note, Role},
};
use origin::catalog::{Applied, Catalog, CatalogError, CatalogUrl, NOTES_MAX, Refused, ShardRow, SqliteCatalog};
use testing::{Sample, place, postgres::Server};

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
                super::promises::$name(super::Server::shared().database().parse().unwrap()).await;
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
                let url: super::CatalogUrl = super::Server::shared().database().parse().unwrap();
                super::promises::$name(&*url.open(super::KEPT).await.unwrap()).await;
            }
        }
    };
}

promise!(leases_only_grow);
promise!(the_erased_stay_erased);
promise!(promises_to_keep_are_kept);
promise!(placement_follows_the_shards);
promise!(the_manifests_filed_first_stay);
promise!(of_two_owners_of_a_locator_the_one_who_came_first_has_it);
promise!(dead_shards_are_those_without_a_living_record);
promise!(dead_shards_of_a_node_that_is_gone_are_forgotten);
promise!(totals_are_those_of_the_rows);
promise!(owners_see_their_living_locators_in_pages);
promise!(policies_only_grow_and_need_their_blobs);
promise!(a_purge_is_told_once_and_of_the_owners_own);
promise!(a_note_follows_the_version_before_it);
promise!(nodes_are_news_when_they_move);
promise!(edges_that_were_silent_for_long_leave_the_list_and_origins_stay);
promise!(the_feed_pages_and_resets);
promise!(a_feed_that_restarts_resets_all_who_followed_it);
promise!(living_objects_come_in_pages_with_their_shards);
promise!(a_nodes_rows_come_in_pages);
promise!(a_lost_shard_is_gone_at_once);
promise!(repairs_are_taken_by_risk_and_one_at_a_time);
promise!(a_move_comes_last_keeps_its_target_and_gives_way_to_a_loss);
promise!(repairs_come_back_or_die_by_their_holders_word);
promise!(a_repair_that_always_fails_lets_others_pass_until_more_is_lost);
promise!(what_cannot_be_read_is_repaired_last_until_it_can);
promise!(an_operators_word_makes_nothing_due_that_failed_a_moment_ago);
promise!(a_hopeless_repair_rests_until_other_work_is_asked_for);
promise!(what_is_lost_during_a_repair_is_repaired_after_it);
promise!(the_erased_need_no_repair);
promise!(tickets_merge_and_are_bounded);
promise!(named_work_has_one_holder_and_goes_on_where_it_was);
promise!(a_hold_from_before_the_clock_was_set_back_holds_nothing);
promise!(leases_end_by_themselves_but_no_promise_is_broken);
promise!(many_takers_never_share_a_repair_or_a_ticket);
promise!(of_two_processes_that_race_for_a_lease_the_growing_version_wins(url));
promise!(the_feed_never_shows_a_smaller_number_after_a_larger_one(url));
promise!(a_call_that_is_dropped_happens_or_not(url));
promise!(writes_of_two_processes_at_once_are_each_answered(url));

fn refused<T: std::fmt::Debug>(result: Result<T, CatalogError>) -> Refused {
    match result {
        Err(CatalogError::Refused(refused)) => refused,
        other => panic!("not refused: {other:?}"),
    }
}

/// Returns the second that the catalog's clock calls so many seconds ago.
async fn ago(catalog: &dyn Catalog, seconds: u64) -> u64 {
    catalog.now().await.unwrap() - seconds
}

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

fn entry(name: &str, zone: &str, free_bytes: u64) -> NodeEntry {
    let address = Some("127.0.0.1:7".parse().unwrap());
    NodeEntry { address, capacity_bytes: 100, free_bytes, ..testing::node(name, place(zone)) }
}

mod promises {
    use super::*;
    pub(super) use super::{shards::*, work::*};

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
        assert_eq!(refused(catalog.put_record(&under).await), Refused::OtherOwner { held: sample.owner.id() });
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
        let first = sample.record(&sample.lease(1), &node("hint"));
        catalog.put_record(&first).await.unwrap();
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
        catalog.forget_shard(&row("o2", 1), ago(catalog, 3600).await).await.unwrap();
        assert_eq!(placement().await, ["hint", "o2", "hint"]);
        catalog.forget_shard(&row("o2", 1), ago(catalog, 0).await).await.unwrap();
        catalog.forget_shard(&row("hint", 0), ago(catalog, 0).await).await.unwrap();
        assert_eq!(placement().await, ["a", "hint", "hint"]);
        assert_eq!(catalog.shard_totals(&node("o2")).await.unwrap().shards, 0);
        // Who sends a record again does not say where its columns are, under the same lease or a newer one.
        let elsewhere = vec![Some(node("elsewhere")); 3];
        for record in [first, sample.record(&sample.lease(2), &node("hint"))] {
            catalog.put_record(&format::Record { placement: elsewhere.clone(), ..record }).await.unwrap();
            assert_eq!(placement().await, ["a", "hint", "hint"]);
        }
        let moved = [None, None, Some(node("o3"))];
        let locator = sample.sealed.locator;
        assert_eq!(catalog.move_columns(&locator, &moved).await.unwrap(), Applied::Stored);
        assert_eq!(catalog.move_columns(&locator, &moved).await.unwrap(), Applied::Unchanged);
        let held = catalog.record(&locator).await.unwrap().unwrap();
        assert_eq!(held.placement, [Some(node("a")), None, Some(node("o3"))]);
        assert_eq!(catalog.changes(0, 10).await.unwrap().changes.len(), 3, "filed, renewed and moved");
        let erasure = sample.erasure(3);
        catalog.put_lease(&erasure, &sample.sign(&erasure)).await.unwrap();
        assert_eq!(catalog.move_columns(&locator, &[None, None, None]).await.unwrap(), Applied::Unchanged);
    }

    pub(super) async fn the_manifests_filed_first_stay(catalog: &dyn Catalog) {
        let sample = Sample::new(1, 40_000);
        let whole = |version| sample.record(&sample.lease(version), &node("o1"));
        let stripped = |version| format::Record { sealed: None, ..whole(version) };
        // The owner signs one name twice.
        let under = |public: &PublicManifest, sealed: Vec<u8>, version| {
            let manifest = ManifestHash::of(&sealed);
            let lease = format::Lease { object: public.id(), manifest, ..sample.lease(version) };
            let placement = vec![None; public.columns()];
            format::Record::new(public.clone(), Some(sealed.into()), sample.sign(&lease), placement).unwrap()
        };
        let other = Sample::of(1, [9; 32], &[8; 50_000]);
        assert_eq!(refused(catalog.put_record(&stripped(1)).await), Refused::NoManifest);
        assert!(catalog.record(&sample.sealed.locator).await.unwrap().is_none());
        let first = whole(1);
        catalog.put_record(&first).await.unwrap();
        let again = |record: &format::Record| format::Record {
            lease: first.lease.clone(),
            lease_envelope: first.lease_envelope.clone(),
            ..record.clone()
        };
        for (forged, refusal) in [
            (again(&stripped(1)), Refused::NoManifest),
            (stripped(2), Refused::NoManifest),
            (under(&sample.sealed.public, vec![7; 100], 2), Refused::OtherManifest),
            (under(&other.sealed.public, vec![7; 100], 2), Refused::OtherObject { held: sample.id() }),
        ] {
            assert_eq!(refused(catalog.put_record(&forged).await), refusal);
            let held = catalog.record(&sample.sealed.locator).await.unwrap().unwrap();
            assert_eq!((held.lease.version, held.sealed), (1, Some(sample.sealed.sealed.clone())));
        }
        assert_eq!(catalog.put_record(&first).await.unwrap(), Applied::Unchanged);
        assert_eq!(catalog.put_record(&whole(2)).await.unwrap(), Applied::Stored);
    }

    pub(super) async fn of_two_owners_of_a_locator_the_one_who_came_first_has_it(catalog: &dyn Catalog) {
        let (o1, now) = (node("o1"), catalog.now().await.unwrap());
        let is_others = |done| matches!(refused(done), Refused::OtherOwner { .. });
        // Stored and erased; found by a stranger who stores something of their own, or a tombstone.
        for (seed, is_erased, is_grave) in [(1, false, false), (3, false, true), (5, true, false)] {
            let (owned, strange) = (Sample::new(seed, 40_000), Sample::new(seed + 1, 40_000));
            let locator = owned.sealed.locator;
            let lease = format::Lease { locator, erased: is_grave, ..strange.lease(9) };
            let shard = |sample: &Sample| ShardRow { node: o1.clone(), object: sample.id(), column: 0, bytes: 9 };
            for sample in [&owned, &strange] {
                catalog.place_shard(&shard(sample)).await.unwrap();
            }
            let record = owned.record(&format::Lease { erased: is_erased, ..owned.lease(1) }, &o1);
            let squat = |version| strange.record(&format::Lease { version, ..lease.clone() }, &o1);
            assert_eq!(catalog.put_record(&squat(9)).await.unwrap(), Applied::Stored);
            assert!(is_others(catalog.put_record(&record).await), "it was filed first");
            assert!(is_others(catalog.restore_record(&record, now + 60).await), "the copy is younger");
            let since = catalog.newest_change().await.unwrap();
            assert_eq!(catalog.restore_record(&record, now - 60).await.unwrap(), Applied::Stored);
            let held = catalog.record(&locator).await.unwrap().unwrap();
            assert_eq!((held.lease.owner, held.lease.erased), (owned.owner.id(), is_erased));
            // What the stranger stored is dead, from now on.
            let dead = async |grace| catalog.dead_shards(&o1, ago(catalog, grace).await, None, 99).await.unwrap();
            assert!(dead(0).await.contains(&shard(&strange)));
            assert_eq!(dead(0).await.contains(&shard(&owned)), is_erased);
            assert_eq!(dead(3600).await, []);
            let told = catalog.changes(since, 9).await.unwrap().changes;
            let kind = if is_erased { ChangeKind::Erased { locator } } else { ChangeKind::Record { locator } };
            assert_eq!(told.into_iter().map(|change| change.kind).collect::<Vec<_>>(), [kind]);
            // The oldest copy tells since when, in whatever order they come.
            let filed_at = async || catalog.filed(&locator).await.unwrap().unwrap().filed_at;
            for (since, told) in [(now - 50, now - 60), (now - 90, now - 90), (now - 60, now - 90)] {
                assert_eq!(catalog.restore_record(&record, since).await.unwrap(), Applied::Unchanged);
                assert_eq!(filed_at().await, told);
            }
            // Neither comes back by a copy that is younger, nor by a higher version.
            assert!(is_others(catalog.restore_record(&squat(9), now - 50).await));
            assert!(is_others(catalog.put_record(&squat(10)).await));
            assert!(catalog.object(&strange.id()).await.unwrap().is_none());
        }
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
        let at_once = 0;
        let dead = async |node: &NodeName, grace: u64| {
            catalog.dead_shards(node, ago(catalog, grace).await, None, 10).await.unwrap()
        };
        assert_eq!(dead(&o1, at_once).await, []);
        catalog.put_record(&one.record(&one.erasure(2), &o1)).await.unwrap();
        assert_eq!(dead(&o1, at_once).await, []);
        catalog.put_record(&two.record(&two.erasure(2), &o1)).await.unwrap();
        assert_eq!(dead(&o1, at_once).await, [row(&one)]);
        assert_eq!(dead(&node("o2"), at_once).await, []);
        assert_eq!(dead(&o1, 3600).await, []);

        // They come in pages, so that one that stays keeps none from being found.
        let columns = [0, 9, 10].map(|column| ShardRow { column, ..row(&one) });
        for shard in columns.iter().rev() {
            catalog.place_shard(shard).await.unwrap();
        }
        let page = async |after: Option<&ShardRow>, limit| {
            let after = after.map(|shard| (shard.object, shard.column));
            catalog.dead_shards(&o1, ago(catalog, at_once).await, after, limit).await.unwrap()
        };
        assert_eq!(page(None, 2).await, columns[..2]);
        assert_eq!(page(Some(&columns[0]), 1).await, columns[1..2]);
        assert_eq!(page(Some(&columns[1]), 2).await, columns[2..]);
        assert_eq!(page(Some(&columns[2]), 2).await, []);
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
        assert_eq!(catalog.locators(Some(&owner), None, 10).await.unwrap(), expected);
        assert_eq!(catalog.locators(Some(&owner), None, 2).await.unwrap(), expected[..2]);
        assert_eq!(catalog.locators(Some(&owner), Some(&expected[1]), 2).await.unwrap(), expected[2..4]);
        assert_eq!(catalog.locators(Some(&other), None, 2).await.unwrap(), []);
        let strange = Sample::of(2, [9; 32], b"inline");
        catalog.put_record(&strange.record(&strange.lease(1), &node("o1"))).await.unwrap();
        let erasure = all[0].erasure(2);
        catalog.put_lease(&erasure, &all[0].sign(&erasure)).await.unwrap();
        assert_eq!(catalog.locators(Some(&owner), None, 10).await.unwrap(), expected[1..]);
        let mut of_all = expected[1..].to_vec();
        of_all.push(strange.sealed.locator);
        of_all.sort();
        assert_eq!(catalog.locators(None, None, 10).await.unwrap(), of_all);
        assert_eq!(catalog.locators(None, Some(&of_all[0]), 2).await.unwrap(), of_all[1..3]);
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
            unknown: Default::default(),
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

    pub(super) async fn a_purge_is_told_once_and_of_the_owners_own(catalog: &dyn Catalog) {
        let (mine, other) = (Sample::of(1, [1; 32], b"mine"), Sample::of(2, [2; 32], b"another's"));
        for sample in [&mine, &other] {
            catalog.put_record(&sample.record(&sample.lease(1), &node("o1"))).await.unwrap();
        }
        let seen = catalog.newest_change().await.unwrap();
        let [mine_at, others_at] = [&mine, &other].map(|sample| sample.sealed.locator);
        let owner = mine.owner.id();
        let purge = |what| Purge { owner, issued: 7, hard: true, what };
        // Of the second nothing is known here.
        let some = purge(Purged::Objects([mine_at, Locator([9; 32])].into()));
        assert_eq!(catalog.tell_purge(&some).await.unwrap(), Applied::Stored);
        assert_eq!(catalog.tell_purge(&some).await.unwrap(), Applied::Unchanged);
        let stolen = purge(Purged::Objects([mine_at, others_at].into()));
        assert_eq!(refused(catalog.tell_purge(&stolen).await), Refused::OtherOwner { held: other.owner.id() });
        assert_eq!(catalog.tell_purge(&Purge { issued: 8, ..purge(Purged::All) }).await.unwrap(), Applied::Stored);
        // Edges hear nothing of who has nothing here: anybody can make keys of owners up.
        let nobodys = Purge { owner: format::OwnerId([9; 32]), ..purge(Purged::All) };
        assert_eq!(catalog.tell_purge(&nobodys).await.unwrap(), Applied::Unchanged);
        let told: Vec<_> = catalog.changes(seen, 10).await.unwrap().changes.into_iter().map(|it| it.kind).collect();
        let order = |locator, issued| ChangeKind::Purge { owner, locator, hard: true, issued };
        assert_eq!(told, [order(Some(mine_at), 7), order(None, 8)]);
    }

    pub(super) async fn a_note_follows_the_version_before_it(catalog: &dyn Catalog) {
        let (id, other) = (NoteId([1; 32]), NoteId([2; 32]));
        let note = |version, text: &'static str| Note { version, sealed: Bytes::from_static(text.as_bytes()) };
        assert_eq!(catalog.note(&id).await.unwrap(), None);
        assert_eq!(refused(catalog.put_note(&id, &note(2, "early")).await), Refused::OtherNote);
        catalog.put_note(&id, &note(1, "one")).await.unwrap();
        assert_eq!(refused(catalog.put_note(&id, &note(1, "again")).await), Refused::OtherNote);
        // Of those who write at a time one is heard.
        let puts: Vec<_> = ["a", "b", "c"].map(|text| note(2, text)).into();
        let done = futures::future::join_all(puts.iter().map(|note| catalog.put_note(&id, note))).await;
        let heard: Vec<_> = puts.iter().zip(&done).filter(|(_, done)| done.is_ok()).map(|(note, _)| note).collect();
        assert_eq!(heard.len(), 1, "{done:?}");
        assert_eq!(catalog.note(&id).await.unwrap().as_ref(), Some(heard[0]));
        assert_eq!(catalog.note(&other).await.unwrap(), None);
        assert_eq!(refused(catalog.put_note(&id, &note(2, "late")).await), Refused::OtherNote);
        for number in 1..NOTES_MAX {
            let mut name = [0; 32];
            name[..8].copy_from_slice(&number.to_le_bytes());
            catalog.put_note(&NoteId(name), &note(1, "")).await.unwrap();
        }
        assert_eq!(refused(catalog.put_note(&other, &note(1, "")).await), Refused::TooManyNotes { max: NOTES_MAX });
        catalog.put_note(&id, &note(3, "there is room for what is there")).await.unwrap();
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

    pub(super) async fn edges_that_were_silent_for_long_leave_the_list_and_origins_stay(catalog: &dyn Catalog) {
        let edge = NodeEntry { role: Role::Edge, ..entry("e", "z1", 0) };
        for entry in [&entry("o", "z1", 5), &edge] {
            assert_eq!(catalog.announce(entry).await.unwrap(), Applied::Stored);
        }
        let names = async || {
            let nodes = catalog.nodes().await.unwrap();
            nodes.into_iter().map(|node| node.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(catalog.forget_edges(ago(catalog, 3600).await).await.unwrap(), 0);
        assert_eq!(names().await, ["e", "o"]);
        assert_eq!(catalog.forget_edges(ago(catalog, 0).await).await.unwrap(), 1);
        assert_eq!(names().await, ["o"]);
        assert_eq!(catalog.announce(&edge).await.unwrap(), Applied::Stored, "it is new");
        assert_eq!(names().await, ["e", "o"]);
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

    pub(super) async fn a_feed_that_restarts_resets_all_who_followed_it(catalog: &dyn Catalog) {
        catalog.restart_feed(&node("o1")).await.unwrap();
        let first = catalog.newest_change().await.unwrap();
        assert!(first > 1_700_000_000_000);
        for zone in ["z1", "z2", "z3"] {
            catalog.announce(&entry("n", zone, 0)).await.unwrap();
        }
        let reached = catalog.newest_change().await.unwrap();
        assert_eq!(reached, first + 3);
        catalog.restart_feed(&node("o1")).await.unwrap();
        let newest = catalog.newest_change().await.unwrap();
        assert!(newest > reached);
        for since in [0, 1, 5000, first, reached] {
            let page = catalog.changes(since, 10).await.unwrap();
            assert_eq!((page.reset, page.next), (true, newest), "{since}");
        }
        catalog.announce(&entry("n", "z4", 0)).await.unwrap();
        let page = catalog.changes(newest, 10).await.unwrap();
        assert_eq!((page.reset, page.next, page.changes.len()), (false, newest + 1, 1));
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

    /// When a call is dropped.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Cut {
        /// Right after a poll: what it asked for is under way.
        Polled,
        /// When it would be polled again: the answer is there, and nobody reads it.
        Woken,
    }

    /// Polls a call so many times and drops it; none when it did not end.
    async fn cut<T>(call: impl Future<Output = T>, polls: usize, cut: Cut) -> Option<T> {
        let (mut call, mut left) = (pin!(call), polls);
        poll_fn(|context| {
            if left == 0 {
                return Poll::Ready(None);
            }
            left -= 1;
            match (call.as_mut().poll(context), cut) {
                (Poll::Ready(done), _) => Poll::Ready(Some(done)),
                (Poll::Pending, Cut::Polled) if left == 0 => Poll::Ready(None),
                (Poll::Pending, _) => Poll::Pending,
            }
        })
        .await
    }

    pub(super) async fn a_call_that_is_dropped_happens_or_not(url: CatalogUrl) {
        let catalog = url.open(10_000).await.unwrap();
        catalog.announce(&entry("n", "first", 0)).await.unwrap();
        let mut since = catalog.newest_change().await.unwrap();
        let mut dropped = 0;
        // On a busy machine all answers may be there at the first look.
        let rounds = (0..50).flat_map(|_| [Cut::Polled, Cut::Woken]);
        for how in rounds {
            if dropped > 2 && how == Cut::Polled {
                break;
            }
            for polls in 1.. {
                let ended = cut(catalog.announce(&entry("n", &format!("cut {polls}"), 0)), polls, how).await;
                // Whatever was left half done is neither seen nor in the way.
                let after = format!("after {how:?} {polls}");
                catalog.announce(&entry("n", &after, 0)).await.unwrap();
                assert_eq!(catalog.nodes().await.unwrap()[0].place.zone, after);
                let page = catalog.changes(since, 1000).await.unwrap();
                let told = page.changes.len();
                since = page.next;
                match ended {
                    Some(applied) => {
                        assert_eq!((applied.unwrap(), told), (Applied::Stored, 2), "{how:?} {polls}");
                        break;
                    }
                    None => assert!((1..=2).contains(&told), "{how:?} {polls}: {told} changes are told"),
                }
                dropped += 1;
            }
        }
        assert!(dropped > 2, "{dropped}");
        assert!(catalog.changes(since, 1000).await.unwrap().changes.is_empty(), "nothing happens later");
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
    catalog.restore_record(&ending.record(&ended, &node("o1")), 0).await.unwrap();
    catalog.put_record(&staying.record(&staying.lease(1), &node("o1"))).await.unwrap();
    catalog.close().await;
    let mut raw = sqlx::SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    sqlx::query("UPDATE records SET ends_at = NULL").execute(&mut raw).await.unwrap();
    raw.close().await.unwrap();
    let catalog = sqlite(&path).await;
    assert_eq!(catalog.expire(ago(&*catalog, 0).await, 9).await.unwrap(), 1);
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
async fn a_catalog_whose_server_is_away_opens_and_serves_once_it_is_there() {
    let server = Server::start("away");
    let url: CatalogUrl = server.database().parse().unwrap();
    server.stop();
    let catalog = url.open(KEPT).await.unwrap();
    assert!(matches!(catalog.newest_change().await, Err(CatalogError::Unavailable(_))));
    server.resume();
    let sample = Sample::new(1, 40_000);
    let deadline = tokio::time::Instant::now() + DEADLINE;
    // The first connection makes the tables.
    while catalog.put_record(&sample.record(&sample.lease(1), &node("o1"))).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "the catalog does not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(catalog.newest_change().await.unwrap(), 1);
    catalog.close().await;
    // One that answers and refuses is the operator's to mend.
    let nobody = server.url("none").parse::<CatalogUrl>().unwrap();
    assert!(nobody.open(KEPT).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_is_unavailable_and_one_that_comes_back_serves() {
    // A server of its own: 5 seconds, most of them to make its folder and to stop and start.
    let server = Server::start("stopped");
    let catalog = server.database().parse::<CatalogUrl>().unwrap().open(KEPT).await.unwrap();
    let sample = Sample::new(1, 40_000);
    let locator = sample.sealed.locator;
    catalog.put_record(&sample.record(&sample.lease(1), &node("o1"))).await.unwrap();
    server.stop();
    let (lease, envelope) = (sample.lease(2), sample.sign(&sample.lease(2)));
    let unavailable = |error| matches!(error, CatalogError::Unavailable(_));
    for _ in 0..10 {
        assert!(unavailable(catalog.record(&locator).await.unwrap_err()));
        assert!(unavailable(catalog.put_lease(&lease, &envelope).await.unwrap_err()));
        assert!(unavailable(catalog.take_repair(&node("o1"), work::HOLD).await.unwrap_err()));
        assert!(unavailable(catalog.newest_change().await.unwrap_err()));
    }
    server.resume();
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while catalog.put_lease(&lease, &envelope).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "the catalog does not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(catalog.record(&locator).await.unwrap().unwrap().lease.version, 2);
    assert_eq!(catalog.newest_change().await.unwrap(), 2);
    catalog.close().await;
    server.stop();
}
