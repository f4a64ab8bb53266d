//! `evernear edge link-key` and `evernear sign`. That edges accept their keys and links is tested in
//! cluster/tests/it/links.rs.

use format::{Capability, Label};

use crate::program::Home;

const OWNER: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// The address of something in a stored object.
fn url(path: &str) -> String {
    format!("https://{}.cdn.example:8443/{path}", Label::open(Capability::from_bytes([9; 32])))
}

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

    let film = &*url("film.mp4?v=2");
    let signed = home.good(&["sign", film, "--key", "a.key", "--until", "2100-01-01"]);
    let (url, token) = (signed["url"].as_str().unwrap(), signed["token"].as_str().unwrap());
    assert_eq!((url, &signed["until"]), (&*format!("{film}&token={token}"), &4_102_444_800_u64.into()));
    let printed = home.run(&["sign", film, "--key", "a.key", "--until", "2100-01-01"]);
    assert_eq!(printed.text(), format!("{url}\n"), "the same terms are the same link");
    let narrow = ["--country", "BE", "--network", "192.0.2.0/24", "--number", "3=7", "--path", "/", "--any-object"];
    let narrow = home.good(&[&["sign", film, "--key", "a.key", "--until", "+2h"], &narrow[..]].concat());
    assert_ne!(narrow["token"], signed["token"]);
}

#[test]
fn what_cannot_be_signed_says_what_to_do() {
    let home = Home::new();
    home.write("link.key", "5b".repeat(32));
    home.write("other.key", "hello");
    home.write("noise.key", [0xff; 32]);
    let film = &*url("film.mp4");
    for (arguments, code, says) in [
        (&["sign", film, "--key", "none.key", "--until", "+1h"][..], 1, "none.key cannot be read"),
        (&["sign", film, "--key", "other.key", "--until", "+1h"], 1, "evernear edge link-key"),
        (&["sign", film, "--key", "noise.key", "--until", "+1h"], 1, "evernear edge link-key"),
        (&["sign", film, "--key", "link.key", "--until", "+1h", "--from", "+2h"], 2, "before it begins"),
        (&["sign", film, "--key", "link.key", "--until", "+1h", "--number", "256=1"], 2, "slot from 0 to 255"),
        (&["sign", film, "--key", "link.key", "--until", "+1h", "--network", "192.0.2.1/24"], 2, "prefix"),
        (&["sign", film, "--key", "link.key", "--until", "+1h", "--country", "UK"], 2, "the United Kingdom is GB"),
        (&["sign", film, "--key", "link.key", "--until", "2020-01-01"], 2, "that is 2020-01-01T00:00:00Z, and it is 2"),
        (&["sign", film, "--key", "link.key"], 2, "--until"),
        (&["edge", "link-key", "--secret", "other.key", OWNER, "-o", "k"], 1, "other.key"),
    ] {
        let done = home.run(arguments);
        assert!(done.code == code && done.err.contains(says), "{arguments:?}: {} {}", done.code, done.err);
    }
}

#[test]
fn nothing_is_signed_that_would_open_nothing() {
    let home = Home::new();
    home.write("link.key", "5b".repeat(32));
    let sign =
        |url: &str, more: &[&str]| home.run(&[&["sign", url, "--key", "link.key", "--until", "+1h"], more].concat());
    for (of, says) in [
        ("/film.mp4".to_owned(), "is no http or https address"),
        (url("x").replace("https:", "ftp:"), "is no http or https address"),
        ("https://film.cdn.example/x".to_owned(), "does not begin with a label (a label has 60 characters, this has 4"),
        (url("x").replacen("aa", "ab", 1), "does not begin with a label"),
        (url("a/../film.mp4"), "leads to nothing (\"..\" is no name in a folder)"),
        (url("a//film.mp4"), "leads to nothing"),
        (url("a%2Ffilm.mp4"), "leads to nothing"),
        (url("%zz"), "leads to nothing"),
        (url("film.mp4?v=2&token=x"), "has a token already"),
    ] {
        for more in [&[][..], &["--any-object"]] {
            let done = sign(&of, more);
            assert!(done.code == 2 && done.out.is_empty() && done.err.contains(says), "{of}: {}", done.err);
            assert!(done.err.contains("sign the URL that `evernear put` printed"), "{}", done.err);
        }
    }
    for path in ["site", "", "/dog", "/site/film.mp4x", "/../site/"] {
        let done = sign(&url("site/film.mp4"), &["--path", path]);
        let says = "does not cover the URL's own path, /site/film.mp4; name what that begins with, such as /";
        assert!(done.code == 2 && done.out.is_empty() && done.err.contains(says), "{path}: {}", done.err);
    }
    for path in ["/", "/site/", "/%73ite", "/site/film.mp4"] {
        assert_eq!(sign(&url("site/film.mp4"), &["--path", path]).code, 0, "{path}");
    }
    assert_eq!(sign(&url("site/"), &[]).code, 0, "a folder");
}
