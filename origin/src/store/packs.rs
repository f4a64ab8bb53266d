//! The packs: small shards share logs, so that one fsync makes many of them durable and a shard costs no files of its
//! own.
//!
//! Entries are appended to the newest pack under one lock, and are in the index from then on; whoever wants to be told
//! that an entry is durable waits for an fsync that began after it was written, one for all who wait. A pack that is
//! full is made durable, its index written beside it, and the next begun. At boot the indexes are read, and the newest
//! log.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use client::{Bug, planted};

use super::{
    ShardId, Step, Store, StoreError,
    draft::Scrap,
    entry::{Body, Kind, Mark, PACKED_BYTES_MAX},
    failed,
    index::{Index, Place},
    intact, open,
    pack::{self, Contents, PackName},
    read, remove,
};

/// Largest pack, for those who do not choose: what compaction copies and a boot reads at most of one.
pub const PACK_BYTES_MAX: u32 = 1 << 30;
/// How often a shard may be moved while somebody looks for it.
const LOOKS: usize = 8;
/// The newest pack is not rewritten before it has one part in so many of its size: 16 MiB are not worth a new log.
const SPARSE_PART: u64 = 64;
/// Entries of a pack: bounds the memory of the newest one's heads, and of an index that is read.
const PACK_ENTRIES_MAX: usize = 1 << 20;
const INDEX_BYTES_MAX: usize = PACK_ENTRIES_MAX * super::entry::MARK_BYTES + 32;

const _: () = assert!(PACKED_BYTES_MAX + 1024 < PACK_BYTES_MAX as usize);

/// Bytes of a pack that are no entry: a shard, or a removal, was lost there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackDamage {
    /// The log.
    pub path: PathBuf,
    /// Where in it.
    pub bytes: Range<u64>,
    /// The shard, when that can be read: at the torn end of the newest log. Most likely nobody was told that it is
    /// here.
    pub shard: Option<ShardId>,
}

/// The packs of a store.
#[derive(Debug)]
pub(super) struct Packs {
    bytes_max: u64,
    index: Mutex<Index>,
    /// None before the first entry.
    newest: Mutex<Option<Newest>>,
    /// Held by the one who syncs for all who wait.
    syncing: Mutex<()>,
    /// Number and end of what is durable; all packs before that number are.
    durable: AtomicU64,
    pub(super) damage: Vec<PackDamage>,
}

/// The log that is written to.
#[derive(Debug)]
struct Newest {
    name: PackName,
    key: [u8; 32],
    file: Arc<File>,
    end: u64,
    marks: Vec<Mark>,
}

/// What became of a shard that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Killed {
    Absent,
    Kept,
    Removed,
}

impl Packs {
    pub(super) fn new(bytes_max: u32) -> Self {
        Self {
            bytes_max: bytes_max.into(),
            index: Mutex::default(),
            newest: Mutex::new(None),
            syncing: Mutex::new(()),
            durable: AtomicU64::new(0),
            damage: Vec::new(),
        }
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn newest(&self) -> MutexGuard<'_, Option<Newest>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_durable(&self, number: u32, end: u64) -> bool {
        self.durable.load(Ordering::Acquire) >= position(number, end)
    }

    fn set_durable(&self, number: u32, end: u64) {
        self.durable.fetch_max(position(number, end), Ordering::AcqRel);
    }

    /// Returns how much of a pack is durable.
    fn durable_of(&self, number: u32) -> u32 {
        let durable = self.durable.load(Ordering::Acquire);
        if durable >> 32 == u64::from(number) { u32::try_from(durable & u64::from(u32::MAX)).unwrap_or(0) } else { 0 }
    }
}

/// Number and end in one word, so that later ones are larger.
fn position(number: u32, end: u64) -> u64 {
    (u64::from(number) << 32) | end.min(u32::MAX.into())
}

