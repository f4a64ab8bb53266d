//! The folder of a cluster's authority: its key, the certificates that it issued, those that were replaced, and the
//! list of those that the cluster refuses.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail};
use client::{
    RefusedList, Serial, keep, read_kept, refused_from_file,
    tls::{Authority, Leaf, leaf_of_pem},
};
use format::{NodeName, limits::REFUSED_BYTES_MAX, wire::Role};
use zeroize::Zeroizing;

use crate::new_file;

const AUTHORITY_CERTIFICATE: &str = "authority.pem";
const AUTHORITY_KEY: &str = "authority.key";
/// The list of refused certificates, in DER.
const REFUSED: &str = "refused.crl";
/// Certificates that others took the place of; `revoke` still refuses them.
const REPLACED: &str = "replaced";
/// Largest certificate file. Ours have 8 KiB.
const CERTIFICATE_BYTES_MAX: usize = 64 * 1024;

/// The folder, with the authority's key at hand.
pub(super) struct Folder {
    path: PathBuf,
    pub(super) authority: Authority,
}

/// A node's certificate in the folder.
pub(super) struct Certificate {
    pub(super) leaf: Leaf,
    /// Whether it is the one that `issue` or `renew` made last.
    pub(super) is_current: bool,
}

/// A new certificate and its key.
pub(super) struct Files {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl Folder {
    /// Makes an authority in a new folder.
    pub(super) fn create(path: &Path) -> anyhow::Result<Files> {
        client::make_folder(path, &fs::DirBuilder::new())
            .with_context(|| format!("the folder {} cannot be made", path.display()))?;
        let authority = Authority::create()?;
        let files = Files { certificate: path.join(AUTHORITY_CERTIFICATE), key: path.join(AUTHORITY_KEY) };
        write_new(files, authority.certificate_pem(), &authority.key_pem())
    }

    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let read = |file: &str| {
            let path_of = path.join(file);
            fs::read_to_string(&path_of).map(Zeroizing::new).with_context(|| {
                format!("{} cannot be read; `evernear cluster init {}` makes it", path_of.display(), path.display())
            })
        };
        let authority = Authority::from_pem(&read(AUTHORITY_CERTIFICATE)?, &read(AUTHORITY_KEY)?)
            .with_context(|| format!("the authority in {} cannot be used", path.display()))?;
        Ok(Self { path: path.to_owned(), authority })
    }

    /// Issues a certificate under a name that has none here.
    pub(super) fn issue(&self, name: &NodeName, role: Role) -> anyhow::Result<Files> {
        let issued = self.authority.issue(name, role)?;
        write_new(self.files_of(name), &issued.certificate, &issued.key)
    }

    /// Issues a certificate in place of the one of this name.
    pub(super) fn renew(&self, name: &NodeName) -> anyhow::Result<Files> {
        let files = self.files_of(name);
        let old = read_certificate(&files.certificate).with_context(|| {
            format!("{name} has no certificate here to be renewed; `evernear cluster issue` makes the first")
        })?;
        let issued = self.authority.issue(&old.name, old.role)?;
        self.put_away(&old)?;
        // The certificate last: a key without it is noticed, and a second try mends that.
        for (path, text) in [(&files.key, issued.key.as_str()), (&files.certificate, &issued.certificate)] {
            keep(path, text.as_bytes()).with_context(|| format!("{} cannot be written", path.display()))?;
        }
        new_file::readable_by_all(&files.certificate)?;
        Ok(files)
    }

