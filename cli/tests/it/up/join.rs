//! `evernear node invite` and `evernear join`: a second machine becomes a node of a network of `evernear up`.

use super::*;

/// Invites a node.
fn invite(home: &Home, role: &str, within: impl Fn(&[&str]) -> Command) -> Value {
    let done = within(&["node", "invite", "--role", role, "--json"]).output().unwrap();
    assert!(done.status.success(), "{}: {}", home.path().display(), String::from_utf8_lossy(&done.stdout));
    serde_json::from_slice(&done.stdout).unwrap()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key}: {value}"))
}

#[test]
fn a_second_machine_joins_as_an_edge_however_often_it_was_killed_and_serves() {
    let (home, second) = (Home::new(), Home::new());
    let [http, nodes] = doors();
    let [listen, _] = doors();
    let network = Network::start(&home, &["--http", &http, "--dns", "off", "--nodes", &nodes]);
    assert_eq!(text(&network.account, "nodes"), nodes);
    home.write("cat.bin", noise(300_000));
    let (label, url) = put(&home, "cat.bin");
    let origin = home.run(&["node", "invite", "--role", "origin"]);
    assert!(origin.code == 1 && origin.err.contains("PostgreSQL"), "{}", origin.err);

    let invited = invite(&home, "edge", |arguments| home.command(arguments));
    let word = text(&invited, "invitation");
    let join = |arguments: &[&str]| second.command(&[&["join", "--json"], arguments].concat());
    let first = [word, "--listen", &listen];
    for milliseconds in [1, 10, 20, 40, 80, 160, 320] {
        let mut child = join(&first).spawn().unwrap();
        std::thread::park_timeout(Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let joined = Network::of(join(&first));
    assert_eq!([text(&joined.account, "name"), text(&joined.account, "role")], ["edge1", "edge"]);
    assert_eq!(text(&joined.account, "authority"), text(&invited, "authority"), "both sides show it");
    let line = network.says(&["a node joins the network", "edge1"]);
    assert!(line.contains(text(&joined.account, "certificate")), "{line}");
    let elsewhere = url.replace(&http["127.0.0.1".len()..], &listen["127.0.0.1".len()..]);
    assert!(elsewhere != url && elsewhere.contains(&label), "{elsewhere}");
    let stored = [(elsewhere, fs::read(home.path().join("cat.bin")).unwrap())];
    assert_exact(&stored);

    let listed = home.run(&["node", "invitations", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.out).unwrap();
    assert_eq!(
        [text(&listed[0], "state"), text(&listed[0], "certificate")],
        ["joined", text(&joined.account, "certificate")]
    );
    until("the network knows the edge", HEALED, || home.run(&["node", "ls"]).text().contains("edge1").then_some(()));
    let third = Home::new();
    let refused = third.run(&["join", word]);
    assert!(refused.code == 1 && refused.err.contains("was used"), "{} {}", refused.code, refused.err);
    let damaged = third.run(&["join", &word[..word.len() - 1]]);
    assert!(
        damaged.code == 2 && damaged.err.contains("damaged") && !damaged.err.contains(&word[..40]),
        "{}",
        damaged.err
    );

    drop(joined);
    let again = Network::of(join(&[]));
    assert_eq!((again.account["is_new"].as_bool(), text(&again.account, "address")), (Some(false), listen.as_str()));
    assert_exact(&stored);
    let kept = fs::read_to_string(home.path().join(".evernear/network/invitations.toml")).unwrap();
    assert!(!kept.contains(word));
    assert!(again.stop("-TERM").success() && network.stop("-TERM").success());
}

#[test]
fn an_invitation_that_was_taken_back_or_has_ended_lets_nobody_in() {
    let (home, second) = (Home::new(), Home::new());
    let [http, nodes] = doors();
    let network = Network::start(&home, &["--http", &http, "--dns", "off", "--nodes", &nodes]);
    let invited = invite(&home, "edge", |arguments| home.command(arguments));
    let taken_back = home.run(&["node", "invitations", "--revoke", "edge1"]);
    assert_eq!(taken_back.code, 0, "{}", taken_back.err);
    let refused = second.run(&["join", text(&invited, "invitation")]);
    assert!(refused.code == 1 && refused.err.contains("revoked"), "{} {}", refused.code, refused.err);
    network.says(&["a machine that asked to join was refused"]);
    let absent = home.run(&["node", "invitations", "--revoke", "edge1"]);
    assert!(absent.code == 1 && absent.err.contains("no invitation for edge1"), "{}", absent.err);
    drop(network);
    let nobody = second.run(&["join", text(&invited, "invitation")]);
    assert!(nobody.code == 4 && nobody.err.contains("nobody answers"), "{} {}", nobody.code, nobody.err);
    // Its address is kept, and off ends it.
    let network = Network::start(&home, &["--nodes", "off"]);
    let alone = home.run(&["node", "invite", "--role", "edge"]);
    assert!(alone.code == 1 && alone.err.contains("--nodes IP"), "{}", alone.err);
    drop(network);
}

mod needs_root {
    use testing::postgres::Server;

    use super::*;

    /// Two network namespaces on a bridge: two machines, and this one beside them.
    struct Machines {
        spaces: [String; 2],
        bridge: String,
    }

    impl Machines {
        fn new() -> Self {
            let id = std::process::id();
            let machines = Self { spaces: ["a", "b"].map(|end| format!("evj{id}{end}")), bridge: format!("evj{id}") };
            ip(&["link", "add", &machines.bridge, "type", "bridge"]);
            ip(&["address", "add", &format!("{}/24", Self::host(9)), "dev", &machines.bridge]);
            ip(&["link", "set", &machines.bridge, "up"]);
            for (at, space) in (1..).zip(&machines.spaces) {
                ip(&["netns", "add", space]);
                ip(&["link", "add", space, "type", "veth", "peer", "name", "eth0", "netns", space]);
                ip(&["link", "set", space, "master", &machines.bridge, "up"]);
                ip(&["-n", space, "address", "add", &format!("{}/24", Self::host(at)), "dev", "eth0"]);
                ip(&["-n", space, "link", "set", "eth0", "up"]);
                ip(&["-n", space, "link", "set", "lo", "up"]);
            }
            machines
        }

        /// An address in a network for benchmarks (RFC 2544) that nobody else uses.
        fn host(at: u8) -> String {
            format!("198.18.{}.{at}", std::process::id().to_be_bytes()[3])
        }

        fn command(&self, at: usize, home: &Home, program: &str, arguments: &[&str]) -> Command {
            let mut outer = Command::new("ip");
            outer.args(["netns", "exec", &self.spaces[at], program]).args(arguments);
            outer.current_dir(home.path()).env_clear();
            outer.env("HOME", home.path()).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
            outer.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            outer
        }

        fn evernear(&self, at: usize, home: &Home, arguments: &[&str]) -> Command {
            self.command(at, home, env!("CARGO_BIN_EXE_evernear"), arguments)
        }

        /// Stores a file from the first machine, if there are nodes enough for it; returns its URL.
        fn put(&self, home: &Home, arguments: &[&str]) -> Option<String> {
            let done = self.evernear(0, home, &[&["put", "cat.bin", "--json"], arguments].concat()).output().unwrap();
            let stored: Value = serde_json::from_slice(&done.stdout).unwrap_or_default();
            stored["url"].as_str().map(str::to_owned)
        }

        /// Fetches a URL on a machine; it must be the file of the first.
        fn assert_exact(&self, at: usize, url: &str, home: &Home, second: &Home) {
            let options = ["--silent", "--show-error", "--fail", "--max-time", "60", "--output", "copy", url];
            let done = self.command(at, second, "curl", &options).output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            let [is, was] = [(second, "copy"), (home, "cat.bin")].map(|(home, file)| fs::read(home.path().join(file)));
            assert!(is.unwrap() == was.unwrap());
        }
    }

    impl Drop for Machines {
        fn drop(&mut self) {
            let spaces = self.spaces.iter().map(|space| ["netns", "delete", space]);
            for arguments in spaces.chain([["link", "delete", &self.bridge]]) {
                let _ = Command::new("ip").args(arguments).status();
            }
        }
    }

    fn ip(arguments: &[&str]) {
        assert!(Command::new("ip").args(arguments).status().unwrap().success(), "ip {arguments:?}");
    }

    #[test]
    #[ignore = "needs root"]
    fn a_machine_beyond_a_wire_joins_and_shows_the_picture() {
        let (machines, home, second) = (Machines::new(), Home::new(), Home::new());
        let here = Machines::host(1);
        let network = Network::of(machines.evernear(0, &home, &["up", "--json", "--twin", "off", "--nodes", &here]));
        assert_eq!(text(&network.account, "nodes"), format!("{here}:7499"));
        home.write("cat.bin", noise(9_000_000));
        let url = machines.put(&home, &[]).unwrap();
        let invited = invite(&home, "edge", |arguments| machines.evernear(0, &home, arguments));
        let joined = Network::of(machines.evernear(1, &second, &["join", text(&invited, "invitation"), "--json"]));
        assert_eq!(text(&joined.account, "address"), "127.0.0.1:8080", "that port is free there too");
        machines.assert_exact(1, &url, &home, &second);
        // Killed, it goes on without the invitation, and from an empty cache.
        drop(joined);
        let _joined = Network::of(machines.evernear(1, &second, &["join", "--json"]));
        machines.assert_exact(1, &url, &home, &second);
    }

    #[test]
    #[ignore = "needs root"]
    fn an_origin_beyond_a_wire_joins_a_network_on_postgresql_and_takes_shards() {
        let (machines, home, second) = (Machines::new(), Home::new(), Home::new());
        let server = Server::on_network("join", Machines::host(9).parse().unwrap());
        let (here, database) = (Machines::host(1), server.network_url(&server.new_database()));
        let up = ["up", "--json", "--twin", "off", "--nodes", &here, "--catalog", &database];
        let _network = Network::of(machines.evernear(0, &home, &up));
        home.write("cat.bin", noise(300_000));
        assert_eq!(machines.put(&home, &["--profile", "3+1"]), None, "three origins are here");
        let invited = invite(&home, "origin", |arguments| machines.evernear(0, &home, arguments));
        fs::create_dir(second.path().join("disk")).unwrap();
        let join = ["join", text(&invited, "invitation"), "disk", "--json"];
        let joined = Network::of(machines.evernear(1, &second, &join));
        assert_eq!([text(&joined.account, "name"), text(&joined.account, "role")], ["origin1", "origin"]);
        assert!(text(&joined.account, "address").starts_with(&Machines::host(2)));
        let url = until("four origins store", HEALED, || machines.put(&home, &["--profile", "3+1"]));
        let health = machines.evernear(0, &home, &["object", "health", &url, "--json"]).output().unwrap();
        assert!(String::from_utf8_lossy(&health.stdout).contains("origin1"), "{health:?}");
        machines.assert_exact(0, &url, &home, &second);
        assert!(second.path().join("disk/evernear/origin1").is_dir());
        // Killed, it goes on with what it has.
        drop(joined);
        let _joined = Network::of(machines.evernear(1, &second, &["join", "--json"]));
        machines.assert_exact(0, &url, &home, &second);
    }
}
