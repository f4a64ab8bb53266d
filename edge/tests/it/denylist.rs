//! What an operator does not serve.

use std::{fs, path::PathBuf};

use edge::{StartError, config::DenylistConfig};
use format::Kind;

use crate::site::{Site, eventually, noise};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_a_list_is_not_served_by_any_path_until_it_is_taken_off() {
    let folder = tempfile::tempdir().unwrap();
    let (mine, others) = (folder.path().join("mine.deny"), folder.path().join("others.deny"));
    fs::write(&mine, "").unwrap();
    fs::write(
        &others,
        "version: 1\nname: of another network\n---\n/ipfs/QmVTF1yEejXd9iMgoRTFDxBv7HAz9kuZcQNBzHrceuK9HR\n",
    )
    .unwrap();
    let files = vec![others, mine.clone()];
    let denylist = Some(DenylistConfig { files, status: 451 });
    let site = Site::with(|config| (config.denylist, config.reread_seconds) = (denylist, 1), vec![]).await;
    let bad = site.store("bad.bin", "video/mp4", noise(600_000, 1)).await;
    let good = site.store("good.txt", "text/plain", b"good".to_vec()).await;
    let folder = site.store_directory(&[("bad.bin", &bad, Kind::File), ("good.txt", &good, Kind::File)]).await;
    let status = async |stored, path| site.get(stored, path, &[]).await.status();
    assert_eq!((status(&bad, "/").await, status(&folder, "/bad.bin").await), (200, 200));

    fs::write(&mine, format!("{}\n", edge::denylist_rule(&bad.sealed.locator))).unwrap();
    eventually("the list is taken up", async || status(&bad, "/").await == 451).await;
    let refused = site.get(&bad, "/", &["-H", "accept: application/json"]).await;
    assert!(
        refused.head.contains("451") && refused.field("cache-control") == Some("public, max-age=60"),
        "{}",
        refused.head
    );
    assert!(String::from_utf8_lossy(refused.body()).contains("operator of this edge"));
    assert_eq!(site.get(&bad, "/", &["-r", "0-99"]).await.status(), 451, "no range of it either");
    assert_eq!((status(&folder, "/bad.bin").await, status(&folder, "/good.txt").await), (451, 200));
    assert_eq!((status(&good, "/").await, status(&folder, "/").await), (200, 200));

    // A slip of the pen takes nothing off the list.
    fs::write(&mine, "https://label.evernear.example/\n").unwrap();
    eventually("it is seen", async || site.counter("evernear_edge_denylist_faults_total").await == 1).await;
    assert_eq!(status(&bad, "/").await, 451);
    fs::write(&mine, format!("/evernear/{}/*\n", folder.sealed.locator)).unwrap();
    eventually("the list is taken up", async || status(&bad, "/").await == 200).await;
    assert_eq!((status(&folder, "/good.txt").await, status(&folder, "/").await), (451, 451));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_does_not_start_without_its_list() {
    let list = |path: PathBuf| DenylistConfig { files: vec![path], status: 410 };
    let folder = tempfile::tempdir().unwrap();
    let (none, wrong) = (folder.path().join("none.deny"), folder.path().join("wrong.deny"));
    fs::write(&wrong, "# one\n/evernear/abc\n").unwrap();
    for (path, says) in [(none, "cannot be read"), (wrong, "line 2 of the denylist")] {
        let started = Site::try_with(|config| config.denylist = Some(list(path)), vec![]).await;
        let Err(StartError::Denylist(error)) = started else { panic!("it started") };
        assert!(error.to_string().contains(says), "{error}");
    }
}
