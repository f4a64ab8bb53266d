//! Records of the largest size that the limits allow, filled by a hostile owner with whatever may cost a reader most:
//! an object of 32 TiB over 256 columns, lists of the greatest length, and thousands of fields that no version knows.
//! To open and to ask for them costs an edge what their bytes cost, and no other viewer an answer.

use std::fs;

use client::Transport;
use format::{
    Capability, Domain, Kind, Label, Lease, Profile, PublicManifest, Record, Redundancy, RowList, Sealed, Suite,
    cbor::FieldsWriter,
    hazmat::Sealer,
    limits::{
        BLOCK_BYTES, COLUMNS_MAX, LEASE_BYTES_MAX, LEASE_PLACES_MAX, MIME_BYTES_MAX, NAME_BYTES_MAX, RECORD_BYTES_MAX,
        SEALED_MANIFEST_BYTES_MAX, STRIP_BYTES_MAX, STRIPES_MAX, TAG_BYTES, TAG_NAME_BYTES_MAX, TAGS_MAX,
    },
};
use futures::{StreamExt, stream};
use testing::noise_of;

use crate::site::Site;

const RECORDS: usize = 128;
/// Requests at a time: the copies of a record that an edge compares count as well while they are compared.
const AT_ONCE: usize = 8;
/// What each may take for good: its bytes as they came, as they were read, and as much again for the tables beside.
const KIB_EACH: u64 = 4 * RECORD_BYTES_MAX as u64 / 1024;
/// What all of this may take beside: connections, compiled code, memory that the allocator has not given back.
const KIB_BESIDE: u64 = 32 * 1024;

const DATA: usize = COLUMNS_MAX / 2;
/// What the object says of itself: as many stripes as an object can have.
const LENGTH: u64 = STRIPES_MAX * (DATA * BLOCK_BYTES) as u64;
/// An entry of a map under a key from 256 on, with a number below 24.
const ENTRY_BYTES: usize = 4;

/// Entries that no version knows, as many as have room.
fn unknown(room: usize) -> Vec<(u64, Vec<u8>)> {
    (256..).map(|key| (key, vec![0])).take(room / ENTRY_BYTES).collect()
}

/// As many tags as there may be, with names of the greatest length.
fn tags() -> Vec<u8> {
    let mut map = vec![0xb8, u8::try_from(TAGS_MAX).unwrap()];
    for tag in 0..TAGS_MAX {
        map.extend([0x78, u8::try_from(TAG_NAME_BYTES_MAX).unwrap()]);
        map.extend(format!("{tag:0TAG_NAME_BYTES_MAX$}").as_bytes());
        map.push(0);
    }
    map
}

