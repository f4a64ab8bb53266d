//! Signed links from the owner's command line to curl at a real edge.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use cluster::{curl, processes::ProcessOptions};

use crate::load::start;

const EDGE: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_signs_what_an_edge_opens() {
    let mut processes = start(ProcessOptions::default()).await;
    let path = |name: &str| processes.path(name);
    let (secret, policy, key, film) = (path("zone.secret"), path("signed.toml"), path("link.key"), path("film.bin"));
    let body = PathBuf::from(path("body"));
    fs::write(&secret, "5b".repeat(32)).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&policy, "[[link]]\nuse = \"signed\"\n").unwrap();
    fs::write(&film, vec![7; 300_000]).unwrap();
    processes.kill_node(EDGE).unwrap();
    processes.change_config(EDGE, "[cache]\n", &format!("[links]\nsecret = \"{secret}\"\n[cache]\n")).unwrap();
    processes.start_node(EDGE).unwrap();

    let json = |text: String| serde_json::from_str::<serde_json::Value>(&text).unwrap();
    let owner = json(processes.evernear(&["owner", "show", "--json"]).unwrap());
    let owner = owner["owner"].as_str().unwrap();
    processes.evernear(&["edge", "link-key", "--secret", &secret, owner, "-o", &key]).unwrap();
    processes.evernear(&["policy", "publish", "signed", &policy]).unwrap();
    let stored = processes.evernear(&["put", &film, "--policy", "signed", "--json"]).unwrap();
    let url = json(stored)["url"].as_str().unwrap().to_owned();
    let signed = processes.evernear(&["sign", &url, "--key", &key, "--until", "+10m"]).unwrap();
    let answer = curl(processes.address(EDGE), &url, &body, &[]).await.unwrap();
    assert_eq!(answer.status, 403, "{}", answer.header);
    let answer = curl(processes.address(EDGE), signed.trim(), &body, &[]).await.unwrap();
    assert!(answer.status == 200 && fs::read(&body).unwrap() == fs::read(&film).unwrap());
}
