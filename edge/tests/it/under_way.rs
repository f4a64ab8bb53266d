//! Answers that are being made, or sent, when their object is erased, denied or purged, its policy changes, or its name
//! moves.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use client::Transport;
use edge::config::DenylistConfig;
use format::{Kind, PolicyName, Purge, Purged, StableName, wire::ChangeKind};
use testing::{Call, noise_of, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{
    guest::{MEMORY, component, serve_wat},
    http2::kept_by_nobody,
    policy::{TTL, publish_component},
    site::{Curl, DEADLINE, Site, Stored, secret},
};

/// More than the system takes of an answer that nobody reads.
const FILM_BYTES: usize = 12 << 20;

fn host(stored: &Stored) -> String {
    format!("{}.evernear.example", stored.label)
}

/// An answer that has begun, and of which no more is taken yet.
pub(crate) struct Begun {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Begun {
    /// Asks for all of an object, and takes the first bytes of its content.
    pub(crate) async fn of(site: &Site, stored: &Stored) -> Self {
        let mut it = Self { stream: TcpStream::connect(site.edge.http).await.unwrap(), read: Vec::new() };
        let ask = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", host(stored));
        it.stream.write_all(ask.as_bytes()).await.unwrap();
        while it.content().is_none_or(<[u8]>::is_empty) {
            assert!(timeout(DEADLINE, it.stream.read_buf(&mut it.read)).await.unwrap().unwrap() > 0);
        }
        it
    }

    fn content(&self) -> Option<&[u8]> {
        let end = self.read.windows(4).position(|window| window == b"\r\n\r\n")?;
        Some(&self.read[end + 4..])
    }

    /// Takes the rest, and returns the content as far as it came.
    pub(crate) async fn rest(mut self) -> Vec<u8> {
        // An end and a reset are both honest.
        let _ = timeout(DEADLINE, self.stream.read_to_end(&mut self.read)).await.unwrap();
        self.content().unwrap().to_vec()
    }
}

async fn film(site: &Site) -> Stored {
    site.store("film.mp4", "video/mp4", noise_of(1, FILM_BYTES)).await
}

/// Starts an edge with an empty denylist, which it looks at each second.
async fn with_list(folder: &tempfile::TempDir) -> (PathBuf, Site) {
    let list = folder.path().join("mine.deny");
    fs::write(&list, "").unwrap();
    let denylist = Some(DenylistConfig { files: vec![list.clone()], status: 451 });
    (list, Site::with(|config| (config.denylist, config.reread_seconds) = (denylist, 1), vec![]).await)
}

async fn erase(site: &Site, stored: &Stored) {
    site.put_lease(&site.lease(&stored.sealed, &PolicyName::default(), 2, true)).await;
}

async fn purge(site: &Site, stored: &Stored, hard: bool) {
    let issued = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let what = Purged::Objects([stored.sealed.locator].into());
    let purge = Purge { owner: site.owner.id(), issued, hard, what };
    site.origins.purge(&site.nodes[0].name, purge.sign(&site.owner).into()).await.unwrap();
    until("the purge", async || site.counter("evernear_edge_purges_total").await == 1).await;
}

/// Waits until whoever asks now is told so.
async fn until_status(site: &Site, stored: &Stored, status: u16) {
    until(&format!("status {status}"), async || site.get(stored, "/", &["-I"]).await.status() == status).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_cut_when_its_object_is_erased() {
    let site = Site::start().await;
    let film = film(&site).await;
    let begun = Begun::of(&site, &film).await;
    erase(&site, &film).await;
    until_status(&site, &film, 410).await;
    let came = begun.rest().await;
    assert!(came.len() < FILM_BYTES && film.bytes.starts_with(&came), "{} bytes", came.len());
    assert_eq!(site.counter("evernear_edge_http_cut_total").await, 1);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_cut_when_its_object_or_a_directory_on_its_way_is_denied() {
    let folder = tempfile::tempdir().unwrap();
    let (list, site) = with_list(&folder).await;
    let film = film(&site).await;
    let inside = site.store_directory(&[("index.html", &film, Kind::File)]).await;
    for (asked, denied) in [(&inside, &inside), (&film, &film)] {
        let begun = Begun::of(&site, asked).await;
        fs::write(&list, format!("{}\n", edge::denylist_rule(&denied.sealed.locator))).unwrap();
        until_status(&site, asked, 451).await;
        let came = begun.rest().await;
        assert!(came.len() < FILM_BYTES && film.bytes.starts_with(&came), "{} bytes", came.len());
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_goes_on_when_its_object_is_purged_or_the_feed_alone_says_that_it_ended() {
    let site = Site::start().await;
    let film = film(&site).await;
    let (purged, told) = (Begun::of(&site, &film).await, Begun::of(&site, &film).await);
    purge(&site, &film, false).await;
    assert!(purged.rest().await == film.bytes);
    site.weather.make_up(vec![ChangeKind::Erased { locator: film.sealed.locator }]);
    site.store("a.txt", "text/plain", b"news".to_vec()).await;
    until("what was made up is told", async || site.weather.has_told()).await;
    assert!(told.rest().await == film.bytes, "nodes say that it lives");
    site.stop().await;
}

/// More than an edge asks for ahead of what the system takes of an answer that nobody reads.
const LONG_FILM_BYTES: usize = 24 << 20;

async fn long_film(site: &Site, policy: &PolicyName) -> Stored {
    site.store_as("film.bin", "application/octet-stream", noise_of(1, LONG_FILM_BYTES), Kind::File, policy).await
}

/// Begins to send a film, of whose end nothing was asked for yet when the system takes no more of it.
async fn begun_of_long(site: &Site, film: &Stored) -> Begun {
    let begun = Begun::of(site, film).await;
    let mut fills = 0;
    until("the system takes no more", async || {
        let before = std::mem::replace(&mut fills, site.counter("evernear_edge_fills_total").await);
        sleep(Duration::from_millis(200)).await;
        before == fills
    })
    .await;
    begun
}

/// Returns where the edge has the last bytes of an object from.
async fn source_of_last(site: &Site, stored: &Stored) -> String {
    let last = site.get(stored, "/", &["-r", "-1000"]).await;
    assert!(stored.bytes.ends_with(last.body()) && last.status() == 206, "{}", last.head);
    last.field("cache-status").unwrap().to_owned()
}

/// Takes over 10 s where the machine is slow, because of the size of the object.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_answer_read_before_a_hard_purge_lies_nowhere_and_what_it_reads_after_is_kept_again() {
    let folder = tempfile::tempdir().unwrap();
    let disk = edge::config::DiskConfig { path: folder.path().join("cache"), bytes_max: 256 << 20 };
    let site = Site::with(|config| config.cache.disk = Some(disk), vec![]).await;
    let film = long_film(&site, &PolicyName::default()).await;
    // What is asked for again is written to the disk.
    for _ in 0..2 {
        assert_eq!(site.get(&film, "/", &["-r", "0-9"]).await.status(), 206);
    }
    let begun = begun_of_long(&site, &film).await;
    purge(&site, &film, true).await;
    assert!(begun.rest().await == film.bytes);
    assert_eq!(source_of_last(&site, &film).await, "\"edge-bru\"; hit");
    until("the disk is swept", async || site.counter("evernear_edge_disk_sweeps_total").await == 1).await;
    let first = site.get(&film, "/", &["-r", "0-9"]).await;
    assert_eq!(first.field("cache-status"), Some("\"edge-bru\"; fwd=uri-miss; stored"));
    site.stop().await;
}

/// Takes over 10 s where the machine is slow, because of the size of the object.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_answer_reads_after_a_hard_purge_lies_nowhere_where_its_policy_lets_nothing_lie_since() {
    let site = Site::start().await;
    let name: PolicyName = "turns".parse().unwrap();
    publish_component(&site, TTL, &name, 1, "ttl = 60").await;
    let film = long_film(&site, &name).await;
    let caching = async || site.get(&film, "/", &["-I"]).await.field("cache-control").map(str::to_owned);
    let before = caching().await;
    let begun = begun_of_long(&site, &film).await;
    publish_component(&site, &kept_by_nobody(), &name, 2, "").await;
    until("the new version", async || caching().await != before).await;
    purge(&site, &film, true).await;
    assert!(begun.rest().await == film.bytes);
    assert_eq!(source_of_last(&site, &film).await, "\"edge-bru\"; fwd=uri-miss");
    site.stop().await;
}

/// Has an object asked for whose blocks take seconds to come, has something done meanwhile, and returns the answer.
async fn meanwhile(site: &Site, host: &str, done: impl AsyncFnOnce()) -> Curl {
    site.weather.late_with(Call::ReadShard, Duration::from_secs(4));
    let before = site.weather.reads();
    let (answer, ()) = tokio::join!(site.curl(host, "/", &[]), async {
        until("it is being read", async || site.weather.reads() > before).await;
        done().await;
    });
    answer
}

async fn clip(site: &Site, seed: u64, policy: &PolicyName) -> Stored {
    site.store_as("clip.mp4", "video/mp4", noise_of(seed, 600_000), Kind::File, policy).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_erased_while_its_answer_was_made_is_not_served() {
    let site = Site::start().await;
    let stored = clip(&site, 1, &PolicyName::default()).await;
    let answer = meanwhile(&site, &host(&stored), async || {
        erase(&site, &stored).await;
        until_status(&site, &stored, 410).await;
    })
    .await;
    assert_eq!(answer.status(), 410);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_denied_while_its_answer_was_made_is_not_served() {
    let folder = tempfile::tempdir().unwrap();
    let (list, site) = with_list(&folder).await;
    let stored = clip(&site, 1, &PolicyName::default()).await;
    let answer = meanwhile(&site, &host(&stored), async || {
        fs::write(&list, format!("{}\n", edge::denylist_rule(&stored.sealed.locator))).unwrap();
        until_status(&site, &stored, 451).await;
    })
    .await;
    assert_eq!(answer.status(), 451);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_of_a_policy_decides_about_an_answer_that_is_being_made() {
    let site = Site::start().await;
    let name: PolicyName = "turns".parse().unwrap();
    publish_component(&site, TTL, &name, 1, "ttl = 60").await;
    let stored = clip(&site, 1, &name).await;
    until_status(&site, &stored, 200).await;
    let refuses = component(&serve_wat(MEMORY, "i32.const 0 i32.const 1 i32.store8"));
    let answer = meanwhile(&site, &host(&stored), async || {
        publish_component(&site, &refuses, &name, 2, "").await;
        until_status(&site, &stored, 403).await;
    })
    .await;
    assert_eq!(answer.status(), 403);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_moves_while_an_answer_is_made_shows_what_it_stands_for_now() {
    let site = Site::start().await;
    let name = StableName::derive(&secret(), "site").unwrap();
    let host = format!("{}.evernear.example", name.label());
    let fresh = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 1000;
    let first = clip(&site, 1, &PolicyName::default()).await;
    let second = site.store("page.txt", "text/plain", b"second".to_vec()).await;
    site.point(&name, &first, fresh, 1).await;
    assert_eq!(site.curl(&host, "/", &["-I"]).await.field("content-length"), Some("600000"));
    let answer = meanwhile(&site, &host, async || {
        site.point(&name, &second, fresh, 2).await;
        until("the name moves", async || site.curl(&host, "/", &[]).await.body() == b"second").await;
    })
    .await;
    assert_eq!(answer.body(), b"second");
    site.stop().await;
}
