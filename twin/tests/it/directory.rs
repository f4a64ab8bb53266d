//! Folders: stored as they are, walked by path, fetched whole, removed whole.

use format::{Kind, OpenError};
use testing::noise;
use twin::{GetError, Position};

use crate::small_cluster::{SmallCluster, options, quiet, read_all};

fn site(cluster: &SmallCluster) -> std::path::PathBuf {
    for (path, bytes) in [
        ("site/index.html", b"<!doctype html><img src=img/big.bin>".to_vec()),
        ("site/img/big.bin", noise(700_000)),
        ("site/img/a b/\u{fc}.txt", b"umlaut".to_vec()),
        ("site/.well-known/security.txt", b"Contact: mailto:x@example.org".to_vec()),
        ("site/empty.txt", Vec::new()),
    ] {
        cluster.file(path, &bytes);
    }
    std::fs::create_dir(cluster.folder.path().join("site/nothing")).unwrap();
    cluster.folder.path().join("site")
}

fn path(text: &str) -> Vec<String> {
    text.split('/').map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_walked_by_path_and_fetched_whole() {
    let cluster = SmallCluster::start();
    let top = site(&cluster);
    #[cfg(unix)]
    std::os::unix::fs::symlink("index.html", top.join("link")).unwrap();
    let stored = cluster.twin(1).put(&top, &options(), &quiet()).await.unwrap();
    assert_eq!((stored.objects, stored.entry.kind, stored.entry.path.as_str()), (10, Kind::Directory, "site"));
    assert_eq!(stored.bytes, 700_000 + 36 + 6 + 29);
    #[cfg(unix)]
    assert_eq!(stored.skipped, [top.join("link")]);

    let capability = &stored.entry.capability;
    let network = &cluster.network;
    let html = network.find(capability, &path("index.html")).await.unwrap();
    assert_eq!(html.object.manifest().mime, "text/html; charset=utf-8");
    let umlaut = network.find(capability, &path("img/a b/\u{fc}.txt")).await.unwrap();
    assert_eq!(read_all(network, &umlaut).await.unwrap(), b"umlaut");
    let absent = network.find(capability, &path("img/absent")).await.err().unwrap();
    assert!(matches!(absent, GetError::NoEntry { name } if name == "absent"));

    let found = network.find(capability, &[]).await.unwrap();
    let names: Vec<_> = network.directory(&found).await.unwrap().entries().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(names, [".well-known", "empty.txt", "img", "index.html", "nothing"]);
    let to = cluster.folder.path().join("back");
    let delivered = network.fetch_tree(&found, &to).await.unwrap();
    assert_eq!(delivered.bytes, stored.bytes);
    for file in ["index.html", "img/big.bin", "img/a b/\u{fc}.txt", ".well-known/security.txt", "empty.txt"] {
        assert_eq!(std::fs::read(to.join(file)).unwrap(), std::fs::read(top.join(file)).unwrap(), "{file}");
    }
    assert!(to.join("nothing").is_dir());
    assert!(matches!(network.fetch_tree(&found, &to).await, Err(GetError::Exists { .. })));
    assert!(matches!(network.fetch_file(&found, 0..1, &to.join("x")).await, Err(GetError::Directory)));
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_a_folder_ends_everything_that_was_stored_with_it() {
    let cluster = SmallCluster::start();
    let twin = cluster.twin(1);
    let other = twin.put(&cluster.file("other", b"stays"), &options(), &quiet()).await.unwrap();
    let stored = twin.put(&site(&cluster), &options(), &quiet()).await.unwrap();
    let listed = twin.list().await;
    assert_eq!((listed.len(), listed.values().filter(|entry| entry.position == Position::Top).count()), (11, 2));
    let removed = twin.remove(&stored.entry.capability.locator()).await.unwrap();
    assert_eq!((removed.ended.len(), removed.unknown.len()), (10, 0));
    assert!(removed.ended.values().all(|told| told.missed.is_empty()));
    assert_eq!(twin.list().await.into_values().collect::<Vec<_>>(), [other.entry]);
    for entry in listed.values().filter(|entry| entry.batch == stored.entry.batch) {
        let gone = cluster.network.find(&entry.capability, &[]).await.err().unwrap();
        assert!(matches!(gone, GetError::Read(client::ReadError::Open(OpenError::Erased))), "{gone:?}");
    }
}
