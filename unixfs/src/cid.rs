//! The name of a block: a CID, of version 0 or 1.
//!
//! Place in the flow: everywhere. Keeps true: a CID has one spelling, as bytes and as text; a digest is as long as its
//! hash makes it. Own code, because the crate `cid` takes several spellings, and for base32 and base58, of which the
//! one is in the tree already, brings nine crates. Source: <https://github.com/multiformats/cid>, and the tables of
//! multicodec.

use std::{fmt, str::FromStr, sync::LazyLock};

use crate::{
    engine,
    limits::{CID_BYTES_MAX, DIGEST_BYTES_MAX},
    varint,
};
use blake2::Digest as _;
use data_encoding::{Encoding, Specification};

const RAW: u64 = 0x55;
const DAG_PB: u64 = 0x70;
const DAG_CBOR: u64 = 0x71;

const IDENTITY: u64 = 0x00;
const SHA2_256: u64 = 0x12;
const BLAKE2B_256: u64 = 0xb220;

/// How a CID of version 0 begins, which is the hash alone: SHA-256, 32 bytes.
const V0: [u8; 2] = [0x12, 0x20];
const V0_BYTES: usize = 34;
/// In base58btc, of which all begin with `Qm`.
const V0_CHARACTERS: usize = 46;
const V1_BASE32: char = 'b';

/// Which version a CID has. Version 0 is dag-pb and SHA-256 alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// `Qm...`.
    V0,
    /// `b...`.
    V1,
}

/// How the bytes of a block are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// As they are.
    Raw,
    /// A node of a file or directory: links and data.
    DagPb,
    /// CBOR whose tag 42 is a link.
    DagCbor,
    /// None that is read here, by its number in the table of multicodec.
    Other(u64),
}

/// The name of a block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cid {
    version: Version,
    codec: u64,
    hash: u64,
    digest_bytes: u8,
    /// Zero behind the digest.
    digest: [u8; DIGEST_BYTES_MAX],
}

/// Why something is not a CID. Who gave it is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidError {
    /// No CID is spelled like this. Other bases than base32 and, for version 0, base58btc are turned away.
    #[error("a CID is `b` with base32 in small letters, or `Qm` with 44 characters of base58")]
    Text,
    /// The bytes are no CID of a known version: cut off, or with a number that is not in its shortest form.
    #[error("the bytes are no CID of version 0 or 1")]
    Bytes,
    /// The digest is not as long as its hash makes it, or over the limit.
    #[error("a digest of {bytes} bytes does not belong to hash {hash:#x}")]
    Digest {
        /// The hash by its number in the table of multicodec.
        hash: u64,
        /// Of the digest.
        bytes: u64,
    },
    /// Something follows the CID.
    #[error("{bytes} bytes follow the CID")]
    Trailing {
        /// How many.
        bytes: usize,
    },
}

/// Why a block does not have the name it is given under. Who made the block, or its list, is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// It is another block.
    #[error("CID hash does not match bytes")]
    Mismatch,
    /// No hash that is known here; nothing can be said of the block.
    #[error("multihash code {hash} is not supported")]
    Hash {
        /// By its number in the table of multicodec.
        hash: u64,
    },
}

impl Cid {
    /// Makes the name of a block of a codec from its SHA-256, of version 1.
    #[must_use]
    pub fn v1(codec: Codec, sha256: [u8; 32]) -> Self {
        Self::sha2(Version::V1, codec, &sha256)
    }

    /// Makes the name of a dag-pb block from its SHA-256, of version 0.
    #[must_use]
    pub fn v0(sha256: [u8; 32]) -> Self {
        Self::sha2(Version::V0, Codec::DagPb, &sha256)
    }

    fn sha2(version: Version, codec: Codec, sha256: &[u8; 32]) -> Self {
        let mut digest = [0; DIGEST_BYTES_MAX];
        digest[..32].copy_from_slice(sha256);
        Self { version, codec: codec.number(), hash: SHA2_256, digest_bytes: 32, digest }
    }

    /// Names a block of a codec, of version 1.
    #[must_use]
    pub fn of(codec: Codec, block: &[u8]) -> Self {
        Self::v1(codec, engine::sha256(block))
    }

