//! The owner of the network: a key, the key file that opens it, and `twin.toml`, so that every other command of the
//! program works without an option.

use std::path::{Path, PathBuf};

use client::IdentityFiles;
use format::{NodeName, OwnerId};
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};
use twin::{Cost, OwnerError, OwnerStore, Unlock, UnlockError};

use crate::settings::Given;

/// Largest twin.toml, in bytes.
const CONFIG_BYTES_MAX: usize = 1024 * 1024;
const KEY_FILE: &str = "unlock.key";

/// What a new twin.toml begins with.
const HEAD: &str = "\
# How the commands of this owner reach the network of `evernear up`, which keeps the nodes, the URL and the profile as
# they are. What else you write here stays, and so do a URL and a profile that you choose yourself.

";

/// Why the owner cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum OwnerFault {
    /// The key file cannot be read or made.
    #[error("the key file {} cannot be used; put back a copy of it", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: UnlockError,
    },
    /// The owner key cannot be read or made.
    #[error("the owner key cannot be used")]
    Key(#[from] OwnerError),
    /// The network has an owner whose key is not there.
    #[error(
        "{} is lost: put back the copy. What is stored stays readable, and nobody can change or erase it without the key. To go on with a \
         new owner, move twin.toml and index out of the folder",
        path.display()
    )]
    Lost {
        /// The owner key.
        path: PathBuf,
    },
    /// The disk returns an error.
    #[error("{} cannot be read or written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// It is no TOML.
    #[error("{} is wrong; mend it, or move it away and a new one is written", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// What and where.
        source: Box<toml_edit::TomlError>,
    },
}

/// What twin.toml is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// What the owner may choose otherwise.
    pub(crate) given: Given,
    pub(crate) identity: IdentityFiles,
    /// Whether `unlock.key` beside it opens the owner key.
    pub(crate) has_key_file: bool,
    /// The origins, and their addresses.
    pub(crate) nodes: Vec<(NodeName, String)>,
}

