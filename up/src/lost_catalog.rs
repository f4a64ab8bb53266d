//! The catalog, made again from the disks where its file was lost or is damaged. Before any origin runs: one that runs
//! would take for lost, and repair, what is not filed yet, and end leases that another disk knows to be renewed.
//!
//! Keeps true: the mark of an unfinished catalog is there from before the new one is until each disk that is there was
//! read. A disk that is not there counts as lost; one that comes later brings what it has before its origins start.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use client::{Unwritable, causes};
use origin::{
    catalog::{SqliteFile, is_lost_sqlite},
    rebuild::RebuildError,
};
use tokio::time::timeout;

use crate::{
    disk::{Gone, Look},
    disks::{Around, HUNG, PATIENCE},
    pulse::Pulse,
    seat,
    settings::{Disk, Seat},
};

/// What stands in the mark, for people.
const MARK_TEXT: &str =
    "The catalog is being made again from the disks. `evernear up` goes on with it and removes this file.\n";
/// How the names of a catalog's files end. The file itself is last: while it is there, a crash is gone on with.
const ENDS: [&str; 3] = ["-shm", "-wal", ""];
/// How the name of one that is set aside begins and ends, around the time.
const ASIDE: (&str, &str) = ("catalog.damaged-", ".sqlite");

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
    /// It is lost, and was to move.
    #[error("the catalog was lost, and the disk of {} takes no write: mend that first. Once a start made the catalog again, it may move", path.display())]
    Unwhole {
        /// The file.
        path: PathBuf,
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
    /// as there is something to read. `now` is in seconds since 1970. Where its disk takes no write it is left as it
    /// is, and origins serve what they have without it. Returns whether it is whole.
    ///
    /// # Errors
    /// [`CatalogFault`]. What was read until then stays, and the next start goes on.
    pub(crate) async fn make_again(self, now: u64) -> Result<bool, CatalogFault> {
        let (catalog, mark) = (self.file.to_owned(), self.around.unfinished.clone());
        let (looked, marked) = (catalog.clone(), mark.clone());
        let (mut found, file) = client::offload(move || Found::at(&looked, &marked)).await??;
        if found == Found::There && is_lost_sqlite(&catalog).await {
            found = Found::Damaged;
        }
        let begun = client::offload(move || begin(&file, &mark, found, now)).await?;
        if let Err(error) = &begun
            && found != Found::There
            && Unwritable::of(error).is_some()
        {
            let error = causes(error);
            tracing::error!(
                error,
                "the catalog was lost, and the next start makes it again once its disk takes writes: until then what is stored is read, and no more"
            );
            return Ok(false);
        }
        if !begun? {
            return Ok(true);
        }
        for disk in self.disks {
            self.read(disk).await?;
        }
        let mark = self.around.unfinished.clone();
        client::offload(move || end(&mark)).await?.map(|()| true)
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
    /// No catalog: no database, or one of which nothing is left, an empty file for instance, or a log without its file,
    /// or one of whose files a start that was cut short had set some aside.
    Damaged,
    There,
}

impl Found {
    /// Looks before anything opens it: beside an empty file SQLite removes the log, which may have all there is, and
    /// beside one whose log was set aside it makes another. Returns also which file it is. Blocks on the disk.
    fn at(catalog: &Path, mark: &Path) -> Result<(Self, SqliteFile), CatalogFault> {
        let io = |source| CatalogFault::Io { path: catalog.to_owned(), source };
        let file = SqliteFile::at(catalog).map_err(io)?;
        let found = match file.length().map_err(io)? {
            // A link to what is not there may lead to a disk that is not mounted. One that has what was set aside is.
            None if catalog.is_symlink() && (!mark.exists() || all_aside(&file).map_err(io)?.is_empty()) => {
                return Err(io(io::ErrorKind::NotFound.into()));
            }
            None if file.lone_log().map_err(io)?.is_none() => Self::Nothing,
            None | Some(0) => Self::Damaged,
            Some(_) if begun_aside(&file, mark).map_err(io)?.is_some() => Self::Damaged,
            Some(_) => Self::There,
        };
        Ok((found, file))
    }
}

/// Notes that the catalog is being made again, if it is, before there is one: one that is there alone says nothing of
/// what is in it. Returns whether it is. Blocks on the disk.
fn begin(file: &SqliteFile, mark: &Path, found: Found, now: u64) -> Result<bool, CatalogFault> {
    if found == Found::There && !mark.exists() {
        return Ok(false);
    }
    let unmoved = |source| CatalogFault::Io { path: file.path().to_owned(), source };
    let begun = begun_aside(file, mark).map_err(unmoved)?;
    let unwritten = |source| CatalogFault::Io { path: mark.to_owned(), source };
    client::keep(mark, MARK_TEXT.as_bytes()).map_err(unwritten)?;
    if found == Found::Damaged {
        let aside = begun.map_or_else(|| free_aside(file, now), Ok).map_err(unmoved)?;
        set_aside(file, &aside).map_err(unmoved)?;
        tracing::error!(
            aside = %aside.path().display(),
            "the catalog is damaged: it is set aside and made again; publish policies again, then delete what was set aside"
        );
    }
    Ok(true)
}

/// Returns the damaged catalogs that were set aside beside one. They have the manifests of what was erased since, which
/// its label opens. Blocks on the disk.
///
/// # Errors
/// That of the system.
pub(crate) fn all_aside(file: &SqliteFile) -> io::Result<Vec<PathBuf>> {
    let folder = client::folder_of(file.path());
    let is_aside = |name: &str| name.starts_with(ASIDE.0) && name.ends_with(ASIDE.1);
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if name.to_str().is_some_and(is_aside) {
            all.push(folder.join(name));
        }
    }
    all.sort();
    Ok(all)
}