    /// Returns all certificates of nodes, by name, the current one of each first.
    pub(super) fn certificates(&self) -> anyhow::Result<Vec<Certificate>> {
        let mut found = Vec::new();
        for (folder, is_current) in [(self.path.clone(), true), (self.path.join(REPLACED), false)] {
            let entries = match fs::read_dir(&folder) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                entries => entries.with_context(|| format!("the folder {} cannot be read", folder.display()))?,
            };
            for entry in entries {
                let path = entry?.path();
                let is_node =
                    path.extension().is_some_and(|end| end == "pem") && !path.ends_with(AUTHORITY_CERTIFICATE);
                if is_node {
                    found.push(Certificate { leaf: read_certificate(&path)?, is_current });
                }
            }
        }
        found.sort_by(|a, b| {
            (&a.leaf.name, !a.is_current, a.leaf.ends).cmp(&(&b.leaf.name, !b.is_current, b.leaf.ends))
        });
        Ok(found)
    }

    /// Reads the list of refused certificates; the empty one of number zero before the first.
    pub(super) fn refused(&self) -> anyhow::Result<RefusedList> {
        let path = self.path.join(REFUSED);
        let read = || -> anyhow::Result<RefusedList> {
            let Some(bytes) = read_kept(&path, REFUSED_BYTES_MAX)? else { return Ok(RefusedList::default()) };
            Ok(self.authority.open_refused(refused_from_file(bytes))?)
        };
        read().with_context(|| format!("the list of refused certificates in {} cannot be used", path.display()))
    }

    /// Returns a list that refuses these as well as all that `newest` refuses, and keeps it. It is `newest` itself
    /// where that says the same. Certificates that ended stay in the list: a clock that is ahead here must welcome no
    /// thief, and six thousand fit.
    pub(super) fn refuse(&self, newest: RefusedList, more: &[Serial]) -> anyhow::Result<RefusedList> {
        if more.iter().all(|serial| newest.contains(serial)) { self.keep(newest) } else { self.sign(&[newest], more) }
    }

    /// Returns the one list that says what all of these say, and keeps it: the newest of them, or a newer one where
    /// that says less, or where another has its number.
    pub(super) fn settle(&self, mut lists: Vec<RefusedList>) -> anyhow::Result<RefusedList> {
        lists.sort_by_key(RefusedList::number);
        let Some(newest) = lists.pop() else { return Ok(RefusedList::default()) };
        let is_behind = |list: &RefusedList| {
            *list == newest || (list.number() < newest.number() && list.serials().all(|serial| newest.contains(serial)))
        };
        if lists.iter().all(is_behind) {
            return self.keep(newest);
        }
        lists.push(newest);
        self.sign(&lists, &[])
    }

    /// Signs a list above these that refuses what they do, and more, and keeps it.
    fn sign(&self, lists: &[RefusedList], more: &[Serial]) -> anyhow::Result<RefusedList> {
        let newest = lists.iter().map(RefusedList::number).max().unwrap_or(0);
        let number = newest.checked_add(1).context("no list can come after the one that the cluster has")?;
        let all: BTreeSet<&Serial> = lists.iter().flat_map(RefusedList::serials).chain(more).collect();
        let list = self.authority.open_refused(self.authority.refuse(number, all.into_iter())?);
        self.keep(list.context("so many certificates do not fit a list; the cluster needs a new authority")?)
    }

    fn keep(&self, list: RefusedList) -> anyhow::Result<RefusedList> {
        let path = self.path.join(REFUSED);
        keep(&path, list.der()).with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(list)
    }

    /// Puts the certificate of a name among the replaced ones, and its key away, so that `issue` may make another.
    pub(super) fn retire(&self, name: &NodeName) -> anyhow::Result<()> {
        let files = self.files_of(name);
        if !files.certificate.exists() {
            return Ok(());
        }
        self.put_away(&read_certificate(&files.certificate)?)?;
        for path in [&files.certificate, &files.key] {
            match fs::remove_file(path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                removed => removed.with_context(|| format!("{} cannot be removed", path.display()))?,
            }
        }
        Ok(())
    }

    fn put_away(&self, old: &Leaf) -> anyhow::Result<()> {
        let (from, to) = (
            self.files_of(&old.name).certificate,
            self.path.join(REPLACED).join(format!("{}-{}.pem", old.name, old.serial)),
        );
        let bytes = fs::read(&from).with_context(|| format!("{} cannot be read", from.display()))?;
        keep(&to, &bytes).with_context(|| format!("{} cannot be written", to.display()))
    }

    fn files_of(&self, name: &NodeName) -> Files {
        let [certificate, key] = ["pem", "key"].map(|end| self.path.join(format!("{name}.{end}")));
        Files { certificate, key }
    }
}

pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
}

fn read_certificate(path: &Path) -> anyhow::Result<Leaf> {
    let read = || -> anyhow::Result<Leaf> {
        let Some(bytes) = read_kept(path, CERTIFICATE_BYTES_MAX)? else { bail!("it is not there") };
        Ok(leaf_of_pem(&bytes)?)
    };
    read().with_context(|| format!("the certificate {} cannot be read", path.display()))
}

/// Writes the key first. If the second write fails, a key without a certificate is useless, but a certificate without
/// its key would look finished.
fn write_new(files: Files, certificate: &str, key: &str) -> anyhow::Result<Files> {
    new_file::private(&files.key, key)?;
    new_file::public(&files.certificate, certificate)?;
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_that_were_signed_beside_each_other_become_one() {
        let home = tempfile::tempdir().unwrap();
        Folder::create(home.path()).unwrap();
        let folder = Folder::open(home.path()).unwrap();
        let serials: Vec<Serial> = ["a", "b"]
            .iter()
            .map(|name| {
                let files = folder.issue(&name.parse().unwrap(), Role::Twin).unwrap();
                read_certificate(&files.certificate).unwrap().serial
            })
            .collect();
        let sign = |number, of: &[Serial]| {
            folder.authority.open_refused(folder.authority.refuse(number, of.iter()).unwrap()).unwrap()
        };
        let of = |list: &RefusedList| (list.number(), serials.iter().filter(|it| list.contains(it)).count());
        // The newest says it all.
        let settled = folder.settle(vec![sign(2, &serials), sign(1, &serials[..1]), RefusedList::default()]).unwrap();
        assert_eq!(of(&settled), (2, 2));
        // It says less, or another has its number.
        assert_eq!(of(&folder.settle(vec![sign(2, &serials[..1]), sign(1, &serials[1..])]).unwrap()), (3, 2));
        assert_eq!(of(&folder.settle(vec![sign(5, &serials[..1]), sign(5, &serials[1..])]).unwrap()), (6, 2));
        assert_eq!(of(&folder.settle(vec![sign(5, &serials[..1]), sign(5, &serials)]).unwrap()), (6, 2));
        assert_eq!(of(&folder.refused().unwrap()), (6, 2), "it is kept");
    }
}
