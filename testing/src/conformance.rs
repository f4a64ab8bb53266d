//! What every node promises to its callers, method by method of [`Transport`]: what works, what is not there, what
//! comes twice, and what is too much. The nodes in memory and a real origin over TLS keep the same list.
//!
//! Another implementation joins by one more [`conformance!`](crate::conformance!).

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use client::{ShardAsk, Transport, TransportError, verify_slice};
use format::{
    BlobId, Capability, Cell, Lease, Locator, NodeName, NoteId, ObjectId, OwnerId, OwnerSecret, Pointer, PolicyLink,
    PolicyManifest, PolicyName, PublicManifest, Purge, Purged, Record, Retention, StableName,
    limits::{
        COLUMNS_MAX, LEASE_BYTES_MAX, NOTE_BYTES_MAX, POLICY_COMPONENT_BYTES_MAX, POLICY_MANIFEST_BYTES_MAX,
        PUBLIC_MANIFEST_BYTES_MAX, PURGE_BYTES_MAX, PURGE_SKEW_SECONDS_MAX, RECORD_BYTES_MAX, SHARD_READ_STRIPS_MAX,
        STRIPES_MAX,
    },
    wire::{ChangeKind, NodeEntry, Note, Role, Ticket},
};

use crate::{Sample, lease, node, place};

/// Makes a test of every promise. The argument is an async function that starts a [`Stage`].
#[macro_export]
macro_rules! conformance {
    ($start:path) => {
        $crate::conformance! { $start;
            strips_are_read_with_their_proof
            reads_outside_of_a_shard_are_refused
            uploads_go_on_in_order_and_end_once
            a_commit_takes_the_shard_of_its_manifest_or_nothing
            so_many_uploads_are_open
            records_are_filed_once_and_read_as_filed
            records_that_fit_not_what_is_filed_are_refused
            leases_only_grow
            a_name_moves_with_its_lease_alone
            the_erased_stay_erased
            promises_to_keep_are_kept
            locators_are_the_living_ones_in_order
            policies_only_grow_and_need_their_blobs
            blobs_lie_under_their_hash
            a_purge_is_told_once_and_of_the_owners_own
            a_note_follows_the_version_before_it
            nodes_speak_for_themselves_and_are_news_when_they_move
            tickets_merge_and_are_bounded
            the_feed_tells_in_order_wakes_who_waits_and_resets
            edges_read_and_do_not_write
            a_node_that_nobody_knows_is_told_apart
        }
    };
    ($start:path; $($promise:ident)*) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $promise() {
            let stage = $start().await;
            $crate::conformance::$promise(&stage).await;
            $crate::conformance::Stage::end(stage).await;
        }
    )* };
}

/// A fresh cluster of one node, and the ways to it.
pub trait Stage: Send + Sync {
    /// Returns the node's name.
    fn node(&self) -> NodeName;
    /// Returns the way of a caller with a certificate of this name and role.
    fn caller(&self, name: &str, role: Role) -> Arc<dyn Transport>;
    /// Returns how many uploads the node has open at once.
    fn uploads_max(&self) -> usize;
    /// Ends the cluster.
    fn end(self) -> impl Future<Output = ()> + Send;
}

/// Returns the status of a refusal, or of a failure.
///
/// # Panics
/// When the call did what it was asked, or was not answered.
pub fn status<T: std::fmt::Debug>(result: Result<T, TransportError>) -> u16 {
    match result {
        Err(TransportError::Refused { status, .. } | TransportError::Failed { status, .. }) => status,
        other => panic!("not refused: {other:?}"),
    }
}

/// Uploads one column, two cells at a time.
///
/// # Errors
/// As the node says.
pub async fn upload(
    caller: &dyn Transport,
    node: &NodeName,
    cells: &[Cell],
    column: usize,
    public: &PublicManifest,
) -> Result<(), TransportError> {
    let upload = caller.create_upload(node, column, public.row_columns()).await?;
    for (first, part) in cells.chunks(2).enumerate() {
        caller.append(node, &upload, first as u64 * 2, part).await?;
    }
    caller.commit(node, &upload, column, public.encoded().clone()).await
}

