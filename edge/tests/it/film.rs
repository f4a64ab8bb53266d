//! Films whose index lies behind the pictures, made by ffmpeg and asked for by ffprobe.

use std::path::Path;

use tokio::process::Command;

use testing::until;

use crate::site::{DEADLINE, Site, Stored};

const BLOCK: usize = 256 * 1024;

/// Makes a film of several MiB.
async fn film(folder: &Path, more: &[&str]) -> Vec<u8> {
    let file = folder.join("film.mp4");
    let picture = ["-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30", "-t", "12", "-c:v", "mpeg4", "-q:v", "2"];
    let made = Command::new("ffmpeg").args(["-v", "error", "-y"]).args(picture).args(more).arg(&file).status();
    assert!(tokio::time::timeout(3 * DEADLINE, made).await.unwrap().unwrap().success());
    let bytes = std::fs::read(&file).unwrap();
    assert!(bytes.len() > 8 * BLOCK, "{} bytes", bytes.len());
    bytes
}

/// Reads the beginning, as players do, and returns how many reads of stripes that caused beyond its own.
async fn begun(site: &Site, stored: &Stored) -> u64 {
    let before = site.counter("evernear_edge_prefetches_total").await;
    let beginning = site.get(stored, "/", &["-r", "0-1023"]).await;
    assert_eq!((beginning.status(), beginning.body()), (206, &stored.bytes[..1024]));
    site.counter("evernear_edge_prefetches_total").await - before
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_at_the_end_is_fetched_with_the_beginning_once() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start().await;
    let last = site.store("last.mp4", "video/mp4", film(folder.path(), &[]).await).await;
    let prefetched = begun(&site, &last).await;
    assert!((1..=2).contains(&prefetched), "{prefetched}");
    until("the reads", async || site.counter("evernear_edge_fills_total").await == 1 + prefetched).await;
    let index = last.bytes.windows(4).rposition(|kind| kind == b"moov").unwrap() - 4;
    let seek = site.get(&last, "/", &["-r", &format!("{index}-")]).await;
    assert!(seek.status() == 206 && seek.body() == &last.bytes[index..], "{}", seek.head);
    assert_eq!(seek.field("cache-status"), Some("\"edge-bru\"; hit"));
    assert_eq!(begun(&site, &last).await, 0, "once");

    let first = site.store("first.mp4", "video/mp4", film(folder.path(), &["-movflags", "+faststart"]).await).await;
    assert_eq!(begun(&site, &first).await, 0, "the index lies before the pictures");
    let other = site.store("other.bin", "application/octet-stream", last.bytes.clone()).await;
    assert_eq!(begun(&site, &other).await, 0, "nobody said that it is a film");

    for stored in [&last, &first] {
        let mut probe = Command::new("ffprobe");
        probe
            .args(["-v", "error", "-headers", &format!("Host: {}.localhost\r\n", stored.label)])
            .args(["-read_intervals", "8%+#1", "-show_entries", "stream=width:format=duration:packet=pts_time"])
            .args(["-of", "default=noprint_wrappers=1"])
            .arg(format!("http://{}/film.mp4", site.edge.http));
        let output = tokio::time::timeout(DEADLINE, probe.kill_on_drop(true).output()).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("width=640") && said.contains("duration=12.0"), "{said}");
        assert!(said.contains("pts_time="), "{said}");
    }
    site.stop().await;
}
