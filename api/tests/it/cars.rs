//! CARs in parts: whose they are, how long they stay, and what becomes of them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use api::{Scope, Store};
use minicbor::{Encoder, data::Tag};
use serde_json::json;
use testing::{Fault, FaultyTransport, noise, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use unixfs::{Block, Cid, Importer, Profile};

use crate::{
    client::{Answer, Client, send},
    service::Service,
};

/// A file as CARs of one root, each with the root's node and with half of the leaves.
pub(crate) struct Split {
    pub(crate) cid: String,
    pub(crate) parts: [Vec<u8>; 2],
}

impl Split {
    pub(crate) fn of(content: &[u8]) -> Self {
        let (mut importer, mut blocks) = (Importer::new(Profile::NFT_CLASSIC), Vec::new());
        let mut take = |block: Block<'_>| match block {
            Block::Raw { cid, offset, bytes } => {
                let at = usize::try_from(offset).unwrap();
                blocks.push((cid, content[at..at + bytes].to_vec()));
            }
            Block::Node { cid, block } => blocks.push((cid, block.to_vec())),
        };
        importer.write(content, &mut take);
        let root = importer.finish(&mut take).root.cid;
        // The root is told last.
        let top = blocks.pop().unwrap();
        let (first, second) = blocks.split_at(blocks.len() / 2);
        let part = |leaves: &[(Cid, Vec<u8>)]| car(&root, &[std::slice::from_ref(&top), leaves].concat());
        Self { cid: root.to_v1().to_string(), parts: [part(first), part(second)] }
    }
}

fn car(root: &Cid, blocks: &[(Cid, Vec<u8>)]) -> Vec<u8> {
    let mut head = Encoder::new(Vec::new());
    head.map(2).unwrap().str("roots").unwrap().array(1).unwrap().tag(Tag::new(42)).unwrap();
    head.bytes(&[&[0][..], &root.to_bytes()].concat()).unwrap().str("version").unwrap().u8(1).unwrap();
    let sections = blocks.iter().map(|(cid, block)| [&cid.to_bytes()[..], block].concat());
    let mut car = Vec::new();
    for section in std::iter::once(head.into_writer()).chain(sections) {
        let mut left = section.len();
        while left >= 0x80 {
            car.push(u8::try_from(left & 0x7f).unwrap() | 0x80);
            left >>= 7;
        }
        car.push(u8::try_from(left).unwrap());
        car.extend_from_slice(&section);
    }
    car
}

