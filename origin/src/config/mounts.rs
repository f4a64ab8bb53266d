//! Whether the file system that a folder is to lie on is there. Before it is mounted its mount point is an empty folder
//! of another disk, which looks like a new data folder: a node that takes it for one has all its shards made again.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Returns the file system that a folder would lie on by `/etc/fstab`, and that is not mounted. Of a machine that does
/// not say which are, nothing is known.
pub(super) fn missing(folder: &Path) -> Option<PathBuf> {
    missing_of(&real(folder)?, &read("/etc/fstab")?, &read(MOUNTED)?)
}

/// Returns where the file system is mounted that a folder lies on, or would come to lie on. Of a machine that does not
/// say what is mounted, nothing is known.
#[must_use]
pub fn mount_point(folder: &Path) -> Option<PathBuf> {
    let (folder, mountinfo) = (real(folder)?, read(MOUNTED)?);
    deepest(&folder, mounted(&mountinfo))
}

/// What is mounted, as this process sees it.
const MOUNTED: &str = "/proc/self/mountinfo";

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// A link may lead to another disk; what is not there yet comes to lie in what is.
fn real(folder: &Path) -> Option<PathBuf> {
    let folder = std::path::absolute(folder).ok()?;
    let there = folder.ancestors().find_map(|there| Some((there, fs::canonicalize(there).ok()?)));
    there.and_then(|(there, real)| Some(real.join(folder.strip_prefix(there).ok()?)))
}

/// Decides by the texts of both files: fstab(5), and `proc_pid_mountinfo(5)`.
fn missing_of(folder: &Path, fstab: &str, mountinfo: &str) -> Option<PathBuf> {
    let wanted = fstab.lines().filter(|line| !line.trim_start().starts_with('#')).filter_map(|line| field(line, 1));
    let wanted = deepest(folder, wanted)?;
    let is_mounted = mounted(mountinfo).any(|point| point == wanted);
    (!is_mounted).then_some(wanted)
}

fn mounted(mountinfo: &str) -> impl Iterator<Item = PathBuf> {
    mountinfo.lines().filter_map(|line| field(line, 4))
}

fn deepest(folder: &Path, points: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    let above = points.filter(|point| point.is_absolute() && folder.starts_with(point));
    above.max_by_key(|point| point.components().count())
}

/// Reads a path from a line; both files write blanks and backslashes of a path as three octal digits.
fn field(line: &str, number: usize) -> Option<PathBuf> {
    let mut parts = line.split_whitespace().nth(number)?.split('\\');
    let mut path = parts.next()?.to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => path.extend([char::from(code).to_string().as_str(), &part[3..]]),
            None => path.extend(["\\", part]),
        }
    }
    Some(path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FSTAB: &str = "# /dev/sda /srv ext4\n\
        UUID=1 / ext4 defaults 0 1\n\
        UUID=2 none swap sw 0 0\n\
        \n\
        UUID=3 /srv/data xfs noauto 0 2\n\
        /dev/sdc1\t/srv/data/two\\040disks\\134 ext4 defaults 0 2\n";
    const ROOT: &str = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n";
    const DATA: &str = "40 22 8:2 / /srv/data rw shared:9 - xfs /dev/sdb rw\n";
    const TWO: &str = "41 40 8:3 / /srv/data/two\\040disks\\134 rw - ext4 /dev/sdc1 rw\n";

    #[test]
    fn a_folder_below_what_is_not_mounted_is_noticed_and_no_other() {
        let missing = |folder: &str, mounted: &[&str]| missing_of(Path::new(folder), FSTAB, &mounted.concat());
        for folder in ["/srv/data", "/srv/data/o1"] {
            assert_eq!(missing(folder, &[ROOT]), Some("/srv/data".into()));
            assert_eq!(missing(folder, &[ROOT, DATA]), None);
        }
        for folder in ["/srv", "/srv/database", "/var/lib/evernear"] {
            assert_eq!(missing(folder, &[ROOT]), None, "{folder}");
        }
        let two = "/srv/data/two disks\\/o1";
        assert_eq!(missing(two, &[ROOT, DATA]), Some("/srv/data/two disks\\".into()));
        assert_eq!(missing(two, &[ROOT, DATA, TWO]), None);
        assert_eq!(missing_of(Path::new("/srv/data"), "", ROOT), None);
    }

    #[test]
    fn a_folder_of_this_machine_is_there() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(missing(&dir.path().join("not/there/yet")), None);
        let point = mount_point(dir.path()).unwrap();
        assert!(dir.path().canonicalize().unwrap().starts_with(&point));
        assert_eq!(mount_point(&dir.path().join("not/there/yet")), Some(point));
        assert_eq!(mount_point(Path::new("/proc/self")), Some("/proc".into()));
    }
}
