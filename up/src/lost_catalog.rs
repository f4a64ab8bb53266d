//! The catalog, made again from the disks where its file was lost or is damaged. Before any origin runs: one that runs
//! would take for lost, and repair, what is not filed yet, and end leases that another disk knows to be renewed.
//!
//! Keeps true: the mark of an unfinished catalog is there from before the new one is until each disk that is there was
//! read. A disk that is not there counts as lost; one that comes later brings what it has before its origins start.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use origin::{catalog::is_damaged_sqlite, rebuild::RebuildError};
use tokio::time::timeout;

use crate::{
    disk::{Gone, Look},
    disks::{Around, HUNG, PATIENCE, causes},
    pulse::Pulse,
    seat,
    settings::{Disk, Seat},
};

/// What stands in the mark, for people.
const UNFINISHED: &str =
    "The catalog is being made again from the disks. `evernear up` goes on with it and removes this file.\n";
/// How the names of a catalog's files end. The file itself is last: while it is there, a crash is gone on with.
const ENDS: [&str; 3] = ["-shm", "-wal", ""];
/// How the name of one that is set aside begins, before the time.
const ASIDE: &str = "catalog.damaged-";

/// Why the catalog is not made again.
#[derive(Debug, thiserror::Error)]
pub enum CatalogFault {
    /// It cannot be noted that this begins or ended, or a damaged file not be set aside.
    #[error("{} cannot be read, written or moved", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A disk that is there is not read.
    #[error(
        "the catalog was lost, and what {} has cannot be read into another one: {why}. Mend that and start again. Or take the disk away (unmount it, \
         or move its folder): a start goes on without a disk that is not there, and the others make good what they can", path.display()
    )]
    Disk {
        /// The disk.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The new catalog does not take what is read.
    #[error("the catalog was lost, and {} cannot be made again; once it can, start again: it is gone on with", path.display())]
    Catalog {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: Box<RebuildError>,
    },
    /// Work off the reactor did not come back.
    #[error("the making of another catalog was cut short")]
    Lost(#[from] tokio::task::JoinError),
}

/// A catalog that may have been lost.
pub(crate) struct LostCatalog<'a> {
    pub(crate) around: &'a Around,
    /// The file of the catalog.
    pub(crate) file: &'a Path,
    pub(crate) disks: &'a [&'a Disk],
}

impl LostCatalog<'_> {
    /// Makes it again where it is not there or is damaged, or where a start before was cut short in that. Takes as long
    /// as there is something to read. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// [`CatalogFault`]. What was read until then stays, and the next start goes on.
    pub(crate) async fn make_again(self, now: u64) -> Result<(), CatalogFault> {
        let (catalog, mark) = (self.file.to_owned(), self.around.unfinished.clone());
        let (looked, marked) = (catalog.clone(), mark.clone());
        let mut found = client::offload(move || Found::at(&looked, &marked)).await??;
        if found == Found::There && is_damaged_sqlite(&catalog).await {
            found = Found::Damaged;
        }
        if !client::offload(move || begin(&catalog, &mark, found, now)).await?? {
            return Ok(());
        }
        for disk in self.disks {
            self.read(disk).await?;
        }
        let mark = self.around.unfinished.clone();
        client::offload(move || end(&mark)).await?
    }

    async fn read(&self, disk: &Disk) -> Result<(), CatalogFault> {
        let unread = |why: String| CatalogFault::Disk { path: disk.path.clone(), why };
        let (looked, network) = (disk.clone(), self.around.network.clone());
        let found = timeout(PATIENCE, client::offload(move || seats_to_read(&looked, &network))).await;
        let seats = found.map_err(|_| unread(Gone::Silent.to_string()))??;
        for seat in seats.map_err(|why| unread(why.to_string()))? {
            let pulse = Pulse::new(self.around.readers.clone());
            match pulse.limit(HUNG, seat::rebuild(disk, &seat, &self.around.catalog.url, &pulse)).await {
                Some(Ok(())) => {}
                Some(Err(source @ (RebuildError::Open(_) | RebuildError::Catalog(_)))) => {
                    return Err(CatalogFault::Catalog { path: self.file.to_owned(), source: Box::new(source) });
                }
                Some(Err(error)) => return Err(unread(causes(&error))),
                None => return Err(unread(Gone::Silent.to_string())),
            }
        }
        Ok(())
    }
}

