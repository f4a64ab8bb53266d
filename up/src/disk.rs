//! A disk as it is found: whether it is there, whose it is, and whether it is new.
//!
//! A mark on it says whose it is. Without the mark it is new, where its owner named it; or it is in the place of a
//! lost one, where its folder is empty and on the same file system. Elsewhere the disk is not mounted and the folder
//! is one of the disk below, which is not to be filled; or somebody's other disk is there, which is not ours to fill.
//! Then its owner says what it is.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::mpsc,
    time::{Duration, Instant},
};

use origin::config::mount_point;
use serde::{Deserialize, Serialize};

use crate::settings::Disk;

/// All that the network has on a disk lies in this folder.
const FOLDER: &str = "evernear";
const MARK: &str = "disk.toml";
/// What may lie in an empty folder: what file systems make themselves, and what is left of ours.
const EMPTY: [&str; 2] = ["lost+found", FOLDER];
/// A disk that takes longer to say whose it is does not answer.
pub(crate) const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// Largest mark, in bytes.
const MARK_BYTES_MAX: usize = 64 * 1024;

/// The mark on a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mark {
    /// The network that the disk belongs to.
    pub(crate) network: String,
    /// Its name there.
    pub(crate) disk: String,
}

/// How a disk is found.
#[derive(Debug)]
pub(crate) enum Look {
    /// It is there, with what it had.
    Ready,
    /// It is there and has nothing of this network.
    Blank,
    /// It is not there.
    Gone(Gone),
}

/// Why a disk is left out.
#[derive(Debug)]
pub enum Gone {
    /// Its folder is not there.
    Absent,
    /// Its folder is there, and what lay in it is not.
    Emptied,
    /// Its folder is there, and the file system that lay on it is not.
    NotMounted {
        /// Where that was mounted.
        point: PathBuf,
    },
    /// Another file system is mounted over the folder that it was.
    Covered {
        /// Where.
        point: PathBuf,
    },
    /// Its folder has other things, and not what lay there.
    Occupied {
        /// One of them.
        found: String,
    },
    /// Another network's disk is in its place.
    Foreign,
    /// Another disk of this network is in its place.
    Other {
        /// Its name.
        disk: String,
    },
    /// It does not do what it is asked.
    Faulty {
        /// The cause.
        source: io::Error,
    },
    /// Its origins are not done with starting.
    Starting,
    /// It does not answer.
    Silent,
    /// An fsync failed on it.
    Failed,
    /// An origin does not start on it.
    Refused {
        /// Why.
        why: String,
    },
}

impl fmt::Display for Gone {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => to.write_str("its folder is not there"),
            Self::Emptied => to.write_str("what lay in its folder is not there any more"),
            Self::NotMounted { point } => write!(to, "nothing is mounted on {}", point.display()),
            Self::Covered { point } => write!(
                to,
                "another file system is mounted on {} and hides what lay there; unmount it, or, if the disk is lost, start once with --replace \
                 and this folder",
                point.display()
            ),
            Self::Occupied { found } => write!(
                to,
                "what lay in its folder is not there, and {found:?} is; put the disk back, or, if it is lost, start once with --replace and \
                 this folder"
            ),
            Self::Foreign => to.write_str("it has the data of another network; put each disk where it was"),
            Self::Other { disk } => write!(to, "it is {disk} of this network; put each disk where it was"),
            Self::Faulty { source } => write!(to, "it cannot be used: {source}"),
            Self::Starting => to.write_str("its origins are still starting; it is taken in once they run"),
            Self::Silent => to.write_str("it does not answer"),
            Self::Failed => {
                to.write_str("an fsync failed; replace the disk, or start `evernear up` again to try it once more")
            }
            Self::Refused { why } => write!(to, "an origin does not start on it: {why}"),
        }
    }
}