/// Returns where a start that was cut short had begun to move a damaged catalog: its log is there, and the file is not.
/// Blocks on the disk.
fn begun_aside(file: &SqliteFile, mark: &Path) -> io::Result<Option<SqliteFile>> {
    if !mark.exists() {
        return Ok(None);
    }
    let folder = client::folder_of(file.path());
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let name = name.to_str().filter(|name| name.starts_with(ASIDE.0)).unwrap_or_default();
        let of = ENDS.iter().filter(|end| !end.is_empty()).find_map(|end| name.strip_suffix(end));
        if let Some(aside) = of.map(|of| folder.join(of)).filter(|aside| !aside.exists()) {
            return SqliteFile::at(&aside).map(Some);
        }
    }
    Ok(None)
}

/// Returns where a damaged catalog can be moved at `now` and nothing lies: of a second before another may be there.
fn free_aside(file: &SqliteFile, now: u64) -> io::Result<SqliteFile> {
    let (mut time, folder) = (now, client::folder_of(file.path()));
    loop {
        let aside = SqliteFile::at(&folder.join(format!("{}{time}{}", ASIDE.0, ASIDE.1)))?;
        if !ENDS.iter().any(|end| aside.part(end).exists()) {
            return Ok(aside);
        }
        time += 1;
    }
}

