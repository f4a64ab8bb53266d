//! `evernear edge link-key` and `evernear sign`. That edges accept their keys and links is tested in
//! cluster/tests/it/links.rs.

use crate::program::Home;

const OWNER: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const URL: &str = "https://label.cdn.example:8443/film.mp4?v=2";

#[test]
fn a_key_is_derived_and_signs_a_url() {
    let home = Home::new();
    home.write("zone.secret", "5b".repeat(32));
    for file in ["a.key", "b.key"] {
        home.good(&["edge", "link-key", "--secret", "zone.secret", OWNER, "-o", file]);
    }
    let key = |name: &str| std::fs::read_to_string(home.path().join(name)).unwrap();
    assert_eq!((key("a.key"), key("a.key").trim().len()), (key("b.key"), 64));
    assert_eq!(
        home.run(&["edge", "link-key", "--secret", "zone.secret", OWNER, "-o", "a.key"]).code,
        1,
        "never replaced"
    );

    let signed = home.good(&["sign", URL, "--key", "a.key", "--until", "2100-01-01"]);
    let (url, token) = (signed["url"].as_str().unwrap(), signed["token"].as_str().unwrap());
    assert_eq!((url, &signed["until"]), (&*format!("{URL}&token={token}"), &4_102_444_800_u64.into()));
    let printed = home.run(&["sign", URL, "--key", "a.key", "--until", "2100-01-01"]);
    assert_eq!(printed.text(), format!("{url}\n"), "the same terms are the same link");
    let narrow = ["--country", "BE", "--network", "192.0.2.0/24", "--number", "3=7", "--path", "/", "--any-object"];
    let narrow = home.good(&[&["sign", URL, "--key", "a.key", "--until", "+2h"], &narrow[..]].concat());
    assert_ne!(narrow["token"], signed["token"]);
}

#[test]
fn what_cannot_be_signed_says_what_to_do() {
    let home = Home::new();
    home.write("link.key", "5b".repeat(32));
    home.write("other.key", "hello");
    for (arguments, code, says) in [
        (&["sign", URL, "--key", "none.key", "--until", "+1h"][..], 1, "none.key cannot be read"),
        (&["sign", URL, "--key", "other.key", "--until", "+1h"], 1, "evernear edge link-key"),
        (&["sign", "/film.mp4", "--key", "link.key", "--until", "+1h"], 1, "has no host"),
        (&["sign", URL, "--key", "link.key", "--until", "+1h", "--from", "+2h"], 2, "before it begins"),
        (&["sign", URL, "--key", "link.key", "--until", "+1h", "--path", "site"], 1, "begins with /"),
        (&["sign", URL, "--key", "link.key", "--until", "+1h", "--number", "256=1"], 2, "slot from 0 to 255"),
        (&["sign", URL, "--key", "link.key", "--until", "+1h", "--network", "192.0.2.1/24"], 2, "prefix"),
        (&["sign", URL, "--key", "link.key", "--until", "2020-01-01"], 2, "that is 2020-01-01T00:00:00Z, and it is 2"),
        (&["sign", URL, "--key", "link.key"], 2, "--until"),
        (&["edge", "link-key", "--secret", "other.key", OWNER, "-o", "k"], 1, "other.key"),
    ] {
        let done = home.run(arguments);
        assert!(done.code == code && done.err.contains(says), "{arguments:?}: {} {}", done.code, done.err);
    }
}
