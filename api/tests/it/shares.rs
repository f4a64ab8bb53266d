//! What one caller cannot take from others: connections, requests, disk, time.

use std::time::Duration;

use api::{Scope, Store};
use testing::{noise, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::{
    cars::{Split, upload},
    client::send,
    service::Service,
    tus::{create, patch, tus},
};

const SOON: Duration = Duration::from_secs(20);

/// Begins an upload from an address of this machine, of which most never comes.
async fn begin(service: &Service, from: &str, token: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(from.parse().unwrap()).unwrap();
    let mut stream = socket.connect(service.address).await.unwrap();
    let head = format!(
        "PUT /files/a HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\ncontent-length: 1000000\r\n\r\nabc"
    );
    // One that is refused may be gone already.
    let _ = stream.write_all(head.as_bytes()).await;
    stream
}

/// Reads until the other side ends, and returns the beginning of it.
async fn read(mut stream: TcpStream) -> String {
    let mut all = Vec::new();
    // A reset is an end too.
    let _ = timeout(SOON, stream.read_to_end(&mut all)).await.expect("it ends");
    String::from_utf8_lossy(&all).into_owned()
}

async fn are_under_way(service: &Service, count: usize) {
    until("they are under way", async || {
        let store = Store::open(&service.state).await.unwrap();
        let open = store.open_batches().await.unwrap();
        store.close().await;
        open.len() == count
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_half_of_the_connections_and_a_token_as_many_requests() {
    let service = Service::with(|config| config.connections_max = 4).await;
    let [one, other] = ["one", "other"];
    let one = service.token(one, Scope::Write, |_| {}).await;
    let other = service.token(other, Scope::Write, |_| {}).await;
    let (local, elsewhere) = ("127.0.0.1:0", "127.0.0.2:0");
    let held = [begin(&service, local, &one).await, begin(&service, local, &one).await];
    are_under_way(&service, 2).await;
    let refused = read(begin(&service, local, &other).await).await;
    assert!(refused.is_empty() || refused.starts_with("HTTP/1.1 503 "), "{refused}");
    let refused = read(begin(&service, elsewhere, &one).await).await;
    assert!(refused.starts_with("HTTP/1.1 429 ") && refused.contains("2 requests of this token"), "{refused}");
    let _third = begin(&service, elsewhere, &other).await;
    are_under_way(&service, 3).await;
    drop(held);
    are_under_way(&service, 1).await;
    let begins = async || {
        let held = begin(&service, local, &one).await;
        let mut some = [0; 1];
        // Nobody answers what is not whole.
        let is_held = timeout(Duration::from_millis(200), held.peek(&mut some)).await.is_err();
        drop(held);
        is_held
    };
    until("there is room again", begins).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_do_not_end_and_connections_that_idle_are_ended() {
    let service = Service::with(|config| config.idle_seconds = 1).await;
    let mut slow = TcpStream::connect(service.address).await.unwrap();
    slow.write_all(b"GET /version HTTP/1.1\r\nhost: ").await.unwrap();
    let mut idle = TcpStream::connect(service.address).await.unwrap();
    idle.write_all(b"GET /version HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let silent = TcpStream::connect(service.address).await.unwrap();
    for (stream, is_answered) in [(slow, false), (idle, true), (silent, false)] {
        assert_eq!(read(stream).await.starts_with("HTTP/1.1 200 "), is_answered);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_takes_are_not_held_for_long() {
    let service = Service::with(|config| config.idle_seconds = 1).await;
    let (mut from, mut to) = TcpStream::connect(service.address).await.unwrap().into_split();
    let asked = 5_000;
    let asking = tokio::spawn(async move {
        for _ in 0..asked {
            if to.write_all(b"GET /openapi.json HTTP/1.1\r\nhost: a\r\n\r\n").await.is_err() {
                return;
            }
        }
    });
    // Whoever reads nothing for so long finds less than all of it: the rest was given up.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let (mut some, mut bytes, mut answers) = (vec![0; 1 << 20], 0, 0);
    while let Ok(count @ 1..) = timeout(SOON, from.read(&mut some)).await.expect("it ends") {
        bytes += count;
        answers += some[..count].windows(12).filter(|it| *it == b"HTTP/1.1 200").count();
    }
    assert!(answers > 0 && answers < asked, "{answers} answers, {bytes} bytes");
    timeout(SOON, asking).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_ended_stores_nothing_more() {
    let service = Service::start().await;
    let token = service.token("laptop", Scope::Write, |_| {}).await;
    let other = service.token("other", Scope::Write, |_| {}).await;
    let (ended, goes_on) = (begin(&service, "127.0.0.1:0", &token).await, begin(&service, "127.0.0.1:0", &other).await);
    are_under_way(&service, 2).await;
    let store = Store::open(&service.state).await.unwrap();
    let grant = store.tokens().await.unwrap().into_iter().find(|it| it.name == "laptop").unwrap();
    store.revoke(grant.id, 5).await.unwrap();
    store.close().await;
    let answer = read(ended).await;
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("ERROR_TOKEN_NOT_FOUND"), "{answer}");
    are_under_way(&service, 1).await;
    drop(goes_on);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_erased_while_it_is_written_down_counts_for_nobody() {
    let service = Service::start().await;
    let token = service.token("small", Scope::Write, |grant| grant.quota_bytes = Some(400_000)).await;
    let client = service.client_with(Some(&token));
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    let head = format!(
        "PUT /files/a HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\ncontent-length: 400000\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    are_under_way(&service, 1).await;
    // Nobody else writes to the file of tokens and uploads for now.
    let file = format!("sqlite://{}", service.state.join(api::STORE_FILE).display());
    let file = sqlx::SqlitePool::connect(&file).await.unwrap();
    let held = file.begin_with("BEGIN IMMEDIATE").await.unwrap();
    stream.write_all(&noise(400_000)).await.unwrap();
    until("it is stored", async || service.twin.page(everything()).await.unwrap().count == 1).await;
    let locator = service.twin.page(everything()).await.unwrap().lines[0].locator;
    let path = format!("/files/{locator}");
    let (erased, ()) = tokio::join!(client.delete(&path), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        held.rollback().await.unwrap();
    });
    assert!(read(stream).await.starts_with("HTTP/1.1 201 "));
    let erased = if erased.status == 409 { client.delete(&path).await } else { erased };
    assert_eq!((erased.status, client.put("b", noise(400_000)).await.status), (200, 201));
    file.close().await;
}

fn everything() -> twin::PageAsk {
    twin::PageAsk { after: None, limit: 10, name: String::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_spool_has_a_bound_and_each_token_half_of_it() {
    let service = Service::with(|config| config.spool_bytes_max = 2_000_000).await;
    let [one, other, third] = ["one", "other", "third"];
    let one = service.client_with(Some(&service.token(one, Scope::Write, |_| {}).await));
    let other = service.client_with(Some(&service.token(other, Scope::Write, |_| {}).await));
    let third_token = service.token(third, Scope::Write, |_| {}).await;
    let third = service.client_with(Some(&third_token));
    let refused = async |client: &crate::client::Client, length: usize| {
        let answer = send(tus(client, "POST", "/tus").header("upload-length", length)).await;
        assert_eq!(
            (answer.status, answer.body["error"]["code"].as_str()),
            (507, Some("ERROR_SPOOL_FULL")),
            "{answer:?}"
        );
    };
    refused(&one, 1_000_001).await;
    let whole = create(&one, 300_000).await;
    // Parts of CARs count beside it, and what is stored no more.
    let Split { parts: [first, second], .. } = Split::of(&noise(1 << 20));
    assert_eq!(upload(&one, &first).await.status, 200);
    refused(&one, 500_000).await;
    assert_eq!(patch(&one, &whole, 0, &noise(300_000)).await.status, 204);
    let path = create(&one, 400_000).await;
    create(&other, 1_000_000).await;
    refused(&third, 400_000).await;
    assert_eq!(send(tus(&one, "DELETE", &path)).await.status, 204);
    create(&third, 400_000).await;
    // Nobody says how much comes.
    let mut chunked = TcpStream::connect(service.address).await.unwrap();
    let head = format!(
        "POST /upload HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {third_token}\r\ncontent-type: application/car\r\n\
         transfer-encoding: chunked\r\n\r\n{:x}\r\n",
        second.len()
    );
    chunked.write_all(head.as_bytes()).await.unwrap();
    let _ = chunked.write_all(&second).await;
    let full = read(chunked).await;
    assert!(full.starts_with("HTTP/1.1 507 ") && full.contains("ERROR_SPOOL_FULL"), "{full}");
    // What a stop leaves counts at the next start.
    assert_eq!(service.spooled().len(), 3);
}
