//! File systems of their own for tests of disks that fail.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A mounted file system; it is unmounted when this is dropped.
pub struct Mount(PathBuf);

impl Mount {
    /// Mounts what the arguments of `mount` say. Only root may.
    ///
    /// # Panics
    /// When it cannot be mounted.
    #[must_use]
    pub fn new(at: &Path, arguments: &[&str]) -> Self {
        fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount").args(arguments).arg(at).output().unwrap();
        assert!(mounted.status.success(), "this test needs root: {}", String::from_utf8_lossy(&mounted.stderr));
        Self(at.to_owned())
    }

    /// Mounts a small file system in memory.
    #[must_use]
    pub fn small(at: &Path, mebibytes: u32) -> Self {
        Self::new(at, &["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "evernear-test"])
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}