/// Returns where the copy of the settings lies on a disk.
pub(crate) fn settings_on(disk: &Path) -> PathBuf {
    disk.join(FOLDER).join("up.toml")
}

impl Disk {
    /// Returns the folder of one of its origins.
    pub(crate) fn data_dir(&self, origin: &str) -> PathBuf {
        self.path.join(FOLDER).join(origin)
    }

    /// Looks at the disk. Blocks on it.
    pub(crate) fn look(&self, network: &str) -> Look {
        match read_mark(&self.path) {
            Err(source) => Look::Gone(Gone::Faulty { source }),
            Ok(Some(mark)) if mark.network != network => Look::Gone(Gone::Foreign),
            Ok(Some(mark)) if mark.disk != self.name => Look::Gone(Gone::Other { disk: mark.disk }),
            Ok(Some(_)) => Look::Ready,
            Ok(None) if !self.path.is_dir() => Look::Gone(Gone::Absent),
            Ok(None) => match mount_point(&self.path) {
                Some(point) if point == self.mount => self.look_at_unmarked(),
                Some(point) if point.starts_with(&self.mount) => Look::Gone(Gone::Covered { point }),
                Some(_) => Look::Gone(Gone::NotMounted { point: self.mount.clone() }),
                None => self.look_at_unmarked(),
            },
        }
    }

    fn look_at_unmarked(&self) -> Look {
        if self.is_new {
            return Look::Blank;
        }
        match foreign_entry(&self.path) {
            Ok(None) => Look::Blank,
            Ok(Some(found)) => Look::Gone(Gone::Occupied { found }),
            Err(source) => Look::Gone(Gone::Faulty { source }),
        }
    }

    /// Marks a blank disk as this one, durably. Blocks on it.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn mark(&self, network: &str) -> io::Result<()> {
        let mark = Mark { network: network.to_owned(), disk: self.name.clone() };
        let text = toml::to_string(&mark).map_err(io::Error::other)?;
        let head = "# Whose disk this is. `evernear up` made this folder; without it nothing of the disk is used.\n";
        // A folder above it is never made: where it is missing, the disk is.
        fs::create_dir(self.path.join(FOLDER)).or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Ok(()),
            _ => Err(error),
        })?;
        client::keep(&self.path.join(FOLDER).join(MARK), format!("{head}{text}").as_bytes())
    }

    /// Returns whether what an origin has open is still what lies under its folder. Blocks on the disk.
    pub(crate) fn has_data_of(&self, origin: &str) -> bool {
        self.holds(origin).unwrap_or(false)
    }

    /// Returns an origin that ran here and is none of this disk's. Blocks on the disk; one that does not tell has none.
    pub(crate) fn unnamed_origin(&self) -> Option<String> {
        let names = fs::read_dir(self.path.join(FOLDER)).ok()?.flatten().map(|entry| entry.file_name());
        let is_ours = |name: &str| self.origins.iter().any(|seat| seat.name.as_str() == name);
        let mut names = names.filter_map(|name| name.into_string().ok());
        names.find(|name| !is_ours(name) && self.has_data_of(name))
    }

    /// Returns whether an origin ever ran here. Blocks on the disk.
    ///
    /// # Errors
    /// What the system says when the disk does not tell.
    pub(crate) fn holds(&self, origin: &str) -> io::Result<bool> {
        self.data_dir(origin).join("lock").try_exists()
    }
}

/// Returns something that lies in a folder and would not in an empty one.
fn foreign_entry(folder: &Path) -> io::Result<Option<String>> {
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !EMPTY.contains(&name.as_str()) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// A call into a disk from a thread of its own, which a disk that hangs keeps until the process ends.
pub(crate) struct Call<T> {
    answer: mpsc::Receiver<T>,
    deadline: Instant,
}

impl<T: Send + 'static> Call<T> {
    pub(crate) fn begin(work: impl FnOnce() -> T + Send + 'static) -> Self {
        let (tell, answer) = mpsc::sync_channel(1);
        std::thread::spawn(move || drop(tell.send(work())));
        Self { answer, deadline: Instant::now() + CALL_DEADLINE }
    }

    /// Waits for the answer; none when it does not come in time. Blocks.
    pub(crate) fn answer(self) -> Option<T> {
        self.answer.recv_timeout(self.deadline.saturating_duration_since(Instant::now())).ok()
    }
}

