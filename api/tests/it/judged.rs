//! Other people's clients, unchanged. They install nothing: `./x setup --test` did.

use std::{process::Stdio, time::Duration};

use serde_json::{Value, json};
use testing::noise;

use crate::service::Service;

/// Has npm's packages run a script against a service, and returns what it printed.
async fn npm(script: &str, service: &Service, more: &[&str]) -> Value {
    let endpoint = format!("http://{}/", service.address);
    let judge = tokio::process::Command::new("npm-api")
        .args([&endpoint, &service.token])
        .args(more)
        .stdin(std::fs::File::open(format!("tests/judge/{script}")).unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let judged = tokio::time::timeout(Duration::from_secs(120), judge).await.unwrap();
    let judged = judged.expect("npm's packages are installed: `./x setup --test`");
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stderr));
    serde_json::from_slice(&judged.stdout).unwrap()
}

/// The bytes that the script makes up.
fn made_up(bytes: usize) -> Vec<u8> {
    let mut state = 1u32;
    let next = |_| {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        u8::try_from(state >> 24).unwrap()
    };
    (0..bytes).map(next).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_nft_storage_stores_blobs_folders_nfts_and_split_cars_and_erases_them() {
    let service = Service::start().await;
    let told = npm("nft.mjs", &service, &[]).await;
    assert_eq!(told["blob"], "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e");
    assert_eq!((&told["blob"], &told["split"]), (&told["blobEncoded"], &told["splitEncoded"]), "{told}");
    assert!(told["parts"].as_u64().unwrap() > 3, "{told}");
    assert_eq!((&told["status"]["pin"]["status"], &told["status"]["cid"]), (&json!("pinned"), &told["big"]), "{told}");
    assert_eq!((&told["check"]["pin"]["status"], &told["gone"]), (&json!("pinned"), &json!("NFT not found")), "{told}");
    assert!(told["refused"].as_str().unwrap().contains("malformed"), "{told}");
    // What came as blocks is read as files.
    let client = service.client();
    let files = client.get("/files").await;
    let labels_of = async |cid: &Value| -> Vec<String> {
        let mut labels = Vec::new();
        for file in files.body["value"].as_array().unwrap() {
            let shown = client.get(&format!("/files/{}", file["id"].as_str().unwrap())).await;
            if shown.body["value"]["cid"] == *cid {
                labels.push(shown.text("label").to_owned());
            }
        }
        labels
    };
    let label_of = async |cid: &Value| labels_of(cid).await.swap_remove(0);
    assert_eq!(service.read(&label_of(&told["blob"]).await, &[]).await.unwrap(), b"hello world");
    assert!(service.read(&label_of(&told["split"]).await, &[]).await.unwrap() == made_up(5_000_000));
    let site = label_of(&told["directory"]).await;
    assert_eq!(service.read(&site, &["site", "index.html"]).await.unwrap(), b"<p>hi</p>");
    assert!(service.read(&site, &["site", "img", "deep", "film.mp4"]).await.unwrap() == made_up(600_000));
    let value = &told["store"]["value"];
    assert_eq!((&value["ipnft"], &value["url"]), (&told["nft"]["ipnft"], &told["nft"]["url"]), "{told}");
    assert_eq!(value["data"], told["storeEncoded"], "{told}");
    // The one that came as a CAR, and the one that came as a form.
    let nfts = labels_of(&value["ipnft"]).await;
    assert_eq!(nfts.len(), 2, "{files:?}");
    for nft in &nfts {
        assert!(service.read(nft, &["image", "a cat.png"]).await.unwrap() == made_up(300_000));
        for sound in [&["properties", "extra", "sound", "meow.txt"][..], &["properties", "files", "0", "meow.txt"]] {
            assert_eq!(service.read(nft, sound).await.unwrap(), b"meow");
        }
        let metadata: Value = serde_json::from_slice(&service.read(nft, &["metadata.json"]).await.unwrap()).unwrap();
        assert_eq!(metadata, value["data"]);
    }
    assert!(service.spooled().is_empty(), "parts that were put together are gone");
}

/// Forwards connections, and cuts the first of them after so many bytes each.
async fn cutting(to: std::net::SocketAddr, cuts: usize, bytes: usize) -> std::net::SocketAddr {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let left = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(cuts));
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let left = left.clone();
            tokio::spawn(async move {
                let mut far = tokio::net::TcpStream::connect(to).await.unwrap();
                let (mut from, mut into) = far.split();
                let (mut up, mut down) = near.split();
                let sending = async {
                    let (mut sent, mut some) = (0, vec![0; 16 << 10]);
                    while let Ok(count @ 1..) = up.read(&mut some).await {
                        sent += count;
                        if into.write_all(&some[..count]).await.is_err() {
                            return;
                        }
                        let cut = |left: usize| left.checked_sub(1);
                        let order = std::sync::atomic::Ordering::Relaxed;
                        if sent > bytes && left.fetch_update(order, order, cut).is_ok() {
                            return;
                        }
                    }
                };
                tokio::select! {
                    () = sending => {}
                    _ = tokio::io::copy(&mut from, &mut down) => {}
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_tus_js_client_gets_through_five_cuts_and_uses_every_extension() {
    let mut service = Service::start().await;
    let address = service.address;
    service.address = cutting(address, 5, 700_000).await;
    let told = npm("tus.mjs", &service, &["9000000"]).await;
    service.address = address;
    // Where the machine is slow, the client comes again while the request before is still being ended: one try more.
    assert!(matches!(told["cuts"].as_u64(), Some(5..=8)) && told["terminated"] == 404, "{told}");
    let client = service.client();
    for (url, bytes) in [("url", 9_000_000), ("chunked", 1_700_000), ("parallel", 900_000)] {
        let id = told[url].as_str().unwrap().rsplit('/').next().unwrap();
        let file = client.get(&format!("/tus/{id}/file")).await;
        assert_eq!((file.status, file.text("name"), file.text("type")), (200, "film.mp4", "video/mp4"), "{file:?}");
        assert!(service.read(file.text("label"), &[]).await.unwrap() == made_up(bytes), "{url}");
    }
    assert!(service.spooled().is_empty(), "{:?}", service.spooled());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_car_is_refused_in_the_words_of_nft_storage_and_leaves_nothing() {
    let service = Service::start().await;
    let client = service.client();
    let send = async |bytes: Vec<u8>| {
        crate::client::send(client.ask("POST", "/upload").header("content-type", "application/car").body(bytes)).await
    };
    let cid = unixfs::Cid::of(unixfs::Codec::Raw, b"abc");
    let whole = [unixfs::car::header(&cid), unixfs::car::section_head(&cid, 3), b"abc".to_vec()].concat();
    for (bytes, says) in [
        (Vec::new(), "CAR"),
        (noise(1000), "Invalid CAR file received: "),
        (unixfs::car::header(&cid), "empty CAR"),
        (whole[..whole.len() - 1].to_vec(), "cut off"),
        ([&whole[..whole.len() - 1], b"d"].concat(), "failed hash verification"),
    ] {
        let answer = send(bytes).await;
        assert_eq!((answer.status, answer.body["error"]["code"].as_str()), (400, Some("ERROR_INVALID_CAR")), "{says}");
        assert!(answer.message().contains(says), "{says}: {answer:?}");
    }
    assert!(service.twin.list().await.is_empty() && service.spooled().is_empty());
    assert_eq!(send(whole).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_car_outlive_a_restart_and_are_counted_and_erased() {
    let mut service = Service::start().await;
    let (a, b) = (noise(1000), noise(2000));
    let [ca, cb] = [&a, &b].map(|bytes| unixfs::Cid::of(unixfs::Codec::Raw, bytes));
    let mut tree = unixfs::Tree::new(unixfs::Profile::NFT_CLASSIC);
    tree.insert("a", unixfs::Root { cid: ca, tsize: 1000 }).unwrap();
    tree.insert("b", unixfs::Root { cid: cb, tsize: 2000 }).unwrap();
    let mut top = Vec::new();
    let root = tree
        .finish(&mut |block: unixfs::Block<'_>| {
            if let unixfs::Block::Node { block, .. } = block {
                top = block.to_vec();
            }
        })
        .unwrap();
    let car = |blocks: &[(unixfs::Cid, &[u8])]| {
        let sections = blocks
            .iter()
            .flat_map(|(cid, block)| [unixfs::car::section_head(cid, block.len()), block.to_vec()].concat());
        unixfs::car::header(&root.cid).into_iter().chain(sections).collect::<Vec<u8>>()
    };
    let send = async |service: &Service, bytes: Vec<u8>| {
        let client = service.client();
        crate::client::send(client.ask("POST", "/upload").header("content-type", "application/car").body(bytes)).await
    };
    let first = send(&service, car(&[(root.cid, &top), (ca, &a)])).await;
    assert_eq!((first.status, &first.body["value"]["pin"]["status"]), (200, &json!("pinning")), "{first:?}");
    assert_eq!(service.spooled().len(), 1);
    service.stop().await;
    service.start_again().await;
    let second = send(&service, car(&[(root.cid, &top), (cb, &b)])).await;
    assert_eq!((second.status, &second.body["value"]["pin"]["status"]), (200, &json!("pinned")), "{second:?}");
    let label = service.client().get("/files").await.body["value"][0]["label"].as_str().unwrap().to_owned();
    assert_eq!(service.read(&label, &["b"]).await.unwrap(), b);
    assert!(service.spooled().is_empty());
    // A DAG that is never whole can be given up.
    let path = format!("/{}", root.cid);
    assert_eq!(service.client().delete(&path).await.status, 202);
    assert_eq!(send(&service, car(&[(root.cid, &top), (ca, &a)])).await.status, 200);
    assert_eq!(service.client().delete(&path).await.status, 202);
    assert!(service.spooled().is_empty());
    assert_eq!(service.client().get(&path).await.status, 404);
}

/// Takes half a minute. Content types that it cannot make up, CARs and chunks of tus, it leaves out and counts as
/// errors; what it did make up has to pass.
#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_no_request_that_is_answered_with_a_500() {
    let service = Service::start().await;
    let endpoint = format!("http://{}", service.address);
    let run = tokio::process::Command::new("schemathesis")
        .args(["run", &format!("{endpoint}/openapi.json"), "-u", &endpoint, "--checks", "not_a_server_error"])
        .args(["--max-examples", "20", "--seed", "7", "--no-color", "-H"])
        .arg(format!("Authorization: Bearer {}", service.token))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let run = tokio::time::timeout(Duration::from_secs(150), run).await.unwrap();
    let run = run.expect("schemathesis is in PATH");
    let said = String::from_utf8_lossy(&run.stdout);
    let cases = said.lines().find(|line| line.contains(" generated, ")).unwrap_or_default();
    let count: usize = cases.split_whitespace().find_map(|word| word.parse().ok()).unwrap_or(0);
    assert!(count > 200 && said.contains("Test cases") && !said.contains("FAILURES"), "{said}");
    assert_eq!(service.client().get("/version").await.status, 200, "it answers still");
}
