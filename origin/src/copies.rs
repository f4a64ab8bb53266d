//! Keeps the copies of records on the own disk as the catalog says, by following the change feed: leases renewed and
//! objects erased through other nodes reach this disk within half a second of their commit. A copy that should be here
//! and is not is fetched from the catalog: on a new or wiped disk and when the cluster has grown by a walk over all
//! records, after a time away by following what was missed.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use format::{
    Lease, Locator, NodeName, Record,
    limits::{CHANGES_WAIT_SECONDS_MAX, PAGE_ENTRIES_MAX},
    rendezvous,
    wire::{ChangeKind, ChangePage},
};
use tokio::{
    sync::MutexGuard,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    catalog::{Applied, CatalogError, Filed, Refused},
    node::{Lost, Node},
    refusals, repair,
    run::StrangeCatalog,
    scrub::now,
    store::{Store, StoreError},
    upkeep::pause,
};

/// Pause after a failure, so that a catalog that is down is not asked in a tight loop.
const PAUSE: Duration = Duration::from_secs(1);
/// Between pages of the walk that looks for missing copies, so that the catalog has time for others.
const PAGE_PAUSE: Duration = Duration::from_millis(100);
/// Seconds after which missing copies are looked for again: an upload that could not reach this node told nobody so.
const WALK_SECONDS: u64 = 24 * 3600;
/// Changes before the position noted that count as missed too: the node may have been killed between hearing of an
/// upload and taking it.
const AGAIN: u64 = 1000;
/// The position is noted this seldom while changes come: a note is a write to the disk, an old one costs some reads.
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// Copies of which it is remembered up to which change they are current, 100 bytes each; of others the catalog is asked
/// again.
const SHOWN_MAX: usize = 65_536;
/// How long every copy is looked at before the feed is followed for a page. A look at a million copies takes half an
/// hour or more, in which a busy feed tells more than it keeps: followed only after it, it would begin anew each time.
const RESYNC_SLICE: Duration = Duration::from_millis(250);
/// Turns of writers of copies. Two records that fall on one wait for each other's disk without need, so there are many
/// more than calls into the disk at once.
const TURNS: usize = 1024;

/// What writers of copies share.
#[derive(Default)]
pub(crate) struct Copies {
    /// Who writes a copy holds the turn from the look at the catalog to the disk. So what the feed tells of meanwhile
    /// finds the copy, and an older answer of the catalog is never written last.
    turns: Turns,
    /// The newest change that a copy shows, for copies written since the feed was followed to there: what this node
    /// wrote by itself is not looked up again when the feed tells of it.
    shown: Mutex<HashMap<Locator, u64>>,
    /// How often missing copies were to be looked for again. Who notes so, or notes that a walk was made, holds it: a
    /// walk that began before does not count.
    walks_forgotten: tokio::sync::Mutex<u64>,
}

struct Turns(Vec<tokio::sync::Mutex<()>>);

impl Default for Turns {
    fn default() -> Self {
        Self((0..TURNS).map(|_| tokio::sync::Mutex::default()).collect())
    }
}

impl Copies {
    async fn turn(&self, locator: &Locator) -> MutexGuard<'_, ()> {
        let [low, high, ..] = locator.0;
        self.turns.0[usize::from(u16::from_le_bytes([low, high])) % TURNS].lock().await
    }

    fn show(&self, locator: Locator, sequence: u64) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.len() < SHOWN_MAX || shown.contains_key(&locator) {
            shown.insert(locator, sequence);
        }
    }

    fn shows(&self, locator: &Locator, sequence: u64) -> bool {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.get(locator).is_some_and(|shown| *shown >= sequence)
    }

    /// Forgets what the feed will not tell again.
    fn passed(&self, sequence: u64) {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, shown| *shown > sequence);
    }

    /// The numbers of the feed begin anew.
    fn forget(&self) {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Returns what [`Self::note_walk`] is told of a walk that begins.
    async fn begin_walk(&self) -> u64 {
        *self.walks_forgotten.lock().await
    }

    /// Notes, by `write`, that a walk was made, unless walks were forgotten since it began.
    async fn note_walk<T>(&self, began: u64, write: impl Future<Output = T>) -> Option<T> {
        let forgotten = self.walks_forgotten.lock().await;
        if *forgotten == began { Some(write.await) } else { None }
    }

    /// Notes, by `write`, that no walk was made, also none that is under way.
    async fn forget_walks<T>(&self, write: impl Future<Output = T>) -> T {
        let mut forgotten = self.walks_forgotten.lock().await;
        *forgotten += 1;
        write.await
    }
}

