//! What opens an owner's key file: a passphrase (through Argon2id) or a second file of 32 random bytes.

use std::{fmt, path::Path};

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

/// Shortest passphrase accepted for a new lock, in bytes. Argon2id slows guessing down; it does not protect a
/// passphrase that is a dictionary word.
pub const PASSPHRASE_BYTES_MIN: usize = 8;
/// Bytes of a key file.
pub const KEY_FILE_BYTES: usize = 32;
const KEY_FILE_CONTEXT: &str = "evernear 2026 v1 owner key file lock";
/// Salt of a lock, in bytes. Fresh for every write, so that a derived key seals exactly once.
pub(crate) const SALT_BYTES: usize = 32;

/// What opens an owner's key file. Wiped from memory on drop, never printed.
pub enum Unlock {
    /// A passphrase.
    Passphrase(Zeroizing<String>),
    /// The bytes of a key file.
    KeyFile(Zeroizing<[u8; KEY_FILE_BYTES]>),
}

/// Which of the two opens an owner's key file. Stored unencrypted, so that a program knows what to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// A passphrase.
    Passphrase,
    /// A key file.
    KeyFile,
}

/// What one guess of a passphrase costs (RFC 9106). Stored with the lock, so that new locks can cost more as machines
/// get faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

/// Why something cannot be used as a lock. The owner must correct it.
#[derive(Debug, thiserror::Error)]
pub enum UnlockError {
    /// A new passphrase that is too short.
    #[error("a passphrase has at least {PASSPHRASE_BYTES_MIN} bytes; take a few unrelated words")]
    Short,
    /// The key file does not have the length of one.
    #[error("a key file has exactly {KEY_FILE_BYTES} bytes, this one has {found}")]
    KeyFileLength {
        /// Bytes found.
        found: u64,
    },
    /// The cost is above what this program accepts: it would fill the memory or take minutes.
    #[error("the Argon2id cost of {memory_kib} KiB, {passes} passes, {lanes} lanes is out of bounds")]
    Cost {
        /// Memory in KiB.
        memory_kib: u32,
        /// Passes.
        passes: u32,
        /// Lanes.
        lanes: u32,
    },
    /// The key file cannot be read or made.
    #[error("the key file cannot be read or made")]
    Io(#[from] std::io::Error),
    /// The system has no randomness.
    #[error("the system gives no random bytes")]
    Random(#[from] getrandom::Error),
}

impl Cost {
    /// The second recommended option of RFC 9106 section 4: 64 MiB, 3 passes, 4 lanes; some tenths of a second.
    pub const RECOMMENDED: Self = Self { memory_kib: 64 * 1024, passes: 3, lanes: 4 };
    /// The least Argon2id takes. For tests, where a passphrase protects nothing.
    pub const LEAST: Self = Self { memory_kib: 8, passes: 1, lanes: 1 };

    /// Refuses a cost over 1 GiB, 64 passes or 16 lanes, which a damaged or hostile file could ask of this machine.
    pub(crate) fn check(self) -> Result<Params, UnlockError> {
        let Self { memory_kib, passes, lanes } = self;
        let bounded = memory_kib <= 1024 * 1024 && passes <= 64 && lanes <= 16;
        let params = Params::new(memory_kib, passes, lanes, Some(32)).ok().filter(|_| bounded);
        params.ok_or(UnlockError::Cost { memory_kib, passes, lanes })
    }
}

impl Unlock {
    /// Takes a passphrase as it was typed. Its length is checked only when a new lock is made.
    #[must_use]
    pub fn passphrase(passphrase: String) -> Self {
        Self::Passphrase(Zeroizing::new(passphrase))
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// [`UnlockError::Io`] and [`UnlockError::KeyFileLength`].
    pub fn read_key_file(path: &Path) -> Result<Self, UnlockError> {
        let found = std::fs::metadata(path)?.len();
        if found != KEY_FILE_BYTES as u64 {
            return Err(UnlockError::KeyFileLength { found });
        }
        let bytes = Zeroizing::new(std::fs::read(path)?);
        let key = <[u8; KEY_FILE_BYTES]>::try_from(&bytes[..])
            .map_err(|_| UnlockError::KeyFileLength { found: bytes.len() as u64 })?;
        Ok(Self::KeyFile(Zeroizing::new(key)))
    }

    /// Makes a new key file of fresh random bytes (mode 0600); refuses to replace one.
    ///
    /// # Errors
    /// [`UnlockError::Io`] and [`UnlockError::Random`].
    pub fn create_key_file(path: &Path) -> Result<Self, UnlockError> {
        let mut key = Zeroizing::new([0; KEY_FILE_BYTES]);
        getrandom::fill(&mut *key)?;
        crate::durable::create(path, &*key)?;
        Ok(Self::KeyFile(key))
    }

    /// Returns which kind of lock this opens.
    #[must_use]
    pub fn kind(&self) -> LockKind {
        match self {
            Self::Passphrase(_) => LockKind::Passphrase,
            Self::KeyFile(_) => LockKind::KeyFile,
        }
    }

    /// Refuses what should not lock anything new.
    pub(crate) fn check_new(&self) -> Result<(), UnlockError> {
        match self {
            Self::Passphrase(text) if text.len() < PASSPHRASE_BYTES_MIN => Err(UnlockError::Short),
            _ => Ok(()),
        }
    }

    /// Derives the key that seals the owner secret under this salt.
    pub(crate) fn key(&self, salt: &[u8; SALT_BYTES], cost: Cost) -> Result<Zeroizing<[u8; 32]>, UnlockError> {
        let mut key = Zeroizing::new([0; 32]);
        match self {
            Self::Passphrase(text) => {
                let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, cost.check()?);
                let refused =
                    |_| UnlockError::Cost { memory_kib: cost.memory_kib, passes: cost.passes, lanes: cost.lanes };
                argon2.hash_password_into(text.as_bytes(), salt, &mut *key).map_err(refused)?;
            }
            Self::KeyFile(bytes) => {
                let mut input = Zeroizing::new([0; KEY_FILE_BYTES + SALT_BYTES]);
                input[..KEY_FILE_BYTES].copy_from_slice(&**bytes);
                input[KEY_FILE_BYTES..].copy_from_slice(salt);
                *key = blake3::derive_key(KEY_FILE_CONTEXT, &*input);
            }
        }
        Ok(key)
    }
}

impl fmt::Debug for Unlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unlock({:?})", self.kind())
    }
}
