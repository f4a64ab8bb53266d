//! Files that go out compressed, unpacked by curl and Chromium.

use std::process::Stdio;

use bytes::Buf;
use client::ShardAsk;
use format::{Kind, PolicyName};
use http::Method;
use testing::{noise_of, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    time::timeout,
};

use crate::{
    guest::{MEMORY, component, serve_wat},
    http3::viewer,
    https::{host, start},
    policy::publish_component,
    site::{Curl, DEADLINE, Site, Stored},
};

const BLOCK: usize = 256 * 1024;
/// Larger than what lies inline in a manifest.
const SMALLEST: usize = 16 * 1024 + 1;
const ZSTD: [&str; 2] = ["-H", "accept-encoding: gzip, zstd"];
const VERSIONS: [&str; 2] = ["--http1.1", "--http2-prior-knowledge"];

/// Lines that compress to a third or so.
pub(crate) fn text(length: usize) -> Vec<u8> {
    let line = |at: usize| format!("{at} {:x} is a line of text.\n", at * at % 9973).into_bytes();
    (0..).flat_map(line).take(length).collect()
}

/// Blocks that compress and blocks that do not, in turn, and a tail.
fn mixed() -> Vec<u8> {
    let block = |at: u8| if at.is_multiple_of(2) { text(BLOCK) } else { noise_of(at.into(), BLOCK) };
    [(0..6).flat_map(block).collect(), text(100_001)].concat()
}

async fn get(site: &Site, stored: &Stored, more: &[&str], version: &str) -> Curl {
    site.get(stored, "/", &[more, &[version]].concat()).await
}

