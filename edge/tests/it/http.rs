//! The HTTP door, asked by curl and by raw sockets.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use format::{Capability, Directory, Entry, Kind, PolicyName};
use testing::{noise_of, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};
use tokio_rustls::TlsConnector;

use crate::{
    https,
    site::{DEADLINE, Site, label_of_nothing},
    slow::Stream,
};

const MIB: usize = 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_is_exact_cold_and_hit_whole_and_in_ranges() {
    let site = Site::start().await;
    let stored = site.store("clip.mp4", "video/mp4", noise_of(3, 9 * MIB + 12_345)).await;
    let cold = site.get(&stored, "/clip.mp4", &[]).await;
    assert_eq!((cold.status(), cold.field("content-type")), (200, Some("video/mp4")));
    assert!(cold.body() == stored.bytes, "the body differs");
    assert_eq!(cold.field("cache-status"), Some("\"edge-bru\"; fwd=uri-miss; stored"));
    let hit = site.get(&stored, "/", &[]).await;
    assert!(hit.body() == stored.bytes && hit.field("cache-status") == Some("\"edge-bru\"; hit"), "{}", hit.head);
    assert!(hit.field("server-timing").unwrap().contains("policy;dur="));
    for (range, from, to) in [
        ("0-1", 0, 2),
        ("1000000-1999999", 1_000_000, 2_000_000),
        ("-5", stored.bytes.len() - 5, stored.bytes.len()),
        ("9437184-", 9 * MIB, stored.bytes.len()),
        ("262143-262144", 262_143, 262_145),
    ] {
        let part = site.get(&stored, "/", &["-r", range]).await;
        assert_eq!((part.status(), part.body()), (206, &stored.bytes[from..to]), "{range}");
        let expected = format!("bytes {from}-{}/{}", to - 1, stored.bytes.len());
        assert_eq!(part.field("content-range"), Some(&*expected));
    }
    let beyond = site.get(&stored, "/", &["-r", "99999999-"]).await;
    assert_eq!(
        (beyond.status(), beyond.field("content-range")),
        (416, Some(&*format!("bytes */{}", stored.bytes.len())))
    );
    let near = site.get(&stored, "/", &["-r", "0-1,5-6"]).await;
    assert_eq!((near.status(), near.body()), (206, &stored.bytes[..7]), "what lies between is shorter than a head");
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let apart = site.get(&stored, "/", &["-r", "5000000-5000009,0-299999,-7", version]).await;
        let boundary = apart.field("content-type").unwrap().strip_prefix("multipart/byteranges; boundary=").unwrap();
        let mut expected = Vec::new();
        let end = stored.bytes.len();
        for (from, to) in [(5_000_000, 5_000_010), (0, 300_000), (end - 7, end)] {
            let range = format!("Content-Range: bytes {from}-{}/{end}", to - 1);
            expected.extend(format!("\r\n--{boundary}\r\nContent-Type: video/mp4\r\n{range}\r\n\r\n").bytes());
            expected.extend(&stored.bytes[from..to]);
        }
        expected.extend(format!("\r\n--{boundary}--\r\n").bytes());
        assert_eq!((apart.status(), apart.field("content-range")), (206, None));
        assert!(apart.body() == expected, "{}", apart.head);
        assert_eq!(apart.field("content-length"), Some(&*expected.len().to_string()));
    }
    let many = (0..9).map(|at| format!("{0}-{0}", at * 1000)).collect::<Vec<_>>().join(",");
    let many = site.get(&stored, "/", &["-r", &many]).await;
    assert_eq!((many.status(), many.body().len()), (200, stored.bytes.len()));
    let h2 = site.get(&stored, "/", &["--http2-prior-knowledge"]).await;
    assert!(h2.head.starts_with("HTTP/2 200") && h2.body() == stored.bytes, "{}", h2.head);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_reads_only_its_own_blocks_and_the_same_block_once() {
    let site = Site::start().await;
    let stored = site.store("big.bin", "application/octet-stream", noise_of(4, 8 * MIB)).await;
    let asks: Vec<_> = (0..8).map(|_| site.get(&stored, "/", &["-r", "0-99"])).collect();
    for part in futures::future::join_all(asks).await {
        assert_eq!(part.body(), &stored.bytes[..100]);
    }
    assert_eq!(site.counter("evernear_edge_fills_total").await, 1);
    assert!(site.counter("evernear_edge_fill_bytes_total").await < 2 * 262_168 + 1);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_heads_and_security_fields() {
    let site = Site::start().await;
    let stored = site.store("a.html", "text/html", b"<p>hello".to_vec()).await;
    let full = site.get(&stored, "/", &[]).await;
    let etag = full.field("etag").unwrap().to_owned();
    assert!(etag.starts_with('"') && etag.len() == 34, "{etag}");
    for (name, value) in [
        ("cache-control", "public, max-age=31536000, stale-while-revalidate=86400, stale-if-error=31536000, immutable"),
        ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("accept-ranges", "bytes"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "sandbox allow-downloads"),
        ("cross-origin-resource-policy", "cross-origin"),
        ("access-control-allow-origin", "*"),
        ("referrer-policy", "no-referrer"),
        ("origin-agent-cluster", "?1"),
        ("content-length", "8"),
    ] {
        assert_eq!(full.field(name), Some(value), "{}", full.head);
    }
    assert!(full.field("date").is_some() && full.field("set-cookie").is_none());
    let same = site.get(&stored, "/", &["-H", &format!("if-none-match: {etag}")]).await;
    assert_eq!((same.status(), same.body().len(), same.field("etag")), (304, 0, Some(&*etag)));
    let head = site.get(&stored, "/x.html", &["-I"]).await;
    assert_eq!((head.status(), head.field("content-length"), head.field("etag")), (200, Some("8"), Some(&*etag)));
    let stale = site.get(&stored, "/", &["-r", "0-1", "-H", "if-range: \"other\""]).await;
    assert_eq!((stale.status(), stale.body().len()), (200, 8));
    let fresh = site.get(&stored, "/", &["-r", "0-1", "-H", &format!("if-range: {etag}")]).await;
    assert_eq!((fresh.status(), fresh.body()), (206, &b"<p"[..]));
    assert_eq!(full.field("content-disposition"), None);
    let says = "attachment; filename=\"a.html\"; filename*=UTF-8''a.html";
    for path in ["/?download", "/x.html?a=b&download=1"] {
        let saved = site.get(&stored, path, &[]).await;
        assert_eq!(saved.field("content-disposition"), Some(says), "{path}");
    }
    assert_eq!(site.get(&stored, "/?downloads", &[]).await.field("content-disposition"), None);
    let failed = site.get(&stored, "/", &["-H", "if-match: \"other\""]).await;
    assert_eq!(failed.status(), 412);
    let worker = site.get(&stored, "/", &["-H", "service-worker: script"]).await;
    assert_eq!(worker.status(), 403);
    let apex = site.curl("evernear.example", "/", &["-X", "OPTIONS"]).await;
    assert_eq!((apex.status(), apex.field("allow"), apex.body()), (204, Some("GET, HEAD, OPTIONS"), &b""[..]));
    let preflight = site.get(&stored, "/", &["-X", "OPTIONS"]).await;
    assert_eq!((preflight.status(), preflight.field("access-control-allow-methods")), (204, Some("GET, HEAD")));
    let asked: Vec<&str> = preflight.field("access-control-allow-headers").unwrap().split(", ").collect();
    for field in ["range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"] {
        assert!(asked.contains(&field), "{field}: {}", preflight.head);
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_of_what_is_not_held_fetches_nothing_and_says_so() {
    let site = Site::start().await;
    for (stored, is_packed) in [
        (site.store("clip.mp4", "video/mp4", noise_of(3, MIB)).await, false),
        (site.store("a.txt", "text/plain", b"text".repeat(100_000)).await, true),
    ] {
        let more = if is_packed { &["-H", "accept-encoding: zstd"][..] } else { &[] };
        let head = async || {
            let head = site.get(&stored, "/", &[&["-I", "-o", "/dev/null"], more].concat()).await;
            assert_eq!(head.status(), 200, "{}", head.head);
            head.field("cache-status").unwrap().to_owned()
        };
        let fills = site.counter("evernear_edge_fills_total").await;
        assert_eq!(head().await, "\"edge-bru\"; detail=head");
        assert_eq!(site.counter("evernear_edge_fills_total").await, fills);
        let whole = site.get(&stored, "/", &["-o", "/dev/null"]).await;
        assert_eq!(whole.field("cache-status"), Some("\"edge-bru\"; fwd=uri-miss; stored"));
        assert_eq!(head().await, "\"edge-bru\"; hit");
    }
    let metrics = site.metrics().await;
    let of_none = metrics.lines().find(|line| line.contains("http_answers_total{status=\"200\",cache=\"none\"}"));
    assert!(of_none.is_some_and(|line| line.ends_with(" 2")), "{metrics}");
    site.stop().await;
}

//= https://www.rfc-editor.org/rfc/rfc9110#section-8.8.2.1
//= type=test
//# An origin server with a clock MUST NOT generate a Last-Modified date that is later than the server's time of message
//# origination (Date, Section 6.6.1).
#[tokio::test(flavor = "multi_thread")]
async fn of_an_object_that_is_dated_after_now_no_date_is_told_or_compared() {
    let site = Site::start().await;
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    for (created, is_told) in [(now - 1, true), (now + 3600, false)] {
        let stored = site.store_created("text/plain", created.to_string().into(), created).await;
        for _ in 0..3 {
            let whole = site.get(&stored, "/", &[]).await;
            assert_eq!((whole.status(), whole.field("last-modified").is_some()), (200, is_told), "{}", whole.head);
            let since = ["-H", "if-modified-since: Fri, 01 Jan 2100 00:00:00 GMT"];
            let status = site.get(&stored, "/", &since).await.status();
            assert_eq!(status, if is_told { 304 } else { 200 });
        }
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_why() {
    let site = Site::start().await;
    let stored = site.store("a.txt", "text/plain", b"hello".to_vec()).await;
    let zone = "evernear.example";
    for (host, path, arguments, status) in [
        (zone.to_owned(), "/", vec![], 200),
        (zone.to_owned(), "/x", vec![], 404),
        (format!("www.{zone}"), "/", vec![], 400),
        (format!("{}.{zone}", label_of_nothing()), "/", vec![], 404),
        ("example.com".to_owned(), "/", vec![], 421),
        (format!("{}.{zone}", stored.label), "/", vec!["-X", "DELETE"], 405),
        (format!("{}.{zone}", stored.label), "/", vec!["-d", "body"], 405),
        (format!("{}.{zone}", stored.label), "/", vec!["-X", "GET", "-d", "body"], 400),
        (format!("{}.{zone}", stored.label), "/a/b", vec![], 404),
        (format!("{}.localhost", stored.label), "/any.txt?x=1", vec![], 200),
        (format!("{}.{zone}", stored.label.to_uppercase()), "/", vec![], 200),
    ] {
        let answer = site.curl(&host, path, &arguments).await;
        assert_eq!(answer.status(), status, "{host}{path} {arguments:?}: {}", answer.head);
        assert!(answer.field("x-request-id").is_some() && answer.field("x-content-type-options").is_some());
    }
    let json = site.curl(&format!("www.{zone}"), "/", &["-H", "accept: application/json"]).await;
    assert!(
        json.body().starts_with(b"{\"error\":\"the address is not one of ours"),
        "{}",
        String::from_utf8_lossy(json.body())
    );
    // A good label in another zone, or none in that of this machine: not the label is to blame.
    for host in [format!("{}.cdn.localhost", stored.label), "cdn.localhost".into(), format!("{}.cdn", stored.label)] {
        let answer = site.curl(&host, "/", &["-H", "accept: application/json"]).await;
        let said = String::from_utf8_lossy(answer.body()).into_owned();
        assert!(answer.status() == 421 && said.contains("serves objects at LABEL.evernear.example"), "{host}: {said}");
    }
    site.stop().await;
}

//= https://www.rfc-editor.org/rfc/rfc9110#section-9.3.7
//= type=test
//# An OPTIONS request with an asterisk ("*") as the request target (Section 7.1) applies to the server in general rather
//# than to a specific resource.
#[tokio::test(flavor = "multi_thread")]
async fn who_asks_of_the_server_as_a_whole_is_told_which_methods_are_answered() {
    // In clear nothing else is answered.
    let (_dir, _, site) = https::start(true).await;
    let stored = site.store("a.txt", "text/plain", b"hello".to_vec()).await;
    let ask = ["-k", "-X", "OPTIONS", "--request-target", "*"];
    for host in ["evernear.example".to_owned(), "localhost".to_owned(), https::host(&stored)] {
        for (version, is_secure) in [
            ("--http1.0", false),
            ("--http1.1", false),
            ("--http2-prior-knowledge", false),
            ("--http1.1", true),
            ("--http2", true),
        ] {
            let ask = [&ask[..], &[version]].concat();
            let answer = match is_secure {
                false => site.curl(&host, "/", &ask).await,
                true => site.curl_secure(&host, "/", &ask).await,
            };
            let told = (answer.status(), answer.field("allow"), answer.body().len());
            assert_eq!(told, (204, Some("GET, HEAD, OPTIONS"), 0), "{host} {version}: {}", answer.head);
        }
    }
    assert_eq!(site.curl("example.com", "/", &ask).await.status(), 421);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_walked() {
    let site = Site::start().await;
    let page = site.store("index.html", "text/html; charset=utf-8", b"<img src=img/a.png>".to_vec()).await;
    let image = site.store("a.png", "image/png", noise_of(9, 300_000)).await;
    let images = site.store_directory(&[("a.png", &image, Kind::File), ("b c.png", &image, Kind::File)]).await;
    let root = site.store_directory(&[("index.html", &page, Kind::File), ("img", &images, Kind::Directory)]).await;
    let index = site.get(&root, "/", &[]).await;
    assert_eq!((index.field("content-type"), index.body()), (Some("text/html; charset=utf-8"), &page.bytes[..]));
    let found = site.get(&root, "/img/a.png", &[]).await;
    assert!(found.field("content-type") == Some("image/png") && found.body() == image.bytes, "{}", found.head);
    assert!(site.get(&root, "/img/b%20c.png", &[]).await.body() == image.bytes);
    for (path, location) in [("/img", "/img/"), ("/im%67?a=%67&token=b", "/img/?a=%67&token=b")] {
        let slash = site.get(&root, path, &[]).await;
        assert_eq!((slash.status(), slash.field("location")), (308, Some(location)), "{path}");
    }
    let listing = site.get(&root, "/img/", &[]).await;
    assert!(String::from_utf8_lossy(listing.body()).contains("href=\"./b%20c.png\""));
    for (path, status) in
        [("/x", 404), ("/img/x", 404), ("/img//a.png", 404), ("/img/a.png/x", 404), ("/../x", 404), ("/%zz", 400)]
    {
        assert_eq!(site.get(&root, path, &[]).await.status(), status, "{path}");
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_listing_comes_in_pages_that_lead_to_every_name_once() {
    let site = Site::start().await;
    let file = site.store("a.txt", "text/plain", b"hello".to_vec()).await;
    // What is escaped in a link and in markup, at the end of a page too.
    let names: Vec<String> = (0..1_300).map(|number| format!("{number:04} &\"<é>+%.txt")).collect();
    let entries: Vec<_> = names.iter().map(|name| (&**name, &file, Kind::File)).collect();
    let folder = site.store_directory(&entries).await;
    let (mut listed, mut pages, mut next) = (Vec::new(), 0, Some("?a=%26&token=x".to_owned()));
    while let Some(query) = next {
        let page = site.get(&folder, &format!("/{query}"), &[]).await;
        assert!(page.status() == 200 && page.body().len() < 200_000, "{} bytes", page.body().len());
        let head = site.get(&folder, &format!("/{query}"), &["-I", "-o", "/dev/null"]).await;
        assert_eq!(head.field("content-length"), Some(&*page.body().len().to_string()));
        let html = String::from_utf8(page.body().to_vec()).unwrap().replace("&amp;", "&");
        listed.extend(html.split("href=\"./").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()));
        next = html.split("rel=\"next\" href=\"").nth(1).map(|rest| rest.split('"').next().unwrap().to_owned());
        assert!(next.as_ref().is_none_or(|next| next.starts_with("?a=%26&token=x&behind=")), "{next:?}");
        pages += 1;
    }
    assert_eq!((pages, listed.len()), (3, names.len()));
    assert_eq!(site.get(&folder, &format!("/{}", listed[700]), &[]).await.body(), b"hello");
    listed.dedup();
    assert!(listed.len() == names.len() && listed.is_sorted());
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_on_the_way_are_looked_up_at_once() {
    let site = Site::start().await;
    let file = site.store("f.txt", "text/plain", b"deep".to_vec()).await;
    let mut top = site.store_directory(&[("f.txt", &file, Kind::File)]).await;
    let mut between = Vec::new();
    for name in ["e", "d", "c", "b", "a"] {
        between.push(top.sealed.locator);
        top = site.store_directory(&[(name, &top, Kind::Directory)]).await;
    }
    until("the feed has told of all", async || site.counter("evernear_edge_changes_total").await >= 7).await;
    site.weather.late(Duration::from_millis(200));
    let found = site.get(&top, "/a/b/c/d/e/f.txt", &[]).await;
    assert!(found.status() == 200 && found.body() == file.bytes, "{}", found.head);
    assert!(site.weather.were_asked_at_once(&between));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_directory_says_wrongly_of_what_lies_below_leads_nowhere_else() {
    let site = Site::start().await;
    let [right, wrong] = [&b"right"[..], b"wrong"].map(<[u8]>::to_vec);
    let (right, wrong) = (site.store("a", "text/plain", right).await, site.store("a", "text/plain", wrong).await);
    let lowest = site.store_directory(&[("f.txt", &right, Kind::File)]).await;
    let other = site.store_directory(&[("f.txt", &wrong, Kind::File)]).await;
    let middle = site.store_directory(&[("b", &lowest, Kind::Directory)]).await;
    until("the feed has told of all", async || site.counter("evernear_edge_changes_total").await >= 5).await;
    let untold = Capability::from_bytes([9; 32]);
    for lie in [other.sealed.capability.clone(), wrong.sealed.capability.clone(), untold.clone()] {
        let entry = Entry {
            capability: middle.sealed.capability.clone(),
            length: middle.bytes.len() as u64,
            mime: String::new(),
            kind: Kind::Directory,
            below: [("b".to_owned(), lie.clone()), ("none".to_owned(), lie)].into_iter().collect(),
            unknown: Default::default(),
        };
        let mut directory = Directory::default();
        directory.insert("a", entry).unwrap();
        let top = directory.encode().to_vec();
        let top = site.store_as("", "", top, Kind::Directory, &PolicyName::default()).await;
        assert_eq!(site.get(&top, "/a/b/f.txt", &[]).await.body(), b"right");
        assert_eq!(site.get(&top, "/a/none/f.txt", &[]).await.status(), 404);
    }
    assert!(!site.weather.was_asked(&untold.locator()), "nobody is asked for what the feed never told of");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_has_few_others_looked_up_before_the_walk_comes_to_them() {
    let site = Site::start().await;
    let empty = site.store_directory(&[]).await;
    let names = ["b", "c", "d", "e", "f", "g", "h"];
    let (mut below, mut locators, mut path) = (BTreeMap::new(), Vec::new(), String::new());
    for (number, name) in names.into_iter().enumerate() {
        let file = site.store("f.txt", "text/plain", vec![u8::try_from(number).unwrap()]).await;
        let directory = site.store_directory(&[("f.txt", &file, Kind::File)]).await;
        locators.push(directory.sealed.locator);
        path = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
        below.insert(path.clone(), directory.sealed.capability);
    }
    let mut top = Directory::default();
    let (capability, length) = (empty.sealed.capability.clone(), empty.bytes.len() as u64);
    let (mime, kind, unknown) = (String::new(), Kind::Directory, Default::default());
    top.insert("a", Entry { capability, length, mime, kind, below, unknown }).unwrap();
    let top = site.store_as("", "", top.encode().to_vec(), Kind::Directory, &PolicyName::default()).await;
    until("the feed has told of all", async || site.counter("evernear_edge_changes_total").await >= 16).await;
    site.weather.late(Duration::from_millis(200));
    assert_eq!(site.get(&top, &format!("/a/{path}/f.txt"), &[]).await.status(), 404);
    let asked: Vec<_> = locators.iter().map(|locator| site.weather.was_asked(locator)).collect();
    assert_eq!(asked, [true, true, true, true, false, false, false]);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_file_is_sent_for_what_every_host_is_asked_for_but_one_that_was_stored_as_it() {
    let site = Site::start().await;
    let film = site.store("film.mp4", "video/mp4", noise_of(1, 300_000)).await;
    let icon = site.store("favicon.ico", "image/x-icon", noise_of(2, 3_000)).await;
    let with = site.store_directory(&[("favicon.ico", &icon, Kind::File), ("a.mp4", &film, Kind::File)]).await;
    let without = site.store_directory(&[("a.mp4", &film, Kind::File)]).await;
    for stored in [&film, &without] {
        let absent = site.get(stored, "/favicon.ico", &[]).await;
        assert_eq!((absent.status(), absent.field("cache-control")), (404, Some("public, max-age=300")));
        assert!(absent.body().len() < 2_000, "{} bytes", absent.body().len());
    }
    for path in ["/robots.txt", "/apple-touch-icon.png", "/sitemap.xml", "/ads.txt"] {
        assert_eq!(site.get(&film, path, &[]).await.status(), 404, "{path}");
    }
    let robots = site.store("robots.txt", "text/plain", b"User-agent: *\n".to_vec()).await;
    assert_eq!(site.get(&robots, "/robots.txt", &[]).await.body(), robots.bytes);
    for stored in [&icon, &with] {
        let found = site.get(stored, "/favicon.ico", &[]).await;
        assert_eq!((found.status(), found.body()), (200, &icon.bytes[..]));
    }
    assert_eq!(site.get(&film, "/favicon.mp4", &[]).await.status(), 200, "any other name leads to it");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_cannot_be_finished_is_cut_and_never_short() {
    // Little is read ahead and nothing kept, so the middle has to be fetched while the storm is on.
    let site = Site::start().await;
    let stored = site.store("big.bin", "application/octet-stream", noise_of(6, 40 * MIB)).await;
    let ask = format!("GET / HTTP/1.1\r\nHost: {}.localhost\r\n\r\n", stored.label);
    let mut stream = TcpStream::connect(site.edge.http).await.unwrap();
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut first = vec![0; 4096];
    let begun = stream.read(&mut first).await.unwrap();
    assert!(first[..begun].starts_with(b"HTTP/1.1 200"));
    site.weather.lying();
    let mut rest = Vec::new();
    // An end or a reset are both honest; only the whole length would be a lie.
    let _ = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await.unwrap();
    assert!(begun + rest.len() < stored.bytes.len(), "{}", rest.len());
    assert_eq!(site.counter("evernear_edge_http_cut_total").await, 1);
    // What never begins gets an honest status instead.
    site.weather.lying();
    let other = {
        site.weather.fair();
        let other = site.store("other.bin", "application/octet-stream", noise_of(8, MIB)).await;
        site.weather.lying();
        other
    };
    let refused = site.get(&other, "/", &[]).await;
    assert_eq!((refused.status(), refused.field("retry-after")), (502, Some("5")), "{}", refused.head);
    assert_eq!(refused.field("proxy-status"), Some("\"edge-bru\"; error=http_response_incomplete"));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_smuggle_or_dawdle_are_refused_and_cut() {
    let site = Site::start().await;
    let stored = site.store("a.txt", "text/plain", b"hello".to_vec()).await;
    let host = format!("Host: {}.localhost\r\n", stored.label);
    let large = format!("GET / HTTP/1.1\r\n{host}X: {}\r\n\r\n", "x".repeat(20_000));
    for (ask, status) in [
        (format!("GET / HTTP/1.1\r\n{host}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "400"),
        (format!("GET / HTTP/1.1\r\n{host}Content-Length: 5\r\n\r\nhello"), "400"),
        (format!("GET / HTTP/1.1\r\n{host}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"), "400"),
        ("GET /index.html HTTP/1.1\r\nAccept: */*\r\n\r\n".to_owned(), "400"),
        (format!("GET / HTTP/1.1\r\n{host}Host: other\r\n\r\n"), "400"),
        (format!("GET / HTTP/1.1\r\n{host}Upgrade: h2c\r\nConnection: Upgrade, close\r\n\r\n"), "200"),
        (format!("POST / HTTP/1.1\r\n{host}Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n"), "405"),
        (large, "431"),
    ] {
        let answer = raw(&site, ask.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{ask:.120} -> {answer:.300}");
    }
    // A good connection stays open for the next request.
    let two = format!("GET / HTTP/1.1\r\n{host}\r\n");
    let mut stream = TcpStream::connect(site.edge.http).await.unwrap();
    for _ in 0..2 {
        stream.write_all(two.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"hello") {
            let mut piece = [0; 2048];
            let read = tokio::time::timeout(DEADLINE, stream.read(&mut piece)).await.unwrap().unwrap();
            assert!(read > 0, "closed after {}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&piece[..read]);
        }
    }
    // One silent connection, one whose header never ends.
    let short = site.beside(|config| config.http.header_seconds = 1).await;
    let mut silent = TcpStream::connect(short.edge.http).await.unwrap();
    let mut endless = TcpStream::connect(short.edge.http).await.unwrap();
    endless.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ").await.unwrap();
    for stream in [&mut silent, &mut endless] {
        let mut rest = Vec::new();
        let _ =
            tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("the connection was not closed");
    }
    short.stop().await;
    site.stop().await;
}

//= https://www.rfc-editor.org/rfc/rfc9112#section-9.6
//= type=test
//# To avoid the TCP reset problem, servers typically close a connection in stages.
#[tokio::test(flavor = "multi_thread")]
async fn who_sends_all_of_what_nobody_takes_is_told_so_after_it() {
    let site = Site::start().await;
    for (bytes, pause) in [(20 * MIB, 0), (MIB, 10)] {
        let mut stream = TcpStream::connect(site.edge.http).await.unwrap();
        let head = format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {bytes}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..bytes / 32_768 {
            stream.write_all(&[7; 32_768]).await.expect("it is read to its end");
            sleep(Duration::from_millis(pause)).await;
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("no reset");
        assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_counted_among_the_answers() {
    let site = Site::start().await;
    for (number, wrong) in (1..).zip(["GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", "\x16\x03\x01\r\n\r\n"]) {
        assert!(raw(&site, wrong.as_bytes()).await.starts_with("HTTP/1.1 400"), "{wrong:?}");
        let line = format!("http_answers_total{{status=\"400\",cache=\"none\"}} {number}\n");
        until("it is counted", async || site.metrics().await.contains(&line)).await;
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_closes_its_side_once_it_has_asked_gets_all_of_what_is_in_memory() {
    let site = Site::start().await;
    let large = site.store("a.bin", "application/octet-stream", noise_of(1, 3 * MIB)).await;
    let small = site.store("a.txt", "text/plain", b"hello".to_vec()).await;
    for stored in [&large, &small] {
        assert!(site.get(stored, "/", &[]).await.body() == stored.bytes);
        // The last time the small one is ready.
        for time in 0..8 {
            let mut stream = TcpStream::connect(site.edge.http).await.unwrap();
            let ask = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", https::host(stored));
            stream.write_all(ask.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = Vec::new();
            let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await;
            read.expect("the connection was not closed").unwrap();
            assert!(answer.ends_with(&stored.bytes), "time {time}: {} bytes", answer.len());
        }
    }
    site.stop().await;
}

/// Takes over 10 s, because of how late records come.
#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_while_an_answer_is_made_is_waited_for_no_more_and_what_was_begun_is_for_the_next() {
    const LATE: Duration = Duration::from_secs(3);
    let (_dir, https, site) = https::start(false).await;
    let trusting = TlsConnector::from(Arc::new(https::trusting(&https, b"http/1.1")));
    // The first and the last are read by the codec of our own; that of HTTP/1.0 is left to pingora.
    for (times, (version, is_secure)) in (1..).zip([("1.1", false), ("1.0", false), ("1.1", true)]) {
        let stored = site.store("a.txt", "text/plain", format!("hello {times}").into_bytes()).await;
        let host = https::host(&stored);
        site.weather.late(LATE);
        let ask = format!("GET / HTTP/{version}\r\nHost: {host}\r\n\r\nGET /next HTTP/1.1\r\n");
        let address = if is_secure { site.edge.https.unwrap() } else { site.edge.http };
        let stream = TcpStream::connect(address).await.unwrap();
        let mut stream: Box<dyn Stream> = match is_secure {
            true => Box::new(trusting.connect(host.try_into().unwrap(), stream).await.unwrap()),
            false => Box::new(stream),
        };
        stream.write_all(ask.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        until("the look-up", async || site.weather.was_asked(&stored.sealed.locator)).await;
        let begun = Instant::now();
        drop(stream);
        until("a free seat", async || site.counter("evernear_edge_http_connections").await == 0).await;
        assert!(begun.elapsed() < LATE / 2, "{version}, {is_secure}: {:?}", begun.elapsed());
        let left = format!("evernear_edge_http_answers_total{{status=\"499\",cache=\"none\"}} {times}");
        assert!(site.metrics().await.contains(&left), "{version}, {is_secure}: {}", site.metrics().await);
        sleep((LATE + LATE / 2).saturating_sub(begun.elapsed())).await;
        site.weather.down();
        assert!(site.get(&stored, "/", &[]).await.body() == stored.bytes, "no origin need be asked again");
        site.weather.fair();
    }
    site.stop().await;
}

/// Sends bytes as they are and reads until the edge closes.
pub(crate) async fn raw(site: &Site, ask: &[u8]) -> String {
    let mut stream = TcpStream::connect(site.edge.http).await.unwrap();
    stream.write_all(ask).await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is as good as an end: what we sent beyond it was not read.
    let _ =
        tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("the connection was not closed");
    String::from_utf8_lossy(&answer).into_owned()
}
