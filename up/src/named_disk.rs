//! Folders that a start names: disks to add, disks that were moved, and replacements of lost ones.

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use origin::config::mount_point;

use crate::{
    disk::{Call, Mark, read_mark},
    folders::Folders,
    keys::private_folder,
    loss,
    origin_ports::free_port,
    settings::{DISKS_MAX, Settings},
    up_error::UpError,
};

/// Adds the disks that are not known yet; without any, one in the state folder.
pub(crate) fn add_disks(settings: &mut Settings, folders: &Folders, named: &[PathBuf]) -> Result<(), UpError> {
    let is_first = settings.disks.is_empty();
    if is_first && named.is_empty() {
        let path = folders.own_disk();
        private_folder(&path).map_err(|source| UpError::Folder { path: path.clone(), source })?;
        return add_disk(settings, &path, loss::ALONE);
    }
    let origins = if is_first && named.len() == 1 { loss::ALONE } else { 1 };
    named.iter().try_for_each(|path| add_disk(settings, path, origins))
}

fn add_disk(settings: &mut Settings, named: &Path, origins: usize) -> Result<(), UpError> {
    let unusable = |source| UpError::Disk { path: named.to_owned(), source };
    if disk_at(settings, &std::path::absolute(named).map_err(unusable)?).is_some() {
        return Ok(());
    }
    let NamedDisk { path, usable, mount, mark } = NamedDisk::ask(named).map_err(unusable)?;
    if disk_at(settings, &path).is_some() {
        return Ok(());
    }
    usable.map_err(unusable)?;
    if let Some(mark) = mark {
        if mark.network != settings.network {
            return Err(UpError::ForeignDisk { path });
        }
        // It is one of ours, and was moved.
        let Some(disk) = settings.disks.iter_mut().find(|disk| disk.name == mark.disk) else {
            return Err(UpError::UnknownDisk { path, disk: mark.disk });
        };
        if is_elsewhere_too(&path, &disk.path, &mark) {
            return Err(UpError::TwoPlaces { path, other: disk.path.clone(), disk: mark.disk });
        }
        (disk.path, disk.mount) = (path, mount);
        return Ok(());
    }
    let is_nested = |other: &Path| path.starts_with(other) || other.starts_with(&path);
    if let Some(other) = settings.disks.iter().find(|disk| is_nested(&disk.path)) {
        return Err(UpError::Nested { path, other: other.path.clone() });
    }
    if settings.disks.len() == DISKS_MAX {
        return Err(UpError::Disks);
    }
    settings.add(path, mount, origins, free_port)
}

/// Returns whether the place where a disk was known to be has its mark still, and is another folder than the one named.
/// A place that does not answer has none.
fn is_elsewhere_too(named: &Path, known: &Path, mark: &Mark) -> bool {
    let (named, known, mark) = (named.to_owned(), known.to_owned(), mark.clone());
    let look = move || {
        let is_marked = read_mark(&known).is_ok_and(|found| found == Some(mark));
        // The same folder may be mounted twice.
        let id = |path: &Path| path.metadata().map(|it| (it.dev(), it.ino())).ok();
        is_marked && id(&named) != id(&known)
    };
    Call::begin(look).answer().unwrap_or(false)
}

/// Takes the folder in the place of a lost disk for its replacement.
pub(crate) fn replace_disk(settings: &mut Settings, named: &Path) -> Result<(), UpError> {
    let unusable = |source| UpError::Disk { path: named.to_owned(), source };
    let NamedDisk { path, usable, mount, mark } = NamedDisk::ask(named).map_err(unusable)?;
    usable.map_err(unusable)?;
    let absolute = std::path::absolute(named).map_err(unusable)?;
    let Some(at) = disk_at(settings, &absolute).or_else(|| disk_at(settings, &path)) else {
        return Err(UpError::NoDiskThere { path });
    };
    let disk = &mut settings.disks[at];
    match mark {
        Some(mark) if mark.network != settings.network => Err(UpError::ForeignDisk { path }),
        Some(mark) if mark.disk != disk.name => Err(UpError::OtherDisk { path, disk: mark.disk }),
        // What was to be lost is there.
        Some(_) => Ok(()),
        None => Ok((disk.mount, disk.is_new) = (mount, true)),
    }
}

/// Returns the position of the disk that lies at a path.
fn disk_at(settings: &Settings, path: &Path) -> Option<usize> {
    settings.disks.iter().position(|disk| disk.path == path)
}

/// A folder that was named, as it is found.
struct NamedDisk {
    /// Without links.
    path: PathBuf,
    usable: io::Result<()>,
    mount: PathBuf,
    mark: Option<Mark>,
}

impl NamedDisk {
    /// Asks the disk, for some seconds.
    fn ask(named: &Path) -> io::Result<Self> {
        let named = named.to_owned();
        let look = move || {
            let path = named.canonicalize()?;
            if !path.is_dir() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            if path.to_str().is_none() {
                return Err(io::Error::new(io::ErrorKind::InvalidFilename, "its name is not UTF-8"));
            }
            let mount = mount_point(&path).unwrap_or_else(|| PathBuf::from("/"));
            Ok(Self { usable: client::is_usable_folder(&path), mark: read_mark(&path)?, mount, path })
        };
        Call::begin(look).answer().unwrap_or_else(|| Err(silent()))
    }
}

fn silent() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "it does not answer")
}
