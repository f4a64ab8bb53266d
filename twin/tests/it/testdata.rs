//! An owner's key file and index as they once were written are read by today's program.
//!
//! `EVERNEAR_WRITE_TESTDATA=1 ./x test --workspace -E 'test(testdata)'` writes them anew, and those of the origin. Once
//! a format is in use its bytes are never written anew: a new version gets a folder of its own beside them.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use format::Domain;
use twin::{Cost, Index, LockKind, OwnerStore, Unlock};

use crate::index::entry;

const TESTDATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata");
const WRITE: &str = "EVERNEAR_WRITE_TESTDATA";
const PASSPHRASE: &str = "correct horse battery staple";

fn passphrase() -> Unlock {
    Unlock::passphrase(PASSPHRASE.to_owned())
}

/// Writes what the test below reads: three uploads, of which one was forgotten and one recorded twice.
fn write(into: &Path) {
    let _ = fs::remove_dir_all(into);
    fs::create_dir_all(into).unwrap();
    let secret = OwnerStore::at(into.join("owner.key")).create(&passphrase(), Cost::LEAST).unwrap();
    let mut index = Index::open(into.join("index"), &secret).unwrap();
    for byte in [10, 20, 30, 20] {
        index.record(entry(byte)).unwrap();
    }
    index.forget(&[entry(10).capability.locator()].into()).unwrap();
    drop(index);
    fs::remove_file(into.join("index.lock")).unwrap();
}

#[test]
fn a_key_file_and_an_index_of_the_first_version_are_read() {
    if std::env::var_os(WRITE).is_some() {
        write(Path::new(TESTDATA));
    }
    let folder = tempfile::tempdir().unwrap();
    for name in ["owner.key", "index"] {
        let path = folder.path().join(name);
        fs::write(&path, fs::read(Path::new(TESTDATA).join(name)).unwrap()).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    }
    let store = OwnerStore::at(folder.path().join("owner.key"));
    let secret = store.open(&passphrase()).unwrap();
    let card = store.card().unwrap();
    assert_eq!((card.owner, card.lock), (secret.keys().id(), LockKind::Passphrase));
    let index = Index::open(folder.path().join("index"), &secret).unwrap();
    let mut entries: Vec<_> = index.entries().map(|(_, entry)| entry.clone()).collect();
    entries.sort_by_key(|entry| entry.length);
    assert_eq!(entries, [20, 30].map(entry));
    assert_eq!(entries[0].tenure.wanted, ["country:BE".parse::<Domain>().unwrap()]);
}
