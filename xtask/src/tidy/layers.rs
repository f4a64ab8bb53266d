//! Who may use whom: the layers of ARCHITECTURE.md, and the dependencies that live in one crate only.
//!
//! Place in the flow: `tidy` checks the members of the workspace against these tables. Keeps true: a crate uses only
//! lower layers. To replace pingora or hickory, only one crate has to change.

use super::Findings;
use super::workspace::{Dependency, Kind, Member};

/// Which of our crates a crate may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// None of our crates.
    Nothing,
    /// Crates of lower layers.
    Lower,
}

/// Our crates: name, layer, reach. Crates of one layer never use each other.
const ROOMS: &[(&str, u8, Reach)] = &[
    ("format", 0, Reach::Nothing),
    ("unixfs", 0, Reach::Nothing),
    ("sandbox", 1, Reach::Nothing),
    ("client", 1, Reach::Lower),
    ("origin", 2, Reach::Lower),
    ("edge", 2, Reach::Lower),
    ("twin", 2, Reach::Lower),
    ("api", 3, Reach::Lower),
    ("cluster", 3, Reach::Lower),
    ("up", 4, Reach::Lower),
    ("cli", 5, Reach::Lower),
    ("bench", 6, Reach::Lower),
    (TESTING, 2, Reach::Lower),
    ("fuzz", 5, Reach::Lower),
    ("xtask", 3, Reach::Nothing),
];

/// What tests of all layers share. It never ships: others than tools for tests name it among their dev-dependencies.
const TESTING: &str = "testing";
const TOOLS: [&str; 2] = ["cluster", "bench"];

/// A family of dependencies and the crates that may name it.
struct Family {
    prefix: &'static str,
    homes: &'static [&'static str],
    /// Whether tests of other crates may name it.
    in_tests: InTests,
    why: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InTests {
    Anywhere,
    AtHome,
}

const FAMILIES: &[Family] = &[
    Family {
        prefix: "pingora",
        homes: &["edge"],
        in_tests: InTests::AtHome,
        why: "the HTTP engine can be replaced in one crate",
    },
    Family {
        prefix: "quinn",
        homes: &["edge", "bench"],
        in_tests: InTests::AtHome,
        why: "as pingora; bench asks as a viewer",
    },
    Family { prefix: "h2", homes: &["edge"], in_tests: InTests::AtHome, why: "as pingora" },
    Family { prefix: "h3", homes: &["edge", "bench"], in_tests: InTests::AtHome, why: "as quinn" },
    Family {
        prefix: "hickory",
        homes: &["edge"],
        in_tests: InTests::Anywhere,
        why: "the DNS engine can be replaced in one crate; tests ask as clients",
    },
    Family {
        prefix: "wasmtime",
        homes: &["sandbox"],
        in_tests: InTests::AtHome,
        why: "what runs an owner's code has one border",
    },
    Family { prefix: "moka", homes: &["edge"], in_tests: InTests::AtHome, why: "plaintext is cached in one place" },
    Family {
        prefix: "opentelemetry",
        homes: &["client"],
        in_tests: InTests::Anywhere,
        why: "what a span may say is decided in one place; tests read what was sent",
    },
    Family {
        prefix: "clap",
        homes: &["cli", "cluster"],
        in_tests: InTests::AtHome,
        why: "one binary for users; cluster has its own for the demo",
    },
];

/// Crates of layer 0 that have no clock, socket, file or randomness.
const PURE: [&str; 2] = ["format", "unixfs"];

/// Crates that would bring these into them.
const IMPURE: &[&str] = &["tokio", "hyper", "axum", "sqlx", "mio", "getrandom", "rand", "time", "chrono", "tracing"];

/// Checks every member.
pub(super) fn check(members: &[Member], findings: &mut Findings) {
    for member in members {
        for dependency in &member.dependencies {
            findings.faults.extend(layer_fault(&member.name, dependency));
            findings.faults.extend(family_fault(&member.name, dependency));
            findings.faults.extend(purity_fault(&member.name, dependency));
        }
        if room(&member.name).is_none() {
            let name = &member.name;
            findings.faults.push(format!("{name}: a crate without a layer; name it in xtask/src/tidy/layers.rs"));
        }
    }
}

fn room(name: &str) -> Option<(u8, Reach)> {
    ROOMS.iter().find(|(room, ..)| *room == name).map(|&(_, layer, reach)| (layer, reach))
}

