//! Operations per second of a catalog at many rows. Prints a table; not a criterion bench, because each step leaves
//! rows behind and the point is how the next does beside them.
//!
//! `cargo bench -p origin --bench catalog -- [URL] [ROWS]`: an SQLite file in a temporary folder and 100,000 rows
//! unless said otherwise. The catalog of the URL must be empty.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement prints its result and fails by panicking")]

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use format::{
    Attributes, Compression, EncoderOptions, Lease, NodeName, OwnerKeys, OwnerSecret, Profile, Record, Suite,
};
use futures::{StreamExt, stream};
use origin::catalog::{Catalog, CatalogUrl, RepairAsk, RepairCause, RepairEnd, ShardRow};
use testing::{Encoded, attributes};

/// Callers at once, as an origin under load has.
const CALLERS: usize = 8;
/// An object that has shards, and one that lies in its manifest.
const SHARDED_BYTES: usize = 20_000;
const INLINE_BYTES: usize = 1000;
const HOLD: Duration = Duration::from_secs(3600);

#[tokio::main]
async fn main() {
    // Cargo passes `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let dir = tempfile::tempdir().unwrap();
    let url = arguments.next().unwrap_or_else(|| format!("sqlite://{}/catalog.db", dir.path().display()));
    let rows: usize = arguments.next().map_or(100_000, |rows| rows.parse().unwrap());
    let url: CatalogUrl = url.parse().unwrap();
    let catalog = url.open(10_000).await.unwrap();
    assert_eq!(catalog.newest_change().await.unwrap(), 0, "the catalog is not empty");
    println!("| {CALLERS} callers, {rows} objects | operations | operations/s |\n|---|---|---|");
    measure(&catalog, rows).await;
    catalog.close().await;
}

async fn measure(catalog: &Arc<dyn Catalog>, rows: usize) {
    let owner = OwnerSecret::from_bytes([1; 32]).keys();
    let nodes: Vec<NodeName> = (0..24).map(|number| format!("o{number}").parse().unwrap()).collect();
    let records: Vec<Record> = (0..rows).map(|number| record(&owner, number, SHARDED_BYTES, &nodes[0])).collect();
    let some = &records[..rows / 10];

    each("records filed", &records, |record| async move { catalog.put_record(record).await.map(|_| ()).unwrap() })
        .await;
    each("records brought again", &records, |record| async move {
        catalog.put_record(record).await.map(|_| ()).unwrap();
    })
    .await;
    for (column, node) in nodes.iter().enumerate().take(records[0].public.columns()) {
        let place = |record: &Record| {
            let object = record.public.id();
            async move { catalog.place_shard(&ShardRow { node: node.clone(), object, column, bytes: 1 }).await.unwrap() }
        };
        each("shards placed", &records, place).await;
    }
    each(
        "records read",
        &records,
        |record| async move { catalog.record(&record.locator()).await.map(|_| ()).unwrap() },
    )
    .await;
    let renewals: Vec<_> = some.iter().map(|record| Lease { version: 2, ..record.lease.clone() }).collect();
    let renewals: Vec<_> = renewals.into_iter().map(|lease| (lease.sign(&owner).into(), lease)).collect();
    each("leases renewed", &renewals, |(envelope, lease)| async move {
        catalog.put_lease(lease, envelope).await.unwrap();
    })
    .await;
    let ask = |record: &Record| {
        let repair = RepairAsk {
            object: record.public.id(),
            margin: 1,
            bytes: 1,
            cause: RepairCause::Scan,
            target: None,
            only_lost: vec![],
        };
        async move { catalog.queue_repair(&repair).await.map(|_| ()).unwrap() }
    };
    each("repairs asked for", some, ask).await;
    // They have one public manifest, and so one object id, between them.
    let inline: Vec<Record> = (0..rows / 10).map(|number| record(&owner, number, INLINE_BYTES, &nodes[0])).collect();
    each(
        "inline records filed",
        &inline,
        |record| async move { catalog.put_record(record).await.map(|_| ()).unwrap() },
    )
    .await;
    each("inline objects looked up", &inline, |record| async move {
        catalog.object(&record.public.id()).await.map(|_| ()).unwrap();
    })
    .await;
    let holder = &nodes[0];
    each("repairs taken and ended", some, |_| async move {
        let repair = catalog.take_repair(holder, HOLD).await.unwrap().unwrap();
        catalog.end_repair(&repair.object, holder, &RepairEnd::Done).await.unwrap();
    })
    .await;
    let (begun, mut after, mut scanned) = (Instant::now(), None, 0);
    loop {
        let page = catalog.objects(after.as_ref(), 256).await.unwrap();
        scanned += page.objects.len();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    line("objects scanned, one caller", scanned, begun.elapsed());
}

/// Does something with each, several at once.
async fn each<'a, T, F: Future<Output = ()>>(what: &str, all: &'a [T], act: impl Fn(&'a T) -> F) {
    let begun = Instant::now();
    stream::iter(all).for_each_concurrent(CALLERS, act).await;
    line(what, all.len(), begun.elapsed());
}

fn line(what: &str, count: usize, took: Duration) {
    println!("| {what} | {count} | {:.0} |", f64::from(u32::try_from(count).unwrap()) / took.as_secs_f64());
}

/// An object of so many bytes.
fn record(owner: &OwnerKeys, number: usize, length: usize, node: &NodeName) -> Record {
    let random = *blake3::hash(&number.to_le_bytes()).as_bytes();
    let options = EncoderOptions {
        profile: Profile::SmallCluster,
        suite: Suite::ChaCha20Poly1305,
        compression: Compression::Auto,
        owner: owner.id(),
    };
    let attributes = Attributes { name: "bench".into(), created: 1, ..attributes() };
    let Encoded { sealed, .. } = Encoded::of(&[&vec![7; length]], options, random, attributes, random);
    let lease = Lease::new(&sealed, Profile::SmallCluster);
    let placement = vec![Some(node.clone()); sealed.public.columns()];
    Record::new(sealed.public, Some(sealed.sealed), lease.sign(owner).into(), placement).unwrap()
}
