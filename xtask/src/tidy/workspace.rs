//! The crates of the workspace and what each names in its `Cargo.toml`, from `cargo metadata`.
//!
//! Place in the flow: the input of `layers`.

use crate::command;
use crate::fault::Fault;
use crate::json::Json;

/// One crate of the workspace.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) dependencies: Vec<Dependency>,
}

/// One crate that a member names, whether optional, for one platform only, or always.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dependency {
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// Where a dependency is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// In the crate itself or in its build script.
    Shipped,
    /// In tests, examples and benches only.
    Dev,
}

/// Asks cargo for the members.
///
/// # Errors
/// When cargo fails, or this cannot parse its answer.
pub(super) fn members() -> Result<Vec<Member>, Fault> {
    let text = command::output(&mut command::cargo(&["metadata", "--format-version", "1", "--no-deps"]))?;
    read(&text).ok_or_else(|| {
        Fault::new("cannot read what `cargo metadata` printed", "its form has changed: see xtask/src/tidy/workspace.rs")
    })
}

fn read(text: &str) -> Option<Vec<Member>> {
    Json::parse(text)?.field("packages")?.elements().iter().map(member).collect()
}

fn member(package: &Json) -> Option<Member> {
    let name = package.field("name")?.text()?.to_owned();
    let dependencies = package.field("dependencies")?.elements().iter().map(dependency).collect::<Option<_>>()?;
    Some(Member { name, dependencies })
}

fn dependency(json: &Json) -> Option<Dependency> {
    let kind = if json.field("kind")?.text() == Some("dev") { Kind::Dev } else { Kind::Shipped };
    Some(Dependency { name: json.field("name")?.text()?.to_owned(), kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_kinds() {
        let text = r#"{"packages": [{"name": "edge", "version": "0.1.0", "dependencies": [
            {"name": "format", "kind": null, "optional": false}, {"name": "proptest", "kind": "dev"}]}]}"#;
        let expected = Member {
            name: "edge".to_owned(),
            dependencies: vec![
                Dependency { name: "format".to_owned(), kind: Kind::Shipped },
                Dependency { name: "proptest".to_owned(), kind: Kind::Dev },
            ],
        };
        assert_eq!(read(text).unwrap(), [expected]);
        assert_eq!(read(r#"{"packages": [{"name": "edge"}]}"#), None);
    }
}
