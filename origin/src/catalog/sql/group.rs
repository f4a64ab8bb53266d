//! Group commit: records and leases that wait for the database at the same time share one transaction, and so one turn
//! among writers, one wait for the disk and one trim of the feed.
//!
//! Who comes pushes its write and waits for its answer or for the turn. Who gets the turn leads: it takes what waits
//! and answers each of these. Every node that takes a record or a lease brings it here, so most of what waits is known
//! by then, and needs no transaction. What refuses one write has written nothing and refuses that one alone; so does
//! what fails one write: the transaction is dropped, and the others go into the next one. Where the look at what is
//! held fails, each is made by itself. A record that another node writes just now is none of the group: its write waits
//! on while the others are made, and queues for the record once it has waited for long.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use format::{Lease, Locator, Record};
use sqlx::Error;
use tokio::{
    sync::{Semaphore, oneshot},
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::{
    Driver, SqlCatalog, feed, look,
    records::{self, Written},
    session::{Alone, CALL},
    signed,
    wide::WIDE_MAX,
};
use crate::catalog::{Applied, CatalogError};

/// Writes of one transaction, at most 64 records: others wait for its locks. Where each write is a round trip to a
/// server, and locks its record against other nodes, there are fewer.
const GROUP_MAX: usize = WIDE_MAX;
const GROUP_MAX_OF_SERVER: usize = 8;
/// How long a record is waited for that another node writes, where nothing else is to be done: then others that came
/// since have their turn.
const LOCK_PATIENCE: Duration = Duration::from_millis(100);
/// How long a write may be passed over because other nodes write its record, one after the other. Then it waits in
/// their queue, before whoever only tries, apart from the group and on a connection of its own.
const PASSED_OVER_MAX: Duration = Duration::from_secs(1);
/// How long it waits there at a time, below what ends a statement.
const QUEUE_PATIENCE: Duration = Duration::from_secs(5);
/// Writes that do so at one time: a node has eight connections.
const APART_MAX: usize = 2;
/// Between two looks for room, and whether the group that a write is in has ended.
const APART_LOOK: Duration = Duration::from_millis(10);
/// The same for those who have no room: on a slow server that is everybody.
const APART_WAIT: Duration = Duration::from_millis(250);

/// A write that may share its transaction.
#[derive(Debug)]
pub(super) enum Write {
    /// A record that its owner sends.
    Record(Box<Record>),
    /// A lease, and the envelope in which it was verified.
    Lease(Box<Lease>, Bytes),
}

impl Write {
    fn locator(&self) -> Locator {
        match self {
            Self::Record(record) => record.locator(),
            Self::Lease(lease, _) => lease.locator,
        }
    }
}

type Answer = Result<Applied, CatalogError>;

/// A write and who waits for it.
struct Waiting {
    write: Arc<Write>,
    told: oneshot::Sender<Answer>,
    /// Whether its caller makes it, and no group is to have it.
    apart: Arc<AtomicBool>,
}

/// Writes that wait. Each is of a caller that waits too, so there are no more of them than requests.
pub(in crate::catalog) struct Group {
    waiting: Mutex<Vec<Waiting>>,
    turn: tokio::sync::Mutex<()>,
    /// Room for those that callers make.
    apart: Semaphore,
}

impl Default for Group {
    fn default() -> Self {
        let (waiting, turn) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { waiting, turn, apart: Semaphore::new(APART_MAX) }
    }
}

impl Group {
    fn push(&self, write: &Arc<Write>, apart: &Arc<AtomicBool>) -> oneshot::Receiver<Answer> {
        let (told, answer) = oneshot::channel();
        let one = Waiting { write: write.clone(), told, apart: apart.clone() };
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(one);
        answer
    }

    /// Takes the writes that wait the longest and whose callers are still there, one for each record: the next one of
    /// that is about what the first leaves.
    fn take(&self, max: usize) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|one| !one.told.is_closed());
        let mut records = HashSet::new();
        let is_one = |one: &mut Waiting| {
            !one.apart.load(Ordering::Relaxed) && records.len() < max && records.insert(one.write.locator())
        };
        waiting.extract_if(.., is_one).collect()
    }

    /// Takes a write out that its caller makes; none while a group has it that was made before the caller said so.
    fn take_apart(&self, apart: &Arc<AtomicBool>) -> Option<Waiting> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let at = waiting.iter().position(|one| Arc::ptr_eq(&one.apart, apart))?;
        Some(waiting.remove(at))
    }

    /// Puts writes back, before those that came since.
    fn put_back(&self, left: Vec<Waiting>) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).splice(0..0, left);
    }

    /// Puts writes back, behind those that came since.
    fn put_behind(&self, left: impl Iterator<Item = Waiting>) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).extend(left);
    }
}

