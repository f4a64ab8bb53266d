//! The owner secret at rest: one small file, sealed by a passphrase or a key file.
//!
//! ```text
//! at  bytes  owner key file, version 1 (integers little endian)
//!   0     8  magic "evernear"
//!   8     1  what the file is: 1 = owner key
//!   9     1  version: 1
//!  10     1  lock: 1 = passphrase through Argon2id, 2 = key file
//!  11     1  zero
//!  12     4  Argon2id memory in KiB      (zero under a key file)
//!  16     4  Argon2id passes             (zero under a key file)
//!  20     4  Argon2id lanes              (zero under a key file)
//!  24    32  owner id, in clear: it is public
//!  56    32  salt
//!  88    48  owner secret, sealed with ChaCha20-Poly1305 (nonce zero, AAD = bytes 0 to 87)
//! 136     8  check: first bytes of BLAKE3 of bytes 0 to 135
//! ```
//!
//! Every write draws a fresh salt and so derives a key that seals once only; hence the nonce may be zero. The check is
//! a checksum and no protection, as anybody can compute it: it distinguishes a damaged file from a wrong passphrase.

use std::{
    io,
    path::{Path, PathBuf},
};

use format::{OwnerId, OwnerSecret, Suite, hazmat::Sealer};
use zeroize::Zeroizing;

use crate::{
    durable,
    unlock::{Cost, LockKind, SALT_BYTES, Unlock, UnlockError},
};

const MAGIC: &[u8; 8] = b"evernear";
const FILE_OWNER_KEY: u8 = 1;
const VERSION: u8 = 1;
const LOCK_PASSPHRASE: u8 = 1;
const LOCK_KEY_FILE: u8 = 2;

const COST_AT: usize = 12;
const OWNER_AT: usize = COST_AT + 12;
const SALT_AT: usize = OWNER_AT + 32;
const SEALED_AT: usize = SALT_AT + SALT_BYTES;
const CHECK_AT: usize = SEALED_AT + 32 + format::limits::TAG_BYTES;
const FILE_BYTES: usize = CHECK_AT + 8;
const _: () = assert!(FILE_BYTES == 144);

/// The file that holds an owner's secret.
#[derive(Debug, Clone)]
pub struct OwnerStore {
    path: PathBuf,
}

/// The part of the file that is not encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnerCard {
    /// The owner.
    pub owner: OwnerId,
    /// What opens the file.
    pub lock: LockKind,
}

