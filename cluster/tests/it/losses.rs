//! Folders, nodes and a zone are lost, and come back for the price of reading what is left once.

/// A minute: four losses, each of which is noticed after five seconds without a word, and 30 MB made again by a debug
/// build.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_comes_back_and_is_read_once() {
    cluster::losses(&cluster::LossOptions { objects: 16, bytes: 1 << 20, seed: 5 }).await.unwrap();
}
