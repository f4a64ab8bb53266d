//! The network's authority and the certificates of its nodes, in the layout of `evernear cluster init` and `issue`, so
//! that `evernear cluster show` and `revoke` work on the folder.
//!
//! Of each pair the key is written first and the certificate last: a certificate that is there has its key. What a
//! crash left incomplete is made anew.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use client::{
    IdentityError, IdentityFiles, KeyFileError, causes, read_key_file,
    tls::{Authority, Fingerprint, Leaf, Requested, TlsError, leaf_of_pem},
};
use format::{NodeName, limits::REFUSED_BYTES_MAX, wire::Role};
use tokio_rustls::rustls::ServerConfig;

use crate::clock::seconds;

/// A certificate that ends sooner is replaced. They are made for two years, so a network that is started once in a year
/// and a half never has one that ended.
const RENEWED_BEFORE: Duration = Duration::from_secs(180 * 24 * 3600);
/// Largest certificate file. Ours have 8 KiB.
const CERTIFICATE_BYTES_MAX: usize = 64 * 1024;

/// The authority's certificate.
const AUTHORITY: &str = "authority.pem";
/// The list of refused certificates, as `evernear cluster revoke` keeps it.
const REFUSED: &str = "refused.crl";

/// The folder of keys, with the authority's at hand.
pub(crate) struct Keys {
    folder: PathBuf,
    authority: Authority,
    fingerprint: Fingerprint,
}

/// Why keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The disk returns an error.
    #[error("{} cannot be read or written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The authority's key cannot be read, or every user can read it.
    #[error(
        "the key of the authority in {0} cannot be used: put back a copy of authority.key. Without one move {0} away, and the next start makes \
         another authority and other certificates; what is stored stays", folder.display()
    )]
    Key {
        /// The folder.
        folder: PathBuf,
        /// The cause.
        source: KeyFileError,
    },
    /// The authority's files are damaged.
    #[error("the authority in {} cannot be used; put back a copy of authority.pem and authority.key, or move that folder away, and the next start makes others", folder.display())]
    Authority {
        /// The folder.
        folder: PathBuf,
        /// The cause.
        source: TlsError,
    },
    /// A certificate cannot be made.
    #[error("a certificate for {name} cannot be made")]
    Issue {
        /// For which node.
        name: NodeName,
        /// The cause.
        source: TlsError,
    },
}

impl Keys {
    /// Reads the authority, or makes it.
    ///
    /// # Errors
    /// [`KeysError`].
    pub(crate) fn open(folder: PathBuf) -> Result<Self, KeysError> {
        let (certificate, key) = (folder.join(AUTHORITY), folder.join("authority.key"));
        let wrong = |source| KeysError::Authority { folder: folder.clone(), source };
        let authority = match read(&certificate)? {
            Some(text) => {
                let key = read_key_file(&key).map_err(|source| KeysError::Key { folder: folder.clone(), source })?;
                Authority::from_pem(&text, &key).map_err(wrong)?
            }
            None => {
                let authority = Authority::create().map_err(wrong)?;
                write(&key, &authority.key_pem())?;
                write(&certificate, authority.certificate_pem())?;
                authority
            }
        };
        let fingerprint = Fingerprint::of_pem(authority.certificate_pem()).map_err(wrong)?;
        Ok(Self { folder, authority, fingerprint })
    }

    /// Returns the authority's certificate.
    pub(crate) fn authority_pem(&self) -> &str {
        self.authority.certificate_pem()
    }

    /// Returns its hash.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Returns TLS for the door at which machines join.
    ///
    /// # Errors
    /// [`KeysError::Authority`].
    pub(crate) fn door_config(&self) -> Result<Arc<ServerConfig>, KeysError> {
        let wrong = |source| KeysError::Authority { folder: self.folder.clone(), source };
        self.authority.door_config().map_err(wrong)
    }

