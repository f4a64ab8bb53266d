//! How content becomes a DAG: by its parameters the same bytes have one CID or another.
//!
//! Place in the flow: chosen by whoever imports. The named profiles are those of IPIP-0499, and what the client and the
//! server of nft.storage used (ipfs-car 0.6.2 with ipfs-unixfs-importer 9).
//! Source: <https://specs.ipfs.tech/ipips/ipip-0499/>.

use crate::{
    cid::Version,
    limits::{CHUNK_BYTES_MAX, FLAT_BYTES_MAX, FLAT_ENTRIES_MAX, WIDTH_MAX},
};

/// What the content's bytes lie in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaves {
    /// Blocks that are the bytes alone. Their CIDs are of version 1, also below a root of version 0.
    Raw,
    /// Nodes as those above them, with the bytes inside.
    Nodes,
}

/// When a directory becomes many nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharding {
    /// From so many entries on.
    Entries(usize),
    /// When its names and CIDs have more than so many bytes.
    LinksBytes(usize),
    /// When its one node would have more than so many bytes.
    BlockBytes(usize),
}

/// The parameters of importing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    chunk_bytes: usize,
    width: usize,
    leaves: Leaves,
    version: Version,
    sharding: Sharding,
}

/// Why there are no such parameters. Who chose them is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// No profile has this name.
    #[error("there is no profile `{name}`; there are unixfs-v1-2025, nft-classic and unixfs-v0-2015")]
    Name {
        /// What was asked for.
        name: String,
    },
    /// A chunk of no bytes, or too many.
    #[error("a chunk of {bytes} bytes: 1 to {CHUNK_BYTES_MAX} are possible")]
    Chunk {
        /// What was asked for.
        bytes: usize,
    },
    /// A node of fewer than two children, or too many.
    #[error("{width} children of a node: 2 to {WIDTH_MAX} are possible")]
    Width {
        /// What was asked for.
        width: usize,
    },
    /// A directory's one node could be over the limit of blocks.
    #[error("a directory in one node has at most {FLAT_ENTRIES_MAX} entries or {FLAT_BYTES_MAX} bytes")]
    Sharding,
}

impl Profile {
    /// 1 MiB, 1024 children, raw leaves, CIDs of version 1: what Kubo 0.40 and Helia call by this name.
    pub const UNIXFS_V1_2025: Self = Self {
        chunk_bytes: 1 << 20,
        width: 1024,
        leaves: Leaves::Raw,
        version: Version::V1,
        sharding: Sharding::BlockBytes(256 << 10),
    };

    /// 256 KiB, 174 children, raw leaves, CIDs of version 1: what nft.storage made, and Kubo before 0.40 of files when
    /// asked for version 1.
    pub const NFT_CLASSIC: Self = Self {
        chunk_bytes: 256 << 10,
        width: 174,
        leaves: Leaves::Raw,
        version: Version::V1,
        sharding: Sharding::Entries(1000),
    };

    /// 256 KiB, 174 children, nodes as leaves, CIDs of version 0: what Kubo before 0.40 made.
    pub const UNIXFS_V0_2015: Self = Self {
        chunk_bytes: 256 << 10,
        width: 174,
        leaves: Leaves::Nodes,
        version: Version::V0,
        sharding: Sharding::LinksBytes(256 << 10),
    };

    /// The profiles that have a name.
    pub const NAMED: [(&str, Self); 3] = [
        ("unixfs-v1-2025", Self::UNIXFS_V1_2025),
        ("nft-classic", Self::NFT_CLASSIC),
        ("unixfs-v0-2015", Self::UNIXFS_V0_2015),
    ];

    /// Returns the profile of a name.
    ///
    /// # Errors
    /// [`ProfileError::Name`].
    pub fn named(name: &str) -> Result<Self, ProfileError> {
        let found = Self::NAMED.iter().find(|(known, _)| *known == name).map(|(_, profile)| *profile);
        found.ok_or_else(|| ProfileError::Name { name: name.chars().take(100).collect() })
    }

    /// Cuts content into chunks of so many bytes.
    ///
    /// # Errors
    /// [`ProfileError::Chunk`].
    pub fn with_chunk_bytes(self, bytes: usize) -> Result<Self, ProfileError> {
        let is_possible = (1..=CHUNK_BYTES_MAX).contains(&bytes);
        if is_possible { Ok(Self { chunk_bytes: bytes, ..self }) } else { Err(ProfileError::Chunk { bytes }) }
    }

    /// Gives each node of a file so many children.
    ///
    /// # Errors
    /// [`ProfileError::Width`].
    pub fn with_width(self, width: usize) -> Result<Self, ProfileError> {
        let is_possible = (2..=WIDTH_MAX).contains(&width);
        if is_possible { Ok(Self { width, ..self }) } else { Err(ProfileError::Width { width }) }
    }

    /// Puts the bytes into leaves like this.
    #[must_use]
    pub fn with_leaves(self, leaves: Leaves) -> Self {
        Self { leaves, ..self }
    }

    /// Names nodes by CIDs of this version.
    #[must_use]
    pub fn with_version(self, version: Version) -> Self {
        Self { version, ..self }
    }

    /// Shards directories like this.
    ///
    /// # Errors
    /// [`ProfileError::Sharding`].
    pub fn with_sharding(self, sharding: Sharding) -> Result<Self, ProfileError> {
        let is_possible = match sharding {
            Sharding::Entries(entries) => entries <= FLAT_ENTRIES_MAX,
            // Sizes and lengths take less than what a CID and a name of one byte take.
            Sharding::LinksBytes(bytes) => bytes <= FLAT_BYTES_MAX / 2,
            Sharding::BlockBytes(bytes) => bytes <= FLAT_BYTES_MAX,
        };
        if is_possible { Ok(Self { sharding, ..self }) } else { Err(ProfileError::Sharding) }
    }

    /// Returns the bytes of a chunk.
    #[must_use]
    pub fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }

    /// Returns how many children a node of a file has at most.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Returns what the bytes lie in.
    #[must_use]
    pub fn leaves(&self) -> Leaves {
        self.leaves
    }

    /// Returns the version of the CIDs of nodes.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns when a directory becomes many nodes.
    #[must_use]
    pub fn sharding(&self) -> Sharding {
        self.sharding
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_have_bounds() {
        let profile = Profile::NFT_CLASSIC;
        assert!(profile.with_chunk_bytes(1).is_ok() && profile.with_chunk_bytes(CHUNK_BYTES_MAX).is_ok());
        assert!(profile.with_chunk_bytes(0).is_err() && profile.with_chunk_bytes(CHUNK_BYTES_MAX + 1).is_err());
        assert!(profile.with_width(2).is_ok() && profile.with_width(WIDTH_MAX).is_ok());
        assert!(profile.with_width(1).is_err() && profile.with_width(WIDTH_MAX + 1).is_err());
        assert!(profile.with_sharding(Sharding::Entries(FLAT_ENTRIES_MAX)).is_ok());
        assert_eq!(profile.with_sharding(Sharding::Entries(FLAT_ENTRIES_MAX + 1)), Err(ProfileError::Sharding));
    }

    #[test]
    fn a_profile_is_found_by_its_name_and_an_unknown_one_is_refused() {
        for (name, profile) in Profile::NAMED {
            assert_eq!(Profile::named(name), Ok(profile));
        }
        assert!(Profile::named("unixfs-v1-2026").unwrap_err().to_string().contains("unixfs-v1-2026"));
    }
}
