//! Disks that hang, fail, are covered, taken for others, or full.

use super::*;

/// Takes over 10 s, because a disk is waited for so long before it is told as one that does not answer.
#[test]
fn a_disk_that_hangs_keeps_neither_the_start_nor_the_end_waiting() {
    let home = Home::new();
    let ([http, dns], disks) = (doors(), folders(&home, &["a", "b", "c"]));
    let network = Network::start(&home, &["--http", &http, "--dns", &dns, "a", "b", "c"]);
    let stored = store_all(&home);
    assert!(network.stop("-TERM").success());
    // Who reads the mark hangs, as on a disk that answers nothing.
    let mark = disks[1].join("evernear/disk.toml");
    let (kept, pipe) = (home.path().join("kept"), disks[1].join("evernear/pipe"));
    let hang = || {
        fs::rename(&mark, &kept).unwrap();
        assert!(Command::new("mkfifo").arg(&mark).status().unwrap().success());
    };
    hang();
    let network = Network::start(&home, &[]);
    assert_eq!(network.account["disks"][1]["gone"], "it does not answer");
    assert_exact(&stored);
    fs::rename(&mark, &pipe).unwrap();
    fs::rename(&kept, &mark).unwrap();
    // Whoever hangs goes on.
    drop(fs::OpenOptions::new().write(true).open(&pipe).unwrap());
    network.says(&["a disk is there again", "disk2"]);
    hang();
    network.says(&["a disk is left out", "disk2", "it does not answer"]);
    assert_exact(&stored);
    let begun = Instant::now();
    assert!(network.stop("-TERM").success());
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}: a look at the disk is waited for", begun.elapsed());
}

#[test]
fn a_folder_with_other_files_replaces_a_lost_disk_when_its_owner_says_so() {
    let home = Home::new();
    let ([http, dns], disks) = (doors(), folders(&home, &["a", "b", "c"]));
    let network = Network::start(&home, &["--http", &http, "--dns", &dns, "a", "b", "c"]);
    let stored = store_all(&home);
    let (label, _) = put(&home, "large.bin");
    assert!(network.stop("-TERM").success());
    lose(&disks[1]);
    fs::create_dir(&disks[1]).unwrap();
    let photo = disks[1].join("holiday.jpg");
    fs::write(&photo, "a beach").unwrap();
    // Naming all disks at each start says nothing of this one.
    let network = Network::start(&home, &["a", "b", "c"]);
    let why = network.account["disks"][1]["gone"].as_str().unwrap();
    assert!(why.contains("holiday.jpg") && why.contains("--replace"), "{why}");
    assert_exact(&stored);
    assert!(network.stop("-TERM").success());
    assert!(!disks[1].join("evernear").exists(), "it is not filled");
    let network = Network::start(&home, &["--replace", "b"]);
    assert_eq!(network.account["disks"][1]["gone"], Value::Null);
    heals(&home, &label);
    assert_exact(&stored);
    assert_eq!(fs::read_to_string(photo).unwrap(), "a beach");
    // That word counted once.
    let settings = fs::read_to_string(home.path().join(".evernear/network/up.toml")).unwrap();
    assert!(!settings.contains("is_new = true"), "{settings}");
}

/// The disk that fails does so for real: each fsync of a file on it is answered with an error.
#[test]
fn a_disk_whose_fsync_fails_is_left_out_and_nothing_else_ends() {
    let home = Home::new();
    let ([http, dns], disks) = (doors(), folders(&home, &["a", "b", "c"]));
    let mut network = Network::start(&home, &["--http", &http, "--dns", &dns, "a", "b", "c"]);
    let stored = store_all(&home);
    let packs = fs::read_dir(disks[1].join("evernear/o2/packs")).unwrap().map(|entry| entry.unwrap().path());
    let packs: Vec<_> = packs.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
    let mut strace = Command::new("strace");
    strace.args([
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=fdatasync,fsync",
        "-e",
        "inject=fdatasync,fsync:error=EIO",
    ]);
    for path in packs.iter().chain([&disks[1].join("evernear/o2/records"), &disks[1].join("evernear/o2/shards")]) {
        strace.arg("-P").arg(path);
    }
    let mut strace = strace.args(["-p", &network.child.id().to_string()]).stderr(Stdio::null()).spawn().unwrap();
    // These may wait for the third node for longer than a test should.
    let storing: Vec<Child> = (0..4)
        .map(|number| {
            let name = format!("more-{number}.bin");
            home.write(&name, noise(30_000));
            home.command(&["put", &name]).spawn().unwrap()
        })
        .collect();
    network.says(&["a disk is left out", "disk2", "fsync"]);
    for mut put in storing {
        let _ = (put.kill(), put.wait());
    }
    strace.kill().unwrap();
    strace.wait().unwrap();
    assert_eq!(network.child.try_wait().unwrap(), None, "it runs");
    assert_exact(&stored);
    until("a file is stored", HEALED, || (home.run(&["put", "middle.bin"]).code == 0).then_some(()));
    assert!(network.stop("-TERM").success());
    // Whoever starts it again tries the disk again.
    let network = Network::start(&home, &[]);
    assert_eq!(network.account["disks"][1]["gone"], Value::Null);
    assert_exact(&stored);
}

