//! The disks of origins reveal nothing: they hold no window of the plaintext and no key.

use std::collections::HashMap;
use testing::noise;

use crate::made::Made;

const WINDOW: usize = 32;
const STEP: usize = 8;
const RUN: usize = WINDOW - STEP;

/// All windows of some bytes, indexed by their first eight bytes, so that one pass searches a disk.
pub(crate) struct Windows<'b> {
    bytes: &'b [u8],
    at: HashMap<[u8; 8], Vec<usize>>,
}

impl<'b> Windows<'b> {
    pub(crate) fn of(bytes: &'b [u8]) -> Self {
        let mut at: HashMap<[u8; 8], Vec<usize>> = HashMap::new();
        for (start, window) in bytes.windows(WINDOW).enumerate() {
            at.entry(*window.first_chunk().unwrap()).or_default().push(start);
        }
        Self { bytes, at }
    }

    /// Returns whether a disk holds a window anywhere. It looks only at every eighth byte of the disk: wherever a
    /// window begins, one of its first eight bytes is at such a position, and a run from there has all but at most
    /// eight of the window's bytes.
    pub(crate) fn found_in(&self, disk: &[u8]) -> bool {
        disk.windows(RUN).step_by(STEP).any(|run| {
            let starts = self.at.get(run.first_chunk().unwrap());
            starts.into_iter().flatten().any(|start| &self.bytes[*start..*start + RUN] == run)
        })
    }
}

/// Returns whether any file of an origin, or of their catalog, holds a window.
fn is_on_disk(made: &Made, windows: &Windows<'_>) -> bool {
    let disks = ["origins", "catalog.sqlite", "catalog.sqlite-wal"].map(|name| made.folder.path().join(name));
    let files = disks.iter().flat_map(walkdir::WalkDir::new).filter_map(Result::ok);
    files.filter(|entry| entry.file_type().is_file()).any(|entry| {
        // A file may be removed during the search.
        std::fs::read(entry.path()).is_ok_and(|disk| windows.found_in(&disk))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_erasure_no_disk_holds_what_opens_the_object() {
    let made = Made::new().await;
    let stored = made.put(&made.file("secret.bin", &noise(700_000))).await;
    let capability = stored.label.capability();
    let found = made.network.twin.network().find(capability, &[]).await.unwrap();
    let sealed = found.record.sealed.clone().unwrap();
    let windows = Windows::of(&sealed);
    assert!(is_on_disk(&made, &windows), "the search finds it while it is there");
    for edge in 0..3 {
        made.until(edge, &stored, 200, &[]).await;
    }
    made.network.twin.remove(&capability.locator()).await.unwrap();
    for edge in 0..3 {
        made.until(edge, &stored, 410, &[]).await;
    }
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while is_on_disk(&made, &windows) {
        assert!(std::time::Instant::now() < deadline, "the sealed manifest is still on a disk");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    made.network.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn origins_hold_no_plaintext_and_no_key() {
    let made = Made::new().await;
    let text: String = (0..40_000).map(|line| format!("line {line} of a text that compresses well\n")).collect();
    let files = [
        ("noise.bin", noise(1_300_000)),
        ("text.txt", text.into_bytes()),
        ("small.txt", b"a small text that lies inline, 40 bytes".to_vec()),
    ];
    let mut keys =
        vec![*made.network.secret.expose(), *made.network.secret.dedup_key(), *made.network.secret.index_key()];
    for (name, bytes) in &files {
        let stored = made.put(&made.file(name, bytes)).await;
        let (answer, body) = made.get(0, &stored, "", &[]).await;
        assert!(answer.status == 200 && body == *bytes, "{name}: {}", answer.header);
        keys.push(*stored.label.capability().expose());
    }
    let windows: Vec<Windows<'_>> = files.iter().map(|(_, bytes)| Windows::of(bytes)).collect();
    let mut searched = 0;
    let root = made.folder.path();
    let disks = ["origins", "catalog.sqlite", "catalog.sqlite-wal"].map(|name| root.join(name));
    for entry in
        disks.iter().flat_map(walkdir::WalkDir::new).filter_map(Result::ok).filter(|entry| entry.file_type().is_file())
    {
        let disk = std::fs::read(entry.path()).unwrap();
        searched += disk.len();
        for (windows, (name, _)) in windows.iter().zip(&files) {
            assert!(!windows.found_in(&disk), "{} holds a window of {name}", entry.path().display());
        }
        for key in &keys {
            assert!(!disk.windows(32).any(|window| window == key), "{} holds a key", entry.path().display());
        }
    }
    assert!(searched > 2_000_000, "only {searched} bytes were searched");
    // The control: the search finds a window that is there.
    assert!(windows[0].found_in(&files[0].1[77..200]));
    made.network.stop().await.unwrap();
}