impl Store {
    /// Reads what the packs hold. Cuts the torn end of the newest log off; what else does not verify is told.
    pub(super) fn open_packs(&mut self) -> Result<(), StoreError> {
        let folder = self.packs_folder();
        if !folder.exists() {
            return Ok(());
        }
        let names = self.pack_names(&folder)?;
        let newest = names.last().copied();
        for name in names {
            let path = folder.join(name.log());
            let is_newest = Some(name) == newest;
            let file = File::options().read(true).write(is_newest).open(&path).map_err(failed("open", &path))?;
            let mut contents = self.read_pack(&name, &file, is_newest)?;
            let mut index = self.packs.index();
            index.add(name);
            contents.marks.iter().for_each(|mark| index.apply(name.number, mark));
            drop(index);
            if is_newest {
                self.cut_torn_end(&file, &path, &contents)?;
                self.packs.set_durable(name.number, contents.end);
                let (key, marks) = (name.key(), std::mem::take(&mut contents.marks));
                *self.packs.newest() = Some(Newest { name, key, file: Arc::new(file), end: contents.end, marks });
            }
            for bytes in contents.damage {
                tracing::error!(path = %path.display(), ?bytes, "a pack is damaged, what was there is lost");
                self.packs.damage.push(PackDamage { path: path.clone(), bytes, shard: None });
            }
            for (bytes, shard) in contents.torn {
                self.packs.damage.push(PackDamage { path: path.clone(), bytes, shard: Some(shard) });
            }
        }
        Ok(())
    }

    /// Returns the packs in their order. Removes an index whose log a compaction unlinked before a crash.
    fn pack_names(&self, folder: &Path) -> Result<Vec<PackName>, StoreError> {
        let mut files = HashSet::new();
        for entry in fs::read_dir(folder).map_err(failed("list", folder))? {
            files.extend(entry.map_err(failed("list", folder))?.file_name().into_string());
        }
        let stems = |kind: &'static str| files.iter().filter_map(move |file| file.strip_suffix(kind)?.parse().ok());
        let mut names: Vec<PackName> = stems(".log").collect();
        names.sort_unstable_by_key(|name| name.number);
        for name in stems(".index").filter(|name: &PackName| !files.contains(&name.log())) {
            remove(&folder.join(name.index()))?;
        }
        Ok(names)
    }

    /// Reads a pack's index, or makes it again from the log.
    fn read_pack(&self, name: &PackName, file: &File, is_newest: bool) -> Result<Contents, StoreError> {
        let (key, folder) = (name.key(), self.packs_folder());
        let path = folder.join(name.log());
        if is_newest {
            return pack::read_log(file, &key, false).map_err(failed("read", &path));
        }
        let end = file.metadata().map_err(failed("measure", &path))?.len();
        let held = intact(read(&folder.join(name.index()), INDEX_BYTES_MAX))?;
        if let Some(marks) = held.and_then(|bytes| pack::decode_index(&bytes, &key, end)) {
            return Ok(Contents { marks, end, ..Contents::default() });
        }
        tracing::warn!(path = %path.display(), "the index of a pack is missing or damaged, it is made again from the log");
        let contents = pack::read_log(file, &key, true).map_err(failed("read", &path))?;
        // An index would hide the damage from the next boot. Without one that is only slower, also on a full disk.
        if contents.damage.is_empty()
            && let Err(error) = self.write_index(name, &contents.marks, end)
        {
            tracing::warn!(path = %path.display(), %error, "the index of a pack cannot be written");
        }
        Ok(contents)
    }

    fn cut_torn_end(&self, file: &File, path: &Path, contents: &Contents) -> Result<(), StoreError> {
        let length = file.metadata().map_err(failed("measure", path))?.len();
        if length > contents.end {
            let entries = contents.torn.len();
            tracing::warn!(path = %path.display(), bytes = length - contents.end, entries, "cut off what a crash tore");
            file.set_len(contents.end).map_err(failed("cut", path))?;
        }
        // What was read may have been in memory only.
        self.sync(file, path);
        Ok(())
    }

    /// Appends a shard, durably. The caller has the guard of its object and knows that the parts belong together.
    pub(super) fn pack_shard(&self, shard: &ShardId, written: u64, body: &Body<'_>) -> Result<(), StoreError> {
        let (number, end) = {
            let mut newest = self.packs.newest();
            self.append_entry(&mut newest, Kind::Shard, shard, written, body)?
        };
        self.sync_packs(number, end);
        Ok(())
    }