/// Asks for what a file is, and then for all of it as curl unpacks it.
async fn unpacked(site: &Site, stored: &Stored, version: &str) -> Curl {
    let answer = get(site, stored, &["--compressed"], version).await;
    assert_eq!((answer.status(), answer.field("content-encoding")), (200, Some("zstd")), "{}", answer.head);
    assert_eq!((answer.field("vary"), answer.field("accept-ranges")), (Some("accept-encoding"), None));
    assert!(answer.output.status.success() && answer.body() == stored.bytes, "{version}: {}", answer.head);
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_zstd_gets_every_byte_in_fewer_and_others_get_the_file_as_it_is() {
    let site = Site::start().await;
    for (name, bytes, packed_max) in [
        ("smallest", text(SMALLEST), SMALLEST / 2),
        ("block", text(BLOCK), BLOCK / 2),
        ("and one", text(BLOCK + 1), BLOCK / 2),
        ("mixed", mixed(), 5 * BLOCK),
        // A dozen bytes for each of at most four blocks.
        ("noise", noise_of(1, 2 * BLOCK), 2 * BLOCK + 4 * 15),
    ] {
        for version in VERSIONS {
            let stored = site.store(&format!("{name}{version}"), "text/plain", bytes.clone()).await;
            let cold = unpacked(&site, &stored, version).await;
            let is_chunked = cold.field("transfer-encoding") == Some("chunked");
            assert_eq!((cold.field("content-length"), is_chunked), (None, version == "--http1.1"), "{}", cold.head);
            assert!(cold.field("cache-status").unwrap().contains("fwd=uri-miss"), "{}", cold.head);

            let hit = unpacked(&site, &stored, version).await;
            assert!(hit.field("cache-status").unwrap().ends_with("; hit"), "{}", hit.head);
            assert_eq!(hit.field("transfer-encoding"), None);
            let packed = get(&site, &stored, &ZSTD, version).await;
            let length = packed.body().len();
            assert!(length <= packed_max, "{name}: {length} bytes");
            let head = get(&site, &stored, &[&ZSTD[..], &["-I", "-o", "/dev/null"]].concat(), version).await;
            for answer in [&hit, &packed, &head] {
                assert_eq!(answer.field("content-length"), Some(&*length.to_string()), "{}", answer.head);
                assert_eq!(answer.field("content-encoding"), Some("zstd"));
                assert_eq!(answer.field("etag"), cold.field("etag"));
            }

            for more in [&[][..], &["-H", "accept-encoding: gzip, zstd;q=0"]] {
                let plain = get(&site, &stored, more, version).await;
                assert!(plain.status() == 200 && plain.body() == bytes, "{}", plain.head);
                assert_eq!(plain.field("content-length"), Some(&*bytes.len().to_string()));
                assert_eq!((plain.field("content-encoding"), plain.field("vary")), (None, Some("accept-encoding")));
                assert_ne!(plain.field("etag"), cold.field("etag"));
            }
        }
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_how_long_a_ready_answer_is_uses_no_block() {
    let site = Site::with(|config| config.http.workers = Some(1), vec![]).await;
    // All blocks of the first go out stored.
    for (bytes, fields) in [(noise_of(1, BLOCK - 100), &ZSTD[..]), (text(BLOCK + 1), &ZSTD), (text(BLOCK), &[])] {
        let stored = site.store("a.txt", "text/plain", bytes).await;
        let ask = async |more: &[&str]| site.get(&stored, "/", &[fields, more].concat()).await;
        until("a ready answer", async || ask(&[]).await.field("server-timing").is_none()).await;
        let length = ask(&[]).await.body().len().to_string();
        let before = site.counter("evernear_edge_block_hits_total").await;
        let head = ask(&["-I", "-o", "/dev/null"]).await;
        assert!(head.status() == 200 && head.field("server-timing").is_none(), "{}", head.head);
        assert_eq!(head.field("content-length"), Some(&*length));
        assert_eq!(site.counter("evernear_edge_block_hits_total").await, before);
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_is_held_needs_no_block_and_one_that_is_not_is_made_of_it() {
    let site = Site::start().await;
    let stored = site.store("a.txt", "text/plain", mixed()).await;
    // Some blocks are held as they are, none as a frame.
    assert_eq!(get(&site, &stored, &["-r", "300000-900000"], "--http1.1").await.status(), 206);
    let (before, fills) = (site.counter("evernear_edge_block_hits_total").await, "evernear_edge_fills_total");
    unpacked(&site, &stored, "--http1.1").await;
    assert!(site.counter("evernear_edge_block_hits_total").await > before);
    let filled = site.counter(fills).await;
    unpacked(&site, &stored, "--http1.1").await;
    assert_eq!(site.counter(fills).await, filled, "nothing is read again");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_form_has_its_tag_and_no_viewer_is_told_of_one_that_it_does_not_take() {
    let site = Site::start().await;
    let stored = site.store("a.txt", "text/plain", text(300_000)).await;
    let ask = async |more: &[String]| {
        let more: Vec<&str> = more.iter().flat_map(|field| ["-H", field.as_str()]).collect();
        let answer = site.get(&stored, "/", &more).await;
        let hangs_on = if answer.status() == 412 { "accept" } else { "accept-encoding" };
        assert_eq!(answer.field("vary"), Some(hangs_on), "{}", answer.head);
        let [tag, coding] = ["etag", "content-encoding"].map(|name| answer.field(name).map(str::to_owned));
        (answer.status(), tag.unwrap_or_default(), coding.is_some(), answer.body().len())
    };
    let takes = "accept-encoding: zstd".to_owned();
    let (_, plain, ..) = ask(&[]).await;
    let (_, coded, _, packed) = ask(std::slice::from_ref(&takes)).await;
    assert!(plain.starts_with('"') && coded.starts_with("W/\"") && coded != format!("W/{plain}"), "{plain} {coded}");
    let all = stored.bytes.len();
    let (none_match, range) = (|tag: &str| format!("if-none-match: {tag}"), "range: bytes=0-9".to_owned());
    let (if_range, if_match) = (|tag: &str| format!("if-range: {tag}"), |tag: &str| format!("if-match: {tag}"));
    for (fields, status, tag, is_coded, length) in [
        (vec![takes.clone(), none_match(&coded)], 304, &coded, false, 0),
        (vec![takes.clone(), none_match(&format!("\"x\", {coded}"))], 304, &coded, false, 0),
        (vec![takes.clone(), none_match(&plain)], 304, &plain, false, 0),
        (vec![takes.clone(), none_match("\"x\"")], 200, &coded, true, packed),
        // A cache lists all that it holds, for a viewer who cannot read all of that.
        (vec![none_match(&coded)], 200, &plain, false, all),
        (vec![none_match(&format!("{coded}, {plain}"))], 304, &plain, false, 0),
        (vec![takes.clone(), range.clone()], 206, &plain, false, 10),
        (vec![takes.clone(), range.clone(), if_range(&plain)], 206, &plain, false, 10),
        (vec![takes.clone(), range.clone(), if_range(&coded)], 200, &plain, false, all),
        (vec![takes.clone(), range.clone(), if_range(coded.trim_start_matches("W/"))], 200, &plain, false, all),
        (vec![takes.clone(), if_match(&plain)], 200, &plain, false, all),
        (vec!["accept-encoding: identity;q=0, zstd;q=0.1".to_owned()], 200, &coded, true, packed),
        (vec!["accept-encoding: identity;q=0, *;q=0".to_owned()], 200, &plain, false, all),
        (vec!["accept-encoding: identity, zstd;q=0.9".to_owned()], 200, &plain, false, all),
    ] {
        assert_eq!(ask(&fields).await, (status, tag.clone(), is_coded, length), "{fields:?}");
    }
    assert_eq!(ask(&[takes.clone(), if_match(&coded)]).await.0, 412);
    let head = site.get(&stored, "/", &[]).await;
    let since = format!("if-modified-since: {}", head.field("last-modified").unwrap());
    assert_eq!(ask(&[takes.clone(), since.clone()]).await, (304, coded, false, 0), "the tag that a 200 would have");
    assert_eq!(ask(&[since]).await, (304, plain, false, 0));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_played_or_packed_or_small_and_what_its_owner_wants_as_it_is_goes_out_so() {
    let site = Site::with(|config| config.http.workers = Some(1), vec![]).await;
    let policy: PolicyName = "as-it-is".parse().unwrap();
    // The marks lie at 20; the fourth is `no-transform`.
    let wat = serve_wat(MEMORY, "(i32.store8 (i32.const 20) (i32.const 8))");
    publish_component(&site, &component(&wat), &policy, 1, "").await;
    let bytes = text(100_000);
    let kept = site.store_as("kept.txt", "text/plain", bytes.clone(), Kind::File, &policy).await;
    until("the policy", async || site.get(&kept, "/", &[]).await.status() == 200).await;
    let film = site.store("a.mp4", "video/mp4", bytes.clone()).await;
    let archive = site.store("a.zip", "application/zip", bytes.clone()).await;
    let small = site.store("a.css", "text/css", text(SMALLEST - 1)).await;
    for stored in [&kept, &film, &archive, &small] {
        let answer = site.get(stored, "/", &ZSTD).await;
        assert_eq!((answer.status(), answer.field("content-encoding"), answer.field("vary")), (200, None, None));
        assert!(answer.body() == stored.bytes && answer.field("etag").unwrap().starts_with('"'), "{}", answer.head);
        let says = answer.field("cache-control").unwrap().contains("no-transform");
        assert_eq!(says, stored.label == kept.label, "{}", answer.head);
        // Nor is it made each time because of what the viewer takes.
        let is_ready = async || site.get(stored, "/", &ZSTD).await.field("server-timing").is_none();
        until("an answer that is ready", is_ready).await;
    }
    let page = site.store("a.html", "text/html", bytes.clone()).await;
    let old = get(&site, &page, &ZSTD, "--http1.0").await;
    assert!(old.field("content-encoding").is_none() && old.body() == bytes, "no chunks there: {}", old.head);
    assert_eq!(old.field("vary"), Some("accept-encoding"));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_zstd_and_who_does_not_are_each_given_what_is_ready_for_them() {
    let site = Site::with(|config| config.http.workers = Some(1), vec![]).await;
    let stored = site.store("a.txt", "text/plain", text(100_000)).await;
    let is_ready = |answer: &Curl| answer.field("server-timing").is_none();
    let packed = {
        unpacked(&site, &stored, VERSIONS[0]).await;
        get(&site, &stored, &ZSTD, VERSIONS[0]).await.body().to_vec()
    };
    for version in VERSIONS {
        // News of its own filing may come in between: then both are made once more.
        until("both, ready one after the other", async || {
            let plain = get(&site, &stored, &[], version).await;
            assert!(plain.body() == stored.bytes && plain.field("content-encoding").is_none(), "{}", plain.head);
            let coded = get(&site, &stored, &ZSTD, version).await;
            assert!(coded.body() == packed && coded.field("content-encoding") == Some("zstd"), "{}", coded.head);
            let again = get(&site, &stored, &[], version).await;
            assert!(again.body() == stored.bytes && again.field("etag") == plain.field("etag"), "{}", again.head);
            unpacked(&site, &stored, version).await;
            is_ready(&plain) && is_ready(&coded) && is_ready(&again)
        })
        .await;
        until("a range that is ready", async || {
            let part = get(&site, &stored, &[&ZSTD[..], &["-r", "5-8"]].concat(), version).await;
            assert!(part.body() == &stored.bytes[5..9], "{}", part.head);
            if !is_ready(&part) {
                // News of its own filing came in between: who asks for all of it makes it ready again.
                get(&site, &stored, &[], version).await;
            }
            is_ready(&part)
        })
        .await;
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_goes_on_behind_the_last_chunk_whoever_writes_it() {
    let site = Site::start().await;
    // pingora takes the connection where a request has many fields, and where an option is not known.
    let many: String = (0..40).map(|at| format!("X-{at}: x\r\n")).collect();
    for (name, more, option) in [("few", "", "keep-alive"), ("many", &*many, "keep-alive, x")] {
        let stored = site.store(name, "text/plain", text(600_000)).await;
        let host = host(&stored);
        let mut stream = TcpStream::connect(site.edge.http).await.unwrap();
        let coded = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{more}Accept-Encoding: zstd\r\n\r\n");
        stream.write_all(coded.as_bytes()).await.unwrap();
        let mut first = Vec::new();
        while !first.ends_with(b"\r\n0\r\n\r\n") {
            let read = timeout(DEADLINE, stream.read_buf(&mut first)).await.unwrap().unwrap();
            assert!(read > 0, "{name}: closed after {} bytes, without a last chunk", first.len());
        }
        assert!(String::from_utf8_lossy(&first).to_ascii_lowercase().contains("transfer-encoding: chunked"), "{name}");
        let last = format!("HEAD / HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n");
        stream.write_all(last.as_bytes()).await.unwrap();
        let mut second = String::new();
        timeout(DEADLINE, stream.read_to_string(&mut second)).await.unwrap().unwrap();
        let second = second.to_ascii_lowercase();
        assert!(
            second.starts_with("http/1.1 200") && second.contains("content-length: 600000\r\n"),
            "{name}: {second}"
        );
        let piped = get(&site, &stored, &["--compressed", "-H", &format!("connection: {option}")], "--http1.1").await;
        assert!(piped.body() == stored.bytes && piped.field("content-encoding") == Some("zstd"), "{}", piped.head);
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_3_the_frames_are_the_same_and_one_that_is_missing_cuts_the_answer_on_every_version() {
    let (_dir, https, site) = start(false).await;
    let stored = site.store("a.txt", "text/plain", mixed()).await;
    unpacked(&site, &stored, "--http1.1").await;
    let packed = get(&site, &stored, &ZSTD, "--http1.1").await;
    let answer = viewer(&https, &site, &stored).await.ask(Method::GET, "/", &[("accept-encoding", "zstd")]).await;
    assert!(answer.fields["content-encoding"] == "zstd" && answer.body == packed.body());

    let broken = site.store("b.txt", "text/plain", text(32 * BLOCK)).await;
    let object = broken.sealed.public.id();
    let mut flipped = 0;
    for node in &site.nodes {
        for column in 0..3 {
            let ask = ShardAsk { object, column, first: 5, count: 1 };
            flipped += u32::from(site.origins.flip(&node.name, ask, 77));
        }
    }
    assert_eq!(flipped, 3, "each of three columns lies once");
    // curl's codes: a partial file, a stream that was not closed cleanly.
    for (version, code) in [("--http1.1", 18), ("--http2-prior-knowledge", 92)] {
        let cut = get(&site, &broken, &["--compressed"], version).await;
        assert_eq!((cut.status(), cut.output.status.code()), (200, Some(code)), "{version}: {}", cut.head);
        assert!(broken.bytes.starts_with(cut.body()), "{version}");
    }
    let viewer = viewer(&https, &site, &broken).await;
    let (head, mut stream) = viewer.begin(Method::GET, "/", &[("accept-encoding", "zstd")]).await;
    assert!(head.status() == 200 && head.headers()["content-encoding"] == "zstd");
    loop {
        match timeout(DEADLINE, stream.recv_data()).await.unwrap() {
            Ok(Some(piece)) => assert!(piece.has_remaining()),
            Ok(None) => panic!("an end"),
            Err(_) => break,
        }
    }
    drop((stream, viewer));
    site.stop().await;
}

/// Returns the document as the browser has it. Names below `localhost` lead to the edge.
async fn shown(site: &Site, stored: &Stored) -> String {
    let profile = tempfile::tempdir().unwrap();
    let start = |name: &str| {
        Command::new(name)
            .envs(["HOME", "TMPDIR", "XDG_RUNTIME_DIR"].map(|name| (name, profile.path())))
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--dump-dom"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("--host-resolver-rules=MAP *.localhost {}", site.edge.http.ip()))
            .arg(format!("http://{}.localhost:{}/", stored.label, site.edge.http.port()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .ok()
    };
    let browser = ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(start);
    let output = browser.expect("a browser is installed: `./x setup --test`").wait_with_output();
    String::from_utf8(timeout(3 * DEADLINE, output).await.unwrap().unwrap().stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_takes_zstd_and_reads_all_frames() {
    let site = Site::start().await;
    let page: String = (0..40_000).map(|at| format!("<p>line {at}</p>\n")).collect();
    let stored = site.store("long.html", "text/html", page.into_bytes()).await;
    assert!(stored.bytes.len() > 2 * BLOCK);
    let shown = shown(&site, &stored).await;
    assert_eq!(shown.matches("<p>line ").count(), 40_000);
    assert!(shown.contains("<p>line 0</p>") && shown.contains("<p>line 39999</p>"));
    let sent = site.counter("evernear_edge_http_body_bytes_total").await;
    assert!((1..stored.bytes.len() as u64 / 2).contains(&sent), "{sent} bytes of {}", stored.bytes.len());
    site.stop().await;
}
