//! nft.storage's routes, for clients that know nothing else.

use serde_json::json;
use testing::noise;

use crate::{
    client::send,
    files::{form, send_form},
    service::Service,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_file_has_the_cid_that_nft_storage_gave_it_and_its_record() {
    let service = Service::start().await;
    let client = service.client();
    let sent = client.ask("POST", "/upload/").header("content-type", "image/png").header("x-name", "my%20cat");
    let stored = send(sent.body("hello world")).await;
    assert_eq!(stored.status, 200, "{stored:?}");
    let cid = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";
    let value = &stored.body["value"];
    assert_eq!((&value["cid"], &value["type"], &value["name"]), (&json!(cid), &json!("image/png"), &json!("my cat")));
    assert_eq!(
        (&value["size"], &value["scope"], &value["pin"]["status"]),
        (&json!(11), &json!("admin"), &json!("pinned"))
    );
    assert_eq!((&value["files"], &value["deals"], &value["parts"]), (&json!([]), &json!([]), &json!([])));
    let again = client.get(&format!("/{cid}/")).await;
    assert_eq!((again.status, &again.body["value"]), (200, value));
    let check = service.client_with(None).get(&format!("/check/{cid}/")).await;
    assert_eq!((check.status, &check.body["value"]["pin"]["cid"]), (200, &json!(cid)), "{check:?}");
    let renamed = send(client.ask("PATCH", &format!("/upload/{cid}")).body(r#"{"name":"dog"}"#)).await;
    assert_eq!((renamed.status, &renamed.body["value"]["name"]), (200, &json!("dog")), "{renamed:?}");
    let wrong = send(client.ask("PATCH", &format!("/upload/{cid}")).body(r#"{"nam":"dog"}"#)).await;
    assert_eq!((wrong.status, &wrong.body["ok"]), (200, &json!(false)), "{wrong:?}");
    let file = client.get("/files").await.body["value"][0].clone();
    let erased = client.delete(&format!("/{cid}")).await;
    assert_eq!((erased.status, &erased.body), (202, &json!({ "ok": true })));
    assert_eq!(service.read(file["label"].as_str().unwrap(), &[]).await, None);
    for gone in [client.get(&format!("/{cid}")).await, client.delete(&format!("/{cid}")).await] {
        assert_eq!((gone.status, gone.message()), (404, "NFT not found"));
    }
    assert_eq!(client.get(&format!("/check/{cid}")).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_is_wrapped_in_a_folder_whose_files_are_named() {
    let service = Service::start().await;
    let (client, big) = (service.client(), noise(1 << 20));
    let files: [(&str, &str, &[u8]); 2] = [("b.bin", "application/x-b", &big), ("a.txt", "text/plain", b"hello world")];
    let stored = send_form(&client, "/upload", &[], &files).await;
    assert_eq!((stored.status, &stored.body["value"]["type"]), (200, &json!("directory")), "{stored:?}");
    assert_eq!(
        stored.body["value"]["files"],
        json!([{ "name": "a.txt", "type": "text/plain" }, { "name": "b.bin", "type": "application/x-b" }])
    );
    let again = send_form(&client, "/upload", &[], &files).await;
    assert_eq!(again.body["value"]["cid"], stored.body["value"]["cid"]);
    let text = send_form(&client, "/upload", &[("meta", "x")], &[]).await;
    assert_eq!((text.status, text.message()), (400, "missing Content-Type in multipart part"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_goes_back_in_time_and_counts_all() {
    let service = Service::start().await;
    let client = service.client();
    for at in 0..12 {
        let sent = client.ask("POST", "/upload").header("x-name", format!("n{at}")).body(format!("file {at}"));
        assert_eq!(send(sent).await.status, 200);
    }
    let first = client.get("/").await;
    let names = |answer: &crate::client::Answer| -> Vec<String> {
        answer.body["value"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((first.field("count"), names(&first).len(), names(&first)[0].as_str()), ("12", 10, "n11"));
    let before = first.body["value"][9]["created"].as_str().unwrap();
    let rest = client.get(&format!("/?before={before}&limit=1000")).await;
    assert_eq!(names(&rest), ["n1", "n0"]);
    for bad in ["limit=0", "limit=x", "limit=1001", "before=soon"] {
        let answer = client.get(&format!("/?{bad}")).await;
        assert_eq!((answer.status, answer.message()), (400, "invalid params"), "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_in_the_words_of_nft_storage() {
    let service = Service::start().await;
    let client = service.client();
    let empty = send(client.ask("POST", "/upload").header("content-type", "image/png").body("")).await;
    assert_eq!((empty.status, empty.message()), (400, "empty payload"));
    let cid = client.get("/nonsense").await;
    assert_eq!(
        (cid.status, cid.message(), cid.body["error"]["code"].as_str()),
        (400, "Invalid CID: nonsense", Some("ERROR_INVALID_CID"))
    );
    let none = service.client_with(None).get("/").await;
    assert_eq!(none.status, 401);
    assert!(none.message().starts_with("API Key is missing, make sure the `Authorization` header"), "{none:?}");
    let version = service.client_with(None).get("/version").await;
    assert_eq!((version.status, &version.body["mode"]), (200, &json!("rw")));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_in_a_browser_finds_out_what_is_stored_here() {
    let service = Service::with(|config| config.hosts = vec!["files.example".to_owned()]).await;
    send(service.client().ask("POST", "/upload").body("hello world")).await;
    let path = "/check/bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";
    let anybody = service.client_with(None);
    for (field, value, status) in [
        ("x-a", "b", 200),
        ("sec-fetch-site", "none", 200),
        ("sec-fetch-site", "cross-site", 401),
        ("sec-fetch-site", "same-origin", 401),
        ("origin", "https://a.example", 401),
        ("authorization", "Bearer evn_x", 401),
        // A name that somebody else has lead to this machine, whose page a browser takes for one of ours.
        ("host", "evil.example:8081", 401),
        ("host", "files.example", 200),
        ("host", "localhost:8081", 200),
    ] {
        let answer = send(anybody.ask("GET", path).header(field, value)).await;
        assert_eq!(answer.status, status, "{field}: {answer:?}");
    }
    let page = service.client().ask("GET", path).header("origin", "https://a.example");
    let page = send(page.header("sec-fetch-site", "cross-site")).await;
    assert_eq!((page.status, page.field("access-control-allow-origin")), (200, "https://a.example"));
}

/// A form of an NFT: texts, and files under the names of their parts.
fn nft_form(texts: &[(&str, &str)], files: &[(&str, &str, &[u8])]) -> (String, Vec<u8>) {
    let (content_type, mut body) = form(texts, &[]);
    let boundary = content_type.split_once('=').unwrap().1;
    body.truncate(body.len() - format!("--{boundary}--\r\n").len());
    for (place, name, bytes) in files {
        let head =
            format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{place}\"; filename=\"{name}\"\r\n\r\n");
        body.extend([head.as_bytes(), bytes, b"\r\n"].concat());
    }
    body.extend(format!("--{boundary}--\r\n").as_bytes());
    (content_type, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_nft_is_a_folder_with_its_files_where_its_metadata_says() {
    let service = Service::start().await;
    let (client, film) = (service.client(), noise(1 << 20));
    let store = async |texts: &[(&str, &str)], files: &[(&str, &str, &[u8])]| {
        let (content_type, body) = nft_form(texts, files);
        send(client.ask("POST", "/store/").header("content-type", content_type).body(body)).await
    };
    let meta = [("meta", r#"{"name":"cat","image":null,"properties":{"files":[null]}}"#)];
    let stored = store(&meta, &[("image", "cat.png", b"meow"), ("properties.files.0", "", &film)]).await;
    assert_eq!((stored.status, &stored.body["ok"]), (200, &json!(true)), "{stored:?}");
    let (cid, data) = (stored.text("ipnft"), &stored.body["value"]["data"]);
    assert_eq!(stored.text("url"), format!("ipfs://{cid}/metadata.json"));
    assert_eq!(data["name"], "cat");
    assert!(data["image"].as_str().unwrap().ends_with("/cat.png"), "{data}");
    let record = client.get(&format!("/{cid}")).await;
    assert_eq!((record.status, record.text("type"), &record.body["value"]["cid"]), (200, "nft", &json!(cid)));
    let file = client.get("/files").await.body["value"][0].clone();
    let label = file["label"].as_str().unwrap();
    assert!(service.read(label, &["properties", "files", "0", "blob"]).await.unwrap() == film);
    let metadata = service.read(label, &["metadata.json"]).await.unwrap();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&metadata).unwrap(), *data);

    let file: (&str, &str, &[u8]) = ("image", "cat.png", b"meow");
    for (texts, files, says) in [
        (&[][..], vec![file], "missing `meta` in multipart"),
        (&[("meta", "{")], vec![], "not the JSON of an object"),
        (&[("meta", "[]")], vec![], "not the JSON of an object"),
        (&[("meta", "{}"), ("image", "cat")], vec![], "expected File part"),
        (&[("meta", "{}")], vec![file, file], "twice"),
        (&[("meta", "{}")], vec![file, ("image", "dog.png", b"wuff")], "two files have the place \"image\""),
        (&[("meta", r#"{"name":"cat"}"#)], vec![("name.x", "a", b"")], "no place for the file \"name.x\""),
        (&[("meta", "{}")], vec![("a..b", "a", b"")], "cannot be a name"),
        (&[("meta", &"x".repeat((128 << 10) + 1))], vec![], "at most 131072 bytes"),
        (&[("meta", &format!("[{}0]", "0,".repeat(10_000)))], vec![], "over 10000 commas"),
    ] {
        let refused = store(texts, &files).await;
        assert!(refused.status == 400 && refused.message().contains(says), "{says}: {refused:?}");
    }
    let no_form = send(client.ask("POST", "/store").header("content-type", "image/png").body("x")).await;
    assert_eq!((no_form.status, no_form.message()), (400, "content-type should be `multipart/form-data`"));
    assert_eq!(client.get("/files").await.body["count"], 1);
}
