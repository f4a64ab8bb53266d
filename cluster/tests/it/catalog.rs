//! The catalog's server dies under load and comes back.

use std::sync::Arc;

use cluster::{curl, keeper::Keeper, processes::ProcessOptions};
use fastrand::Rng;
use format::Profile;
use testing::postgres::Server;

use crate::load::{DEADLINE, Load, QUICK, count, start, store};

const SEED: u64 = 2;

/// Takes over 20 s: a separate database server is created, crashes and recovers, and origins look for it every few
/// seconds.
#[tokio::test(flavor = "multi_thread")]
async fn reads_need_no_catalog_and_its_crash_loses_nothing() {
    println!("seed {SEED}");
    let server = Server::start("crash");
    let catalog = Some(server.url(&server.new_database()));
    let limits = QUICK.to_owned();
    let mut processes = start(ProcessOptions { catalog, limits, ..ProcessOptions::default() }).await;
    let keeper = Arc::new(Keeper::open(&processes, Profile::SmallCluster).await.unwrap());
    let mut rng = Rng::with_seed(SEED);
    store(&keeper, &mut rng, 8).await;
    keeper.until_whole(DEADLINE).await.unwrap();
    let stored = keeper.kept();
    let load = Load::start(&keeper, &mut rng);
    load.more("uploads", |tally| &tally.puts, 5).await;

    server.crash();
    load.more("reads without a catalog", |tally| &tally.reads, 20).await;
    load.more("an upload that says no", |tally| &tally.refused, 1).await;
    // An origin that starts without the catalog serves what is on its disk: with two others gone, no other origin has
    // it.
    processes.kill_node(0).unwrap();
    processes.start_node(0).unwrap();
    for number in [1, 2] {
        processes.kill_node(number).unwrap();
    }
    for kept in &stored {
        assert!(keeper.is_exact(kept).await.unwrap(), "with the origin that started while the catalog was away");
    }
    // An edge that never saw the object does not ask the catalog either.
    let (kept, body) = (&stored[1], std::path::PathBuf::from(processes.path("body")));
    let url = format!("http://{}.localhost:{}/", kept.label, processes.http.port());
    let answer = curl(processes.http, &url, &body, &[]).await.unwrap();
    assert!(answer.status == 200 && blake3::hash(&std::fs::read(&body).unwrap()) == kept.hash, "{}", answer.header);
    for number in [1, 2] {
        processes.start_node(number).unwrap();
    }

    server.resume();
    load.more("uploads after the crash", |tally| &tally.puts, 5).await;
    let tally = load.end().await;
    assert_eq!(count(&tally.failed), 0, "reads go on");
    // Six columns are on six origins: so the one that started without a catalog takes part again by itself.
    keeper.until_whole(DEADLINE).await.unwrap();
    keeper.all_exact().await.unwrap();
    for number in 0..6 {
        processes.pid(number).unwrap();
    }
}
