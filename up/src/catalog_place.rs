//! Where the catalog is: the file in the state folder, or a `PostgreSQL` database. A start may move it.
//!
//! Keeps true: the settings name the database that has the catalog, and which catalog that is. Where a move was cut
//! short, or an operator moved it by hand, the place that it left says where it went, and the next start follows it.

use std::{fs, path::PathBuf, str::FromStr};

use origin::catalog::{
    CatalogId, CatalogUrl, Mark, MoveError, OpenError, PasswordInUrl, Standing, Way, look, move_catalog,
};
use tokio::sync::watch;

use crate::{
    folders::Folders,
    pulse::Wait,
    settings::{Elsewhere, Settings, SettingsError},
};

/// The word for the file in the state folder.
const FILE: &str = "sqlite";
/// Changes that the feed of a catalog keeps which is only looked at.
const CHANGES_KEPT: u32 = 1;

/// Where the catalog is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatalogChoice {
    /// In the file in the state folder.
    File,
    /// In a `PostgreSQL` database.
    At(CatalogUrl),
}

/// No place for a catalog.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is neither `sqlite` nor postgres://USER@HOST/DATABASE")]
pub struct CatalogChoiceError;

impl FromStr for CatalogChoice {
    type Err = CatalogChoiceError;

    fn from_str(text: &str) -> Result<Self, CatalogChoiceError> {
        match (text, text.parse()) {
            (FILE, _) => Ok(Self::File),
            (_, Ok(url @ CatalogUrl::Postgres(_))) => Ok(Self::At(url)),
            _ => Err(CatalogChoiceError),
        }
    }
}

/// Why the catalog is not where it should be.
#[derive(Debug, thiserror::Error)]
pub enum CatalogPlaceError {
    /// It is not moved.
    #[error("the catalog is not moved")]
    Move(#[from] MoveError),
    /// A password is in a URL.
    #[error(transparent)]
    Password(#[from] PasswordInUrl),
    /// The database cannot be used.
    #[error("the database {place} cannot be used for the catalog")]
    Open {
        /// The database.
        place: String,
        /// The cause.
        source: OpenError,
    },
    /// The catalog does not say which it is.
    #[error("the catalog at {place} does not answer")]
    Silent {
        /// The database.
        place: String,
        /// The cause.
        source: origin::catalog::CatalogError,
    },
    /// The database has another catalog, or none.
    #[error(
        "the database {place} does not have the catalog {id} of this network. Put back a backup of it, or start the server that has it. \
         If it is lost for good, take `[catalog]` out of {} and move {} away: the next start makes the catalog again from the disks, and owners \
         publish their policies again", settings.display(), file.display()
    )]
    Strange {
        /// The database.
        place: String,
        /// The catalog that was there.
        id: CatalogId,
        /// The settings.
        settings: PathBuf,
        /// The file of the catalog before.
        file: PathBuf,
    },
    /// It was moved where this network cannot follow.
    #[error(
        "the catalog has moved to {place}, and this network uses its own file or a PostgreSQL database: move it there by `evernear catalog move`"
    )]
    Elsewhere {
        /// Where it is.
        place: String,
    },
    /// What the settings name is no catalog.
    #[error("{} names a catalog that is none; `evernear up` alone writes it: put back a copy, or the line that was changed", path.display())]
    Settings {
        /// The settings.
        path: PathBuf,
    },
    /// The settings cannot be written.
    #[error("the settings of this network cannot be used")]
    Keep(#[from] SettingsError),
    /// Work off the reactor did not come back.
    #[error("the start was cut short")]
    Lost(#[from] tokio::task::JoinError),
}

/// A catalog, and which one it is, where that is noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) url: CatalogUrl,
    pub(crate) id: Option<CatalogId>,
}

/// The place of a network's catalog.
pub(crate) struct CatalogPlace<'h> {
    pub(crate) folders: &'h Folders,
    pub(crate) settings: &'h mut Settings,
}