/// Writes, alone or with others. Dropped, the write has happened or not, as any other.
pub(super) async fn write<D: Driver>(catalog: &SqlCatalog<D>, write: Write) -> Answer {
    let (write, apart) = (Arc::new(write), Arc::default());
    let end = Instant::now() + CALL;
    let mut answer = catalog.group.push(&write, &apart);
    // Where there is one writer, none is passed over.
    let mut apart_at = if D::ALONE.is_some() { Instant::now() + PASSED_OVER_MAX } else { end };
    let mut room = None;
    loop {
        let heard = async {
            tokio::select! {
                biased;
                answered = &mut answer => Err(answered),
                () = sleep_until(apart_at) => Ok(None),
                turn = catalog.group.turn.lock() => Ok(Some(turn)),
            }
        };
        let late = || Err(Error::Io(io::ErrorKind::TimedOut.into()).into());
        match timeout_at(end, heard).await {
            Ok(Err(Ok(answer))) => return answer,
            // Its leader was dropped before it could commit.
            Ok(Err(Err(_))) => answer = catalog.group.push(&write, &apart),
            // It leads. Who waited the longest has as much time for the others as anybody. Its own write is answered
            // then, or waits on.
            Ok(Ok(Some(_turn))) => {
                if timeout(CALL, lead(catalog)).await.is_err() {
                    return late();
                }
            }
            Ok(Ok(None)) => {
                room = room.or_else(|| catalog.group.apart.try_acquire().ok());
                apart_at = Instant::now() + if room.is_some() { APART_LOOK } else { APART_WAIT };
                apart.store(room.is_some(), Ordering::Relaxed);
                if room.is_some()
                    && let Some(one) = catalog.group.take_apart(&apart)
                    && timeout_at(end, make(catalog, vec![one], QUEUE_PATIENCE)).await.is_err()
                {
                    return late();
                }
            }
            Err(_) => return late(),
        }
    }
}

/// Writes what waits. The caller has the turn.
async fn lead<D: Driver>(catalog: &SqlCatalog<D>) {
    let group = catalog.group.take(if D::ALONE.is_some() { GROUP_MAX_OF_SERVER } else { GROUP_MAX });
    // A row that cannot be read fails what reads all of them: then each is read by itself, once.
    for one in make(catalog, group, LOCK_PATIENCE).await {
        let left = make(catalog, vec![one], LOCK_PATIENCE).await;
        debug_assert!(left.is_empty(), "alone it is answered, or waits on");
    }
}

/// Makes writes, and returns those that are to be made one by one. Where other nodes write the records of all, one is
/// waited for so long.
async fn make<D: Driver>(catalog: &SqlCatalog<D>, group: Vec<Waiting>, patience: Duration) -> Vec<Waiting> {
    let group = match without_known(catalog, group).await {
        Ok(group) if group.is_empty() => return Vec::new(),
        Ok(group) => group,
        Err((group, error)) if group.len() > 1 && is_of_a_row(&error) => return group,
        Err((group, error)) => {
            tell_all(group, error);
            return Vec::new();
        }
    };
    match commit(catalog, &group, patience).await {
        Ok(answers) => {
            let mut locked = Vec::new();
            for (one, answer) in group.into_iter().zip(answers) {
                match answer {
                    // Who does not wait any more does not hear it.
                    Some(answer) => drop(one.told.send(answer)),
                    None => locked.push(one),
                }
            }
            catalog.group.put_behind(locked.into_iter());
        }
        Err(Failed::One { at, error }) => {
            let mut left = group;
            // Nobody is there any more, if this fails.
            let _ = left.remove(at).told.send(Err(error));
            catalog.group.put_back(left);
        }
        Err(Failed::Look(error)) if group.len() > 1 && is_of_a_row(&error) => return group,
        Err(Failed::All(error) | Failed::Look(error)) => tell_all(group, error),
    }
    Vec::new()
}

