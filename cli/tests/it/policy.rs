//! `evernear policy check`: compiles in a child process, lists what a policy reads, and refuses with the reason.

use crate::program::Home;

#[test]
fn a_ready_made_policy_passes_and_tells_what_it_reads() {
    let home = Home::new();
    home.write("policy.toml", "[[link]]\nuse = \"geo\"\nreceive-deny = [\"KP\"]\n[[link]]\nuse = \"nft-immutable\"\n");
    let checked = home.good(&["policy", "check", "policy.toml"]);
    let geo = &checked["links"][0];
    assert_eq!(geo["component"], "geo");
    assert!(geo["hooks"].as_array().unwrap().contains(&"serve".into()), "{geo}");
    assert!(geo["reads"].as_array().unwrap().contains(&"client.country".into()), "{geo}");
    assert!(home.run(&["policy", "check", "policy.toml"]).text().contains("client.country"));
}

#[test]
fn what_an_edge_would_refuse_is_refused_here() {
    let home = Home::new();
    home.write("bad.wasm", "no wasm");
    for (text, reason) in [
        ("[[link]]\nuse = \"magic\"\n", "link 1 uses \"magic\", which is not ready-made; there are geo, nft-immutable"),
        ("[[link]]\nuse = \"geo\"\ncomponent = \"bad.wasm\"\n", "and not both"),
        ("[[link]]\ncomponent = \"bad.wasm\"\n", "link 1 (bad.wasm) is refused"),
        ("[[link]]\ncomponent = \"absent.wasm\"\n", "absent.wasm cannot be read"),
        ("[[link]]\nuse = \"geo\"\nreceive-deny = 1.5\n", "link 1 (geo) is refused"),
    ] {
        home.write("policy.toml", text);
        let done = home.run(&["policy", "check", "policy.toml"]);
        assert!(done.code == 1 && done.err.contains(reason), "{text}: {}", done.err);
        assert!(done.err.contains("\ntry: "), "{text}: {}", done.err);
        assert!(done.err.lines().count() <= 4, "no dump of what a library thinks: {}", done.err);
    }
}

/// Returns the error of `policy check` for a file, after checking that `policy publish` gives the same.
fn refusal(home: &Home, policy: &str) -> String {
    home.write("policy.toml", policy);
    let checked = home.run(&["policy", "check", "policy.toml"]);
    assert!(checked.code == 1 && checked.out.is_empty(), "{policy}: {} {}", checked.code, checked.err);
    let published = home.run(&["policy", "publish", "mine", "policy.toml"]);
    assert_eq!((published.code, &published.err), (1, &checked.err), "{policy}");
    assert!(checked.err.contains("\ntry: mend "), "{policy}: {}", checked.err);
    checked.err
}

#[test]
fn a_misspelt_key_and_a_value_of_another_type_are_refused_before_they_open_anything() {
    let home = Home::new();
    for (policy, refused, causes) in [
        (
            "[[link]]\nuse = \"geo\"\nrecieve-allow = [\"eu\"]\n",
            "error: link 1 (geo) is refused\n",
            ["cause: recieve-allow is none of the component's keys (dns-ttl, ", "; did you mean receive-allow?\n"],
        ),
        (
            "[[link]]\nuse = \"ttl\"\n[[link]]\nuse = \"geo\"\nreceive-allow = \"eu\"\n",
            "error: link 2 (geo) is refused\n",
            ["cause: receive-allow is a text; it must be a list of countries", "such as [\"DE\", \"eu\"]\n"],
        ),
        (
            "[[link]]\nuse = \"ttl\"\nttl = \"1h\"\n",
            "error: link 1 (ttl) is refused\n",
            ["cause: ttl is a text; it must be a whole number\n", ""],
        ),
        (
            "[[link]]\nuse = \"ttl\"\nttl-vidoe = 5\n",
            "error: link 1 (ttl) is refused\n",
            ["cause: ttl-vidoe is none of the component's keys (", "; did you mean ttl-video?\n"],
        ),
    ] {
        let said = refusal(&home, policy);
        let is_said = said.starts_with(refused) && causes.iter().all(|cause| said.contains(cause));
        assert!(is_said, "{policy}: {said}");
    }
}

#[test]
fn what_else_would_say_something_else_than_it_seems_to_is_refused() {
    let home = Home::new();
    for (policy, cause) in [
        ("[[link]]\nuse = \"geo\"\nreceive-allow = [\"uk\"]\n", "did you mean GB?"),
        ("[[link]]\nuse = \"geo\"\nreceive-deny = [\"EU \"]\n", "did you mean eu?"),
        ("[[link]]\nuse = \"geo\"\nreceive-deny = []\n", "receive-deny is an empty list, which refuses nobody"),
        ("[[link]]\nuse = \"geo\"\nstatus = 200\n", "status is 200; a refusal says 400 to 499"),
        ("[[link]]\nuse = \"geo\"\n[[link.target]]\nurl = \"/\"\n", "target is none of the component's keys"),
        ("[[link]]\nuse = \"geo\"\n[[link.header-set]]\nx = \"1\"\n", "header-set is none of the component's keys"),
        ("[[link]]\nuse = \"geo\"\n[[link.rate-class]]\nrequests = 1\nsecnds = 1\n", "only `requests` and `seconds`"),
        ("[[link]]\nuse = \"geo\"\nttl = 1\nttl = 2\n", "duplicate key"),
        ("[[link]]\nuse = \"geo\"\ncomponents = \"x.wasm\"\n", "components is none of the component's keys"),
        ("receive-deny = [\"KP\"]\n[[link]]\nuse = \"geo\"\n", "receive-deny stands outside of the links"),
        ("[[link]]\nuse = \"nft-immutable\"\nttl = 5\n", "ttl is none of the component's keys (it has none)"),
    ] {
        let said = refusal(&home, policy);
        assert!(said.contains(cause), "{policy}: {said}");
    }
}

#[test]
fn a_component_that_declares_no_keys_is_said_to_be_unchecked() {
    let home = Home::new();
    let geo = include_bytes!("../../../policies/prebuilt/geo.wasm");
    // Under another name the section is ignored, as in a component that was built without it.
    let mut mine = geo.to_vec();
    let section = b"evernear:config";
    let at = mine.windows(section.len()).position(|bytes| bytes == section).unwrap();
    mine[at] = b'E';
    home.write("mine.wasm", mine);
    home.write("declares.wasm", geo);
    let check = |component: &str| {
        home.write("policy.toml", format!("[[link]]\ncomponent = \"{component}\"\nrecieve-allow = [\"eu\"]\n"));
        home.run(&["policy", "check", "policy.toml"])
    };
    let checked = check("mine.wasm");
    assert_eq!(checked.code, 0, "{}", checked.err);
    let unchecked = "keys and types of its configuration are not checked, because it declares none";
    assert!(checked.text().contains(unchecked), "{}", checked.text());
    assert!(home.good(&["policy", "check", "policy.toml"])["links"][0]["config_keys"].is_null());

    let checked = check("declares.wasm");
    assert!(checked.code == 1 && checked.err.contains("did you mean receive-allow?"), "{}", checked.err);
    home.write("policy.toml", "[[link]]\ncomponent = \"declares.wasm\"\nreceive-allow = [\"eu\"]\n");
    let keys = home.good(&["policy", "check", "policy.toml"])["links"][0]["config_keys"].clone();
    assert!(keys.as_array().unwrap().contains(&"receive-allow".into()), "{keys}");
    assert!(!home.run(&["policy", "check", "policy.toml"]).text().contains("not checked"));
}