/// Reads the mark on a disk; none when there is none.
pub(crate) fn read_mark(disk: &Path) -> io::Result<Option<Mark>> {
    let Some(bytes) = client::read_kept(&disk.join(FOLDER).join(MARK), MARK_BYTES_MAX)? else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(io::Error::other)?;
    toml::from_str(&text).map(Some).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_other_things_replaces_no_disk_unless_its_owner_says_so() {
        let home = tempfile::tempdir().unwrap();
        let mount = mount_point(home.path()).unwrap();
        let lost =
            Disk { name: "disk1".into(), path: home.path().to_owned(), mount, is_new: false, origins: Vec::new() };
        for name in EMPTY {
            fs::create_dir(home.path().join(name)).unwrap();
        }
        assert!(matches!(lost.look("n"), Look::Blank), "a new file system, or what a deletion left");
        fs::write(home.path().join("holiday.jpg"), "").unwrap();
        let seen = lost.look("n");
        assert!(matches!(&seen, Look::Gone(Gone::Occupied { found }) if found == "holiday.jpg"), "{seen:?}");
        let named = Disk { is_new: true, ..lost };
        assert!(matches!(named.look("n"), Look::Blank));
    }

    #[test]
    fn a_call_that_hangs_is_not_waited_for_beside_one_that_answers() {
        let (_open, hung) = mpsc::sync_channel::<()>(0);
        let mut call = Call::begin(move || hung.recv());
        call.deadline = Instant::now() + Duration::from_millis(20);
        assert_eq!(Call::begin(|| 7).answer(), Some(7));
        assert_eq!(call.answer(), None);
    }

    #[test]
    fn a_disk_is_known_by_its_mark_and_a_folder_that_is_not_mounted_is_none() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("disk");
        let mount = mount_point(home.path()).unwrap();
        let disk = Disk { name: "disk1".into(), path: path.clone(), mount, is_new: false, origins: Vec::new() };
        assert!(matches!(disk.look("n"), Look::Gone(Gone::Absent)));
        assert_eq!(disk.mark("n").unwrap_err().kind(), io::ErrorKind::NotFound, "it makes no disk");
        fs::create_dir(&path).unwrap();
        assert!(matches!(disk.look("n"), Look::Blank));
        let elsewhere = Disk { mount: "/mnt/elsewhere".into(), ..disk.clone() };
        assert!(matches!(elsewhere.look("n"), Look::Gone(Gone::NotMounted { .. })));
        // It was a folder of the disk below; now a disk is mounted over it.
        let below = Disk { path: "/proc".into(), mount: "/".into(), ..disk.clone() };
        let covered = below.look("n");
        assert!(matches!(&covered, Look::Gone(Gone::Covered { point }) if point == Path::new("/proc")), "{covered:?}");
        disk.mark("n").unwrap();
        disk.mark("n").unwrap();
        assert!(matches!(disk.look("n"), Look::Ready));
        assert!(matches!(elsewhere.look("n"), Look::Ready), "whoever moved it knows why");
        assert!(matches!(disk.look("m"), Look::Gone(Gone::Foreign)));
        let other = Disk { name: "disk2".into(), ..disk.clone() };
        assert!(matches!(other.look("n"), Look::Gone(Gone::Other { disk }) if disk == "disk1"));
        fs::write(path.join(FOLDER).join(MARK), "disk = 3").unwrap();
        assert!(matches!(disk.look("n"), Look::Gone(Gone::Faulty { .. })));
    }
}