/// What is where the catalog was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    /// No database, or an empty file, which is one without a table, or one of whose files a start that was cut short
    /// had set some aside.
    Damaged,
    There,
}

impl Found {
    /// Looks before anything opens it: beside an empty file SQLite removes the log, which may have all there is, and
    /// beside one whose log was set aside it makes another. Blocks on the disk.
    fn at(catalog: &Path, mark: &Path) -> Result<Self, CatalogFault> {
        let io = |source| CatalogFault::Io { path: catalog.to_owned(), source };
        match fs::symlink_metadata(catalog) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::Nothing),
            Err(error) => Err(io(error)),
            // A link to what is not there may lead to a disk that is not mounted.
            Ok(_) if fs::metadata(catalog).map_err(io)?.len() == 0 => Ok(Self::Damaged),
            Ok(_) if begun_aside(catalog, mark).map_err(io)?.is_some() => Ok(Self::Damaged),
            Ok(_) => Ok(Self::There),
        }
    }
}

/// Notes that the catalog is being made again, if it is, before there is one: one that is there alone says nothing of
/// what is in it. Returns whether it is. Blocks on the disk.
fn begin(catalog: &Path, mark: &Path, found: Found, now: u64) -> Result<bool, CatalogFault> {
    if found == Found::There && !mark.exists() {
        return Ok(false);
    }
    let unmoved = |source| CatalogFault::Io { path: catalog.to_owned(), source };
    let begun = begun_aside(catalog, mark).map_err(unmoved)?;
    let unwritten = |source| CatalogFault::Io { path: mark.to_owned(), source };
    client::keep(mark, UNFINISHED.as_bytes()).map_err(unwritten)?;
    if found == Found::Damaged {
        let aside = begun.unwrap_or_else(|| catalog.with_file_name(format!("{ASIDE}{now}.sqlite")));
        set_aside(catalog, &aside).map_err(unmoved)?;
        tracing::error!(aside = %aside.display(), "the catalog is damaged: it is set aside and made again; publish policies again");
    }
    Ok(true)
}

/// Returns where a start that was cut short had begun to move a damaged catalog: its log is there, and the file is not.
/// Blocks on the disk.
fn begun_aside(catalog: &Path, mark: &Path) -> io::Result<Option<PathBuf>> {
    let Some(folder) = catalog.parent().filter(|_| mark.exists()) else { return Ok(None) };
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let name = name.to_str().filter(|name| name.starts_with(ASIDE)).unwrap_or_default();
        let of = ENDS.iter().filter(|end| !end.is_empty()).find_map(|end| name.strip_suffix(end));
        if let Some(aside) = of.map(|of| folder.join(of)).filter(|aside| !aside.exists()) {
            return Ok(Some(aside));
        }
    }
    Ok(None)
}

/// Moves the files of a catalog, durably.
fn set_aside(catalog: &Path, aside: &Path) -> io::Result<()> {
    let with = |path: &Path, end| {
        let mut name = OsString::from(path);
        name.push(end);
        PathBuf::from(name)
    };
    for end in ENDS {
        match fs::rename(with(catalog, end), with(aside, end)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed?,
        }
    }
    client::sync_folder(aside)
}

/// Removes the mark, durably: one that came back with a power cut would have all disks read again.
fn end(mark: &Path) -> Result<(), CatalogFault> {
    let io = |source| CatalogFault::Io { path: mark.to_owned(), source };
    fs::remove_file(mark).and_then(|()| client::sync_folder(mark)).map_err(io)
}

