//! Resumable uploads: what an offset promises, and what a client may not do.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use api::Scope;
use format::wire::NodeEntry;
use reqwest::{RequestBuilder, header::HeaderMap};
use testing::{Fault, FaultyTransport, noise, until};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    cars::{Split, upload},
    client::{Answer, Client, send},
    service::Service,
};

pub(crate) fn tus(client: &Client, method: &str, path: &str) -> RequestBuilder {
    client.ask(method, path).header("tus-resumable", "1.0.0")
}

pub(crate) async fn create(client: &Client, length: usize) -> String {
    let created = send(tus(client, "POST", "/tus").header("upload-length", length)).await;
    assert_eq!((created.status, created.field("tus-resumable")), (201, "1.0.0"), "{created:?}");
    assert!(created.field("upload-expires").ends_with("GMT"), "{created:?}");
    created.field("location").to_owned()
}

pub(crate) async fn patch(client: &Client, path: &str, offset: usize, bytes: &[u8]) -> Answer {
    let request = tus(client, "PATCH", path).header("upload-offset", offset);
    send(request.header("content-type", "application/offset+octet-stream").body(bytes.to_vec())).await
}

async fn fields(client: &Client, path: &str) -> (u16, HeaderMap) {
    let answer = send(tus(client, "HEAD", path)).await;
    (answer.status, answer.fields)
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_become_a_file_and_the_last_answer_says_where_it_is() {
    let service = Service::start().await;
    let (client, bytes) = (service.client(), noise(1_000_000));
    let path = create(&client, bytes.len()).await;
    let first = patch(&client, &path, 0, &bytes[..400_000]).await;
    assert_eq!((first.status, first.field("upload-offset"), first.field("x-evernear-label")), (204, "400000", ""));
    let last = patch(&client, &path, 400_000, &bytes[400_000..]).await;
    assert_eq!((last.status, last.field("upload-offset")), (204, "1000000"), "{last:?}");
    assert_eq!(service.read(last.field("x-evernear-label"), &[]).await.unwrap(), bytes);
    let (status, head) = fields(&client, &path).await;
    assert_eq!(
        (status, &head["upload-offset"], &head["upload-length"]),
        (200, &"1000000".parse().unwrap(), &"1000000".parse().unwrap())
    );
    assert_eq!(head["x-evernear-id"], last.field("x-evernear-id"));
    // With its content in the request that begins it, and empty.
    let whole = tus(&client, "POST", "/tus").header("upload-length", 3).header("upload-metadata", "filename YS50eHQ=");
    let whole = send(whole.header("content-type", "application/offset+octet-stream").body("abc")).await;
    assert_eq!((whole.status, whole.field("upload-offset")), (201, "3"), "{whole:?}");
    assert!(whole.field("x-evernear-url").ends_with("/a.txt"), "{whole:?}");
    let empty = send(tus(&client, "POST", "/tus").header("upload-length", 0)).await;
    assert_eq!(service.read(empty.field("x-evernear-label"), &[]).await.unwrap(), b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_told_as_received_outlives_the_twin_and_is_stored_by_the_next_one() {
    let mut service = Service::start().await;
    let bytes = noise(600_000);
    let path = create(&service.client(), bytes.len()).await;
    assert_eq!(patch(&service.client(), &path, 0, &bytes[..250_000]).await.status, 204);
    service.stop().await;
    service.start_again().await;
    assert_eq!(fields(&service.client(), &path).await.1["upload-offset"], "250000");
    // All of it came, and the twin ended before it was stored: its row says so.
    service.stop().await;
    let file = format!("sqlite://{}", service.state.join(api::STORE_FILE).display());
    let file = sqlx::SqlitePool::connect(&file).await.unwrap();
    sqlx::query("UPDATE resumables SET offset = length").execute(&file).await.unwrap();
    file.close().await;
    let data = service.spooled()[0].join("data");
    std::fs::write(data, &bytes).unwrap();
    service.start_again().await;
    let client = service.client();
    until("it is stored", async || client.get("/files").await.body["count"] == 1).await;
    let label = client.get("/files").await.body["value"][0]["label"].as_str().unwrap().to_owned();
    assert_eq!(service.read(&label, &[]).await.unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_at_another_offset_or_of_another_content_changes_nothing() {
    let service = Service::start().await;
    let client = service.client();
    let path = create(&client, 11).await;
    assert_eq!(patch(&client, &path, 5, b"world").await.status, 409);
    assert_eq!(patch(&client, &path, 0, b"hello world and more").await.status, 413);
    let checked = async |sum: &str, bytes: &'static str| {
        let request = tus(&client, "PATCH", &path).header("upload-offset", 0).header("upload-checksum", sum);
        send(request.header("content-type", "application/offset+octet-stream").body(bytes)).await.status
    };
    assert_eq!(checked("sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", "hello w0rld").await, 460);
    assert_eq!(checked("crc32 AAAA", "hello world").await, 400);
    assert_eq!(fields(&client, &path).await.1["upload-offset"], "0");
    assert_eq!(checked("sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", "hello world").await, 204);
    let version = send(client.ask("HEAD", &path)).await;
    assert_eq!((version.status, version.field("tus-version")), (412, "1.0.0"));
    let plain = tus(&client, "PATCH", &path).header("upload-offset", 11).header("content-type", "text/plain");
    assert_eq!(send(plain.body("x")).await.status, 415);
    let told = send(client.ask("OPTIONS", "/tus")).await;
    assert!(told.status == 204 && told.field("tus-extension").contains("concatenation"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_its_tokens_alone_and_counts_for_its_quota_until_it_is_given_up() {
    let service = Service::start().await;
    let token = service.token("small", Scope::Write, |grant| grant.quota_bytes = Some(1000)).await;
    let client = service.client_with(Some(&token));
    let long = send(tus(&client, "POST", "/tus").header("upload-length", 1001)).await;
    assert_eq!(long.status, 507, "{long:?}");
    let path = create(&client, 900).await;
    assert_eq!(patch(&client, &path, 0, &noise(800)).await.status, 204);
    let over = send(tus(&client, "POST", "/tus").header("upload-length", 300)).await;
    assert_eq!(over.status, 507);
    let other = service.client_with(Some(&service.token("other", Scope::Write, |_| {}).await));
    for (client, method) in [(&other, "HEAD"), (&other, "DELETE"), (&service.client(), "HEAD")] {
        assert_eq!(send(tus(client, method, &path)).await.status, 404, "{method}");
    }
    assert_eq!(send(tus(&client, "DELETE", &path)).await.status, 204);
    assert_eq!(fields(&client, &path).await.0, 404);
    create(&client, 1000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wishes_are_checked_at_the_beginning_and_granted_at_the_end() {
    let service = Service::start().await;
    let client = service.client();
    for (field, value) in
        [("x-evernear-profile", "fast"), ("x-evernear-colour", "red"), ("upload-metadata", "filename !")]
    {
        let wrong = tus(&client, "POST", "/tus").header("upload-length", 3).header(field, value);
        assert_eq!(send(wrong).await.status, 400, "{field}");
    }
    let request = tus(&client, "POST", "/tus").header("upload-length", 200_000).header("x-evernear-expires", "+2d");
    let created = send(request.header("x-evernear-profile", "3+2")).await;
    let done = patch(&client, created.field("location"), 0, &noise(200_000)).await;
    let file = client.get(&format!("/files/{}", done.field("x-evernear-id"))).await;
    assert_eq!(file.text("profile"), "3+2");
    assert!(file.body["value"]["expires"].is_string(), "{file:?}");
}

async fn partial(client: &Client, bytes: &[u8]) -> String {
    let request = tus(client, "POST", "/tus").header("upload-length", bytes.len()).header("upload-concat", "partial");
    let created = send(request.header("content-type", "application/offset+octet-stream").body(bytes.to_vec())).await;
    assert_eq!(
        (created.status, created.field("upload-offset")),
        (201, bytes.len().to_string().as_str()),
        "{created:?}"
    );
    created.field("location").to_owned()
}

async fn concatenate(client: &Client, parts: &[&String]) -> Answer {
    let parts = parts.iter().map(|it| it.as_str()).collect::<Vec<_>>().join(" ");
    send(tus(client, "POST", "/tus").header("upload-concat", format!("final;{parts}"))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upload_will_have_is_taken_of_the_quota_when_it_is_created() {
    let mut service = Service::start().await;
    let token = service.token("small", Scope::Write, |grant| grant.quota_bytes = Some(10_000)).await;
    let client = service.client_with(Some(&token));
    let path = create(&client, 6000).await;
    let second = send(tus(&client, "POST", "/tus").header("upload-length", 4001)).await;
    assert!(second.status == 507 && second.message().contains("would have 10001"), "{second:?}");
    assert_eq!((client.put("a", noise(4001)).await.status, client.put("b", noise(1000)).await.status), (507, 201));
    service.stop().await;
    service.start_again().await;
    let client = service.client_with(Some(&token));
    assert_eq!((client.put("a", noise(3001)).await.status, client.put("b", noise(1000)).await.status), (507, 201));
    assert_eq!(patch(&client, &path, 0, &noise(6000)).await.status, 204);
    assert_eq!((client.put("a", noise(2001)).await.status, client.put("b", noise(2000)).await.status), (507, 201));
    // To give up what is stored gives nothing back.
    assert_eq!(send(tus(&client, "DELETE", &path)).await.status, 204);
    assert_eq!(client.put("a", "x").await.status, 507);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_belong_to_one_upload_and_count_once() {
    let service = Service::start().await;
    let token = service.token("small", Scope::Write, |grant| grant.quota_bytes = Some(10_000)).await;
    let client = service.client_with(Some(&token));
    let (one, two) = (partial(&client, &noise(5000)).await, partial(&client, &noise(5000)).await);
    let twice = concatenate(&client, &[&one, &one]).await;
    assert_eq!(twice.status, 409, "{twice:?}");
    assert_eq!(fields(&client, &one).await.0, 200, "nothing of it was done");
    let whole = concatenate(&client, &[&one, &two]).await;
    assert_eq!(whole.status, 201, "{whole:?}");
    assert_eq!(service.read(whole.field("x-evernear-label"), &[]).await.unwrap(), [noise(5000), noise(5000)].concat());
    assert_eq!((fields(&client, &one).await.0, concatenate(&client, &[&one, &two]).await.status), (404, 404));
    assert_eq!(client.put("a", "x").await.status, 507);
    let erased = client.delete(&format!("/files/{}", whole.field("x-evernear-id"))).await;
    assert_eq!(
        (erased.status, client.put("a", noise(10_000)).await.status, client.put("b", "x").await.status),
        (200, 201, 507)
    );
    assert!(service.spooled().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_a_client_cannot_use_comes_in_a_field() {
    let service = Service::start().await;
    let client = service.client();
    let path = create(&client, 3).await;
    let post = |method: &str| tus(&client, "POST", &path).header("x-http-method-override", method);
    let chunk = post("PATCH").header("upload-offset", 0).header("content-type", "application/offset+octet-stream");
    let chunk = send(chunk.body("abc")).await;
    assert_eq!((chunk.status, chunk.field("upload-offset")), (204, "3"), "{chunk:?}");
    assert_eq!(send(post("HEAD")).await.field("upload-length"), "3");
    assert_eq!((send(post("PUT")).await.status, send(post("DELETE")).await.status), (405, 204));
}

/// Takes a minute: the twin has patience with nodes that are away.
#[tokio::test(flavor = "multi_thread")]
async fn what_came_whole_waits_for_nodes_that_are_away_beyond_its_time_and_says_why() {
    let are_away = Arc::new(AtomicBool::new(false));
    let away = are_away.clone();
    let fault = move |_: &_| if away.load(Relaxed) { Fault::Down } else { Fault::None };
    let mut service = Service::over(|memory| Arc::new(FaultyTransport::new(memory, fault)), |_| {}).await;
    let (client, bytes) = (service.client(), noise(300_000));
    let path = create(&client, bytes.len()).await;
    are_away.store(true, Relaxed);
    assert_eq!(patch(&client, &path, 0, &bytes).await.status, 503);
    let (status, head) = fields(&client, &path).await;
    assert_eq!((status, &head["upload-offset"]), (200, &head["upload-length"]));
    assert!(!head["x-evernear-fault"].is_empty() && head.contains_key("retry-after"), "{head:?}");
    assert!(!head.contains_key("upload-expires"), "{head:?}");
    let file = client.get(&format!("{path}/file")).await;
    assert!(file.status == 503 && file.message().starts_with("it is whole and not stored yet: "), "{file:?}");
    // Eight days later the nodes are back.
    service.stop().await;
    let file = format!("sqlite://{}", service.state.join(api::STORE_FILE).display());
    let file = sqlx::SqlitePool::connect(&file).await.unwrap();
    sqlx::query("UPDATE resumables SET expires = 0, due = 0").execute(&file).await.unwrap();
    file.close().await;
    are_away.store(false, Relaxed);
    service.start_again().await;
    let client = service.client();
    until("it is stored", async || client.get("/files").await.body["count"] == 1).await;
    let label = client.get("/files").await.body["value"][0]["label"].as_str().unwrap().to_owned();
    assert_eq!(service.read(&label, &[]).await.unwrap(), bytes);
    until("its bytes leave the spool", async || service.spooled().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_the_disk_has_no_room_for_is_refused_before_a_byte_of_it_comes() {
    let service = Service::with(|config| config.spool_bytes_max = u64::MAX).await;
    let client = service.client();
    let long = send(tus(&client, "POST", "/tus").header("upload-length", 1u64 << 60)).await;
    let said = long.body["error"]["message"].as_str().unwrap().to_owned();
    assert!(long.status == 507 && said.contains("free some space"), "{long:?}");
    assert!(service.spooled().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_forgotten_keeps_no_room_and_no_other_row() {
    let mut service = Service::start().await;
    for _ in 0..2 {
        let path = create(&service.client(), 900).await;
        assert_eq!(patch(&service.client(), &path, 0, &noise(800)).await.status, 204);
    }
    let file = format!("sqlite://{}", service.state.join(api::STORE_FILE).display());
    let file = sqlx::SqlitePool::connect(&file).await.unwrap();
    let batches =
        async || -> Vec<Vec<u8>> { sqlx::query_scalar("SELECT batch FROM resumables").fetch_all(&file).await.unwrap() };
    let stuck = batches().await[0].clone();
    let hex: String = stuck.iter().map(|byte| format!("{byte:02x}")).collect();
    let trigger = format!(
        "CREATE TRIGGER stuck BEFORE DELETE ON resumables WHEN hex(old.batch) = upper('{hex}') \
         BEGIN SELECT RAISE(ABORT, 'stuck'); END"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(trigger)).execute(&file).await.unwrap();
    // Its owner gives it up: the bytes are gone, and no chunk follows them.
    let path = format!("/tus/{hex}");
    assert_eq!(send(tus(&service.client(), "DELETE", &path)).await.status, 500);
    assert_eq!((service.spooled().len(), patch(&service.client(), &path, 800, b"x").await.status), (1, 410));
    // Both expire.
    service.stop().await;
    sqlx::query("UPDATE resumables SET expires = 0").execute(&file).await.unwrap();
    service.start_again().await;
    until("the other is forgotten", async || batches().await == [stuck.clone()]).await;
    assert!(service.spooled().is_empty());
    file.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_gives_up_what_another_token_began() {
    let service = Service::start().await;
    let token = service.token("full", Scope::Write, |grant| grant.quota_bytes = Some(1000)).await;
    let client = service.client_with(Some(&token));
    let path = create(&client, 1000).await;
    assert_eq!(patch(&client, &path, 0, b"abc").await.status, 204);
    assert_eq!(send(tus(&service.client(), "DELETE", &path)).await.status, 204);
    assert_eq!((fields(&client, &path).await.0, service.spooled().len()), (404, 0));
    create(&client, 1000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_ended_token_did_not_finish_is_given_up_at_once() {
    let service = Service::with(|config| config.spool_bytes_max = 2_000_000).await;
    let client = service.client_with(Some(&service.token("laptop", Scope::Write, |_| {}).await));
    let path = create(&client, 300_000).await;
    assert_eq!(patch(&client, &path, 0, &noise(200_000)).await.status, 204);
    let part = partial(&client, &noise(1000)).await;
    let Split { cid, parts: [first, _] } = Split::of(&noise(1 << 20));
    assert_eq!(upload(&client, &first).await.status, 200);
    let owner = service.client();
    let other = create(&owner, 3).await;
    assert_eq!(service.spooled().len(), 4);
    assert_eq!(owner.delete("/tokens/laptop").await.status, 200);
    until("its bytes are gone", async || service.spooled().len() == 1).await;
    let file = format!("sqlite://{}", service.state.join(api::STORE_FILE).display());
    let file = sqlx::SqlitePool::connect(&file).await.unwrap();
    let rows = async |of: &'static str| -> i64 { sqlx::query_scalar(of).fetch_one(&file).await.unwrap() };
    until("its rows are gone", async || rows("SELECT count(*) FROM resumables").await == 1).await;
    until("its part is gone", async || rows("SELECT count(*) FROM uploads").await == 0).await;
    assert_eq!(owner.get(&format!("/{cid}")).await.status, 404);
    assert_eq!(patch(&owner, &other, 0, b"abc").await.status, 204, "another's goes on");
    assert_eq!(fields(&client, &part).await.0, 401);
    // Its room is there again: each token has half of it.
    create(&owner, 1_000_000).await;
    file.close().await;
}

/// Takes a minute: the twin has patience with nodes that are away.
#[tokio::test(flavor = "multi_thread")]
async fn what_came_whole_by_a_token_that_was_ended_is_never_stored() {
    let are_away = Arc::new(AtomicBool::new(false));
    let away = are_away.clone();
    let fault = move |_: &_| if away.load(Relaxed) { Fault::Down } else { Fault::None };
    let mut service = Service::over(|memory| Arc::new(FaultyTransport::new(memory, fault)), |_| {}).await;
    let client = service.client_with(Some(&service.token("laptop", Scope::Write, |_| {}).await));
    let path = create(&client, 300_000).await;
    are_away.store(true, Relaxed);
    assert_eq!(patch(&client, &path, 0, &noise(300_000)).await.status, 503);
    service.stop().await;
    // As a command beside the twin ends it.
    let store = api::Store::open(&service.state).await.unwrap();
    let grant = store.find_token("laptop").await.unwrap().unwrap();
    store.revoke(grant.id, 5).await.unwrap();
    store.close().await;
    let file = format!("sqlite://{}", service.state.join(api::STORE_FILE).display());
    let file = sqlx::SqlitePool::connect(&file).await.unwrap();
    sqlx::query("UPDATE resumables SET due = 1").execute(&file).await.unwrap();
    file.close().await;
    are_away.store(false, Relaxed);
    service.start_again().await;
    until("it is given up", async || service.spooled().is_empty()).await;
    assert_eq!(service.client().get("/files").await.body["count"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_of_a_chunk_that_does_not_count_leaves_the_disk() {
    let service = Service::start().await;
    let (client, bytes) = (service.client(), noise(3 << 20));
    let path = create(&client, bytes.len()).await;
    assert_eq!(patch(&client, &path, 0, &bytes[..1000]).await.status, 204);
    // It has another checksum, and then it breaks off.
    let sum = "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=";
    let request = tus(&client, "PATCH", &path).header("upload-offset", 1000).header("upload-checksum", sum);
    let other = request.header("content-type", "application/offset+octet-stream").body(bytes[1000..].to_vec());
    assert_eq!(send(other).await.status, 460);
    assert_eq!(service.spooled_bytes(), 1000);
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    let head = format!(
        "PATCH {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\ntus-resumable: 1.0.0\r\nupload-offset: 1000\r\n\
         upload-checksum: {sum}\r\ncontent-type: application/offset+octet-stream\r\ncontent-length: {}\r\n\r\n",
        service.token,
        bytes.len() - 1000
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&bytes[1000..2 << 20]).await.unwrap();
    until("some of it is written", async || service.spooled_bytes() > 1_000_000).await;
    drop(stream);
    until("it is gone", async || service.spooled_bytes() == 1000).await;
    let last = patch(&client, &path, 1000, &bytes[1000..]).await;
    assert_eq!(service.read(last.field("x-evernear-label"), &[]).await.unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_other_uploads_were_promised_of_the_disk_is_promised_to_nobody_else() {
    let service = Service::with(|config| config.spool_bytes_max = u64::MAX).await;
    let client = service.client();
    let ask = async |length: u64| {
        let answer = send(tus(&client, "POST", "/tus").header("upload-length", length)).await;
        (answer.status, answer.body["error"]["message"].as_str().unwrap_or_default().to_owned())
    };
    let (_, said) = ask(1 << 60).await;
    let room: u64 = said.split("room for ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert_eq!(ask(room / 10 * 6).await.0, 201);
    let (status, said) = ask(room / 10 * 6).await;
    assert!(status == 507 && said.contains("promised"), "{status} {said}");
    assert_eq!((ask(room / 10 * 2).await.0, service.spooled().len()), (201, 2));
}

/// Has nodes say that they have so many bytes free.
fn leave(service: &Service, free_bytes: u64) {
    let nodes = service.network.topology().origins();
    service.network.topology().replace(nodes.into_iter().map(|node| NodeEntry { free_bytes, ..node }).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_the_network_has_no_room_for_is_refused_or_given_up_after_seven_days() {
    let mut service = Service::start().await;
    let client = service.client();
    let path = create(&client, 300_000).await;
    leave(&service, 1000);
    let refused = send(tus(&client, "POST", "/tus").header("upload-length", 300_000)).await;
    assert_eq!(
        (refused.status, refused.body["error"]["code"].as_str()),
        (507, Some("ERROR_NETWORK_FULL")),
        "{refused:?}"
    );
    // What is so small that it lies in its record is taken.
    create(&client, 1000).await;
    leave(&service, 0);
    assert!(patch(&client, &path, 0, &noise(300_000)).await.status >= 400);
    let (status, head) = fields(&client, &path).await;
    assert!(status == 200 && head.contains_key("x-evernear-fault") && head.contains_key("upload-expires"), "{head:?}");
    service.stop().await;
    service.pass(6 * 86_400).await;
    service.start_again().await;
    assert_eq!(fields(&service.client(), &path).await.0, 200);
    service.stop().await;
    service.pass(2 * 86_400).await;
    service.start_again().await;
    let client = service.client();
    until("both are given up", async || service.spooled().is_empty()).await;
    until("its row is gone", async || fields(&client, &path).await.0 == 404).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_bytes_are_gone_says_so_and_is_given_up_after_seven_days() {
    let mut service = Service::start().await;
    let path = create(&service.client(), 1000).await;
    service.stop().await;
    // The power went while it was given up: its bytes were removed, its row was not.
    let file = service.file().await;
    sqlx::query("UPDATE resumables SET offset = length").execute(&file).await.unwrap();
    std::fs::remove_dir_all(&service.spooled()[0]).unwrap();
    service.start_again().await;
    let client = service.client();
    until("it was tried", async || fields(&client, &path).await.1.contains_key("x-evernear-fault")).await;
    let (_, head) = fields(&client, &path).await;
    assert!(head["x-evernear-fault"].to_str().unwrap().contains("nothing is left"), "{head:?}");
    assert!(head.contains_key("upload-expires"), "{head:?}");
    service.stop().await;
    service.pass(8 * 86_400).await;
    service.start_again().await;
    let rows =
        async || -> i64 { sqlx::query_scalar("SELECT count(*) FROM resumables").fetch_one(&file).await.unwrap() };
    until("its row is gone", async || rows().await == 0).await;
    file.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_days_ahead_ends_nothing_that_was_acknowledged() {
    let mut service = Service::start().await;
    let client = service.client();
    let path = create(&client, 1000).await;
    assert_eq!(patch(&client, &path, 0, &noise(800)).await.status, 204);
    let Split { cid, parts: [first, second] } = Split::of(&noise(1 << 20));
    assert_eq!(upload(&client, &first).await.status, 200);
    service.stop().await;
    let file = service.file().await;
    sqlx::query("UPDATE lived SET latest = latest - 30 * 86400").execute(&file).await.unwrap();
    service.start_again().await;
    // To its end a sweep takes part in.
    service.stop().await;
    let lived: i64 = sqlx::query_scalar("SELECT seconds FROM lived").fetch_one(&file).await.unwrap();
    assert!((86_400..2 * 86_400).contains(&lived), "{lived}");
    file.close().await;
    service.start_again().await;
    let client = service.client();
    let (status, head) = fields(&client, &path).await;
    assert_eq!((status, &head["upload-offset"]), (200, &"800".parse().unwrap()));
    assert_eq!(client.get(&format!("/{cid}")).await.status, 200);
    assert_eq!(upload(&client, &second).await.body["value"]["pin"]["status"], "pinned");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_whole_and_being_stored_is_told_as_that() {
    let is_slow = Arc::new(AtomicBool::new(false));
    let slow = is_slow.clone();
    let late = Fault::Late(std::time::Duration::from_secs(1));
    let fault = move |_: &_| if slow.load(Relaxed) { late } else { Fault::None };
    let service = Service::over(|memory| Arc::new(FaultyTransport::new(memory, fault)), |_| {}).await;
    let (client, bytes) = (service.client(), noise(300_000));
    let path = create(&client, bytes.len()).await;
    let file = format!("{path}/file");
    assert_eq!(patch(&client, &path, 0, &bytes[..200_000]).await.status, 204);
    assert_eq!(client.get(&file).await.status, 404, "not all came");
    is_slow.store(true, Relaxed);
    let last = async {
        let done = patch(&client, &path, 200_000, &bytes[200_000..]).await;
        assert_eq!((done.status, client.get(&file).await.status), (204, 200));
    };
    let look = async {
        until("it is being stored", async || client.get(&file).await.status == 409).await;
        let told = client.get(&file).await;
        assert_eq!((told.status, told.field("retry-after")), (409, "1"), "{told:?}");
        is_slow.store(false, Relaxed);
    };
    tokio::join!(last, look);
}