/// Why a copy could not be brought up to date; ours, and tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RefreshError {
    /// The catalog does not answer.
    #[error("the catalog does not say what the record is now")]
    Catalog(#[from] CatalogError),
    /// Nothing is written to another catalog than the one that knows the disk.
    #[error(
        "this node's catalog is not the one that knows its disk, and its operator must see to it; use another node"
    )]
    Strange(#[from] StrangeCatalog),
    /// The disk failed.
    #[error("the copy of the record cannot be written")]
    Store(#[from] StoreError),
    /// The node is stopping.
    #[error(transparent)]
    Lost(#[from] Lost),
}

/// Passes over a record whose row in the catalog is damaged: the others must not wait for it. Of the disk nothing is
/// passed over: a bad sector under an earlier copy hinders no write, and an erasure that cannot be written is tried
/// again.
fn pass_over<T: Default>(locator: &Locator, done: Result<T, RefreshError>) -> Result<T, RefreshError> {
    match done {
        Err(RefreshError::Catalog(CatalogError::Damaged { table })) => {
            tracing::warn!(%locator, table, "the row of a record is damaged, and its copy stays as it is");
            Ok(T::default())
        }
        done => done,
    }
}

/// Brings the copy of a record, if one is here, in line with what the catalog holds. Asks the catalog first: where a
/// lease is sent to there is a copy, nearly always. Returns what [`Store::put_record`] does.
pub(crate) async fn refresh(node: &Node, locator: Locator) -> Result<Option<Lease>, RefreshError> {
    let _turn = node.copies.turn(&locator).await;
    let Some(Filed { record, sequence, filed_at }) = node.catalog.filed(&locator).await? else { return Ok(None) };
    let put = move |store: &Arc<Store>| {
        let outlives = store.has_record(&locator).then(|| store.put_record(&record, filed_at));
        outlives.transpose()
    };
    let put = node.off_reactor(put).await??;
    if put.is_some() {
        node.copies.show(locator, sequence);
    }
    Ok(put.flatten())
}

/// Refuses a lease that a copy here `outlives`, as one that comes too late: the catalog went back, and its owner must
/// sign above what they signed before. Else they would take for done what no reader goes by.
pub(crate) fn refuse_outlived(asked: &Lease, outlives: Option<&Lease>) -> Result<(), CatalogError> {
    let Some(&Lease { version: held, erased, .. }) = outlives else { return Ok(()) };
    Err(match asked.version {
        _ if erased => Refused::Erased,
        asked if asked == held => Refused::SameVersion { held },
        asked => Refused::Older { held, asked },
    }
    .into())
}

/// Does the same for a change that the feed tells of, unless the copy shows it already.
async fn bring_to(node: &Node, locator: Locator, sequence: u64) -> Result<(), RefreshError> {
    let _turn = node.copies.turn(&locator).await;
    if !node.copies.shows(&locator, sequence) && node.off_reactor(move |store| store.has_record(&locator)).await? {
        write(node, locator).await?;
    }
    Ok(())
}

/// Keeps a copy of a record as the catalog holds it. Nothing else is ever written as a copy: what a caller sends beside
/// the owner's lease, nobody signed. Returns what [`Store::put_record`] does.
pub(crate) async fn take(node: &Node, locator: Locator) -> Result<Option<Lease>, RefreshError> {
    let _turn = node.copies.turn(&locator).await;
    write(node, locator).await
}

/// Files the own copy of a record again: the catalog may have been made anew, or lost its last seconds, and lack it or
/// hold what somebody filed meanwhile. Returns whether that was news to the catalog.
async fn vouch(node: &Node, locator: Locator) -> Result<bool, RefreshError> {
    let held = node.off_reactor(move |store| store.filed_record(&locator)).await?;
    vouch_by(node, held, None).await
}

/// Does the same with the own copy as it was read, but not when a caller comes with the lease `asked` of the same owner
/// and object that may follow it. Where the catalog went back, it refuses then what comes too late.
pub(crate) async fn vouch_by(
    node: &Node,
    held: Result<Option<(Record, u64)>, StoreError>,
    asked: Option<&Lease>,
) -> Result<bool, RefreshError> {
    // A copy that cannot be read vouches for nothing; who reads it has it replaced.
    let Ok(Some((held, since))) = held else { return Ok(false) };
    let locator = held.locator();
    let is_of = |asked: &Lease| (held.lease.owner, held.lease.object) == (asked.owner, asked.object);
    if asked.is_some_and(|asked| is_of(asked) && !held.lease.outlives(asked)) {
        return Ok(false);
    }
    match node.catalog.restore_record(&held, since).await {
        // What the catalog knows better it goes on knowing.
        Ok(Applied::Unchanged) | Err(CatalogError::Refused(_)) => Ok(false),
        Ok(Applied::Stored) => {
            tracing::warn!(%locator, "the catalog lacked what lies in the copy of a record");
            node.feed.written();
            Ok(true)
        }
        Err(error) => Err(error.into()),
    }
}

/// Writes to the catalog. What it refuses because it holds nothing under the locator, or something of another owner or
/// object, is tried again when the own copy knew better.
pub(crate) async fn write_or_vouch<W: Future<Output = Result<Applied, CatalogError>>>(
    node: &Node,
    locator: Locator,
    write: impl Fn() -> W,
) -> Result<Applied, RefreshError> {
    let done = write().await;
    let may_have_lost = matches!(
        done,
        Err(CatalogError::Refused(Refused::NoRecord | Refused::OtherOwner { .. } | Refused::OtherObject { .. }))
    );
    let done = if may_have_lost && vouch(node, locator).await? { write().await } else { done };
    Ok(done?)
}

/// Writes a copy as the catalog has it. The caller holds the turn.
async fn write(node: &Node, locator: Locator) -> Result<Option<Lease>, RefreshError> {
    match node.catalog.filed(&locator).await? {
        Some(filed) => keep(node, filed).await,
        None => Ok(None),
    }
}

async fn keep(node: &Node, Filed { record, sequence, filed_at }: Filed) -> Result<Option<Lease>, RefreshError> {
    let locator = record.locator();
    let outlives = node.off_reactor(move |store| store.put_record(&record, filed_at)).await??;
    node.copies.show(locator, sequence);
    Ok(outlives)
}

/// Where the node is in the feed.
struct Followed {
    /// The last change seen.
    since: u64,
    /// The last position noted on the disk, and when.
    noted: (u64, Instant),
    /// Changes up to here were made while the node was away, so uploads passed it by; none before the catalog was
    /// asked.
    missed_until: Option<u64>,
    /// The look at every copy, when the feed does not tell what changed.
    resync: Option<Resync>,
}

impl Followed {
    fn at(since: u64, missed_until: Option<u64>) -> Self {
        Self { since, noted: (since, Instant::now()), missed_until, resync: None }
    }
}

/// A look at every copy, in slices between pages of the feed. What fails it in between, it goes on behind: a catalog
/// that stumbles more often than a whole look takes would see all of it again and again, and never the end.
struct Resync {
    /// Copies not looked at yet.
    left: Vec<Locator>,
}

impl Resync {
    /// Looks at what is left, as far as it comes `until` then, and at one copy at least. True: nothing is left.
    async fn go_on<L: Future<Output = Result<(), RefreshError>>>(
        &mut self,
        until: Instant,
        stop: &CancellationToken,
        look: impl Fn(Locator) -> L,
    ) -> Result<bool, RefreshError> {
        while let Some(locator) = self.left.last() {
            if stop.is_cancelled() {
                return Err(Lost.into());
            }
            look(*locator).await?;
            self.left.pop();
            if Instant::now() >= until {
                break;
            }
        }
        Ok(self.left.is_empty())
    }
}

/// Follows the feed until the node stops.
pub(crate) async fn follow(node: Arc<Node>) {
    // Before the first announcement nobody knows which copies belong here.
    while !names(&node).contains(&node.config.name) {
        if !pause(PAUSE, &node.stop).await {
            return;
        }
    }
    // What an earlier run did not see is still in the feed; what the feed no longer has is found by looking at every
    // copy. On a new disk the walk over all records finds what is missing.
    let mut followed = match node.store.feed_position() {
        Some(since) => Followed::at(since.saturating_sub(AGAIN), None),
        None => {
            if let Err(error) = forget_walk(&node).await {
                tracing::warn!(%error, "copies that are missing here may be looked for only in a day");
            }
            Followed::at(0, Some(0))
        }
    };
    let mut failing = false;
    while !node.stop.is_cancelled() {
        match step(&node, &mut followed).await {
            Ok(()) => failing = false,
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, since = followed.since, "the change feed cannot be followed");
                }
                failing = true;
                tokio::select! {
                    biased;
                    () = node.stop.cancelled() => {}
                    () = sleep(PAUSE) => {}
                }
            }
        }
    }
}

