//! End to end with real processes: an authority, three origins over mutual TLS, and an owner who stores, reads and
//! erases.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::program::Home;

/// A node process, killed at the end of its test.
pub(crate) struct Node {
    child: Child,
    address: SocketAddr,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts an origin on a free port and reads the port from its log.
fn origin(home: &Home, name: &str, country: &str) -> Node {
    home.good(&["cluster", "issue", "keys", name, "--role", "origin"]);
    let folder = home.path().display();
    let config = format!(
        r#"
        name = "{name}"
        listen = "127.0.0.1:0"
        data_dir = "{folder}/{name}"
        catalog = "sqlite://{folder}/catalog.db"
        [place]
        country = "{country}"
        region = "eu-west"
        zone = "{name}"
        latitude = 50.0
        longitude = 4.0
        [tls]
        authority = "{folder}/keys/authority.pem"
        certificate = "{folder}/keys/{name}.pem"
        key = "{folder}/keys/{name}.key"
        "#
    );
    home.write(&format!("{name}.toml"), config);
    run_origin(home, name)
}

pub(crate) fn run_origin(home: &Home, name: &str) -> Node {
    let mut command = home.command(&["origin", "run", "--config", &format!("{name}.toml"), "--json"]);
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut seen = String::new();
    // The log ends when the process does, so this waits until the node has started or failed, not for ever.
    let address = log.by_ref().map_while(Result::ok).find_map(|line| {
        seen.push_str(&line);
        let event: Value = serde_json::from_str(&line).ok()?;
        event["fields"]["local_addr"].as_str()?.parse().ok()
    });
    let address = address.unwrap_or_else(|| panic!("{name} does not start: {seen}"));
    // A thread keeps reading the log: otherwise the pipe fills and the node blocks.
    std::thread::spawn(move || log.for_each(drop));
    Node { child, address }
}

pub(crate) fn set_up() -> (Home, Vec<Node>) {
    let home = Home::new();
    home.write("words", "correct horse battery\n");
    home.good(&["cluster", "init", "keys"]);
    let nodes: Vec<_> = ["o1", "o2", "o3"].map(|name| origin(&home, name, "BE")).into();
    home.good(&["cluster", "issue", "keys", "me", "--role", "twin"]);
    home.good(&["owner", "new"]);
    know(&home, &nodes[0]);
    (home, nodes)
}

/// Writes the address of the first origin into the twin's configuration.
fn know(home: &Home, node: &Node) {
    let config = format!(
        r#"
        profile = "small-cluster"
        [identity]
        authority = "../keys/authority.pem"
        certificate = "../keys/me.pem"
        key = "../keys/me.key"
        [[node]]
        name = "o1"
        address = "localhost:{}"
        "#,
        node.address.port()
    );
    home.write(".evernear/twin.toml", config);
}

#[test]
fn a_file_is_stored_read_listed_and_erased() {
    let (home, mut nodes) = set_up();
    let bytes: Vec<u8> =
        (0..100_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).take(100_000).collect();
    home.write("cat.jpg", [b"\xff\xd8\xff\xe0\0\x10JFIF\0", &bytes[..]].concat());
    let whole = std::fs::read(home.path().join("cat.jpg")).unwrap();

    let put = home.good(&["put", "cat.jpg", "--tag", "cats=3"]);
    let (label, url) = (put["label"].as_str().unwrap(), put["url"].as_str().unwrap());
    assert_eq!(url, format!("http://{label}.localhost:8080/cat.jpg"));
    assert_eq!(put["html"], format!("<img src=\"{url}\" alt=\"cat.jpg\">"));
    assert_eq!((put["mime"].as_str(), put["shards"].as_u64()), (Some("image/jpeg"), Some(3)));

    for to in [&[][..], &["-o", "-"], &["-o", "/dev/stdout"], &["-o", "/dev/fd/1"]] {
        let got = home.run(&[&["get", label], to].concat());
        assert!(got.code == 0 && got.out == whole, "{to:?}: {}", got.err);
    }
    let got = home.good(&["get", url, "--range", "1000-1999", "-o", "part"]);
    assert_eq!(got["bytes"], 1000);
    assert_eq!(std::fs::read(home.path().join("part")).unwrap(), whole[1000..2000]);
    assert_eq!(home.run(&["get", label, "--range", "200000-", "-o", "none"]).code, 1);
    assert_eq!(home.run(&["get", label, "inside"]).code, 3);
    std::fs::create_dir(home.path().join("folder")).unwrap();
    let (code, refused) = home.json(&["get", label, "-o", "folder"]);
    assert_eq!((code, refused["try"].as_str()), (1, Some("name the file in it: -o FOLDER/FILE")), "{refused}");
    for wrong in [
        &["get", label][..],
        &["get", "no-label", "-o", "x"],
        &["rm", "no-label"],
        &["put", "cat.jpg", "--name", "a/b"],
    ] {
        assert_eq!(home.json(wrong).0, 2, "{wrong:?}");
    }

    let stat = home.good(&["stat", label]);
    assert_eq!((stat["bytes"].as_u64(), stat["redundancy"].as_str()), (Some(whole.len() as u64), Some("1+2")));
    assert_eq!(stat["tags"], serde_json::json!({ "cats": 3 }));
    let listed = home.good(&["ls"]);
    assert_eq!((listed[0]["label"].as_str(), listed[0]["complete"].as_bool()), (Some(label), Some(true)));

    let told = |purged: &Value| (purged["objects"].as_u64(), purged["nodes"].as_u64());
    assert_eq!(told(&home.good(&["purge", url])), (Some(1), Some(3)));
    assert_eq!(told(&home.good(&["purge", "--soft", "--tag", "cats"])), (Some(1), Some(3)));
    assert_eq!(told(&home.good(&["purge", "--all"])), (None, Some(3)));
    let (code, none) = home.json(&["purge", "--tag", "dogs"]);
    assert!(code == 3 && none["error"].as_str().unwrap().contains("no upload in this index has the tag"), "{none}");
    assert_eq!(home.run(&["purge", label, "--all"]).code, 2, "one or the other");

    // Any one origin of three holds a record and a shard of 1+2.
    let lost = nodes.pop().unwrap();
    drop(lost);
    let got = home.run(&["get", label]);
    assert!(got.code == 0 && got.out == whole, "{}", got.err);

    // Of 1+2 two must be durable, of 2+1 all three: who reads the refusal knows which node to start.
    let put = |profile: &str| home.run(&["put", "cat.jpg", "--profile", profile, "--passphrase-file", "words"]);
    let stored = put("1+2");
    assert!(stored.code == 0 && stored.err.contains("node=o3"), "{}", stored.err);
    assert!(stored.text().contains("2 of 3 shards durable"), "{}", stored.text());
    let refused = put("2+1");
    assert_eq!(refused.code, 4, "{}", refused.err);
    for says in ["node o3 cannot be reached", "of 3 shards 3 must be durable", "again when these nodes are back"] {
        assert!(refused.err.contains(says), "{}", refused.err);
    }

    // What did not end can be ended when o3 is back, as no other node knows whether it has the record.
    let complete = || {
        let listed = home.good(&["ls"]);
        let complete = listed.as_array().unwrap().iter().filter(|it| it["complete"].as_bool().unwrap());
        complete.map(|it| it["label"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let other = complete().into_iter().find(|it| it != label).unwrap();
    let text = home.run(&["rm", &other, "--passphrase-file", "words"]);
    assert!(text.text().starts_with("erased 1 object: "), "{}", text.err);
    assert!(text.text().ends_with("not reached, will learn of it when it is back: o3\n"), "{}", text.text());
    let erased = home.good(&["rm", label]);
    assert_eq!(erased["erased"][0]["nodes"], 2, "{erased}");
    assert!(complete().is_empty());
    let gone = home.run(&["get", label]);
    assert!(gone.code == 3 && gone.err.contains("erased"), "{}", gone.err);
    drop(nodes);
    let (code, down) = home.json(&["get", label, "-o", "x"]);
    assert_eq!((code, down["code"].as_u64()), (4, Some(4)), "{down}");
    assert!(down["try"].as_str().unwrap().contains("twin.toml"));
}

/// The device takes no byte, as a disk that is full.
#[test]
fn an_answer_that_cannot_be_written_is_given_by_the_same_command_again() {
    let (home, _nodes) = set_up();
    home.write("a.txt", "a");
    home.write("b.txt", "b");
    let stored = || home.good(&["ls"]).as_array().unwrap().len();
    for (at, files) in [&["a.txt"][..], &["a.txt", "b.txt"]].into_iter().enumerate() {
        let words = [&["put"], files, &["--expires", "+1d", "--passphrase-file", "words"]].concat();
        for _ in 0..2 {
            let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
            let done = home.command(&words).stdout(full).output().unwrap();
            let said = String::from_utf8(done.stderr).unwrap();
            assert!(said.starts_with("error: standard output cannot be written\n"), "{said}");
            assert!(said.ends_with("try: free some room there, then the same command again\n"), "{said}");
            assert_eq!((done.status.code(), stored()), (Some(1), at + files.len()));
        }
        let told = home.run(&words);
        assert!(told.code == 0 && told.text().contains("times  ends at 2"), "{}{}", told.text(), told.err);
        assert_eq!(stored(), at + files.len(), "nothing is stored twice");
    }
    home.good(&["put", "a.txt", "--expires", "+1d"]);
    assert_eq!(stored(), 4, "what was told is stored anew");
}

#[test]
fn a_name_stays_and_what_it_stands_for_changes() {
    let (home, _nodes) = set_up();
    home.write("first.txt", "first");
    home.write("second.txt", "second");
    let label = |stored: &Value| stored["label"].as_str().unwrap().to_owned();
    let first = label(&home.good(&["put", "first.txt"]));
    let (code, unknown) = home.json(&["name", "set", "site", &first]);
    assert!(code == 3 && unknown["try"].as_str().unwrap().contains("evernear name new NAME"), "{unknown}");
    let made = home.good(&["name", "new", "site", &first, "--seconds", "5"]);
    let name = label(&made);
    assert_eq!(
        (made["version"].as_u64(), made["nodes"].as_u64(), made["target"].as_str()),
        (Some(1), Some(3), Some(&*first))
    );
    assert_eq!(made["url"], format!("http://{name}.localhost:8080/"));
    assert_eq!(home.run(&["get", &name]).text(), "first");
    assert_eq!(home.json(&["name", "new", "site", &first]).0, 1, "there is one");
    let (code, chain) = home.json(&["name", "new", "other", &name]);
    assert!(code == 2 && chain["error"].as_str().unwrap().contains("stands for an object"), "{chain}");

    let put = home.good(&["put", "second.txt", "--as", "site"]);
    assert_eq!((put["named"]["label"].as_str(), put["named"]["new"].as_bool()), (Some(&*name), Some(false)));
    assert_eq!(home.run(&["get", &name]).text(), "second");
    let again = home.good(&["put", "first.txt", "--as", "new one"]);
    assert_eq!(again["named"]["new"], true);
    let (code, sooner) = home.json(&["name", "renew", "site", "--fresh-until", "+30d"]);
    assert!(code == 2 && sooner["causes"][0].as_str().unwrap().contains("and it ends at"), "{sooner}");
    let renewed = home.good(&["name", "renew", "--fresh-until", "+100d"])["renewed"].clone();
    let versions = |list: &Value| list.as_array().unwrap().iter().map(|it| it["version"].as_u64()).collect::<Vec<_>>();
    assert_eq!(versions(&renewed), [Some(2), Some(3)], "new one and site");
    let shown = home.good(&["name", "show", "site"]);
    assert_eq!((shown["seconds"].as_u64(), shown["fresh"].as_bool()), (Some(5), Some(true)), "what it had stays");
    assert_eq!(home.json(&["name", "show", "other"]).0, 3);
    let history = home.good(&["name", "history", "site"]);
    assert_eq!((history[0]["target"].as_str(), history[1]["path"].as_str()), (Some(&*first), Some("second.txt")));
    assert_eq!(home.good(&["name", "ls"]).as_array().unwrap().len(), 2);

    // Another machine of the owner finds the name by what the owner calls it, without this index.
    std::fs::rename(home.path().join(".evernear/index"), home.path().join("index.lost")).unwrap();
    let found = home.good(&["name", "set", "site", &first]);
    assert_eq!((found["label"].as_str(), found["version"].as_u64()), (Some(&*name), Some(4)));
    std::fs::rename(home.path().join("index.lost"), home.path().join(".evernear/index")).unwrap();
    let (code, renewed) = home.json(&["renew", &name, "--expires", "+1d"]);
    assert!(code == 2 && renewed["try"].as_str().unwrap().contains("name renew"), "{renewed}");

    let erased = home.good(&["rm", &name]);
    assert_eq!((erased["erased"].as_array().map(Vec::len), &erased["erased"][0]["name"]), (Some(1), &true.into()));
    assert_eq!(home.run(&["get", &name]).code, 3);
    let (code, ended) = home.json(&["name", "new", "site", &first]);
    assert!(code == 1 && ended["error"].as_str().unwrap().contains("cannot come back"), "{ended}");
    let objects = home.good(&["ls"]).as_array().unwrap().len();
    assert_eq!(home.json(&["put", "second.txt", "--as", "site"]).0, 1);
    assert_eq!(home.good(&["ls"]).as_array().unwrap().len(), objects, "nothing was stored for it");
    assert_eq!(home.run(&["get", &first]).text(), "first", "the object stays");

    // The end of a name is no erasure of what it stands for, and the answer does not say so.
    let again = again["named"]["label"].as_str().unwrap();
    let told = home.run(&["rm", again, "--passphrase-file", "words"]);
    assert!(told.text().starts_with("ended 1 name: nobody can move"), "{}", told.text());
    for says in
        ["edges answer 410 under its label\n", "what they got: up to 60 seconds\n", "follows it until 2", "unchanged "]
    {
        assert!(told.text().contains(says), "{says}: {}", told.text());
    }
    assert!(!told.text().contains("erased") && !told.text().contains("decrypt"), "{}", told.text());
}

/// Only a backup of the cluster that is older than the owner's index shows such nodes.
#[test]
fn a_name_whose_nodes_went_back_goes_on_from_the_index_and_says_so() {
    let (home, nodes) = set_up();
    home.write("a.txt", "a");
    let label = home.good(&["put", "a.txt", "--as", "site"])["label"].as_str().unwrap().to_owned();
    home.good(&["name", "renew"]);
    drop(nodes);
    for folder in ["o1", "o2", "o3"] {
        std::fs::remove_dir_all(home.path().join(folder)).unwrap();
    }
    for file in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
        std::fs::remove_file(home.path().join(file)).ok();
    }
    let nodes = ["o1", "o2", "o3"].map(|name| run_origin(&home, name));
    know(&home, &nodes[0]);
    let (code, there) = home.json(&["name", "new", "site", &label]);
    assert!(code == 1 && there["error"].as_str().unwrap().contains("already"), "{there}");
    let told = home.run(&["name", "renew", "--passphrase-file", "words"]);
    assert!(told.text().contains("the nodes had no version of \"site\""), "{}{}", told.text(), told.err);
    assert!(told.text().contains("goes on with version 3"), "{}", told.text());
    let put = home.good(&["put", "a.txt", "--as", "site"]);
    assert_eq!((&put["named"]["version"], put["named"].get("nodes_had")), (&4.into(), None));
}

#[test]
fn a_folder_and_a_policy_and_a_stream() {
    let (home, _nodes) = set_up();
    std::fs::create_dir_all(home.path().join("site/img")).unwrap();
    home.write("site/index.html", "<!doctype html><img src=img/a.svg>");
    home.write("site/img/a.svg", "<svg xmlns=\"http://www.w3.org/2000/svg\"/>");
    home.write("policy.toml", "[[link]]\nuse = \"geo\"\nreceive-deny = [\"KP\"]\n");
    let published = home.good(&["policy", "publish", "not-kp", "policy.toml"]);
    assert_eq!(published["nodes"], 3);
    let again = home.good(&["policy", "publish", "not-kp", "policy.toml"]);
    assert!(again["sequence"].as_u64() > published["sequence"].as_u64(), "{again}");

    let (code, refused) = home.json(&["put", "site", "--type", "text/html"]);
    assert!(code == 2 && refused["try"].as_str().unwrap().contains("leave --type out"), "{refused}");
    let put = home.good(&["put", "site", "--policy", "not-kp"]);
    let label = put["label"].as_str().unwrap();
    assert_eq!((put["objects"].as_u64(), put["kind"].as_str()), (Some(4), Some("directory")));
    assert!(put["url"].as_str().unwrap().ends_with(":8080/"));
    assert_eq!(home.run(&["get", label, "img/a.svg"]).text(), "<svg xmlns=\"http://www.w3.org/2000/svg\"/>");
    assert_eq!(home.run(&["get", &format!("{}img/a.svg", put["url"].as_str().unwrap())]).code, 0);
    let absent = home.run(&["get", label, "img/b.svg"]);
    assert!(absent.code == 3 && absent.err.contains("try: `evernear stat`"), "{}", absent.err);
    home.good(&["get", label, "-o", "back"]);
    assert!(std::fs::read(home.path().join("back/index.html")).unwrap().starts_with(b"<!doctype"));
    let stat = home.good(&["stat", label]);
    assert_eq!((stat["policy"].as_str(), stat["entries"][1]["name"].as_str()), (Some("not-kp"), Some("index.html")));

    // A policy name that is not published would take the whole folder down. `put` refuses it in the same words.
    for command in [&["renew", label][..], &["put", "site"]] {
        let (code, refused) = home.json(&[command, &["--policy", "not-pk"]].concat());
        assert!(code == 1 && refused["causes"].to_string().contains("published no policy not-pk"), "{refused}");
        assert!(refused["try"].as_str().unwrap().contains("evernear policy publish"), "{refused}");
    }
    assert_eq!(home.good(&["stat", label])["policy"], "not-kp");
    let renewed = home.good(&["renew", label, "--policy", "nft-immutable", "--expires", "+1d", "--yes"]);
    assert_eq!((renewed["renewed"].as_u64(), renewed["missed_nodes"].as_array().map(Vec::len)), (Some(4), Some(0)));
    assert_eq!(home.good(&["stat", label, "index.html"])["policy"], "nft-immutable");
    // The URL of a page in the folder does not name the whole folder.
    let page = format!("{}index.html", put["url"].as_str().unwrap());
    for command in [&["rm", &page][..], &["renew", &page, "--expires", "+2d"], &["purge", &page]] {
        let (code, refused) = home.json(command);
        assert!(code == 2 && refused.to_string().contains("done to whole objects"), "{command:?}: {refused}");
    }
    assert_eq!(home.good(&["rm", label])["erased"].as_array().unwrap().len(), 4);

    let mut put = home.command(&["put", "-", "--name", "kept.txt", "--keep-until", "+1d", "--json"]);
    let file = std::fs::File::open(home.path().join("policy.toml")).unwrap();
    let put = put.env("EVERNEAR_PASSPHRASE_FILE", "words").stdin(file).output().unwrap();
    let put: Value = serde_json::from_slice(&put.stdout).unwrap();
    assert_eq!((put["name"].as_str(), put["zones_survived"].as_u64()), (Some("kept.txt"), None));
    let kept = put["label"].as_str().unwrap();
    let (code, refused) = home.json(&["rm", kept]);
    assert_eq!((code, refused["try"].as_str()), (1, Some("again after that time")));
    let until = |error: &Value| {
        error["error"].as_str().unwrap().split_once("kept until 2").map(|(_, date)| date[3..].to_owned())
    };
    assert!(until(&refused).is_some_and(|date| date.starts_with('-') && date.ends_with('Z')), "{refused}");
    // The index has the owner's promise, so no node is asked.
    let (code, refused) = home.json(&["renew", kept, "--keep-until", "+2h"]);
    assert!(code == 1 && until(&refused).is_some(), "{refused}");
    assert!(refused["try"].as_str().unwrap().contains("--keep-until"), "{refused}");
    home.good(&["renew", kept, "--expires", "+3d", "--keep-until", "+2d", "--yes"]);
    // What is not named stays, and an end can be taken away.
    let times = || {
        let stat = home.good(&["stat", kept]);
        [stat["keep_until"].as_u64().unwrap(), stat["expires"].as_u64().unwrap()]
    };
    let [keep_until, expires] = times();
    home.good(&["renew", kept, "--expires", "+4d"]);
    let [kept_until, later] = times();
    assert!(kept_until == keep_until && later > expires, "{kept_until} {later}");
    home.good(&["renew", kept, "--expires", "never"]);
    assert_eq!(times(), [keep_until, 0]);
    // What would end sooner is asked about, and nobody can be asked here.
    let refuses = |span: &str, now: &str| {
        let (code, refused) = home.json(&["renew", kept, "--expires", span]);
        let says = refused["error"].as_str().unwrap();
        assert!(code == 2 && says.starts_with("this would end 1 object at 2") && says.contains(now), "{refused}");
        assert!(says.ends_with("for ever, and nobody can be asked here; --yes does it"), "{refused}");
    };
    refuses("+9d", "(without an end now)");
    assert_eq!(times(), [keep_until, 0], "nothing was done");
    home.good(&["renew", kept, "--expires", "+9d", "--yes"]);
    home.good(&["renew", kept, "--expires", "+10d"]);
    let held = times();
    refuses("+5d", "(now 2");
    assert_eq!(times(), held);
    // So it is without the index: nodes know when it ends.
    let index = home.path().join(".evernear/index");
    std::fs::rename(&index, home.path().join("aside")).unwrap();
    refuses("+5d", "(now 2");
    std::fs::rename(home.path().join("aside"), &index).unwrap();
    assert_eq!(times(), held);
}

#[test]
fn many_are_stored_listed_and_erased_and_one_that_fails_stops_no_other() {
    let (home, _nodes) = set_up();
    std::fs::create_dir_all(home.path().join("site/img")).unwrap();
    for (path, bytes) in [("a.txt", "a"), ("b.txt", "b"), ("site/index.html", "<!doctype html>"), ("site/img/a", "png")]
    {
        home.write(path, bytes);
    }
    home.write("site/Icon\r", "x");
    let (code, refused) = home.json(&["put", "a.txt", "absent"]);
    assert!(code == 1 && refused["error"].as_str().unwrap().contains("absent cannot be stored"), "{refused}");
    assert_eq!(home.good(&["ls"]), serde_json::json!([]));
    let refused = home.run(&["put", "a.txt", "ab\u{202e}sent\u{1b}[2J", "--passphrase-file", "words"]);
    assert!(refused.err.starts_with("error: ab\\u{202e}sent\\u{1b}[2J cannot be stored\n"), "{:?}", refused.err);

    // A folder with a bad name fails; the two files do not.
    let (code, put) = home.json(&["put", "a.txt", "site", "b.txt"]);
    assert_eq!((code, put["stored"].as_array().map(Vec::len)), (1, Some(2)), "{put}");
    let failed = &put["failed"][0];
    assert_eq!((failed["what"].as_str(), failed["code"].as_u64()), (Some("site"), Some(1)), "{put}");
    assert!(failed["causes"].to_string().contains("no control characters"), "{put}");
    assert!(failed["try"].as_str().unwrap().contains("--skip-bad"), "{put}");
    let told = home.run(&["put", "a.txt", "site", "--passphrase-file", "words"]);
    assert!(told.code == 1 && told.text().starts_with("a.txt\nlabel  "), "{}", told.text());
    assert!(told.err.starts_with("site\nerror: the folder cannot be stored\ncause: "), "{}", told.err);
    let site = home.good(&["put", "site", "--skip-bad"]);
    assert!(site["bad"][0]["reason"].as_str().unwrap().contains("Icon"), "{site}");
    home.good(&["put", "site", "--skip-bad"]);

    // Sizes are those of whole trees, and the URL is there again.
    let listed = home.good(&["ls"]);
    let line = listed.as_array().unwrap().iter().find(|line| line["label"] == site["label"]).unwrap();
    assert_eq!((line["bytes"].as_u64(), line["objects"].as_u64()), (Some(18), Some(4)), "{line}");
    assert_eq!((line["state"].as_str(), &line["url"]), (Some("stored"), &site["url"]));
    assert_eq!(home.good(&["stat", site["label"].as_str().unwrap()])["url"], site["url"]);
    let text = home.run(&["ls", "--passphrase-file", "words"]);
    let heading: Vec<_> = text.text().lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(heading, ["created", "size", "objects", "policy", "expires", "state", "name", "url"]);
    assert!(text.text().contains(site["url"].as_str().unwrap()), "{}", text.text());
    assert_eq!(home.good(&["ls", "--unfinished"]), serde_json::json!({ "objects": [], "uploads": [] }));
    let paths = |arguments: &[&str]| {
        let listed = home.good(&[&["ls"], arguments].concat());
        listed.as_array().unwrap().iter().map(|line| line["path"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(paths(&["--all"]).iter().filter(|path| *path == "site/img/a").count(), 2);

    let label = |stored: usize| put["stored"][stored]["label"].as_str().unwrap();
    let (code, refused) = home.json(&["renew", label(0), label(1), "--expires", "+1d"]);
    assert!(code == 2 && refused["error"].as_str().unwrap().starts_with("this would end 2 objects at"), "{refused}");
    let renewed = home.good(&["renew", label(0), label(1), "--expires", "+1d", "--yes"]);
    assert_eq!((renewed["renewed"].as_u64(), renewed["failed"].as_array().map(Vec::len)), (Some(2), Some(0)));
    home.good(&["renew", label(0), "--keep-until", "+2h"]);
    let (code, removed) = home.json(&["rm", label(0), label(1)]);
    assert_eq!((code, removed["erased"].as_array().map(Vec::len)), (1, Some(1)), "{removed}");
    assert_eq!(removed["failed"][0]["what"], label(0));
    // A lost index is made again from the owner key.
    let before = home.good(&["ls", "--all"]);
    std::fs::remove_file(home.path().join(".evernear/index")).unwrap();
    let recovered = home.good(&["owner", "recover"]);
    assert_eq!(recovered["added"].as_u64(), before.as_array().map(|lines| lines.len() as u64), "{recovered}");
    assert_eq!(home.good(&["ls", "--all"]), before);
    // Nobody can be asked here.
    let (code, refused) = home.json(&["rm", "--all-of", "site"]);
    let what = "this would erase 8 objects of site for ever, 4 files of 36 B among them, and nobody can be asked here; --yes does it";
    assert_eq!((code, refused["error"].as_str()), (2, Some(what)), "{refused}");
    assert_eq!(home.run(&["rm", "--all-of", "site", "--passphrase-file", "words"]).code, 2);
    assert_eq!(home.good(&["ls", "--all"]), before);
    // Both versions of the folder, in part and then whole.
    assert_eq!(home.good(&["rm", "--all-of", "site/img/", "--yes"])["erased"].as_array().unwrap().len(), 4);
    assert_eq!(home.good(&["rm", "--all-of", "site", "--yes"])["erased"].as_array().unwrap().len(), 4);
    let (code, absent) = home.json(&["rm", "--all-of", "site", "--yes"]);
    assert!(code == 3 && absent["try"].as_str().unwrap().contains("ls --all"), "{absent}");
    assert_eq!(paths(&["--all"]), ["a.txt", "a.txt"]);
    assert_eq!(home.good(&["rm", "--unfinished"])["erased"], serde_json::json!([]));
}

#[test]
fn a_policy_says_where_shards_lie() {
    let (home, mut nodes) = set_up();
    nodes.push(origin(&home, "o4", "US"));
    home.write("film", vec![7; 100_000]);
    let publish = |name: &str, config: &str| {
        home.write("policy.toml", format!("[[link]]\nuse = \"places\"\n{config}\n"));
        home.good(&["policy", "publish", name, "policy.toml"]);
    };
    publish("eu", "store-allow = [\"eu\"]\ndata = 2\nparity = 1\nper-operator = 3");
    let label = home.good(&["put", "film", "--no-compress", "--policy", "eu"])["label"].clone();
    let stat = home.good(&["stat", label.as_str().unwrap()]);
    assert_eq!((stat["redundancy"].as_str(), stat["places"][0].as_str()), (Some("2+1"), Some("country:BE")), "{stat}");
    let renewed = home.good(&["policy", "renew", "--expires", "+30d"])["renewed"].clone();
    assert_eq!((renewed.as_array().unwrap().len(), &renewed[0]["name"]), (1, &"eu".into()), "{renewed}");
    let (code, unknown) = home.json(&["policy", "renew", "ue"]);
    assert!(code == 3 && unknown.to_string().contains("no node has a version of ue"), "{unknown}");
    let placement = stat["placement"].as_array().unwrap();
    assert!(placement.len() == 3 && !placement.contains(&"o4".into()), "{stat}");

    // The policy and the owner's options decide together. The error of an impossible plan names whose fault it is.
    let refused = |policy: &str, places: &str| {
        let (code, error) = home.json(&["put", "film", "--no-compress", "--policy", policy, "--places", places]);
        assert_ne!(code, 0, "{error}");
        error.to_string()
    };
    assert!(refused("eu", "country:US").contains("it allows none of the 1 sites"));
    publish("wide", "data = 3\nparity = 2");
    assert!(refused("wide", "country:BE").contains("3+2"));
    assert!(refused("unpublished", "country:BE").contains("the policy unpublished cannot be asked"));
}

#[test]
fn commands_go_on_while_the_configured_node_is_away() {
    let (home, mut nodes) = set_up();
    home.write("film", vec![7; 100_000]);
    let label = home.good(&["put", "film", "--no-compress"])["label"].as_str().unwrap().to_owned();
    drop(nodes.remove(0));
    let got = home.run(&["get", &label]);
    assert!(got.code == 0 && got.out == vec![7; 100_000], "{}", got.err);
    // What the program learned makes the difference; an old address there is no fault.
    home.write(".evernear/nodes.json", "[]");
    let lost = home.run(&["get", &label]);
    assert!(lost.code == 4 && lost.err.contains("none of the 1 configured nodes answers"), "{}", lost.err);
}

#[test]
fn a_get_that_is_interrupted_ends_with_the_signals_exit_code() {
    let (home, _nodes) = set_up();
    home.write("film", vec![7; 100_000]);
    let label = home.good(&["put", "film", "--no-compress"])["label"].as_str().unwrap().to_owned();
    let run =
        |words: &[&str]| assert!(std::process::Command::new(words[0]).args(&words[1..]).status().unwrap().success());
    let pipe = home.path().join("pipe");
    run(&["mkfifo", pipe.to_str().unwrap()]);
    let get = home.command(&["get", &label, "-o", "pipe"]).spawn().unwrap();
    // It is opened when `get` opens it too, which then waits for somebody to read what the pipe does not take.
    let _reader = std::fs::File::open(&pipe).unwrap();
    run(&["kill", "-INT", &get.id().to_string()]);
    let done = get.wait_with_output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!((done.status.code(), said.as_str()), (Some(130), "error: it was interrupted (signal 2)\n"));
}

#[test]
fn a_lost_catalog_is_made_again_from_the_origins_disks() {
    let (home, nodes) = set_up();
    let files = ["kept.bin", "erased.bin"].map(|name| {
        let bytes: Vec<u8> = (0..25_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        home.write(name, [name.as_bytes(), &bytes[..]].concat());
        home.good(&["put", name])["label"].as_str().unwrap().to_owned()
    });
    home.good(&["rm", &files[1]]);
    let configs = ["o1", "o2", "o3"].map(|name| format!("{name}.toml"));
    let arguments: Vec<_> =
        ["catalog", "rebuild"].into_iter().chain(configs.iter().flat_map(|c| ["--config", c])).collect();
    let early = home.run(&arguments);
    assert!(early.code == 1 && early.err.contains("another origin runs"), "{}", early.err);

    drop(nodes);
    for file in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
        std::fs::remove_file(home.path().join(file)).ok();
    }
    let done = home.good(&arguments);
    let sum = |key: &str| done.as_array().unwrap().iter().map(|line| line[key].as_u64().unwrap()).sum::<u64>();
    // Both objects have three columns. A shard is deleted only when its grace period is over.
    assert!(sum("records_filed") >= 2, "{done}");
    assert_eq!((sum("shards_filed"), sum("records_damaged")), (6, 0), "{done}");
    assert_eq!(home.good(&arguments)[0]["shards_filed"], 0);

    let nodes = ["o1", "o2", "o3"].map(|name| run_origin(&home, name));
    know(&home, &nodes[0]);
    let got = home.run(&["get", &files[0]]);
    assert!(got.code == 0 && got.out == std::fs::read(home.path().join("kept.bin")).unwrap(), "{}", got.err);
    let gone = home.run(&["get", &files[1]]);
    assert!(gone.code == 3 && gone.err.contains("erased"), "{}", gone.err);
    assert_eq!(home.good(&["stat", &files[0]])["redundancy"], "1+2");
}

#[test]
fn a_node_that_cannot_be_emptied_says_why_and_is_emptied_once_another_comes() {
    let (home, mut nodes) = set_up();
    let noise: Vec<u8> = (0..25_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    home.write("film", &noise);
    let label = home.good(&["put", "film"])["label"].as_str().unwrap().to_owned();
    let config = std::fs::read_to_string(home.path().join("o3.toml")).unwrap();
    home.write("fixed.toml", config.replace("127.0.0.1:0", &nodes[2].address.to_string()));
    let drain = |more: &[&str]| home.json(&[&["node", "drain", "--config", "fixed.toml"], more].concat());

    // With three nodes for three columns nothing can move, so `--wait` fails instead of waiting.
    let (code, stuck) = drain(&["--wait"]);
    assert_eq!(code, 4, "{stuck}");
    assert!(stuck["error"].as_str().unwrap().starts_with("1 object ("), "{stuck}");
    assert!(stuck["error"].as_str().unwrap().contains("of o3 have nowhere to go"), "{stuck}");
    assert!(stuck["causes"][0].as_str().unwrap().contains("an object of 1+2 needs 3 origins with room"), "{stuck}");
    assert!(stuck["try"].as_str().unwrap().contains("add origins"), "{stuck}");
    let (code, told) = drain(&[]);
    assert_eq!(
        (code, told["empty"].as_bool(), told["before"]["stuck"][0]["objects"].as_u64()),
        (0, Some(false), Some(1))
    );
    let done = home.run(&["node", "drain", "--config", "fixed.toml"]);
    assert!(
        done.text().contains("1 object (") && done.text().contains("have nowhere to go: an object of 1+2"),
        "{}",
        done.text()
    );
    let deadline = Instant::now() + Duration::from_secs(60);
    while !home.run(&["repair", "status"]).text().contains("no other origin can take one") {
        assert!(Instant::now() < deadline, "the queue does not say why");
    }

    nodes.push(origin(&home, "o4", "BE"));
    let (code, late) = drain(&["--wait", "--timeout", "0"]);
    assert!(code == 4 && late["error"].as_str().unwrap().contains("o3 is not empty after 0 s: 1 object"), "{late}");
    let waited = home.run(&["node", "drain", "--config", "fixed.toml", "--wait", "--timeout", "120"]);
    assert!(waited.code == 0 && waited.text() == "o3 is empty and may be switched off\n", "{}", waited.err);
    // What is left is told unless all of it went in the meantime.
    let went = waited.err.contains("o3 holds 0 objects");
    assert!(waited.err.contains("o3 holds ") && (went || waited.err.contains("left: nothing; ")), "{}", waited.err);
    drop(nodes.remove(2));
    assert!(home.run(&["get", &label]).out == noise);
}

#[test]
fn an_owners_command_with_a_nodes_certificate_says_which_one_it_needs() {
    let (home, _nodes) = set_up();
    home.write("a.txt", "hello");
    home.good(&["cluster", "issue", "keys", "e7", "--role", "edge"]);
    let config = std::fs::read_to_string(home.path().join(".evernear/twin.toml")).unwrap();
    home.write(".evernear/twin.toml", config.replace("../keys/me.", "../keys/e7."));
    let refused = home.run(&["put", "a.txt", "--passphrase-file", "words"]);
    assert!(refused.code == 1 && refused.err.contains("the certificate is of role edge"), "{}", refused.err);
    assert!(refused.err.contains("evernear cluster issue DIR NAME --role twin"), "{}", refused.err);
    assert_eq!(home.run(&["node", "ls"]).code, 0);
}

#[test]
fn a_stolen_certificate_is_refused_by_one_command_and_a_new_one_is_taken() {
    let (home, _nodes) = set_up();
    home.good(&["cluster", "issue", "keys", "other", "--role", "twin"]);
    let config = std::fs::read_to_string(home.path().join(".evernear/twin.toml")).unwrap();
    home.write("thief.toml", config.replace("../keys/me.", "stolen/").replace("../keys/", "keys/"));
    std::fs::create_dir(home.path().join("stolen")).unwrap();
    let take = || {
        for end in ["pem", "key"] {
            let from = home.path().join(format!("keys/other.{end}"));
            std::fs::copy(from, home.path().join(format!("stolen/{end}"))).unwrap();
        }
    };
    take();
    let calls = || home.run(&["node", "ls", "--config", "thief.toml"]).code;
    assert_eq!(calls(), 0);

    let absent = home.run(&["cluster", "revoke", "keys", "nobody"]);
    assert!(absent.code == 1 && absent.err.contains("no certificate of nobody"), "{}", absent.err);
    let revoked = home.good(&["cluster", "revoke", "keys", "other"]);
    assert_eq!((&revoked["list"], revoked["told"].as_array().unwrap().len()), (&1.into(), 3), "{revoked}");
    assert_eq!(calls(), 4);
    let state = |name: &str| -> Vec<String> {
        let shown = home.good(&["cluster", "show", "keys"]);
        let of = shown.as_array().unwrap().iter().filter(|it| it["name"] == name);
        let mut states: Vec<_> = of.map(|it| it["state"].as_str().unwrap().to_owned()).collect();
        states.sort();
        states
    };
    assert_eq!((state("other"), state("me")), (vec!["refused".to_owned()], vec!["good".to_owned()]));

    // Again: the same list, for origins that were away.
    assert_eq!(home.good(&["cluster", "revoke", "keys", "other"])["list"], 1);
    let again = home.good(&["cluster", "revoke", "keys"]);
    assert_eq!((&again["list"], again["told"].as_array().unwrap().len()), (&1.into(), 3), "{again}");
    home.good(&["cluster", "issue", "keys", "other", "--role", "twin"]);
    take();
    assert_eq!(calls(), 0);
    assert_eq!(state("other"), ["good", "refused"]);

    // A renewed certificate counts beside the one before; taking the name back takes both.
    home.good(&["cluster", "renew", "keys", "other"]);
    assert_eq!((state("other"), calls()), (["good", "refused", "replaced"].map(str::to_owned).to_vec(), 0));
    // The same command as before does not mean the new one.
    let (code, kept) = home.json(&["cluster", "revoke", "keys", "other"]);
    assert!(code == 2 && kept["error"].as_str().unwrap().contains("--reissued"), "{kept}");
    assert_eq!(home.good(&["cluster", "revoke", "keys", "other", "--reissued"])["list"], 2);
    assert_eq!((state("other"), calls()), (["refused"; 3].map(str::to_owned).to_vec(), 4));

    // Without the folder's own list the cluster's is found, and the next one names all that it does.
    std::fs::remove_file(home.path().join("keys/refused.crl")).unwrap();
    home.good(&["cluster", "issue", "keys", "third", "--role", "edge"]);
    let revoked = home.good(&["cluster", "revoke", "keys", "third"]);
    assert_eq!((&revoked["list"], &revoked["refused"]), (&3.into(), &4.into()), "{revoked}");
}
