//! Keys of a configuration: the component declares them, making a chain checks them, and a run checks their types.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use sandbox::{AdmitError, Config, Fault, Hook, KeysError, Summary, admit};

use crate::world::{MEMORY, component, config, prebuilt, prebuilt_bytes, serve_policy, serve_wat, viewer};

const READY_MADE: [&str; 7] = ["geo", "nft-immutable", "pages", "places", "signed", "template", "ttl"];

fn summary(wasm: &[u8]) -> Summary {
    admit(wasm, &[]).unwrap().summary().clone()
}

/// Returns the error that an owner gets for `text` as the config of a ready-made component.
fn refusal(name: &str, text: &str) -> String {
    let keys = summary(&prebuilt_bytes(name)).keys.unwrap();
    config(text).check(&keys).expect_err(text).to_string()
}

#[test]
fn a_misspelt_key_is_refused_with_what_was_meant() {
    assert_eq!(
        refusal("geo", r#"recieve-allow = ["eu"]"#),
        "recieve-allow is none of the component's keys (dns-ttl, hide, hide-name, hold-allow, hold-deny, hold-ttl, reason, \
         receive-allow, receive-deny, refused-ttl, status, ttl); did you mean receive-allow?"
    );
    for (name, text, nearest) in [
        ("ttl", "ttl-vidoe = 5", "; did you mean ttl-video?"),
        ("signed", "open_tag = \"a\"", "; did you mean open-tag?"),
        ("places", "store-allows = 1", "; did you mean store-allow?"),
        ("geo", "[[target]]\nurl = \"/\"", ")"),
        ("geo", "[[header-set]]\nx = \"1\"", ")"),
        ("nft-immutable", "ttl = 5", "(it has none)"),
    ] {
        let refusal = refusal(name, text);
        assert!(refusal.ends_with(nearest), "{refusal}");
    }
}

#[test]
fn a_value_of_another_type_is_refused_with_what_belongs_there() {
    for (name, text, expected) in [
        ("ttl", "ttl = \"1h\"", "ttl is a text; it must be a whole number"),
        ("geo", "status = \"451\"", "status is a text; it must be a whole number, 400 to 499"),
        ("geo", "hide-name = \"yes\"", "hide-name is a text; it must be true or false"),
        ("geo", "hide-name = [\"DE\"]", "hide-name is a list of texts; it must be true or false"),
        ("geo", "dns-ttl = 301", "dns-ttl is 301; it must be 5 to 300"),
        ("ttl", "paths = 5", "paths is a whole number; it must be a list of rules, each with glob and number"),
        ("ttl", "paths = [\"/\"]", "paths is a list of texts; it must be a list of rules, each with glob and number"),
        ("ttl", "tag-1 = \"hot\"", "tag-1 says nothing without tag-1-ttl; add tag-1-ttl, or leave tag-1 out"),
        ("ttl", "ttl = []", "ttl is an empty list; it must be a whole number"),
        ("signed", "slot = 1", "slot says nothing without number; add number, or leave slot out"),
        ("signed", "number = 1\nslot = 256", "slot is 256; it must be 0 to 255"),
        ("places", "data = 4", "data says nothing without parity; add parity, or leave data out"),
        (
            "pages",
            "csp = \"a\\nb\"",
            "csp is no value of a header; those are printable ASCII, at most 960 bytes, without blanks at the ends",
        ),
    ] {
        assert_eq!(refusal(name, text), expected);
    }
}

#[test]
fn a_refusal_that_hides_says_so_by_its_word() {
    for name in ["geo", "signed"] {
        for status in [200, 399, 404, 412, 416, 500] {
            let expected = format!(
                "status is {status}; a refusal says 400 to 499, but neither 404 (to hide the object, write hide = true \
                 and leave status out) nor 412 or 416, which are answers to conditions and ranges"
            );
            assert_eq!(refusal(name, &format!("status = {status}")), expected);
        }
        assert_eq!(
            refusal(name, "hide = true\nstatus = 451"),
            "status says nothing where hide is true: what is hidden is not found (404); leave one of them out"
        );
        let keys = summary(&prebuilt_bytes(name)).keys.unwrap();
        for right in ["hide = true", "hide = false\nstatus = 400", "status = 403", "status = 410", "status = 499"] {
            config(right).check(&keys).unwrap();
        }
    }
}

#[test]
fn what_the_documents_show_is_taken() {
    for (name, text) in [
        ("geo", "receive-allow = [\"eu\", \"NO\", \"CH\"]\nreceive-deny = [\"KP\"]\nhide-name = true\nstatus = 403"),
        ("ttl", "ttl = 0\nttl-model3d = 1\ntag-4 = \"a\"\ntag-4-ttl = 1\npaths = []\nmemory-only = true"),
        ("places", "store-allow = [\"eu\"]\ndata = 4\nparity = 2\nper-country = 3\nkeep-until = 1893456000"),
        ("signed", "open-tag = \"free\"\nnumber = 4294967295\nslot = 255\nhide = true"),
        ("pages", "csp = \"default-src 'self'\"\nttl = 60"),
        ("nft-immutable", ""),
    ] {
        let keys = summary(&prebuilt_bytes(name)).keys.unwrap();
        config(text).check(&keys).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// Returns the string literals in a guest's source that could be keys, outside comments and macro calls.
fn words(source: &str) -> BTreeSet<String> {
    let mut inside_macro = false;
    let mut code = String::new();
    for line in source.lines().filter(|line| !line.trim_start().starts_with("//")) {
        inside_macro |= line.starts_with("wit_bindgen::generate!") || line.starts_with("guest::config_keys!");
        if !inside_macro {
            code.push_str(line);
        }
        inside_macro &= !line.starts_with('}') && !line.ends_with("{}");
    }
    let is_key = |word: &&str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    code.split('"').skip(1).step_by(2).filter(is_key).map(str::to_owned).collect()
}

#[test]
fn every_ready_made_policy_declares_the_keys_that_its_source_reads() {
    for name in READY_MADE {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies").join(name).join("src/lib.rs");
        let mut words = words(&fs::read_to_string(path).unwrap());
        // These are the tag of an object and the name of a header.
        for other in ["cat", "content-security-policy"] {
            words.remove(other);
        }
        let keys = summary(&prebuilt_bytes(name)).keys.unwrap();
        assert_eq!(words.iter().map(String::as_str).collect::<Vec<_>>(), keys.names().collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn keys_may_be_declared_in_a_module_and_in_the_component() {
    let names = |wasm: &[u8]| summary(wasm).keys.map(|keys| keys.names().map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(names(&component(&serve_wat(MEMORY, ""))), None);
    let declared = format!("(@custom \"evernear:config\" \"ttl: number\") {MEMORY}");
    let mut wasm = component(&serve_wat(&declared, ""));
    assert_eq!(names(&wasm), Some(vec!["ttl".to_owned()]));
    // A custom section at the end of the component: 0, its length, the length of its name, name, content.
    let section = b"\x0fevernear:config\nnote: text";
    wasm.extend([&[0, u8::try_from(section.len()).unwrap()], &section[..]].concat());
    assert_eq!(names(&wasm), Some(vec!["note".to_owned(), "ttl".to_owned()]));
}

#[test]
fn a_wrong_declaration_is_not_admitted() {
    let declared = format!("(@custom \"evernear:config\" \"ttl = number\") {MEMORY}");
    let error = admit(&component(&serve_wat(&declared, "")), &[]).unwrap_err();
    assert!(matches!(&error, AdmitError::Keys(KeysError::Line { line, .. }) if line == "ttl = number"), "{error}");
}

fn fault(key: &str, asked: &'static str, found: &'static str, hook: Hook) -> Fault {
    Fault::Config { hook, key: key.into(), asked, found }
}

#[test]
fn a_ready_made_policy_that_finds_another_type_decides_nothing() {
    let number = "a whole number";
    for (name, text, key, asked, found) in [
        ("geo", "ttl = \"1h\"", "ttl", number, "a text"),
        ("signed", "open-tag = 5", "open-tag", "a text", number),
        ("ttl", "immutable = \"yes\"", "immutable", "true, false or a list", "a text"),
        ("ttl", "paths = 5", "paths", "a list of rules", number),
    ] {
        let fault = fault(key, asked, found, Hook::Serve);
        assert_eq!(prebuilt(name).serve(&viewer("DE"), &config(text)).err(), Some(fault), "{name}");
    }
    let told = fault("ttl", number, "a text", Hook::Hold).to_string();
    assert_eq!(told, "policy asked in hold for ttl as a whole number, but its configuration has a text there");
}

#[test]
fn a_set_that_is_another_type_decides_nothing() {
    let asks = |interface: &str, function: &str, arguments: usize| {
        let parameters = "i32 ".repeat(arguments);
        let items = format!(
            r#"(import "evernear:policy/{interface}@1.0.0" "{function}" (func $ask (param {parameters}) (result i32)))
            {MEMORY} (data (i32.const 64) "blocked")"#
        );
        // The key, then a member: a number or a text of one letter.
        let given = ["i32.const 64", "i32.const 7", "i32.const 64", "i32.const 1"][..arguments].join(" ");
        serve_policy(&items, &format!("{given} call $ask drop"))
    };
    let country = "a list of countries";
    for (interface, function, arguments, asked, wrong, found, right) in [
        ("config", "has", 3, "a list of whole numbers or of countries", "[\"RU\"]", "a list of texts", "[1, 2]"),
        ("config", "has-text", 4, "a list of texts", "[1]", "a list of whole numbers", "[\"RU\"]"),
        ("client", "in-group", 2, country, "[\"RU\"]", "a list of texts", "absent"),
        ("edge", "in-group", 2, country, "\"RU\"", "a text", "absent"),
    ] {
        let policy = asks(interface, function, arguments);
        let serve = |text: &str| policy.serve(&viewer("RU"), &config(text)).map(|_| ());
        let fault = fault("blocked", asked, found, Hook::Serve);
        assert_eq!(serve(&format!("blocked = {wrong}")).err(), Some(fault), "{interface}.{function}");
        let text = if right == "absent" { String::new() } else { format!("blocked = {right}") };
        assert_eq!(serve(&text), Ok(()), "{interface}.{function}");
    }
}

#[test]
fn a_config_without_keys_fits_every_component() {
    for name in READY_MADE {
        let keys = summary(&prebuilt_bytes(name)).keys.unwrap();
        assert!(Config::default().check(&keys).is_ok(), "{name}");
    }
}