/// Goes on with the look at every copy, if there is one, and applies one page. Cancel safe: what is applied twice
/// changes nothing.
async fn step(node: &Arc<Node>, followed: &mut Followed) -> Result<(), RefreshError> {
    let missed_until = match followed.missed_until {
        Some(until) => until,
        None => *followed.missed_until.insert(node.catalog.newest_change().await?),
    };
    let origins = if followed.since < missed_until { names(node) } else { BTreeSet::new() };
    let mut wait = Duration::from_secs(CHANGES_WAIT_SECONDS_MAX.into());
    let mut looked = Ok(());
    if let Some(resync) = &mut followed.resync {
        // Nor after the last slice, so that its end is noted.
        wait = Duration::ZERO;
        match resync.go_on(Instant::now() + RESYNC_SLICE, &node.stop, |locator| look_again(node, locator)).await {
            Ok(true) => followed.resync = None,
            Ok(false) => {}
            // A copy that fails each time keeps no news away.
            Err(error) => looked = Err(error),
        }
    }
    let ChangePage { changes, next, reset } = node.feed.page(followed.since, wait, &node.stop).await?;
    // First, and whatever else the page holds: a thief is to be cut off within two seconds.
    if reset || changes.iter().any(|change| matches!(change.kind, ChangeKind::Refused { .. })) {
        refusals::agree(node).await?;
    }
    if reset {
        node.copies.forget();
        forget_walk(node).await?;
        let left = node.off_reactor(|store| store.records()).await??;
        tracing::info!(copies = left.len(), "the change feed began anew: every copy of a record is looked at");
        // What is told from here on is of after the look began.
        (followed.since, followed.resync) = (next, Some(Resync { left }));
        // What the catalog lost it lost of shards too.
        node.tasks.spawn(repair::compare(node.clone()));
        return Ok(());
    }
    let is_idle = changes.is_empty();
    for change in changes {
        match change.kind {
            ChangeKind::Record { locator } | ChangeKind::Erased { locator } => {
                look_at(node, &origins, locator, change.sequence).await?;
            }
            ChangeKind::Policy { .. }
            | ChangeKind::Purge { .. }
            | ChangeKind::Refused { .. }
            | ChangeKind::Node { .. } => {}
        }
    }
    node.copies.passed(next);
    node.metrics.feed_position.set(next);
    followed.since = next;
    let (noted, when) = followed.noted;
    // A restart begins a look anew that was not over: the position of before is still noted.
    let is_due = followed.resync.is_none() && (is_idle || when.elapsed() >= NOTE_EVERY);
    if next != noted && is_due {
        node.off_reactor(move |store| store.put_feed_position(next)).await??;
        followed.noted = (next, Instant::now());
    }
    looked
}

