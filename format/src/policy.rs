//! The signed manifest of an owner's policy: which components run, with which configuration, in which order, and from
//! when.

use std::{fmt, str::FromStr};

use minicbor::Decoder;
use serde::{Deserialize, Serialize};

use crate::{
    BlobId, OwnerId, OwnerKeys,
    cbor::{CborError, Fields, FieldsWriter, Unknown},
    limits::{
        POLICY_COMPONENT_BYTES_MAX, POLICY_CONFIG_BYTES_MAX, POLICY_LINKS_MAX, POLICY_MANIFEST_BYTES_MAX,
        POLICY_NAME_BYTES_MAX,
    },
    place::text_serde,
    signed::{self, Signed, SignedError},
};

/// Keys of the CBOR map; `docs/format.md` section 8.
mod key {
    pub(super) const OWNER: u64 = 0;
    pub(super) const NAME: u64 = 1;
    pub(super) const SEQUENCE: u64 = 2;
    pub(super) const LINKS: u64 = 3;
    pub(super) const NOT_BEFORE: u64 = 4;
    pub(super) const EXPIRES: u64 = 5;
    pub(super) const PARENT: u64 = 6;
}

/// The name of a policy, unique within its owner: 1 to 63 of a-z, 0-9 and inner hyphens.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyName(Box<str>);

