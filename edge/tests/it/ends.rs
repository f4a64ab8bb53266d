//! What has an end is kept by no cache past it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use format::{Kind, PolicyName, StableName};
use testing::until;

use crate::site::{Site, Stored, secret};

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Gives a stored object's lease an end; zero takes it away.
async fn end(site: &Site, stored: &Stored, version: u64, expires: u64) {
    let mut lease = site.lease(&stored.sealed, &PolicyName::default(), version, false);
    lease.retention.expires = expires;
    site.put_lease(&lease).await;
}

/// Asks, and returns the second until which caches may keep the answer at the most, fresh or stale, and whether they
/// need not ask again meanwhile. The second is one too early by what the answer took, and never too late.
async fn kept(site: &Site, host: &str, path: &str, arguments: &[&str]) -> (u64, bool) {
    let before = now();
    let answer = site.curl(host, path, arguments).await;
    let control = answer.field("cache-control").unwrap();
    let seconds = |name: &str| {
        let field = control.split(", ").find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        field.map_or(0, |seconds| seconds.parse::<u64>().unwrap())
    };
    let stale = seconds("stale-while-revalidate").max(seconds("stale-if-error"));
    (before + seconds("max-age") + stale, control.contains("immutable"))
}

/// The same for resolvers.
async fn resolved(site: &Site, host: &str) -> u64 {
    let before = now();
    let dig = site.dig(&[host, "A", "+noall", "+answer"]).await;
    before + dig.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
}

fn host(label: &impl std::fmt::Display) -> String {
    format!("{label}.evernear.example")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_while_its_answer_was_made_is_not_served() {
    let site = Site::start().await;
    let file = site.store("a.txt", "text/plain", b"hello".to_vec()).await;
    end(&site, &file, 2, now() + 3).await;
    site.weather.late(Duration::from_secs(4));
    assert_eq!(site.get(&file, "/", &[]).await.status(), 410);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_is_kept_past_the_end_of_a_lease() {
    let site = Site::start().await;
    let file = site.store("a.txt", "text/plain", b"hello".to_vec()).await;
    let folder = site.store_directory(&[("a.txt", &file, Kind::File)]).await;
    let ends = now() + 40;
    let is_bounded = async |host: &str, path: &str, arguments: &[&str]| {
        let (until, is_immutable) = kept(&site, host, path, arguments).await;
        until <= ends && !is_immutable
    };
    let (of_file, of_folder) = (host(&file.label), host(&folder.label));
    let tag = site.get(&file, "/", &[]).await.field("etag").unwrap().to_owned();
    let unchanged = ["-H", &format!("if-none-match: {tag}")];
    for (host, path) in [(&of_file, "/"), (&of_folder, "/a.txt")] {
        let (until, is_immutable) = kept(&site, host, path, &[]).await;
        assert!(until > ends + 1000 && is_immutable, "{path}");
    }

    // The folder's end is that of what is read through it; the file by itself has none.
    end(&site, &folder, 2, ends).await;
    for path in ["/a.txt", "/"] {
        until("the folder's end", async || is_bounded(&of_folder, path, &[]).await).await;
    }
    assert!(kept(&site, &of_file, "/", &[]).await.1);

    end(&site, &file, 2, ends).await;
    until("the file's end", async || is_bounded(&of_file, "/", &[]).await).await;
    // Also where the answer is ready, or tells only that nothing changed, or is a part.
    for arguments in [&[][..], &[], &["-I"], &unchanged, &["-r", "1-2"], &unchanged] {
        assert!(is_bounded(&of_file, "/", arguments).await, "{arguments:?}");
    }
    assert!(resolved(&site, &of_file).await <= ends);

    // An end that is far away bounds nothing.
    end(&site, &file, 3, now() + 400_000_000).await;
    until("a later end", async || kept(&site, &of_file, "/", &[]).await.1).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_is_kept_past_the_end_of_a_name() {
    let site = Site::start().await;
    let file = site.store("a.txt", "text/plain", b"hello".to_vec()).await;
    let name = StableName::derive(&secret(), "site").unwrap();
    let host = host(&name.label());
    let (soon, later) = (now() + 25, now() + 1000);
    for (version, pointer, object) in [(1, later, 0), (2, soon, 0), (3, later, soon)] {
        site.point(&name, &file, pointer, version).await;
        end(&site, &file, version + 1, object).await;
        let ends = if version == 1 { later } else { soon };
        until("the name's end", async || {
            let (until, is_immutable) = kept(&site, &host, "/", &[]).await;
            until <= ends && !is_immutable
        })
        .await;
        assert!(resolved(&site, &host).await <= ends);
    }
    site.stop().await;
}