    /// Reads a CID that is all of `bytes`.
    ///
    /// # Errors
    /// [`CidError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CidError> {
        let (cid, rest) = Self::decode_front(bytes)?;
        if rest.is_empty() { Ok(cid) } else { Err(CidError::Trailing { bytes: rest.len() }) }
    }

    /// Reads the CID at the front of `bytes`; returns what follows as well.
    ///
    /// # Errors
    /// [`CidError`].
    pub fn decode_front(bytes: &[u8]) -> Result<(Self, &[u8]), CidError> {
        if bytes.starts_with(&V0) {
            let (cid, rest) = bytes.split_at_checked(V0_BYTES).ok_or(CidError::Bytes)?;
            let sha256 = cid[V0.len()..].try_into().map_err(|_| CidError::Bytes)?;
            return Ok((Self::v0(sha256), rest));
        }
        let mut rest = bytes;
        let mut number = || {
            let (number, behind) = varint::decode(rest).map_err(|_| CidError::Bytes)?;
            rest = behind;
            Ok(number)
        };
        let (version, codec, hash, length) = (number()?, number()?, number()?, number()?);
        if version != 1 {
            return Err(CidError::Bytes);
        }
        let is_possible = match hash {
            SHA2_256 | BLAKE2B_256 => length == 32,
            _ => length <= DIGEST_BYTES_MAX as u64,
        };
        let digest_bytes = u8::try_from(length).ok().filter(|_| is_possible);
        let digest_bytes = digest_bytes.ok_or(CidError::Digest { hash, bytes: length })?;
        let (taken, rest) = rest.split_at_checked(usize::from(digest_bytes)).ok_or(CidError::Bytes)?;
        let mut digest = [0; DIGEST_BYTES_MAX];
        digest[..taken.len()].copy_from_slice(taken);
        Ok((Self { version: Version::V1, codec, hash, digest_bytes, digest }, rest))
    }

    /// Returns the bytes of the CID, as they stand in nodes and CARs.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(V0_BYTES + 2);
        if self.version == Version::V1 {
            out.push(1);
            varint::put(&mut out, self.codec);
        }
        out.extend_from_slice(&self.multihash());
        out
    }

    /// Returns how many bytes [`Self::to_bytes`] has.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let codec = if self.version == Version::V1 { 1 + varint::length(self.codec) } else { 0 };
        codec + varint::length(self.hash) + 1 + usize::from(self.digest_bytes)
    }

    /// Returns the codec of the block.
    #[must_use]
    pub fn codec(&self) -> Codec {
        Codec::from(self.codec)
    }

    /// Returns the version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the same name in version 1: by it, blocks are the same or not.
    #[must_use]
    pub fn to_v1(&self) -> Self {
        Self { version: Version::V1, ..*self }
    }

    /// Returns the SHA-256 of the block, when that is its hash.
    #[must_use]
    pub fn sha256(&self) -> Option<[u8; 32]> {
        if self.hash == SHA2_256 { self.digest().try_into().ok() } else { None }
    }

    /// Returns the multihash, under which a block is the same whatever it is read as.
    #[must_use]
    pub fn multihash(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(V0_BYTES);
        varint::put(&mut out, self.hash);
        out.push(self.digest_bytes);
        out.extend_from_slice(self.digest());
        out
    }

    /// Returns the block, when it stands in its name: the hash is `identity`.
    #[must_use]
    pub fn inline(&self) -> Option<&[u8]> {
        (self.hash == IDENTITY).then(|| self.digest())
    }

    /// Checks that a block has this name.
    ///
    /// # Errors
    /// [`VerifyError::Mismatch`], or [`VerifyError::Hash`] when it cannot be checked.
    pub fn verify(&self, block: &[u8]) -> Result<(), VerifyError> {
        let digest = self.digest();
        let is_it = match self.hash {
            IDENTITY => digest == block,
            SHA2_256 => digest == engine::sha256(block),
            BLAKE2B_256 => digest == blake2::Blake2b::<blake2::digest::consts::U32>::digest(block).as_slice(),
            hash => return Err(VerifyError::Hash { hash }),
        };
        if is_it { Ok(()) } else { Err(VerifyError::Mismatch) }
    }

    fn digest(&self) -> &[u8] {
        &self.digest[..usize::from(self.digest_bytes)]
    }
}

const _: () = assert!(DIGEST_BYTES_MAX < 0x80, "the length of a digest is one byte");

/// Base32 in small letters, without `=` at its end: no other bits behind the last byte than zeros.
static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut base32 = Specification::new();
    base32.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    base32.encoding().expect("32 different symbols")
});

impl FromStr for Cid {
    type Err = CidError;

    fn from_str(text: &str) -> Result<Self, CidError> {
        let (version, bytes) = match text.strip_prefix(V1_BASE32) {
            Some(text) if text.len() <= CID_BYTES_MAX.div_ceil(5) * 8 => {
                (Version::V1, BASE32.decode(text.as_bytes()).ok())
            }
            None if text.len() == V0_CHARACTERS => (Version::V0, bs58::decode(text).into_vec().ok()),
            _ => return Err(CidError::Text),
        };
        let cid = Self::decode(&bytes.ok_or(CidError::Text)?)?;
        if cid.version == version { Ok(cid) } else { Err(CidError::Text) }
    }
}

impl fmt::Display for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Version::V0 => f.write_str(&bs58::encode(self.to_bytes()).into_string()),
            Version::V1 => write!(f, "{V1_BASE32}{}", BASE32.encode_display(&self.to_bytes())),
        }
    }
}

impl fmt::Debug for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cid({self})")
    }
}