/// Whether a look may have failed by what is held of one record: an engine that is away answers nothing at all.
fn is_of_a_row(error: &CatalogError) -> bool {
    use CatalogError::{Damaged, Unavailable};
    matches!(error, Damaged { .. } | Unavailable(Error::Database(_) | Error::ColumnDecode { .. } | Error::Decode(_)))
}

/// Answers those of a group of which nothing is news, and returns the others; all, when that cannot be told.
async fn without_known<D: Driver>(
    catalog: &SqlCatalog<D>,
    group: Vec<Waiting>,
) -> Result<Vec<Waiting>, (Vec<Waiting>, CatalogError)> {
    let look = async {
        let writes: Vec<&Write> = group.iter().map(|one| &*one.write).collect();
        look::known(&mut catalog.reader().await?, &writes).await
    };
    let looked = look.await;
    let known = match looked {
        Ok(known) => known,
        Err(error) => return Err((group, error)),
    };
    let mut left = Vec::new();
    for (one, is_known) in group.into_iter().zip(known) {
        if is_known {
            let _ = one.told.send(Ok(Applied::Unchanged));
        } else {
            left.push(one);
        }
    }
    Ok(left)
}

fn tell_all(group: Vec<Waiting>, error: CatalogError) {
    if group.len() == 1 {
        return tell(group, vec![Err(error)]);
    }
    let error = Arc::new(error);
    let same = || Err(CatalogError::Unavailable(Error::Io(io::Error::other(error.clone()))));
    let answers: Vec<Answer> = group.iter().map(|_| same()).collect();
    tell(group, answers);
}

fn tell(group: Vec<Waiting>, answers: Vec<Answer>) {
    for (one, answer) in group.into_iter().zip(answers) {
        // Who does not wait any more does not hear it.
        let _ = one.told.send(answer);
    }
}

/// Why a transaction was dropped.
enum Failed {
    /// By one of its writes.
    One { at: usize, error: CatalogError },
    /// By the look at what is held, perhaps of one of them.
    Look(CatalogError),
    /// By none of them.
    All(CatalogError),
}

impl From<CatalogError> for Failed {
    fn from(error: CatalogError) -> Self {
        Self::All(error)
    }
}

/// Makes those writes whose records no other node writes just now, and returns what each is answered; nothing: it
/// waits on.
async fn commit<D: Driver>(
    catalog: &SqlCatalog<D>,
    group: &[Waiting],
    patience: Duration,
) -> Result<Vec<Option<Answer>>, Failed> {
    let mut write = catalog.write().await?;
    // All locks before the first read, then the rows of objects in their order, and the lock of the feed last: nobody
    // waits in a circle.
    let locators: Vec<Locator> = group.iter().map(|one| one.write.locator()).collect();
    let locks: Vec<Alone<'_>> = locators.iter().map(|locator| Alone::Record(&locator.0)).collect();
    let mut is_ours = write.alone_if_free(&locks).await?;
    if let ([first, ..], false) = (&locks[..], is_ours.contains(&true)) {
        if !write.alone_within(*first, patience).await? {
            return Ok(group.iter().map(|_| None).collect());
        }
        is_ours[0] = true;
    }
    let (held, now) = look::held(&mut write, &locators).await.map_err(Failed::Look)?;
    let (mut answers, mut news, mut dead) = (Vec::with_capacity(group.len()), Vec::new(), BTreeMap::new());
    for (at, one) in group.iter().enumerate() {
        if !is_ours[at] {
            answers.push(None);
            continue;
        }
        let found = (held.get(&locators[at]), now);
        let done = match &*one.write {
            Write::Record(record) => records::file(&mut write, found, record, None).await,
            Write::Lease(lease, envelope) => records::renew(&mut write, found, lease, envelope).await,
        };
        answers.push(Some(match done {
            Ok(None) => Ok(Applied::Unchanged),
            Ok(Some(Written { change, died })) => {
                news.push(change);
                dead.extend(died.into_iter().map(|object| (object, at)));
                Ok(Applied::Stored)
            }
            // Both come of the first look, before anything is written.
            Err(error @ (CatalogError::Refused(_) | CatalogError::Damaged { .. })) => Err(error),
            Err(error) => return Err(Failed::One { at, error }),
        }));
    }
    for (object, at) in dead {
        records::bury(&mut write, &object, signed(now)).await.map_err(|error| Failed::One { at, error })?;
    }
    if !news.is_empty() {
        feed::tell_all(&mut write, &news).await?;
        write.commit().await?;
    }
    Ok(answers)
}

