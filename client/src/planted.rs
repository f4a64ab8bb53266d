//! Bugs that can be planted, each by its name, to show that the tests find them. Builds without the feature `planted`
//! have none of it: [`planted`] is a constant there.

/// A bug, named by what it leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A reader takes strips without proof.
    StripCheck,
    /// An upload is acknowledged one shard early.
    Quorum,
    /// A placement does not look at zones.
    ZoneCap,
    /// A shard is taken whatever its root.
    RootCheck,
    /// Bytes of files are not synced.
    FileSync,
    /// Names in folders are not synced.
    FolderSync,
    /// Entries after the last fsync of a log count without a look at them.
    TornEnd,
    /// A compaction leaves removals behind.
    Tombstone,
    /// A shard that was uploaded again is collected with its dead past.
    Collection,
    /// An older lease replaces a newer one.
    LeaseVersion,
    /// A lease brings back what was erased.
    Erasure,
    /// The scrub does not hash.
    Scrub,
}

impl Bug {
    /// All of them.
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

/// Returns whether a bug is planted: the one that `EVERNEAR_PLANTED` names, for example `StripCheck`.
#[cfg(feature = "planted")]
#[must_use]
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