/// Brings a copy that is here and the catalog in line where both may lack something.
async fn look_again(node: &Arc<Node>, locator: Locator) -> Result<(), RefreshError> {
    pass_over(&locator, vouch(node, locator).await)?;
    pass_over(&locator, refresh(node, locator).await.map(drop))
}

/// Fetches a copy that may have passed the node by while `origins` were these, or brings it to what a change says.
async fn look_at(
    node: &Arc<Node>,
    origins: &BTreeSet<NodeName>,
    locator: Locator,
    sequence: u64,
) -> Result<(), RefreshError> {
    let is_new = may_be_home(node, origins, &locator) && pass_over(&locator, fetch(node, locator).await)?;
    if is_new { Ok(()) } else { pass_over(&locator, bring_to(node, locator, sequence).await) }
}

/// Has missing copies looked for again.
async fn forget_walk(node: &Arc<Node>) -> Result<(), RefreshError> {
    Ok(node.copies.forget_walks(node.off_reactor(|store| store.put_copies_note(&[]))).await??)
}

fn names(node: &Node) -> BTreeSet<NodeName> {
    node.topology.origins().into_iter().map(|origin| origin.name).collect()
}

/// Whether readers may look for the record here, as far as that shows without the record. Of the copies beyond the
/// nodes that readers ask, which are there only where an owner's places exclude nearly all nodes, it knows nothing.
fn may_be_home(node: &Node, origins: &BTreeSet<NodeName>, locator: &Locator) -> bool {
    let order = rendezvous::order(locator.as_bytes(), origins);
    order.into_iter().take(client::RECORD_NODES_MAX).any(|name| *name == node.config.name)
}