/// Why an owner's key file cannot be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// There is no file.
    #[error("there is no owner key at {}", path.display())]
    Absent {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A file exists already. An owner key is never replaced by a new owner's.
    #[error("there is an owner key at {} already; it is never replaced", path.display())]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// The disk returns an error.
    #[error("the owner key at {} cannot be read or written", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file was changed, cut short, or is not an owner key.
    #[error("the owner key at {} is damaged ({what}); restore it from a copy", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// The file is of a later version.
    #[error("the owner key at {} is of version {version}, which this program is too old for", path.display())]
    Version {
        /// Which file.
        path: PathBuf,
        /// Its version.
        version: u8,
    },
    /// A passphrase where a key file is needed, or the other way round.
    #[error("this owner key is opened by {}", match expected { LockKind::Passphrase => "a passphrase, not a key file", LockKind::KeyFile => "a key file, not a passphrase" })]
    LockKind {
        /// What opens it.
        expected: LockKind,
    },
    /// The passphrase or the key file is the wrong one.
    #[error("{} does not open this owner key", match lock { LockKind::Passphrase => "this passphrase", LockKind::KeyFile => "this key file" })]
    Wrong {
        /// What was tried.
        lock: LockKind,
    },
    /// The passphrase, key file or cost cannot be used.
    #[error("the owner key cannot be locked or unlocked this way")]
    Unlock(#[from] UnlockError),
}

impl OwnerStore {
    /// Names the file. Does not touch the disk.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Draws a new owner secret and writes it, sealed. Computes one Argon2id, some tenths of a second: run it outside
    /// of the async reactor.
    ///
    /// # Errors
    /// [`OwnerError`]; a file that exists already stays as it is.
    pub fn create(&self, lock: &Unlock, cost: Cost) -> Result<OwnerSecret, OwnerError> {
        if self.path.exists() {
            return Err(OwnerError::Exists { path: self.path.clone() });
        }
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *bytes).map_err(UnlockError::from)?;
        let secret = OwnerSecret::from_bytes(*bytes);
        let file = seal(&secret, lock, cost)?;
        if let Some(folder) = self.path.parent() {
            durable::private_folder(folder).map_err(|source| self.io(source))?;
        }
        durable::create(&self.path, &file).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => OwnerError::Exists { path: self.path.clone() },
            _ => self.io(source),
        })?;
        Ok(secret)
    }

    /// Reads the unencrypted part of the file. Only [`Self::open`] proves the id.
    ///
    /// # Errors
    /// [`OwnerError`] when the file is absent or damaged.
    pub fn card(&self) -> Result<OwnerCard, OwnerError> {
        let file = self.read()?;
        Ok(OwnerCard { owner: OwnerId(part(&file, OWNER_AT)), lock: self.lock_kind(&file)? })
    }

    /// Opens the secret. Computes one Argon2id, some tenths of a second: run it outside of the async reactor.
    ///
    /// # Errors
    /// [`OwnerError::Wrong`] for a wrong passphrase or key file; others when the file is absent or damaged.
    pub fn open(&self, unlock: &Unlock) -> Result<OwnerSecret, OwnerError> {
        let file = self.read()?;
        let lock = self.lock_kind(&file)?;
        if lock != unlock.kind() {
            return Err(OwnerError::LockKind { expected: lock });
        }
        let number = |at| u32::from_le_bytes(part(&file, at));
        let cost = Cost { memory_kib: number(COST_AT), passes: number(COST_AT + 4), lanes: number(COST_AT + 8) };
        let key = unlock.key(&part(&file, SALT_AT), cost)?;
        let mut secret = Zeroizing::new([0; 32]);
        let sealer = Sealer::new(Suite::ChaCha20Poly1305, &key);
        let opened = sealer.open([0; 12], &file[..SEALED_AT], &file[SEALED_AT..CHECK_AT], &mut *secret);
        opened.map_err(|_| OwnerError::Wrong { lock })?;
        Ok(OwnerSecret::from_bytes(*secret))
    }

    /// Seals the same secret with another lock, atomically: after a crash the file opens with `old` or with `new`.
    ///
    /// # Errors
    /// [`OwnerError`]; the file is then as it was.
    pub fn relock(&self, old: &Unlock, new: &Unlock, cost: Cost) -> Result<(), OwnerError> {
        let file = seal(&self.open(old)?, new, cost)?;
        durable::replace(&self.path, &file).map_err(|source| self.io(source))
    }

    fn read(&self) -> Result<[u8; FILE_BYTES], OwnerError> {
        let bytes = std::fs::read(&self.path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => OwnerError::Absent { path: self.path.clone() },
            _ => self.io(source),
        })?;
        if !bytes.starts_with(MAGIC) || bytes.get(8) != Some(&FILE_OWNER_KEY) {
            return Err(self.damaged("it does not begin as one"));
        }
        let file: [u8; FILE_BYTES] = bytes.try_into().map_err(|_| self.damaged("its length is wrong"))?;
        if file[CHECK_AT..] != check(&file[..CHECK_AT]) {
            return Err(self.damaged("its check does not match"));
        }
        match file[9] {
            VERSION => Ok(file),
            version => Err(OwnerError::Version { path: self.path.clone(), version }),
        }
    }

    fn lock_kind(&self, file: &[u8; FILE_BYTES]) -> Result<LockKind, OwnerError> {
        match file[10] {
            LOCK_PASSPHRASE => Ok(LockKind::Passphrase),
            LOCK_KEY_FILE => Ok(LockKind::KeyFile),
            _ => Err(self.damaged("its lock is unknown")),
        }
    }

    fn io(&self, source: io::Error) -> OwnerError {
        OwnerError::Io { path: self.path.clone(), source }
    }

    fn damaged(&self, what: &'static str) -> OwnerError {
        OwnerError::Damaged { path: self.path.clone(), what }
    }
}

fn seal(secret: &OwnerSecret, lock: &Unlock, cost: Cost) -> Result<[u8; FILE_BYTES], OwnerError> {
    lock.check_new()?;
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(UnlockError::from)?;
    let key = lock.key(&salt, cost)?;
    let mut file = [0; FILE_BYTES];
    file[..8].copy_from_slice(MAGIC);
    file[8..10].copy_from_slice(&[FILE_OWNER_KEY, VERSION]);
    file[10] = match lock.kind() {
        LockKind::Passphrase => LOCK_PASSPHRASE,
        LockKind::KeyFile => LOCK_KEY_FILE,
    };
    if lock.kind() == LockKind::Passphrase {
        for (at, number) in [cost.memory_kib, cost.passes, cost.lanes].into_iter().enumerate() {
            file[COST_AT + 4 * at..][..4].copy_from_slice(&number.to_le_bytes());
        }
    }
    file[OWNER_AT..SALT_AT].copy_from_slice(secret.keys().id().as_bytes());
    file[SALT_AT..SEALED_AT].copy_from_slice(&salt);
    let (clear, rest) = file.split_at_mut(SEALED_AT);
    let (text, rest) = rest.split_at_mut(32);
    text.copy_from_slice(secret.expose());
    let tag = Sealer::new(Suite::ChaCha20Poly1305, &key).seal([0; 12], clear, text);
    rest[..tag.len()].copy_from_slice(&tag);
    let check = check(&file[..CHECK_AT]);
    file[CHECK_AT..].copy_from_slice(&check);
    Ok(file)
}

fn check(bytes: &[u8]) -> [u8; 8] {
    part(blake3::hash(bytes).as_bytes(), 0)
}

/// Copies a field of fixed width.
fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a slice of N bytes has N bytes")
}