mod needs_root {
    use super::*;

    /// A small file system in memory.
    struct Mounted(PathBuf);

    impl Mounted {
        fn small(at: &Path) -> Self {
            let options = ["-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs"];
            assert!(Command::new("mount").args(options).arg(at).status().unwrap().success());
            Self(at.to_owned())
        }
    }

    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
        }
    }

    /// Runs a command in the mount namespace of a process.
    fn within(process: u32, words: &[&str]) {
        let id = process.to_string();
        let done = Command::new("nsenter").args(["--target", &id, "--mount"]).args(words).status();
        assert!(done.expect("util-linux is installed: `./x setup --test`").success(), "{words:?}");
    }

    #[test]
    #[ignore = "needs root"]
    fn a_state_folder_on_a_full_disk_serves_what_is_stored_and_says_what_to_do() {
        let home = Home::new();
        let ([http, dns], disks) = (doors(), folders(&home, &["a", "b", "c"]));
        let state = home.path().join(".evernear");
        fs::create_dir(&state).unwrap();
        let _mounted = Mounted::small(&state);
        let network = Network::start(&home, &["--http", &http, "--dns", &dns, "a", "b", "c"]);
        let stored = store_all(&home);
        // It becomes full while it runs.
        let fill = || {
            let mut file = fs::File::options().append(true).create(true).open(state.join("fill")).unwrap();
            while std::io::Write::write_all(&mut file, &[0; 512]).is_ok() {}
        };
        fill();
        let refused = home.run(&["put", "middle.bin"]);
        assert!(refused.code != 0 && refused.err.contains("full"), "{}", refused.err);
        assert_exact(&stored);
        lose(&disks[1]);
        network.says(&["twin.toml is not told", "No space left"]);
        assert_exact(&stored);
        drop(network);
        fill();
        let network = Network::start(&home, &[]);
        network.says(&["the state folder takes no write", "is full; free some space"]);
        assert_exact(&stored);
        // After an end in order the catalog has no log, and there is no room for another.
        assert!(network.stop("-TERM").success());
        fill();
        let _network = Network::start(&home, &[]);
        assert_exact(&stored);
        fs::remove_file(state.join("fill")).unwrap();
        until("twin.toml is told", HEALED, || {
            fs::read_to_string(state.join("twin.toml")).ok()?.contains("\"1+1\"").then_some(())
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn a_catalog_that_was_lost_on_a_disk_that_takes_no_write_keeps_nobody_from_reading() {
        let home = Home::new();
        let ([http, dns], _) = (doors(), folders(&home, &["a", "b", "c"]));
        let state = home.path().join(".evernear");
        fs::create_dir(&state).unwrap();
        let _mounted = Mounted::small(&state);
        let mut network = Network::start(&home, &["--http", &http, "--dns", &dns, "a", "b", "c"]);
        let stored = store_all(&home);
        let catalog = state.join("network/catalog.sqlite");
        let remount = |how: &str| {
            let options = ["-o", &format!("remount,{how}")];
            until("it is mounted otherwise", STOPPED, || {
                Command::new("mount").args(options).arg(&state).status().unwrap().success().then_some(())
            });
        };
        for is_full in [true, false] {
            assert!(network.stop("-TERM").success());
            if is_full {
                fs::write(&catalog, "").unwrap();
                let mut file = fs::File::create(state.join("fill")).unwrap();
                while std::io::Write::write_all(&mut file, &[0; 512]).is_ok() {}
            } else {
                fs::remove_file(&catalog).unwrap();
                remount("ro");
            }
            network = Network::start(&home, &[]);
            network.says(&["the catalog was lost, and the next start makes it again once its disk takes writes"]);
            assert_exact(&stored);
            assert_ne!(home.run(&["put", "middle.bin"]).code, 0);
            if is_full {
                fs::remove_file(state.join("fill")).unwrap();
            } else {
                remount("rw");
            }
            // Nobody makes one meanwhile, which would lack what the disks have.
            network.says(&["only reads are served until then", "is empty"]);
            assert_exact(&stored);
            assert!(network.stop("-TERM").success());
            assert!(fs::metadata(&catalog).map_or(true, |found| found.len() == 0));
            network = Network::start(&home, &[]);
            put(&home, "middle.bin");
            assert_exact(&stored);
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn a_network_on_a_read_only_state_folder_starts_serves_and_takes_files_once_that_can_be_written() {
        let home = Home::new();
        let [http, dns] = doors();
        folders(&home, &["a", "b", "c"]);
        let state = home.path().join(".evernear");
        fs::create_dir(&state).unwrap();
        let _mounted = Mounted::small(&state);
        let remount = |how: &str| {
            let options = ["-o", &format!("remount,{how}")];
            until("it is mounted otherwise", STOPPED, || {
                Command::new("mount").args(options).arg(&state).status().unwrap().success().then_some(())
            });
        };
        let network = Network::start(&home, &["--http", &http, "--dns", &dns, "a", "b", "c"]);
        let stored = store_all(&home);
        // With the catalog's log, as a crash leaves it, and without.
        network.signal("-KILL");
        drop(network);
        for _ in 0..2 {
            remount("ro");
            let network = Network::start(&home, &[]);
            network.says(&["the state folder takes no write", "is read-only; mount it"]);
            assert_exact(&stored);
            let second = home.run(&["up"]);
            assert!(second.code == 1 && second.err.contains("runs already"), "{}", second.err);
            assert_ne!(home.run(&["put", "middle.bin"]).code, 0);
            remount("rw");
            until("a file is stored", HEALED, || (home.run(&["put", "middle.bin"]).code == 0).then_some(()));
            assert_exact(&stored);
            assert!(network.stop("-TERM").success());
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn a_disk_that_is_not_mounted_is_left_out_and_its_empty_mount_point_is_not_filled() {
        let home = Home::new();
        let ([http, dns], disks) = (doors(), folders(&home, &["a", "b", "c"]));
        let mounts: String = disks.iter().map(|disk| format!("mount -t tmpfs tmpfs {} && ", disk.display())).collect();
        let script = format!("{mounts} exec \"$@\"");
        let network = |script: &str, arguments: &[&str]| {
            let inner = up(&home, arguments);
            let mut outer = Command::new("unshare");
            outer.args(["--mount", "bash", "-c", script, "up"]).arg(inner.get_program()).args(inner.get_args());
            outer
                .current_dir(home.path())
                .env_clear()
                .env("HOME", home.path())
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
            outer.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            Network::of(outer)
        };
        let running = network(&script, &["--http", &http, "--dns", &dns, "a", "b", "c"]);
        assert_eq!(running.account["disks"][1]["mount"], disks[1].to_str().unwrap());
        let stored = store_all(&home);
        let b = disks[1].to_str().unwrap();
        // The disk itself stays, as the other end of a second mount.
        let kept = folders(&home, &["kept"]).remove(0);
        within(running.child.id(), &["mount", "--bind", b, kept.to_str().unwrap()]);
        within(running.child.id(), &["umount", "--lazy", b]);
        running.says(&["a disk is left out", "disk2"]);
        assert_exact(&stored);
        within(running.child.id(), &["mount", "--bind", kept.to_str().unwrap(), b]);
        running.says(&["a disk is there again", "disk2"]);
        assert_exact(&stored);
        drop(running);

        // Started without its mounts: every folder is an empty one of another file system.
        let empty = home.run(&["up"]);
        assert!(empty.code == 1 && empty.err.contains("nothing is mounted on"), "{}", empty.err);
        assert_eq!(fs::read_dir(&disks[0]).unwrap().count(), 0, "it is not filled");
    }
}
