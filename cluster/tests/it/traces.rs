//! Traces: what a collector is told of a request, read by the protocol's own types (`opentelemetry-proto`).

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use cluster::NetworkOptions;
use data_encoding::{BASE64, BASE64_NOPAD, HEXLOWER};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind},
};
use prost::Message;
use testing::{noise, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::made::Made;

/// A viewer's address, and what it says that its trace is.
const VIEWER: &str = "127.20.30.41";
const FOREIGN: &str = "0af7651916cd43dd8448eb211c80319c";

/// A collector that takes all that it is sent.
#[derive(Clone)]
struct Collector {
    address: SocketAddr,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// A span, and who told of it.
#[derive(Debug, Clone)]
struct Told {
    service: String,
    node: String,
    span: Span,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let it = Self { address: listener.local_addr().unwrap(), bodies: Arc::default() };
        let taking = it.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(taking.clone().take(stream));
            }
        });
        it
    }

    async fn take(self, mut stream: TcpStream) {
        let mut read = Vec::new();
        loop {
            let head = loop {
                match read.windows(4).position(|end| end == b"\r\n\r\n") {
                    Some(end) => break end + 4,
                    None if stream.read_buf(&mut read).await.unwrap_or(0) == 0 => return,
                    None => {}
                }
            };
            let fields = String::from_utf8_lossy(&read[..head]).to_lowercase();
            assert!(fields.starts_with("post /v1/traces http/1.1\r\n"), "{fields}");
            assert!(fields.contains("content-type: application/x-protobuf"), "{fields}");
            let length = fields.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
            let end = head + length.parse::<usize>().unwrap();
            while read.len() < end {
                if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                    return;
                }
            }
            self.bodies.lock().unwrap().push(read.drain(..end).skip(head).collect());
            if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.is_err() {
                return;
            }
        }
    }

    fn told(&self) -> Vec<Told> {
        let mut all = Vec::new();
        for body in &*self.bodies.lock().unwrap() {
            for of_node in ExportTraceServiceRequest::decode(&**body).unwrap().resource_spans {
                let attributes = words(&of_node.resource.unwrap().attributes);
                let node = |span| Told {
                    service: attributes["service.name"].clone(),
                    node: attributes["service.instance.id"].clone(),
                    span,
                };
                all.extend(of_node.scope_spans.into_iter().flat_map(|scope| scope.spans).map(node));
            }
        }
        all
    }
}

impl Told {
    fn says(&self, key: &str) -> Option<String> {
        words(&self.span.attributes).remove(key)
    }

    fn is(&self, service: &str, name: &str, kind: SpanKind) -> bool {
        self.service == service && self.span.name == name && self.span.kind() == kind
    }

    fn is_below(&self, parent: &Self) -> bool {
        self.span.trace_id == parent.span.trace_id && self.span.parent_span_id == parent.span.span_id
    }
}

fn words(attributes: &[KeyValue]) -> HashMap<String, String> {
    let word = |attribute: &KeyValue| {
        let value = match attribute.value.clone().unwrap().value.unwrap() {
            Value::StringValue(word) => word,
            Value::IntValue(number) => number.to_string(),
            other => panic!("{other:?}"),
        };
        (attribute.key.clone(), value)
    };
    let words: HashMap<String, String> = attributes.iter().map(word).collect();
    assert_eq!(words.len(), attributes.len(), "a key is said once: {attributes:?}");
    words
}

