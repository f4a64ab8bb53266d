//! The highest version of each owner's policy that this edge has used, kept over a restart: none of a lower number is
//! ever used again, whatever origins say.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use client::{keep, read_kept};
use format::{OwnerId, PolicyName};
use serde::{Deserialize, Serialize};

use super::library::Key;

/// Policies remembered. When there are more, the owner with the most of them loses the one used longest ago, so that
/// nobody makes an edge forget another's by publishing many.
const VERSIONS_MAX: usize = 8192;
/// Largest file: an entry has at most 200 bytes.
const FILE_BYTES_MAX: usize = VERSIONS_MAX * 200;

/// What is remembered. Without a file it lasts as long as the process.
#[derive(Debug, Default)]
pub(crate) struct SeenVersions {
    file: Option<PathBuf>,
    seen: Mutex<Seen>,
    /// Held while the file is written, so that no older state follows a newer one.
    writing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Seen {
    versions: BTreeMap<Key, Version>,
    turn: u64,
}

#[derive(Debug)]
struct Version {
    sequence: u64,
    /// The turn in which it was used last.
    used: u64,
}

/// An entry of the file, the one used longest ago first.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    owner: OwnerId,
    name: PolicyName,
    sequence: u64,
}

impl SeenVersions {
    /// Begins with what a former run kept. A file that does not read is logged and counts as none: to serve nothing for
    /// it would let a bad disk close every policy. Blocks on the disk.
    pub(crate) fn recall(file: Option<&Path>) -> Self {
        let read = |path| -> io::Result<Vec<Entry>> {
            let Some(bytes) = read_kept(path, FILE_BYTES_MAX)? else { return Ok(Vec::new()) };
            serde_json::from_slice(&bytes).map_err(io::Error::other)
        };
        let it = Self { file: file.map(Path::to_owned), ..Self::default() };
        match file.map_or(Ok(Vec::new()), read) {
            Ok(entries) => {
                let mut seen = it.seen();
                for Entry { owner, name, sequence } in entries {
                    seen.raise(&(owner, name), sequence);
                }
            }
            Err(error) => {
                tracing::error!(%error, "the kept versions of policies do not read; an older version may count until a newer one is seen");
            }
        }
        it
    }

    /// Returns the highest version used of a policy; zero before the first.
    pub(crate) fn highest(&self, key: &Key) -> u64 {
        self.seen().versions.get(key).map_or(0, |version| version.sequence)
    }

    /// Notes that a version is used, and keeps that if it is a higher one than before. Blocks on the disk then.
    ///
    /// # Errors
    /// The error of the operating system. The version counts all the same until the process ends.
    pub(crate) fn raise(&self, key: &Key, sequence: u64) -> io::Result<()> {
        if !self.seen().raise(key, sequence) {
            return Ok(());
        }
        let Some(file) = &self.file else { return Ok(()) };
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = self.seen().entries();
        keep(file, &serde_json::to_vec(&entries).map_err(io::Error::other)?)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// Returns whether the version is higher than the one before.
    fn raise(&mut self, key: &Key, sequence: u64) -> bool {
        self.turn += 1;
        let used = self.turn;
        if let Some(version) = self.versions.get_mut(key) {
            version.used = used;
            let is_higher = sequence > version.sequence;
            version.sequence = version.sequence.max(sequence);
            return is_higher;
        }
        if self.versions.len() >= VERSIONS_MAX {
            self.forget_one();
        }
        self.versions.insert(key.clone(), Version { sequence, used });
        true
    }

    fn forget_one(&mut self) {
        let mut of_owner: BTreeMap<OwnerId, usize> = BTreeMap::new();
        for (owner, _) in self.versions.keys() {
            *of_owner.entry(*owner).or_default() += 1;
        }
        let Some((owner, _)) = of_owner.into_iter().max_by_key(|(_, count)| *count) else { return };
        let own = self.versions.iter().filter(|((of, _), _)| *of == owner);
        if let Some(oldest) = own.min_by_key(|(_, version)| version.used).map(|(key, _)| key.clone()) {
            self.versions.remove(&oldest);
        }
    }

    fn entries(&self) -> Vec<Entry> {
        let mut all: Vec<_> = self.versions.iter().collect();
        all.sort_by_key(|(_, version)| version.used);
        let entry = |((owner, name), version): (&Key, &Version)| Entry {
            owner: *owner,
            name: name.clone(),
            sequence: version.sequence,
        };
        all.into_iter().map(entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(owner: u8, name: &str) -> Key {
        (OwnerId([owner; 32]), name.parse().unwrap())
    }

    #[test]
    fn the_highest_version_stays_over_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policies.json");
        let seen = SeenVersions::recall(Some(&file));
        for (name, sequence) in [("geo", 5), ("geo", 3), ("ttl", u64::MAX)] {
            seen.raise(&key(1, name), sequence).unwrap();
        }
        let again = SeenVersions::recall(Some(&file));
        assert_eq!(again.highest(&key(1, "geo")), 5);
        assert_eq!(again.highest(&key(1, "ttl")), u64::MAX);
        assert_eq!(again.highest(&key(2, "geo")), 0);
        // A version that is used again is not written again.
        std::fs::remove_file(&file).unwrap();
        again.raise(&key(1, "geo"), 5).unwrap();
        assert!(!file.exists());
        std::fs::write(&file, "[1]").unwrap();
        assert_eq!(SeenVersions::recall(Some(&file)).highest(&key(1, "geo")), 0);
    }

    #[test]
    fn an_owner_of_many_policies_makes_nobody_elses_forgotten_and_the_file_has_a_bound() {
        let mut seen = Seen::default();
        seen.raise(&key(1, "a"), 7);
        // To forget one costs a look at all, so that no more are forgotten here than it takes to see which.
        let count = VERSIONS_MAX + 100;
        for number in 0..count {
            seen.raise(&key(2, &format!("{number:063}")), u64::MAX);
        }
        assert_eq!(seen.versions.len(), VERSIONS_MAX);
        assert_eq!(seen.versions[&key(1, "a")].sequence, 7);
        assert!(seen.versions.contains_key(&key(2, &format!("{:063}", count - 1))), "the newest of them");
        assert!(serde_json::to_vec(&seen.entries()).unwrap().len() <= FILE_BYTES_MAX);
    }
}
