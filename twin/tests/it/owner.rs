//! The owner secret at rest: only the right passphrase or key file opens it, and every changed byte is detected.

use std::path::Path;

use twin::{Cost, LockKind, OwnerError, OwnerStore, Unlock, UnlockError};

fn words(text: &str) -> Unlock {
    Unlock::passphrase(text.to_owned())
}

fn store(folder: &Path) -> OwnerStore {
    OwnerStore::at(folder.join("state/owner.key"))
}

#[test]
fn the_secret_comes_back_with_its_passphrase_only() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    assert!(matches!(store.card(), Err(OwnerError::Absent { .. })));
    let secret = store.create(&words("correct horse"), Cost::LEAST).unwrap();
    let card = store.card().unwrap();
    assert_eq!((card.owner, card.lock), (secret.keys().id(), LockKind::Passphrase));
    assert_eq!(store.open(&words("correct horse")).unwrap().expose(), secret.expose());
    let wrong = store.open(&words("correct horsE")).unwrap_err();
    assert!(matches!(wrong, OwnerError::Wrong { lock: LockKind::Passphrase }));
    assert_eq!(wrong.to_string(), "this passphrase does not open this owner key");
    assert!(matches!(store.create(&words("correct horse"), Cost::LEAST), Err(OwnerError::Exists { .. })));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(store.path()), mode(store.path().parent().unwrap())), (0o600, 0o700));
    }
}

#[test]
fn a_key_file_opens_it_and_another_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let [key, other] = ["a.key", "b.key"].map(|name| Unlock::create_key_file(&folder.path().join(name)).unwrap());
    let secret = store.create(&key, Cost::RECOMMENDED).unwrap();
    let read = Unlock::read_key_file(&folder.path().join("a.key")).unwrap();
    assert_eq!(store.open(&read).unwrap().expose(), secret.expose());
    assert!(matches!(store.open(&other), Err(OwnerError::Wrong { lock: LockKind::KeyFile })));
    assert!(matches!(store.open(&words("correct horse")), Err(OwnerError::LockKind { expected: LockKind::KeyFile })));
    std::fs::write(folder.path().join("b.key"), [0; 31]).unwrap();
    let short = Unlock::read_key_file(&folder.path().join("b.key"));
    assert!(matches!(short, Err(UnlockError::KeyFileLength { found: 31 })));
}

#[test]
fn a_new_lock_opens_the_same_secret_and_the_old_one_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let secret = store.create(&words("correct horse"), Cost::LEAST).unwrap();
    let short = store.relock(&words("correct horse"), &words("short"), Cost::LEAST);
    assert!(matches!(short, Err(OwnerError::Unlock(UnlockError::Short))));
    store.relock(&words("correct horse"), &words("battery staple"), Cost::LEAST).unwrap();
    assert_eq!(store.open(&words("battery staple")).unwrap().expose(), secret.expose());
    assert!(matches!(store.open(&words("correct horse")), Err(OwnerError::Wrong { .. })));
    assert!(store.relock(&words("correct horse"), &words("another one"), Cost::LEAST).is_err());
}

#[test]
fn every_changed_byte_and_every_cut_is_damage_not_a_wrong_passphrase() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.create(&words("correct horse"), Cost::LEAST).unwrap();
    let good = std::fs::read(store.path()).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        std::fs::write(store.path(), &bad).unwrap();
        assert!(matches!(store.open(&words("correct horse")), Err(OwnerError::Damaged { .. })), "byte {at}");
        std::fs::write(store.path(), &good[..at]).unwrap();
        assert!(matches!(store.open(&words("correct horse")), Err(OwnerError::Damaged { .. })), "cut at {at}");
    }
}

#[test]
fn a_forged_check_buys_neither_another_cost_nor_another_owner() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.create(&words("correct horse"), Cost::LEAST).unwrap();
    let good = std::fs::read(store.path()).unwrap();
    for at in [12, 15, 16, 19, 20, 23, 24, 55, 56, 88, 135] {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        let check = blake3::hash(&bad[..136]);
        bad[136..].copy_from_slice(&check.as_bytes()[..8]);
        std::fs::write(store.path(), &bad).unwrap();
        let refused = store.open(&words("correct horse")).unwrap_err();
        let expected = matches!(refused, OwnerError::Wrong { .. } | OwnerError::Unlock(UnlockError::Cost { .. }));
        assert!(expected, "byte {at}: {refused:?}");
    }
}