/// Returns a request that was read from origins with all that leads to the answers of two of them, once all came.
fn whole(told: &[Told]) -> Option<[Vec<Told>; 5]> {
    let below = |parents: &[Told], service: &str, name: &str, kind| -> Vec<Told> {
        let is_one = |told: &&Told| told.is(service, name, kind) && parents.iter().any(|parent| told.is_below(parent));
        told.iter().filter(is_one).cloned().collect()
    };
    let is_miss = |told: &&Told| {
        told.is("evernear-edge", "request", SpanKind::Server) && told.says("evernear.cache").as_deref() == Some("miss")
    };
    let request: Vec<Told> = told.iter().filter(is_miss).cloned().collect();
    let records = below(&request, "evernear-edge", "record", SpanKind::Internal);
    let fills = below(&request, "evernear-edge", "fill", SpanKind::Internal);
    let calls = below(&fills, "evernear-edge", "shards", SpanKind::Client);
    let answers = below(&calls, "evernear-origin", "shards", SpanKind::Server);
    (!records.is_empty() && answers.len() >= 2).then_some([request, records, fills, calls, answers])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_one_trace_from_the_edge_to_the_origins_and_tells_no_secret() {
    let collector = Collector::start().await;
    let traces = Some(format!("http://{}/v1/traces", collector.address));
    let made = Made::with(&NetworkOptions { traces, ..NetworkOptions::default() }).await;
    let bytes = noise(900_000);
    let stored = made.put(&made.file("film.bin", &bytes)).await;
    let foreign = format!("traceparent: 00-{FOREIGN}-b7ad6b7169203331-01");
    let more = ["--interface", VIEWER, "-H", &foreign, "-H", "tracestate: vendor=foreign-word"];
    for path in ["film.bin", "film.bin?token=of-somebody"] {
        let (answer, body) = made.get(0, &stored, path, &more).await;
        assert!(answer.status == 200 && body == bytes, "{}", answer.header);
    }

    until("a whole trace", async || whole(&collector.told()).is_some()).await;
    let told = collector.told();
    let [request, records, fills, calls, answers] = whole(&told).unwrap();
    assert_eq!(request.len(), 1, "what is held is no miss: {request:?}");
    let request = &request[0];
    assert!(request.span.parent_span_id.is_empty(), "a viewer's trace is not gone on with");
    for (key, value) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("evernear.bytes", "900000"),
        ("evernear.outcome", "whole"),
    ] {
        assert_eq!(request.says(key).as_deref(), Some(value), "{key}");
    }
    assert_eq!(request.says("evernear.request").map(|id| id.len()), Some(16), "it is in X-Request-Id and the log");
    assert_eq!(records.len(), 1, "{records:?}");
    assert!(fills.iter().all(|fill| fill.says("evernear.nodes").is_some()), "{fills:?}");
    for answer in &answers {
        let call = calls.iter().find(|call| answer.is_below(call)).unwrap();
        assert_eq!(call.says("evernear.node").as_ref(), Some(&answer.node), "who was asked is who answered");
        assert_eq!(call.says("evernear.strips").as_deref(), Some("1"));
        assert_eq!(answer.says("http.response.status_code").as_deref(), Some("200"));
    }
    // The owner's calls bring no trace, and have their own at the origins.
    assert!(told.iter().any(|told| told.is("evernear-origin", "uploads", SpanKind::Server)));
    let policies = told.iter().filter(|told| told.span.name == "policy");
    assert!(policies.clone().count() > 0 && policies.clone().all(|told| !told.span.parent_span_id.is_empty()));

    let owner = made.network.secret.keys().id().to_string();
    let locator = stored.label.capability().locator();
    let (label, capability) = (stored.label.to_string(), *stored.label.capability().expose());
    made.network.stop().await.unwrap();
    let sent = collector.bodies.lock().unwrap().concat();
    let sent_text = String::from_utf8_lossy(&sent).to_lowercase();
    assert!(sent_text.contains("evernear.cache"), "the search finds what is there");
    let (hex, base64) = (HEXLOWER.encode(&capability), BASE64_NOPAD.encode(&capability));
    for (what, secret) in [
        ("half a label", &label[..30]),
        ("half a label", &label[30..]),
        ("a capability", &hex),
        ("a capability", &base64),
        ("a locator", &locator.to_string()),
        ("a viewer's address", VIEWER),
        ("a viewer's network", "127.20.30"),
        ("a path", "film"),
        ("a query", "token"),
        ("a viewer's trace", FOREIGN),
        ("a viewer's trace", "foreign-word"),
        ("an owner", &owner),
    ] {
        assert!(!sent_text.contains(&secret.to_lowercase()), "{what} was told");
    }
    let foreign = HEXLOWER.decode(FOREIGN.as_bytes()).unwrap();
    for bytes in [&capability[..], locator.as_bytes(), &foreign, &[127, 20, 30, 41]] {
        assert!(!sent.windows(bytes.len()).any(|window| window == bytes), "{} was told", BASE64.encode(bytes));
    }
}
