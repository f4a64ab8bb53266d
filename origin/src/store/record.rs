//! Copies of records beside the shards, so that a reader who reaches this node needs no catalog.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::PoisonError,
};

use bytes::Bytes;
use format::{Lease, Locator, ObjectId, PublicManifest, Record, RecordError, cbor, limits::RECORD_BYTES_MAX};

use super::{Store, StoreError, draft::Scrap, failed, intact, read, remove};
use crate::leases;

/// Bytes before the record: the second at which its locator was filed first, and the beginning of the hash of that.
const HEAD_BYTES: usize = 16;
/// Copies that are read to find one public manifest, 0.1 ms each.
const RECORDS_SEARCHED_MAX: usize = 10_000;

fn head(filed_at: u64) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(&filed_at.to_le_bytes());
    let hash = blake3::hash(&head[..8]);
    head[8..].copy_from_slice(&hash.as_bytes()[..8]);
    head
}

/// Reads the time back. One that the disk has changed is the newest: it takes no locator from anyone.
fn filed_at(read: &[u8; HEAD_BYTES]) -> u64 {
    let told = read.first_chunk().map_or(u64::MAX, |told| u64::from_le_bytes(*told));
    if head(told) == *read { told } else { u64::MAX }
}

/// Takes zeros from behind a record: a power cut may bring the tail of a copy back that an erasure was written over.
fn without_zeros(bytes: Bytes) -> Bytes {
    match cbor::end_of_first(&bytes) {
        Ok(end) if bytes[end..].iter().all(|byte| *byte == 0) => bytes.slice(..end),
        _ => bytes,
    }
}

/// Opens a file whose bytes are written over; none when there is none.
fn open_to_write(path: &Path) -> Result<Option<File>, StoreError> {
    match File::options().write(true).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed("open", path)(source)),
    }
}

