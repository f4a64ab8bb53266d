//! `evernear edge deny`. How edges apply its rules: edge/tests/it/denylist.rs.

use crate::program::Home;

#[test]
fn a_rule_of_a_denylist_tells_nothing_of_the_address() {
    const LABEL: &str = "ac2qgedktbf767qx4xbhnnvupbukv23riqjapfyb67p6lhnbxxfjwhclam7q";
    let home = Home::new();
    let url = format!("https://{LABEL}.cdn.example:8443/film.mp4?v=2");
    let printed = home.run(&["edge", "deny", &url, &url]);
    let rule = printed.text();
    let line = rule.lines().next().unwrap();
    assert!(rule == format!("{line}\n{line}\n") && line.starts_with("//") && line.len() == 66, "{rule}");
    let json = home.good(&["edge", "deny", &url]);
    assert_eq!((&json[0]["rule"], json[0]["locator"].as_str().unwrap().len()), (&line.into(), 64));
    let wrong = home.run(&["edge", "deny", "https://example.com/"]);
    assert!(wrong.code != 0 && wrong.err.contains("no address of an object"), "{}", wrong.err);
}
