//! Checks that a node's metrics are described as `promtool check metrics` and Prometheus expect. All nodes' tests share
//! it.

use std::collections::HashMap;

/// Checks every line of a text, as OpenMetrics if it ends like that. Help and type must precede the samples of a
/// family, and the samples must carry its name. Returns the number of counters.
///
/// # Panics
/// At the first line that is not as it should be.
#[must_use]
pub fn counters(text: &str) -> usize {
    let is_open = text.ends_with("\n# EOF\n");
    assert_eq!(is_open, text.contains("# EOF"), "the end is at the end: {text}");
    let (mut helped, mut kinds) = (Vec::new(), HashMap::new());
    for line in text.lines() {
        if let Some((name, words)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            assert!(!words.is_empty(), "{line}");
            helped.push(name);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            assert!(helped.contains(&name), "no help: {line}");
            assert!(kinds.insert(name, kind).is_none(), "described twice: {line}");
        } else if line.starts_with('#') {
            assert!(is_open && (line == "# EOF" || line.starts_with("# UNIT ")), "{line}");
        } else {
            let name = line.split(['{', ' ']).next().unwrap();
            let part = |suffixes: &[&str]| suffixes.iter().find_map(|suffix| name.strip_suffix(suffix));
            let kind = match kinds.get(name) {
                Some(kind) => kind,
                None => part(&["_bucket", "_sum", "_count"])
                    .or_else(|| part(&["_total"]).filter(|_| is_open))
                    .and_then(|family| kinds.get(family))
                    .unwrap_or_else(|| panic!("no type: {line}")),
            };
            let is_total = name.ends_with("_total");
            assert_eq!(*kind == "counter", is_total, "{line} is a {kind}");
        }
    }
    kinds.values().filter(|kind| **kind == "counter").count()
}