    /// Returns the certificate, as PEM, of a node whose key lies on another machine, and keeps it: that is the record
    /// of what was issued, and `evernear cluster revoke` finds it there. None if the name has one of another key.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// [`KeysError`].
    pub(crate) fn certify(&self, name: &NodeName, role: Role, key: &Requested) -> Result<Option<String>, KeysError> {
        let path = self.folder.join(format!("{name}.pem"));
        if let Some(text) = read(&path)? {
            return Ok(key.is_in(&text).then_some(text));
        }
        let issued = self.authority.certify(key, name, role);
        let text = issued.map_err(|source| KeysError::Issue { name: name.clone(), source })?;
        write(&path, &text)?;
        Ok(Some(text))
    }

    /// Returns the list of refused certificates, as it was signed; none before the first. Blocks on the disk.
    ///
    /// # Errors
    /// [`KeysError::Io`].
    pub(crate) fn refused(&self) -> Result<Option<Vec<u8>>, KeysError> {
        let path = self.folder.join(REFUSED);
        client::read_kept(&path, REFUSED_BYTES_MAX).map_err(|source| KeysError::Io { path, source })
    }

    /// Returns the files of a node's identity. They are made when they are not there, or would not be accepted, or end
    /// soon; programs that use the ones before take the new ones up by themselves.
    ///
    /// # Errors
    /// [`KeysError`].
    pub(crate) fn files(&self, name: &NodeName, role: Role, now: SystemTime) -> Result<IdentityFiles, KeysError> {
        let file = |end: &str| self.folder.join(format!("{name}.{end}"));
        let files =
            IdentityFiles { authority: self.folder.join(AUTHORITY), certificate: file("pem"), key: file("key") };
        let (old, is_good) = match files.read() {
            Err(IdentityError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => (None, false),
            Err(error) => {
                tracing::warn!(%name, %error, "a certificate cannot be used; another is made");
                (None, false)
            }
            Ok(identity) => {
                let leaf = identity.leaf().ok();
                let is_good = identity.check(name, role, now).is_ok();
                if is_good && leaf.as_ref().is_some_and(|leaf| leaf.ends > seconds(now + RENEWED_BEFORE)) {
                    return Ok(files);
                }
                (leaf, is_good)
            }
        };
        match self.replace(&files, old, name, role) {
            Err(error) if is_good => {
                tracing::error!(%name, error = causes(&error), "a certificate that ends soon is not renewed");
            }
            replaced => replaced?,
        }
        Ok(files)
    }

    /// Makes another certificate in the place of one that was.
    fn replace(&self, files: &IdentityFiles, old: Option<Leaf>, name: &NodeName, role: Role) -> Result<(), KeysError> {
        if let Some(leaf) = old {
            // `evernear cluster revoke` still finds it there.
            let text = read(&files.certificate)?.unwrap_or_default();
            write(&self.folder.join("replaced").join(format!("{name}-{}.pem", leaf.serial)), &text)?;
        }
        let issued =
            self.authority.issue(name, role).map_err(|source| KeysError::Issue { name: name.clone(), source })?;
        write(&files.key, &issued.key)?;
        write(&files.certificate, &issued.certificate)?;
        tracing::info!(%name, role = role.as_str(), "a certificate was issued");
        Ok(())
    }
}

/// Returns the hash of the authority's certificate in a folder of keys; none before the first start has made it.
///
/// # Errors
/// [`KeysError`].
pub(crate) fn authority_in(folder: &Path) -> Result<Option<Fingerprint>, KeysError> {
    let wrong = |source| KeysError::Authority { folder: folder.to_owned(), source };
    read(&folder.join(AUTHORITY))?.map(|text| Fingerprint::of_pem(&text).map_err(wrong)).transpose()
}

/// Returns the hash of a node's certificate in a folder of keys, if it has one.
///
/// # Errors
/// [`KeysError::Io`].
pub(crate) fn certificate_in(folder: &Path, name: &NodeName) -> Result<Option<Fingerprint>, KeysError> {
    Ok(read(&folder.join(format!("{name}.pem")))?.and_then(|text| Fingerprint::of_pem(&text).ok()))
}

/// Returns the names of edges that have a certificate in a folder of keys.
pub(crate) fn edges_in(folder: &Path) -> Result<Vec<NodeName>, KeysError> {
    let io = |source| KeysError::Io { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io)?,
    };
    let mut edges = Vec::new();
    for entry in entries {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|end| end == "pem")
            && let Some(text) = read(&path)?
            && let Ok(leaf) = leaf_of_pem(text.as_bytes())
            && leaf.role == Role::Edge
        {
            edges.push(leaf.name);
        }
    }
    Ok(edges)
}

