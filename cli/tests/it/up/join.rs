//! `evernear node invite` and `evernear join`: a second machine becomes a node of a network of `evernear up`.

use super::*;

/// Invites an edge.
fn invite(home: &Home, within: impl Fn(&[&str]) -> Command) -> Value {
    let done = within(&["node", "invite", "--role", "edge", "--json"]).output().unwrap();
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

    let invited = invite(&home, |arguments| home.command(arguments));
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
    let invited = invite(&home, |arguments| home.command(arguments));
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
    use super::*;

    /// Two network namespaces with a wire between them: two machines.
    struct Machines([String; 2]);

    impl Machines {
        const ADDRESSES: [&str; 2] = ["198.18.77.1", "198.18.77.2"];

        fn new() -> Self {
            let machines = Self(["a", "b"].map(|end| format!("evj{}{end}", std::process::id())));
            let [a, b] = &machines.0;
            ip(&["netns", "add", a]);
            ip(&["netns", "add", b]);
            ip(&["-n", a, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", b]);
            for (space, address) in machines.0.iter().zip(Self::ADDRESSES) {
                ip(&["-n", space, "address", "add", &format!("{address}/24"), "dev", "eth0"]);
                ip(&["-n", space, "link", "set", "eth0", "up"]);
                ip(&["-n", space, "link", "set", "lo", "up"]);
            }
            machines
        }

        fn command(&self, at: usize, home: &Home, program: &str, arguments: &[&str]) -> Command {
            let mut outer = Command::new("ip");
            outer.args(["netns", "exec", &self.0[at], program]).args(arguments).current_dir(home.path()).env_clear();
            outer.env("HOME", home.path()).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
            outer.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            outer
        }

        fn evernear(&self, at: usize, home: &Home, arguments: &[&str]) -> Command {
            self.command(at, home, env!("CARGO_BIN_EXE_evernear"), arguments)
        }
    }

    impl Drop for Machines {
        fn drop(&mut self) {
            for space in &self.0 {
                let _ = Command::new("ip").args(["netns", "delete", space]).status();
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
        let [here, _] = Machines::ADDRESSES;
        let network = Network::of(machines.evernear(0, &home, &["up", "--json", "--twin", "off", "--nodes", here]));
        assert_eq!(text(&network.account, "nodes"), format!("{here}:7499"));
        home.write("cat.bin", noise(9_000_000));
        let put = machines.evernear(0, &home, &["put", "cat.bin", "--json"]).output().unwrap();
        let stored: Value = serde_json::from_slice(&put.stdout).unwrap_or_default();
        let url = stored["url"].as_str().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&put.stderr)));

        let invited = invite(&home, |arguments| machines.evernear(0, &home, arguments));
        let joined = Network::of(machines.evernear(1, &second, &["join", text(&invited, "invitation"), "--json"]));
        assert_eq!(text(&joined.account, "address"), "127.0.0.1:8080", "that port is free there too");
        let fetch = || {
            let done = machines
                .command(
                    1,
                    &second,
                    "curl",
                    &["--silent", "--show-error", "--fail", "--max-time", "60", "--output", "copy", url],
                )
                .output()
                .unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            assert!(fs::read(second.path().join("copy")).unwrap() == fs::read(home.path().join("cat.bin")).unwrap());
        };
        fetch();
        // Killed, it goes on without the invitation, and from an empty cache.
        drop(joined);
        let _joined = Network::of(machines.evernear(1, &second, &["join", "--json"]));
        fetch();
    }
}