impl PolicyName {
    /// The policy of objects whose owner published none: objects are served whole, as immutable, everywhere.
    pub const DEFAULT: &str = "nft-immutable";

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for PolicyName {
    fn default() -> Self {
        Self(Self::DEFAULT.into())
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PolicyName {
    type Err = PolicyManifestError;

    fn from_str(text: &str) -> Result<Self, PolicyManifestError> {
        let symbols = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let ok = (1..=POLICY_NAME_BYTES_MAX).contains(&text.len())
            && text.bytes().all(symbols)
            && !text.starts_with('-')
            && !text.ends_with('-');
        if ok {
            Ok(Self(text.into()))
        } else {
            Err(PolicyManifestError::Name { found: text.chars().take(80).collect() })
        }
    }
}

text_serde!(PolicyName);

/// One component and its configuration, both content-addressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PolicyLink {
    /// BLAKE3 of the component.
    pub component: BlobId,
    /// Bytes of the component.
    pub component_bytes: u32,
    /// BLAKE3 of the configuration (TOML text).
    pub config: BlobId,
    /// Bytes of the configuration.
    pub config_bytes: u32,
}

/// One version of an owner's policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyManifest {
    /// The owner.
    pub owner: OwnerId,
    /// The policy's name.
    pub name: PolicyName,
    /// The sequence number. It grows with every version, and an edge keeps the highest it has seen.
    pub sequence: u64,
    /// The links, asked in order. The first link that does not allow a request decides.
    pub links: Vec<PolicyLink>,
    /// The version counts only from this time, in seconds since 1970. Zero: no bound.
    pub not_before: u64,
    /// The version counts only until this time, in seconds since 1970. Zero: no bound.
    pub expires: u64,
    /// BLAKE3 of the envelope of the previous version, if any.
    pub parent: Option<BlobId>,
    /// Extensions this version does not know.
    pub unknown: Unknown,
}

/// Why a policy manifest is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyManifestError {
    /// The text is not a policy name.
    #[error("{found:?} is not a policy name: 1 to {POLICY_NAME_BYTES_MAX} of a-z, 0-9 and inner hyphens")]
    Name {
        /// The text, cut at 80 characters.
        found: String,
    },
    /// The envelope or a signature is wrong.
    #[error("the policy manifest's envelope does not verify")]
    Signed(#[from] SignedError),
    /// The payload is malformed.
    #[error("the policy manifest is malformed")]
    Cbor(#[from] CborError),
    /// The manifest names one owner, but another signed it.
    #[error("the policy manifest names owner {named} but {signed} signed it")]
    Owner {
        /// The owner named in the manifest.
        named: OwnerId,
        /// The owner who signed.
        signed: OwnerId,
    },
}

impl PolicyManifest {
    /// Signs the manifest and returns its envelope.
    #[must_use]
    pub fn sign(&self, keys: &OwnerKeys) -> Vec<u8> {
        Signed::seal(keys, signed::Domain::Policy, &self.encode())
    }

    /// Verifies an envelope and returns the manifest in it.
    ///
    /// # Errors
    /// [`PolicyManifestError`].
    pub fn open(envelope: &[u8]) -> Result<Self, PolicyManifestError> {
        let signed = Signed::open(envelope, signed::Domain::Policy, POLICY_MANIFEST_BYTES_MAX)?;
        let manifest = Self::decode(&signed.payload)?;
        if manifest.owner == signed.owner {
            Ok(manifest)
        } else {
            Err(PolicyManifestError::Owner { named: manifest.owner, signed: signed.owner })
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut to = FieldsWriter::default()
            .bytes(key::OWNER, &self.owner.0)
            .text(key::NAME, self.name.as_str())
            .uint(key::SEQUENCE, self.sequence)
            .uint(key::NOT_BEFORE, self.not_before)
            .uint(key::EXPIRES, self.expires)
            .item(key::LINKS, |to| {
                to.array(self.links.len() as u64)?;
                for link in &self.links {
                    to.array(4)?.bytes(&link.component.0)?.u32(link.component_bytes)?;
                    to.bytes(&link.config.0)?.u32(link.config_bytes)?;
                }
                Ok(())
            })
            .unknown(&self.unknown);
        if let Some(parent) = self.parent {
            to = to.bytes(key::PARENT, &parent.0);
        }
        to.finish()
    }

    fn decode(payload: &[u8]) -> Result<Self, CborError> {
        let mut fields = Fields::read(payload, POLICY_MANIFEST_BYTES_MAX)?;
        let name = fields.text(key::NAME, POLICY_NAME_BYTES_MAX)?;
        let links = fields.take(key::LINKS).ok_or(CborError::Missing { key: key::LINKS })?;
        let parent = match fields.take(key::PARENT) {
            None => None,
            Some(item) => Some(
                read_id(&mut Decoder::new(item)).ok_or(CborError::Value { key: key::PARENT, expected: "32 bytes" })?,
            ),
        };
        Ok(Self {
            owner: OwnerId(fields.array32(key::OWNER)?),
            name: name.parse().map_err(|_| CborError::Value { key: key::NAME, expected: "a policy name" })?,
            sequence: fields.uint(key::SEQUENCE)?,
            links: read_links(links)
                .ok_or(CborError::Value { key: key::LINKS, expected: "one to eight links in bounds" })?,
            not_before: fields.uint(key::NOT_BEFORE)?,
            expires: fields.uint(key::EXPIRES)?,
            parent,
            unknown: fields.unknown(),
        })
    }
}

fn read_id(decoder: &mut Decoder<'_>) -> Option<BlobId> {
    decoder.bytes().ok()?.try_into().ok().map(BlobId)
}

fn read_links(item: &[u8]) -> Option<Vec<PolicyLink>> {
    let mut decoder = Decoder::new(item);
    let count = decoder.array().ok()??;
    if !(1..=POLICY_LINKS_MAX as u64).contains(&count) {
        return None;
    }
    let read = |decoder: &mut Decoder<'_>| {
        decoder.array().ok().flatten().filter(|fields| *fields == 4)?;
        Some(PolicyLink {
            component: read_id(decoder)?,
            component_bytes: decoder.u32().ok().filter(|n| *n as usize <= POLICY_COMPONENT_BYTES_MAX)?,
            config: read_id(decoder)?,
            config_bytes: decoder.u32().ok().filter(|n| *n as usize <= POLICY_CONFIG_BYTES_MAX)?,
        })
    };
    (0..count).map(|_| read(&mut decoder)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OwnerSecret;

    #[test]
    fn a_manifest_survives_its_envelope() {
        let keys = OwnerSecret::from_bytes([1; 32]).keys();
        let link =
            PolicyLink { component: BlobId([1; 32]), component_bytes: 3000, config: BlobId([2; 32]), config_bytes: 70 };
        let manifest = PolicyManifest {
            owner: keys.id(),
            name: "geo".parse().unwrap(),
            sequence: 3,
            links: vec![link; 8],
            not_before: 0,
            expires: 0,
            parent: Some(BlobId([3; 32])),
            unknown: Unknown::default(),
        };
        assert_eq!(PolicyManifest::open(&manifest.sign(&keys)), Ok(manifest.clone()));
        for links in [vec![], vec![link; 9], vec![PolicyLink { config_bytes: 1 << 20, ..link }]] {
            let bad = PolicyManifest { links, ..manifest.clone() };
            assert!(PolicyManifest::open(&bad.sign(&keys)).is_err());
        }
        assert!("-x".parse::<PolicyName>().is_err() && "".parse::<PolicyName>().is_err());
    }
}
