//! What an operator does not serve.

use std::{fs, path::PathBuf};

use edge::{StartError, config::DenylistConfig};
use format::{Kind, Lease, Locator, PolicyName};
use testing::{noise_of, until};

use crate::site::{Site, Stored};

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
    let bad = site.store("bad.bin", "video/mp4", noise_of(1, 600_000)).await;
    let good = site.store("good.txt", "text/plain", b"good".to_vec()).await;
    let folder = site.store_directory(&[("bad.bin", &bad, Kind::File), ("good.txt", &good, Kind::File)]).await;
    let status = async |stored, path| site.get(stored, path, &[]).await.status();
    assert_eq!((status(&bad, "/").await, status(&folder, "/bad.bin").await), (200, 200));

    fs::write(&mine, format!("{}\n", edge::denylist_rule(&bad.sealed.locator))).unwrap();
    until("the list is taken up", async || status(&bad, "/").await == 451).await;
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
    until("it is seen", async || site.counter("evernear_edge_denylist_faults_total").await == 1).await;
    assert_eq!(status(&bad, "/").await, 451);
    fs::write(&mine, format!("/evernear/{}/*\n", folder.sealed.locator)).unwrap();
    until("the list is taken up", async || status(&bad, "/").await == 200).await;
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

/// A tree of three directories, with a file at its end: `/a/b/c.txt`.
struct Tree {
    site: Site,
    root: Stored,
    between: [Stored; 2],
    file: Stored,
}

impl Tree {
    async fn new() -> Self {
        let site = Site::start().await;
        let file = site.store("c.txt", "text/plain", b"deep".to_vec()).await;
        let b = site.store_directory(&[("c.txt", &file, Kind::File), ("index.html", &file, Kind::File)]).await;
        let a = site.store_directory(&[("b", &b, Kind::Directory), ("c.txt", &file, Kind::File)]).await;
        let root = site.store_directory(&[("a", &a, Kind::Directory), ("c.txt", &file, Kind::File)]).await;
        Self { site, root, between: [a, b], file }
    }

    /// What each path is answered with by an edge: the four that lead through the second directory, then what is
    /// reached without.
    async fn statuses(&self, edge: &Site) -> Vec<u16> {
        let paths = ["/a/b/c.txt", "/a/b/", "/a/b", "/a/b/none", "/a/c.txt", "/a/", "/c.txt"];
        let mut statuses = Vec::new();
        for path in paths {
            statuses.push(edge.get(&self.root, path, &[]).await.status());
        }
        statuses
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_reached_through_a_denied_directory_is_not_served() {
    let tree = Tree::new().await;
    assert_eq!(tree.statuses(&tree.site).await, [200, 200, 308, 404, 200, 200, 200]);
    let folder = tempfile::tempdir().unwrap();
    let denying = async |locator: Locator| {
        let list = folder.path().join(locator.to_string());
        fs::write(&list, edge::denylist_rule(&locator)).unwrap();
        tree.site.beside(|config| config.denylist = Some(DenylistConfig { files: vec![list], status: 451 })).await
    };
    let edge = denying(tree.between[1].sealed.locator).await;
    assert_eq!(tree.statuses(&edge).await, [451, 451, 451, 451, 200, 200, 200]);
    let head = edge.get(&tree.root, "/a/b/c.txt", &["-I"]).await;
    assert_eq!((head.status(), head.field("cache-control")), (451, Some("public, max-age=60")));
    assert_eq!(edge.get(&tree.file, "/", &[]).await.status(), 200, "by a name of its own it is another matter");
    edge.stop().await;

    let edge = denying(tree.between[0].sealed.locator).await;
    assert_eq!(tree.statuses(&edge).await, [451, 451, 451, 451, 451, 451, 200]);
    edge.stop().await;
    tree.site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_reached_through_a_directory_that_its_owner_took_back_is_gone() {
    for take_back in [|lease: &mut Lease| lease.retention.expires = 1, |lease: &mut Lease| lease.erased = true] {
        let tree = Tree::new().await;
        assert_eq!(tree.statuses(&tree.site).await, [200, 200, 308, 404, 200, 200, 200]);
        let mut lease = tree.site.lease(&tree.between[1].sealed, &PolicyName::default(), 2, false);
        take_back(&mut lease);
        tree.site.put_lease(&lease).await;
        let gone = async || tree.statuses(&tree.site).await == [410, 410, 410, 410, 200, 200, 200];
        until("the directory is gone", gone).await;
        tree.site.stop().await;
    }
}
