//! A network whose catalog moves to a database server and back. Each test is some starts of a whole network.

use testing::postgres::Server;

use super::*;

/// What only the catalog has, or knows better than the disks.
struct Filed {
    stored: Vec<(String, Vec<u8>)>,
    /// An object under a policy: 503 where that is lost.
    governed: (String, Vec<u8>),
    /// A stable name, and what it stands for.
    pointer: (String, Vec<u8>),
    erased: String,
}

impl Filed {
    fn new(home: &Home) -> Self {
        let stored = store_all(home);
        let (label, _) = put(home, "middle.bin");
        let pointer = home.good(&["name", "new", "site", &label]);
        home.write("policy.toml", "[[link]]\nuse = \"geo\"\nreceive-deny = [\"KP\"]\n");
        home.good(&["policy", "publish", "not-kp", "policy.toml"]);
        home.write("governed.txt", "under a policy");
        let governed = home.good(&["put", "governed.txt", "--policy", "not-kp"]);
        home.write("erased.txt", noise(1000));
        let (label, erased) = put(home, "erased.txt");
        assert_eq!(home.run(&["rm", &label]).code, 0);
        Self {
            pointer: (pointer["url"].as_str().unwrap().to_owned(), stored[1].1.clone()),
            governed: (governed["url"].as_str().unwrap().to_owned(), b"under a policy".to_vec()),
            stored,
            erased,
        }
    }

    fn assert_there(&self) {
        assert_exact(&self.stored);
        assert_exact(&[self.governed.clone(), self.pointer.clone()]);
        assert_eq!(curl(&self.erased).0, "410");
    }
}

fn catalog(home: &Home) -> PathBuf {
    home.path().join(".evernear/network/catalog.sqlite")
}

fn remembered(home: &Home) -> String {
    fs::read_to_string(home.path().join(".evernear/network/up.toml")).unwrap()
}

#[test]
fn the_catalog_moves_to_postgresql_and_back_and_every_object_is_exact() {
    let home = Home::new();
    let [http, dns] = doors();
    let doors = ["--http", &http, "--dns", &dns];
    let network = Network::start(&home, &doors);
    let filed = Filed::new(&home);
    let from = format!("sqlite://{}", catalog(&home).display());
    let database = Server::shared().database();
    let used = home.run(&["catalog", "move", "--from", &from, "--to", &database]);
    assert!(used.code == 1 && used.err.contains("is in use") && used.err.contains("o1"), "{}", used.err);
    assert!(network.stop("-TERM").success());

    // A password is no part of what is written down.
    let secret = database.replacen("evernear@", "evernear:sesame@", 1);
    let refused = home.run(&["up", "--twin", "off", "--catalog", &secret]);
    assert!(refused.code == 1 && refused.err.contains(".pgpass") && !refused.err.contains("sesame"), "{}", refused.err);
    assert!(!remembered(&home).contains("catalog"));

    let network = Network::start(&home, &["--catalog", &database]);
    network.says(&["the catalog has moved", &database]);
    assert_eq!(network.account["catalog"], *database);
    filed.assert_there();
    let (_, later) = put(&home, "small.txt");
    assert!(network.stop("-TERM").success());
    assert!(remembered(&home).contains(&database));
    // What it left is not needed, nor made again.
    fs::rename(catalog(&home), home.path().join("old")).unwrap();
    let network = Network::start(&home, &[]);
    filed.assert_there();
    assert_eq!(curl(&later), ("200".to_owned(), filed.stored[0].1.clone()));
    assert!(network.stop("-TERM").success());
    assert!(!catalog(&home).exists());
    fs::rename(home.path().join("old"), catalog(&home)).unwrap();

    let network = Network::start(&home, &["--catalog", "sqlite"]);
    network.says(&["the catalog has moved"]);
    assert!(network.account["catalog"].is_null());
    filed.assert_there();
    assert_eq!(curl(&later).0, "200");
    put(&home, "small.txt");
    assert!(network.stop("-TERM").success());
    let gone = home.json(&["catalog", "move", "--from", &database, "--to", &Server::shared().database()]);
    assert!(gone.0 == 1 && gone.1["error"].as_str().unwrap().contains("has moved to sqlite://"), "{}", gone.1);
}

#[test]
fn a_start_that_is_killed_while_the_catalog_moves_is_gone_on_with_by_the_next() {
    let home = Home::new();
    let [http, dns] = doors();
    let network = Network::start(&home, &["--http", &http, "--dns", &dns]);
    let filed = Filed::new(&home);
    assert!(network.stop("-TERM").success());
    let database = Server::shared().database();
    for (wanted, pause) in [(&*database, 60), (&*database, 250), ("sqlite", 60), (&*database, 120), ("sqlite", 250)] {
        let mut child = up(&home, &["--catalog", wanted]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::park_timeout(Duration::from_millis(pause));
        child.kill().unwrap();
        child.wait().unwrap();
        // Wherever it is by then.
        let network = Network::start(&home, &[]);
        filed.assert_there();
        assert!(network.stop("-TERM").success());
    }
}

/// Takes over 10 s: origins look for their catalog for some seconds.
#[test]
fn a_network_starts_while_its_catalogs_server_is_away_and_takes_files_when_it_is_back() {
    let home = Home::new();
    let [http, dns] = doors();
    let server = Server::start("up");
    let database = server.database();
    let network = Network::start(&home, &["--http", &http, "--dns", &dns, "--catalog", &database]);
    assert!(!catalog(&home).exists());
    let stored = store_all(&home);
    assert!(network.stop("-TERM").success());
    server.stop();
    let network = Network::start(&home, &[]);
    network.says(&["server is away"]);
    assert_exact(&stored);
    assert!(!catalog(&home).exists());
    server.resume();
    let file = home.path().join("middle.bin");
    let stores = || (home.run(&["put", file.to_str().unwrap()]).code == 0).then_some(());
    until("a file is stored", HEALED, stores);
    drop(network);
}
