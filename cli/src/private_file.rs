//! Keys that the command line writes: readable by their owner alone, never over something that is there.

use std::{fs::OpenOptions, io::Write, path::Path};

use anyhow::Context;

/// Writes a new file of mode 0600, durably.
pub(crate) fn create(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let write = |path: &Path| {
        let mut file = options.open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write(path).with_context(|| format!("{} cannot be made; nothing is ever replaced", path.display()))
}