/// Looks for missing copies on a disk where nobody has, and again after a day and whenever origins came or went, until
/// the node stops.
pub(crate) async fn complete_often(node: Arc<Node>) {
    let every = Duration::from_secs(node.config.limits.announce_seconds);
    while pause(every, &node.stop).await {
        if let Err(error) = complete(&node).await {
            tracing::warn!(%error, "copies of records that may be missing here cannot be looked for");
        }
    }
}

/// What is noted after a walk: among which origins, and when in seconds since 1970.
fn encode_walk(origins: &BTreeSet<NodeName>, now: u64) -> [u8; 40] {
    let mut among = blake3::Hasher::new_derive_key("evernear 2026 v1 origins among which copies are complete");
    for name in origins {
        among.update(name.as_str().as_bytes()).update(b"\n");
    }
    let mut note = [0; 40];
    note[..32].copy_from_slice(among.finalize().as_bytes());
    note[32..].copy_from_slice(&now.to_le_bytes());
    note
}

/// Whether the walk that a note tells of counts for these origins now.
fn is_walked(note: &[u8], origins: &BTreeSet<NodeName>, now: u64) -> bool {
    let Some((_, time)) = note.split_last_chunk::<8>() else { return false };
    let noted = u64::from_le_bytes(*time);
    note == encode_walk(origins, noted) && (noted..noted.saturating_add(WALK_SECONDS)).contains(&now)
}

/// Walks over all living records and fetches those whose copy belongs here, unless that was done lately among the same
/// origins.
async fn complete(node: &Arc<Node>) -> Result<(), RefreshError> {
    let (origins, now) = (names(node), now());
    let began = node.copies.begin_walk().await;
    let noted = node.off_reactor(|store| store.copies_note()).await?;
    let is_known = origins.contains(&node.config.name);
    if !is_known || noted.is_some_and(|note| is_walked(&note, &origins, now)) {
        return Ok(());
    }
    let (mut after, mut fetched) = (None, 0u64);
    loop {
        let page = node.catalog.locators(None, after.as_ref(), PAGE_ENTRIES_MAX).await?;
        after = page.last().copied();
        for locator in page {
            if may_be_home(node, &origins, &locator) {
                fetched += u64::from(pass_over(&locator, fetch(node, locator).await)?);
            }
        }
        if after.is_none() {
            break;
        }
        if !pause(PAGE_PAUSE, &node.stop).await {
            return Ok(());
        }
    }
    if fetched > 0 {
        tracing::info!(fetched, "copies of records were missing here");
    }
    let walked = encode_walk(&origins, now);
    if let Some(noted) =
        node.copies.note_walk(began, node.off_reactor(move |store| store.put_copies_note(&walked))).await
    {
        noted??;
    }
    Ok(())
}

