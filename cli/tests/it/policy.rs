//! `evernear policy check`: compiles in its child, tells what a policy reads, refuses with the reason.

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
        ("[[link]]\nuse = \"magic\"\n", "nft-immutable"),
        ("[[link]]\ncomponent = \"bad.wasm\"\n", "link 1 (bad.wasm) is refused"),
        ("[[link]]\ncomponent = \"absent.wasm\"\n", "absent.wasm cannot be read"),
        ("[[link]]\nuse = \"geo\"\nreceive-deny = 1.5\n", "link 1 (geo) is refused"),
    ] {
        home.write("policy.toml", text);
        let done = home.run(&["policy", "check", "policy.toml"]);
        assert!(done.code == 1 && done.err.contains(reason), "{text}: {}", done.err);
    }
}