/// An owner's way to the node, and the node.
fn owner(stage: &impl Stage) -> (Arc<dyn Transport>, NodeName) {
    (stage.caller("t1", Role::Twin), stage.node())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn zeros(length: usize) -> Bytes {
    vec![0; length].into()
}

async fn file(twin: &dyn Transport, node: &NodeName, sample: &Sample, lease: &Lease) -> Result<(), TransportError> {
    twin.put_record(node, &sample.sealed.locator, sample.record(lease, node).encode().into()).await
}

/// What the feed tells, in order.
async fn told(caller: &dyn Transport, node: &NodeName) -> Vec<ChangeKind> {
    caller.changes(node, 0, 0).await.unwrap().changes.into_iter().map(|change| change.kind).collect()
}

/// [`Transport::read_shard`].
pub async fn strips_are_read_with_their_proof(stage: &impl Stage) {
    let (twin, node) = owner(stage);
    let edge = stage.caller("e1", Role::Edge);
    let sample = Sample::new(1, 3 << 20);
    let public = &sample.sealed.public;
    upload(&*twin, &node, &sample.columns[2], 2, public).await.unwrap();
    for (first, count) in [(0, 3), (0, 1), (2, 1), (2, 1)] {
        let ask = ShardAsk { object: sample.id(), column: 2, first, count };
        let cells = verify_slice(public, ask, edge.read_shard(&node, ask).await.unwrap()).unwrap();
        let (first, count) = (usize::try_from(first).unwrap(), usize::try_from(count).unwrap());
        assert_eq!(cells, sample.columns[2][first..first + count]);
    }
}

/// [`Transport::read_shard`].
pub async fn reads_outside_of_a_shard_are_refused(stage: &impl Stage) {
    let (twin, node) = owner(stage);
    let sample = Sample::new(1, 40_000);
    let ask = ShardAsk { object: sample.id(), column: 0, first: 0, count: 1 };
    assert_eq!(status(twin.read_shard(&node, ask).await), 404);
    upload(&*twin, &node, &sample.columns[0], 0, &sample.sealed.public).await.unwrap();
    twin.read_shard(&node, ask).await.unwrap();
    assert_eq!(status(twin.read_shard(&node, ShardAsk { column: 1, ..ask }).await), 404);
    assert_eq!(status(twin.read_shard(&node, ShardAsk { object: ObjectId([9; 32]), ..ask }).await), 404);
    for (first, count) in [(0, 0), (0, 2), (1, 1), (0, SHARD_READ_STRIPS_MAX + 1), (u64::MAX, 1), (1, u64::MAX)] {
        assert_eq!(status(twin.read_shard(&node, ShardAsk { first, count, ..ask }).await), 416, "{first} {count}");
    }
}

/// [`Transport::create_upload`], [`Transport::append`], [`Transport::upload_cells`], [`Transport::abort`].
pub async fn uploads_go_on_in_order_and_end_once(stage: &impl Stage) {
    let (twin, node) = owner(stage);
    let other = stage.caller("t2", Role::Twin);
    let cells = &Sample::new(1, 3 << 20).columns[0];
    for (column, columns) in [(6, 6), (0, COLUMNS_MAX + 1), (1, 1), (0, 0)] {
        assert_eq!(status(twin.create_upload(&node, column, columns).await), 400, "{column} of {columns}");
    }
    let upload = twin.create_upload(&node, 0, 6).await.unwrap();
    assert_ne!(twin.create_upload(&node, 0, 6).await.unwrap(), upload);
    assert_eq!(status(other.append(&node, &upload, 0, &cells[..1]).await), 404, "another's");
    assert_eq!(status(other.abort(&node, &upload).await), 404, "another's");
    assert_eq!(status(other.upload_cells(&node, &upload).await), 404, "another's");
    assert_eq!(status(twin.append(&node, &upload, 1, &cells[1..2]).await), 409);
    assert_eq!(twin.upload_cells(&node, &upload).await, Ok(0));
    // The acknowledgement may be lost on its way.
    for _ in 0..2 {
        twin.append(&node, &upload, 0, &cells[..2]).await.unwrap();
    }
    twin.append(&node, &upload, 1, &cells[1..2]).await.unwrap();
    assert_eq!(twin.upload_cells(&node, &upload).await, Ok(2));
    assert_eq!(status(twin.append(&node, &upload, 0, &cells[1..2]).await), 409, "other cells than before");
    let changed = Cell { strip: cells[2].strip.as_ref().map(|strip| zeros(strip.len())), ..cells[2].clone() };
    assert_eq!(status(twin.append(&node, &upload, 2, &[changed]).await), 422, "not the strip of its row");
    let most = usize::try_from(SHARD_READ_STRIPS_MAX).unwrap();
    assert_eq!(status(twin.append(&node, &upload, 2, &vec![cells[2].clone(); most + 1]).await), 413);
    twin.append(&node, &upload, 2, &vec![cells[2].clone(); most]).await.unwrap();
    twin.abort(&node, &upload).await.unwrap();
    assert_eq!(status(twin.abort(&node, &upload).await), 404, "twice");
    assert_eq!(status(twin.upload_cells(&node, &upload).await), 404);
    assert_eq!(status(twin.append(&node, &upload, 0, &cells[..1]).await), 404);
    assert_eq!(status(twin.abort(&node, "nonsense").await), 404);
}

/// [`Transport::commit`].
pub async fn a_commit_takes_the_shard_of_its_manifest_or_nothing(stage: &impl Stage) {
    let (twin, node) = owner(stage);
    let other = stage.caller("t2", Role::Twin);
    let sample = Sample::new(1, 3 << 20);
    let (cells, public) = (&sample.columns[0], &sample.sealed.public);
    assert_eq!(status(upload(&*twin, &node, cells, 1, public).await), 422, "another column's strips");
    assert_eq!(status(upload(&*twin, &node, cells, 6, public).await), 400, "no such column");
    let swapped = [&cells[..1], &[cells[2].clone(), cells[1].clone()]].concat();
    assert_eq!(status(upload(&*twin, &node, &swapped, 0, public).await), 422, "rows in another order");
    let mut flipped = cells.clone();
    let mut bytes = flipped[1].strip.as_ref().unwrap().to_vec();
    bytes[100] ^= 1;
    flipped[1].strip = Some(bytes.into());
    assert_eq!(status(upload(&*twin, &node, &flipped, 0, public).await), 422, "a flipped bit");
    let ask = ShardAsk { object: sample.id(), column: 0, first: 0, count: 1 };
    assert_eq!(status(twin.read_shard(&node, ask).await), 404, "nothing is left of these");

    let manifest = public.encoded();
    let upload = twin.create_upload(&node, 0, 6).await.unwrap();
    assert_eq!(status(twin.commit(&node, &upload, 0, Bytes::from_static(b"\xa0")).await), 400);
    assert_eq!(status(twin.commit(&node, &upload, 0, zeros(PUBLIC_MANIFEST_BYTES_MAX + 1)).await), 413);
    assert_eq!(status(other.commit(&node, &upload, 0, manifest.clone()).await), 404, "another's");
    twin.append(&node, &upload, 0, &cells[..2]).await.unwrap();
    // What is missing is not lost: it can still be sent.
    assert_eq!(status(twin.commit(&node, &upload, 0, manifest.clone()).await), 409, "too few strips");
    twin.append(&node, &upload, 2, &cells[2..]).await.unwrap();
    twin.commit(&node, &upload, 0, manifest.clone()).await.unwrap();
    // The acknowledgement may be lost on its way.
    twin.commit(&node, &upload, 0, manifest.clone()).await.unwrap();
    assert_eq!(status(twin.commit(&node, &upload, 1, manifest.clone()).await), 404);
    twin.read_shard(&node, ask).await.unwrap();
}

/// [`Transport::create_upload`].
pub async fn so_many_uploads_are_open(stage: &impl Stage) {
    let node = stage.node();
    let (mut free, mut number) = (stage.uploads_max(), 0);
    let mut open = Vec::new();
    // A caller has as many as it leaves free, so that no few of them keep the others out.
    while free > 0 {
        number += 1;
        let caller = stage.caller(&format!("t{number}"), Role::Twin);
        let share = free.div_ceil(2);
        for _ in 0..share {
            open.push((caller.clone(), caller.create_upload(&node, 0, 6).await.unwrap()));
        }
        free -= share;
        assert_eq!(status(caller.create_upload(&node, 0, 6).await), 503);
    }
    let last = stage.caller("last", Role::Twin);
    let full = last.create_upload(&node, 0, 6).await.unwrap_err();
    assert!(full.is_retryable(), "{full}");
    assert_eq!(status::<()>(Err(full)), 503);
    let (caller, upload) = open.swap_remove(0);
    caller.abort(&node, &upload).await.unwrap();
    last.create_upload(&node, 0, 6).await.unwrap();
}

/// [`Transport::record`], [`Transport::put_record`].
pub async fn records_are_filed_once_and_read_as_filed(stage: &impl Stage) {
    let (twin, node) = owner(stage);
    let (edge, sample) = (stage.caller("e1", Role::Edge), Sample::new(1, 40_000));
    let locator = sample.sealed.locator;
    assert_eq!(edge.record(&node, &locator).await.unwrap(), None);
    let record = Bytes::from(sample.record(&sample.lease(1), &node).encode());
    for _ in 0..2 {
        twin.put_record(&node, &locator, record.clone()).await.unwrap();
        assert_eq!(edge.record(&node, &locator).await.unwrap(), Some(record.clone()));
    }
    let news = told(&*edge, &node).await;
    assert_eq!(news.iter().filter(|kind| **kind == ChangeKind::Record { locator }).count(), 1);
}

/// [`Transport::put_record`].
pub async fn records_that_fit_not_what_is_filed_are_refused(stage: &impl Stage) {
    let (twin, node) = owner(stage);
    let (sample, thief) = (Sample::new(1, 40_000), Sample::new(2, 40_000));
    let locator = sample.sealed.locator;
    let put = async |record: Record| status(twin.put_record(&node, &locator, record.encode().into()).await);
    assert_eq!(status(twin.put_record(&node, &locator, Bytes::from_static(b"no record")).await), 400);
    assert_eq!(status(twin.put_record(&node, &locator, zeros(RECORD_BYTES_MAX + 1)).await), 413);
    assert_eq!(put(thief.record(&thief.lease(1), &node)).await, 400, "another locator");
    let record = sample.record(&sample.lease(2), &node);
    assert_eq!(put(Record { sealed: None, ..record.clone() }).await, 409, "alive and without its manifest");
    twin.put_record(&node, &locator, record.encode().into()).await.unwrap();
    assert_eq!(put(Record { sealed: None, ..record.clone() }).await, 409);
    assert_eq!(put(Record { sealed: Some(zeros(100)), ..record.clone() }).await, 400, "not the manifest of its lease");
    assert_eq!(put(sample.record(&sample.lease(1), &node)).await, 409, "older");
    assert_eq!(put(thief.record(&Lease { locator, ..thief.lease(9) }, &node)).await, 409, "another object");
    // Nobody signs where the shards lie: who sends that later does not know better.
    let elsewhere = vec![Some("elsewhere".parse().unwrap()); record.placement.len()];
    let elsewhere = Record { placement: elsewhere, ..record.clone() };
    twin.put_record(&node, &locator, elsewhere.encode().into()).await.unwrap();
    assert_eq!(twin.record(&node, &locator).await.unwrap(), Some(record.encode().into()));
}

/// [`Transport::put_lease`], and what a record brings of one.
pub async fn leases_only_grow(stage: &impl Stage) {
    let (twin, node) = owner(stage);
    let (sample, thief) = (Sample::new(1, 40_000), Sample::new(2, 40_000));
    let locator = sample.sealed.locator;
    let put = async |envelope: Bytes| twin.put_lease(&node, &locator, envelope).await;
    assert_eq!(status(put(sample.sign(&sample.lease(1))).await), 404);
    file(&*twin, &node, &sample, &sample.lease(1)).await.unwrap();
    let renewed = sample.sign(&sample.lease(3));
    for _ in 0..2 {
        put(renewed.clone()).await.unwrap();
        let held = Record::decode(&twin.record(&node, &locator).await.unwrap().unwrap()).unwrap();
        assert_eq!((held.lease.version, &held.lease_envelope), (3, &renewed));
    }
    assert_eq!(status(put(sample.sign(&sample.lease(2))).await), 409, "older");
    let other = Lease { retention: Retention { keep_until: 0, expires: u64::MAX }, ..sample.lease(3) };
    assert_eq!(status(put(sample.sign(&other)).await), 409, "the same version in other words");
    assert_eq!(status(put(thief.sign(&thief.lease(9))).await), 400, "another locator");
    assert_eq!(status(put(thief.sign(&Lease { locator, ..thief.lease(9) })).await), 409, "another's");
    assert_eq!(status(put(sample.sign(&sample.lease(1 << 63))).await), 400, "more than SQL can count");
    let mut forged = renewed.to_vec();
    let middle = forged.len() / 2;
    forged[middle] ^= 1;
    assert_eq!(status(put(forged.into()).await), 400);
    assert_eq!(status(put(zeros(LEASE_BYTES_MAX + 1)).await), 413);
    file(&*twin, &node, &sample, &sample.lease(5)).await.unwrap();
    assert_eq!(status(file(&*twin, &node, &sample, &sample.lease(4)).await), 409);
    let news = told(&*twin, &node).await;
    assert_eq!(news.iter().filter(|kind| **kind == ChangeKind::Record { locator }).count(), 3);
}

/// [`Transport::put_record`], [`Transport::put_lease`] of a stable name.
pub async fn a_name_moves_with_its_lease_alone(stage: &impl Stage) {
    let (twin, node) = owner(stage);
    let secret = OwnerSecret::from_bytes([1; 32]);
    let name = StableName::derive(&secret, "site").unwrap();
    let record = |target: u8, version| {
        let pointer = Pointer { target: Capability::from_bytes([target; 32]), fresh_until: u64::MAX, seconds: 60 };
        name.record(&secret.keys(), &pointer, version, None)
    };
    let locator = name.locator();
    let put = async |record: &Record| twin.put_record(&node, &locator, record.encode().into()).await;
    let held = async || Record::decode(&twin.record(&node, &locator).await.unwrap().unwrap()).unwrap();
    let target = async || Pointer::open(name.capability(), &held().await, 1).unwrap().target.expose()[0];
    put(&record(1, 1)).await.unwrap();
    let second = record(2, 2);
    for _ in 0..2 {
        put(&second).await.unwrap();
        assert_eq!(target().await, 2);
    }
    assert_eq!(status(put(&record(1, 1)).await), 409, "an older pointer");
    assert_eq!(status(put(&record(3, 2)).await), 409, "another of the same version");
    let newer = record(3, 3);
    assert_eq!(status(twin.put_lease(&node, &locator, newer.lease_envelope.clone()).await), 409, "its lease alone");
    assert_eq!(status(put(&Record { sealed: None, ..newer.clone() }).await), 409, "without where it points");
    assert_eq!((target().await, held().await.lease.version), (2, 2));
    put(&newer).await.unwrap();
    assert_eq!(target().await, 3);
    let news = told(&*twin, &node).await;
    assert_eq!(news.iter().filter(|kind| **kind == ChangeKind::Record { locator }).count(), 3);

    let thief = OwnerSecret::from_bytes([2; 32]);
    let theirs = StableName::derive(&thief, "site").unwrap();
    let theirs = theirs.record(&thief.keys(), &Pointer::open(name.capability(), &newer, 1).unwrap(), 9, None);
    let lease = Lease { locator, ..theirs.lease.clone() }.sign(&thief.keys());
    let forged = Record::new(theirs.public, theirs.sealed, lease.into(), Vec::new()).unwrap();
    assert_eq!(status(put(&forged).await), 409, "another's");

    let erasure = Lease { version: 4, erased: true, ..newer.lease.clone() }.sign(&secret.keys());
    twin.put_lease(&node, &locator, erasure.into()).await.unwrap();
    assert_eq!((held().await.sealed, held().await.lease.erased), (None, true));
    assert_eq!(status(put(&record(5, 5)).await), 410, "what is erased stays erased");
}

/// [`Transport::put_lease`], [`Transport::put_record`], [`Transport::record`], [`Transport::locators`].
pub async fn the_erased_stay_erased(stage: &impl Stage) {
    let (twin, node) = owner(stage);
    let sample = Sample::new(1, 40_000);
    let locator = sample.sealed.locator;
    file(&*twin, &node, &sample, &sample.lease(1)).await.unwrap();
    let erasure = sample.sign(&sample.erasure(2));
    for _ in 0..2 {
        twin.put_lease(&node, &locator, erasure.clone()).await.unwrap();
    }
    let held = Record::decode(&twin.record(&node, &locator).await.unwrap().unwrap()).unwrap();
    assert_eq!((held.sealed, held.lease.erased), (None, true));
    assert_eq!(status(file(&*twin, &node, &sample, &sample.lease(3)).await), 410);
    assert_eq!(status(file(&*twin, &node, &sample, &sample.lease(1)).await), 409);
    assert_eq!(status(twin.put_lease(&node, &locator, sample.sign(&sample.lease(3))).await), 410);
    twin.put_lease(&node, &locator, sample.sign(&sample.erasure(3))).await.unwrap();
    assert_eq!(twin.locators(&node, &sample.owner.id(), None).await.unwrap().locators, []);
    let news = told(&*twin, &node).await;
    assert!(news.contains(&ChangeKind::Erased { locator }), "{news:?}");

    // A tombstone may be the first that a node hears of an object.
    let unheard = Sample::new(2, 40_000);
    let tombstone = Record { sealed: None, ..unheard.record(&unheard.erasure(2), &node) };
    twin.put_record(&node, &unheard.sealed.locator, tombstone.encode().into()).await.unwrap();
    assert_eq!(status(file(&*twin, &node, &unheard, &unheard.lease(3)).await), 410);
}

/// [`Transport::put_lease`].
pub async fn promises_to_keep_are_kept(stage: &impl Stage) {
    let (twin, node) = owner(stage);
    let sample = Sample::new(1, 40_000);
    let until = now() + 1_000;
    let kept = |version, keep_until| Lease { retention: Retention { keep_until, expires: 0 }, ..sample.lease(version) };
    file(&*twin, &node, &sample, &kept(1, until)).await.unwrap();
    let put = async |lease: Lease| twin.put_lease(&node, &sample.sealed.locator, sample.sign(&lease)).await;
    for lease in [sample.erasure(2), kept(2, until - 1), Lease { erased: true, ..kept(2, until) }] {
        assert_eq!(status(put(lease).await), 409);
    }
    put(kept(2, until + 1)).await.unwrap();
}

/// [`Transport::locators`], [`Transport::all_locators`].
pub async fn locators_are_the_living_ones_in_order(stage: &impl Stage) {
    let (twin, node) = owner(stage);
    let samples = [1, 2, 3].map(|random| Sample::of(1, [random; 32], &[random; 100]));
    for sample in &samples {
        file(&*twin, &node, sample, &sample.lease(1)).await.unwrap();
    }
    let other = Sample::new(2, 100);
    file(&*twin, &node, &other, &other.lease(1)).await.unwrap();
    let mut locators = samples.each_ref().map(|sample| sample.sealed.locator);
    locators.sort();
    let owner = samples[0].owner.id();
    let page = async |after: Option<Locator>| twin.locators(&node, &owner, after.as_ref()).await.unwrap();
    for _ in 0..2 {
        let all = page(None).await;
        assert_eq!((&all.locators[..], all.next), (&locators[..], None));
    }
    assert_eq!(page(Some(locators[0])).await.locators, locators[1..]);
    assert_eq!(page(Some(locators[2])).await.locators, []);
    let stranger = twin.locators(&node, &OwnerId([9; 32]), None).await.unwrap();
    assert_eq!((stranger.locators, stranger.next), (vec![], None));
    // Edges need those of all owners.
    let edge = stage.caller("e1", Role::Edge);
    let mut of_all = [&locators[..], &[other.sealed.locator]].concat();
    of_all.sort();
    let all = edge.all_locators(&node, None).await.unwrap();
    assert_eq!((&all.locators, all.next), (&of_all, None));
    assert_eq!(edge.all_locators(&node, Some(&of_all[1])).await.unwrap().locators, of_all[2..]);
    assert_eq!(status(twin.all_locators(&node, None).await), 403);
}

/// [`Transport::policy`], [`Transport::put_policy`].
pub async fn policies_only_grow_and_need_their_blobs(stage: &impl Stage) {
    let (twin, node) = owner(stage);
    let (edge, keys) = (stage.caller("e1", Role::Edge), Sample::new(1, 10).owner);
    let blob = Bytes::from_static(b"component and configuration");
    let component = BlobId::of(&blob);
    let link = PolicyLink { component, component_bytes: 27, config: component, config_bytes: 27 };
    let (owner, name): (_, PolicyName) = (keys.id(), "geo".parse().unwrap());
    let sign = |sequence, not_before| {
        let manifest = PolicyManifest {
            owner,
            name: name.clone(),
            sequence,
            links: vec![link],
            not_before,
            expires: 0,
            parent: None,
            unknown: Default::default(),
        };
        Bytes::from(manifest.sign(&keys))
    };
    let put = async |envelope: Bytes| twin.put_policy(&node, &owner, &name, envelope).await;
    let first = sign(2, 0);
    assert_eq!(edge.policy(&node, &owner, &name).await.unwrap(), None);
    assert_eq!(status(put(first.clone()).await), 409, "a blob is missing");
    twin.put_blob(&node, &component, blob).await.unwrap();
    for _ in 0..2 {
        put(first.clone()).await.unwrap();
        assert_eq!(edge.policy(&node, &owner, &name).await.unwrap(), Some(first.clone()));
    }
    assert_eq!(status(put(sign(1, 0)).await), 409, "older");
    assert_eq!(status(put(sign(2, 7)).await), 409, "the same version in other words");
    assert_eq!(status(twin.put_policy(&node, &owner, &"other".parse().unwrap(), first.clone()).await), 400);
    assert_eq!(status(twin.put_policy(&node, &OwnerId([9; 32]), &name, first).await), 400);
    assert_eq!(status(put(Bytes::from_static(b"no policy")).await), 400);
    assert_eq!(status(put(zeros(POLICY_MANIFEST_BYTES_MAX + 1)).await), 413);
    put(sign(3, 0)).await.unwrap();
    let news = told(&*edge, &node).await;
    let change = ChangeKind::Policy { owner, name };
    assert_eq!(news.iter().filter(|kind| **kind == change).count(), 2);
}

/// [`Transport::blob`], [`Transport::put_blob`].
pub async fn blobs_lie_under_their_hash(stage: &impl Stage) {
    let (twin, node) = owner(stage);
    let edge = stage.caller("e1", Role::Edge);
    let largest = zeros(POLICY_COMPONENT_BYTES_MAX);
    let id = BlobId::of(&largest);
    assert_eq!(edge.blob(&node, &id).await.unwrap(), None);
    assert_eq!(status(twin.put_blob(&node, &id, Bytes::from_static(b"another")).await), 422);
    let larger = zeros(POLICY_COMPONENT_BYTES_MAX + 1);
    assert_eq!(status(twin.put_blob(&node, &BlobId::of(&larger), larger).await), 413);
    for _ in 0..2 {
        twin.put_blob(&node, &id, largest.clone()).await.unwrap();
        assert_eq!(edge.blob(&node, &id).await.unwrap(), Some(largest.clone()));
    }
}

/// [`Transport::purge`].
pub async fn a_purge_is_told_once_and_of_the_owners_own(stage: &impl Stage) {
    let (twin, node) = owner(stage);
    let (sample, other) = (Sample::new(1, 100), Sample::new(2, 100));
    for sample in [&sample, &other] {
        file(&*twin, &node, sample, &sample.lease(1)).await.unwrap();
    }
    let (owner, second) = (sample.owner.id(), now());
    let sign = |issued, what| Bytes::from(Purge { owner, issued, hard: true, what }.sign(&sample.owner));
    let far = PURGE_SKEW_SECONDS_MAX + 60;
    assert_eq!(status(twin.purge(&node, sign(second - far, Purged::All)).await), 400, "said again later");
    assert_eq!(status(twin.purge(&node, sign(second + far, Purged::All)).await), 400);
    assert_eq!(status(twin.purge(&node, Bytes::from_static(b"no order")).await), 400);
    assert_eq!(status(twin.purge(&node, zeros(PURGE_BYTES_MAX + 1)).await), 413);
    let [own, others, unknown] = [sample.sealed.locator, other.sealed.locator, Locator([9; 32])];
    assert_eq!(status(twin.purge(&node, sign(second, Purged::Objects([own, others].into()))).await), 409);
    let orders = [sign(second, Purged::Objects([own, unknown].into())), sign(second, Purged::All)];
    for order in orders.iter().chain(&orders) {
        twin.purge(&node, order.clone()).await.unwrap();
    }
    let purges = |kind: &ChangeKind| matches!(kind, ChangeKind::Purge { .. });
    let news: Vec<ChangeKind> = told(&*twin, &node).await.into_iter().filter(purges).collect();
    let order = |locator| ChangeKind::Purge { owner, locator, hard: true, issued: second };
    assert_eq!(news, [order(Some(own)), order(None)]);
}

/// [`Transport::note`], [`Transport::put_note`].
pub async fn a_note_follows_the_version_before_it(stage: &impl Stage) {
    let (edge, node) = (stage.caller("e1", Role::Edge), stage.node());
    let id = NoteId([255; 32]);
    let note = |version| Note { version, sealed: Bytes::from(vec![0xff; NOTE_BYTES_MAX]) };
    assert_eq!(edge.note(&node, &id).await.unwrap(), None);
    assert!(!edge.put_note(&node, &id, &note(2)).await.unwrap());
    for version in [1, 2] {
        assert!(edge.put_note(&node, &id, &note(version)).await.unwrap());
        assert!(!edge.put_note(&node, &id, &note(version)).await.unwrap(), "twice");
        assert_eq!(edge.note(&node, &id).await.unwrap(), Some(note(version)));
    }
    assert!(!edge.put_note(&node, &id, &note(4)).await.unwrap());
    assert_eq!(status(edge.put_note(&node, &id, &note(0)).await), 400);
    let large = Note { version: 3, sealed: zeros(NOTE_BYTES_MAX + 1) };
    assert_eq!(status(edge.put_note(&node, &id, &large).await), 400);
    let small = Note { version: 1, sealed: zeros(1) };
    // 256 notes of all zones together; one is held.
    for byte in 0..255 {
        assert!(edge.put_note(&node, &NoteId([byte; 32]), &small).await.unwrap(), "{byte}");
    }
    let full = edge.put_note(&node, &NoteId(*b"one more note than there may be."), &small).await;
    assert_eq!(status(full), 507);
    assert!(edge.put_note(&node, &id, &note(3)).await.unwrap(), "one that is held may go on");
}

/// [`Transport::nodes`], [`Transport::announce`].
pub async fn nodes_speak_for_themselves_and_are_news_when_they_move(stage: &impl Stage) {
    let (edge, name) = (stage.caller("e1", Role::Edge), stage.node());
    let near = |seen: u64| seen.abs_diff(now()) < 60;
    let held = edge.nodes(&name).await.unwrap();
    assert_eq!(held.iter().map(|entry| (&entry.name, entry.role)).collect::<Vec<_>>(), [(&name, Role::Origin)]);
    assert!(near(held[0].seen), "{held:?}");

    let addresses = |count: u8| (0..count).map(|at| [127, 0, 0, at].into()).collect();
    let entry = NodeEntry { role: Role::Edge, public: addresses(64), ..node("e1", place("bru1")) };
    let news = async || {
        let node = ChangeKind::Node { name: "e1".parse().unwrap() };
        told(&*edge, &name).await.iter().filter(|kind| **kind == node).count()
    };
    for load in [0, 100] {
        edge.announce(&name, &NodeEntry { load, ..entry.clone() }).await.unwrap();
        assert_eq!(news().await, 1, "how full it is is no news");
    }
    let moved = NodeEntry { public: addresses(1), ..entry.clone() };
    edge.announce(&name, &moved).await.unwrap();
    assert_eq!(news().await, 2);
    let held = edge.nodes(&name).await.unwrap().into_iter().find(|held| held.role == Role::Edge).unwrap();
    assert!(near(held.seen), "{held:?}");
    assert_eq!(NodeEntry { seen: 0, ..held }, moved);

    assert_eq!(status(edge.announce(&name, &NodeEntry { public: addresses(65), ..entry.clone() }).await), 400);
    assert_eq!(status(edge.announce(&name, &NodeEntry { load: 101, ..entry.clone() }).await), 400);
    assert_eq!(status(edge.announce(&name, &NodeEntry { role: Role::Origin, ..entry.clone() }).await), 403);
    let twin = stage.caller("t1", Role::Twin);
    assert_eq!(status(twin.announce(&name, &entry).await), 403, "another's name");
    let namesake = stage.caller("e1", Role::Twin);
    assert_eq!(status(namesake.announce(&name, &NodeEntry { role: Role::Twin, ..entry }).await), 409);
}

/// [`Transport::report`].
pub async fn tickets_merge_and_are_bounded(stage: &impl Stage) {
    /// Tickets of one reader that wait.
    const TICKETS_PER_READER_MAX: u8 = 100;
    let (edge, node) = (stage.caller("e1", Role::Edge), stage.node());
    let ticket = |byte: u8| Ticket { node: node.clone(), object: ObjectId([byte; 32]), column: 1, stripe: 2 };
    assert_eq!(status(edge.report(&node, &Ticket { column: COLUMNS_MAX, ..ticket(0) }).await), 400);
    assert_eq!(status(edge.report(&node, &Ticket { stripe: STRIPES_MAX, ..ticket(0) }).await), 400);
    for byte in 0..TICKETS_PER_READER_MAX {
        edge.report(&node, &ticket(byte)).await.unwrap();
    }
    edge.report(&node, &Ticket { stripe: 3, ..ticket(7) }).await.unwrap();
    // The node works on them meanwhile, so there may be room for some more.
    let mut others = 100..200;
    let full = loop {
        let byte = others.next().expect("a node does not repair a hundred shards in the time of a hundred calls");
        if let Err(full) = edge.report(&node, &ticket(byte)).await {
            break full;
        }
    };
    assert!(full.is_retryable(), "{full}");
    assert_eq!(status::<()>(Err(full)), 429);
    stage.caller("e2", Role::Edge).report(&node, &ticket(200)).await.unwrap();
}

/// [`Transport::changes`].
pub async fn the_feed_tells_in_order_wakes_who_waits_and_resets(stage: &impl Stage) {
    const WAIT_SECONDS: u32 = 30;
    let (twin, node) = owner(stage);
    let samples = [1, 2, 3].map(|seed| Sample::new(seed, 100));
    for sample in &samples[..2] {
        file(&*twin, &node, sample, &sample.lease(1)).await.unwrap();
    }
    let [one, two, three] = samples.each_ref().map(|sample| ChangeKind::Record { locator: sample.sealed.locator });
    let all = twin.changes(&node, 0, 0).await.unwrap();
    let kinds: Vec<&ChangeKind> = all.changes.iter().map(|change| &change.kind).collect();
    assert!(kinds.ends_with(&[&one, &two]) && !all.reset, "{all:?}");
    assert!(all.changes.is_sorted_by(|a, b| a.sequence < b.sequence));
    let newest = all.changes[all.changes.len() - 1].sequence;
    assert_eq!(all.next, newest);
    assert_eq!(twin.changes(&node, newest - 1, 0).await.unwrap().changes, all.changes[all.changes.len() - 1..]);
    let none = twin.changes(&node, newest, 0).await.unwrap();
    assert_eq!((none.changes, none.next, none.reset), (vec![], newest, false));
    // Who has seen more than there is follows another feed.
    let other = twin.changes(&node, newest + 1_000, WAIT_SECONDS).await.unwrap();
    assert_eq!((other.changes, other.next, other.reset), (vec![], newest, true));

    let start = Instant::now();
    let late = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        file(&*twin, &node, &samples[2], &samples[2].lease(1)).await.unwrap();
    };
    let (page, ()) = tokio::join!(twin.changes(&node, newest, WAIT_SECONDS), late);
    let page = page.unwrap();
    assert_eq!(page.changes.iter().map(|change| &change.kind).collect::<Vec<_>>(), [&three]);
    assert!(start.elapsed() < Duration::from_secs(WAIT_SECONDS.into()), "it was told, and did not wait to the end");
}

