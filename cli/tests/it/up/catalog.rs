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
