//! What lasts over stops and crashes of the twin, and of nodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use api::{Scope, StartError, Store};
use async_trait::async_trait;
use bytes::Bytes;
use client::TransportError;
use format::{Locator, NodeName, Record};
use testing::{Call, Fault, FaultyTransport, Intercept, Intercepted, noise, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{client::send, service::Service};

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_under_way_ends_before_the_twin_does_and_new_ones_are_not_taken() {
    let mut service = Service::start().await;
    let bytes = noise(2 << 20);
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    let head = format!(
        "PUT /files/late HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n",
        service.token,
        bytes.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let (first, rest) = bytes.split_at(1 << 20);
    stream.write_all(first).await.unwrap();
    until("the upload is under way", async || {
        let store = Store::open(&service.state).await.unwrap();
        let open = store.open_batches().await.unwrap();
        store.close().await;
        open.len() == 1
    })
    .await;
    let address = service.address;
    let (_, answer) = tokio::join!(service.stop(), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        stream.write_all(rest).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    });
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
    service.start_again().await;
    let list = service.client().get("/files").await;
    assert_eq!((&list.body["count"], list.body["value"][0]["size"].as_u64()), (&1.into(), Some(2 << 20)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_of_an_upload_is_ended_by_the_next_start_and_what_was_acknowledged_stays() {
    let mut service = Service::start().await;
    let kept = service.client().put("kept", noise(300_000)).await;
    service.stop().await;
    // A process that died between the commit at nodes and its answer: a row without a locator, and the object.
    let batch = twin::Batch::draw().unwrap();
    let file = format!("sqlite://{}", service.state.join(api::STORE_FILE).display());
    let file = sqlx::SqlitePool::connect(&file).await.unwrap();
    let row = "INSERT INTO uploads (batch, token, created, state, source, bytes, dag) \
               SELECT $1, id, 1, 0, 0, 0, 0 FROM tokens LIMIT 1";
    sqlx::query(row).bind(&batch.0[..]).execute(&file).await.unwrap();
    file.close().await;
    let options = twin::PutOptions {
        tenure: twin::Tenure { profile: format::Profile::SmallCluster, ..Default::default() },
        name: Some("lost".into()),
        ..Default::default()
    };
    let incoming = twin::Incoming { stream: Box::new(std::io::Cursor::new(noise(200_000))), length: Some(200_000) };
    let quiet: Arc<dyn twin::Progress> = Arc::new(());
    let lost = service.twin.put_incoming(batch, incoming, &options, &quiet).await.unwrap();
    service.start_again().await;
    until("what was left is ended", async || service.twin.list().await.len() == 1).await;
    assert_eq!(service.read(&lost.label.to_string(), &[]).await, None);
    assert!(service.read(kept.text("label"), &[]).await.is_some());
    assert_eq!(service.client().get("/files").await.body["count"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_twins_never_answer_for_one_folder() {
    let mut service = Service::start().await;
    let second = service.second().await;
    assert!(matches!(second, Err(StartError::Runs { .. })));
    service.stop().await;
    assert!(service.second().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_ended_beside_the_running_twin_counts_no_more() {
    let service = Service::start().await;
    let token = service.token("laptop", Scope::Write, |_| {}).await;
    let client = service.client_with(Some(&token));
    assert_eq!(client.get("/files").await.status, 200);
    let store = Store::open(&service.state).await.unwrap();
    let grant = store.tokens().await.unwrap().into_iter().find(|it| it.name == "laptop").unwrap();
    store.revoke(grant.id, 5).await.unwrap();
    assert_eq!(client.get("/files").await.status, 401);
    store.close().await;
}

/// Takes a minute: the twin has patience with nodes that are away.
#[tokio::test(flavor = "multi_thread")]
async fn while_nodes_are_away_uploads_are_told_to_come_again_and_leave_nothing() {
    let are_away = Arc::new(AtomicBool::new(true));
    let away = are_away.clone();
    let fault = move |_: &_| if away.load(Relaxed) { Fault::Down } else { Fault::None };
    let service = Service::over(|memory| Arc::new(FaultyTransport::new(memory, fault)), |_| {}).await;
    for size in [100, 400_000] {
        let answer = service.client().put("a", noise(size)).await;
        assert_eq!((answer.status, answer.field("retry-after")), (503, "10"), "{answer:?}");
    }
    are_away.store(false, Relaxed);
    assert_eq!(service.client().put("a", noise(400_000)).await.status, 201);
    assert_eq!(service.client().get("/files").await.body["count"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_was_lost_takes_no_row_along_and_what_nodes_know_as_erased_goes() {
    let mut service = Service::start().await;
    for name in ["lost", "erased"] {
        assert_eq!(service.client().put(name, noise(300_000)).await.status, 201);
    }
    service.stop().await;
    let entries = service.twin.list().await;
    let locator = |name: &str| entries.iter().find(|(_, entry)| entry.path == name).map(|(at, _)| *at).unwrap();
    let (lost, erased) = (locator("lost"), locator("erased"));
    service.twin.remove(&erased).await.unwrap();
    // As where the state folder comes back from a backup without it.
    service.lose_index();
    assert!(service.twin.list().await.is_empty());
    service.start_again().await;
    let file = format!("sqlite://{}", service.state.join(api::STORE_FILE).display());
    let file = sqlx::SqlitePool::connect(&file).await.unwrap();
    let rows =
        async || -> Vec<Vec<u8>> { sqlx::query_scalar("SELECT locator FROM uploads").fetch_all(&file).await.unwrap() };
    until("the row of what was erased is gone", async || !rows().await.contains(&erased.0.to_vec())).await;
    assert_eq!(rows().await, [lost.0.to_vec()]);
    file.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_no_node_knows_any_more_is_forgotten_when_it_is_erased() {
    let service = Service::start().await;
    let token = service.token("small", Scope::Write, |grant| grant.quota_bytes = Some(400_000)).await;
    let client = service.client_with(Some(&token));
    let id = client.put("a", noise(300_000)).await.text("id").to_owned();
    let all = service.twin.list().await.into_keys().collect();
    // Another program erases it, and nodes forget it.
    service.twin.remove_all(&all, &(Arc::new(()) as Arc<dyn twin::Progress>)).await.unwrap();
    assert_eq!(client.put("b", noise(300_000)).await.status, 507);
    assert_eq!(client.delete(&format!("/files/{id}")).await.status, 200);
    assert_eq!(client.put("b", noise(300_000)).await.status, 201);
    assert_eq!(client.delete(&format!("/files/{id}")).await.status, 404);
}

/// Nodes with clocks that are so many seconds ahead, which answer nonsense when they are asked for one record.
#[derive(Clone, Default)]
struct Odd {
    ahead: Arc<AtomicI64>,
    nonsense: Arc<Mutex<Option<Locator>>>,
}

#[async_trait]
impl Intercept for Odd {
    type Pass = ();

    async fn before(&self, _: &NodeName, _: Call) -> Result<(), TransportError> {
        Ok(())
    }

    fn record(&self, _: &NodeName, (): (), record: Option<Bytes>) -> Option<Bytes> {
        let nonsense = *self.nonsense.lock().unwrap();
        let locator = Record::decode(record.as_ref()?).unwrap().locator();
        if nonsense == Some(locator) { Some(Bytes::from_static(b"x")) } else { record }
    }

    fn clocks(&self) -> Option<BTreeMap<NodeName, i64>> {
        let ahead = self.ahead.load(Relaxed);
        Some((0..8).map(|at| (format!("o{at}").parse().unwrap(), ahead)).collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_by_itself_counts_no_more_a_day_later() {
    let (day, hour) = (86_400, 3600);
    for is_compacted in [true, false] {
        let odd = Odd::default();
        let between = odd.clone();
        let mut service = Service::over(|memory| Arc::new(Intercepted::over(memory, between)), |_| {}).await;
        let token = service.token("small", Scope::Write, |grant| grant.quota_bytes = Some(400_000)).await;
        let put = async |service: &Service, name: &str, end: &str| {
            let client = service.client_with(Some(&token));
            let path = format!("/files/{name}");
            send(client.ask("PUT", &path).header("x-evernear-expires", end).body(noise(300_000))).await.status
        };
        assert_eq!(put(&service, "a", "+1d").await, 201);
        odd.ahead.store(2 * day - hour, Relaxed);
        service.stop().await;
        service.start_again().await;
        assert_eq!(put(&service, "b", "never").await, 507, "it may be renewed yet");
        odd.ahead.store(2 * day + hour, Relaxed);
        service.stop().await;
        if is_compacted {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            let ahead = u64::try_from(2 * day + hour).unwrap();
            assert_eq!(service.index().compact(now + ahead).unwrap().forgotten, 1);
        }
        service.start_again().await;
        until("there is room again", async || put(&service, "b", "never").await == 201).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_nodes_say_nothing_of_keeps_no_other_row() {
    let odd = Odd::default();
    let between = odd.clone();
    let mut service = Service::over(|memory| Arc::new(Intercepted::over(memory, between)), |_| {}).await;
    for name in ["untold", "erased", "kept"] {
        assert_eq!(service.client().put(name, noise(300_000)).await.status, 201);
    }
    service.stop().await;
    let entries = service.twin.list().await;
    let locator = |name: &str| entries.iter().find(|(_, entry)| entry.path == name).map(|(at, _)| *at).unwrap();
    service.twin.remove(&locator("erased")).await.unwrap();
    service.lose_index();
    *odd.nonsense.lock().unwrap() = Some(locator("untold"));
    service.start_again().await;
    let file = service.file().await;
    let rows = async || -> BTreeSet<Vec<u8>> {
        let rows: Vec<Vec<u8>> = sqlx::query_scalar("SELECT locator FROM uploads").fetch_all(&file).await.unwrap();
        rows.into_iter().collect()
    };
    let left = ["untold", "kept"].map(|name| locator(name).0.to_vec()).into();
    until("the row of what was erased is gone", async || rows().await == left).await;
    file.close().await;
}

/// Nodes that take no lease while their disks are full.
#[derive(Clone, Default)]
struct Full(Arc<AtomicBool>);

#[async_trait]
impl Intercept for Full {
    type Pass = ();

    async fn before(&self, node: &NodeName, call: Call) -> Result<(), TransportError> {
        match call == Call::PutLease && self.0.load(Relaxed) {
            true => Err(TransportError::Failed { node: node.clone(), status: 507, reason: "full".into() }),
            false => Ok(()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_full_nodes_cut_short_is_ended_by_the_twin_itself_and_counts_no_more() {
    let full = Full::default();
    let between = full.clone();
    let mut service = Service::over(|memory| Arc::new(Intercepted::over(memory, between)), |_| {}).await;
    let token = service.token("small", Scope::Write, |grant| grant.quota_bytes = Some(400_000)).await;
    let put = async |service: &Service, name: &str| service.client_with(Some(&token)).put(name, noise(300_000)).await;
    let id = put(&service, "a").await.text("id").to_owned();
    full.0.store(true, Relaxed);
    let answer = service.client_with(Some(&token)).delete(&format!("/files/{id}")).await;
    assert_eq!((answer.status, answer.field("retry-after")), (503, "10"), "{answer:?}");
    assert_eq!(service.twin.ending().await.unwrap().len(), 1);
    assert_eq!(put(&service, "b").await.status, 507, "it is not erased yet");
    service.stop().await;
    full.0.store(false, Relaxed);
    service.start_again().await;
    until("the removal is ended", async || service.twin.ending().await.unwrap().is_empty()).await;
    until("there is room again", async || put(&service, "b").await.status == 201).await;
    assert_eq!(service.twin.list().await.len(), 1);
}