impl CatalogPlace<'_> {
    /// Returns where the catalog is, by the settings.
    ///
    /// # Errors
    /// [`CatalogPlaceError::Settings`].
    pub(crate) fn known(&self) -> Result<Known, CatalogPlaceError> {
        let Some(Elsewhere { url, id }) = &self.settings.catalog else {
            return Ok(Known { url: CatalogUrl::Sqlite(self.folders.catalog()), id: None });
        };
        match (url.parse(), id.parse()) {
            (Ok(url @ CatalogUrl::Postgres(_)), Ok(id)) => Ok(Known { url, id: Some(id) }),
            _ => Err(CatalogPlaceError::Settings { path: self.folders.settings() }),
        }
    }

    /// Goes where the catalog went, when a move was cut short after it had left, or was made by hand.
    ///
    /// # Errors
    /// [`CatalogPlaceError`].
    pub(crate) async fn follow(&mut self, readers: &watch::Sender<Wait>) -> Result<(), CatalogPlaceError> {
        let known = self.known()?;
        // Beside an empty file SQLite would remove the log, which may have all there is.
        if matches!(&known.url, CatalogUrl::Sqlite(path) if fs::metadata(path).map_or(0, |file| file.len()) == 0) {
            return Ok(());
        }
        // What cannot be looked at now is said where it is used.
        let Ok(Standing::Moved(Mark { way: Way::To, place, .. })) = look(&known.url).await else { return Ok(()) };
        let target = match place.parse() {
            Ok(CatalogUrl::Sqlite(path)) if path != self.folders.catalog() => {
                return Err(CatalogPlaceError::Elsewhere { place });
            }
            Ok(url) => url,
            Err(_) => return Err(CatalogPlaceError::Elsewhere { place }),
        };
        self.go(&known.url, &target, readers).await
    }

    /// Moves the catalog where it is `wanted`, and sees that it is there. Returns whether its server is away: then
    /// only reads are served until it is back.
    ///
    /// # Errors
    /// [`CatalogPlaceError`]. Then no origin may run.
    pub(crate) async fn settle(
        &mut self,
        wanted: Option<CatalogChoice>,
        readers: &watch::Sender<Wait>,
    ) -> Result<bool, CatalogPlaceError> {
        let Known { url, id } = self.known()?;
        let target = match wanted {
            None => url.clone(),
            Some(CatalogChoice::File) => CatalogUrl::Sqlite(self.folders.catalog()),
            Some(CatalogChoice::At(target)) => target,
        };
        if target != url {
            target.without_password()?;
            let is_file = |url: &CatalogUrl| matches!(url, CatalogUrl::Sqlite(_));
            match (look(&target).await, id) {
                // The same by another name, or where its operator restored it.
                (Ok(Standing::Here(found)), Some(id)) if found == id && !is_file(&target) => {
                    self.note(&target, id).await?;
                }
                // Nothing was ever filed.
                _ if is_file(&url) && matches!(look(&url).await, Ok(Standing::Blank | Standing::Empty)) => {
                    self.begin_at(&target).await?;
                }
                _ => self.go(&url, &target, readers).await?,
            }
            return Ok(false);
        }
        let Some(id) = id else { return Ok(false) };
        let place = url.without_password()?;
        match look(&url).await {
            Ok(Standing::Here(found)) if found == id => Ok(false),
            // Before anything is filed it looks so.
            Ok(Standing::Empty) if self.id_at(&url).await? == id => Ok(false),
            Ok(_) => Err(CatalogPlaceError::Strange {
                place,
                id,
                settings: self.folders.settings(),
                file: self.folders.catalog(),
            }),
            Err(error) if error.is_away() => {
                tracing::error!(place, %error, "the catalog's server is away: only reads are served until it is back");
                Ok(true)
            }
            Err(source) => Err(CatalogPlaceError::Open { place, source }),
        }
    }

    /// Begins with a database in which nothing is.
    async fn begin_at(&mut self, target: &CatalogUrl) -> Result<(), CatalogPlaceError> {
        let place = target.without_password()?;
        let open = |source| CatalogPlaceError::Open { place: place.clone(), source };
        match look(target).await.map_err(open)? {
            Standing::Blank | Standing::Empty => {}
            Standing::Foreign | Standing::Here(_) | Standing::Moved(_) => return Err(MoveError::Taken { place }.into()),
        }
        let id = self.id_at(target).await?;
        self.note(target, id).await
    }

    async fn go(
        &mut self,
        from: &CatalogUrl,
        to: &CatalogUrl,
        readers: &watch::Sender<Wait>,
    ) -> Result<(), CatalogPlaceError> {
        let (left, place) = (from.without_password()?, to.without_password()?);
        tracing::warn!(from = left, to = place, "the catalog moves");
        let moved = move_catalog(from, to, |moving| drop(readers.send_replace(Wait::Moving(moving)))).await?;
        self.note(to, moved.id).await?;
        tracing::warn!(
            from = left,
            to = place,
            "the catalog has moved; what is left at its old place is a copy to be deleted"
        );
        Ok(())
    }

    /// Opens a database, which gets its tables where it has none, and asks which catalog it is.
    async fn id_at(&self, url: &CatalogUrl) -> Result<CatalogId, CatalogPlaceError> {
        let place = url.without_password()?;
        let opened = url.open(CHANGES_KEPT).await;
        let catalog = opened.map_err(|source| CatalogPlaceError::Open { place: place.clone(), source })?;
        let id = catalog.identity().await;
        catalog.close().await;
        id.map_err(|source| CatalogPlaceError::Silent { place, source })
    }

    /// Writes down where the catalog is.
    async fn note(&mut self, url: &CatalogUrl, id: CatalogId) -> Result<(), CatalogPlaceError> {
        let catalog = match url {
            CatalogUrl::Sqlite(_) => None,
            CatalogUrl::Postgres(_) => Some(Elsewhere { url: url.without_password()?, id: id.to_string() }),
        };
        let (mut settings, path) = (self.settings.clone(), self.folders.settings());
        settings.catalog = catalog;
        *self.settings = client::offload(move || settings.keep(&path).map(|()| settings)).await??;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use origin::catalog::Catalog;
    use testing::{node, place, postgres::Server};

    use super::*;
    use crate::settings::Listen;

    struct Network {
        folders: Folders,
        settings: Settings,
        readers: watch::Sender<Wait>,
    }

    impl Network {
        fn new(home: &Path) -> Self {
            let folders = Folders::of(home).unwrap();
            folders.make().unwrap();
            let mut settings = Settings::new("n".to_owned(), "127.0.0.1:1".parse().unwrap(), Listen::Off);
            settings.keep(&folders.settings()).unwrap();
            Self { folders, settings, readers: watch::Sender::default() }
        }

        /// What a start does about its catalog.
        async fn start(&mut self, wanted: Option<&str>) -> Result<Known, CatalogPlaceError> {
            let mut here = CatalogPlace { folders: &self.folders, settings: &mut self.settings };
            here.follow(&self.readers).await?;
            assert!(!here.settle(wanted.map(|it| it.parse().unwrap()), &self.readers).await?);
            let known = here.known();
            assert_eq!(Settings::read(&self.folders.settings()).unwrap().as_ref(), Some(&self.settings));
            known
        }

        fn file(&self) -> CatalogUrl {
            CatalogUrl::Sqlite(self.folders.catalog())
        }
    }

    async fn announce(url: &CatalogUrl) -> CatalogId {
        let catalog = url.open(10).await.unwrap();
        catalog.announce(&node("o1", place("z"))).await.unwrap();
        let id = catalog.identity().await.unwrap();
        Catalog::close(&*catalog).await;
        id
    }

    #[test]
    fn a_catalog_is_chosen_by_a_word_or_the_url_of_a_server() {
        assert_eq!("sqlite".parse(), Ok(CatalogChoice::File));
        assert!(matches!("postgres://u@h/d".parse(), Ok(CatalogChoice::At(_))));
        for wrong in ["sqlite:///a", "postgres", "/a", ""] {
            assert_eq!(wrong.parse::<CatalogChoice>(), Err(CatalogChoiceError), "{wrong}");
        }
    }

    #[tokio::test]
    async fn the_settings_say_where_the_catalog_is_through_moves_there_and_back() {
        let home = tempfile::tempdir().unwrap();
        let mut network = Network::new(home.path());
        let file = network.file();
        assert_eq!(network.start(None).await.unwrap(), Known { url: file.clone(), id: None });
        let id = announce(&file).await;
        let url = Server::shared().database();
        let there = Known { url: url.parse().unwrap(), id: Some(id) };
        assert_eq!(network.start(Some(&url)).await.unwrap(), there);
        assert!(matches!(*network.readers.borrow(), Wait::Moving(_)));
        // It is remembered, and a disk has no password of it.
        for wanted in [None, Some(&*url)] {
            assert_eq!(network.start(wanted).await.unwrap(), there);
        }
        let renamed = format!("{url}?sslmode=prefer");
        let known = network.start(Some(&renamed)).await.unwrap();
        assert_eq!((known.id, known.url.without_password().unwrap()), (Some(id), renamed));
        assert_eq!(network.start(Some(&url)).await.unwrap(), there);
        let secret = url.replacen("evernear@", "evernear:sesame@", 1);
        let refused = network.start(Some(&secret)).await.unwrap_err();
        assert!(matches!(refused, CatalogPlaceError::Password(_)), "{refused}");
        assert_eq!(network.start(Some("sqlite")).await.unwrap(), Known { url: file.clone(), id: None });
        assert_eq!(announce(&file).await, id);

        // A crash before the settings were written: the place that it left says where it went.
        move_catalog(&file, &there.url, |_| {}).await.unwrap();
        assert_eq!(network.start(None).await.unwrap(), there);
        move_catalog(&there.url, &file, |_| {}).await.unwrap();
        assert_eq!(network.start(None).await.unwrap(), Known { url: file.clone(), id: None });
        let elsewhere = CatalogUrl::Sqlite(home.path().join("elsewhere.db"));
        move_catalog(&file, &elsewhere, |_| {}).await.unwrap();
        assert!(matches!(network.start(None).await, Err(CatalogPlaceError::Elsewhere { .. })));
    }

    #[tokio::test]
    async fn a_new_network_begins_in_an_empty_database_and_in_no_other() {
        let home = tempfile::tempdir().unwrap();
        let (url, taken) = (Server::shared().database(), Server::shared().database());
        announce(&taken.parse().unwrap()).await;
        let mut network = Network::new(home.path());
        let refused = network.start(Some(&taken)).await.unwrap_err();
        assert!(matches!(&refused, CatalogPlaceError::Move(MoveError::Taken { .. })), "{refused}");
        let known = network.start(Some(&url)).await.unwrap();
        // Nothing was filed yet, and it is known all the same.
        assert_eq!(network.start(None).await.unwrap(), known);
        assert_eq!(announce(&known.url).await, known.id.unwrap());
        assert!(!network.folders.catalog().exists());
    }

    #[tokio::test]
    async fn another_catalog_or_none_in_the_place_of_a_known_one_is_refused_and_no_file_is_made() {
        let home = tempfile::tempdir().unwrap();
        let mut network = Network::new(home.path());
        let (url, other) = (Server::shared().database(), Server::shared().database());
        network.start(Some(&url)).await.unwrap();
        announce(&other.parse().unwrap()).await;
        let empty = Server::shared().database();
        for strange in [other, empty] {
            network.settings.catalog.as_mut().unwrap().url = strange;
            let refused = network.start_as_it_is().await.unwrap_err();
            assert!(matches!(&refused, CatalogPlaceError::Strange { .. }), "{refused}");
            assert!(refused.to_string().contains("up.toml"), "{refused}");
        }
        assert!(!network.folders.catalog().exists());
        let gone = Server::shared().url("nobody_made_it");
        network.settings.catalog.as_mut().unwrap().url = gone;
        assert!(matches!(network.start_as_it_is().await, Err(CatalogPlaceError::Open { .. })));
        network.settings.catalog.as_mut().unwrap().url = "postgres://evernear@127.0.0.1:1/x".to_owned();
        assert!(network.start_as_it_is().await.unwrap(), "its server is away");
    }

    impl Network {
        async fn start_as_it_is(&mut self) -> Result<bool, CatalogPlaceError> {
            CatalogPlace { folders: &self.folders, settings: &mut self.settings }.settle(None, &self.readers).await
        }
    }
}
