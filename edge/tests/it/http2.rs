//! What HTTP/2 alone has: frames by a client that says whatever it is told to, and takes as little as it is told to.

use bytes::Bytes;
use format::{Kind, PolicyName};
use futures::future::join_all;
use h2::client::{self, ResponseFuture, SendRequest};
use http::{Method, Request, Response, StatusCode, Version};
use testing::{Call, noise_of, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::{Duration, Instant, sleep, timeout},
};

use crate::{
    guest::{MEMORY, component_of_world},
    policy::publish_component,
    site::{DEADLINE, Site, Stored},
};

/// Streams at one time, as the edge allows.
const STREAMS: usize = 64;

fn host(stored: &Stored) -> String {
    format!("{}.evernear.example", stored.label)
}

/// A connection in clear, and what drives it.
async fn connect(site: &Site, window: u32) -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>) {
    connect_wide(site, window, window).await
}

/// The same, with a window for each stream and one for all of them.
async fn connect_wide(
    site: &Site,
    window: u32,
    of_connection: u32,
) -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>) {
    let stream = TcpStream::connect(site.edge.http).await.unwrap();
    let mut builder = client::Builder::new();
    builder.initial_window_size(window).initial_connection_window_size(of_connection).max_concurrent_streams(0);
    let (requests, connection) = builder.handshake(stream).await.unwrap();
    (requests, tokio::spawn(connection))
}

fn request(host: &str) -> http::request::Builder {
    Request::builder().version(Version::HTTP_2).uri(format!("http://{host}/"))
}

