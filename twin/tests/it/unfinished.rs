//! Uploads that are broken off go on, and send nothing twice.

use std::{
    collections::{BTreeSet, HashMap},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use async_trait::async_trait;
use client::TransportError;
use format::{Capability, NodeName, OwnerSecret, Profile, Retention};
use testing::{Call, Intercept, Intercepted, noise, until};
use tokio::sync::Notify;
use twin::{
    Changes, Entry, Index, LeaseChangeError, Position, PutError, PutOptions, Resumption, State, Stored, Tenure,
    Unfinished, UnfinishedError,
};

use crate::small_cluster::{ORIGINS, SmallCluster, name, options, quiet, read_all};

/// Counts the cells that are sent, and stops all at one of them.
#[derive(Default)]
pub(crate) struct Stopping {
    sent: AtomicUsize,
    pub(crate) stop_at: AtomicUsize,
    pub(crate) stopped: Notify,
}

#[async_trait]
impl Intercept for Stopping {
    type Pass = ();

    async fn before(&self, _: &NodeName, call: Call) -> Result<(), TransportError> {
        if call != Call::Append {
            return Ok(());
        }
        let stop_at = self.stop_at.load(Relaxed);
        // At once, so that of several at the same time none goes beyond it.
        if self.sent.fetch_update(Relaxed, Relaxed, |sent| (sent < stop_at).then_some(sent + 1)).is_err() {
            self.stopped.notify_one();
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

pub(crate) struct World {
    pub(crate) cluster: SmallCluster,
    pub(crate) stopping: Arc<Intercepted<Stopping>>,
}

impl World {
    pub(crate) fn start() -> Self {
        let mut stopping = None;
        let cluster = SmallCluster::over(|inner| {
            let it = Arc::new(Intercepted::over(inner, Stopping::default()));
            stopping = Some(it.clone());
            it
        });
        Self { cluster, stopping: stopping.unwrap() }
    }

    pub(crate) fn sent(&self) -> usize {
        self.stopping.intercept().sent.load(Relaxed)
    }

    /// Stores until so many cells were sent in all, and breaks off there.
    async fn break_off(&self, path: &Path, sent: usize) {
        self.stopping.intercept().stop_at.store(sent, Relaxed);
        let (twin, path) = (self.cluster.twin(1), path.to_owned());
        let task = tokio::spawn(async move { twin.put(&path, &options(), &quiet()).await });
        // The first notice may be one of the time before.
        while self.sent() < sent {
            self.stopping.intercept().stopped.notified().await;
        }
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        // A process that is killed lets go of its journal at once; here its threads still end.
        until("the end of the upload", || async { self.unfinished().await.len() == 1 }).await;
    }

    /// Does so with a folder of five small files, which are stored, and a large one.
    pub(crate) async fn break_off_folder(&self, large: &[u8], options: PutOptions) -> PathBuf {
        (0..SMALL).for_each(|number| drop(self.cluster.file(&format!("site/{number}"), &noise(100 + number))));
        let folder = self.cluster.file("site/z/large", large).parent().unwrap().parent().unwrap().to_owned();
        self.stopping.intercept().stop_at.store(CELLS / 2, Relaxed);
        let (twin, path) = (self.cluster.twin(1), folder.clone());
        let task = tokio::spawn(async move { twin.put(&path, &options, &quiet()).await });
        self.stopping.intercept().stopped.notified().await;
        until("the small files", || async {
            let listed = self.cluster.twin(1).list().await;
            listed.values().filter(|entry| entry.state == State::Stored).count() == SMALL
        })
        .await;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        until("the end of the upload", || async { self.unfinished().await.len() == 1 }).await;
        folder
    }

    pub(crate) async fn store(&self, path: &Path, resumption: Resumption) -> Result<Stored, PutError> {
        self.stopping.intercept().stop_at.store(usize::MAX, Relaxed);
        self.cluster.twin(1).put(path, &PutOptions { resumption, ..options() }, &quiet()).await
    }

    pub(crate) async fn unfinished(&self) -> Vec<Unfinished> {
        self.cluster.twin(1).resumable().await.unwrap()
    }

    /// Returns the path of the only journal.
    fn journal(&self) -> PathBuf {
        let folder = self.cluster.folder.path().join("owner-1/unfinished");
        std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path()
    }

    async fn assert_stored(&self, stored: &Stored, bytes: &[u8]) {
        let found = self.cluster.network.find(&stored.entry.capability, &[]).await.unwrap();
        assert!(read_all(&self.cluster.network, &found).await.unwrap() == bytes);
        assert_eq!(stored.receipt.durable, 6);
    }
}

/// 24 stripes of 4+2.
pub(crate) const BYTES: usize = 24 << 20;
pub(crate) const CELLS: usize = 24 * 6;
pub(crate) const SMALL: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_broken_off_five_times_is_sent_once() {
    let world = World::start();
    let bytes = noise(BYTES);
    let path = world.cluster.file("noise.bin", &bytes);
    for time in 1..=5 {
        world.break_off(&path, time * CELLS / 6).await;
    }
    let found = &world.unfinished().await[0];
    assert_eq!(found.path, Some(std::fs::canonicalize(&path).unwrap()));
    assert_eq!((found.files_stored, found.sessions), (0, 6));
    let stored = world.store(&path, Resumption::Only).await.unwrap();
    assert_eq!(world.sent(), CELLS, "no cell is sent twice");
    world.assert_stored(&stored, &bytes).await;
    assert_eq!(world.unfinished().await, []);
    let listed = world.cluster.twin(1).list().await;
    assert!(listed.len() == 1 && listed.values().all(|entry| entry.state == State::Stored), "{listed:?}");
    let again = world.store(&path, Resumption::Only).await.unwrap_err();
    assert!(matches!(again, PutError::Unfinished(UnfinishedError::Absent { .. })), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_command_again_goes_on_and_other_options_do_not() {
    let world = World::start();
    let bytes = noise(BYTES);
    let path = world.cluster.file("noise.bin", &bytes);
    world.break_off(&path, CELLS / 2).await;
    world.stopping.intercept().stop_at.store(usize::MAX, Relaxed);
    let other = PutOptions { name: Some("other".into()), resumption: Resumption::Only, ..options() };
    let refused = world.cluster.twin(1).put(&path, &other, &quiet()).await.unwrap_err();
    assert!(matches!(refused, PutError::Unfinished(UnfinishedError::Options { .. })), "{refused}");
    let stored = world.store(&path, Resumption::Auto).await.unwrap();
    assert_eq!(world.sent(), CELLS);
    world.assert_stored(&stored, &bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changed_is_told_and_never_sealed_under_the_old_key() {
    let world = World::start();
    let path = world.cluster.file("noise.bin", &noise(BYTES));
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    let set = |bytes: &[u8], modified| {
        std::fs::write(&path, bytes).unwrap();
        std::fs::File::options().append(true).open(&path).unwrap().set_modified(modified).unwrap();
    };
    world.break_off(&path, CELLS / 2).await;
    let mut changed = noise(BYTES);
    changed[3 << 20] ^= 1;

    // Its length and its time are what they were, and the system knows that something changed.
    set(&changed, modified);
    let refused = world.store(&path, Resumption::Only).await.unwrap_err();
    assert!(matches!(refused, PutError::Unfinished(UnfinishedError::Changed { .. })), "{refused}");
    let stored = world.store(&path, Resumption::Auto).await.unwrap();
    assert_eq!(world.sent(), CELLS / 2 + CELLS, "all of it, under a new key");
    world.assert_stored(&stored, &changed).await;
    assert_eq!(world.unfinished().await, []);
}

/// The disk of the owner's machine is set back to an earlier state, and nodes have more than its journal knows.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_journal_is_behind_its_nodes_is_begun_anew_under_another_key() {
    let world = World::start();
    let bytes = noise(BYTES);
    let path = world.cluster.file("noise.bin", &bytes);
    world.break_off(&path, CELLS / 6).await;
    let journal = world.journal();
    let before = std::fs::read(&journal).unwrap();
    world.break_off(&path, CELLS / 6 * 5).await;
    std::fs::write(&journal, before).unwrap();
    let refused = world.store(&path, Resumption::Only).await.unwrap_err();
    assert!(matches!(refused, PutError::Unfinished(UnfinishedError::Behind { .. })), "{refused}");
    let stored = world.store(&path, Resumption::Auto).await.unwrap();
    assert_eq!(world.sent(), CELLS / 6 * 5 + CELLS, "all of it, under a new key");
    world.assert_stored(&stored, &bytes).await;
    assert_eq!(world.unfinished().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_look_at_uploads_keep_neither_each_other_nor_a_put_out() {
    let world = World::start();
    let bytes = noise(BYTES);
    let path = world.cluster.file("noise.bin", &bytes);
    world.break_off(&path, CELLS / 2).await;
    let twins: Vec<_> = (0..8).map(|_| world.cluster.twin(1)).collect();
    let looks = twins.iter().map(|twin| async {
        for _ in 0..50 {
            assert_eq!(twin.resumable().await.unwrap().len(), 1);
        }
    });
    futures::future::join_all(looks).await;
    let looking: Vec<_> = twins
        .into_iter()
        .map(|twin| tokio::spawn(async move { while !twin.resumable().await.unwrap().is_empty() {} }))
        .collect();
    let stored = world.store(&path, Resumption::Only).await.unwrap();
    assert_eq!(world.sent(), CELLS);
    world.assert_stored(&stored, &bytes).await;
    for looking in looking {
        looking.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_goes_on_has_the_times_that_are_asked_for_now() {
    let world = World::start();
    let until = |expires| {
        let retention = Retention { keep_until: 0, expires };
        PutOptions { tenure: Tenure { retention, ..options().tenure }, ..options() }
    };
    let folder = world.break_off_folder(&noise(BYTES), until(u64::MAX - 2)).await;
    world.stopping.intercept().stop_at.store(usize::MAX, Relaxed);
    world.cluster.twin(1).put(&folder, &until(u64::MAX - 1), &quiet()).await.unwrap();
    assert_eq!(world.sent(), CELLS, "what was stored stays");
    let listed = world.cluster.twin(1).list().await;
    assert!(listed.values().all(|entry| entry.tenure.retention.expires == u64::MAX - 1), "{listed:?}");
}

/// `+30d`, given again a day later, is another second, and means the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_goes_on_keeps_an_end_that_was_written_the_same_way() {
    let world = World::start();
    let until = |asked: &str, expires| {
        let retention = Retention { keep_until: 0, expires };
        PutOptions { tenure: Tenure { retention, ..options().tenure }, asked_times: asked.into(), ..options() }
    };
    let first = u64::MAX - 9;
    let folder = world.break_off_folder(&noise(BYTES), until("+30d", first)).await;
    world.stopping.intercept().stop_at.store(usize::MAX, Relaxed);
    world.cluster.twin(1).put(&folder, &until("+30d", first + 5), &quiet()).await.unwrap();
    assert_eq!(world.sent(), CELLS, "what was stored stays");
    let listed = world.cluster.twin(1).list().await;
    assert!(listed.values().all(|entry| entry.tenure.retention.expires == first), "{listed:?}");
    assert!(listed.values().all(|entry| entry.tenure.version == 1), "nothing was renewed");
}

/// A file of the folder, or the folder itself, came to its commit, and no node has its record.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_record_keeps_no_folder_from_getting_other_times() {
    for position in [Position::Inner, Position::Top] {
        other_times_beside(position).await;
    }
}

async fn other_times_beside(position: Position) {
    let world = World::start();
    let folder = world.break_off_folder(&noise(BYTES), options()).await;
    let stored = world.cluster.twin(1).list().await.into_values().next().unwrap();
    let open = Entry {
        capability: Capability::from_bytes([7; 32]),
        state: State::Committing,
        path: "site/left over".into(),
        position,
        ..stored
    };
    let path = world.cluster.folder.path().join("owner-1/index");
    Index::open(path, &OwnerSecret::from_bytes([1; 32])).unwrap().record(open).unwrap();
    world.stopping.intercept().stop_at.store(usize::MAX, Relaxed);
    let retention = Retention { keep_until: 0, expires: u64::MAX - 1 };
    let other = PutOptions { tenure: Tenure { retention, ..options().tenure }, ..options() };
    world.cluster.twin(1).put(&folder, &other, &quiet()).await.unwrap();
    assert_eq!(world.sent(), CELLS, "what was stored stays");
    let listed = world.cluster.twin(1).list().await;
    let stored: Vec<_> = listed.values().filter(|entry| entry.state == State::Stored).collect();
    assert!(stored.len() == SMALL + 3 && stored.iter().all(|it| it.tenure.retention == retention), "{listed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_put_works_on_is_not_removed() {
    let world = World::start();
    world.stopping.intercept().stop_at.store(CELLS / 2, Relaxed);
    (0..SMALL).for_each(|number| drop(world.cluster.file(&format!("site/{number}"), &noise(100 + number))));
    let bytes = noise(BYTES);
    let folder = world.cluster.file("site/z/large", &bytes).parent().unwrap().parent().unwrap().to_owned();
    let twin = world.cluster.twin(1);
    let putting = tokio::spawn(async move { twin.put(&folder, &options(), &quiet()).await });
    world.stopping.intercept().stopped.notified().await;
    let listed = async || world.cluster.twin(1).list().await;
    let is_stored = |entry: &Entry| entry.state == State::Stored;
    until("the small files", || async { listed().await.into_values().filter(is_stored).count() == SMALL }).await;
    let twin = world.cluster.twin(1);
    let under = twin.under("site").await;
    let (removed, failed) = twin.remove_all(&under, &quiet()).await.unwrap();
    assert!(removed.ended.is_empty() && removed.unknown.is_empty(), "{removed:?}");
    assert!(failed.len() == 1 && failed.values().all(|it| matches!(it, LeaseChangeError::Busy)), "{failed:?}");
    let one = *under.first().unwrap();
    assert!(matches!(twin.remove(&one).await, Err(LeaseChangeError::Busy)));
    assert_eq!(listed().await.len(), SMALL);
    putting.abort();
    assert!(putting.await.unwrap_err().is_cancelled());
    until("the end of the upload", || async { world.unfinished().await.len() == 1 }).await;
    let (removed, failed) = twin.remove_all(&under, &quiet()).await.unwrap();
    assert_eq!((removed.ended.len(), failed.len(), listed().await.len()), (SMALL, 0, 0));
    assert_eq!(world.unfinished().await, [], "no key stays in the journal");
}

/// The index cannot be written when all is sent, and can later.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_entry_was_not_written_is_not_sent_again() {
    let world = World::start();
    let bytes = noise(BYTES);
    let path = world.cluster.file("noise.bin", &bytes);
    world.stopping.intercept().stop_at.store(usize::MAX, Relaxed);
    let (twin, index) = (world.cluster.twin(1), world.cluster.folder.path().join("owner-1/index"));
    let good = std::fs::read(&index).unwrap();
    std::fs::write(&index, vec![1; good.len() + 1]).unwrap();
    let failed = twin.put(&path, &options(), &quiet()).await.unwrap_err();
    assert!(matches!(failed, PutError::Index(_)), "{failed}");
    drop(twin);
    std::fs::write(&index, good).unwrap();
    until("the end of the upload", || async { world.unfinished().await.len() == 1 }).await;
    let stored = world.store(&path, Resumption::Only).await.unwrap();
    assert_eq!(world.sent(), CELLS, "no cell is sent twice");
    world.assert_stored(&stored, &bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_removed_of_a_folder_that_did_not_end_is_stored_anew_and_its_journal_is_gone() {
    let world = World::start();
    let folder = world.break_off_folder(&noise(BYTES), options()).await;
    let twin = world.cluster.twin(1);
    let gone = twin.unfinished().await.unwrap().locators;
    twin.remove_all(&gone, &quiet()).await.unwrap();
    assert_eq!((twin.list().await.len(), world.unfinished().await), (0, vec![]));
    let absent = world.store(&folder, Resumption::Only).await.unwrap_err();
    assert!(matches!(absent, PutError::Unfinished(UnfinishedError::Absent { .. })), "{absent}");
    world.store(&folder, Resumption::Auto).await.unwrap();
    assert_eq!(world.cluster.twin(1).list().await.len(), SMALL + 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_goes_on_with_the_files_that_are_not_stored_yet() {
    let world = World::start();
    let bytes = noise(BYTES);
    let folder = world.break_off_folder(&bytes, options()).await;
    let listed = async || world.cluster.twin(1).list().await;
    let before = listed().await;

    let stored = world.store(&folder, Resumption::Only).await.unwrap();
    assert_eq!((world.sent(), stored.objects, stored.bytes), (CELLS, 8, (BYTES + 510) as u64));
    let after = listed().await;
    assert_eq!(after.len(), before.len() + 3, "the large file and two folders");
    assert!(before.keys().all(|locator| after.contains_key(locator)), "what was stored keeps its name");
    let inside = ["z".to_owned(), "large".to_owned()];
    let found = world.cluster.network.find(&stored.entry.capability, &inside).await.unwrap();
    assert!(read_all(&world.cluster.network, &found).await.unwrap() == bytes);
    assert_eq!(world.unfinished().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_sent_nothing_leaves_nothing_to_resume() {
    let world = World::start();
    let path = world.cluster.file("site/noise.bin", &noise(BYTES));
    let tenure = Tenure { profile: Profile::Standard, ..Tenure::default() };
    let too_large = PutOptions { tenure, ..options() };
    for path in [&*path, path.parent().unwrap()] {
        let refused = world.cluster.twin(1).put(path, &too_large, &quiet()).await.unwrap_err();
        assert!(matches!(refused, PutError::Upload { .. }), "{refused}");
        assert_eq!(world.unfinished().await, []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_upload_is_ended_at_its_nodes() {
    let world = World::start();
    let path = world.cluster.file("noise.bin", &noise(BYTES));
    world.break_off(&path, CELLS / 2).await;
    let open = || (0..ORIGINS).map(|origin| world.cluster.memory.uploads(&name(origin))).sum::<usize>();
    assert_eq!(open(), 6);
    let twin = world.cluster.twin(1);
    let batch = world.unfinished().await[0].batch;
    let ended = twin.end_resumable(batch).await.unwrap();
    assert_eq!((ended.sessions, ended.objects.len(), open()), (6, 0, 0));
    assert_eq!(world.unfinished().await, []);
    assert!(twin.end_resumable(batch).await.is_err());
}

/// A journal of which a crash left only a part goes on from there; one of another owner is none.
#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_was_cut_short_goes_on_and_a_damaged_one_can_be_ended() {
    let world = World::start();
    let bytes = noise(BYTES);
    let path = world.cluster.file("noise.bin", &bytes);
    world.break_off(&path, CELLS / 2).await;
    let journal = world.journal();
    let whole = std::fs::read(&journal).unwrap();
    assert!(whole.windows(9).all(|part| part != b"noise.bin"), "it is sealed");
    std::fs::write(&journal, &whole[..whole.len() - 7]).unwrap();
    let stored = world.store(&path, Resumption::Only).await.unwrap();
    assert_eq!(world.sent(), CELLS);
    world.assert_stored(&stored, &bytes).await;

    let mut damaged = whole.clone();
    damaged[100] ^= 1;
    std::fs::write(&journal, &damaged).unwrap();
    let found = world.unfinished().await;
    assert_eq!((found.len(), &found[0].path), (1, &None));
    world.cluster.twin(1).end_resumable(found[0].batch).await.unwrap();
    assert_eq!(world.unfinished().await, []);
}

/// Two origins that forget their uploads in the middle, as after the loss of a disk.
#[derive(Default)]
struct Forgetting {
    appends: Mutex<HashMap<NodeName, usize>>,
    forgot: Mutex<Vec<NodeName>>,
    /// What happens when the second one does.
    then: Then,
}

type Then = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

#[async_trait]
impl Intercept for Forgetting {
    type Pass = ();

    async fn before(&self, node: &NodeName, call: Call) -> Result<(), TransportError> {
        let (mut appends, mut forgot) = (self.appends.lock().unwrap(), self.forgot.lock().unwrap());
        let count = appends.entry(node.clone()).or_default();
        match call {
            Call::CreateUpload => *count = 0,
            Call::Append => *count += 1,
            _ => {}
        }
        let has_forgotten = *count > 8 && forgot.contains(node);
        if *count == 8 && forgot.len() < 2 && !forgot.contains(node) {
            forgot.push(node.clone());
            let then = self.then.lock().unwrap().take_if(|_| forgot.len() == 2);
            then.into_iter().for_each(|then| then());
        }
        if has_forgotten && matches!(call, Call::Append | Call::UploadCells) {
            let reason = "there is no such upload".to_owned();
            return Err(TransportError::Refused { node: node.clone(), status: 404, reason });
        }
        if *count == 0 {
            forgot.iter_mut().filter(|forgot| *forgot == node).for_each(|forgot| *forgot = "again".parse().unwrap());
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_nodes_lose_more_than_it_bears_is_tried_again() {
    let cluster = SmallCluster::over(|inner| Arc::new(Intercepted::over(inner, Forgetting::default())));
    let bytes = noise(BYTES);
    let path = cluster.file("noise.bin", &bytes);
    let stored = cluster.twin(1).put(&path, &options(), &quiet()).await.unwrap();
    let found = cluster.network.find(&stored.entry.capability, &[]).await.unwrap();
    assert!(read_all(&cluster.network, &found).await.unwrap() == bytes);
    assert_eq!(stored.receipt.durable, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_between_two_attempts_is_never_sealed_under_the_key_of_the_first() {
    let then = Then::default();
    let forgetting = Forgetting { then: then.clone(), ..Forgetting::default() };
    let cluster = SmallCluster::over(|inner| Arc::new(Intercepted::over(inner, forgetting)));
    let mut bytes = noise(BYTES);
    let path = cluster.file("noise.bin", &bytes);
    bytes[3 << 20] ^= 1;
    let (file, changed) = (std::fs::File::options().write(true).open(&path).unwrap(), bytes[3 << 20]);
    *then.lock().unwrap() = Some(Box::new(move || file.write_all_at(&[changed], 3 << 20).unwrap()));
    let allowed = PutOptions { changes: Changes::Allowed, ..options() };
    let stored = cluster.twin(1).put(&path, &allowed, &quiet()).await.unwrap();
    assert!(then.lock().unwrap().is_none(), "it did not change");
    let found = cluster.network.find(&stored.entry.capability, &[]).await.unwrap();
    assert!(read_all(&cluster.network, &found).await.unwrap() == bytes);
}

/// Two origins that are full, or drained, in the middle.
#[derive(Default)]
struct Full {
    appends: Mutex<HashMap<NodeName, usize>>,
    full: Mutex<BTreeSet<NodeName>>,
}

#[async_trait]
impl Intercept for Full {
    type Pass = ();

    async fn before(&self, node: &NodeName, call: Call) -> Result<(), TransportError> {
        let (mut appends, mut full) = (self.appends.lock().unwrap(), self.full.lock().unwrap());
        let count = appends.entry(node.clone()).or_default();
        *count += usize::from(call == Call::Append);
        if *count > 8 && full.len() < 2 {
            full.insert(node.clone());
        }
        match full.contains(node) && matches!(call, Call::Append | Call::CreateUpload) {
            true => Err(TransportError::Failed { node: node.clone(), status: 507, reason: "it is full".to_owned() }),
            false => Ok(()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_at_other_nodes_where_its_own_are_full() {
    let mut full = None;
    let cluster = SmallCluster::over(|inner| {
        let it = Arc::new(Intercepted::over(inner, Full::default()));
        full = Some(it.clone());
        it
    });
    let path = cluster.file("noise.bin", &noise(BYTES));
    let stored = cluster.twin(1).put(&path, &options(), &quiet()).await.unwrap();
    let full = full.unwrap().intercept().full.lock().unwrap().clone();
    let nodes: BTreeSet<_> = stored.receipt.placement.into_iter().flatten().collect();
    assert_eq!((full.len(), nodes.len(), nodes.is_disjoint(&full)), (2, 6, true), "{nodes:?}");
}
