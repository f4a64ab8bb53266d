//! Storing, listing, renewing and erasing.

use std::{process::Stdio, time::Duration};

use api::Scope;
use serde_json::json;
use testing::{noise, until};

use crate::{
    client::{Answer, Client, send},
    service::Service,
};

/// A form of files by their paths, with the texts before them.
pub(crate) fn form(texts: &[(&str, &str)], files: &[(&str, &str, &[u8])]) -> (String, Vec<u8>) {
    let (boundary, mut body) = ("X-BOUNDARY-7", Vec::new());
    for (name, text) in texts {
        let head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n");
        body.extend_from_slice(head.as_bytes());
    }
    for (path, mime, bytes) in files {
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{path}\"\r\nContent-Type: {mime}\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={boundary}"), body)
}

pub(crate) async fn send_form(
    client: &Client,
    path: &str,
    texts: &[(&str, &str)],
    files: &[(&str, &str, &[u8])],
) -> Answer {
    let (content_type, body) = form(texts, files);
    send(client.ask("POST", path).header("content-type", content_type).body(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_every_length_are_readable_by_their_label_when_the_answer_comes() {
    let service = Service::start().await;
    let client = service.client();
    for size in [0, 1, 16 << 10, 128 << 10, (128 << 10) + 1, (1 << 20) + 7, 9 << 20] {
        let bytes = noise(size);
        let answer = client.put("film.mp4", bytes.clone()).await;
        assert_eq!((answer.status, &answer.body["ok"]), (201, &json!(true)), "{answer:?}");
        assert_eq!((answer.text("name"), answer.text("kind")), ("film.mp4", "file"));
        assert_eq!(answer.body["value"]["size"], size, "{answer:?}");
        assert_eq!(answer.field("location"), format!("/files/{}", answer.text("id")));
        assert!(answer.text("url").contains(answer.text("label")), "{answer:?}");
        let durable = &answer.body["value"]["durable"];
        assert!(durable["margin"].as_u64().unwrap() >= 1 && durable["records"].as_u64().unwrap() >= 2, "{durable}");
        assert_eq!(service.read(answer.text("label"), &[]).await.unwrap(), bytes, "{size}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_type_is_the_senders_or_found_in_the_bytes_and_the_name() {
    let service = Service::start().await;
    let client = service.client();
    let png = b"\x89PNG\r\n\x1a\n0000000000".to_vec();
    assert_eq!(client.put("a", png.clone()).await.text("type"), "image/png");
    let told = client.ask("POST", "/files?").header("content-type", "image/webp").header("x-name", "p%20q").body(png);
    let told = send(told).await;
    assert_eq!((told.text("type"), told.text("name")), ("image/webp", "p q"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_becomes_a_folder_with_every_file_under_its_path() {
    let service = Service::start().await;
    let (client, film) = (service.client(), noise(3 << 20));
    let small: Vec<(String, Vec<u8>)> = (0..70).map(|at| (format!("img/{at}.bin"), noise(at * 100))).collect();
    let mut files: Vec<(&str, &str, &[u8])> =
        vec![("index.html", "text/html", b"<p>"), ("deep/er/film.mp4", "video/mp4", &film)];
    files.extend(small.iter().map(|(path, bytes)| (path.as_str(), "application/octet-stream", &bytes[..])));
    let answer = send_form(&client, "/files/", &[("name", "site")], &files).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!((answer.text("kind"), answer.text("name")), ("folder", "site"));
    let size: usize = files.iter().map(|(_, _, bytes)| bytes.len()).sum();
    assert_eq!((&answer.body["value"]["size"], &answer.body["value"]["objects"]), (&json!(size), &json!(72 + 4)));
    for (path, _, bytes) in files {
        let path: Vec<_> = path.split('/').collect();
        assert_eq!(service.read(answer.text("label"), &path).await.as_deref(), Some(bytes), "{path:?}");
    }
    let again = client.get(&format!("/files/{}", answer.text("id"))).await;
    assert_eq!((again.status, &again.body["value"]["objects"]), (200, &json!(76)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_is_none_leaves_nothing() {
    let service = Service::start().await;
    let client = service.client();
    for (files, says) in [
        (vec![], "no file"),
        (vec![("a", "text/plain", &b"1"[..]), ("a", "text/plain", b"2")], "twice"),
        (vec![("a", "text/plain", b"1"), ("a/b", "text/plain", b"2")], "twice"),
        (vec![("a/../b", "text/plain", b"1")], "cannot be a name"),
    ] {
        let answer = send_form(&client, "/files", &[], &files).await;
        assert!(answer.status == 400 && answer.message().contains(says), "{says}: {answer:?}");
    }
    let text = send_form(&client, "/files", &[("meta", "x")], &[]).await;
    assert!(text.status == 400 && text.message().contains("\"meta\" is no file"), "{text:?}");
    let (content_type, body) = form(&[], &[("a", "text/plain", &noise(1 << 20))]);
    let cut = body[..body.len() - 40].to_vec();
    let cut = send(client.ask("POST", "/files").header("content-type", &content_type).body(cut)).await;
    assert_eq!(cut.status, 400, "{cut:?}");
    let endless = [&body[..100], &vec![b'a'; 1 << 20]].concat();
    let endless = send(client.ask("POST", "/files").header("content-type", &content_type).body(endless)).await;
    assert!(endless.status == 400, "{endless:?}");
    assert_eq!(client.get("/files").await.body["count"], 0);
    until("what broke is ended", async || service.twin.list().await.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_goes_by_pages_and_finds_names() {
    let service = Service::start().await;
    let client = service.client();
    for at in 0..7 {
        assert_eq!(client.put(&format!("Cat-{at}.jpg"), "x").await.status, 201);
    }
    client.put("dog.jpg", "x").await;
    let (mut names, mut path) = (Vec::new(), "/files?limit=3".to_owned());
    loop {
        let page = client.get(&path).await;
        assert_eq!((page.status, &page.body["count"]), (200, &json!(8)));
        names.extend(page.body["value"].as_array().unwrap().iter().map(|it| it["name"].to_string()));
        match page.body["next"].as_str() {
            Some(next) => path = format!("/files?limit=3&cursor={next}"),
            None => break,
        }
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 8);
    assert_eq!(client.get("/files?name=CAT-").await.body["count"], 7);
    for (bad, says) in [("limit=0", "limit"), ("limit=1001", "limit"), ("cursor=x", "cursor"), ("nme=x", "nme")] {
        let answer = client.get(&format!("/files?{bad}")).await;
        assert!(answer.status == 400 && answer.message().contains(says), "{bad}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_erased_is_gone_for_every_reader() {
    let service = Service::start().await;
    let client = service.client();
    let folder = send_form(&client, "/files", &[], &[("a", "text/plain", b"1"), ("b/c", "text/plain", b"2")]).await;
    let file = client.put("a", noise(300_000)).await;
    for stored in [&folder, &file] {
        let path = format!("/files/{}", stored.text("id"));
        let erased = client.delete(&path).await;
        assert_eq!(erased.status, 200, "{erased:?}");
        assert_eq!(erased.body["value"]["objects"], stored.body["value"]["objects"]);
        assert_eq!(service.read(stored.text("label"), &[]).await, None);
        for again in [client.get(&path).await, client.delete(&path).await] {
            assert_eq!((again.status, again.message()), (404, "NFT not found"));
        }
    }
    assert_eq!(client.get("/files").await.body["count"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn wishes_are_granted_and_can_be_changed_later() {
    let service = Service::start().await;
    let client = service.client();
    let request = client.ask("PUT", "/files/a").header("x-evernear-expires", "+30d").header("x-evernear-tags", "red=2");
    let stored = send(request.header("x-evernear-profile", "3+2").body(noise(100_000))).await;
    assert_eq!((stored.status, stored.text("profile")), (201, "3+2"), "{stored:?}");
    assert_eq!(stored.body["value"]["tags"], json!(["red"]));
    assert_eq!(&stored.body["value"]["durable"]["of"], &json!(5));
    let (end, path) = (stored.text("expires").to_owned(), format!("/files/{}", stored.text("id")));
    let change = |body: serde_json::Value| send(client.ask("PATCH", &path).body(body.to_string()));
    let later = change(json!({ "expires": "+60d" })).await;
    assert!(later.status == 200 && later.text("expires") > end.as_str(), "{later:?}");
    let sooner = change(json!({ "expires": "+1d" })).await;
    assert!(sooner.status == 409 && sooner.message().contains("sooner"), "{sooner:?}");
    assert_eq!(change(json!({ "expires": "+1d", "sooner": true })).await.status, 200);
    for (wrong, says) in [
        (json!({}), "name what is to change"),
        (json!({ "expire": "+1d" }), "expire"),
        (json!({ "expires": "soon" }), "expires"),
        (json!({ "policy": "there-is-none" }), "no policy"),
        (json!([1]), "JSON"),
    ] {
        let answer = change(wrong.clone()).await;
        assert!(answer.status == 400 && answer.message().contains(says), "{wrong}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_counts_all_that_a_token_has_and_erasing_gives_it_back() {
    let service = Service::start().await;
    let token = service.token("small", Scope::Write, |grant| grant.quota_bytes = Some(1_000_000)).await;
    let client = service.client_with(Some(&token));
    let first = client.put("a", noise(600_000)).await;
    assert_eq!(first.status, 201);
    let second = client.put("b", noise(600_000)).await;
    assert!(second.status == 507 && second.message().contains("may store 1000000 bytes"), "{second:?}");
    assert_eq!(service.client().put("b", noise(600_000)).await.status, 201, "another token has its own");
    assert_eq!(client.delete(&format!("/files/{}", first.text("id"))).await.status, 200);
    assert_eq!(client.put("b", noise(600_000)).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_object_counts_for_a_quota_however_short_it_is() {
    let service = Service::start().await;
    let quota = |bytes| move |grant: &mut api::Grant| grant.quota_bytes = Some(bytes);
    let client = service.client_with(Some(&service.token("rows", Scope::Write, quota(1100)).await));
    let first = client.put("a", "").await;
    assert_eq!((first.status, client.put("b", "b").await.status), (201, 201));
    assert_eq!(client.put("c", "").await.status, 507, "no third");
    let tokens = service.client().get("/tokens").await;
    let used = |name: &str| {
        tokens.body["value"].as_array().unwrap().iter().find(|line| line["name"] == name).unwrap()["used"].clone()
    };
    assert_eq!(used("rows"), 1024);
    assert_eq!(client.delete(&format!("/files/{}", first.text("id"))).await.status, 200);
    assert_eq!(client.put("c", "").await.status, 201);
    // Two folders, and three files in them. Until it is stored, the bytes of the form count beside.
    let files: [(&str, &str, &[u8]); 3] =
        [("a", "text/plain", b""), ("b", "text/plain", b""), ("d/c", "text/plain", b"")];
    for (name, bytes, status) in [("less", 2500, 507), ("enough", 3200, 201)] {
        let client = service.client_with(Some(&service.token(name, Scope::Write, quota(bytes)).await));
        let folder = send_form(&client, "/files", &[], &files).await;
        assert_eq!(folder.status, status, "{folder:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_too_often_is_told_when_to_come_again() {
    let service = Service::start().await;
    let token = service.token("slow", Scope::Read, |grant| grant.rate = 1).await;
    let client = service.client_with(Some(&token));
    for _ in 0..10 {
        assert_eq!(client.get("/files").await.status, 200);
    }
    let refused = client.get("/files").await;
    assert_eq!((refused.status, refused.field("retry-after")), (429, "1"), "{refused:?}");
    assert_eq!(service.client().get("/files").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_tells_who_changed_what() {
    let service = Service::start().await;
    let (client, token) = (service.client(), service.token("reader", Scope::Read, |_| {}).await);
    let stored = client.put("a", "abc").await;
    let reader = service.client_with(Some(&token));
    assert_eq!(reader.delete(&format!("/files/{}", stored.text("id"))).await.status, 403);
    client.delete(&format!("/files/{}", stored.text("id"))).await;
    let log = client.get("/audit").await;
    let lines: Vec<_> = log.body["value"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| {
            (line["action"].as_str().unwrap(), line["status"].as_u64().unwrap(), line["bytes"].as_u64().unwrap())
        })
        .collect();
    assert_eq!(lines, [("DELETE /files/{id}", 200, 0), ("PUT /files/{id}", 201, 3)]);
    assert_eq!(log.body["value"][1]["id"], stored.text("id"));
    assert_eq!(reader.get("/audit").await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_nothing_pushes_no_line_out_of_the_audit_log() {
    let service = Service::start().await;
    let reader = service.client_with(Some(&service.token("reader", Scope::Read, |_| {}).await));
    let writer_token = service.token("writer", Scope::Write, |_| {}).await;
    let writer = service.client_with(Some(&writer_token));
    for (request, status) in [
        (reader.ask("PUT", "/files/a"), 403),
        (reader.ask("DELETE", "/console/session"), 204),
        (writer.ask("POST", "/policies/check").body("x"), 200),
        (writer.ask("PATCH", "/upload/nonsense").body("{}"), 200),
        (writer.ask("DELETE", &format!("/files/{}", "0".repeat(64))), 404),
        (writer.ask("DELETE", "/tokens/admin"), 403),
        (service.client().ask("DELETE", "/tokens/none"), 404),
    ] {
        let answer = send(request).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
    assert_eq!(service.client().get("/audit").await.body["value"], json!([]));
    assert_eq!(writer.put("a", "abc").await.status, 201);
    assert_eq!(service.client().get("/audit").await.body["value"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_uploads_a_file_by_its_name() {
    let service = Service::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (path, bytes) = (folder.path().join("film.mp4"), noise(5 << 20));
    std::fs::write(&path, &bytes).unwrap();
    let curl = tokio::process::Command::new("curl")
        .args(["-sS", "--noproxy", "*", "-H", &format!("authorization: Bearer {}", service.token), "-T"])
        .arg(&path)
        .arg(format!("http://{}/files/", service.address))
        .stdin(Stdio::null())
        .output();
    let output = tokio::time::timeout(Duration::from_secs(60), curl).await.unwrap().unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&answer["ok"], &answer["value"]["name"]), (&json!(true), &json!("film.mp4")), "{answer}");
    assert_eq!(service.read(answer["value"]["label"].as_str().unwrap(), &[]).await.unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_that_changes_while_it_runs_is_that_of_the_next_upload_that_wishes_for_none() {
    let service = Service::start().await;
    let client = service.client();
    let of = |answer: &Answer| answer.body["value"]["durable"]["of"].as_u64();
    assert_eq!(of(&client.put("before", noise(300_000)).await), Some(4));
    service.set_profile("1+1");
    assert_eq!(of(&client.put("after", noise(300_000)).await), Some(2));
    let wished = client.ask("PUT", "/files/wished").header("x-evernear-profile", "2+1").body(noise(300_000));
    assert_eq!(of(&send(wished).await), Some(3));
}
