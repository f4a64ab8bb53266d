//! Folders, nodes and a zone are lost, and come back for the price of reading what is left once.

/// Takes 60 s: four losses, each of which is noticed only after 8 s of silence, and a debug build rebuilds 30 MB.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_comes_back_and_is_read_once() {
    cluster::losses(&cluster::LossOptions { objects: 16, bytes: 1 << 20, seed: 5 }).await.unwrap();
}