/// Moves the files of a catalog, durably. A log without its file gets an empty one: without one it would look like
/// what is not moved whole.
fn set_aside(file: &SqliteFile, aside: &SqliteFile) -> io::Result<()> {
    if file.length()?.is_none() {
        File::create_new(file.path())?.sync_all()?;
        client::sync_folder(file.path())?;
    }
    for end in ENDS {
        match fs::rename(file.part(end), aside.part(end)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed?,
        }
    }
    client::sync_folder(aside.path())
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
    use std::os::unix::fs::symlink;

    use super::*;

    fn at(catalog: &Path) -> SqliteFile {
        SqliteFile::at(catalog).unwrap()
    }

    fn found(catalog: &Path, mark: &Path) -> Found {
        Found::at(catalog, mark).unwrap().0
    }

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn a_damaged_catalog_is_set_aside_with_its_log_and_one_that_is_whole_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let (catalog, mark) = (home.path().join("catalog.sqlite"), home.path().join("catalog.unfinished"));
        let log = home.path().join("catalog.sqlite-wal");
        fs::write(&catalog, "damaged").unwrap();
        fs::write(&log, "log").unwrap();
        assert!(!begin(&at(&catalog), &mark, Found::There, 7).unwrap() && !mark.exists());
        assert!(begin(&at(&catalog), &mark, Found::Damaged, 7).unwrap());
        assert!(mark.exists() && !catalog.exists() && !log.exists());
        let aside = |end| fs::read_to_string(home.path().join(format!("catalog.damaged-7.sqlite{end}"))).unwrap();
        assert_eq!((aside("").as_str(), aside("-wal").as_str()), ("damaged", "log"));
        // A start that was cut short is gone on with, also where another catalog is there by then.
        fs::write(&catalog, "begun").unwrap();
        assert!(begin(&at(&catalog), &mark, Found::There, 8).unwrap() && catalog.exists());
        end(&mark).unwrap();
        assert!(!begin(&at(&catalog), &mark, Found::There, 9).unwrap());
    }

    #[test]
    fn a_catalog_that_was_set_aside_in_part_gets_one_name_for_all_its_files() {
        let home = tempfile::tempdir().unwrap();
        let (catalog, mark) = (home.path().join("catalog.sqlite"), home.path().join("catalog.unfinished"));
        let write = |name: &str| fs::write(home.path().join(name), name).unwrap();
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
            fs::write(&mark, MARK_TEXT).unwrap();
            let (is, now) = if moved == 0 { (Found::There, 7) } else { (Found::Damaged, 9) };
            assert_eq!(found(&catalog, &mark), is, "{moved}");
            assert!(begin(&at(&catalog), &mark, Found::Damaged, now).unwrap());
            let left: Vec<String> =
                [&before[..], &all, &["catalog.unfinished"]].concat().into_iter().map(str::to_owned).collect();
            assert_eq!(names(home.path()), left, "{moved}");
            let wal = fs::read_to_string(home.path().join(all[2])).unwrap();
            assert!(wal.ends_with("-wal"), "it is the log that was there: {wal}");
            // The one that is made then is no part of it.
            write("catalog.sqlite");
            assert_eq!(found(&catalog, &mark), Found::There);
            all.iter().for_each(|name| fs::remove_file(home.path().join(name)).unwrap());
        }
        // A log without its file, after the end, is somebody else's doing.
        end(&mark).unwrap();
        write("catalog.damaged-7.sqlite-wal");
        assert_eq!(found(&catalog, &mark), Found::There);
    }

    #[test]
    fn an_empty_file_is_no_catalog_and_a_link_that_leads_nowhere_is_not_taken_for_a_lost_one() {
        let home = tempfile::tempdir().unwrap();
        let (catalog, mark) = (home.path().join("catalog.sqlite"), home.path().join("catalog.unfinished"));
        assert_eq!(found(&catalog, &mark), Found::Nothing);
        fs::write(&catalog, "").unwrap();
        assert_eq!(found(&catalog, &mark), Found::Damaged);
        fs::write(&catalog, "some").unwrap();
        assert_eq!(found(&catalog, &mark), Found::There);
        fs::remove_file(&catalog).unwrap();
        symlink(home.path().join("not mounted"), &catalog).unwrap();
        assert!(matches!(Found::at(&catalog, &mark), Err(CatalogFault::Io { .. })));
    }

    #[test]
    fn a_log_without_its_file_is_set_aside_and_what_is_made_then_is_no_part_of_it() {
        let home = tempfile::tempdir().unwrap();
        let (catalog, mark) = (home.path().join("catalog.sqlite"), home.path().join("catalog.unfinished"));
        fs::write(home.path().join("catalog.sqlite-wal"), "log").unwrap();
        assert_eq!(found(&catalog, &mark), Found::Damaged);
        assert!(begin(&at(&catalog), &mark, Found::Damaged, 7).unwrap());
        let left = ["catalog.damaged-7.sqlite", "catalog.damaged-7.sqlite-wal", "catalog.unfinished"];
        assert_eq!(names(home.path()), left);
        assert_eq!(fs::read_to_string(home.path().join(left[1])).unwrap(), "log");
        assert_eq!(found(&catalog, &mark), Found::Nothing);
        fs::write(&catalog, "begun").unwrap();
        assert_eq!(found(&catalog, &mark), Found::There);
    }

    #[test]
    fn what_was_set_aside_in_the_same_second_stays_and_all_of_it_is_told() {
        let home = tempfile::tempdir().unwrap();
        let (catalog, mark) = (home.path().join("catalog.sqlite"), home.path().join("catalog.unfinished"));
        for damaged in ["first", "second"] {
            fs::write(&catalog, damaged).unwrap();
            begin(&at(&catalog), &mark, Found::Damaged, 7).unwrap();
        }
        let aside = ["catalog.damaged-7.sqlite", "catalog.damaged-8.sqlite"].map(|name| home.path().join(name));
        assert_eq!(all_aside(&at(&catalog)).unwrap(), aside);
        assert_eq!(aside.map(|path| fs::read_to_string(path).unwrap()), ["first", "second"]);
    }

    #[test]
    fn a_catalog_behind_a_link_is_set_aside_where_it_is_with_its_log_and_the_link_stays() {
        let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (catalog, mark) = (home.path().join("catalog.sqlite"), home.path().join("catalog.unfinished"));
        symlink(elsewhere.path().join("c"), &catalog).unwrap();
        ["c", "c-wal"].iter().for_each(|name| fs::write(elsewhere.path().join(name), name).unwrap());
        assert_eq!(found(&catalog, &mark), Found::There);
        assert!(begin(&at(&catalog), &mark, Found::Damaged, 7).unwrap());
        assert_eq!(names(elsewhere.path()), ["catalog.damaged-7.sqlite", "catalog.damaged-7.sqlite-wal"]);
        assert!(catalog.is_symlink());
        // A start that was cut short before there was another one goes on with it.
        assert_eq!(found(&catalog, &mark), Found::Nothing);
        fs::remove_file(&mark).unwrap();
        assert!(matches!(Found::at(&catalog, &mark), Err(CatalogFault::Io { .. })));
    }
}
