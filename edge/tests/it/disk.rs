//! The cache tier on a disk: what it keeps, and that it is believed in nothing. What it never sees:
//! cluster/tests/it/tier.rs.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use edge::{StartError, config::DiskConfig};
use format::{Kind, PolicyName};
use tempfile::TempDir;
use testing::{noise_of, until};

use crate::{
    policy::{TTL, publish_component},
    site::{Site, Stored},
};

const BYTES_MAX: u64 = 64 << 20;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Starts an edge with a disk before the origins of `base`.
async fn with_disk(base: &Site, path: &Path) -> Site {
    let disk = DiskConfig { path: path.join("cache"), bytes_max: BYTES_MAX };
    base.beside(|config| {
        config.cache.disk = Some(disk);
        config.cache.block_bytes_max = 16 << 20;
    })
    .await
}

/// Reads an object whole and returns what the edge says of where it came from.
async fn read(site: &Site, stored: &Stored) -> String {
    let answer = site.get(stored, "/", &[]).await;
    assert_eq!(answer.status(), 200, "{}", answer.head);
    assert!(answer.body() == stored.bytes, "exact");
    answer.field("cache-status").unwrap().split_once("; ").unwrap().1.to_owned()
}

async fn writes(site: &Site) -> u64 {
    site.counter("evernear_edge_disk_writes_total").await
}

async fn pulled(site: &Site) -> u64 {
    site.counter("evernear_edge_fill_bytes_total").await
}

fn files(dir: &TempDir) -> Vec<PathBuf> {
    fs::read_dir(dir.path().join("cache/strips")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_again_survives_a_restart() {
    let (base, dir) = (Site::start().await, folder());
    let large = base.store("large.bin", "application/octet-stream", noise_of(1, 5_000_000)).await;
    let small = base.store("small.bin", "application/octet-stream", noise_of(2, 70_000)).await;
    let before = with_disk(&base, dir.path()).await;
    for stored in [&large, &small] {
        assert_eq!(read(&before, stored).await, "fwd=uri-miss; stored");
        assert_eq!(read(&before, stored).await, "hit");
    }
    assert!(writes(&before).await > 20, "each strip was given to the disk");
    before.stop().await;

    let after = with_disk(&base, dir.path()).await;
    for stored in [&large, &small] {
        assert_eq!(read(&after, stored).await, "hit; detail=disk");
        assert_eq!(read(&after, stored).await, "hit");
    }
    assert_eq!(pulled(&after).await, 0, "origins gave nothing");
    after.stop().await;
    base.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_once_or_may_lie_in_memory_alone_is_not_written() {
    let (base, dir) = (Site::start().await, folder());
    let name: PolicyName = "short".parse().unwrap();
    publish_component(&base, TTL, &name, 1, "ttl = 60\nmemory-only = true").await;
    let kept = base.store_as("m.bin", "text/plain", noise_of(3, 600_000), Kind::File, &name).await;
    let edge = with_disk(&base, dir.path()).await;
    for seed in 10..16 {
        let once = base.store("once.bin", "application/octet-stream", noise_of(seed, 600_000)).await;
        read(&edge, &once).await;
        // A player that jumps about asks once as well.
        for range in ["100000-200000", "300000-", "-5"] {
            assert_eq!(edge.get(&once, "/", &["-r", range]).await.status(), 206);
        }
    }
    for _ in 0..3 {
        read(&edge, &kept).await;
    }
    assert_eq!(writes(&edge).await, 0);
    edge.stop().await;
    base.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_rots_costs_fetches_and_no_byte() {
    let (base, dir) = (Site::start().await, folder());
    let stored = base.store("large.bin", "application/octet-stream", noise_of(4, 5_000_000)).await;
    for every in [100_000, 4096, 1] {
        let edge = with_disk(&base, dir.path()).await;
        read(&edge, &stored).await;
        read(&edge, &stored).await;
        edge.stop().await;
        for file in files(&dir) {
            let mut bytes = fs::read(&file).unwrap();
            bytes.iter_mut().step_by(every).for_each(|byte| *byte ^= 1);
            fs::write(&file, bytes).unwrap();
        }
        let edge = with_disk(&base, dir.path()).await;
        read(&edge, &stored).await;
        assert!(pulled(&edge).await > 0, "what rotted came from origins");
        edge.stop().await;
    }
    base.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_holds_and_a_folder_has_one_edge() {
    let (base, dir) = (Site::start().await, folder());
    let edge = with_disk(&base, dir.path()).await;
    let mut all = Vec::new();
    for seed in 0..16 {
        let stored = base.store("large.bin", "application/octet-stream", noise_of(seed, 6_000_000)).await;
        read(&edge, &stored).await;
        read(&edge, &stored).await;
        all.push(stored);
    }
    let last = all.last().unwrap();
    for stored in &all {
        read(&edge, stored).await;
    }
    let bytes: u64 = files(&dir).iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!(bytes <= BYTES_MAX, "{bytes}");
    let disk = DiskConfig { path: dir.path().join("cache"), bytes_max: BYTES_MAX };
    let second =
        Site::over(Arc::clone(&base.origins), base.nodes.clone(), |config| config.cache.disk = Some(disk)).await;
    assert!(matches!(second.err(), Some(StartError::Disk(error)) if error.to_string().contains("another edge")));
    edge.stop().await;

    let edge = with_disk(&base, dir.path()).await;
    until("the newest from the disk", || async { read(&edge, last).await.starts_with("hit") }).await;
    edge.stop().await;
    base.stop().await;
}
