//! A configuration with the files that it names, read and checked: the same for a check and for a start.

use std::{path::Path, sync::Arc, time::SystemTime};

use client::{IdentityFiles, tls::Identity};
use format::wire::Role;

use super::StartError;
use crate::{
    config::{Config, HttpsConfig},
    dns::ZoneFacts,
    door::Terminator,
    listen::certificate::Certificate,
    policy::{denylist::Denylist, places::PlaceTable},
    secret::ZoneSecret,
};

/// TLS for viewers, and the secret that the zone's edges share for it.
pub(super) type Secured = (Arc<Terminator>, Option<Arc<ZoneSecret>>);

/// A configuration that is good, and what its files hold.
pub(super) struct Loaded {
    pub(super) identity: Option<Identity>,
    pub(super) zone: ZoneFacts,
    pub(super) places: PlaceTable,
    /// TLS for viewers.
    pub(super) secure: Option<Secured>,
    pub(super) links: Option<ZoneSecret>,
    pub(super) denylist: Denylist,
}

impl Loaded {
    pub(super) fn of(config: &Config) -> Result<Self, StartError> {
        config.check()?;
        let identity = config.tls.as_ref().map(IdentityFiles::read).transpose()?;
        if let Some(identity) = &identity {
            identity.check(&config.name, Role::Edge, SystemTime::now())?;
        }
        Ok(Self {
            identity,
            zone: ZoneFacts::of(config)?,
            places: PlaceTable::load(&config.places)?,
            secure: config.https.as_ref().map(terminate).transpose()?,
            links: config.links.as_ref().map(|links| read_secret(&links.secret)).transpose()?,
            denylist: Denylist::read(config.denylist.as_ref().map_or(&[], |denylist| &denylist.files))?,
        })
    }
}

/// Sets TLS up from the files of the configuration.
fn terminate(https: &HttpsConfig) -> Result<Secured, StartError> {
    let secret = https.secret.as_deref().map(read_secret).transpose()?.map(Arc::new);
    let certificate = Arc::new(Certificate::new(https.files().as_ref())?);
    Ok((Arc::new(Terminator::for_viewers(certificate, secret.clone())?), secret))
}

fn read_secret(path: &Path) -> Result<ZoneSecret, StartError> {
    ZoneSecret::read(path).map_err(|source| StartError::Secret { path: path.to_owned(), source })
}
