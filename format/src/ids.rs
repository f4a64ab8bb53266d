//! The 32-byte identifiers. Each is a BLAKE3 hash, has its own type, and prints as lower-case hex.

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER;

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an identifier: expected 64 lower-case hex digits, found {found:?}")]
pub struct IdError {
    /// The text, cut at 80 characters.
    pub found: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// Returns the bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            /// Parses 64 lower-case hex digits, the only spelling.
            fn from_str(text: &str) -> Result<Self, IdError> {
                HEXLOWER
                    .decode(text.as_bytes())
                    .ok()
                    .and_then(|bytes| bytes.try_into().ok())
                    .map(Self)
                    .ok_or_else(|| IdError { found: text.chars().take(80).collect() })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// The id of an object: BLAKE3 of the public manifest. Shards are filed under it.
    ObjectId
);
id!(
    /// The name under which nodes file the record: a one-way image of the capability. A node never sees more.
    Locator
);
id!(
    /// BLAKE3 of an owner's public keys.
    OwnerId
);
id!(
    /// BLAKE3 of the list of row hashes: what commits to every strip of an object.
    Root
);
id!(
    /// BLAKE3 of one row.
    RowHash
);
id!(
    /// BLAKE3 of one strip.
    StripHash
);
id!(
    /// BLAKE3 of a sealed manifest.
    ManifestHash
);
id!(
    /// BLAKE3 of a policy component or of its configuration.
    BlobId
);

id!(
    /// The id of a note that edges share: an image of their secret, from which the origins that store it learn nothing.
    NoteId
);

impl StripHash {
    /// Hashes a strip, padding included.
    #[must_use]
    pub fn of(strip: &[u8]) -> Self {
        Self(*blake3::hash(strip).as_bytes())
    }
}

impl RowHash {
    /// Hashes an encoded row.
    #[must_use]
    pub fn of(row: &[u8]) -> Self {
        Self(*blake3::hash(row).as_bytes())
    }
}

impl ManifestHash {
    /// Hashes a sealed manifest.
    #[must_use]
    pub fn of(sealed: &[u8]) -> Self {
        Self(*blake3::hash(sealed).as_bytes())
    }
}

impl BlobId {
    /// Hashes a blob.
    #[must_use]
    pub fn of(blob: &[u8]) -> Self {
        Self(*blake3::hash(blob).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_only() {
        let id = ObjectId([0xab; 32]);
        let text = id.to_string();
        assert_eq!(text.parse::<ObjectId>(), Ok(id));
        for bad in [text.to_uppercase(), text[1..].to_owned(), format!("{text}0"), String::new(), "é".repeat(32)] {
            assert!(bad.parse::<ObjectId>().is_err(), "{bad}");
        }
    }
}
