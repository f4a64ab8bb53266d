//! Bugs that can be planted by name, to show that the tests find them (mutation testing). Builds without the feature
//! `planted` contain none of this: [`planted`] is a constant there.

/// A bug, named by what it leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A reader accepts strips without proof.
    StripCheck,
    /// An upload is acknowledged one shard too early.
    Quorum,
    /// A placement ignores zones.
    ZoneCap,
    /// A shard is accepted whatever its root.
    RootCheck,
    /// The contents of files are not synced (fsync).
    FileSync,
    /// The entries of folders are not synced (fsync).
    FolderSync,
    /// Entries after the last fsync of a log are accepted without a check.
    TornEnd,
    /// A compaction forgets removals (tombstones).
    Tombstone,
    /// A shard that was uploaded again is garbage-collected with its deleted predecessor.
    Collection,
    /// An older lease replaces a newer one.
    LeaseVersion,
    /// A lease revives an erased object.
    Erasure,
    /// The scrub hashes nothing.
    Scrub,
}

impl Bug {
    /// All planted bugs.
    pub const ALL: [Self; 12] = [
        Self::StripCheck,
        Self::Quorum,
        Self::ZoneCap,
        Self::RootCheck,
        Self::FileSync,
        Self::FolderSync,
        Self::TornEnd,
        Self::Tombstone,
        Self::Collection,
        Self::LeaseVersion,
        Self::Erasure,
        Self::Scrub,
    ];
}

/// Returns whether a bug is planted: the one named in `EVERNEAR_PLANTED`, for example `StripCheck`.
#[cfg(feature = "planted")]
#[must_use]
#[allow(clippy::panic, reason = "only tests plant bugs, and one that nobody knows would be found by none")]
pub fn planted(bug: Bug) -> bool {
    static PLANTED: std::sync::LazyLock<Option<Bug>> = std::sync::LazyLock::new(|| {
        let name = std::env::var("EVERNEAR_PLANTED").ok().filter(|name| name != "None")?;
        let known = Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == name);
        Some(known.unwrap_or_else(|| panic!("EVERNEAR_PLANTED={name} is none of {:?}", Bug::ALL)))
    });
    *PLANTED == Some(bug)
}

/// Returns whether a bug is planted: never, in this build.
#[cfg(not(feature = "planted"))]
#[must_use]
pub const fn planted(_: Bug) -> bool {
    false
}
