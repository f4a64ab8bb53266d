//! A zone that everybody reads at: delegated, certified by an authority that is not ours, and given up again.

use testing::Pebble;

use super::*;

/// An order takes some seconds; where resolvers saw nothing before, a minute passes first.
const CERTIFIED: Duration = Duration::from_secs(90);

/// Fetches a URL of the zone as a browser does that trusts the authority and resolves by this network's DNS.
fn read(url: &str, port: u16, root: &Path) -> Option<(String, Vec<u8>)> {
    let host = url.split('/').nth(2).unwrap().split(':').next().unwrap();
    let body = tempfile::NamedTempFile::new().unwrap();
    let done = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "10", "--write-out", "%{http_code}", "--cacert"])
        .arg(root)
        .args(["--resolve", &format!("{host}:{port}:127.0.0.1"), "--output"])
        .arg(body.path())
        .arg(url)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    done.status.success().then(|| (String::from_utf8(done.stdout).unwrap(), fs::read(body.path()).unwrap()))
}

#[test]
fn a_zone_of_its_own_is_certified_and_read_by_everybody_until_it_is_given_up() {
    let home = Home::new();
    let ([http, dns], [https]) = (doors(), [format!("127.0.0.1:{}", free_port())]);
    let authority = home.path().join("authority");
    fs::create_dir(&authority).unwrap();
    let pebble = Pebble::start(&authority, dns.parse().unwrap());
    let before = Network::start(&home, &["--http", "127.0.0.1:0", "--dns", "127.0.0.1:0"]);
    let local = before.account["http"].as_str().unwrap().to_owned();
    let stored = store_all(&home);
    assert!(before.stop("-TERM").success());

    // What it needs is asked for, and nothing is begun.
    let zone = ["--public", "media.example"];
    let unaddressed = home.run(&[&["up"], &zone[..]].concat());
    assert!(unaddressed.code == 1 && unaddressed.err.contains("--address"), "{}", unaddressed.err);
    let silent = home.run(&[&["up", "--dns", "off", "--address", "127.0.0.1"], &zone[..]].concat());
    assert!(silent.code == 1 && silent.err.contains("--dns 0.0.0.0:53"), "{}", silent.err);
    assert_eq!(home.run(&["up", "--https", "127.0.0.1:443"]).code, 2, "of which zone?");

    let (root, directory) = (pebble.own_root(), pebble.directory());
    let told = ["--http", &http, "--dns", &dns, "--https", &https, "--address", "127.0.0.1", "--resolver", &dns];
    let acme = ["--acme", &directory, "--acme-root", root.to_str().unwrap()];
    let network = Network::start(&home, &[&zone[..], &told, &acme].concat());
    let public = &network.account["public"];
    assert_eq!(
        (public["nameserver"].as_str(), public["is_certified"].as_bool()),
        (Some("ns1.media.example"), Some(false))
    );
    let port = https.rsplit_once(':').unwrap().1.parse().unwrap();
    let (label, url) = put(&home, "middle.bin");
    assert_eq!(url, format!("https://{label}.media.example:{port}/middle.bin"));
    let bytes = &stored[1].1;
    let (status, body) = until("a certificate", CERTIFIED, || read(&url, port, &pebble.root()));
    assert!(status == "200" && body == *bytes, "{status}, {} bytes", body.len());
    let plain = format!("http://{label}.media.example:{}/middle.bin", http.rsplit_once(':').unwrap().1);
    let host = format!("{label}.media.example:{}:127.0.0.1", http.rsplit_once(':').unwrap().1);
    let led = Command::new("curl").args(["--silent", "--head", "--resolve", &host, &plain]).output().unwrap();
    let led = String::from_utf8(led.stdout).unwrap().to_lowercase();
    assert!(led.starts_with("http/1.1 308") && led.contains(&format!("location: {}", url.to_lowercase())), "{led}");
    let (server, at) = dns.split_once(':').unwrap();
    let ask = |name: &str, kind: &str| {
        let dig = Command::new("dig").args([&format!("@{server}"), "-p", at, name, kind, "+short"]).output().unwrap();
        String::from_utf8(dig.stdout).unwrap()
    };
    assert_eq!(ask("media.example", "NS"), "ns1.media.example.\n");
    // No certificate covers a name of this machine.
    assert_eq!(curl(&format!("http://{label}.localhost:{}/middle.bin", http.rsplit_once(':').unwrap().1)).1, *bytes);
    assert_eq!(ask(&format!("{label}.media.example"), "A"), "127.0.0.1\n");
    assert!(network.stop("-TERM").success());

    // It is remembered, with the certificate, and what the secret seals with is private.
    let network = Network::start(&home, &[]);
    assert_eq!(network.account["public"]["is_certified"].as_bool(), Some(true));
    let (status, _) = until("the door answers", READY, || read(&url, port, &pebble.root()));
    assert_eq!((status.as_str(), pebble.given()), ("200", 1));
    let secret = home.path().join(".evernear/network/keys/zone.secret");
    let mode = std::os::unix::fs::PermissionsExt::mode(&secret.metadata().unwrap().permissions());
    assert_eq!(mode & 0o077, 0);
    assert!(network.stop("-TERM").success());

    let network = Network::start(&home, &["--public", "off"]);
    assert!(network.account["public"].is_null());
    assert_eq!(network.account["http"].as_str(), Some(&*local), "as it was before");
    assert_exact(&stored);
    assert!(put(&home, "small.txt").1.starts_with("http://"));
}

#[test]
fn a_zone_that_no_resolver_finds_is_told_with_what_to_enter() {
    let home = Home::new();
    let ([http, dns], [https, nobody]) = (doors(), [(); 2].map(|()| format!("127.0.0.1:{}", free_port())));
    let network = Network::start(
        &home,
        &[
            &["--public", "media.example", "--address", "192.0.2.1", "--http", &http, "--dns", &dns][..],
            &["--https", &https, "--resolver", &nobody, "--acme", "https://127.0.0.1:1/dir"],
        ]
        .concat(),
    );
    let said = network.says(&["no certificate is ordered", "_acme-challenge.media.example"]);
    assert!(said.contains("ns1.media.example") && said.contains("port 53"), "{said}");
    // Until it is certified, what is stored is read in clear: at the zone, and at names of this machine.
    home.write("a.txt", "hello");
    let (label, _) = put(&home, "a.txt");
    let port = http.rsplit_once(':').unwrap().1;
    for zone in ["media.example", "localhost"] {
        let host = format!("{label}.{zone}");
        let done = Command::new("curl")
            .args([
                "--silent",
                "--resolve",
                &format!("{host}:{port}:127.0.0.1"),
                &format!("http://{host}:{port}/a.txt"),
            ])
            .output()
            .unwrap();
        assert_eq!(done.stdout, b"hello", "{host}");
    }
}
