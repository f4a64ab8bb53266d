//! An edge in its own process with a cache tier on a disk: it crashes, the disk fills up, and the bytes on the disk
//! reveal nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use cluster::{
    curl,
    processes::{ProcessOptions, Processes, StoredFile},
};
use testing::{mount::Mount, noise_of};

use crate::{
    load::{start, until},
    secrecy::Windows,
};

/// The only edge, behind all origins.
const EDGE: usize = 6;
const MIB: usize = 1 << 20;

struct Scene {
    processes: Processes,
    files: Vec<(StoredFile, Vec<u8>)>,
}

impl Scene {
    /// Stores files, and gives the edge a disk.
    async fn new(disk: &Path, files: Vec<Vec<u8>>) -> Self {
        let mut processes = start(ProcessOptions::default()).await;
        processes.kill_node(EDGE).unwrap();
        let tier = format!("[cache.disk]\npath = \"{}\"\nbytes_max = {}\n[cache]\n", disk.display(), 128 * MIB);
        processes.change_config(EDGE, "[cache]\n", &tier).unwrap();
        processes.start_node(EDGE).unwrap();
        let put = |(number, bytes): (usize, Vec<u8>)| {
            let file = processes.path(&format!("{number}.bin"));
            fs::write(&file, &bytes).unwrap();
            (processes.put(&file).unwrap(), bytes)
        };
        let files = files.into_iter().enumerate().map(put).collect();
        Self { processes, files }
    }

    /// Reads a whole file, which must be exact, and returns the edge's cache status.
    async fn read(&self, number: usize) -> String {
        let (stored, bytes) = &self.files[number];
        let body = PathBuf::from(self.processes.path("body"));
        let answer = curl(self.processes.address(EDGE), &stored.url, &body, &[]).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.header);
        assert!(fs::read(body).unwrap() == *bytes, "file {number} is exact");
        let field = answer.header.lines().find_map(|line| line.strip_prefix("cache-status: ")).unwrap();
        field.split_once("; ").unwrap().1.trim().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_edge_is_warm_again_and_its_disk_holds_no_plaintext() {
    let text: String = (0..40_000).map(|line| format!("line {line} of a text that compresses well\n")).collect();
    let files = vec![noise_of(0, 5_000_000), text.into_bytes(), noise_of(1, 70_000)];
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    let mut scene = Scene::new(&disk, files).await;
    let numbers = 0..scene.files.len();
    for number in numbers.clone() {
        assert!(scene.read(number).await.starts_with("fwd="));
        assert_eq!(scene.read(number).await, "hit");
    }
    // No signal tells when the last entry is on the disk, so the test waits until the disk usage grows no further.
    let all: usize = scene.files.iter().map(|(_, bytes)| bytes.len()).sum();
    let (mut last, mut same) = (0, 0);
    until("all is written", async || {
        let now = used(&disk);
        same = if std::mem::replace(&mut last, now) == now { same + 1 } else { 0 };
        now > all as u64 / 2 && same >= 20
    })
    .await;
    scene.processes.kill_node(EDGE).unwrap();

    let windows: Vec<Windows<'_>> = scene.files.iter().map(|(_, bytes)| Windows::of(bytes)).collect();
    let mut searched = 0;
    for entry in
        walkdir::WalkDir::new(&disk).into_iter().map(Result::unwrap).filter(|entry| entry.file_type().is_file())
    {
        let bytes = fs::read(entry.path()).unwrap();
        searched += bytes.iter().filter(|byte| **byte != 0).count();
        assert!(!windows.iter().any(|windows| windows.found_in(&bytes)), "{} holds plaintext", entry.path().display());
    }
    assert!(searched > 5_000_000, "only {searched} bytes were searched");
    drop(windows);

    scene.processes.start_node(EDGE).unwrap();
    for number in numbers {
        assert_eq!(scene.read(number).await, "hit; detail=disk", "{number}");
        assert_eq!(scene.read(number).await, "hit");
    }
}

mod needs_root {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs root"]
    async fn a_full_disk_costs_hits_and_no_read() {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk");
        // The file system has a quarter of the bytes that the edge is configured to use.
        let _mount = Mount::small(&disk, 32);
        let scene = Scene::new(&disk, (0..16).map(|seed| noise_of(seed, 5_000_000)).collect()).await;
        for _ in 0..3 {
            for number in 0..scene.files.len() {
                scene.read(number).await;
            }
        }
        assert!(used(&disk) <= 32 * MIB as u64);
    }
}

/// Returns the bytes used on the disk.
fn used(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = walkdir::WalkDir::new(folder).into_iter().filter_map(Result::ok);
    entries
        .filter_map(|entry| entry.metadata().ok())
        .filter(|meta| meta.is_file())
        .map(|meta| meta.blocks() * 512)
        .sum()
}