fn layer_fault(user: &str, dependency: &Dependency) -> Option<String> {
    let used = dependency.name.as_str();
    let (user_layer, reach) = room(user)?;
    if used == TESTING {
        let ships = dependency.kind == Kind::Shipped && !TOOLS.contains(&user);
        return ships.then(|| format!("{user} names {used}, which is for tests: name it in [dev-dependencies]"));
    }
    let (used_layer, _) = room(used)?;
    match reach {
        Reach::Nothing => Some(format!("{user} names {used}, but uses none of our crates")),
        Reach::Lower if used_layer >= user_layer => Some(format!(
            "{user} (layer {user_layer}) names {used} (layer {used_layer}); only lower layers may be used"
        )),
        Reach::Lower => None,
    }
}

fn family_fault(user: &str, dependency: &Dependency) -> Option<String> {
    let family = FAMILIES.iter().find(|family| is_of(&dependency.name, family.prefix))?;
    let allowed =
        family.homes.contains(&user) || (dependency.kind == Kind::Dev && family.in_tests == InTests::Anywhere);
    let homes = family.homes.join(", ");
    (!allowed).then(|| format!("{user} names {}, which only {homes} may: {}", dependency.name, family.why))
}

fn purity_fault(user: &str, dependency: &Dependency) -> Option<String> {
    let name = &dependency.name;
    match (user, dependency.kind) {
        ("xtask", _) => {
            Some(format!("xtask names {name}, but its first words must come within seconds of a clean clone: std only"))
        }
        (user, Kind::Shipped) if PURE.contains(&user) && IMPURE.iter().any(|impure| is_of(name, impure)) => {
            Some(format!("{user} names {name}; it has no clock, socket, file or chance of its own"))
        }
        _ => None,
    }
}

/// Returns whether a crate is the family's own or one of its parts: `clap` and `clap_derive`, not `clapper`.
fn is_of(name: &str, family: &str) -> bool {
    name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(user: &str, used: &str, kind: Kind) -> Vec<String> {
        let dependencies = vec![Dependency { name: used.to_owned(), kind }];
        let mut findings = Findings::default();
        check(&[Member { name: user.to_owned(), dependencies }], &mut findings);
        findings.faults
    }

    #[test]
    fn lower_layers_may_be_used_and_equal_or_higher_ones_may_not() {
        for (user, used) in [("client", "format"), ("edge", "sandbox"), ("edge", "client"), ("cluster", "twin")] {
            assert_eq!(faults_of(user, used, Kind::Shipped), [""; 0], "{user} -> {used}");
        }
        for (user, used) in [("edge", "origin"), ("client", "sandbox"), ("format", "client"), ("sandbox", "format")] {
            assert_eq!(faults_of(user, used, Kind::Shipped).len(), 1, "{user} -> {used}");
            assert_eq!(faults_of(user, used, Kind::Dev).len(), 1, "{user} -> {used}");
        }
    }

    #[test]
    fn tests_of_every_layer_share_a_crate_that_does_not_ship() {
        for user in ["format", "sandbox", "client", "edge", "cli"] {
            assert_eq!(faults_of(user, "testing", Kind::Dev), [""; 0], "{user}");
            assert_eq!(faults_of(user, "testing", Kind::Shipped).len(), 1, "{user}");
        }
        assert_eq!(faults_of("cluster", "testing", Kind::Shipped), [""; 0]);
        assert_eq!(faults_of("testing", "client", Kind::Shipped), [""; 0]);
        assert_eq!(faults_of("testing", "origin", Kind::Shipped).len(), 1);
    }

    #[test]
    fn a_family_lives_in_its_home() {
        assert_eq!(faults_of("edge", "pingora-core", Kind::Shipped), [""; 0]);
        assert_eq!(faults_of("origin", "pingora-core", Kind::Dev).len(), 1);
        assert_eq!(faults_of("cluster", "hickory-proto", Kind::Dev), [""; 0]);
        assert_eq!(faults_of("cluster", "hickory-proto", Kind::Shipped).len(), 1);
        assert_eq!(faults_of("twin", "clap", Kind::Shipped).len(), 1);
        assert_eq!(faults_of("twin", "clapper", Kind::Shipped), [""; 0]);
    }

    #[test]
    fn pure_crates_have_no_clock_and_xtask_no_dependency() {
        assert_eq!(faults_of("format", "tokio", Kind::Shipped).len(), 1);
        assert_eq!(faults_of("unixfs", "tokio", Kind::Shipped).len(), 1);
        assert_eq!(faults_of("format", "rand", Kind::Dev), [""; 0]);
        assert_eq!(faults_of("xtask", "serde_json", Kind::Shipped).len(), 1);
    }

    #[test]
    fn a_crate_without_a_layer_is_a_fault() {
        let mut findings = Findings::default();
        check(&[Member { name: "stranger".to_owned(), dependencies: Vec::new() }], &mut findings);
        assert_eq!(findings.faults.len(), 1);
    }
}
