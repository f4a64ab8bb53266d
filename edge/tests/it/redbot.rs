//! redbot (<https://redbot.org>), which reads answers by the RFCs: fields, validators, ranges, caching.

use std::{fs, path::Path, process::Stdio};

use format::Kind;
use serde_json::Value;
use tokio::{process::Command, time::timeout};

use crate::site::{DEADLINE, Site, Stored};

/// Has redbot, which is Python, ask the edge's own DNS door for names.
const RESOLVER: &str = r#"import os, dns.resolver
resolver = dns.resolver.Resolver(configure=False)
resolver.nameservers, resolver.port = ["127.0.0.1"], int(os.environ["EDGE_DNS"])
dns.resolver.default_resolver = resolver
"#;

/// What it doubts without a fault of ours, and why.
const NO_FAULTS: [(&str, &str); 2] = [
    // It lets shared caches keep answers also to viewers who say who they are: an answer hangs on no such word.
    ("STORE_PUBLIC_UNNECESSARY", ""),
    // Its package that looks into contents (sniffpy 1.0.0) knows no MP4: it takes one for "undefined/undefined".
    ("CONTENT_TYPE_MISMATCH", ".mp4"),
];

/// Returns what redbot thinks is wrong, or doubtful.
async fn doubts(site: &Site, stored: &Stored, path: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("sitecustomize.py"), RESOLVER).unwrap();
    let url = format!("http://{}.evernear.example:{}{path}", stored.label, site.edge.http.port());
    let mut redbot = Command::new("redbot");
    redbot.args(["-o", "har", &url]).env("PYTHONPATH", folder.path());
    let output = redbot.env("EDGE_DNS", site.edge.dns.unwrap().port().to_string()).stdin(Stdio::null()).output();
    let output = timeout(DEADLINE, output).await.unwrap().expect("redbot is installed: `./x setup --test`");
    let said = String::from_utf8_lossy(&output.stdout);
    let har: Value = serde_json::from_str(&said)
        .unwrap_or_else(|error| panic!("{error}: {said}{}", String::from_utf8_lossy(&output.stderr)));
    let mut notes = Vec::new();
    let mut is_read = false;
    for entry in har["log"]["entries"].as_array().unwrap() {
        is_read |= entry["response"]["status"].as_u64() == Some(200);
        collect(&entry["_red_messages"], &mut notes);
    }
    notes.retain(|note| !NO_FAULTS.iter().any(|(id, end)| note.contains(&format!(" {id}: ")) && path.ends_with(end)));
    assert!(is_read, "{path} was read: {said}");
    notes
}

fn collect(notes: &Value, doubts: &mut Vec<String>) {
    for note in notes.as_array().into_iter().flatten() {
        let (level, id) = (note["level"].as_str().unwrap(), note["note_id"].as_str().unwrap());
        if ["BAD", "WARN"].contains(&level) {
            doubts.push(format!("{level} {id}: {}", note["summary"].as_str().unwrap()));
        }
        collect(&note["subnotes"], doubts);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redbot_finds_no_fault_with_a_picture_a_page_a_folder_and_a_film() {
    let site = Site::start().await;
    let sample = |name| fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../cluster/samples").join(name)).unwrap();
    let picture = site.store("cat.jpg", "image/jpeg", sample("cat.jpg")).await;
    let page = "<!doctype html><title>a</title><p>hello".repeat(100);
    let page = site.store("a.html", "text/html; charset=utf-8", page.into_bytes()).await;
    let film = site.store("film.mp4", "video/mp4", sample("clip.mp4")).await;
    let entries = [("cat.jpg", &picture, Kind::File), ("film.mp4", &film, Kind::File)];
    let folder = site.store_directory(&entries).await;
    let mut all = Vec::new();
    // The second time answers are ready.
    for _ in 0..2 {
        for (stored, path) in
            [(&picture, "/cat.jpg"), (&page, "/"), (&film, "/film.mp4"), (&folder, "/"), (&folder, "/film.mp4")]
        {
            all.extend(doubts(&site, stored, path).await.into_iter().map(|doubt| format!("{path} {doubt}")));
        }
    }
    assert!(all.is_empty(), "{all:#?}");
    site.stop().await;
}