#[cfg(test)]
mod contention;

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use futures::{FutureExt, future::join_all};
    use testing::{Sample, postgres::Server};

    use super::*;
    use crate::catalog::{PostgresCatalog, PostgresUrl, Refused, SqliteCatalog};

    const KEPT: u32 = 5;

    async fn open(dir: &Path) -> SqliteCatalog {
        SqliteCatalog::open(&dir.join("catalog.db"), KEPT).await.unwrap()
    }

    pub(super) fn record(sample: &Sample, version: u64) -> Record {
        sample.record(&sample.lease(version), &"o1".parse().unwrap())
    }

    fn waiting<D: Driver>(catalog: &SqlCatalog<D>) -> usize {
        catalog.group.waiting.lock().unwrap().len()
    }

    /// Waits until so many writes wait.
    pub(super) async fn until_wait<D: Driver>(catalog: &SqlCatalog<D>, count: usize) {
        let all = async {
            while waiting(catalog) != count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout_at(Instant::now() + Duration::from_secs(10), all).await.unwrap();
    }

    /// Counts the transactions in the log of a catalog: the last page of each says how long the file is after it
    /// (<https://www.sqlite.org/fileformat2.html#the_write_ahead_log>).
    fn transactions(dir: &Path) -> usize {
        let log = fs::read(dir.join("catalog.db-wal")).unwrap();
        let page = u32::from_be_bytes(log[8..12].try_into().unwrap()) as usize;
        log[32..].chunks_exact(24 + page).filter(|frame| frame[4..8] != [0; 4]).count()
    }

    #[tokio::test]
    async fn what_waits_together_shares_a_transaction_and_what_is_refused_is_refused_alone() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = open(dir.path()).await;
        let samples: Vec<Sample> = (1..=8).map(|seed| Sample::new(seed, 40_000)).collect();
        records::put(&catalog, &record(&samples[0], 2)).await.unwrap();
        let before = transactions(dir.path());
        let turn = catalog.group.turn.lock().await;
        // An older one, new ones, one of them twice, and a lease of what is not filed.
        let mut filed: Vec<Record> = samples[..7].iter().map(|sample| record(sample, 1)).collect();
        filed.push(filed[6].clone());
        let lease = samples[7].lease(1);
        let envelope = samples[7].sign(&lease);
        let puts = join_all(filed.iter().map(|record| records::put(&catalog, record)));
        let calls = async { tokio::join!(puts, records::put_lease(&catalog, &lease, &envelope)) };
        let (done, ()) = tokio::join!(calls, async {
            until_wait(&catalog, 9).await;
            drop(turn);
        });
        let (puts, lease) = done;
        assert!(matches!(lease, Err(CatalogError::Refused(Refused::NoRecord))));
        assert!(matches!(puts[0], Err(CatalogError::Refused(Refused::Older { held: 2, asked: 1 }))));
        let applied: Vec<Applied> = puts.into_iter().skip(1).map(Result::unwrap).collect();
        let count = |what| applied.iter().filter(|applied| **applied == what).count();
        assert_eq!((count(Applied::Stored), count(Applied::Unchanged)), (6, 1));
        assert_eq!(transactions(dir.path()) - before, 1);
        // One for each, and the oldest beyond what is kept are gone.
        let page = feed::page(&catalog, 2, 9).await.unwrap();
        let told: Vec<u64> = page.changes.iter().map(|change| change.sequence).collect();
        assert_eq!((told, page.reset), (vec![3, 4, 5, 6, 7], false));
        assert!(feed::page(&catalog, 1, 9).await.unwrap().reset);
    }

    #[tokio::test]
    async fn a_write_that_fails_fails_alone() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = open(dir.path()).await;
        let samples: Vec<Sample> = (1..=3).map(|seed| Sample::new(seed, 40_000)).collect();
        let trigger: &'static str = format!(
            "CREATE TRIGGER broken BEFORE INSERT ON records WHEN NEW.locator = x'{}'
             BEGIN SELECT RAISE(ABORT, 'a broken page'); END",
            samples[1].sealed.locator
        )
        .leak();
        catalog.writer().await.unwrap().run(trigger, &[]).await.unwrap();
        let turn = catalog.group.turn.lock().await;
        let filed: Vec<Record> = samples.iter().map(|sample| record(sample, 1)).collect();
        let puts = join_all(filed.iter().map(|record| records::put(&catalog, record)));
        let (puts, ()) = tokio::join!(puts, async {
            until_wait(&catalog, 3).await;
            drop(turn);
        });
        let stored = puts.iter().map(|put| matches!(put, Ok(Applied::Stored))).collect::<Vec<_>>();
        assert_eq!(stored, [true, false, true], "{puts:?}");
        assert!(matches!(puts[1], Err(CatalogError::Unavailable(Error::Database(_)))));
        for (record, stored) in filed.iter().zip(stored) {
            assert_eq!(records::read(&catalog, &record.locator()).await.unwrap().is_some(), stored);
        }
    }

    #[tokio::test]
    async fn a_row_that_cannot_be_read_fails_its_own_write_alone() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = open(dir.path()).await;
        let samples: Vec<Sample> = (1..=3).map(|seed| Sample::new(seed, 40_000)).collect();
        records::put(&catalog, &record(&samples[1], 1)).await.unwrap();
        for spoil in ["PRAGMA ignore_check_constraints = ON", "UPDATE records SET filed_at = -1"] {
            catalog.writer().await.unwrap().run(spoil, &[]).await.unwrap();
        }
        let turn = catalog.group.turn.lock().await;
        let filed = [0, 1, 2].map(|at| record(&samples[at], 2));
        let puts = join_all(filed.iter().map(|record| records::put(&catalog, record)));
        let free = async {
            until_wait(&catalog, 3).await;
            drop(turn);
        };
        let (puts, ()) = tokio::join!(puts, free);
        assert!(matches!(puts[1], Err(CatalogError::Damaged { table: "records" })), "{puts:?}");
        assert!([0, 2].iter().all(|at| matches!(puts[*at], Ok(Applied::Stored))), "{puts:?}");
    }

    #[tokio::test]
    async fn who_leaves_takes_its_own_write_along_and_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let (catalog, other) = (open(dir.path()).await, open(dir.path()).await);
        let [one, two, three] = [1, 2, 3].map(|seed| record(&Sample::new(seed, 40_000), 1));
        let writes = |record: &Record| Write::Record(Box::new(record.clone()));
        let busy = other.write().await.unwrap();
        // The first leads, with the second in its group, and the third comes after that.
        let turn = catalog.group.turn.lock().await;
        let mut leader = Box::pin(write(&catalog, writes(&one)));
        let mut follower = Box::pin(write(&catalog, writes(&two)));
        assert!((&mut leader).now_or_never().is_none() && (&mut follower).now_or_never().is_none());
        drop(turn);
        let soon = Instant::now() + Duration::from_millis(50);
        assert!(timeout_at(soon, &mut leader).await.is_err());
        assert_eq!(waiting(&catalog), 0);
        let mut leaver = Box::pin(write(&catalog, writes(&three)));
        assert!((&mut leaver).now_or_never().is_none());
        drop((leader, leaver));
        let (stored, ()) = tokio::join!(follower, async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(busy);
        });
        assert_eq!(stored.unwrap(), Applied::Stored);
        let is_filed = async |record: &Record| records::read(&catalog, &record.locator()).await.unwrap().is_some();
        assert!(!is_filed(&one).await && is_filed(&two).await && !is_filed(&three).await);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_record_that_another_node_writes_keeps_nobody_elses_waiting() {
        let url: PostgresUrl = Server::shared().database().parse().unwrap();
        let [catalog, other] = [PostgresCatalog::connect(&url, 9).await, PostgresCatalog::connect(&url, 9).await];
        let (catalog, other) = (catalog.unwrap(), other.unwrap());
        let filed = [1, 2, 3].map(|seed| record(&Sample::new(seed, 9), 1));
        let mut busy = other.write().await.unwrap();
        busy.alone(Alone::Record(&filed[1].locator().0)).await.unwrap();
        let turn = catalog.group.turn.lock().await;
        let [one, two, three] = filed.each_ref().map(|record| records::put(&catalog, record));
        let mut two = Box::pin(two);
        let others = async { tokio::join!(one, three) };
        let (done, ()) = tokio::join!(
            async {
                tokio::select! {
                    done = others => done,
                    two = &mut two => panic!("it is locked: {two:?}"),
                }
            },
            async {
                until_wait(&catalog, 3).await;
                drop(turn);
            }
        );
        assert_eq!((done.0.unwrap(), done.1.unwrap()), (Applied::Stored, Applied::Stored));
        // Nor what comes while it waits.
        let later = record(&Sample::new(4, 9), 1);
        tokio::select! {
            stored = records::put(&catalog, &later) => assert_eq!(stored.unwrap(), Applied::Stored),
            two = &mut two => panic!("it is locked: {two:?}"),
        }
        drop(busy);
        assert_eq!(two.await.unwrap(), Applied::Stored);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_group_is_one_statement_for_each_write_and_six_for_all() {
        let server = Server::shared();
        let database = server.new_database();
        let url: PostgresUrl = server.url(&database).parse().unwrap();
        let told = format!("ALTER DATABASE {database} SET log_statement = 'all'");
        PostgresCatalog::connect(&url, 9).await.unwrap().writer().await.unwrap().run(told.leak(), &[]).await.unwrap();
        let catalog = PostgresCatalog::connect(&url, 9).await.unwrap();
        // A connection that is new asks first whether it may.
        let is_asked =
            |line: &str| ["pg_try_advisory_lock_shared", "pg_tables", "FROM moves"].iter().any(|it| line.contains(it));
        let is_counted = |line: &&str| line.contains(" execute ") && !is_asked(line);
        let executed = || server.log().lines().filter(is_counted).count();
        let filed: Vec<Record> = (0..8).map(|seed| record(&Sample::new(seed, 9), 1)).collect();
        let turn = catalog.group.turn.lock().await;
        let (before, puts) = (executed(), join_all(filed.iter().map(|record| records::put(&catalog, record))));
        let (puts, ()) = tokio::join!(puts, async {
            until_wait(&catalog, 8).await;
            drop(turn);
        });
        assert!(puts.iter().all(|put| matches!(put, Ok(Applied::Stored))), "{puts:?}");
        // What is known, the locks, what is held, the lock of the feed, the changes, the oldest of these.
        assert_eq!(executed() - before, 8 + 6);
        let page = feed::page(&catalog, 0, 9).await.unwrap();
        assert!(page.changes.iter().map(|change| change.sequence).eq(1..=8));
        // Of what is known there is one look.
        let before = executed();
        assert_eq!(records::put(&catalog, &filed[0]).await.unwrap(), Applied::Unchanged);
        assert_eq!(executed() - before, 1);
    }
}