/// Returns the origins of which a disk has something, none of a disk that is not there, or why it does not say.
/// Blocks on it.
fn seats_to_read(disk: &Disk, network: &str) -> Result<Vec<Seat>, Gone> {
    match disk.look(network) {
        Look::Gone(why @ Gone::Faulty { .. }) => return Err(why),
        Look::Gone(_) | Look::Blank => return Ok(Vec::new()),
        Look::Ready => {}
    }
    let mut seats = Vec::new();
    for seat in &disk.origins {
        if disk.holds(seat.name.as_str()).map_err(|source| Gone::Faulty { source })? {
            seats.push(seat.clone());
        }
    }
    Ok(seats)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_catalog_is_set_aside_with_its_log_and_one_that_is_whole_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let (catalog, mark) = (home.path().join("catalog.sqlite"), home.path().join("catalog.unfinished"));
        let log = home.path().join("catalog.sqlite-wal");
        fs::write(&catalog, "damaged").unwrap();
        fs::write(&log, "log").unwrap();
        assert!(!begin(&catalog, &mark, Found::There, 7).unwrap() && !mark.exists());
        assert!(begin(&catalog, &mark, Found::Damaged, 7).unwrap());
        assert!(mark.exists() && !catalog.exists() && !log.exists());
        let aside = |end| fs::read_to_string(home.path().join(format!("catalog.damaged-7.sqlite{end}"))).unwrap();
        assert_eq!((aside("").as_str(), aside("-wal").as_str()), ("damaged", "log"));
        // A start that was cut short is gone on with, also where another catalog is there by then.
        fs::write(&catalog, "begun").unwrap();
        assert!(begin(&catalog, &mark, Found::There, 8).unwrap() && catalog.exists());
        end(&mark).unwrap();
        assert!(!begin(&catalog, &mark, Found::There, 9).unwrap());
    }

    #[test]
    fn a_catalog_that_was_set_aside_in_part_gets_one_name_for_all_its_files() {
        let home = tempfile::tempdir().unwrap();
        let (catalog, mark) = (home.path().join("catalog.sqlite"), home.path().join("catalog.unfinished"));
        let write = |name: &str| fs::write(home.path().join(name), name).unwrap();
        let names = || -> Vec<String> {
            let names = fs::read_dir(home.path()).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<_> = names.collect();
            names.sort();
            names
        };
        // What one of before was set aside as is whole.
        let before = ["catalog.damaged-3.sqlite", "catalog.damaged-3.sqlite-wal"];
        before.iter().for_each(|name| write(name));
        let all = ["catalog.damaged-7.sqlite", "catalog.damaged-7.sqlite-shm", "catalog.damaged-7.sqlite-wal"];
        // Killed before each of the renames, in their order.
        for moved in 0..3 {
            for (at, end) in ENDS.iter().enumerate() {
                write(&if at < moved {
                    format!("catalog.damaged-7.sqlite{end}")
                } else {
                    format!("catalog.sqlite{end}")
                });
            }
            fs::write(&mark, UNFINISHED).unwrap();
            let (found, now) = if moved == 0 { (Found::There, 7) } else { (Found::Damaged, 9) };
            assert_eq!(Found::at(&catalog, &mark).unwrap(), found, "{moved}");
            assert!(begin(&catalog, &mark, Found::Damaged, now).unwrap());
            let left: Vec<String> =
                [&before[..], &all, &["catalog.unfinished"]].concat().into_iter().map(str::to_owned).collect();
            assert_eq!(names(), left, "{moved}");
            let wal = fs::read_to_string(home.path().join(all[2])).unwrap();
            assert!(wal.ends_with("-wal"), "it is the log that was there: {wal}");
            // The one that is made then is no part of it.
            write("catalog.sqlite");
            assert_eq!(Found::at(&catalog, &mark).unwrap(), Found::There);
            all.iter().for_each(|name| fs::remove_file(home.path().join(name)).unwrap());
        }
        // A log without its file, after the end, is somebody else's doing.
        end(&mark).unwrap();
        write("catalog.damaged-7.sqlite-wal");
        assert_eq!(Found::at(&catalog, &mark).unwrap(), Found::There);
    }

    #[test]
    fn an_empty_file_is_no_catalog_and_a_link_that_leads_nowhere_is_not_taken_for_a_lost_one() {
        let home = tempfile::tempdir().unwrap();
        let (catalog, mark) = (home.path().join("catalog.sqlite"), home.path().join("catalog.unfinished"));
        assert_eq!(Found::at(&catalog, &mark).unwrap(), Found::Nothing);
        fs::write(&catalog, "").unwrap();
        assert_eq!(Found::at(&catalog, &mark).unwrap(), Found::Damaged);
        fs::write(&catalog, "some").unwrap();
        assert_eq!(Found::at(&catalog, &mark).unwrap(), Found::There);
        fs::remove_file(&catalog).unwrap();
        std::os::unix::fs::symlink(home.path().join("not mounted"), &catalog).unwrap();
        assert!(matches!(Found::at(&catalog, &mark), Err(CatalogFault::Io { .. })));
    }
}
