//! What comes as streams: one file, or a folder file by file, under a batch that its caller chose.

use std::io::{self, Cursor, Read};

use testing::noise;
use twin::{Batch, Incoming, PutError, PutOptions};

use crate::small_cluster::{SmallCluster, options, quiet, read_all};

fn incoming(bytes: &[u8]) -> Incoming {
    Incoming { length: Some(bytes.len() as u64), stream: Box::new(Cursor::new(bytes.to_vec())) }
}

/// Breaks off after some bytes.
fn broken(bytes: Vec<u8>) -> Incoming {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
    Incoming { length: None, stream: Box::new(Cursor::new(bytes).chain(Broken)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_streams_has_every_file_under_its_path_and_empty_folders_too() {
    let cluster = SmallCluster::start();
    let twin = cluster.twin(1);
    let named = PutOptions { name: Some("site".into()), ..options() };
    let mut folder = twin.begin_folder(Batch::draw().unwrap(), named).await.unwrap();
    let files = [("a/b/c.bin", noise(700_000)), ("index.html", b"<p>".to_vec()), ("a/d", Vec::new())];
    folder.take_folder("empty/in/it").unwrap();
    for (path, bytes) in &files {
        folder.take_path(path).unwrap();
        let entry = folder.files().store(path, None, incoming(bytes), &quiet()).await.unwrap();
        folder.insert(path, &entry).unwrap();
    }
    let stored = folder.finish().await.unwrap();
    assert_eq!((stored.entry.path.as_str(), stored.objects, stored.bytes), ("site", 3 + 6, 700_003));
    for (path, bytes) in files {
        let path: Vec<String> = path.split('/').map(str::to_owned).collect();
        let found = cluster.network.find(&stored.entry.capability, &path).await.unwrap();
        assert_eq!(read_all(&cluster.network, &found).await.unwrap(), bytes, "{path:?}");
    }
    let removed = twin.remove_batch(stored.entry.batch).await.unwrap();
    assert_eq!(removed.ended.len(), 9);
    assert!(twin.list().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_taken_or_none_is_refused_before_anything_is_read() {
    let cluster = SmallCluster::start();
    let twin = cluster.twin(1);
    let mut folder = twin.begin_folder(Batch::draw().unwrap(), options()).await.unwrap();
    folder.take_path("a/b").unwrap();
    for twice in ["a/b", "a", "a/b/c"] {
        assert!(matches!(folder.take_path(twice), Err(PutError::Twice { .. })), "{twice}");
    }
    assert!(matches!(folder.take_folder("a/b"), Err(PutError::Twice { .. })));
    for wrong in ["", "/", "a//b", "../x", "a/./b", "a\n", &"x/".repeat(70), &"n".repeat(256)] {
        assert!(folder.take_path(wrong).is_err(), "{wrong:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_off_leaves_nothing_under_its_batch() {
    let cluster = SmallCluster::start();
    let twin = cluster.twin(1);
    for bytes in [10, 3 << 20] {
        let batch = Batch::draw().unwrap();
        let put = twin.put_incoming(batch, broken(noise(bytes)), &options(), &quiet()).await;
        assert!(matches!(put, Err(PutError::Encoding(_))), "{bytes}");
        assert!(twin.remove_batch(batch).await.unwrap().ended.is_empty() && twin.list().await.is_empty());
    }
}
