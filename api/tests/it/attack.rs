//! What callers may not do, and what they cannot break.

use std::{net::SocketAddr, time::Duration};

use api::Scope;
use testing::{noise, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{client::send, service::Service};

/// Every route that wants a token: method, path, the scope it takes.
const ROUTES: [(&str, &str, Scope); 38] = [
    ("GET", "/files", Scope::Read),
    ("GET", "/files/ID", Scope::Read),
    ("POST", "/files", Scope::Write),
    ("PUT", "/files/name", Scope::Write),
    ("PATCH", "/files/ID", Scope::Write),
    ("DELETE", "/files/ID", Scope::Write),
    ("GET", "/files/ID/health", Scope::Read),
    ("POST", "/files/ID/purge", Scope::Write),
    ("GET", "/names", Scope::Read),
    ("PUT", "/names/NAME", Scope::Write),
    ("DELETE", "/names/NAME", Scope::Admin),
    ("GET", "/policies", Scope::Read),
    ("POST", "/policies/check", Scope::Write),
    ("PUT", "/policies/NAME", Scope::Admin),
    ("GET", "/policies/NAME/source", Scope::Read),
    ("GET", "/network", Scope::Read),
    ("GET", "/tokens", Scope::Admin),
    ("POST", "/tokens", Scope::Admin),
    ("DELETE", "/tokens/NAME", Scope::Admin),
    ("GET", "/console/session", Scope::Read),
    ("DELETE", "/console/session", Scope::Read),
    ("GET", "/audit", Scope::Admin),
    ("GET", "/", Scope::Read),
    ("GET", "/CID", Scope::Read),
    ("POST", "/upload", Scope::Write),
    ("POST", "/store", Scope::Write),
    ("PATCH", "/upload/CID", Scope::Write),
    ("DELETE", "/CID", Scope::Write),
    ("GET", "/pins", Scope::Read),
    ("POST", "/pins", Scope::Write),
    ("GET", "/pins/BATCH", Scope::Read),
    ("POST", "/pins/BATCH", Scope::Write),
    ("DELETE", "/pins/BATCH", Scope::Write),
    ("POST", "/tus", Scope::Write),
    ("GET", "/tus/BATCH", Scope::Write),
    ("PATCH", "/tus/BATCH", Scope::Write),
    ("DELETE", "/tus/BATCH", Scope::Write),
    ("GET", "/tus/BATCH/file", Scope::Read),
];

const CID: &str = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";

#[tokio::test(flavor = "multi_thread")]
async fn the_document_of_the_api_has_every_route_and_says_which_are_open() {
    let service = Service::start().await;
    let document = service.client_with(None).get("/openapi.json").await;
    let mut closed = std::collections::BTreeSet::new();
    for (path, methods) in document.body["paths"].as_object().unwrap() {
        let here = path.split(['{', '}']).enumerate().map(|(at, part)| if at % 2 == 1 { "x" } else { part });
        let here: String = here.collect();
        for (method, operation) in methods.as_object().unwrap() {
            let is_closed = !operation["security"].as_array().unwrap().is_empty();
            let answer = send(service.client_with(None).ask(&method.to_uppercase(), &here)).await;
            assert_eq!(answer.status == 401, is_closed, "{method} {path}: {answer:?}");
            assert_ne!(answer.status, 405, "{method} {path}");
            if is_closed {
                closed.insert((method.to_uppercase(), path.clone()));
            }
        }
    }
    let as_there = |path: &str| {
        let id = if path.starts_with("/pins") { "{requestid}" } else { "{id}" };
        path.replace("CID", "{cid}")
            .replace("BATCH", id)
            .replace("ID", "{id}")
            .replace("NAME", "{name}")
            .replace("/files/name", "/files/{id}")
    };
    let attacked = ROUTES.map(|(method, path, _)| (method.to_owned(), as_there(path)));
    assert_eq!(closed, attacked.into(), "the table of attacks has them all");
}

/// Sends bytes and returns what comes back until the end, or a second of silence.
async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The other side may have answered before it read all.
    let _ = stream.write_all(bytes).await;
    let (mut all, mut some) = (Vec::new(), vec![0; 1 << 16]);
    while let Ok(Ok(count @ 1..)) = timeout(Duration::from_secs(1), stream.read(&mut some)).await {
        all.extend_from_slice(&some[..count]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_is_open_without_a_token_that_allows_it() {
    let service = Service::start().await;
    let id = service.client().put("a", "abc").await.text("id").to_owned();
    let good = service.token("good", Scope::Read, |_| {}).await;
    let write = service.token("write", Scope::Write, |_| {}).await;
    let expired = service.token("expired", Scope::Admin, |grant| grant.expires = Some(2)).await;
    let ended = service.token("ended", Scope::Admin, |grant| grant.revoked = Some(2)).await;
    let other = format!("{}{}", &good[..16], &write[16..]);
    for (method, path, needs) in ROUTES {
        let path = path.replace("CID", CID).replace("ID", &id).replace("BATCH", &"0".repeat(32));
        for (token, code) in [
            (None, "EXPECTED_BEARER_STRING"),
            (Some("evn_x"), "ERROR_MALFORMED_TOKEN"),
            (Some("eyJhbGciOiJIUzI1NiJ9.e30.x"), "ERROR_MALFORMED_TOKEN"),
            (Some(other.as_str()), "ERROR_TOKEN_NOT_FOUND"),
            (Some(&expired), "ERROR_DIDT_EXPIRED"),
            (Some(&ended), "ERROR_TOKEN_NOT_FOUND"),
        ] {
            let answer = send(service.client_with(token).ask(method, &path).body("abc")).await;
            assert_eq!(answer.status, 401, "{method} {path} {token:?}: {answer:?}");
            assert_eq!(answer.field("www-authenticate"), "Bearer", "{method} {path}");
            match path.starts_with("/pins") {
                true => assert_eq!(answer.body["error"]["reason"], "UNAUTHORIZED", "{answer:?}"),
                false => assert_eq!(answer.body["error"]["code"], code, "{answer:?}"),
            }
        }
        for (token, scope) in [(&good, Scope::Read), (&write, Scope::Write)].into_iter().filter(|(_, it)| *it < needs) {
            let answer = send(service.client_with(Some(token)).ask(method, &path).body("abc")).await;
            assert_eq!(answer.status, 403, "{method} {path} {scope}: {answer:?}");
        }
    }
    let basic = service.client_with(None).ask("GET", "/files").header("authorization", "Basic YTpi");
    assert_eq!(send(basic).await.status, 401);
    let list = service.client().get("/files").await;
    assert_eq!((list.status, &list.body["count"]), (200, &serde_json::json!(1)), "nothing was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_take_back_is_promised_by_an_admin_alone() {
    let service = Service::start().await;
    let write = service.token("write", Scope::Write, |_| {}).await;
    let writer = service.client_with(Some(&write));
    let id = writer.put("a", "abc").await.text("id").to_owned();
    let change =
        |client: &crate::client::Client| client.ask("PATCH", &format!("/files/{id}")).body(r#"{"keep_until": "+1d"}"#);
    let wish = |client: &crate::client::Client| {
        let ask = client.ask("PUT", "/files/b").header("x-evernear-keep-until", "+1d");
        ask.header("x-evernear-expires", "+2d").body("abc")
    };
    assert_eq!((send(change(&writer)).await.status, send(wish(&writer)).await.status), (403, 403));
    // What a policy lets nobody read, nobody reads.
    let policy = |client: &crate::client::Client| {
        client.ask("PATCH", &format!("/files/{id}")).body(r#"{"policy": "nft-immutable"}"#)
    };
    assert_eq!((send(policy(&writer)).await.status, send(policy(&service.client())).await.status), (403, 200));
    let owner = service.client();
    let (wished, changed) = (send(wish(&owner)).await, send(change(&owner)).await);
    assert!(wished.status < 300 && changed.status == 200, "{wished:?} {changed:?}");
    assert_eq!(writer.delete(&format!("/files/{id}")).await.status, 409, "it is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_file_or_a_coded_body_is_no_file() {
    let service = Service::start().await;
    let with = |name: &str, value: &str| service.client().ask("PUT", "/files/a").header(name, value).body("tail");
    assert_eq!(send(with("content-range", "bytes 3-6/7")).await.status, 400);
    assert_eq!(send(with("content-encoding", "gzip")).await.status, 415);
    assert!(send(with("content-encoding", "identity")).await.status < 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_would_do_harm_is_refused_and_html_stays_text() {
    let service = Service::start().await;
    let client = service.client();
    let long = "a".repeat(256);
    for name in ["%2e%2e", "..%2f..%2fetc%2fpasswd", "a%2Fb", "a%00b", "a%0Ab", "%1b[31m", "%ff", &long] {
        let (method, path) = ("PUT", format!("/files/{name}"));
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx",
            service.token
        );
        let answer = raw(service.address, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{name}: {answer}");
        assert!(answer.contains("\"ok\":false"), "{name}: {answer}");
    }
    let edge = client.put(&"b".repeat(255), "x").await;
    assert_eq!(edge.status, 201, "{edge:?}");
    let html = client.put("%3Cscript%3Ealert(1)%3C%2Fscript%3E", "x").await;
    assert_eq!(html.status, 400, "it has a slash: {html:?}");
    let html = client.put("%3Cimg%20src=x%20onerror=alert(1)%3E", "x").await;
    assert_eq!((html.status, html.text("name")), (201, "<img src=x onerror=alert(1)>"));
    assert!(!html.text("html").contains("<img src=x"), "{html:?}");
    assert_eq!((html.field("content-type"), html.field("x-content-type-options")), ("application/json", "nosniff"));
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_and_bodies_beyond_their_bounds_are_told_so() {
    let service = Service::with(|config| config.upload_bytes_max = Some(1 << 20)).await;
    let big = format!("GET /files HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(150_000));
    assert!(raw(service.address, big.as_bytes()).await.starts_with("HTTP/1.1 431 "));
    let many = format!("GET /files HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(200));
    assert!(raw(service.address, many.as_bytes()).await.starts_with("HTTP/1.1 431 "));
    let client = service.client();
    assert_eq!(client.put("a", noise(1 << 20)).await.status, 201);
    let long = client.put("a", noise((1 << 20) + 1)).await;
    assert!(long.status == 413 && long.message().contains("1048576 bytes"), "{long:?}");
    // Nobody says how much comes.
    let mut chunked = format!(
        "PUT /files/a HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\ntransfer-encoding: chunked\r\n\r\n",
        service.token
    )
    .into_bytes();
    for _ in 0..40 {
        chunked.extend_from_slice(b"10000\r\n");
        chunked.extend_from_slice(&noise(0x10000));
        chunked.extend_from_slice(b"\r\n");
    }
    let answer = raw(service.address, &chunked).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(client.get("/files").await.body["count"], 1);
    let put = client.ask("PATCH", &format!("/files/{}", "0".repeat(64))).body(vec![b' '; 5000]);
    assert_eq!(send(put).await.status, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_wishes_are_answered_before_a_byte_of_the_body_is_asked_for() {
    let service = Service::start().await;
    let head = |field: &str| {
        format!(
            "PUT /files/a HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\n{field}\r\nexpect: 100-continue\r\n\
             content-length: 1000000000\r\n\r\n",
            service.token
        )
    };
    for field in [
        "x-evernear-profile: fast",
        "x-evernear-policy: there-is-none",
        "x-evernear-colour: red",
        "x-evernear-expires: 2001-01-01",
        "content-type: no type",
    ] {
        let answer = raw(service.address, head(field).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && !answer.contains("100 Continue"), "{field}: {answer}");
    }
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    let good = head("x-evernear-profile: 4+2").replace("1000000000", "3");
    stream.write_all(good.as_bytes()).await.unwrap();
    let mut all = vec![0; 25];
    stream.read_exact(&mut all).await.unwrap();
    assert_eq!(all, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"abc").await.unwrap();
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 201");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_hangs_up_in_the_middle_leaves_nothing() {
    let service = Service::start().await;
    for sent in [0, 1000, 200_000, 6 << 20] {
        let mut stream = TcpStream::connect(service.address).await.unwrap();
        let head = format!(
            "PUT /files/cut HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\ncontent-length: 10000000\r\n\r\n",
            service.token
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&noise(sent)).await.unwrap();
        drop(stream);
    }
    until("all of them are gone", async || {
        let store = api::Store::open(&service.state).await.unwrap();
        let open = store.open_batches().await.unwrap();
        store.close().await;
        open.is_empty() && service.twin.list().await.is_empty()
    })
    .await;
    assert_eq!(service.client().get("/files").await.body["count"], 0);
    assert_eq!(service.client().put("a", noise(1 << 20)).await.status, 201, "and takes no place from others");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_a_byte_for_too_long_is_answered_and_gives_its_place_back() {
    let service = Service::with(|config| (config.idle_seconds, config.streams_max) = (1, 1)).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(service.address).await.unwrap();
        let head = format!(
            "PUT /files/slow HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\ncontent-length: 10000000\r\n\r\n",
            service.token
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&noise(200_000)).await.unwrap();
        held.push(stream);
    }
    assert_eq!(service.client().put("a", noise(1 << 20)).await.status, 201);
    for mut stream in held {
        let mut answer = vec![0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, b"HTTP/1.1 408");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_uploads_at_once_are_all_stored() {
    let service = Service::start().await;
    let client = service.client();
    let put = |at: usize| {
        let client = client.clone();
        // Every fiftieth is one that takes a place of its own.
        let size = if at.is_multiple_of(50) { 300_000 } else { at * 10 };
        async move { client.put(&format!("f{at}"), noise(size)).await.status }
    };
    let all = futures::future::join_all((0..500).map(put)).await;
    assert_eq!(all.iter().filter(|status| **status == 201).count(), 500, "{all:?}");
    assert_eq!(client.get("/files").await.body["count"], 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_web_origins_may_ask_and_read() {
    let service = Service::start().await;
    let preflight = service.client_with(None).ask("OPTIONS", "/files/a").header("origin", "https://a.example");
    let preflight = preflight.header("access-control-request-headers", "authorization,x-name");
    let answer = send(preflight).await;
    assert_eq!((answer.status, answer.field("access-control-max-age")), (204, "86400"));
    assert_eq!(answer.field("access-control-allow-headers"), "authorization,x-name");
    assert_eq!(answer.field("access-control-allow-origin"), "https://a.example");
    assert!(answer.field("access-control-allow-methods").contains("DELETE"));
    let list = send(service.client().ask("GET", "/files").header("origin", "https://a.example")).await;
    assert_eq!((list.field("access-control-allow-origin"), list.field("vary")), ("https://a.example", "Origin"));
    assert_eq!(list.field("access-control-allow-credentials"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_route_or_no_method_is_told_as_json() {
    let service = Service::start().await;
    let client = service.client();
    assert_eq!(client.get("/nothing/here").await.status, 404);
    let method = send(client.ask("DELETE", "/files")).await;
    assert_eq!(method.status, 405);
    assert!(method.message().contains("no such method"));
    let form = client.ask("PUT", "/files/a").header("content-type", "multipart/form-data; boundary=x").body("x");
    assert_eq!(send(form).await.status, 415);
    for id in ["x", &"g".repeat(64)] {
        assert_eq!(client.get(&format!("/files/{id}")).await.status, 400);
    }
    assert_eq!(client.get(&format!("/files/{}", "0".repeat(64))).await.status, 404);
}