    /// Removes a shard, durably, if `may` says so of when it was written. The caller has the guard of its object.
    pub(super) fn kill_packed(&self, shard: &ShardId, may: impl FnOnce(&Place) -> bool) -> Result<Killed, StoreError> {
        let (number, end) = {
            let mut newest = self.packs.newest();
            let place = self.packs.index().find(shard);
            let Some((_, place)) = place else { return Ok(Killed::Absent) };
            if !may(&place) {
                return Ok(Killed::Kept);
            }
            self.with_ballast(|| self.append_entry(&mut newest, Kind::Tombstone, shard, place.written, &Body::NONE))?
        };
        self.sync_packs(number, end);
        Ok(Killed::Removed)
    }

    /// Writes an entry and takes it into the index; not durable yet. Both under the lock, so that the index always says
    /// what the log says. Returns where it ends.
    fn append_entry(
        &self,
        newest: &mut Option<Newest>,
        kind: Kind,
        shard: &ShardId,
        written: u64,
        body: &Body<'_>,
    ) -> Result<(u32, u64), StoreError> {
        let fits =
            |log: &Newest| log.end + body.entry_bytes() <= self.packs.bytes_max && log.marks.len() < PACK_ENTRIES_MAX;
        if !newest.as_ref().is_some_and(fits) {
            self.begin_pack(newest)?;
        }
        let log = newest.as_mut().expect("a pack was begun");
        let path = self.packs_folder().join(log.name.log());
        let span = body.span(log.end).ok_or_else(|| StoreError::Damaged { path: path.clone() })?;
        let mark = Mark { kind, shard: *shard, written, durable: self.packs.durable_of(log.name.number), span };
        if let Err(source) = log.file.write_all_at(&body.encode(&mark, &log.key), log.end) {
            // What is left behind the end is overwritten or cut; it never verifies as an entry of what follows.
            let _ = log.file.set_len(log.end);
            return Err(failed("write", &path)(source));
        }
        log.end = span.end();
        log.marks.push(mark);
        self.packs.index().apply(log.name.number, &mark);
        self.disk.reached(Step::EntryWritten);
        Ok((log.name.number, log.end))
    }

