//! Copies of records beside the shards, so that a reader who reaches this node needs no catalog.

use std::{fs, path::PathBuf, time::UNIX_EPOCH};

use bytes::Bytes;
use format::{Locator, ObjectId, PublicManifest, Record, limits::RECORD_BYTES_MAX};

use super::{Store, StoreError, draft::Scrap, failed, intact, read, remove};

/// Copies that are read to find one public manifest, 0.1 ms each.
const RECORDS_SEARCHED_MAX: usize = 10_000;

impl Store {
    /// Returns the copy of a record. It is verified again, because a disk may have changed it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn record(&self, locator: &Locator) -> Result<Option<Record>, StoreError> {
        let path = self.record_path(locator);
        let Some(bytes) = read(&path, RECORD_BYTES_MAX)? else { return Ok(None) };
        match Record::decode(&Bytes::from(bytes)) {
            Ok(record) if record.locator() == *locator => Ok(Some(record)),
            _ => Err(StoreError::Damaged { path }),
        }
    }

    /// Returns the second since 1970 at which the copy of a record was written last; zero when that cannot be told.
    #[must_use]
    pub fn record_written(&self, locator: &Locator) -> u64 {
        let written = fs::metadata(self.record_path(locator)).and_then(|about| about.modified());
        let age = written.ok().and_then(|written| written.duration_since(UNIX_EPOCH).ok());
        age.map_or(0, |age| age.as_secs())
    }

    /// Returns whether there is a copy of a record, be it damaged.
    #[must_use]
    pub fn has_record(&self, locator: &Locator) -> bool {
        self.record_path(locator).exists()
    }

    /// Keeps a copy of a record as the catalog holds it. Durable on return.
    ///
    /// An intact copy that is here keeps its manifests, as [`Record::followed_by`] says; one that is missing or does
    /// not verify is written anew.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn put_record(&self, record: &Record) -> Result<(), StoreError> {
        let locator = record.locator();
        let path = self.record_path(&locator);
        let folder = path.parent().expect("a record lies in a folder");
        let _guard = self.guard(&locator.0);
        let (held, mut kept) = match intact(self.record(&locator))? {
            None => (None, record.clone()),
            // Whether a lease has ended by now, the catalog has judged by its own clock.
            Some(held) => (Some(held.encode()), held.followed_by(record, u64::MAX)),
        };
        let is_same = kept.public.id() == record.public.id() && kept.lease_envelope == record.lease_envelope;
        if !is_same || kept.sealed != record.sealed {
            tracing::warn!(%locator, "a copy of a record is not what the catalog holds; it is intact and stays");
        }
        if is_same {
            kept.placement.clone_from(&record.placement);
        }
        let kept = kept.encode();
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