impl Codec {
    /// Returns its number in the table of multicodec.
    #[must_use]
    pub fn number(self) -> u64 {
        match self {
            Self::Raw => RAW,
            Self::DagPb => DAG_PB,
            Self::DagCbor => DAG_CBOR,
            Self::Other(number) => number,
        }
    }
}

impl From<u64> for Codec {
    fn from(number: u64) -> Self {
        match number {
            RAW => Self::Raw,
            DAG_PB => Self::DagPb,
            DAG_CBOR => Self::DagCbor,
            other => Self::Other(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY_FILE: &str = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku";
    const EMPTY_DIRECTORY: &str = "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn";

    #[test]
    fn known_blocks_have_their_known_names() {
        assert_eq!(Cid::of(Codec::Raw, b"").to_string(), EMPTY_FILE);
        let directory: Cid = EMPTY_DIRECTORY.parse().unwrap();
        assert_eq!(directory.verify(b"\x0a\x02\x08\x01"), Ok(()));
        assert_eq!(directory.verify(b"\x0a\x02\x08\x02"), Err(VerifyError::Mismatch));
        let v1 = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354";
        assert_eq!(directory.to_v1().to_string(), v1);
        assert_eq!(directory.bytes(), 34);
        assert_eq!(directory.to_v1().bytes(), 36);
    }

    #[test]
    fn a_cid_has_one_spelling() {
        for text in [EMPTY_FILE, EMPTY_DIRECTORY] {
            let cid: Cid = text.parse().unwrap();
            assert_eq!(cid.to_string(), text);
            assert_eq!(Cid::decode(&cid.to_bytes()), Ok(cid));
        }
        let mut others = vec![
            String::new(),
            "b".into(),
            "Qm".into(),
            format!("/ipfs/{EMPTY_FILE}"),
            format!("{EMPTY_FILE} "),
            EMPTY_FILE.to_uppercase(),
            format!("b{}", EMPTY_FILE[1..].to_uppercase()),
            format!("{EMPTY_FILE}a"),
            "b".repeat(100_000),
            // The same in base58 and in base36, which are other spellings.
            "zb2rhmy65F3REf8SZp7De11gxtECBGgUKaLdiDj7MCGCHxbDW".into(),
        ];
        // The last character of 59 has bits to spare.
        others.push(format!("{}v", &EMPTY_FILE[..58]));
        for text in others {
            assert!(text.parse::<Cid>().is_err(), "{text:.80}");
        }
    }

    #[test]
    fn a_digest_is_as_long_as_its_hash() {
        let bytes = [&[1, 0x55, 0x12, 31][..], &[7; 31]].concat();
        assert_eq!(Cid::decode(&bytes), Err(CidError::Digest { hash: SHA2_256, bytes: 31 }));
        let long = [&[1, 0x55, 0, 65][..], &[7; 65]].concat();
        assert_eq!(Cid::decode(&long), Err(CidError::Digest { hash: 0, bytes: 65 }));
        let whole = [&[1, 0x55, 0x12, 32][..], &[7; 33]].concat();
        assert_eq!(Cid::decode(&whole), Err(CidError::Trailing { bytes: 1 }));
        assert_eq!(Cid::decode_front(&whole).unwrap().1, [7]);
        for cut in 0..whole.len() - 1 {
            assert!(Cid::decode(&whole[..cut]).is_err(), "{cut}");
        }
        // A codec in two bytes that one would do for.
        assert!(Cid::decode(&[&[1, 0xd5, 0x00, 0x12, 32][..], &[7; 32]].concat()).is_err());
        // An explicit version 0, and one to come.
        for version in [0, 2, 3] {
            assert!(Cid::decode(&[&[version, 0x70, 0x12, 32][..], &[7; 32]].concat()).is_err(), "{version}");
        }
    }

    #[test]
    fn blocks_are_checked_by_three_hashes_and_no_other() {
        let inline = Cid::decode(&[1, 0x55, 0, 2, 7, 8]).unwrap();
        assert_eq!(inline.inline(), Some(&[7, 8][..]));
        assert_eq!(inline.verify(&[7, 8]), Ok(()));
        assert_eq!(inline.verify(&[7]), Err(VerifyError::Mismatch));
        let hash = data_encoding::HEXLOWER
            .decode(b"bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319")
            .unwrap();
        let blake2b = Cid::decode(&[&[1, 0x55, 0xa0, 0xe4, 0x02, 32][..], &hash].concat()).unwrap();
        assert_eq!(blake2b.verify(b"abc"), Ok(()));
        assert_eq!(blake2b.verify(b"abd"), Err(VerifyError::Mismatch));
        let sha1 = Cid::decode(&[&[1, 0x55, 0x11, 20][..], &[7; 20]].concat()).unwrap();
        assert_eq!(sha1.verify(b"abc").unwrap_err().to_string(), "multihash code 17 is not supported");
    }
}