pub(crate) async fn upload(client: &Client, car: &[u8]) -> Answer {
    send(client.ask("POST", "/upload").header("content-type", "application/car").body(car.to_vec())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_counts_for_the_token_that_brought_it_and_the_file_for_the_one_that_completed_it() {
    let service = Service::start().await;
    let (content, quota) = (noise(1 << 20), 1_100_000);
    let Split { cid, parts: [first, second] } = Split::of(&content);
    let [one, other] = ["one", "other"];
    let one = service.token(one, Scope::Write, |grant| grant.quota_bytes = Some(quota)).await;
    let other = service.token(other, Scope::Write, |grant| grant.quota_bytes = Some(quota)).await;
    let [one, other] = [one, other].map(|token| service.client_with(Some(&token)));
    let partial = upload(&one, &first).await;
    assert_eq!(
        (partial.status, partial.body["value"]["pin"]["status"].as_str()),
        (200, Some("pinning")),
        "{partial:?}"
    );
    let rest = usize::try_from(quota).unwrap() - first.len();
    assert_eq!(one.put("big", noise(rest + 1)).await.status, 507, "the part counts for it");
    let whole = upload(&other, &second).await;
    assert_eq!((whole.status, &whole.body["value"]["cid"]), (200, &json!(cid)), "{whole:?}");
    assert_eq!(whole.body["value"]["pin"]["status"], "pinned");
    assert_eq!(other.put("big", noise(rest)).await.status, 507, "the file counts for it");
    assert_eq!(one.put("big", noise(usize::try_from(quota).unwrap())).await.status, 201, "its part is no more");
    let list = one.get("/files").await;
    let label =
        list.body["value"].as_array().unwrap().iter().find(|it| it["size"] == content.len()).unwrap()["label"].clone();
    assert_eq!(service.read(label.as_str().unwrap(), &[]).await.unwrap(), content);
    assert!(service.spooled().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_one_token_fit_its_quota_when_the_whole_does() {
    let service = Service::start().await;
    let token = service.token("small", Scope::Write, |grant| grant.quota_bytes = Some(1_050_000)).await;
    let client = service.client_with(Some(&token));
    let Split { parts: [first, second], .. } = Split::of(&noise(1 << 20));
    assert_eq!(upload(&client, &first).await.status, 200);
    let whole = upload(&client, &second).await;
    assert_eq!((whole.status, whole.body["value"]["pin"]["status"].as_str()), (200, Some("pinned")), "{whole:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_nobody_completes_go_after_a_week_and_a_delete_takes_them_at_once() {
    let mut service = Service::start().await;
    let [old, new] = [noise(1 << 20), noise(700_000)].map(|content| Split::of(&content));
    for split in [&old, &new] {
        assert_eq!(upload(&service.client(), &split.parts[0]).await.status, 200);
    }
    assert_eq!(service.client().get("/").await.field("count"), "2");
    service.stop().await;
    service.pass(8 * 86_400).await;
    let file = service.file().await;
    let newer = "UPDATE uploads SET arrived = 8 * 86400 WHERE cid = $1";
    assert_eq!(sqlx::query(newer).bind(&new.cid).execute(&file).await.unwrap().rows_affected(), 1);
    file.close().await;
    service.start_again().await;
    let client = service.client();
    until("the old part is gone", async || client.get(&format!("/{}", old.cid)).await.status == 404).await;
    assert_eq!((client.get(&format!("/{}", new.cid)).await.status, service.spooled().len()), (200, 1));
    // It goes on over the start.
    let whole = upload(&client, &new.parts[1]).await;
    assert_eq!(whole.body["value"]["pin"]["status"], "pinned", "{whole:?}");
    assert_eq!(upload(&client, &old.parts[1]).await.body["value"]["pin"]["status"], "pinning");
    assert_eq!(client.delete(&format!("/{}", old.cid)).await.status, 202);
    assert!(service.spooled().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_spools_disk_changed_is_never_stored() {
    let service = Service::start().await;
    let (client, content) = (service.client(), noise(1 << 20));
    let Split { cid, parts: [first, second] } = Split::of(&content);
    assert_eq!(upload(&client, &first).await.status, 200);
    let part = service.spooled()[0].join("part");
    let mut bytes = std::fs::read(&part).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&part, bytes).unwrap();
    let damaged = upload(&client, &second).await;
    assert!(damaged.status >= 500, "{damaged:?}");
    assert_eq!(client.get("/files").await.body["count"], 0);
    // What comes again takes the place of what was damaged.
    assert_eq!(upload(&client, &second).await.status, damaged.status);
    assert_eq!(client.delete(&format!("/{cid}")).await.status, 202);
    for part in [&first, &second] {
        assert_eq!(upload(&client, part).await.status, 200);
    }
    let label = client.get("/files").await.body["value"][0]["label"].as_str().unwrap().to_owned();
    assert_eq!(service.read(&label, &[]).await.unwrap(), content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_car_whose_dag_repeats_a_block_for_over_a_gib_is_refused() {
    let service = Service::start().await;
    let zeros = vec![0; 1 << 20];
    let (mut importer, mut blocks) = (Importer::new(Profile::UNIXFS_V1_2025), BTreeMap::new());
    let mut take = |block: Block<'_>| {
        let (cid, bytes) = match block {
            Block::Raw { cid, bytes, .. } => (cid, zeros[..bytes].to_vec()),
            Block::Node { cid, block } => (cid, block.to_vec()),
        };
        blocks.insert(cid.to_bytes(), (cid, bytes));
    };
    for _ in 0..1025 {
        importer.write(&zeros, &mut take);
    }
    let root = importer.finish(&mut take).root.cid;
    let car = car(&root, &blocks.into_values().collect::<Vec<_>>());
    assert!(car.len() < 2 << 20);
    let refused = upload(&service.client(), &car).await;
    assert_eq!(
        (refused.status, refused.body["error"]["code"].as_str()),
        (400, Some("ERROR_INVALID_CAR")),
        "{refused:?}"
    );
    assert!(refused.message().contains("over 1073741824 bytes"), "{refused:?}");
    assert!(service.spooled().is_empty());
}

/// Without the end of its token it would take a minute: the twin has patience with nodes that are away.
#[tokio::test(flavor = "multi_thread")]
async fn a_dag_that_came_whole_is_stored_no_further_when_its_token_is_ended() {
    let are_away = Arc::new(AtomicBool::new(false));
    let away = are_away.clone();
    let fault = move |_: &_| if away.load(Relaxed) { Fault::Down } else { Fault::None };
    let service = Service::over(|memory| Arc::new(FaultyTransport::new(memory, fault)), |_| {}).await;
    let client = service.client_with(Some(&service.token("laptop", Scope::Write, |_| {}).await));
    let Split { parts: [first, second], .. } = Split::of(&noise(1 << 20));
    assert_eq!(upload(&client, &first).await.status, 200);
    are_away.store(true, Relaxed);
    let storing = tokio::spawn(async move { upload(&client, &second).await });
    // The list of its blocks is written when all of it came.
    let are_listed = || {
        let listed = |part: &std::path::PathBuf| part.join("blocks").metadata().is_ok_and(|list| list.len() > 0);
        service.spooled().iter().filter(|part| listed(part)).count() == 2
    };
    until("all of it came", async || are_listed()).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let store = Store::open(&service.state).await.unwrap();
    let grant = store.find_token("laptop").await.unwrap().unwrap();
    store.revoke(grant.id, 5).await.unwrap();
    store.close().await;
    let answer = tokio::time::timeout(Duration::from_secs(20), storing).await.expect("it is cut").unwrap();
    assert_eq!(
        (answer.status, answer.body["error"]["code"].as_str()),
        (401, Some("ERROR_TOKEN_NOT_FOUND")),
        "{answer:?}"
    );
    assert_eq!(service.client().get("/files").await.body["count"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_car_that_the_disk_has_no_room_for_is_refused_before_its_first_byte() {
    let service = Service::with(|config| config.spool_bytes_max = u64::MAX).await;
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    let head = format!(
        "POST /upload HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\ncontent-type: application/car\r\n\
         content-length: {}\r\n\r\n",
        service.token,
        1u64 << 60
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 507 ") && answer.contains("free some space"), "{answer}");
    assert!(service.spooled().is_empty());
}