/// Fetches a copy if it belongs here and is missing; returns whether it did.
async fn fetch(node: &Arc<Node>, locator: Locator) -> Result<bool, RefreshError> {
    let _turn = node.copies.turn(&locator).await;
    if node.off_reactor(move |store| store.has_record(&locator)).await? {
        return Ok(false);
    }
    let Some(filed) = node.catalog.filed(&locator).await? else { return Ok(false) };
    let origins = node.topology.origins();
    if filed.record.lease.erased || !client::record_homes(&filed.record, &origins).contains(&&node.config.name) {
        return Ok(false);
    }
    keep(node, filed).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_shows_changes_up_to_the_one_that_the_catalog_had() {
        let (copies, locator, other) = (Copies::default(), Locator([1; 32]), Locator([2; 32]));
        copies.show(locator, 7);
        assert!(copies.shows(&locator, 6) && copies.shows(&locator, 7));
        assert!(!copies.shows(&locator, 8) && !copies.shows(&other, 7) && !copies.shows(&locator, u64::MAX));
        copies.passed(6);
        assert!(copies.shows(&locator, 7));
        copies.passed(7);
        assert!(copies.shown.lock().unwrap().is_empty(), "the feed will not tell of it again");
    }

    #[tokio::test]
    async fn a_walk_that_was_forgotten_while_it_went_is_not_noted() {
        let (copies, noted) = (Copies::default(), Mutex::new(Vec::new()));
        let note = |what| {
            let noted = &noted;
            async move { noted.lock().unwrap().push(what) }
        };
        let began = copies.begin_walk().await;
        copies.forget_walks(note("none")).await;
        copies.note_walk(began, note("of before")).await;
        copies.note_walk(copies.begin_walk().await, note("of since")).await;
        assert_eq!(*noted.lock().unwrap(), ["none", "of since"]);
    }

    #[tokio::test]
    async fn a_look_at_every_copy_goes_on_behind_each_failure() {
        let (stop, looked) = (CancellationToken::new(), Mutex::new(Vec::new()));
        let mut resync = Resync { left: (0..9).map(|byte| Locator([byte; 32])).collect() };
        let end = Instant::now() + Duration::from_secs(3600);
        let mut failures = 0;
        // Every third look fails once.
        let look = |locator: Locator| {
            let mut looked = looked.lock().unwrap();
            looked.push(locator);
            let is_again = looked.iter().filter(|before| **before == locator).count() > 1;
            std::future::ready(if locator.0[0].is_multiple_of(3) && !is_again { Err(Lost.into()) } else { Ok(()) })
        };
        while resync.go_on(end, &stop, &look).await.is_err() {
            failures += 1;
        }
        assert_eq!((failures, looked.lock().unwrap().len()), (3, 9 + 3));
        let mut resync = Resync { left: vec![Locator([1; 32])] };
        stop.cancel();
        assert!(resync.go_on(end, &stop, &look).await.is_err());
        assert_eq!((resync.left.len(), looked.lock().unwrap().len()), (1, 12), "the node stops");
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_at_every_copy_gives_way_to_the_feed_and_comes_to_its_end() {
        let stop = CancellationToken::new();
        let mut resync = Resync { left: (0..100).map(|byte| Locator([byte; 32])).collect() };
        let look = |_| async {
            sleep(Duration::from_millis(100)).await;
            Ok(())
        };
        let (mut slices, start) = (1, Instant::now());
        while !resync.go_on(Instant::now() + RESYNC_SLICE, &stop, look).await.unwrap() {
            slices += 1;
            assert!(resync.left.len() + 3 * slices >= 100, "no slice is longer");
        }
        assert_eq!((slices, start.elapsed()), (34, Duration::from_secs(10)));
        // One look that is longer than a slice is made.
        let mut resync = Resync { left: vec![Locator([1; 32])] };
        assert!(resync.go_on(Instant::now(), &stop, look).await.unwrap());
    }

    #[test]
    fn a_damaged_row_is_passed_over_and_what_may_pass_is_not() {
        let locator = Locator([1; 32]);
        let row = CatalogError::Damaged { table: "records" };
        assert!(!pass_over(&locator, Err::<bool, _>(row.into())).unwrap());
        let down = CatalogError::Unavailable(sqlx::Error::PoolTimedOut).into();
        let disk = StoreError::Io { action: "write", path: "x".into(), source: rustix::io::Errno::IO.into() }.into();
        for error in [down, disk, RefreshError::Lost(Lost)] {
            assert!(pass_over(&locator, Err::<bool, _>(error)).is_err());
        }
        assert!(pass_over(&locator, Ok(true)).unwrap());
    }

    #[test]
    fn a_walk_counts_for_a_day_among_the_same_origins() {
        let names = |names: &[&str]| -> BTreeSet<NodeName> { names.iter().map(|name| name.parse().unwrap()).collect() };
        let (two, three) = (names(&["a", "b"]), names(&["a", "b", "c"]));
        let note = encode_walk(&two, 1000);
        assert!(is_walked(&note, &two, 1000) && is_walked(&note, &two, 1000 + WALK_SECONDS - 1));
        assert!(!is_walked(&note, &two, 1000 + WALK_SECONDS), "a day later");
        assert!(!is_walked(&note, &two, 999), "the clock was set back");
        assert!(!is_walked(&note, &three, 1000) && !is_walked(&[], &two, 1000) && !is_walked(&note[1..], &two, 1000));
    }
}