/// Asks, and returns the status and all of the content.
async fn ask(requests: &SendRequest<Bytes>, request: Request<()>) -> (StatusCode, Vec<u8>) {
    let answered = async {
        let mut requests = requests.clone().ready().await.unwrap();
        let (answer, _) = requests.send_request(request, true).unwrap();
        let (head, mut content) = answer.await.unwrap().into_parts();
        let mut all = Vec::new();
        while let Some(piece) = content.data().await {
            let piece = piece.unwrap();
            content.flow_control().release_capacity(piece.len()).unwrap();
            all.extend_from_slice(&piece);
        }
        (head.status, all)
    };
    timeout(DEADLINE, answered).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_names_two_hosts_is_refused_and_the_next_one_is_not() {
    let site = Site::start().await;
    let stored = site.store("a.txt", "text/plain", b"hello".to_vec()).await;
    let host = host(&stored);
    let (requests, _driver) = connect(&site, 65_535).await;
    let get = |host: &str| request(host).body(()).unwrap();
    for (wrong, status) in [
        (request(&host).header("host", "other.evernear.example").body(()).unwrap(), 400),
        (get(&format!("user@{host}")), 400),
        (request(&host).method(Method::POST).body(()).unwrap(), 405),
        (request(&host).header("x", "x".repeat(20_000)).body(()).unwrap(), 431),
    ] {
        assert_eq!(ask(&requests, wrong).await.0.as_u16(), status);
        let told_twice = |spelt: &str| request(&host).header("host", spelt).body(()).unwrap();
        // Twice, for the second may be ready.
        for _ in 0..2 {
            for good in
                [get(&host), told_twice(&host), told_twice(&host.to_uppercase()), told_twice(&format!("{host}:80"))]
            {
                assert_eq!(ask(&requests, good).await, (StatusCode::OK, b"hello".to_vec()));
            }
        }
        assert_eq!(ask(&requests, told_twice(&format!("{host}:443"))).await.0, 400);
    }
    // The end of a content is not waited for.
    let mut with_content = requests.clone().ready().await.unwrap();
    let (answer, mut content) = with_content.send_request(get(&host), false).unwrap();
    content.send_data(Bytes::from_static(b"early"), false).unwrap();
    assert_eq!(timeout(DEADLINE, answer).await.unwrap().unwrap().status(), 400);
    let _ = content.send_data(Bytes::from_static(b"late"), true);
    assert_eq!(ask(&requests, get(&host)).await.0, StatusCode::OK);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_may_end_in_a_frame_without_content_but_not_too_late() {
    let site = Site::with(|config| config.http.header_seconds = 1, vec![]).await;
    let stored = site.store("a.txt", "text/plain", b"hello".to_vec()).await;
    let (requests, _driver) = connect(&site, 65_535).await;
    for (ends, status) in [(true, 200), (false, 400)] {
        let get = request(&host(&stored)).body(()).unwrap();
        let (answer, mut content) = requests.clone().ready().await.unwrap().send_request(get, false).unwrap();
        for _ in 0..3 {
            // The frame before has come by itself.
            sleep(Duration::from_millis(50)).await;
            content.send_data(Bytes::new(), false).unwrap();
        }
        if ends {
            content.send_data(Bytes::new(), true).unwrap();
        }
        assert_eq!(timeout(DEADLINE, answer).await.unwrap().unwrap().status(), status);
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_nothing_is_told_to_ask_no_more_and_what_is_under_way_is_answered() {
    let site = Site::with(|config| config.http.write_seconds = 1, vec![]).await;
    let stored = site.store("a.bin", "application/octet-stream", noise_of(1, 300_000)).await;
    let unknown = site.store("b.txt", "text/plain", b"hello".to_vec()).await;
    let (requests, _driver) = connect(&site, 10).await;
    let head = |stored: &Stored| request(&host(stored)).method(Method::HEAD).body(()).unwrap();
    assert_eq!(ask(&requests, head(&stored)).await.0, StatusCode::OK);
    site.weather.late(Duration::from_secs(4));
    let stopped = async {
        let get = request(&host(&stored)).body(()).unwrap();
        let (answer, _) = requests.clone().ready().await.unwrap().send_request(get, true).unwrap();
        let _answer = answer.await.unwrap();
        sleep(Duration::from_millis(2_500)).await;
        assert!(requests.clone().ready().await.is_err(), "another may be asked for");
    };
    let (slow, ()) = tokio::join!(ask(&requests, head(&unknown)), stopped);
    assert_eq!(slow.0, StatusCode::OK);
    site.stop().await;
}

/// How a connection begins, with settings that change nothing.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// Types of frames.
const DATA: u8 = 0;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;

/// Reads frames to the end of a connection, and returns their types and the bytes in them.
async fn frames(stream: &mut TcpStream) -> Vec<(u8, usize)> {
    let (mut all, mut frames) = (Vec::new(), Vec::new());
    let _ = timeout(DEADLINE, stream.read_to_end(&mut all)).await.expect("the connection was not closed");
    let mut rest = &all[..];
    while let [high, middle, low, kind, ..] = rest {
        let bytes = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
        frames.push((*kind, bytes));
        rest = rest.get(9 + bytes..).unwrap_or_default();
    }
    frames
}

/// A GET of the root over a connection in clear, its fields as RFC 7541 has them in appendix A.
fn get(host: &str, stream: u32) -> Vec<u8> {
    let fields = [&[0x82, 0x86, 0x84, 0x01, u8::try_from(host.len()).unwrap()], host.as_bytes()].concat();
    let [.., length] = fields.len().to_be_bytes();
    [&[0, 0, length, 1, 5][..], &stream.to_be_bytes(), &fields].concat()
}

/// The same by a viewer that takes zstd.
fn get_coded(host: &str, stream: u32) -> Vec<u8> {
    let mut frame = [&get(host, stream)[..], &[0x0f, 1, 4], b"zstd"].concat();
    frame[2] += 7;
    frame
}

/// Takes over 10 s, because of what the system holds of answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_rests_for_longer_than_a_connection_may_be_idle_loses_no_answer() {
    // More than the system has room for.
    const REQUESTS: u32 = 400;
    const BYTES: usize = 16_000;
    let short = |config: &mut edge::Config| (config.http.workers, config.http.idle_seconds) = (Some(1), 1);
    let site = Site::with(short, vec![]).await;
    let small = site.store("cat.jpg", "image/jpeg", noise_of(1, BYTES)).await;
    // Then it is ready, and nobody at the edge waits until it is taken.
    let (requests, _driver) = connect(&site, 65_535).await;
    for _ in 0..4 {
        assert_eq!(ask(&requests, request(&host(&small)).body(()).unwrap()).await.1.len(), BYTES);
    }
    let mut stream = TcpStream::connect(site.edge.http).await.unwrap();
    // A window of the connection that is wide open.
    stream.write_all(&[PREFACE, &[0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0, 0, 0]].concat()).await.unwrap();
    for number in 0..REQUESTS {
        stream.write_all(&get(&host(&small), 2 * number + 1)).await.unwrap();
        if number % 20 == 0 {
            sleep(Duration::from_millis(20)).await;
        }
    }
    sleep(Duration::from_secs(4)).await;
    // Those beyond what may be under way at a time are refused.
    let frames = frames(&mut stream).await;
    let content: usize = frames.iter().filter(|(kind, _)| *kind == DATA).map(|(_, bytes)| bytes).sum();
    let refused = frames.iter().filter(|(kind, _)| *kind == RST_STREAM).count();
    assert_eq!(content + refused * BYTES, REQUESTS as usize * BYTES, "{refused} refused");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_any_request_gives_way_when_the_door_is_full_and_is_told_so() {
    let change = |config: &mut edge::Config| (config.http.connections_max, config.http.header_seconds) = (2, 60);
    let site = Site::with(change, vec![]).await;
    let stored = site.store("a.txt", "text/plain", b"hello".to_vec()).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(site.edge.http).await.unwrap();
        stream.write_all(PREFACE).await.unwrap();
        // Its settings: from now on the edge waits for a request.
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let mut settings = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
        stream.read_exact(&mut settings).await.unwrap();
        open.push(stream);
    }
    until("room for a third", async || site.get(&stored, "/", &[]).await.head.starts_with("HTTP/1.1 200")).await;
    // Which of the two was seen to wait first is up to the workers.
    let (mut other, mut one) = (open.remove(1), open.remove(0));
    let frames = tokio::select! {
        frames = frames(&mut one) => frames,
        frames = frames(&mut other) => frames,
    };
    assert_eq!(frames.last().map(|(kind, _)| *kind), Some(GOAWAY));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_names_the_host_twice_or_ends_a_path_with_a_question_mark_is_given_what_is_ready() {
    let site = Site::with(|config| config.http.workers = Some(1), vec![]).await;
    let (requests, _driver) = connect(&site, 65_535).await;
    for (path, is_told_twice) in [("/", true), ("/x?", false), ("/x?", true)] {
        let text = format!("{path} {is_told_twice}");
        let stored = site.store("a.txt", "text/plain", text.into_bytes()).await;
        let host = host(&stored);
        // An answer that was made says how long its parts took.
        let is_ready = async || {
            let mut request = Request::builder().version(Version::HTTP_2).uri(format!("http://{host}{path}"));
            if is_told_twice {
                request = request.header("host", &host);
            }
            let mut requests = requests.clone().ready().await.unwrap();
            let (answer, _) = requests.send_request(request.body(()).unwrap(), true).unwrap();
            let answer = timeout(DEADLINE, answer).await.unwrap().unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            !answer.headers().contains_key("server-timing")
        };
        until(&format!("a ready answer to {path}, {is_told_twice}"), is_ready).await;
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_of_a_viewer_with_small_windows_are_exact_to_the_last_byte() {
    let site = Site::start().await;
    let sizes = [0, 1, 16_384, 60_000, 100_000, 300_000];
    let mut all = Vec::new();
    for (number, bytes) in sizes.iter().enumerate() {
        all.push(site.store("a.bin", "application/octet-stream", noise_of(number as u64, *bytes)).await);
    }
    for window in [1_000, 65_535, 1 << 20] {
        let (requests, _driver) = connect(&site, window).await;
        // The second time they are ready.
        for _ in 0..2 {
            let asked = (0..STREAMS).map(|at| &all[at % all.len()]).map(|stored| {
                let request = request(&host(stored)).body(()).unwrap();
                let requests = &requests;
                async move { (ask(requests, request).await, stored) }
            });
            for ((status, content), stored) in join_all(asked).await {
                assert!(status == 200 && content == stored.bytes, "{window}: {} bytes", stored.bytes.len());
            }
        }
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_with_tiny_windows_is_written_to_as_they_open() {
    let site = Site::start().await;
    let stored = site.store("a.bin", "application/octet-stream", noise_of(1, 40_000)).await;
    let (requests, _driver) = connect(&site, 100).await;
    let get = request(&host(&stored)).body(()).unwrap();
    // 400 times; a pause each time would be 40 s.
    let (status, content) = timeout(Duration::from_secs(15), ask(&requests, get)).await.expect("each window waits");
    assert!(status == 200 && content == stored.bytes, "{} bytes", content.len());
    site.stop().await;
}

/// Takes so much content of a connection, opens its window as that comes, and returns the bytes of each frame.
async fn taken(stream: &mut TcpStream, content: usize) -> Vec<usize> {
    const WINDOW: usize = 65_536;
    let (mut read, mut frames, mut opened) = (Vec::new(), Vec::new(), 0);
    while frames.iter().sum::<usize>() < content {
        assert!(timeout(DEADLINE, stream.read_buf(&mut read)).await.expect("no more comes").unwrap() > 0);
        while let [high, middle, low, kind, ..] = read[..] {
            let bytes = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            if read.len() < 9 + bytes {
                break;
            }
            if kind == DATA {
                frames.push(bytes);
            }
            read.drain(..9 + bytes);
        }
        while opened + WINDOW <= frames.iter().sum() {
            opened += WINDOW;
            stream.write_all(&[0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 1, 0, 0]).await.unwrap();
        }
    }
    frames
}

/// Asks forty times on a connection whose streams have wide windows, and one of 65,536 bytes for all of them.
async fn forty_asked(site: &Site, stored: &Stored) -> TcpStream {
    let mut stream = TcpStream::connect(site.edge.http).await.unwrap();
    let settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0x10, 0, 0];
    let window = [0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    stream.write_all(&[PREFACE, &settings, &window].concat()).await.unwrap();
    for number in 0..40 {
        stream.write_all(&get(&host(stored), 2 * number + 1)).await.unwrap();
    }
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_that_share_a_window_get_no_crumbs_of_it() {
    let site = Site::with(|config| config.http.workers = Some(1), vec![]).await;
    let film = site.store("film.mp4", "video/mp4", noise_of(1, 1_100_000)).await;
    assert!(site.get(&film, "/", &[]).await.body() == film.bytes, "it is held");
    let mut stream = forty_asked(&site, &film).await;
    let frames = taken(&mut stream, 4 << 20).await;
    let crumbs = frames.iter().filter(|bytes| **bytes < 1024).count();
    assert_eq!(crumbs, 0, "of {} frames", frames.len());
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_room_in_hand_keeps_no_window_from_what_others_write() {
    let site = Site::with(|config| config.http.workers = Some(1), vec![]).await;
    let film = site.store("film.mp4", "video/mp4", noise_of(1, 1_100_000)).await;
    let text = data_encoding::HEXLOWER.encode(&noise_of(2, 1_000_000));
    let text = site.store("a.txt", "text/plain", text.into_bytes()).await;
    for stored in [&film, &text] {
        assert!(site.get(stored, "/", &[]).await.body() == stored.bytes, "it is held");
    }
    let mut stream = forty_asked(&site, &film).await;
    // What is made of them is in hand until it is taken, and nobody puts it back.
    for number in 40..56 {
        stream.write_all(&get_coded(&host(&text), 2 * number + 1)).await.unwrap();
    }
    taken(&mut stream, 24 << 20).await;
    site.stop().await;
}

/// Has a viewer who takes nothing ask for many things at once, and waits until the edge has read so many blocks for
/// that connection, and no more.
async fn reads_no_more_than(held: u64, site: &Site, asked: &[Stored]) -> Vec<ResponseFuture> {
    let (requests, _driver) = connect(site, 10).await;
    let read = async || site.counter("evernear_edge_block_misses_total").await;
    let before = read().await;
    let mut answers = Vec::new();
    for stored in asked {
        let get = request(&host(stored)).body(()).unwrap();
        answers.push(requests.clone().ready().await.unwrap().send_request(get, true).unwrap().0);
    }
    until("as many blocks as may be held", async || read().await >= before + held).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(read().await - before, held);
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn for_a_viewer_that_takes_nothing_one_block_of_each_answer_is_read() {
    let site = Site::start().await;
    let mut asked = Vec::new();
    for number in 0..40 {
        asked.push(site.store("a.bin", "application/octet-stream", noise_of(number, 1_100_000)).await);
    }
    drop(reads_no_more_than(asked.len() as u64, &site, &asked).await);
    site.stop().await;
}

/// A policy that serves everybody and lets nothing lie at an edge.
pub(crate) fn kept_by_nobody() -> Vec<u8> {
    let wat = format!(
        r#"(module {MEMORY}
            (func (export "evernear:policy/serve@1.0.0#serve") (result i32) i32.const 512)
            (func (export "evernear:policy/hold@1.0.0#hold") (result i32) i32.const 0))"#
    );
    component_of_world(&wat, "serve-hold")
}

/// Stores films that no edge keeps. The four blocks of a stripe are read together.
async fn unkept(site: &Site, count: u64) -> Vec<Stored> {
    let name: PolicyName = "kept-by-nobody".parse().unwrap();
    publish_component(site, &kept_by_nobody(), &name, 1, "").await;
    let mut stored = Vec::new();
    for number in 0..count {
        stored.push(site.store_as("a.bin", "video/mp4", noise_of(number, 1_100_000), Kind::File, &name).await);
    }
    stored
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_nobody_may_keep_no_more_is_held_for_one_connection() {
    let site = Site::start().await;
    let asked = unkept(&site, 16).await;
    let mut answers = reads_no_more_than(8, &site, &asked).await;
    // Whoever leaves makes room for those who wait. Which of them had it is up to how their records came.
    let read = async || site.counter("evernear_edge_block_misses_total").await;
    let before = read().await;
    while read().await == before {
        drop(answers.remove(0));
        sleep(Duration::from_millis(100)).await;
    }
    drop(answers);
    site.stop().await;
}

/// Asks for all of it, at an edge that has something else to wait for.
async fn comes_at_once(requests: &SendRequest<Bytes>, stored: &Stored) {
    let get = request(&host(stored)).body(()).unwrap();
    let (status, content) = timeout(Duration::from_secs(3), ask(requests, get)).await.expect("it waits for others");
    assert!(status == 200 && content == stored.bytes, "{status}, {} bytes", content.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_whose_viewers_take_nothing_keep_no_other_one_of_the_connection_waiting() {
    const STALLED: usize = 32;
    let site = Site::start().await;
    let film = site.store("film.mp4", "video/mp4", noise_of(1, 1_100_000)).await;
    let page = site.store("a.html", "text/html", noise_of(2, 20_000)).await;
    let picture = site.store("cat.jpg", "image/jpeg", noise_of(3, 700_000)).await;
    let (requests, _driver) = connect_wide(&site, 16 * 1024, 64 << 20).await;
    comes_at_once(&requests, &film).await;
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        let get = request(&host(&film)).body(()).unwrap();
        let (answer, _) = requests.clone().ready().await.unwrap().send_request(get, true).unwrap();
        let answer = timeout(DEADLINE, answer).await.unwrap().unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        stalled.push(answer);
    }
    sleep(Duration::from_millis(500)).await;
    // The first time they are read; in the end the page is ready.
    for _ in 0..4 {
        comes_at_once(&requests, &page).await;
        comes_at_once(&requests, &picture).await;
    }
    // They are there still, and exact.
    let all = rest(stalled.pop().unwrap()).await.unwrap();
    assert!(all == film.bytes, "{} bytes", all.len());
    site.stop().await;
}

/// Asks, and returns the answer to come.
async fn begun(requests: &SendRequest<Bytes>, stored: &Stored) -> ResponseFuture {
    let get = request(&host(stored)).body(()).unwrap();
    requests.clone().ready().await.unwrap().send_request(get, true).unwrap().0
}

/// Takes all of what is left of an answer.
async fn rest(answer: Response<h2::RecvStream>) -> Result<Vec<u8>, h2::Error> {
    let (mut content, mut all) = (answer.into_body(), Vec::new());
    while let Some(piece) = timeout(DEADLINE, content.data()).await.expect("no more comes") {
        let piece = piece?;
        content.flow_control().release_capacity(piece.len())?;
        all.extend_from_slice(&piece);
    }
    Ok(all)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_holds_nothing_gives_way_to_nobody_who_waits_for_room() {
    const BYTES: usize = 12_000;
    let site = Site::with(|config| config.http.write_seconds = 2, vec![]).await;
    let page = site.store("a.html", "text/html", noise_of(1, BYTES)).await;
    let film = site.store("film.mp4", "video/mp4", noise_of(2, 1_100_000)).await;
    // Of three that nobody may keep two have all the room.
    let unkept = unkept(&site, 3).await;
    let (requests, _driver) = connect_wide(&site, 4096, 64 << 20).await;
    let small = timeout(DEADLINE, begun(&requests, &page).await).await.unwrap().unwrap();
    let mut waiting = Vec::new();
    for stored in &unkept {
        waiting.push(begun(&requests, stored).await);
    }
    // Its viewer takes of another one meanwhile, for longer than two turns.
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(5) {
        let get = request(&host(&film)).body(()).unwrap();
        assert!(ask(&requests, get).await.1 == film.bytes);
    }
    assert_eq!(rest(small).await.expect("it gave way").len(), BYTES);
    drop(waiting);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_origin_is_slow_to_send_keeps_nothing_waiting_that_is_ready() {
    const COLD: u64 = 32;
    let site = Site::with(|config| config.http.workers = Some(1), vec![]).await;
    let picture = site.store("cat.jpg", "image/jpeg", noise_of(1, 200_000)).await;
    let (requests, _driver) = connect_wide(&site, 1 << 20, 64 << 20).await;
    for _ in 0..4 {
        comes_at_once(&requests, &picture).await;
    }
    let mut cold = Vec::new();
    for number in 0..COLD {
        let stored = site.store("a.bin", "application/octet-stream", noise_of(2 + number, 300_000)).await;
        let head = request(&host(&stored)).method(Method::HEAD).body(()).unwrap();
        assert_eq!(ask(&requests, head).await.0, StatusCode::OK, "its record is here");
        cold.push(stored);
    }
    site.weather.late_with(Call::ReadShard, Duration::from_secs(6));
    let mut answers = Vec::new();
    for stored in &cold {
        let get = request(&host(stored)).body(()).unwrap();
        answers.push(requests.clone().ready().await.unwrap().send_request(get, true).unwrap().0);
    }
    sleep(Duration::from_millis(500)).await;
    for _ in 0..2 {
        comes_at_once(&requests, &picture).await;
    }
    site.weather.fair();
    drop(answers);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_reset_gives_its_place_to_another() {
    let site = Site::start().await;
    let stored = site.store("a.bin", "application/octet-stream", noise_of(1, 300_000)).await;
    // Nothing is taken of them.
    let (mut requests, _driver) = connect(&site, 10).await;
    // Of more that come and go at once h2 itself thinks ill.
    for _ in 0..3 * STREAMS {
        sleep(Duration::from_millis(2)).await;
        requests = timeout(DEADLINE, requests.ready()).await.unwrap().unwrap();
        let (answer, mut stream) = requests.send_request(request(&host(&stored)).body(()).unwrap(), true).unwrap();
        drop(answer);
        stream.send_reset(h2::Reason::CANCEL);
    }
    let head = request(&host(&stored)).method(Method::HEAD).body(()).unwrap();
    assert_eq!(ask(&requests, head).await, (StatusCode::OK, Vec::new()));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_in_clear_speaks_what_its_first_bytes_say() {
    let site = Site::start().await;
    let stored = site.store("a.txt", "text/plain", b"hello".to_vec()).await;
    // The preface comes in pieces; settings without any follow it.
    let mut stream = TcpStream::connect(site.edge.http).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in [&b"P"[..], b"RI", b" * HTTP/2.0\r\n\r", b"\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"] {
        stream.write_all(piece).await.unwrap();
        sleep(Duration::from_millis(20)).await;
    }
    let mut frame = [0; 9];
    timeout(DEADLINE, stream.read_exact(&mut frame)).await.unwrap().unwrap();
    assert_eq!((frame[3], &frame[5..]), (4, &[0; 4][..]), "settings of the connection");
    for method in ["P", "PUT", "PROPFIND", "PRI"] {
        let mut stream = TcpStream::connect(site.edge.http).await.unwrap();
        let ask = format!("{method} / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", host(&stored));
        let (first, rest) = ask.split_at(1);
        stream.write_all(first.as_bytes()).await.unwrap();
        sleep(Duration::from_millis(20)).await;
        stream.write_all(rest.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.unwrap();
        let says = String::from_utf8_lossy(&answer);
        // PRI is no method of HTTP/1.1.
        assert!(says.starts_with("HTTP/1.1 405") || method == "PRI", "{method}: {says}");
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_ends_and_one_that_ends_says_so() {
    let site = Site::start().await;
    let short = site.beside(|config| config.http.header_seconds = 1).await;
    let stored = site.store("a.txt", "text/plain", b"hello".to_vec()).await;
    // Without a preface, and with one but without a request.
    let mut begun = TcpStream::connect(short.edge.http).await.unwrap();
    begun.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    let _ = timeout(DEADLINE, begun.read_to_end(&mut Vec::new())).await.expect("the connection was not closed");
    let (_requests, driver) = connect(&short, 65_535).await;
    let ended = timeout(DEADLINE, driver).await.expect("the connection was not closed").unwrap();
    assert!(ended.is_ok(), "told by GOAWAY: {ended:?}");
    short.stop().await;

    let other = site.beside(|_| {}).await;
    let (requests, driver) = connect(&other, 65_535).await;
    let get = request(&host(&stored)).body(()).unwrap();
    until("an answer", async || ask(&requests, get.clone()).await.0 == 200).await;
    other.stop().await;
    let ended = timeout(DEADLINE, driver).await.expect("the connection was not closed").unwrap();
    assert!(ended.is_ok(), "{ended:?}");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_on_which_nothing_is_asked_give_way_when_the_door_is_full() {
    let site = Site::with(|config| config.http.connections_max = 2, vec![]).await;
    let stored = site.store("a.txt", "text/plain", b"hello".to_vec()).await;
    let (one, two) = (connect(&site, 65_535).await, connect(&site, 65_535).await);
    for (requests, _) in [&one, &two] {
        assert_eq!(ask(requests, request(&host(&stored)).body(()).unwrap()).await.0, StatusCode::OK);
    }
    until("room for a third", async || site.get(&stored, "/", &[]).await.head.starts_with("HTTP/1.1 200")).await;
    let given_up = site.counter("evernear_edge_http_connections_given_up_total").await;
    assert!(given_up >= 1, "{given_up}");
    drop((one, two));
    site.stop().await;
}
