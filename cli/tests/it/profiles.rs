//! `evernear profiles`: stable field names, and numbers that are those of the format.

use crate::program::Home;

#[test]
fn the_table_has_stable_fields_and_the_formats_numbers() {
    let home = Home::new();
    let answer = home.good(&["profiles"]);
    assert_eq!(answer["inline_bytes_max"], 16384);
    let names: Vec<_> =
        answer["profiles"].as_array().unwrap().iter().map(|row| row["profile"].as_str().unwrap()).collect();
    assert_eq!(names, ["standard", "eco", "archive", "small-cluster"]);
    let tier = &answer["profiles"][0]["tiers"][0];
    let expected = serde_json::json!({
        "from_bytes": 4 << 20, "data": 16, "parity": 8, "nodes": 24, "overhead": 1.5, "losses_survived": 8, "quorum": 20
    });
    assert_eq!(*tier, expected);
    let text = home.run(&["profiles"]);
    assert!(text.text().contains("16+8") && text.text().lines().count() == 18);
}
