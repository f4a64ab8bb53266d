//! New files of keys and certificates. They never replace an existing file.

use std::{
    fs::{OpenOptions, Permissions},
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use anyhow::Context;

/// Writes a key durably to a new file that only this user may read.
pub(crate) fn private(path: &Path, text: &str) -> anyhow::Result<()> {
    create(path, text, 0o600)
}

/// Writes public text durably to a new file that all users may read.
pub(crate) fn public(path: &Path, text: &str) -> anyhow::Result<()> {
    create(path, text, 0o644)
}

/// Lets all users read a public file that was replaced.
pub(crate) fn readable_by_all(path: &Path) -> anyhow::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(0o644))
        .with_context(|| format!("the mode of {} cannot be set", path.display()))
}

fn create(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        client::sync_folder(path)
    };
    write().with_context(|| {
        let is_there = path.exists();
        let advice = if is_there {
            ": it is there, and nothing is ever replaced; take another name, or move it away"
        } else {
            ""
        };
        format!("{} cannot be made{advice}", path.display())
    })
}
