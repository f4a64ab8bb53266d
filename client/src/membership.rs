//! This process as a member of its cluster: the certificate by which it is known, and whom it refuses. Both may change
//! while it runs: a renewed certificate counts for the next connection, and a refused peer's connections are cut.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use format::{limits::REFUSED_BYTES_MAX, wire::Role};
use rustls::{ClientConfig, ServerConfig, pki_types::CertificateDer};
use tokio::{sync::watch, time::sleep};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{
    IdentityError, IdentityFiles,
    kept::{keep, read_kept},
    offload,
    refused::{RefusedList, RefusedListError, Serial, refused_from_file},
    tls::{Identity, Leaf, TlsError, leaf_of},
};

/// Whoever runs a node is told so many days before its certificate ends, once a day.
const WARN_DAYS: u64 = 30;
const DAY_SECONDS: u64 = 24 * 3600;

/// A member of a cluster.
pub struct Membership {
    authority: CertificateDer<'static>,
    current: ArcSwap<Current>,
    refused: watch::Sender<Arc<RefusedList>>,
    /// Where the list is kept over a restart.
    file: Option<PathBuf>,
    /// Held while a list is taken up, so that none overtakes a newer one. Tells whether the file has it.
    is_kept: Mutex<bool>,
}

struct Current {
    leaf: Leaf,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Current {
    fn of(identity: &Identity) -> Result<Self, TlsError> {
        Ok(Self { leaf: identity.leaf()?, server: identity.server_config()?, client: identity.client_config()? })
    }
}

impl Membership {
    /// Begins with an identity, and with the list of refused certificates that a former run kept in `file`. A file that
    /// does not read is logged and counts as none: other nodes give the list again. Blocks on the disk.
    ///
    /// # Errors
    /// [`TlsError`] if the parts of the identity do not match.
    pub fn new(identity: &Identity, file: Option<&Path>) -> Result<Arc<Self>, TlsError> {
        let authority = identity.authority().clone();
        let kept = file.and_then(|path| match read_kept(path, 2 * REFUSED_BYTES_MAX) {
            Ok(kept) => {
                let list = RefusedList::open(refused_from_file(kept?), &authority);
                let log = |error| tracing::error!(path = %path.display(), %error, "the kept list of refused certificates does not count");
                list.map_err(log).ok()
            }
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "the kept list of refused certificates does not read");
                None
            }
        });
        Ok(Arc::new(Self {
            authority,
            current: ArcSwap::from_pointee(Current::of(identity)?),
            refused: watch::Sender::new(Arc::new(kept.unwrap_or_default())),
            file: file.map(Path::to_owned),
            is_kept: Mutex::new(true),
        }))
    }

    /// Returns TLS for a server of the node API, with the certificate of now.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.current.load().server).into()
    }

    /// Returns TLS for a caller of the node API, with the certificate of now.
    #[must_use]
    pub fn connector(&self) -> TlsConnector {
        Arc::clone(&self.current.load().client).into()
    }

    /// Returns the role in the own certificate.
    #[must_use]
    pub fn role(&self) -> Role {
        self.current.load().leaf.role
    }

    /// Returns when the own certificate ends, seconds since 1970.
    #[must_use]
    pub fn ends(&self) -> u64 {
        self.current.load().leaf.ends
    }

    /// Says who the holder of a verified chain is. To be asked after each handshake: a resumed session verifies no
    /// chain.
    ///
    /// # Errors
    /// [`TlsError::Name`], [`TlsError::Listed`] for a certificate that the cluster refuses, and [`TlsError::Ended`].
    pub fn admit(&self, certificates: Option<&[CertificateDer<'_>]>) -> Result<Leaf, TlsError> {
        let leaf = leaf_of(certificates.unwrap_or_default())?;
        if self.refused.borrow().contains(&leaf.serial) {
            return Err(TlsError::Listed { name: leaf.name });
        }
        if leaf.ends < now() {
            return Err(TlsError::Ended { name: leaf.name });
        }
        Ok(leaf)
    }

    /// Returns once this certificate is refused. Cancel safe.
    pub async fn refuses(&self, serial: &Serial) {
        // The sender lives as long as this does, so that only the list ends the wait.
        let _ = self.refused.subscribe().wait_for(|list| list.contains(serial)).await;
    }

    /// Returns the newest list of refused certificates.
    #[must_use]
    pub fn refused(&self) -> Arc<RefusedList> {
        Arc::clone(&self.refused.borrow())
    }

    /// Verifies a list of this cluster's authority.
    ///
    /// # Errors
    /// [`RefusedListError`].
    pub fn open_refused(&self, der: Bytes) -> Result<RefusedList, RefusedListError> {
        RefusedList::open(der, &self.authority)
    }

    /// Takes up a list if it is newer than the one held, and returns whether it was. It counts at once, also when it
    /// cannot be kept, which is logged. Dropped, it still ends.
    pub async fn take_up(self: &Arc<Self>, list: RefusedList) -> bool {
        let own = Arc::clone(self);
        offload(move || own.take_up_blocking(list)).await.unwrap_or(false)
    }

    fn take_up_blocking(&self, list: RefusedList) -> bool {
        let mut is_kept = self.is_kept.lock().unwrap_or_else(PoisonError::into_inner);
        if list.number() <= self.refused.borrow().number() {
            return false;
        }
        let list = Arc::new(list);
        tracing::info!(
            number = list.number(),
            refused = list.serials().count(),
            "list of refused certificates taken up"
        );
        self.refused.send_replace(Arc::clone(&list));
        if list.contains(&self.current.load().leaf.serial) {
            tracing::error!(
                "the cluster refuses the certificate of this node; issue another with `evernear cluster issue`"
            );
        }
        *is_kept = self.keep(&list);
        true
    }

    /// Writes the list down, and returns whether it is.
    fn keep(&self, list: &RefusedList) -> bool {
        let Some(Err(error)) = self.file.as_ref().map(|path| keep(path, list.der())) else { return true };
        tracing::error!(%error, "the list of refused certificates cannot be kept now; a restart would forget it until another node tells it");
        false
    }

    /// Tries again to write down the list that could not be.
    fn keep_again(&self) {
        let mut is_kept = self.is_kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_kept {
            *is_kept = self.keep(&self.refused());
        }
    }

    /// Takes up another certificate of the same node, and returns whether it is another. Connections that are open stay
    /// with the one before.
    ///
    /// # Errors
    /// [`TlsError::OtherAuthority`], or what is wrong with the identity.
    pub fn renew(&self, identity: &Identity) -> Result<bool, TlsError> {
        if *identity.authority() != self.authority {
            return Err(TlsError::OtherAuthority);
        }
        let renewed = Current::of(identity)?;
        let is_other = renewed.leaf.serial != self.current.load().leaf.serial;
        if is_other {
            self.current.store(Arc::new(renewed));
        }
        Ok(is_other)
    }

    /// Looks at the files of the identity again for ever, takes up what they hold, and warns before the certificate
    /// ends. A list of refused certificates that could not be kept is tried again. Files that do not fit each other,
    /// as between two writes, leave the old certificate. Cancel safe.
    pub async fn follow_files(self: Arc<Self>, files: IdentityFiles, every: Duration) {
        let (mut is_failing, mut warned) = (false, 0);
        loop {
            let left = self.ends().saturating_sub(now()) / DAY_SECONDS;
            let today = now() / DAY_SECONDS;
            if left < WARN_DAYS && today != warned {
                warned = today;
                tracing::warn!(
                    days = left,
                    "the certificate of this node ends soon; renew it with `evernear cluster renew`"
                );
            }
            sleep(every).await;
            let (own, files) = (Arc::clone(&self), files.clone());
            match offload(move || own.read_again(&files)).await {
                Ok(Ok(is_other)) => {
                    is_failing = false;
                    if is_other {
                        tracing::info!(ends = self.ends(), "certificate of this node taken up");
                    }
                }
                Ok(Err(error)) if !is_failing => {
                    is_failing = true;
                    let error = crate::causes(&error);
                    tracing::warn!(error, "the certificate of this node cannot be read again; the old one stays");
                }
                _ => {}
            }
        }
    }

    fn read_again(&self, files: &IdentityFiles) -> Result<bool, IdentityError> {
        self.keep_again();
        let identity = files.read()?;
        let (name, role) = {
            let held = self.current.load();
            (held.leaf.name.clone(), held.leaf.role)
        };
        identity.check(&name, role, SystemTime::now())?;
        Ok(self.renew(&identity)?)
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::tls::{Authority, Issued};

    fn issue(authority: &Authority, name: &str) -> (Issued, Identity) {
        let issued = authority.issue(&name.parse().unwrap(), Role::Origin).unwrap();
        let identity = Identity::from_pem(authority.certificate_pem(), &issued.certificate, &issued.key).unwrap();
        (issued, identity)
    }

    fn list(authority: &Authority, number: u64, refused: &[&Identity]) -> RefusedList {
        let serials: Vec<_> = refused.iter().map(|identity| identity.leaf().unwrap().serial).collect();
        authority.open_refused(authority.refuse(number, serials.iter()).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn the_newest_list_counts_over_a_restart_and_an_older_one_never_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("refused.crl");
        let authority = Authority::create().unwrap();
        let ((_, own), (_, thief)) = (issue(&authority, "o1"), issue(&authority, "o2"));
        let member = Membership::new(&own, Some(&file)).unwrap();
        member.admit(Some(thief.chain())).unwrap();
        assert!(member.take_up(list(&authority, 2, &[&thief])).await);
        assert!(matches!(member.admit(Some(thief.chain())), Err(TlsError::Listed { .. })));
        for old in [1, 2] {
            assert!(!member.take_up(list(&authority, old, &[])).await);
        }
        let again = Membership::new(&own, Some(&file)).unwrap();
        assert!(again.refused().number() == 2 && again.admit(Some(thief.chain())).is_err());
        again.admit(Some(own.chain())).unwrap();
        // The same name with another certificate is another holder.
        again.admit(Some(issue(&authority, "o2").1.chain())).unwrap();

        fs::write(&file, list(&Authority::create().unwrap(), 9, &[]).der()).unwrap();
        assert_eq!(Membership::new(&own, Some(&file)).unwrap().refused().number(), 0, "another cluster's list");
    }

    #[tokio::test]
    async fn a_list_that_cannot_be_kept_counts_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let authority = Authority::create().unwrap();
        let (_, own) = issue(&authority, "o1");
        let file = folder.path().join("file/below");
        let member = Membership::new(&own, Some(&file)).unwrap();
        assert!(member.take_up(list(&authority, 1, &[&own])).await);
        member.refuses(&own.leaf().unwrap().serial).await;
        // Once it can be, it is kept.
        member.keep_again();
        fs::remove_file(folder.path().join("file")).unwrap();
        fs::create_dir(folder.path().join("file")).unwrap();
        member.keep_again();
        assert_eq!(Membership::new(&own, Some(&file)).unwrap().refused().number(), 1);
    }

    #[tokio::test]
    async fn a_renewed_certificate_is_taken_up_from_its_files_while_the_node_runs() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let authority = Authority::create().unwrap();
        let (_, own) = issue(&authority, "o1");
        let files = IdentityFiles { authority: at("authority.pem"), certificate: at("o1.pem"), key: at("o1.key") };
        fs::write(&files.authority, authority.certificate_pem()).unwrap();
        let write = |issued: &Issued| {
            fs::write(&files.certificate, &issued.certificate).unwrap();
            keep(&files.key, issued.key.as_bytes()).unwrap();
        };
        let member = Membership::new(&own, None).unwrap();
        let (renewed, identity) = issue(&authority, "o1");
        let serial = || member.current.load().leaf.serial.clone();
        write(&renewed);
        assert!(member.read_again(&files).unwrap());
        assert_eq!(serial(), identity.leaf().unwrap().serial);
        assert!(!member.read_again(&files).unwrap(), "the same again");
        // Another node's, another cluster's, and one without its key leave the old one.
        write(&issue(&authority, "o2").0);
        assert!(matches!(member.read_again(&files), Err(IdentityError::Name { .. })));
        write(&renewed);
        fs::write(&files.certificate, &issue(&authority, "o1").0.certificate).unwrap();
        assert!(member.read_again(&files).is_err());
        let other = Authority::create().unwrap();
        write(&issue(&other, "o1").0);
        fs::write(&files.authority, other.certificate_pem()).unwrap();
        assert!(matches!(member.read_again(&files), Err(IdentityError::Tls(TlsError::OtherAuthority))));
        assert_eq!(serial(), identity.leaf().unwrap().serial);
    }
}
