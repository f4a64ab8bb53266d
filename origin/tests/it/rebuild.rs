//! A catalog made again from disks alone, on every engine.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use format::{Lease, Record, Retention};
use origin::{
    Config,
    catalog::{Applied, CatalogError, CatalogUrl, Refused},
    rebuild::{RebuildError, Rebuilt, end_leases, rebuild},
    store::StoreError,
};
use testing::{Sample, origin_config, postgres::Server};

use crate::store::{open, upload};

fn config(name: &str, dir: &Path, catalog: &CatalogUrl) -> Config {
    let text = origin_config(name, &dir.join(name), "sqlite:///unused", "");
    Config { catalog: catalog.clone(), ..Config::from_toml(&text).unwrap() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_has_all_that_disks_have() {
    let dir = tempfile::tempdir().unwrap();
    let url = CatalogUrl::Sqlite(dir.path().join("catalog.db"));
    has_all_that_disks_have(dir.path(), url).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_has_all_that_disks_have() {
    let dir = tempfile::tempdir().unwrap();
    has_all_that_disks_have(dir.path(), Server::shared().database().parse().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_takes_a_renewed_lease_after_one_that_ended() {
    let dir = tempfile::tempdir().unwrap();
    let url = CatalogUrl::Sqlite(dir.path().join("catalog.db"));
    takes_a_renewed_lease_after_one_that_ended(dir.path(), url).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_takes_a_renewed_lease_after_one_that_ended() {
    let dir = tempfile::tempdir().unwrap();
    takes_a_renewed_lease_after_one_that_ended(dir.path(), Server::shared().database().parse().unwrap()).await;
}

async fn takes_a_renewed_lease_after_one_that_ended(dir: &Path, url: CatalogUrl) {
    let [renewed, stripped, erased] = [1, 2, 3].map(|seed| Sample::new(seed, 40_000));
    let configs = ["o1", "o2"].map(|name| config(name, dir, &url));
    let o1 = &configs[0].name;
    {
        let [first, second] = [&configs[0], &configs[1]].map(|config| open(&config.data_dir));
        let ended = |sample: &Sample| {
            let retention = Retention { keep_until: 0, expires: 9 };
            sample.record(&Lease { retention, ..sample.lease(1) }, o1)
        };
        first.put_record(&ended(&renewed), 1).unwrap();
        first.put_record(&Record { sealed: None, ..ended(&stripped) }, 1).unwrap();
        first.put_record(&erased.record(&erased.erasure(1), o1), 1).unwrap();
        for sample in [&renewed, &stripped, &erased] {
            second.put_record(&sample.record(&sample.lease(2), o1), 1).unwrap();
        }
    }
    rebuild(&configs[0]).await.unwrap();
    // Another machine's origins are in a call of their own.
    end_leases(&configs[0]).await.unwrap();
    let catalog = url.open(100).await.unwrap();
    for sample in [&renewed, &stripped] {
        assert!(catalog.record(&sample.sealed.locator).await.unwrap().unwrap().sealed.is_none());
        let late = catalog.put_record(&sample.record(&sample.lease(2), o1)).await;
        assert!(matches!(late, Err(CatalogError::Refused(Refused::Erased))), "only a rebuild may: {late:?}");
    }
    let done = Rebuilt { records_filed: 2, records_older: 1, ..Rebuilt::default() };
    assert_eq!(rebuild(&configs[1]).await.unwrap(), done);
    end_leases(&configs[1]).await.unwrap();
    for sample in [&renewed, &stripped] {
        let held = catalog.record(&sample.sealed.locator).await.unwrap().unwrap();
        assert_eq!((held.lease.version, held.sealed), (2, Some(sample.sealed.sealed.clone())));
    }
    assert_eq!(catalog.locators(None, None, 10).await.unwrap().len(), 2);
    let held = catalog.record(&erased.sealed.locator).await.unwrap().unwrap();
    assert!(held.lease.erased && held.sealed.is_none(), "what its owner erased stays erased");
    let again = Rebuilt { records_older: 2, records_known: 1, ..Rebuilt::default() };
    assert_eq!(rebuild(&configs[0]).await.unwrap(), again, "the earlier lease kills nothing");
    catalog.close().await;
}

async fn has_all_that_disks_have(dir: &Path, url: CatalogUrl) {
    let [alive, erased, ended, torn] = [1, 2, 3, 4].map(|seed| Sample::new(seed, 40_000));
    let configs = ["o1", "o2"].map(|name| config(name, dir, &url));
    let (o1, o2) = (configs[0].name.clone(), configs[1].name.clone());
    let ends = Lease { retention: Retention { keep_until: 0, expires: 9 }, ..ended.lease(1) };
    {
        let [first, second] = [&configs[0], &configs[1]].map(|config| open(&config.data_dir));
        for (store, column) in [(&first, 0), (&first, 1), (&second, 2)] {
            upload(store, &alive, column).unwrap();
        }
        upload(&first, &ended, 0).unwrap();
        // The second was down when the lease was renewed, the first when the object was erased.
        first.put_record(&alive.record(&alive.lease(2), &o1), 1).unwrap();
        second.put_record(&alive.record(&alive.lease(1), &o1), 1).unwrap();
        first.put_record(&erased.record(&erased.lease(1), &o1), 1).unwrap();
        second.put_record(&erased.record(&erased.erasure(2), &o1), 1).unwrap();
        first.put_record(&ended.record(&ends, &o1), 1).unwrap();
        for store in [&first, &second] {
            store.put_record(&torn.record(&torn.lease(1), &o1), 1).unwrap();
        }
    }
    let name = torn.sealed.locator.to_string();
    let copy = configs[0].data_dir.join("records").join(&name[..2]).join(&name);
    let whole = std::fs::read(&copy).unwrap();
    std::fs::write(&copy, &whole[..whole.len() - 1]).unwrap();

    let first = Rebuilt { records_filed: 3, records_damaged: 1, shards_filed: 3, ..Rebuilt::default() };
    assert_eq!(rebuild(&configs[0]).await.unwrap(), first);
    let second = Rebuilt { records_filed: 2, records_older: 1, shards_filed: 1, ..Rebuilt::default() };
    assert_eq!(rebuild(&configs[1]).await.unwrap(), second);
    end_leases(&configs[1]).await.unwrap();

    let catalog = url.open(100).await.unwrap();
    let read = |sample: &Sample| {
        let (catalog, locator) = (&catalog, sample.sealed.locator);
        async move { catalog.record(&locator).await.unwrap().unwrap() }
    };
    let held = read(&alive).await;
    assert_eq!((held.lease.version, held.sealed), (2, Some(alive.sealed.sealed.clone())));
    assert_eq!(held.placement, [&o1, &o1, &o2].map(|node| Some(node.clone())));
    assert!(read(&erased).await.lease.erased && read(&erased).await.sealed.is_none());
    assert!(read(&ended).await.sealed.is_none(), "its time was over");
    assert!(read(&torn).await.sealed.is_some(), "the other origin had it");
    for (sample, version) in [(&erased, 3), (&ended, 2)] {
        let back = catalog.put_record(&sample.record(&sample.lease(version), &o1)).await;
        assert!(matches!(back, Err(CatalogError::Refused(Refused::Erased))), "{back:?}");
    }
    let renewed = alive.record(&alive.lease(3), &o1);
    assert_eq!(catalog.put_record(&renewed).await.unwrap(), Applied::Stored);

    // Once more, after the disk lost a shard: only that is news.
    let store = open(&configs[0].data_dir);
    assert!(matches!(rebuild(&configs[0]).await, Err(RebuildError::Store(StoreError::InUse { .. }))));
    let later = SystemTime::now() + Duration::from_secs(3600);
    assert!(store.remove_shard(&alive.id(), 1, later).unwrap());
    drop(store);
    let again = Rebuilt { records_older: 3, records_damaged: 1, shards_known: 2, shards_gone: 1, ..Rebuilt::default() };
    assert_eq!(rebuild(&configs[0]).await.unwrap(), again);
    assert_eq!(catalog.shard_totals(&o1).await.unwrap().shards, 2);
    catalog.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_that_are_stripped_or_altered_are_not_filed_and_are_made_good() {
    let dir = tempfile::tempdir().unwrap();
    let url = CatalogUrl::Sqlite(dir.path().join("catalog.db"));
    let configs = ["o1", "o2"].map(|name| config(name, dir.path(), &url));
    let samples = [1, 2].map(|seed| Sample::new(seed, 40_000));
    let whole = samples.each_ref().map(|sample| sample.record(&sample.lease(1), &configs[0].name));
    let changed = [None, Some(vec![7; 100].into())].into_iter().zip(&whole);
    let [first, second] = [&configs[0], &configs[1]].map(|config| open(&config.data_dir));
    for (sealed, record) in changed {
        first.put_record(&Record { sealed, ..record.clone() }, 1).unwrap();
    }
    for record in &whole {
        second.put_record(record, 1).unwrap();
    }
    drop((first, second));
    let done = rebuild(&configs[0]).await.unwrap();
    assert_eq!(done, Rebuilt { records_damaged: 2, ..Rebuilt::default() });
    let done = rebuild(&configs[1]).await.unwrap();
    assert_eq!(done, Rebuilt { records_filed: 2, ..Rebuilt::default() });

    // What the catalog has comes to all disks by its feed.
    let catalog = url.open(100).await.unwrap();
    let first = open(&configs[0].data_dir);
    for sample in &samples {
        let held = catalog.record(&sample.sealed.locator).await.unwrap().unwrap();
        first.put_record(&held, 1).unwrap();
        let copy = first.record(&sample.sealed.locator).unwrap().unwrap();
        assert_eq!(
            (held.sealed, copy.sealed),
            (Some(sample.sealed.sealed.clone()), Some(sample.sealed.sealed.clone()))
        );
    }
    catalog.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_who_files_first_in_a_catalog_made_anew_gives_way_to_what_lies_on_a_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (owned, strange) = (Sample::new(1, 40_000), Sample::new(2, 40_000));
    let locator = owned.sealed.locator;
    for (catalog, lies_on_a_disk) in [("live.db", false), ("copied.db", true)] {
        let url = CatalogUrl::Sqlite(dir.path().join(catalog));
        let configs = ["o1", "o2"].map(|name| config(name, &dir.path().join(format!("of-{catalog}")), &url));
        let squat = strange.record(&Lease { locator, ..strange.lease(7) }, &configs[0].name);
        let store = open(&configs[1].data_dir);
        store.put_record(&owned.record(&owned.lease(1), &configs[0].name), 1).unwrap();
        // Renewed, or moved, after the stranger came.
        store.put_record(&owned.record(&owned.lease(2), &configs[0].name), u64::MAX).unwrap();
        drop(store);
        if lies_on_a_disk {
            // The first origin ran before the disk of the second was read, and took a copy.
            open(&configs[0].data_dir).put_record(&squat, 2).unwrap();
            let filed = Rebuilt { records_filed: 1, ..Rebuilt::default() };
            assert_eq!(rebuild(&configs[0]).await.unwrap(), filed);
        } else {
            let catalog = url.open(100).await.unwrap();
            catalog.put_record(&squat).await.unwrap();
            catalog.close().await;
        }
        let filed = Rebuilt { records_filed: 1, ..Rebuilt::default() };
        assert_eq!(rebuild(&configs[1]).await.unwrap(), filed);
        let other = Rebuilt { records_other: u64::from(lies_on_a_disk), ..Rebuilt::default() };
        assert_eq!(rebuild(&configs[0]).await.unwrap(), other);
        let catalog = url.open(100).await.unwrap();
        let held = catalog.record(&locator).await.unwrap().unwrap();
        assert_eq!((held.lease.owner, held.sealed), (owned.owner.id(), Some(owned.sealed.sealed.clone())));
        catalog.close().await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_on_a_bad_sector_is_left_out_and_the_others_are_filed() {
    let dir = tempfile::tempdir().unwrap();
    let config = config("o1", dir.path(), &CatalogUrl::Sqlite(dir.path().join("catalog.db")));
    let samples = [1, 2].map(|seed| Sample::new(seed, 40_000));
    let store = open(&config.data_dir);
    for sample in &samples {
        store.put_record(&sample.record(&sample.lease(1), &config.name), 1).unwrap();
    }
    drop(store);
    let name = samples[0].sealed.locator.to_string();
    let copy = config.data_dir.join("records").join(&name[..2]).join(&name);
    std::fs::remove_file(&copy).unwrap();
    // Nothing is mapped at address 0, so a read there fails as one of a bad sector does, with EIO.
    std::os::unix::fs::symlink("/proc/self/mem", &copy).unwrap();
    let done = Rebuilt { records_filed: 1, records_damaged: 1, ..Rebuilt::default() };
    assert_eq!(rebuild(&config).await.unwrap(), done);
}