/// Opens the owner key, or makes one that the key file beside it opens. A key that is there stays as it is, whatever
/// locks it. Returns whose key it is and whether there is a key file. Blocks on the disk.
///
/// # Errors
/// [`OwnerFault`].
pub(crate) fn make(state: &Path) -> Result<(OwnerId, bool), OwnerFault> {
    let (store, path) = (OwnerStore::at(state.join("owner.key")), state.join(KEY_FILE));
    match store.card() {
        Ok(card) => return Ok((card.owner, path.exists())),
        Err(OwnerError::Absent { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    // It is written after the key was made, so another one would be another owner's.
    if state.join("twin.toml").exists() {
        return Err(OwnerFault::Lost { path: state.join("owner.key") });
    }
    // A first start that was killed may have left the key file alone.
    let unlock = if path.exists() { Unlock::read_key_file(&path) } else { Unlock::create_key_file(&path) };
    let unlock = unlock.map_err(|source| OwnerFault::KeyFile { path, source })?;
    store.create(&unlock, Cost::RECOMMENDED)?;
    Ok((store.card()?.owner, true))
}

/// Writes twin.toml where it does not say what it should. A URL or a profile that is neither absent nor what an earlier
/// start wrote is the owner's choice and stays. Returns what the file then has. Blocks on the disk.
///
/// # Errors
/// [`OwnerFault`].
pub(crate) fn write_config(path: &Path, wanted: &Wanted, earlier: &[Given]) -> Result<Given, OwnerFault> {
    let io = |source| OwnerFault::Io { path: path.to_owned(), source };
    let bytes = client::read_kept(path, CONFIG_BYTES_MAX).map_err(io)?;
    let text = bytes.map(String::from_utf8).transpose().map_err(|error| io(std::io::Error::other(error)))?;
    let edited = edit(text.as_deref().unwrap_or_default(), wanted, earlier);
    let (new, has) = edited.map_err(|source| OwnerFault::Toml { path: path.to_owned(), source: Box::new(source) })?;
    let new = if text.is_none() { HEAD.to_owned() + &new } else { new };
    if text.as_deref() != Some(new.as_str()) {
        client::keep(path, new.as_bytes()).map_err(io)?;
    }
    Ok(has)
}

/// Returns the new text of the file, and what it has of what the owner may choose.
fn edit(text: &str, wanted: &Wanted, earlier: &[Given]) -> Result<(String, Given), toml_edit::TomlError> {
    let mut document: DocumentMut = text.parse()?;
    let root = document.as_table_mut();
    let mut choose = |key: &str, of: fn(&Given) -> &String| {
        let is = root.get(key).and_then(Item::as_str);
        if is.is_none_or(|is| earlier.iter().any(|given| of(given) == is)) {
            set(root, key, of(&wanted.given));
        }
        root.get(key).and_then(Item::as_str).unwrap_or_default().to_owned()
    };
    let has = Given { url: choose("url", |given| &given.url), profile: choose("profile", |given| &given.profile) };
    if wanted.has_key_file && !root.contains_key("key_file") {
        set(root, "key_file", KEY_FILE);
    }
    let identity = root.entry("identity").or_insert_with(|| Item::Table(Table::new()));
    if let Some(identity) = identity.as_table_like_mut() {
        let IdentityFiles { authority, certificate, key } = &wanted.identity;
        for (name, file) in [("authority", authority), ("certificate", certificate), ("key", key)] {
            let file = file.to_string_lossy();
            if identity.get(name).and_then(Item::as_str) != Some(&file) {
                identity.insert(name, value(file.as_ref()));
            }
        }
    }
    let mut nodes = ArrayOfTables::new();
    for (name, address) in &wanted.nodes {
        let mut node = Table::new();
        node.insert("name", value(name.as_str()));
        node.insert("address", value(address.as_str()));
        nodes.push(node);
    }
    let is_same = root.get("node").and_then(Item::as_array_of_tables).is_some_and(|is| {
        let said = |table: &Table, key| table.get(key).and_then(Item::as_str).map(str::to_owned);
        is.len() == nodes.len()
            && is
                .iter()
                .zip(&nodes)
                .all(|(is, new)| ["name", "address"].iter().all(|key| said(is, key) == said(new, key)))
    });
    if !is_same {
        root.insert("node", Item::ArrayOfTables(nodes));
    }
    Ok((document.to_string(), has))
}

/// Sets a key. Where the value changes alone, comments around it stay.
fn set(table: &mut Table, key: &str, new: &str) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            let around = old.decor().clone();
            *old = new.into();
            *old.decor_mut() = around;
        }
        None => {
            table.insert(key, value(new));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use twin::TwinConfig;

    use super::*;

    fn wanted(port: u16, profile: &str, nodes: usize) -> Wanted {
        let file = |name: &str| PathBuf::from("network/keys").join(name);
        let url = format!("http://{{label}}.localhost:{port}/{{name}}");
        Wanted {
            given: Given { url, profile: profile.to_owned() },
            identity: IdentityFiles {
                authority: file("authority.pem"),
                certificate: file("me.pem"),
                key: file("me.key"),
            },
            has_key_file: true,
            nodes: (1..=nodes)
                .map(|number| (format!("o{number}").parse().unwrap(), format!("127.0.0.1:740{number}")))
                .collect(),
        }
    }

    #[test]
    fn a_first_start_that_was_killed_is_gone_on_with_and_no_key_is_replaced() {
        let state = tempfile::tempdir().unwrap();
        Unlock::create_key_file(&state.path().join(KEY_FILE)).unwrap();
        let key_file = fs::read(state.path().join(KEY_FILE)).unwrap();
        let (owner, has_key_file) = make(state.path()).unwrap();
        assert_eq!((fs::read(state.path().join(KEY_FILE)).unwrap(), has_key_file), (key_file, true));
        assert_eq!(make(state.path()).unwrap(), (owner, true));
        fs::remove_file(state.path().join(KEY_FILE)).unwrap();
        assert_eq!(make(state.path()).unwrap(), (owner, false), "something else may open it");
    }

    #[test]
    fn the_file_is_a_configuration_and_follows_what_changes() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("twin.toml");
        let first = wanted(8080, "2+1", 3);
        assert_eq!(write_config(&path, &first, &[]).unwrap(), first.given);
        let config = TwinConfig::read(&path).unwrap();
        assert_eq!((config.nodes.len(), config.profile.to_string().as_str()), (3, "2+1"));
        assert_eq!(config.key_file, Some(state.path().join(KEY_FILE)));
        let text = fs::read_to_string(&path).unwrap();
        let second = wanted(8081, "2+2", 4);
        // A start was killed before or after it wrote: either is known.
        let either = [first.given.clone(), second.given.clone()];
        for _ in 0..2 {
            assert_eq!(write_config(&path, &second, &either).unwrap(), second.given);
        }
        let config = TwinConfig::read(&path).unwrap();
        assert_eq!((config.nodes.len(), config.profile.to_string().as_str()), (4, "2+2"));
        let changed = fs::read_to_string(&path).unwrap();
        assert!(changed.contains("localhost:8081") && changed.starts_with(HEAD), "{changed}");
        write_config(&path, &first, &either).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "and back");
    }

    #[test]
    fn what_the_owner_wrote_stays() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("twin.toml");
        let before = wanted(8080, "2+1", 3);
        write_config(&path, &before, &[]).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let mine =
            text.replace("\"2+1\"", "\"1+2\" # mine").replace("[identity]", "policy = \"mine\" # too\n[identity]");
        fs::write(&path, &mine).unwrap();
        let has = write_config(&path, &wanted(8081, "2+2", 3), std::slice::from_ref(&before.given)).unwrap();
        assert_eq!(has, wanted(8081, "1+2", 3).given);
        assert_eq!(fs::read_to_string(&path).unwrap(), mine.replace(":8080", ":8081"));
        fs::write(&path, "url = ").unwrap();
        assert!(matches!(write_config(&path, &before, &[]), Err(OwnerFault::Toml { .. })));
    }
}
