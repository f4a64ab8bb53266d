//! Files that the command line makes of keys and certificates: never over something that is there.

use std::{fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use anyhow::Context;

/// Writes a key: a new file that this user alone may read, durably.
pub(crate) fn private(path: &Path, text: &str) -> anyhow::Result<()> {
    create(path, text, 0o600)
}

/// Writes what everybody may know: a new file that all users may read, durably.
pub(crate) fn public(path: &Path, text: &str) -> anyhow::Result<()> {
    create(path, text, 0o644)
}

fn create(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().with_context(|| format!("{} cannot be made; nothing is ever replaced", path.display()))
}