    /// Seals the newest pack, if there is one, and begins the next.
    fn begin_pack(&self, newest: &mut Option<Newest>) -> Result<(), StoreError> {
        let folder = self.packs_folder();
        self.make_folder(&folder)?;
        let mut number = 0;
        if let Some(full) = newest.as_ref() {
            let path = folder.join(full.name.log());
            full.file.set_len(full.end).map_err(failed("cut", &path))?;
            self.sync(&full.file, &path);
            self.packs.set_durable(full.name.number, full.end);
            self.disk.reached(Step::PackSynced);
            self.write_index(&full.name, &full.marks, full.end)?;
            self.disk.reached(Step::PackIndexed);
            number = full.name.number.checked_add(1).expect("no disk holds 2^32 packs");
        }
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|error| failed("salt", &folder)(io::Error::other(error.to_string())))?;
        let name = PackName { number, salt };
        let path = folder.join(name.log());
        let file = File::options().create_new(true).read(true).write(true).open(&path);
        let file = Arc::new(file.map_err(failed("create", &path))?);
        self.sync_folder(&folder);
        self.disk.reached(Step::PackNamed);
        self.packs.index().add(name);
        self.packs.set_durable(number, 0);
        *newest = Some(Newest { name, key: name.key(), file, end: 0, marks: Vec::new() });
        Ok(())
    }

    fn write_index(&self, name: &PackName, marks: &[Mark], end: u64) -> Result<(), StoreError> {
        let folder = self.packs_folder();
        let scrap = Scrap::write(self, &name.index(), &pack::encode_index(marks, &name.key(), end))?;
        scrap.rename(&folder.join(name.index()))?;
        self.sync_folder(&folder);
        Ok(())
    }

    /// Waits until a pack is durable up to `end`.
    pub(super) fn sync_packs(&self, number: u32, end: u64) {
        if self.packs.is_durable(number, end) {
            return;
        }
        let _leader = self.packs.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever synced while this one waited may have done it for this one.
        if self.packs.is_durable(number, end) {
            return;
        }
        let log = self.packs.newest().as_ref().map(|log| (log.file.clone(), log.name, log.end));
        let (file, name, end) = log.expect("an entry was written to it");
        self.sync(&file, &self.packs_folder().join(name.log()));
        self.packs.set_durable(name.number, end);
        self.disk.reached(Step::EntrySynced);
    }

    /// Opens the pack that has a shard. Compaction may move it in between, so this looks again when the pack is gone.
    pub(super) fn open_packed(&self, shard: &ShardId) -> Result<Option<(File, PackName, Place)>, StoreError> {
        for _ in 0..LOOKS {
            let Some((name, place)) = self.packs.index().find(shard) else { return Ok(None) };
            if let Some(file) = open(&self.packs_folder().join(name.log()))? {
                return Ok(Some((file, name, place)));
            }
        }
        Ok(None)
    }

    /// Rewrites the first pack of which little is alive: copies what is, makes it durable, and unlinks the pack.
    /// Returns the bytes won back, none when no pack is worth it.
    ///
    /// # Errors
    /// [`StoreError::Io`]; [`StoreError::Damaged`] when the disk cannot read a living entry: it stays until a scrub
    /// settles it. Nothing is lost then.
    pub fn compact(&self) -> Result<Option<u64>, StoreError> {
        self.seal_sparse()?;
        let number = self.packs.newest().as_ref().map_or(0, |log| log.name.number);
        let Some((name, is_oldest)) = self.packs.index().sparse(number) else { return Ok(None) };
        let path = self.packs_folder().join(name.log());
        let file = File::open(&path).map_err(failed("open", &path))?;
        let contents = self.read_pack(&name, &file, false)?;
        let (mut copied, mut last) = (0, None);
        for mark in &contents.marks {
            let bytes = if self.is_needed(&name, mark, is_oldest) {
                let read = pack::read_body(&file, &mark.span).map_err(failed("read", &path))?;
                read.ok_or_else(|| StoreError::Damaged { path: path.clone() })?
            } else {
                continue;
            };
            let body = Body::of(&mark.span, &bytes).ok_or_else(|| StoreError::Damaged { path: path.clone() })?;
            let mut newest = self.packs.newest();
            // Again under the lock: a removal that came in between must not be undone by a copy behind it.
            if self.is_needed(&name, mark, is_oldest) {
                last = Some(self.append_entry(&mut newest, mark.kind, &mark.shard, mark.written, &body)?);
                copied += mark.span.entry_bytes();
            }
        }
        if let Some((number, end)) = last {
            self.sync_packs(number, end);
        }
        self.disk.reached(Step::CopiesSynced);
        self.packs.index().drop_pack(name.number);
        remove(&path)?;
        self.disk.reached(Step::PackDropped);
        remove(&self.packs_folder().join(name.index()))?;
        self.sync_folder(&self.packs_folder());
        tracing::info!(pack = name.number, copied, "rewrote a pack");
        Ok(Some(contents.end.saturating_sub(copied)))
    }

    /// Begins a new pack when little of the newest is alive, so that a small disk wins its room back too.
    fn seal_sparse(&self) -> Result<(), StoreError> {
        let mut newest = self.packs.newest();
        let worth_it = newest.as_ref().is_some_and(|log| {
            log.end > self.packs.bytes_max / SPARSE_PART && self.packs.index().is_sparse(log.name.number)
        });
        if worth_it { self.begin_pack(&mut newest) } else { Ok(()) }
    }

    /// Returns whether an entry of a pack that goes must be copied.
    fn is_needed(&self, name: &PackName, mark: &Mark, is_oldest: bool) -> bool {
        let found = self.packs.index().find(&mark.shard);
        match mark.kind {
            Kind::Shard => found.is_some_and(|(_, place)| place.pack == name.number && place.span == mark.span),
            // What was uploaded again needs no tombstone; before the oldest pack there is nothing to keep dead.
            Kind::Tombstone => found.is_none() && !is_oldest && !planted(Bug::Tombstone),
        }
    }

    pub(super) fn packs_folder(&self) -> PathBuf {
        self.root.join("packs")
    }
}
