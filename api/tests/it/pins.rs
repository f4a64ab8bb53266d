//! The Pinning Service API.

use serde_json::{Value, json};

use crate::{
    client::{Answer, send},
    service::Service,
};

const HELLO: &str = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";
const FOREIGN: &str = "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_here_is_pinned_and_what_is_not_has_failed_with_the_reason() {
    let service = Service::start().await;
    let client = service.client();
    let add = async |pin: Value| send(client.ask("POST", "/pins").body(pin.to_string())).await;
    let early = add(json!({ "cid": HELLO, "name": "hello", "meta": { "app": "x" } })).await;
    assert_eq!((early.status, &early.body["status"]), (202, &json!("failed")), "{early:?}");
    assert!(early.body["info"]["status_details"].as_str().unwrap().contains("not stored here"), "{early:?}");
    assert!(!early.body["delegates"].as_array().unwrap().is_empty());
    send(client.ask("POST", "/upload").body("hello world")).await;
    let path = format!("/pins/{}", early.body["requestid"].as_str().unwrap());
    let pinned = client.get(&path).await;
    assert_eq!(
        (pinned.status, &pinned.body["status"], &pinned.body["pin"]["name"]),
        (200, &json!("pinned"), &json!("hello"))
    );
    // The same CID again is another request.
    let again = add(json!({ "cid": HELLO })).await;
    assert_ne!(again.body["requestid"], early.body["requestid"]);
    let foreign = add(json!({ "cid": FOREIGN, "origins": ["/ip4/192.0.2.1/tcp/4001"] })).await;
    assert_eq!((foreign.status, &foreign.body["status"]), (202, &json!("failed")));
    let count = async |query: &str| -> Value { client.get(&format!("/pins{query}")).await.body["count"].clone() };
    assert_eq!(
        (count("").await, count("?status=failed").await, count("?limit=1").await),
        (json!(2), json!(1), json!(2))
    );
    assert_eq!(client.get("/pins?limit=1").await.body["results"][0]["requestid"], again.body["requestid"]);
    let replaced = send(client.ask("POST", &path).body(json!({ "cid": HELLO, "name": "bye" }).to_string())).await;
    assert_eq!((replaced.status, count("?name=hello").await, count("?name=bye").await), (202, json!(0), json!(1)));
    assert_eq!(client.get(&path).await.status, 404);
    let path = format!("/pins/{}", replaced.body["requestid"].as_str().unwrap());
    let removed = client.delete(&path).await;
    assert_eq!((removed.status, removed.body), (202, Value::Null));
    assert_eq!(client.get(&path).await.status, 404);
    assert_eq!(client.get(&format!("/{HELLO}")).await.status, 200, "to remove a pin erases nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_pin_is_refused_in_the_words_of_the_specification() {
    let service = Service::start().await;
    let client = service.client();
    let reason = |answer: &Answer| answer.body["error"]["reason"].as_str().unwrap().to_owned();
    for pin in [
        "",
        "[]",
        "{}",
        r#"{"cid":"x"}"#,
        r#"{"cid":7}"#,
        &json!({ "cid": HELLO, "name": "n".repeat(256) }).to_string(),
    ] {
        let answer = send(client.ask("POST", "/pins").body(pin.to_owned())).await;
        assert_eq!((answer.status, reason(&answer).as_str()), (400, "BAD_REQUEST"), "{pin}: {answer:?}");
    }
    for query in ["limit=0", "limit=1001", "status=gone", "match=fuzzy", "before=soon", "meta=x", "cid=x"] {
        let answer = client.get(&format!("/pins?{query}")).await;
        assert_eq!((answer.status, reason(&answer).as_str()), (400, "BAD_REQUEST"), "{query}: {answer:?}");
    }
    let answer = client.get(&format!("/pins/{}", "0".repeat(32))).await;
    assert_eq!((answer.status, reason(&answer).as_str()), (404, "NOT_FOUND"));
}
