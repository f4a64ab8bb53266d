//! Requests whose end two readers could see at different places, each with another request hidden in what may be its
//! content. One refusal and a closed connection is the only answer; whoever stands in front may have read them another
//! way.
//!
//! The shapes are those of RFC 9112 sections 5.1, 5.2, 6.1 to 6.3 and 11.2, and of Kettle, "HTTP Desync Attacks"
//! (2019).

use futures::{StreamExt, stream};

use crate::{http::raw, site::Site};

/// Ways to write that the content comes in chunks, or something that a lenient reader takes for it.
const CHUNKED: [&[u8]; 38] = [
    b"Transfer-Encoding: chunked",
    b"transfer-encoding: chunked",
    b"TRANSFER-ENCODING: CHUNKED",
    b"Transfer-Encoding: cHuNkEd",
    b"Transfer-Encoding:chunked",
    b"Transfer-Encoding:   chunked",
    b"Transfer-Encoding:\tchunked",
    b"Transfer-Encoding: chunked ",
    b"Transfer-Encoding: chunked\t",
    b"Transfer-Encoding: chunked;a=b",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: identity, chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: ,chunked",
    b"Transfer-Encoding: x",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: chunkedx",
    b"Transfer-Encoding: \"chunked\"",
    b"Transfer-Encoding: 'chunked'",
    b"Transfer-Encoding:",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding\t: chunked",
    b" Transfer-Encoding: chunked",
    b"\tTransfer-Encoding: chunked",
    b"X: x\r\n Transfer-Encoding: chunked",
    b"Transfer-Encoding:\r\n chunked",
    b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding: \x0cchunked",
    b"Transfer-Encoding: chunked\0",
    b"Transfer-Encoding:\xa0chunked",
    b"\0Transfer-Encoding: chunked",
    b"Transfer-Encoding\0: chunked",
    b"X: x\nTransfer-Encoding: chunked",
    b"X: x\rTransfer-Encoding: chunked",
];

/// Lengths to go with them, and lengths alone.
const LENGTHS: [&[u8]; 4] = [b"", b"Content-Length: 0\r\n", b"Content-Length: 5\r\n", b"Content-Length: 200\r\n"];
const LENGTHS_ALONE: [&[u8]; 25] = [
    b"Content-Length: 5",
    b"Content-Length: 200",
    b"content-length:5",
    b"Content-Length: +5",
    b"Content-Length: -5",
    b"Content-Length: 5 5",
    b"Content-Length: 5, 5",
    b"Content-Length: 5,6",
    b"Content-Length: 0x5",
    b"Content-Length: 5.0",
    b"Content-Length: 1e1",
    b"Content-Length: 05",
    b"Content-Length: 5;",
    b"Content-Length: \"5\"",
    b"Content-Length: a",
    b"Content-Length:",
    b"Content-Length: 18446744073709551616",
    b"Content-Length: 99999999999999999999999999",
    b"Content-Length: 5\r\nContent-Length: 6",
    b"Content-Length: 5\r\nContent-Length: 5",
    b"Content-Length: 0\r\nContent-Length: 5",
    b"Content-Length : 5",
    b" Content-Length: 5",
    b"Content-Length\0: 5",
    b"Content-Length: 5\0",
];

/// First lines and hosts that two readers could take for different things. `HOST` stands for the right one.
const LINES: [&[u8]; 20] = [
    b"GET / HTTP/1.1\r\nHost: HOST\r\nHost: HOST",
    b"GET / HTTP/1.1\r\nHost: HOST\r\nHost: other",
    b"GET / HTTP/1.1\r\nHost : HOST",
    b"GET / HTTP/1.1\r\n Host: HOST",
    b"GET / HTTP/1.1\r\nHost: HOST, other",
    b"GET / HTTP/1.1\r\nHost: other HOST",
    b"GET / HTTP/1.1\r\nHost: HOST\r\n: x",
    b"GET / HTTP/1.1\r\nHost: HOST\r\nno colon",
    b"GET / HTTP/1.1\r\nHost: HOST\r\nX y: z",
    b"GET / HTTP/1.1\r\nHost: HOST\0",
    b"GET / HTTP/1.1\0\r\nHost: HOST",
    b"GET / HTTP/1.1 HTTP/1.1\r\nHost: HOST",
    b"GET / HTTP/9.9\r\nHost: HOST",
    b"GET / HTTP/2.0\r\nHost: HOST",
    b"GET / HTTP/1\r\nHost: HOST",
    b"GET / http/1.1\r\nHost: HOST",
    b"GET /\0 HTTP/1.1\r\nHost: HOST",
    b"GET \r\nHost: HOST",
    b"G\0T / HTTP/1.1\r\nHost: HOST",
    b"CONNECT HOST:443 HTTP/1.1\r\nHost: HOST",
];

/// All requests, each with the hidden one and the probe behind it.
fn corpus(host: &str) -> Vec<Vec<u8>> {
    let behind = behind(host);
    let with = |method: &str, fields: &[u8]| {
        [format!("{method} / HTTP/1.1\r\nHost: {host}\r\n").as_bytes(), fields, b"\r\n\r\n", &behind[..]].concat()
    };
    let mut corpus = Vec::new();
    for method in ["GET", "HEAD"] {
        for (chunked, length) in CHUNKED.iter().flat_map(|chunked| LENGTHS.map(|length| (*chunked, length))) {
            corpus.push(with(method, &[length, chunked].concat()));
        }
        corpus.extend(LENGTHS_ALONE.iter().map(|fields| with(method, fields)));
    }
    for line in LINES {
        let line = String::from_utf8_lossy(line).replace("HOST", host);
        corpus.push([line.as_bytes(), b"\r\n\r\n", &behind[..]].concat());
    }
    corpus
}

/// The end of chunks, a request whose answer would show that it was read as one, and the probe that it would swallow.
fn behind(host: &str) -> Vec<u8> {
    // It has no host but that of the probe.
    let hidden = "0\r\n\r\nGET /a.txt?download HTTP/1.1\r\nX: ".to_owned();
    let probe = format!("GET /a.txt HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    (hidden + &probe).into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_hides_in_another() {
    let site = Site::start().await;
    let stored = site.store("a.txt", "text/plain", b"hello".to_vec()).await;
    let host = format!("{}.evernear.example", stored.label);
    // What hides would be found: read as a request of its own it is answered.
    let hidden = behind(&host)[5..].to_vec();
    let executed = raw(&site, &hidden).await;
    assert!(
        executed.starts_with("HTTP/1.1 200") && executed.to_lowercase().contains("content-disposition"),
        "{executed}"
    );

    let corpus = corpus(&host);
    assert!(corpus.len() >= 200);
    let ask = |request: &Vec<u8>| {
        let request = request.clone();
        let site = &site;
        async move { (raw(site, &request).await, request) }
    };
    let answers: Vec<(String, Vec<u8>)> = stream::iter(&corpus).map(ask).buffer_unordered(16).collect().await;
    let mut wrong = Vec::new();
    for (answer, request) in &answers {
        let executed = answer.to_lowercase().contains("content-disposition");
        let refused = ["HTTP/1.1 4", "HTTP/1.1 5"].iter().any(|begin| answer.starts_with(begin)) || answer.is_empty();
        if executed || !refused || answer.matches("HTTP/1.1 ").count() > 1 {
            let first = answer.lines().next().unwrap_or("");
            let count = answer.matches("HTTP/1.1 ").count();
            wrong.push(format!("{:?} -> {first}, {count} answers", String::from_utf8_lossy(request)));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), corpus.len(), wrong.join("\n"));
    site.stop().await;
}
