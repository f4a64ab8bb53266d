//! Copies of records beside the shards, so that a reader who reaches this node needs no catalog.

use std::{fs, path::PathBuf};

use bytes::Bytes;
use format::{Locator, ObjectId, PublicManifest, Record, limits::RECORD_BYTES_MAX};

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
        let path = self.record_path(locator);
        let Some(bytes) = read(&path, HEAD_BYTES + RECORD_BYTES_MAX)? else { return Ok(None) };
        let Some(head) = bytes.first_chunk::<HEAD_BYTES>().copied() else { return Err(StoreError::Damaged { path }) };
        match leases::decode(&Bytes::from(bytes).slice(HEAD_BYTES..)) {
            Ok(record) if record.locator() == *locator => Ok(Some((record, filed_at(&head)))),
            _ => Err(StoreError::Damaged { path }),
        }
    }

    /// Returns whether there is a copy of a record, be it damaged.
    #[must_use]
    pub fn has_record(&self, locator: &Locator) -> bool {
        self.record_path(locator).exists()
    }

    /// Keeps a copy of a record as the catalog holds it, whose locator was filed first at the second `filed_at` since
    /// 1970. Durable on return.
    ///
    /// An intact copy that is here keeps its manifests, as [`Record::followed_by`] says; one that is missing or does
    /// not verify is written anew. Of two times of one record the earlier stays.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn put_record(&self, record: &Record, filed_at: u64) -> Result<(), StoreError> {
        let locator = record.locator();
        let path = self.record_path(&locator);
        let folder = path.parent().expect("a record lies in a folder");
        let _guard = self.guard(&locator.0);
        let encode = |record: &Record, filed_at| [&head(filed_at)[..], &record.encode()].concat();
        let (held, filed_at, mut kept) = match intact(self.filed_record(&locator))? {
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
        let kept = encode(&kept, filed_at);
        if held.as_ref() == Some(&kept) {
            return Ok(());
        }
        let write = || {
            self.make_folder(folder)?;
            Scrap::write(self, &format!("record-{locator}"), &kept)
        };
        let scrap = if record.lease.erased { self.with_ballast(write)? } else { write()? };
        scrap.rename(&path)?;
        self.sync_folder(folder);
        Ok(())
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
            match intact(self.record(locator))? {
                Some(record) if record.public.id() == *object => return Ok(Some(record.public)),
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