/// Returns whether a folder of keys has a certificate of this name.
pub(crate) fn is_named(folder: &Path, name: &NodeName) -> bool {
    folder.join(format!("{name}.pem")).exists()
}

fn read(path: &Path) -> Result<Option<String>, KeysError> {
    let io = |source| KeysError::Io { path: path.to_owned(), source };
    let bytes = client::read_kept(path, CERTIFICATE_BYTES_MAX).map_err(io)?;
    bytes.map(|bytes| String::from_utf8(bytes).map_err(|error| io(io::Error::other(error)))).transpose()
}

fn write(path: &Path, text: &str) -> Result<(), KeysError> {
    client::keep(path, text.as_bytes()).map_err(|source| KeysError::Io { path: path.to_owned(), source })
}

/// Makes a folder that only this user can read, durably.
pub(crate) fn private_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    client::make_folder(path, &builder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_broken_or_old_is_made_anew_and_what_is_good_stays() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("keys");
        // A crash between the two files of the authority.
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("authority.key"), "cut sh").unwrap();
        let keys = Keys::open(folder.clone()).unwrap();
        let (name, now): (NodeName, _) = ("o1".parse().unwrap(), SystemTime::now());
        let serial = |files: &IdentityFiles| files.read().unwrap().leaf().unwrap().serial.to_string();
        let first = serial(&keys.files(&name, Role::Origin, now).unwrap());
        drop(keys);
        let keys = Keys::open(folder.clone()).unwrap();
        assert_eq!(serial(&keys.files(&name, Role::Origin, now).unwrap()), first, "another start changes nothing");
        // A crash between the two files of a node.
        fs::remove_file(folder.join("o1.pem")).unwrap();
        let second = serial(&keys.files(&name, Role::Origin, now).unwrap());
        assert_ne!(second, first);
        // A key of another certificate.
        let other = keys.files(&"o2".parse().unwrap(), Role::Origin, now).unwrap();
        fs::copy(other.key, folder.join("o1.key")).unwrap();
        let files = keys.files(&name, Role::Origin, now).unwrap();
        files.read().unwrap().check(&name, Role::Origin, now).unwrap();
        let third = serial(&files);
        assert_ne!(third, second);
        // Made under a clock that was far ahead, it begins in the future of the right one.
        let earlier = now - Duration::from_secs(600 * 24 * 3600);
        let ahead = serial(&keys.files(&name, Role::Origin, earlier).unwrap());
        assert_ne!(ahead, third);
        let third = ahead;
        // The certificate counts for two years.
        let later = now + Duration::from_secs(600 * 24 * 3600);
        assert_ne!(serial(&keys.files(&name, Role::Origin, later).unwrap()), third);
        assert!(folder.join(format!("replaced/o1-{third}.pem")).exists());
        // A disk that takes nothing more: what counts for some months yet is used.
        let (kept, blocked) = (keys.files(&name, Role::Origin, now).unwrap(), folder.join("replaced"));
        let fourth = serial(&kept);
        fs::remove_dir_all(&blocked).unwrap();
        fs::write(&blocked, "").unwrap();
        assert_eq!(serial(&keys.files(&name, Role::Origin, later).unwrap()), fourth);
        let ended = now + Duration::from_secs(900 * 24 * 3600);
        assert!(matches!(keys.files(&name, Role::Origin, ended), Err(KeysError::Io { .. })));
        // An authority without its key makes nothing, and says how to go on.
        let (key, away) = (folder.join("authority.key"), home.path().join("away"));
        fs::rename(&key, &away).unwrap();
        let lost = Keys::open(folder.clone()).map(drop).unwrap_err();
        assert!(matches!(&lost, KeysError::Key { .. }) && lost.to_string().contains("move"), "{lost}");
        fs::rename(&away, &key).unwrap();
        fs::write(folder.join("authority.pem"), "nonsense").unwrap();
        assert!(matches!(Keys::open(folder), Err(KeysError::Authority { .. })));
    }
}
