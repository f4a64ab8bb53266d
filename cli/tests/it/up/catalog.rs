//! A catalog that was lost, or is damaged: it is made again from the disks.

use super::*;

#[test]
fn the_making_of_a_lost_catalog_that_was_cut_short_is_gone_on_with() {
    let home = Home::new();
    let [http, dns] = doors();
    let doors = ["--http", &http, "--dns", &dns];
    let network = Network::start(&home, &doors);
    let stored = store_all(&home);
    drop(network);
    let folder = home.path().join(".evernear/network");
    for file in ["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm"] {
        fs::remove_file(folder.join(file)).unwrap();
    }
    let mark = folder.join("catalog.unfinished");
    let mut child = up(&home, &doors).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("it begins", READY, || (mark.exists() && folder.join("catalog.sqlite").exists()).then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
    // A kill that came too late would have found nothing to cut short.
    fs::write(&mark, "").unwrap();
    let network = Network::start(&home, &doors);
    network.says(&["the catalog was lost", "o3"]);
    assert_exact(&stored);
    assert!(!mark.exists());
}

#[test]
fn a_lost_catalog_is_not_taken_for_whole_while_a_disk_that_is_there_was_not_read() {
    let home = Home::new();
    let ([http, dns], disks) = (doors(), folders(&home, &["a", "b", "c"]));
    let network = Network::start(&home, &["--http", &http, "--dns", &dns, "a", "b", "c"]);
    let stored = store_all(&home);
    assert!(network.stop("-TERM").success());
    let folder = home.path().join(".evernear/network");
    fs::remove_file(folder.join("catalog.sqlite")).unwrap();
    // As another process has it, nobody can read the disk.
    let held = fs::File::options().write(true).open(disks[1].join("evernear/o2/lock")).unwrap();
    held.lock().unwrap();
    let refused = home.run(&["up"]);
    let says = ["cannot be read", disks[1].to_str().unwrap()];
    assert!(refused.code == 1 && says.iter().all(|it| refused.err.contains(it)), "{} {}", refused.code, refused.err);
    assert!(folder.join("catalog.unfinished").exists(), "the next start reads all disks");
    drop(held);
    let _network = Network::start(&home, &[]);
    assert!(!folder.join("catalog.unfinished").exists());
    assert_exact(&stored);
}

#[test]
fn a_lost_catalog_is_read_from_the_disks_also_from_one_that_was_away() {
    let home = Home::new();
    let ([http, dns], disks) = (doors(), folders(&home, &["a", "b", "c"]));
    let network = Network::start(&home, &["--http", &http, "--dns", &dns, "a", "b", "c"]);
    let stored = store_all(&home);
    let (label, url) = put(&home, "large.bin");
    let (erased, erased_url) = put(&home, "middle.bin");
    assert_eq!(home.run(&["rm", &erased]).code, 0);
    drop(network);
    for file in ["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm"] {
        fs::remove_file(home.path().join(".evernear/network").join(file)).unwrap();
    }
    let away = home.path().join("away");
    fs::rename(&disks[2], &away).unwrap();
    let path = home.path().join("manager");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(READY)).unwrap();
    let mut command = up(&home, &[]);
    command.env("NOTIFY_SOCKET", &path);
    let network = Network::of(command);
    network.says(&["the catalog was lost", "o1"]);
    // The service manager is asked for the time that it takes.
    let mut said = [0; 1000];
    let length = manager.recv(&mut said).unwrap();
    let told = std::str::from_utf8(&said[..length]).unwrap();
    assert!(told.starts_with("STATUS=reading ") && told.contains("EXTEND_TIMEOUT_USEC="), "{told}");
    assert_exact(&stored);
    fs::rename(&away, &disks[2]).unwrap();
    network.says(&["a disk is there again", "disk3"]);
    heals(&home, &label);
    assert_exact(&stored);
    assert_eq!((curl(&url).0.as_str(), curl(&erased_url).0.as_str()), ("200", "410"));
}

#[test]
fn a_damaged_catalog_is_set_aside_and_made_again_and_no_disk_is_blamed() {
    let home = Home::new();
    let [http, dns] = doors();
    let network = Network::start(&home, &["--http", &http, "--dns", &dns]);
    let stored = store_all(&home);
    assert!(network.stop("-TERM").success());
    let folder = home.path().join(".evernear/network");
    damage(&folder.join("catalog.sqlite"));
    let network = Network::start(&home, &[]);
    network.says(&["the catalog is damaged", "catalog.damaged-"]);
    assert_exact(&stored);
    let (label, _) = put(&home, "small.txt");
    heals(&home, &label);
    assert!(!folder.join("catalog.unfinished").exists());
}

/// Without their log the file has no table, or is not there at all: origins that find that out one after the other
/// would take for lost, and repair, what the others did not file yet.
#[test]
fn a_catalog_that_lost_its_log_or_left_nothing_but_its_log_is_made_again_before_any_origin_runs() {
    let home = Home::new();
    let ([http, dns], _) = (doors(), folders(&home, &["a", "b", "c"]));
    let mut network = Network::start(&home, &["--http", &http, "--dns", &dns, "a", "b", "c"]);
    let stored = store_all(&home);
    let folder = home.path().join(".evernear/network");
    let aside = |network: &Network| network.account["damaged_catalogs"].as_array().unwrap().clone();
    for (lost, left) in [("catalog.sqlite-wal", "catalog.sqlite"), ("catalog.sqlite", "catalog.sqlite-wal")] {
        let before = aside(&network).len();
        network.signal("-KILL");
        drop(network);
        fs::remove_file(folder.join(lost)).unwrap();
        let bytes = fs::read(folder.join(left)).unwrap();
        network = Network::start(&home, &[]);
        network.says(&["the catalog is damaged: it is set aside"]);
        network.says(&["the catalog was lost", "o3"]);
        network.says(&["a damaged catalog was set aside"]);
        let named = aside(&network);
        assert_eq!(named.len(), before + 1, "{named:?}");
        let newest = named[before].as_str().unwrap().to_owned();
        let moved = newest + left.strip_prefix("catalog.sqlite").unwrap();
        assert_eq!(fs::read(moved).unwrap().len(), bytes.len());
        assert!(!folder.join("catalog.unfinished").exists());
        assert_exact(&stored);
    }
    put(&home, "small.txt");
}

#[test]
fn a_catalog_behind_a_link_is_made_again_where_the_link_leads() {
    let home = Home::new();
    let [http, dns] = doors();
    let network = Network::start(&home, &["--http", &http, "--dns", &dns]);
    let stored = store_all(&home);
    assert!(network.stop("-TERM").success());
    let (link, elsewhere) = (home.path().join(".evernear/network/catalog.sqlite"), home.path().join("elsewhere"));
    fs::create_dir(&elsewhere).unwrap();
    fs::rename(&link, elsewhere.join("c.sqlite")).unwrap();
    std::os::unix::fs::symlink(elsewhere.join("c.sqlite"), &link).unwrap();
    damage(&elsewhere.join("c.sqlite"));
    let network = Network::start(&home, &[]);
    let aside = fs::canonicalize(&elsewhere).unwrap().join("catalog.damaged-");
    let named = &network.account["damaged_catalogs"];
    assert!(named[0].as_str().unwrap().starts_with(aside.to_str().unwrap()), "{named}");
    assert!(link.is_symlink() && elsewhere.join("c.sqlite").is_file());
    assert_exact(&stored);
}
