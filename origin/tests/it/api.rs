//! The node API over real mutual TLS and HTTP/2, as twins, edges and other origins call it.

use std::{fs, path::Path, sync::Arc, time::Duration};

use axum::{body::Body, http::Request};
use bytes::Bytes;
use client::{HttpTransport, IdentityError, ShardAsk, Topology, Transport, verify_slice};
use format::{
    Capability, Cell, Lease, OwnerSecret, Place, Pointer, Record, StableName,
    limits::{NODES_BYTES_MAX, NODES_MAX},
    wire::{ApiError, ChangeKind, Fault, NodeEntry, Role},
};
use http_body_util::BodyExt;
use hyper::StatusCode;
use origin::{
    Origin, StartError,
    catalog::{Catalog, SqliteCatalog},
};
use sqlx::{Connection, SqliteConnection};
use testing::{
    Sample,
    conformance::{status, upload},
    counters, place, until,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::world::World;

/// Reads cells through the API and verifies them as a reader does.
async fn read(
    caller: &HttpTransport,
    world: &World,
    sample: &Sample,
    column: usize,
    first: usize,
    count: usize,
) -> Vec<Cell> {
    let public = &sample.sealed.public;
    let ask = ShardAsk { object: public.id(), column, first: first as u64, count: count as u64 };
    verify_slice(public, ask, caller.read_shard(&world.name(1), ask).await.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_reads_health_and_metrics_in_clear() {
    let mut world = World::start(1, "admin = \"127.0.0.1:0\"").await;
    let address = world.origin(1).admin.unwrap();
    let ask = async |path: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut answer = String::new();
        // Closed at once where all places are taken.
        let _ = stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await;
        let _ = stream.read_to_string(&mut answer).await;
        answer
    };
    let mut silent = Vec::new();
    for _ in 0..16 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    until("those who send nothing give way", async || ask("/health").await.contains("ok\n")).await;
    drop(silent);
    for (path, status, says) in
        [("/health", 200, "ok\n"), ("/ready", 200, "ready\n"), ("/v1/nodes", 404, "there are /metrics")]
    {
        let answer = ask(path).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(says), "{path}: {answer}");
    }
    let metrics = ask("/metrics").await;
    let (_, body) = metrics.split_once("\r\n\r\n").unwrap();
    assert!(metrics.contains("content-type: text/plain; version=0.0.4") && counters(body) > 5, "{metrics}");
    world.stop_node(1).await;
    assert!(TcpStream::connect(address).await.is_err(), "it ends with the node");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_uploaded_is_read_with_a_proof_also_after_a_restart() {
    let world = World::start(1, "").await;
    let (twin, edge) = (world.caller("t1", Role::Twin), world.caller("e1", Role::Edge));
    // Large enough that one read is several pieces of 1 MiB.
    let sample = Sample::new(1, 9 << 20);
    for column in [0, 5] {
        upload(&twin, &world.name(1), &sample.columns[column], column, &sample.sealed.public).await.unwrap();
        let all = sample.columns[column].len();
        for (first, count) in [(0, all), (0, 1), (all - 1, 1), (1, all - 1)] {
            let cells = read(&edge, &world, &sample, column, first, count).await;
            assert_eq!(cells, sample.columns[column][first..first + count]);
        }
    }
    let held = twin.nodes(&world.name(1)).await.unwrap();
    assert_eq!((held.len(), &held[0].name, &held[0].address), (1, &world.name(1), &world.nodes[0].address));

    let world = World::start_in(world.end().await, 1, "").await;
    let edge = world.caller("e1", Role::Edge);
    assert_eq!(read(&edge, &world, &sample, 5, 0, 1).await, sample.columns[5][..1]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_upload_leaves_nothing_on_the_disk() {
    let world = World::start(1, "").await;
    let (twin, node, sample) = (world.caller("t1", Role::Twin), world.name(1), Sample::new(1, 3 << 20));
    let other = Sample::new(2, 3 << 20);
    assert_eq!(status(upload(&twin, &node, &other.columns[0], 0, &sample.sealed.public).await), 422);
    let session = twin.create_upload(&node, 0, 6).await.unwrap();
    twin.append(&node, &session, 0, &sample.columns[0]).await.unwrap();
    twin.abort(&node, &session).await.unwrap();
    assert_eq!(fs::read_dir(world.data_dir("o1").join("tmp")).unwrap().count(), 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_and_leases_travel() {
    let world = World::start(2, "").await;
    let (twin, edge) = (world.caller("t1", Role::Twin), world.caller("e1", Role::Edge));
    let (sample, locator) = (Sample::new(1, 40_000), Sample::new(1, 40_000).sealed.locator);
    let [one, two] = [world.name(1), world.name(2)];
    let version = |node: format::NodeName| {
        let edge = &edge;
        async move { Record::decode(&edge.record(&node, &locator).await.unwrap().unwrap()).unwrap().lease.version }
    };
    assert_eq!(edge.record(&one, &locator).await.unwrap(), None);
    let record = sample.record(&sample.lease(1), &one);
    for node in [&one, &two] {
        twin.put_record(node, &locator, record.encode().into()).await.unwrap();
        twin.put_record(node, &locator, record.encode().into()).await.unwrap();
    }
    let mut copies = world.data_dir("o2").join("records");
    copies.push(&locator.to_string()[..2]);
    assert!(copies.join(locator.to_string()).exists());

    // A lease renewed at one node reaches the copy on the other.
    let renewed = sample.sign(&sample.lease(5));
    twin.put_lease(&one, &locator, renewed.clone()).await.unwrap();
    twin.put_lease(&two, &locator, renewed).await.unwrap();
    assert_eq!(version(one.clone()).await, 5);
    until("the renewed lease at the other node", || async { version(two.clone()).await == 5 }).await;
    let page = edge.locators(&two, &sample.owner.id(), None).await.unwrap();
    assert_eq!((page.locators, page.next), (vec![locator], None));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_object_is_gone_from_answers_disks_and_catalog() {
    const WAIT_SECONDS: u32 = 30;
    let world = World::start(2, "limits.erase_grace_seconds = 0\nlimits.sweep_seconds = 1").await;
    let (twin, edge) = (world.caller("t1", Role::Twin), world.caller("e1", Role::Edge));
    let (sample, other) = (Sample::new(1, 40_000), Sample::new(2, 40_000));
    let [one, two] = [world.name(1), world.name(2)];
    for sample in [&sample, &other] {
        upload(&twin, &one, &sample.columns[0], 0, &sample.sealed.public).await.unwrap();
        let record = Bytes::from(sample.record(&sample.lease(1), &one).encode());
        for node in [&one, &two] {
            twin.put_record(node, &sample.sealed.locator, record.clone()).await.unwrap();
        }
    }
    let locator = sample.sealed.locator;
    let window = &sample.sealed.sealed[..32];
    assert!(holds(world.dir.path(), window), "the search finds what is there");

    let since = edge.changes(&one, 0, 0).await.unwrap().next;
    let waits = tokio::spawn(async move {
        let begun = Instant::now();
        (edge.changes(&two, since, WAIT_SECONDS).await.unwrap(), begun.elapsed(), edge)
    });
    twin.put_lease(&one, &locator, sample.sign(&sample.erasure(2))).await.unwrap();
    let sealed_at = async |node: &format::NodeName| {
        Record::decode(&twin.record(node, &locator).await.unwrap().unwrap()).unwrap().sealed.is_some()
    };
    assert!(!sealed_at(&one).await, "gone at once where it was erased");
    let (page, waited, edge) = waits.await.unwrap();
    assert!(page.changes.iter().any(|change| change.kind == ChangeKind::Erased { locator }));
    assert!(waited < Duration::from_secs(WAIT_SECONDS.into()), "it is told, it does not find it when its wait is over");
    let two = world.name(2);
    until("the erasure of the copy", || async { !sealed_at(&two).await }).await;
    until("the removal of the sealed bytes", || async { !holds(world.dir.path(), window) }).await;

    let ask = |sample: &Sample| ShardAsk { object: sample.sealed.public.id(), column: 0, first: 0, count: 1 };
    until("the removal of the shard", || async { twin.read_shard(&one, ask(&sample)).await.is_err() }).await;
    assert_eq!(
        status(twin.put_record(&one, &locator, sample.record(&sample.lease(3), &one).encode().into()).await),
        410
    );
    assert_eq!(status(twin.put_lease(&two, &locator, sample.sign(&sample.lease(3))).await), 410);
    // The neighbour lives.
    edge.read_shard(&one, ask(&other)).await.unwrap();
    assert!(holds(world.dir.path(), &other.sealed.sealed[..32]));
    world.end().await;
}

/// The catalog was restored from a backup of before a renewal, and the copy knows that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_that_leaves_a_newer_copy_alive_is_refused_until_one_above_it_comes() {
    let world = World::start(1, "").await;
    let twin = world.caller("t1", Role::Twin);
    let (sample, one) = (Sample::new(1, 9), world.name(1));
    let (locator, name) = (sample.sealed.locator, sample.sealed.locator.to_string());
    let record = |version| sample.record(&sample.lease(version), &one).encode();
    twin.put_record(&one, &locator, record(1).into()).await.unwrap();
    let path = world.data_dir("o1").join("records").join(&name[..2]).join(&name);
    let head = fs::read(&path).unwrap()[..16].to_vec();
    fs::write(&path, [head, record(3)].concat()).unwrap();
    // However often it comes, and as a lease or as a record.
    for _ in 0..2 {
        assert_eq!(status(twin.put_lease(&one, &locator, sample.sign(&sample.erasure(2))).await), 409);
        let tombstone = sample.record(&sample.erasure(2), &one).encode();
        assert_eq!(status(twin.put_record(&one, &locator, tombstone.into()).await), 409);
    }
    let held = async || Record::decode(&twin.record(&one, &locator).await.unwrap().unwrap()).unwrap().lease;
    assert_eq!((held().await.version, held().await.erased), (3, false));
    twin.put_lease(&one, &locator, sample.sign(&sample.erasure(4))).await.unwrap();
    assert_eq!((held().await.version, held().await.erased), (4, true));
    world.end().await;
}

/// The same of what an owner signed with less than that in mind: it is not taken for done where no reader goes by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_newer_copy_outlives_is_refused_and_the_catalog_learns_of_that_copy() {
    let world = World::start(1, "").await;
    let twin = world.caller("t1", Role::Twin);
    let (one, secret) = (world.name(1), OwnerSecret::from_bytes([1; 32]));
    let (name, sample) = (StableName::derive(&secret, "site").unwrap(), Sample::new(2, 9));
    let pointer = |target: u8, version| {
        let pointer = Pointer { target: Capability::from_bytes([target; 32]), fresh_until: u64::MAX, seconds: 60 };
        name.record(&secret.keys(), &pointer, version, None)
    };
    let lease = |version| sample.record(&sample.lease(version), &one);
    let held = async |locator| Record::decode(&twin.record(&one, &locator).await.unwrap().unwrap()).unwrap().lease;
    let put = async |record: &Record| twin.put_record(&one, &record.locator(), record.encode().into()).await;
    let put_lease =
        async |record: &Record| twin.put_lease(&one, &record.locator(), record.lease_envelope.clone()).await;
    let catalog = SqliteCatalog::open(&world.dir.path().join("catalog.db"), 9).await.unwrap();
    for filed in [pointer(1, 1), lease(1)] {
        put(&filed).await.unwrap();
        let locator = filed.locator();
        let put_copy = |copy: &Record| {
            let text = locator.to_string();
            let path = world.data_dir("o1").join("records").join(&text[..2]).join(&text);
            let head = fs::read(&path).unwrap()[..16].to_vec();
            fs::write(&path, [head, copy.encode()].concat()).unwrap();
        };
        let (newest, older, other): (_, _, _) = match filed.public.is_name() {
            true => (pointer(5, 5), pointer(3, 3), pointer(4, 5)),
            false => {
                (lease(5), lease(3), sample.record(&Lease { policy: "x".parse().unwrap(), ..sample.lease(5) }, &one))
            }
        };
        put_copy(&newest);
        let keys = if filed.public.is_name() { &secret.keys() } else { &sample.owner };
        let early = Lease { version: 3, erased: true, ..newest.lease.clone() }.sign(keys);
        assert_eq!(status(twin.put_lease(&one, &locator, early.into()).await), 409);
        assert_eq!(catalog.record(&locator).await.unwrap().unwrap().lease, newest.lease, "before it is carried out");
        for late in [&older, &other] {
            if !filed.public.is_name() {
                assert_eq!(status(put_lease(late).await), 409);
            }
            assert_eq!(status(put(late).await), 409);
            assert_eq!(held(locator).await, newest.lease);
            assert_eq!(catalog.record(&locator).await.unwrap().unwrap().lease, newest.lease, "it is told");
        }
        put(&newest).await.unwrap();
        // What was erased in what the catalog lost.
        let erasure = Lease { version: 6, erased: true, ..newest.lease.clone() };
        let erased =
            Record::new(filed.public.clone(), None, erasure.sign(keys).into(), filed.placement.clone()).unwrap();
        put_copy(&erased);
        let late = if filed.public.is_name() { pointer(7, 7) } else { lease(7) };
        if !filed.public.is_name() {
            assert_eq!(status(put_lease(&late).await), 410);
        }
        assert_eq!(status(put(&late).await), 410);
        assert_eq!((held(locator).await.version, held(locator).await.erased), (6, true));
        assert!(catalog.record(&locator).await.unwrap().unwrap().lease.erased);
    }
    world.end().await;
}

/// Searches all files below a folder.
fn holds(folder: &Path, window: &[u8]) -> bool {
    fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return holds(&path, window);
        }
        // A file of `tmp` may be gone by now.
        fs::read(&path).is_ok_and(|bytes| bytes.windows(window.len()).any(|part| part == window))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_do_not_connect() {
    let world = World::start(1, "").await;
    let stranger = World::start(0, "").await;
    let topology = Arc::new(Topology::new(world.nodes.clone()));
    let stranger = HttpTransport::new(&stranger.identity("e1", Role::Edge), topology).unwrap();
    assert!(stranger.nodes(&world.name(1)).await.is_err());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_calls_are_refused_in_the_form_of_the_api() {
    let world = World::start(1, "").await;
    let twin = world.identity("t1", Role::Twin);
    let id = "0".repeat(64);
    for (method, path, expected) in [
        ("GET", "/", StatusCode::NOT_FOUND),
        ("GET", "/v1/shards/zz/0?first=0&count=1", StatusCode::BAD_REQUEST),
        ("GET", &format!("/v1/shards/{id}/0?first=0"), StatusCode::BAD_REQUEST),
        ("GET", &format!("/v1/shards/{id}/0?first=-1&count=1"), StatusCode::BAD_REQUEST),
        ("GET", &format!("/v1/shards/{id}/0?first=0&count=1&x=1"), StatusCode::BAD_REQUEST),
        ("GET", &format!("/v1/shards/{id}/0?first=0&count=1"), StatusCode::NOT_FOUND),
        ("DELETE", &format!("/v1/records/{id}"), StatusCode::METHOD_NOT_ALLOWED),
        ("GET", &format!("/v1/records/{}", "A".repeat(64)), StatusCode::BAD_REQUEST),
        ("GET", "/v1/records?owner=1", StatusCode::BAD_REQUEST),
        ("PUT", "/v1/uploads/nonsense?first=0", StatusCode::NOT_FOUND),
        ("PUT", "/v1/nodes/t1", StatusCode::BAD_REQUEST),
        ("GET", "/v1/changes?since=0&wait=99999999999", StatusCode::BAD_REQUEST),
    ] {
        let (status, body) = world.raw(&twin, method, path, Bytes::new()).await;
        assert_eq!(status, expected, "{method} {path}");
        let error: ApiError = serde_json::from_slice(&body).unwrap();
        assert_eq!(error.fault, Fault::Caller, "{method} {path}");
    }
    let large = Bytes::from(vec![0; 20 * 1024]);
    let (status, _) = world.raw(&twin, "PUT", &format!("/v1/leases/{id}"), large).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let (status, body) = world.raw(&twin, "GET", "/health", Bytes::new()).await;
    assert_eq!((status, serde_json::from_slice::<NodeEntry>(&body).unwrap().name), (StatusCode::OK, world.name(1)));
    let (status, body) = world.raw(&twin, "GET", "/metrics", Bytes::new()).await;
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert_eq!(status, StatusCode::OK);
    let line = "evernear_origin_requests_total{route=\"/v1/records\",method=\"GET\",status=\"400\"} 1";
    assert!(text.contains(line), "{line} in {text}");
    let ask = async |accept: &str| {
        let call = Request::get("/metrics").header("accept", accept).body(Body::empty()).unwrap();
        let answer = world.origin(1).answer("t1".parse().unwrap(), Role::Twin, call).await;
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (kind, String::from_utf8(body.to_vec()).unwrap())
    };
    let (kind, open) = ask("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5").await;
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(open.ends_with("# EOF\n") && counters(&open) > 5, "{open}");
    let (kind, older) = ask("*/*").await;
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(counters(&older), counters(&open));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_node_and_idle_uploads() {
    let full = World::start(1, "capacity_bytes = 0").await;
    assert_eq!(status(full.caller("t1", Role::Twin).create_upload(&full.name(1), 0, 6).await), 507);
    full.end().await;

    let world =
        World::start(1, "limits.upload_idle_seconds = 1\nlimits.sweep_seconds = 1\nlimits.uploads_max = 4").await;
    let (twin, node) = (world.caller("t1", Role::Twin), world.name(1));
    for _ in 0..2 {
        twin.create_upload(&node, 0, 6).await.unwrap();
    }
    assert_eq!(status(twin.create_upload(&node, 0, 6).await), 503);
    let tmp = world.data_dir("o1").join("tmp");
    until("the end of the idle uploads", || async { !has_uploads(&tmp) }).await;
    twin.create_upload(&node, 0, 6).await.unwrap();
    world.end().await;
}

/// Whether an upload's draft is in `tmp`.
fn has_uploads(tmp: &Path) -> bool {
    fs::read_dir(tmp).unwrap().any(|entry| entry.unwrap().path().extension().is_some_and(|kind| kind == "draft"))
}

#[tokio::test]
async fn an_identity_that_does_not_fit_the_configuration_is_refused() {
    let world = World::start(0, "").await;
    let start =
        |name: &str, role| Origin::start(world.config("o1", ""), world.identity(name, role), CancellationToken::new());
    let refused = start("o2", Role::Origin).await;
    assert!(matches!(refused, Err(StartError::Identity(IdentityError::Name { .. }))));
    let refused = start("o1", Role::Edge).await;
    assert!(matches!(refused, Err(StartError::Identity(IdentityError::Role { found: "edge", .. }))));
    assert!(!world.data_dir("o1").exists(), "refused before anything was made");
}

#[tokio::test]
async fn who_answers_by_a_refused_certificate_keeps_the_node_with_the_new_one_from_nothing() {
    let world = World::start(0, "").await;
    let start = |folder: &str, identity| {
        let config = origin::Config { data_dir: world.data_dir(folder), ..world.config("o1", "") };
        Origin::start(config, identity, world.stop.child_token())
    };
    let stolen = world.identity("o1", Role::Origin);
    let list = world.authority.refuse(1, [stolen.leaf().unwrap().serial].iter()).unwrap();
    let thief = start("thief", stolen).await.unwrap();
    let own = || world.identity("o1", Role::Origin);
    assert!(matches!(start("own", own()).await, Err(StartError::Double { .. })));
    let node = world.entry("o1", Role::Origin, Some(thief.local_addr.into()));
    let caller = HttpTransport::new(&world.identity("t1", Role::Twin), Arc::new(Topology::new(vec![node.clone()])));
    caller.unwrap().put_refused(&node.name, list).await.unwrap();
    let running = start("own", own()).await.unwrap();
    world.stop.cancel();
    for origin in [thief, running] {
        origin.stopped().await.unwrap();
    }
}

#[tokio::test]
async fn a_second_node_of_one_name_is_refused_while_the_first_answers() {
    let mut world = World::start(1, "").await;
    let second = |folder: &str| {
        let config = origin::Config { data_dir: world.data_dir(folder), ..world.config("o1", "") };
        Origin::start(config, world.identity("o1", Role::Origin), CancellationToken::new())
    };
    let refused = second("empty").await;
    let address = world.nodes[0].address.clone().unwrap();
    let says = refused.unwrap_err();
    assert!(matches!(&says, StartError::Double { address: found, .. } if *found == address), "{says}");
    world.stop_node(1).await;
    // One that moved to another address is no second one.
    world.start_node(1).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_of_ten_thousand_nodes_is_read_whole() {
    let world = World::start(1, "").await;
    let url = format!("sqlite://{}", world.dir.path().join("catalog.db").display());
    let mut catalog = SqliteConnection::connect(&url).await.unwrap();
    let mut write = catalog.begin().await.unwrap();
    // Names of the longest, and four addresses for viewers.
    for number in 1..NODES_MAX {
        let name = format!("an-edge-of-a-large-cluster-{number:05}");
        let entry =
            NodeEntry { public: vec!["2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff".parse().unwrap(); 4], ..edge(&name) };
        let insert = sqlx::query("INSERT INTO nodes (name, entry, seen) VALUES ($1, $2, unixepoch())");
        insert.bind(name).bind(serde_json::to_string(&entry).unwrap()).execute(&mut *write).await.unwrap();
    }
    write.commit().await.unwrap();
    let nodes = world.caller("e1", Role::Edge).nodes(&world.name(1)).await.unwrap();
    assert_eq!(nodes.len(), NODES_MAX);
    assert!(serde_json::to_vec(&nodes).unwrap().len() < NODES_BYTES_MAX);
    world.end().await;
}

fn edge(name: &str) -> NodeEntry {
    let long = "a-name-of-a-place-that-is-as-long-as-the-names-of-places-may-be1";
    let place =
        Place { zone: long.into(), region: long.into(), operator: long.into(), datacentre: long.into(), ..place("z") };
    NodeEntry { role: Role::Edge, ..testing::node(name, place) }
}
