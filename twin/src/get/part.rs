//! The private folder beside a place, in which a file or tree waits until it is complete, and the files in it.
//!
//! A file of more than 4 MiB stays when its fetch ends early, and the next fetch goes on after its last byte. It counts
//! only once all its bytes have the hash of the object: what a crash tore is fetched anew.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use format::Locator;
use rustix::{
    fs::{FallocateFlags, OFlags},
    io::Errno,
};

/// Bytes of the name that a private folder shows.
const NAME_BYTES_SHOWN: usize = 100;
/// A file of at most so many bytes does not stay: it is fetched again sooner than anybody looks for it.
pub(super) const KEPT_BYTES_MIN: u64 = 4 << 20;

/// Returns the private folder in which a file or tree waits until it is complete.
#[must_use]
pub fn part_of(path: &Path, locator: &Locator) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = &name[..name.floor_char_boundary(NAME_BYTES_SHOWN)];
    path.with_file_name(format!(".{name}.{}.part", &locator.to_string()[..16]))
}

/// A private folder, locked. Dropped, it is removed if nothing is in it.
pub(super) struct Part {
    pub(super) path: PathBuf,
    pub(super) lock: File,
}

impl Part {
    /// Makes the private folder of a place, or takes the one that an interrupted fetch left, and locks it.
    pub(super) fn claim(path: PathBuf) -> io::Result<Self> {
        let is_new = match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(error),
        };
        let lock = open_with(OpenOptions::new().read(true), &path, OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
        let metadata = lock.metadata()?;
        if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
            let why = match is_new {
                true => "others may write to each folder of this file system: mount it for yourself (uid=, umask=022)",
                false => "it is there, and others may write to it: remove it",
            };
            if is_new {
                let _ = std::fs::remove_dir(&path);
            }
            return Err(io::Error::other(why));
        }
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, lock }),
            Err(TryLockError::WouldBlock) => {
                Err(io::Error::new(io::ErrorKind::ResourceBusy, "another program is fetching into it"))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // What is in it is for the next fetch.
        let _ = std::fs::remove_dir(&self.path);
    }
}

/// A file under its temporary path. Dropped before it became what it was made for, it is removed, or waits for the next
/// fetch.
pub(super) struct Temporary {
    path: Option<PathBuf>,
    stays: bool,
}

impl Temporary {
    /// A file that is removed.
    pub(super) fn passing(path: PathBuf) -> Self {
        Self { path: Some(path), stays: false }
    }

    /// A file that stays if it is long enough.
    pub(super) fn of_length(path: PathBuf, length: u64) -> Self {
        Self { path: Some(path), stays: length > KEPT_BYTES_MIN }
    }

    /// Opens the file with the first bytes of `length` that an earlier fetch left of it, or makes it. Takes the time
    /// that hashing these bytes takes.
    pub(super) fn begin(&self, length: u64) -> io::Result<Begun> {
        let path = self.path.as_deref().expect("it has not become anything yet");
        // What is there is of an earlier fetch, which the lock of the folder keeps out.
        if !self.stays || !path.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
            let _ = std::fs::remove_file(path);
        }
        let mut options = OpenOptions::new();
        let file = open_with(options.read(true).write(true).create(true), path, OFlags::NOFOLLOW)?;
        let mut kept = file.metadata()?.len();
        if kept > length {
            file.set_len(0)?;
            kept = 0;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader((&file).take(kept))?;
        if self.stays {
            check_room(&file, kept, length)?;
        }
        Ok(Begun { file, kept, hasher })
    }

    /// Gives up what came: it is not of the object, or may not be on the disk.
    pub(super) fn leave(&mut self) {
        self.stays = false;
    }

    pub(super) fn becomes(mut self, target: &Path) -> io::Result<()> {
        let renamed = self.path.as_ref().map_or(Ok(()), |path| std::fs::rename(path, target));
        self.path.take_if(|_| renamed.is_ok());
        renamed
    }

    /// What was in its place is there now.
    pub(super) fn replace(mut self) {
        self.path = None;
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let Some(path) = self.path.take() else { return };
        if !self.stays || path.symlink_metadata().is_ok_and(|metadata| metadata.len() == 0) {
            // Without it the file only takes room.
            let _ = std::fs::remove_file(&path);
        }
    }
}

/// A file on its way.
pub(super) struct Begun {
    /// It stands after its last byte.
    pub(super) file: File,
    /// Bytes that an earlier fetch left.
    pub(super) kept: u64,
    /// Has taken them in.
    pub(super) hasher: blake3::Hasher,
}

/// Takes the room of the whole file and gives it back, so that a disk that is too full, or takes no file so long, is
/// told before hours of fetching, and is not filled in vain.
fn check_room(file: &File, kept: u64, length: u64) -> io::Result<()> {
    let taken = rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, kept, length - kept);
    file.set_len(kept)?;
    match taken {
        Err(error @ (Errno::NOSPC | Errno::FBIG | Errno::DQUOT)) => Err(error.into()),
        // Not every file system can, and none can where nothing is left to take.
        _ => Ok(()),
    }
}

fn open_with(options: &mut OpenOptions, path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = i32::try_from(flags.bits()).expect("the flags of open(2) are an int");
    options.custom_flags(flags).open(path)
}