/// Every method that writes.
pub async fn edges_read_and_do_not_write(stage: &impl Stage) {
    let (twin, node) = owner(stage);
    let (edge, sample) = (stage.caller("e1", Role::Edge), Sample::new(1, 40_000));
    let (locator, owner) = (sample.sealed.locator, sample.owner.id());
    let upload = twin.create_upload(&node, 0, 6).await.unwrap();
    assert_eq!(status(edge.create_upload(&node, 0, 6).await), 403);
    assert_eq!(status(edge.append(&node, &upload, 0, &sample.columns[0]).await), 403);
    assert_eq!(status(edge.commit(&node, &upload, 0, sample.sealed.public.encoded().clone()).await), 403);
    assert_eq!(status(edge.upload_cells(&node, &upload).await), 403);
    assert_eq!(status(edge.abort(&node, &upload).await), 403);
    assert_eq!(status(file(&*edge, &node, &sample, &sample.lease(1)).await), 403);
    assert_eq!(status(edge.put_lease(&node, &locator, sample.sign(&sample.lease(1))).await), 403);
    assert_eq!(status(edge.put_policy(&node, &owner, &"geo".parse().unwrap(), zeros(1)).await), 403);
    assert_eq!(status(edge.put_blob(&node, &BlobId::of(b"0"), Bytes::from_static(b"0")).await), 403);
    assert_eq!(status(edge.purge(&node, zeros(1)).await), 403);
    let note = Note { version: 1, sealed: zeros(1) };
    assert_eq!(status(twin.put_note(&node, &NoteId([5; 32]), &note).await), 403, "notes are the edges'");
    assert_eq!(status(twin.note(&node, &NoteId([5; 32])).await), 403);
    assert_eq!(edge.locators(&node, &owner, None).await.unwrap().locators, []);
}

/// Every method.
pub async fn a_node_that_nobody_knows_is_told_apart(stage: &impl Stage) {
    let twin = stage.caller("t1", Role::Twin);
    let nobody: NodeName = "nobody".parse().unwrap();
    assert_eq!(twin.nodes(&nobody).await, Err(TransportError::Unknown { node: nobody.clone() }));
    let lease = lease(Locator([1; 32]), OwnerId([1; 32]), 1);
    let refused = twin.record(&nobody, &lease.locator).await.unwrap_err();
    assert!(!refused.is_retryable(), "{refused}");
}