/// Files the record of one such object at the origins, and returns its label.
async fn file(site: &Site, number: u64, kind: Kind) -> Label {
    let suite = Suite::ChaCha20Poly1305;
    // docs/format.md, sections 4 and 5.
    let public = FieldsWriter::default()
        .uint(0, 1u8)
        .uint(1, suite.id())
        .bytes(2, &site.owner.id().0)
        .uint(3, STRIPES_MAX)
        .uint(4, DATA as u64)
        .uint(5, (COLUMNS_MAX - DATA) as u64)
        .uint(6, DATA as u64)
        .uint(7, (STRIPES_MAX - 1) * STRIP_BYTES_MAX as u64)
        .uint(8, STRIP_BYTES_MAX as u64)
        .bytes(9, blake3::hash(&number.to_le_bytes()).as_bytes());
    let public = PublicManifest::decode(public.finish().into()).unwrap();
    let manifest = |unknown: Vec<(u64, Vec<u8>)>| {
        FieldsWriter::default()
            .uint(0, 1u8)
            .uint(1, suite.id())
            .bytes(2, &[7; 32])
            .bytes(3, public.id().as_bytes())
            .uint(4, LENGTH)
            .bytes(5, &[7; 32])
            .text(6, &format!("text/plain; a={}", "a".repeat(MIME_BYTES_MAX - 14)))
            .text(7, &"n".repeat(NAME_BYTES_MAX))
            .uint(8, 0u8)
            .uint(9, u8::from(kind == Kind::Directory))
            .bytes(11, &[7; 32])
            .unknown(&[(12, tags())].into_iter().chain(unknown).collect())
            .finish()
    };
    let empty = manifest(vec![]).len();
    // The head of a map of so many entries is two bytes longer.
    let manifest = manifest(unknown(SEALED_MANIFEST_BYTES_MAX - TAG_BYTES - 2 - empty));
    let capability = Capability::of_manifest(&manifest);
    let locator = capability.locator();
    let key = blake3::derive_key("evernear 2026 v1 manifest", capability.expose());
    let aad = [locator.as_bytes().as_slice(), public.id().as_bytes()].concat();
    let mut sealed = manifest;
    let tag = Sealer::new(suite, &key).seal([0; 12], &aad, &mut sealed);
    sealed.extend(tag);

    let sealed = Sealed {
        public,
        sealed: sealed.into(),
        capability: capability.clone(),
        locator,
        length: LENGTH,
        rows: RowList::default(),
    };
    let profile = Profile::Custom(Redundancy::new(DATA, COLUMNS_MAX - DATA).unwrap());
    let refused = (0..LEASE_PLACES_MAX).map(|zone| Domain::Zone(format!("{zone:064}"))).collect();
    let lease = Lease { refused, ..Lease::new(&sealed, profile) };
    let empty = lease.sign(&site.owner).len();
    let lease = Lease { unknown: unknown(LEASE_BYTES_MAX - 4 - empty).into_iter().collect(), ..lease };
    let node = |column: usize| match site.nodes.get(column) {
        Some(node) => node.name.clone(),
        None => format!("n{column:031}").parse().unwrap(),
    };
    let placement = (0..COLUMNS_MAX).map(|column| Some(node(column))).collect();
    let record = Record::new(sealed.public, Some(sealed.sealed), lease.sign(&site.owner).into(), placement).unwrap();
    let record = record.encode();
    assert!((RECORD_BYTES_MAX * 95 / 100..=RECORD_BYTES_MAX).contains(&record.len()), "{} bytes", record.len());
    site.origins.put_record(&site.nodes[0].name, &locator, record.into()).await.unwrap();
    Label::open(capability)
}

/// The most memory that this process, which the edge and its nodes are in, has had.
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_records_cost_what_their_bytes_cost_and_no_viewer_an_answer() {
    let site = Site::start().await;
    let honest = site.store("a.bin", "application/octet-stream", noise_of(1, 700_000)).await;
    let is_served = async || {
        let answer = site.get(&honest, "/", &[]).await;
        assert!(answer.status() == 200 && answer.body() == honest.bytes, "{}", answer.head);
    };
    is_served().await;
    let mut hosts = Vec::new();
    for number in 0..RECORDS {
        let kind = if number % 2 == 0 { Kind::File } else { Kind::Directory };
        hosts.push((kind, format!("{}.evernear.example", file(&site, number as u64, kind).await)));
    }
    let before = peak_kib();

    let opened = stream::iter(&hosts).map(async |(kind, host)| {
        let answer = site.curl(host, "/", &["--head"]).await;
        match kind {
            // It was opened, and says of itself what its owner says.
            Kind::File => {
                assert_eq!(answer.status(), 200, "{}", answer.head);
                assert_eq!(answer.field("content-length"), Some(&*LENGTH.to_string()));
            }
            // No directory is so long.
            Kind::Directory => assert!(answer.status() >= 400, "{}", answer.head),
        }
        is_served().await;
    });
    opened.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    // Nothing of it is there: nobody gets a byte, and nobody else waits.
    let (first, last) = ("Range: bytes=0-0", format!("Range: bytes={}-", LENGTH - 1));
    for (_, host) in &hosts[..AT_ONCE] {
        for range in [first, &last, "Accept: */*"] {
            let answer = site.curl(host, "/", &["-H", range]).await;
            assert!(answer.body().is_empty() || answer.status() >= 400, "{}", answer.head);
            is_served().await;
        }
    }
    let took = peak_kib() - before;
    println!("{RECORDS} records of {RECORD_BYTES_MAX} bytes took {took} KiB");
    assert!(took < RECORDS as u64 * KIB_EACH + KIB_BESIDE, "{RECORDS} records took {took} KiB");
    let cold = site.store("b.bin", "application/octet-stream", noise_of(2, 700_000)).await;
    assert_eq!(site.get(&cold, "/", &[]).await.body(), cold.bytes);
    site.stop().await;
}
