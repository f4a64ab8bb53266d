//! Requests that a worker answers by itself: from the bytes it read to what it keeps ready.

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, SystemTime},
};

use client::Transport;
use edge::config::DenylistConfig;
use format::{Kind, PolicyName, Purge, Purged, StableName};
use testing::{noise_of, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    coding::text,
    https,
    policy::{TTL, publish_component},
    site::{Curl, Site, Stored, secret},
};

const DEADLINE: Duration = Duration::from_secs(20);

/// Sends bytes on one connection, says that no more come, and returns all that comes back, each byte as a character.
async fn said(site: &Site, sent: &str) -> String {
    let mut stream = TcpStream::connect(site.edge.http).await.unwrap();
    stream.write_all(sent.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("the edge closes").unwrap();
    answer.into_iter().map(char::from).collect()
}

fn host(stored: &Stored) -> String {
    format!("{}.evernear.example", stored.label)
}

/// Whether the answer was ready: one that was made says how long its parts took.
async fn is_ready(site: &Site, stored: &Stored) -> bool {
    let answer = site.get(stored, "/", &[]).await;
    assert_eq!((answer.status(), answer.body()), (200, &*stored.bytes));
    let control = answer.field("cache-control").unwrap();
    assert!(control.contains("immutable") && answer.field("etag").is_some() && answer.field("date").is_some());
    answer.field("server-timing").is_none()
}

async fn until_ready(site: &Site, stored: &Stored) {
    // Connections go to the workers in turn, and each has its own answers.
    until("two answers that were ready", async || is_ready(site, stored).await && is_ready(site, stored).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_again_is_ready_until_its_owner_takes_it_back() {
    let site = Site::with(|config| config.http.workers = Some(1), vec![]).await;
    let small = site.store("a.txt", "text/plain", b"small".to_vec()).await;
    let block = site.store("b.bin", "application/octet-stream", noise_of(1, 60_000)).await;
    let blocks = site.store("c.bin", "application/octet-stream", noise_of(2, 256 * 1024)).await;
    // A slow viewer would hold more of it than of any other, so it is made each time.
    let large = site.store("d.bin", "application/octet-stream", noise_of(3, 256 * 1024 + 1)).await;
    for _ in 0..3 {
        assert!(!is_ready(&site, &large).await);
    }
    for stored in [&small, &block, &blocks] {
        until_ready(&site, stored).await;
        let head = site.get(stored, "/", &["-I", "-o", "/dev/null"]).await;
        assert_eq!(head.status(), 200);
        assert_eq!(head.field("content-length"), Some(&*stored.bytes.len().to_string()));
        assert!(head.field("server-timing").is_none());
        let tag = head.field("etag").unwrap().to_owned();
        let unchanged = site.get(stored, "/", &["-H", &format!("if-none-match: {tag}")]).await;
        assert_eq!(unchanged.status(), 304);
        let part = site.get(stored, "/", &["-r", "1-3"]).await;
        assert_eq!((part.status(), part.body()), (206, &stored.bytes[1..4]));
    }
    let metrics = site.metrics().await;
    assert!(metrics.contains("http_answers_total{status=\"200\",cache=\"hit\"}"), "{metrics}");
    for stored in [&small, &block, &blocks] {
        site.put_lease(&site.lease(&stored.sealed, &PolicyName::default(), 2, true)).await;
        until("the erasure", async || site.get(stored, "/", &[]).await.status() == 410).await;
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheme_in_a_target_may_be_in_capitals() {
    let site = Site::start().await;
    let stored = site.store("a.txt", "text/plain", b"hello".to_vec()).await;
    let host = host(&stored);
    for scheme in ["http", "HTTP", "Https"] {
        let ask = format!("GET {scheme}://{host}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = said(&site, &ask).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{scheme}: {answer}");
    }
    site.stop().await;
}

/// Of two blocks.
async fn two_blocks(site: &Site) -> Stored {
    site.store("two.bin", "application/octet-stream", noise_of(4, 100 * 1024)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_its_owner_purges_is_ready_no_more_and_read_again() {
    let site = Site::with(|config| config.http.workers = Some(1), vec![]).await;
    let stored = two_blocks(&site).await;
    for hard in [true, false] {
        until_ready(&site, &stored).await;
        let before = site.counter("evernear_edge_purges_total").await;
        let issued = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let what = Purged::Objects([stored.sealed.locator].into());
        let purge = Purge { owner: site.owner.id(), issued, hard, what }.sign(&site.owner);
        site.origins.purge(&site.nodes[0].name, purge.into()).await.unwrap();
        until("the purge", async || site.counter("evernear_edge_purges_total").await > before).await;
        // The order is counted before it is carried out.
        until("an answer that is made", async || !is_ready(&site, &stored).await).await;
        let read = site.get(&stored, "/", &["-I"]).await.field("cache-status").unwrap().to_owned();
        assert!(read.ends_with("; hit"), "{read}");
    }
    // Once by the first viewer, and once after the hard purge.
    assert_eq!(site.counter("evernear_edge_fills_total").await, 2);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_operator_denies_is_ready_no_more_whatever_way_leads_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("mine.deny");
    fs::write(&list, "").unwrap();
    let denylist = Some(DenylistConfig { files: vec![list.clone()], status: 451 });
    let change = |config: &mut edge::Config| {
        (config.denylist, config.reread_seconds) = (denylist, 1);
        config.http.workers = Some(1);
    };
    let site = Site::with(change, vec![]).await;
    let stored = two_blocks(&site).await;
    let parent = site.store_directory(&[("two.bin", &stored, Kind::File)]).await;
    let status = async |stored, path, more: &[&str]| site.get(stored, path, more).await.status();
    for denied in [&stored, &parent] {
        until_ready(&site, &stored).await;
        let ready_below = async || {
            let answer = site.get(&parent, "/two.bin", &[]).await;
            assert!(answer.status() == 200 && answer.body() == stored.bytes);
            answer.field("server-timing").is_none()
        };
        until("a ready answer by the directory", ready_below).await;
        fs::write(&list, edge::denylist_rule(&denied.sealed.locator)).unwrap();
        until("the list is taken up", async || status(&parent, "/two.bin", &[]).await == 451).await;
        let by_itself = if std::ptr::eq(denied, &stored) { [451; 3] } else { [200, 206, 200] };
        for (more, expected) in [&[][..], &["-r", "0-9"], &["-I"]].into_iter().zip(by_itself) {
            assert_eq!(status(&stored, "/", more).await, expected, "{more:?}");
            assert_eq!(status(&parent, "/two.bin", more).await, 451, "{more:?}");
        }
        fs::write(&list, "# nothing\n").unwrap();
        until("the list is taken up", async || status(&parent, "/two.bin", &[]).await == 200).await;
    }
    site.stop().await;
}

/// Not in the way of any answer, and no answer to it is ever ready.
const MADE: &str = "service-worker: none";

/// What conditions and ranges may say of an object with this tag, stored on [`DAY`].
fn requests(tag: &str) -> Vec<Vec<String>> {
    const DAY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    let mut requests = vec![vec![]];
    let mut add = |fields: &[String]| requests.push(fields.to_vec());
    for tags in [tag, "\"x\"", &format!("\"x\", W/{tag}"), "*", "", &tag[..9]] {
        add(&[format!("if-none-match: {tags}")]);
        add(&[format!("if-match: {tags}")]);
        add(&["range: bytes=1-3".to_owned(), format!("if-range: {tags}")]);
        add(&["Range: bytes=1-3".to_owned(), format!("If-None-Match: {tags}")]);
    }
    for date in [DAY, BEFORE, "yesterday"] {
        add(&[format!("if-modified-since: {date}")]);
        add(&[format!("if-unmodified-since: {date}")]);
        add(&["range: bytes=-2".to_owned(), format!("if-range: {date}")]);
        add(&["if-none-match: \"x\"".to_owned(), format!("if-modified-since: {date}")]);
    }
    let ranges = "0- 0-0 0-99 -1 -0 1- 4- 5- 51190-51209 51200- 65535-65536 102399- 102400- 0-262143 262143-262144 99-1 \
        0-0,-1 0-9,10-19 51199-51201,-3,200-299 0-99999999999999999999 x";
    for range in ranges.split(' ').chain(["", "1-2, "]) {
        add(&[format!("range: bytes={range}")]);
    }
    for fields in [
        &["range: lines=1-2"][..],
        &["range: bytes=9999999-", "accept: application/json"],
        &["if-match: \"x\"", "accept: application/json;q=0.5, text/html;q=0.4"],
        &["if-modified-since: Sun, 06 Nov 1994 08:49:37 GMT", "if-modified-since: Sun, 06 Nov 1994 08:49:36 GMT"],
        &["range: bytes=1-2", "range: bytes=3-4"],
        &["range: \u{e4}"],
        &["if-none-match: \"x\"", &format!("if-none-match: {tag}")],
        &["if-range: \u{e4}", "range: bytes=1-2"],
        &["accept-encoding: zstd", "range: bytes=1-2"],
    ] {
        add(&fields.iter().map(ToString::to_string).collect::<Vec<_>>());
    }
    requests
}

/// Leaves out of an answer what is another each time, and says whether it was ready.
fn settled(answer: &str) -> (String, bool) {
    let (head, content) = answer.split_once("\r\n\r\n").unwrap();
    let changes = ["date: ", "x-request-id: ", "server-timing: "];
    for once in &changes[..2] {
        assert_eq!(head.matches(&format!("\r\n{once}")).count(), 1, "{once}{head}");
    }
    let lines = head.split("\r\n").filter(|line| !changes.iter().any(|name| line.starts_with(name)));
    let id = head.split("x-request-id: ").nth(1).unwrap().split("\r\n").next().unwrap();
    let settled = [&lines.collect::<Vec<_>>().join("\r\n"), "\r\n\r\n", content].concat().replace(id, "ID");
    (settled, !head.contains("server-timing: "))
}

/// Asks as a viewer does who asks for nothing after it; `target` is a host and a path.
async fn asked(
    site: &Site,
    method: &str,
    (host, path): (&str, &str),
    fields: &[String],
    more: &[&str],
) -> (String, bool) {
    let lines = fields.iter().map(String::as_str).chain(more.iter().copied());
    let lines: String = lines.map(|line| format!("{line}\r\n")).collect();
    let start = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    settled(&said(site, &format!("{start}{lines}\r\n")).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_ready_is_to_the_byte_the_one_that_would_be_made() {
    let site = Site::with(|config| config.http.workers = Some(1), vec![]).await;
    let name = StableName::derive(&secret(), "site").unwrap();
    let fresh_until = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() + 1000;
    let mut statuses = BTreeSet::new();
    for (version, bytes) in (1..).zip([0, 5, 60_000, 100 * 1024, 256 * 1024]) {
        let stored = site.store("a.txt", "text/plain", noise_of(5, bytes)).await;
        let tag = site.get(&stored, "/", &[]).await.field("etag").unwrap().to_owned();
        let all = requests(&tag);
        let both = |fields| [(fields, "GET"), (fields, "HEAD")];
        let parent = site.store_directory(&[("a.txt", &stored, Kind::File)]).await;
        for (host, path) in [(host(&stored), "/"), (host(&parent), "/a.txt")] {
            let ask = async |method: &str, fields: &[String], more: &[&str]| {
                asked(&site, method, (&host, path), fields, more).await
            };
            until("an answer that is ready", async || ask("GET", &[], &[]).await.1).await;
            // Below a directory is nothing that is not elsewhere, but for the way there.
            let step = if path == "/" { 1 } else { 7 };
            for (fields, method) in all.iter().step_by(step).flat_map(both) {
                let (made, is_given) = ask(method, fields, &[MADE]).await;
                assert!(!is_given, "{made:?}");
                statuses.insert((made[9..12].to_owned(), made.contains("multipart")));
                until("a ready answer", async || {
                    let (given, is_ready) = ask(method, fields, &[]).await;
                    assert!(given == made, "{bytes} bytes, {method} {fields:?}: {given:?} is not {made:?}");
                    // Who asks for all of it makes it ready; the news that it was stored may have come just now.
                    is_ready || ask("GET", &[], &[]).await.0.is_empty()
                })
                .await;
            }
        }
        // What a name stands for may change each moment, so nothing under it is ever ready.
        site.point(&name, &stored, fresh_until, version).await;
        let host = format!("{}.evernear.example", name.label());
        let length = format!("content-length: {bytes}\r\n");
        until("the name", async || asked(&site, "HEAD", (&host, "/"), &[], &[]).await.0.contains(&length)).await;
        for (fields, method) in all.iter().step_by(7).flat_map(both) {
            let (made, _) = asked(&site, method, (&host, "/"), fields, &[MADE]).await;
            let (again, is_ready) = asked(&site, method, (&host, "/"), fields, &[]).await;
            assert!(again == made && !is_ready, "{method} {fields:?}: {again:?} is not {made:?}");
        }
    }
    let seen: Vec<_> = statuses.iter().map(|(status, is_multipart)| (&**status, *is_multipart)).collect();
    assert_eq!(seen, [("200", false), ("206", false), ("206", true), ("304", false), ("412", false), ("416", false)]);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_compressed_is_ready_to_the_byte_as_it_would_be_made() {
    const TAKES: &str = "accept-encoding: gzip, zstd";
    let site = Site::with(|config| config.http.workers = Some(1), vec![]).await;
    let gains_nothing = [text(256 * 1024), noise_of(6, 1000)].concat();
    let mut seen = BTreeSet::new();
    // Of one block, of three that are too long to be ready as they are, of one that gains nothing behind one that does.
    for bytes in [text(16 * 1024 + 1), text(600_000), gains_nothing] {
        let stored = site.store("a.txt", "text/plain", bytes).await;
        let (host, is_short) = (host(&stored), stored.bytes.len() <= 256 * 1024);
        let ask = async |method: &str, fields: &[String], more: &[&str]| {
            asked(&site, method, (&host, "/"), fields, more).await
        };
        until("a compressed answer that is ready", async || ask("GET", &[], &[TAKES]).await.1).await;
        let tag = site.get(&stored, "/", &[]).await.field("etag").unwrap().to_owned();
        let coded = format!("W/{}-zstd\"", tag.trim_end_matches('"'));
        let listed = [coded.clone(), coded.trim_start_matches("W/").to_owned(), format!("\"x\", {coded}, {tag}")];
        let mut all: Vec<_> = listed.iter().map(|tags| vec![format!("if-none-match: {tags}")]).collect();
        all.push(vec![format!("if-none-match: {coded}"), "if-modified-since: yesterday".to_owned()]);
        all.push(vec![format!("if-range: {coded}"), "range: bytes=0-9".to_owned()]);
        all.extend(requests(&tag));
        for (fields, method) in all.iter().flat_map(|fields| [(fields, "GET"), (fields, "HEAD")]) {
            let (made, is_given) = ask(method, fields, &[TAKES, MADE]).await;
            assert!(!is_given, "{made:?}");
            let is_coded = made.contains("-zstd\"");
            assert_eq!(
                is_coded && made.starts_with("HTTP/1.1 200"),
                made.contains("content-encoding: zstd"),
                "{made:?}"
            );
            seen.insert((made[9..12].to_owned(), is_coded));
            until("a ready answer", async || {
                let (given, is_ready) = ask(method, fields, &[TAKES]).await;
                assert!(given == made, "{method} {fields:?}: {given:?} is not {made:?}");
                if is_ready || (!is_coded && !is_short) {
                    return true;
                }
                // Who asks for all of it makes it ready, in the form that it takes.
                ask("GET", &[], &[TAKES]).await.0.is_empty() || ask("GET", &[], &[]).await.0.is_empty()
            })
            .await;
        }
        site.put_lease(&site.lease(&stored.sealed, &PolicyName::default(), 2, true)).await;
        until("the erasure", async || ask("GET", &[], &[TAKES]).await.0.starts_with("HTTP/1.1 410")).await;
    }
    let seen: Vec<_> = seen.iter().map(|(status, is_coded)| (&**status, *is_coded)).collect();
    let plain = [("206", false), ("304", false), ("304", true), ("412", false), ("416", false)];
    assert_eq!(seen, [&[("200", false), ("200", true)][..], &plain].concat());
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_changes_has_no_answer_under_another_made_again() {
    let site = Site::with(|config| config.http.workers = Some(1), vec![]).await;
    let publish = async |name: &PolicyName, version: u64| {
        publish_component(&site, TTL, name, version, &format!("ttl = {}", 100 + version)).await;
    };
    let store = async |name: &PolicyName| {
        publish(name, 1).await;
        site.store_as("a.txt", "text/plain", name.as_str().into(), Kind::File, name).await
    };
    let ask = async |stored: &Stored| {
        let answer = site.get(stored, "/", &[]).await;
        (answer.field("cache-control").unwrap().to_owned(), answer.field("server-timing").is_none())
    };
    let is_of = |says: &str, version: u64| says.contains(&format!("max-age={}", 100 + version));
    let kept: PolicyName = "kept".parse().unwrap();
    let stored = store(&kept).await;
    let mut left = 0;
    for other in 1..=5 {
        let other: PolicyName = format!("other-{other}").parse().unwrap();
        let of_other = store(&other).await;
        assert!(is_of(&ask(&of_other).await.0, 1));
        until("an answer that is ready", async || ask(&stored).await.1).await;
        publish(&other, 2).await;
        until("the new version", async || is_of(&ask(&of_other).await.0, 2)).await;
        left += usize::from(ask(&stored).await.1);
    }
    // With the first of them the news may have come that the object was stored, and one of 4096 shares its epoch.
    assert!(left >= 3, "{left}");
    until("an answer that is ready", async || ask(&stored).await.1).await;
    publish(&kept, 2).await;
    until("its own new version", async || is_of(&ask(&stored).await.0, 2)).await;
    until("an answer that is ready", async || ask(&stored).await.1).await;
    assert!(is_of(&ask(&stored).await.0, 2));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_http2_are_given_what_would_be_made_for_them() {
    let (_dir, _, site) = https::start_with(false, |config| config.http.workers = Some(1)).await;
    let stored = two_blocks(&site).await;
    let host = https::host(&stored);
    let ask_of = async |host: &str, more: &[&str]| {
        let arguments = [&["-k", "--http2", "-H", "accept: */*"], more].concat();
        let Curl { head, output } = site.curl_secure(host, "/", &arguments).await;
        assert!(head.starts_with("HTTP/2 "), "{head}");
        let content: String = output.stdout.into_iter().map(char::from).collect();
        settled(&[head.trim_end(), "\r\n\r\n", &content].concat())
    };
    let ask = async |more: &[&str]| ask_of(&host, more).await;
    until("an answer that is ready", async || ask(&[]).await.1).await;
    let tag = site.curl_secure(&host, "/", &["-k"]).await.field("etag").unwrap().to_owned();
    let (none_match, if_range) = (format!("if-none-match: {tag}"), format!("if-range: {tag}"));
    for more in [
        &[][..],
        &["-I", "-o", "/dev/null"],
        &["-r", "51199-51201"],
        &["-r", "0-"],
        &["-H", &none_match],
        &["-I", "-o", "/dev/null", "-H", &none_match],
        &["-r", "-7", "-H", &if_range],
        &["-r", "51199-51201,-7,0-0"],
        &["-r", "102400-"],
        &["-H", "if-match: \"x\""],
        &["-I", "-o", "/dev/null", "-H", "if-match: \"x\""],
    ] {
        let mut given = ask(more).await;
        while !given.1 {
            // News of its own filing came in between: who asks for all of it makes it ready again.
            until("an answer that is ready", async || ask(&[]).await.1).await;
            given = ask(more).await;
        }
        let made = ask(&[more, &["-H", MADE]].concat()).await;
        assert!(!made.1, "{more:?}");
        assert!(given.0 == made.0, "{more:?}: {} is not {}", given.0, made.0);
    }
    let of_text = https::host(&site.store("a.txt", "text/plain", text(300_000)).await);
    let takes = ["-H", "accept-encoding: zstd"];
    let ask = async |more: &[&str]| ask_of(&of_text, &[&takes[..], more].concat()).await;
    let whole = async || ask(&[]).await;
    until("a compressed answer that is ready", async || whole().await.1).await;
    let answer = whole().await.0;
    let tag = answer.split("etag: ").nth(1).unwrap().split("\r\n").next().unwrap();
    let coded = format!("if-none-match: {tag}");
    for more in [&[][..], &["-I", "-o", "/dev/null"], &["-H", &coded], &["-I", "-o", "/dev/null", "-H", &coded]] {
        let made = ask(&[more, &["-H", MADE]].concat()).await;
        assert!(!made.1 && made.0.contains("-zstd\""), "{more:?}: {}", made.0);
        until("the same, ready", async || {
            let given = ask(more).await;
            assert!(given.0 == made.0, "{more:?}: {} is not {}", given.0, made.0);
            given.1 || whole().await.0.is_empty()
        })
        .await;
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_on_a_connection_is_answered_in_its_order_whoever_reads_it() {
    let site = Site::start().await;
    let stored = site.store("a.txt", "text/plain", b"small".to_vec()).await;
    let host = host(&stored);
    let get = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let last = format!("GET /last HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let answers = said(&site, &format!("{get}{get}{last}")).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 3, "{answers}");
    assert_eq!(answers.matches("\r\n\r\nsmall").count(), 3, "{answers}");
    assert_eq!(answers.matches("connection: close").count(), 1, "{answers}");
    // Who asks through a proxy names the host before the path; what else stands there counts for nothing.
    let named = format!("GET http://{host}/ HTTP/1.1\r\nHost: elsewhere.example\r\nConnection: close\r\n\r\n");
    let answers = said(&site, &format!("{get}{named}")).await;
    assert_eq!(answers.matches("\r\n\r\nsmall").count(), 2, "{answers}");
    let elsewhere = format!("GET http://elsewhere.example/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    assert!(said(&site, &elsewhere).await.starts_with("HTTP/1.1 421"));
    // One that is not common goes to pingora, and the connection with it.
    let options = format!("OPTIONS / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let answers = said(&site, &format!("{get}{options}")).await.to_lowercase();
    assert!(answers.starts_with("http/1.1 200 ok") && answers.contains("small"), "{answers}");
    assert!(answers.contains("http/1.1 204"), "{answers}");
    // What comes behind one that is pingora's is kept.
    let options = format!("OPTIONS / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let answers = said(&site, &format!("{options}{get}{options}{last}")).await.to_lowercase();
    let told: Vec<_> = answers.match_indices("http/1.1 2").map(|(at, _)| &answers[at + 9..at + 12]).collect();
    assert_eq!(told, ["204", "200", "204", "200"], "{answers}");
    assert_eq!(answers.matches("\r\n\r\nsmall").count(), 2, "{answers}");
    // A target that is no path is not answered as if it were the root.
    for target in ["foo/bar", "plain.txt", "?x", " /x", "%2Fx", "ftp://elsewhere.example/"] {
        let odd = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let answer = said(&site, &odd).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{target}: {answer}");
    }
    // Also a short one that is wrong.
    for wrong in ["GET / HTTP/1.1\r\n\r\n", "GET /\r\n\r\n", "\x16\x03\x01\r\n\r\n"] {
        assert!(said(&site, wrong).await.starts_with("HTTP/1.1 400"), "{wrong:?}");
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_viewer_gets_the_last_byte() {
    let site = Site::start().await;
    let stored = site.store("a.bin", "application/octet-stream", noise_of(1, 3_000_300)).await;
    let mut stream = TcpStream::connect(site.edge.http).await.unwrap();
    let ask = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", host(&stored));
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut got = 0;
    let mut piece = vec![0; 200_000];
    let whole = timeout(DEADLINE, async {
        loop {
            let read = stream.read(&mut piece).await.unwrap();
            if read == 0 {
                return got;
            }
            got += read;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(whole.await.unwrap() > stored.bytes.len());
    site.stop().await;
}