impl Store {
    /// Returns the copy of a record. It is verified again, because a disk may have changed it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn record(&self, locator: &Locator) -> Result<Option<Record>, StoreError> {
        Ok(self.filed_record(locator)?.map(|(record, _)| record))
    }

    /// The same, with the second since 1970 at which its locator was filed first; [`u64::MAX`], the newest, when that
    /// cannot be told.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn filed_record(&self, locator: &Locator) -> Result<Option<(Record, u64)>, StoreError> {
        match self.read_record(locator, leases::decode) {
            // It may be an erasure that is being written over it.
            Err(StoreError::Damaged { .. }) => {
                let _guard = self.guard(&locator.0);
                self.read_record(locator, leases::decode)
            }
            done => done,
        }
    }

    /// Reads a copy once. The caller has the guard of its locator, or takes it for what comes out damaged.
    fn read_record(
        &self,
        locator: &Locator,
        decode: impl FnOnce(&Bytes) -> Result<Record, RecordError>,
    ) -> Result<Option<(Record, u64)>, StoreError> {
        let path = self.record_path(locator);
        let Some(bytes) = read(&path, HEAD_BYTES + RECORD_BYTES_MAX)? else { return Ok(None) };
        let Some(head) = bytes.first_chunk::<HEAD_BYTES>().copied() else { return Err(StoreError::Damaged { path }) };
        match decode(&without_zeros(Bytes::from(bytes).slice(HEAD_BYTES..))) {
            Ok(record) if record.locator() == *locator => Ok(Some((record, filed_at(&head)))),
            _ => Err(StoreError::Damaged { path }),
        }
    }

    /// Returns whether there is a copy of a record, be it damaged.
    #[must_use]
    pub fn has_record(&self, locator: &Locator) -> bool {
        self.record_path(locator).exists()
    }

    /// Returns whether the copy of a record shows a lease that outlives this one, by a look without signatures: whoever
    /// goes by it verifies them.
    #[must_use]
    pub(crate) fn may_outlive(&self, lease: &Lease) -> bool {
        let decode = |bytes: &Bytes| Record::decode_with(bytes, |envelope| Lease::unverified(envelope));
        self.read_record(&lease.locator, decode)
            .is_ok_and(|read| read.is_some_and(|(held, _)| held.lease.outlives(lease)))
    }

    /// Keeps a copy of a record as the catalog holds it, whose locator was filed first at the second `filed_at` since
    /// 1970. Durable on return. Returns the lease of the copy that stays, when its owner signed that later: the catalog
    /// has forgotten it.
    ///
    /// An intact copy that is here keeps its manifests, as [`Record::followed_by`] says; one that is missing or does
    /// not verify is written anew. Of two times of one record the earlier stays. An erasure is written over the copy
    /// that is here, bytes upon bytes ([decision 32](../../../docs/decisions/0032-erasures-over-copies.md)).
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn put_record(&self, record: &Record, filed_at: u64) -> Result<Option<Lease>, StoreError> {
        let locator = record.locator();
        let path = self.record_path(&locator);
        let folder = path.parent().expect("a record lies in a folder");
        let _guard = self.guard(&locator.0);
        if record.lease.erased && self.erase_record(record, filed_at)? {
            return Ok(None);
        }
        let encode = |record: &Record, filed_at| [&head(filed_at)[..], &record.encode()].concat();
        let (held, filed_at, mut kept) = match intact(self.read_record(&locator, leases::decode))? {
            None => (None, filed_at, record.clone()),
            Some((held, since)) => {
                let is_of_it = (held.lease.owner, held.public.id()) == (record.lease.owner, record.public.id());
                let filed_at = if is_of_it { since.min(filed_at) } else { since };
                // Whether a lease has ended by now, the catalog has judged by its own clock.
                (Some(encode(&held, since)), filed_at, held.followed_by(record, u64::MAX))
            }
        };
        let is_same = kept.public.id() == record.public.id() && kept.lease_envelope == record.lease_envelope;
        if !is_same || kept.sealed != record.sealed {
            tracing::warn!(%locator, "a copy of a record is not what the catalog holds; it is intact and stays");
        }
        if is_same {
            kept.placement.clone_from(&record.placement);
        }
        let (stays, comes) = (&kept.lease, &record.lease);
        let is_of_it = (stays.owner, stays.object) == (comes.owner, comes.object);
        let outlives = (is_of_it && stays.outlives(comes)).then(|| stays.clone());
        let kept = encode(&kept, filed_at);
        if held.as_ref() == Some(&kept) {
            self.keep_names(folder);
            return Ok(outlives);
        }
        let write = || {
            self.make_folder(folder)?;
            Scrap::write(self, &format!("record-{locator}"), &kept)
        };
        let scrap = if record.lease.erased { self.with_ballast(write)? } else { write()? };
        scrap.rename(&path)?;
        self.sync_names(folder);
        Ok(outlives)
    }

    /// Makes the names in a folder of copies durable that an earlier process may have given there, and not synced
    /// before it died. Those that this one gives it syncs itself.
    fn keep_names(&self, folder: &Path) {
        if !self.named.lock().unwrap_or_else(PoisonError::into_inner).contains(folder) {
            self.sync_names(folder);
        }
    }

    fn sync_names(&self, folder: &Path) {
        self.sync_folder(folder);
        self.named.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_owned());
    }

    /// Writes an erasure over the living copy that it ends, durably, if there is one. The caller has the guard.
    ///
    /// What it decides by, a bad disk cannot change: the copy names the same manifests and a version that is not
    /// higher, so nothing of it but the time would stay, and that has a hash of its own. Hence its signatures are not
    /// verified, which costs as much as all else here.
    fn erase_record(&self, record: &Record, filed_at: u64) -> Result<bool, StoreError> {
        let locator = record.locator();
        let decode = |bytes: &Bytes| Record::decode_with(bytes, |envelope| Lease::unverified(envelope));
        let Some((held, since)) = intact(self.read_record(&locator, decode))? else { return Ok(false) };
        let names = |lease: &Lease| (lease.owner, lease.object, lease.manifest);
        let ends = !held.lease.erased && held.lease.version <= record.lease.version;
        if !ends || names(&held.lease) != names(&record.lease) {
            return Ok(false);
        }
        let path = self.record_path(&locator);
        let erased = Record { sealed: None, ..record.clone() };
        let bytes = [&head(since.min(filed_at))[..], &erased.encode()].concat();
        let Some(file) = open_to_write(&path)? else { return Ok(false) };
        let length = bytes.len();
        let before = file.metadata().map_err(failed("look at", &path))?.len();
        // A longer one may find no room when half of it is written. What reads back has a length that can be had.
        let Some(before) = usize::try_from(before).ok().filter(|before| *before >= length) else { return Ok(false) };
        // Zeros over the rest: blocks that are only cut off keep what is in them.
        let mut over = bytes;
        over.resize(before, 0);
        self.with_ballast(|| file.write_all_at(&over, 0).map_err(failed("write", &path)))?;
        self.sync(&file, &path);
        self.keep_names(path.parent().expect("a record lies in a folder"));
        // Not synced, nor does it have to succeed: who reads passes zeros behind a record.
        let _ = file.set_len(length as u64);
        Ok(true)
    }

    /// Returns the locators of all copies.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn records(&self) -> Result<Vec<Locator>, StoreError> {
        let root = self.root.join("records");
        let mut locators = Vec::new();
        for folder in fs::read_dir(&root).map_err(failed("list", &root))? {
            let folder = folder.map_err(failed("list", &root))?.path();
            for entry in fs::read_dir(&folder).map_err(failed("list", &folder))? {
                let name = entry.map_err(failed("list", &folder))?.file_name();
                locators.extend(name.to_str().and_then(|name| name.parse::<Locator>().ok()));
            }
        }
        Ok(locators)
    }

    /// Looks for an object's public manifest in the copies of records, the first 10,000 of them: beyond, bringing the
    /// shard back from other nodes is cheaper than looking on.
    pub(super) fn public_in_records(&self, object: &ObjectId) -> Result<Option<PublicManifest>, StoreError> {
        for locator in self.records()?.iter().take(RECORDS_SEARCHED_MAX) {
            // Not with a second look under its guard: the caller may have that of another id.
            match intact(self.read_record(locator, leases::decode))? {
                Some((record, _)) if record.public.id() == *object => return Ok(Some(record.public)),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Returns whether the operator wants this node empty.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.root.join("draining").exists()
    }

    /// Remembers whether the operator wants this node empty. Durable on return.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn put_draining(&self, draining: bool) -> Result<(), StoreError> {
        let path = self.root.join("draining");
        if draining {
            Scrap::write(self, "draining", b"")?.rename(&path)?;
        } else {
            remove(&path)?;
        }
        self.sync_folder(&self.root);
        Ok(())
    }

    fn record_path(&self, locator: &Locator) -> PathBuf {
        let hex = locator.to_string();
        self.root.join("records").join(&hex[..2]).join(&hex)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use testing::Sample;

    use super::*;
    use crate::store::RealDisk;

    #[test]
    fn whoever_reads_while_an_erasure_is_written_waits_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), std::sync::Arc::new(RealDisk)).unwrap();
        let sample = Sample::new(1, 9);
        let (locator, node) = (sample.sealed.locator, "o1".parse().unwrap());
        store.put_record(&sample.record(&sample.lease(1), &node), 1).unwrap();
        let path = store.record_path(&locator);
        let whole = fs::read(&path).unwrap();
        let (tell, told) = mpsc::sync_channel(1);
        std::thread::scope(|scope| {
            let guard = store.guard(&locator.0);
            fs::write(&path, &whole[..whole.len() / 2]).unwrap();
            scope.spawn(|| tell.send(store.record(&locator).map(|record| record.is_some())).unwrap());
            // It is no answer that half of it is there.
            assert!(told.recv_timeout(Duration::from_millis(200)).is_err());
            fs::write(&path, &whole).unwrap();
            drop(guard);
            assert!(told.recv().unwrap().unwrap());
        });
    }
}
