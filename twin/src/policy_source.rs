//! An owner's policy as a TOML text: an ordered list of links, each a ready-made component or a file, and its
//! configuration.
//!
//! ```toml
//! [[link]]
//! use = "geo"              # ready-made: geo, ttl, pages, places, signed, nft-immutable
//! receive-deny = ["KP"]    # everything else in the table is the component's configuration
//!
//! [[link]]
//! component = "mine.wasm"  # a file, from the TOML's own folder
//! ```

use std::path::{Path, PathBuf};

use bytes::Bytes;
use format::{
    BlobId, PolicyLink,
    limits::{POLICY_COMPONENT_BYTES_MAX, POLICY_CONFIG_BYTES_MAX, POLICY_LINKS_MAX},
};

/// Components that come with the program, by name; `./x policies` builds them.
const READY_MADE: [(&str, &[u8]); 6] = [
    ("geo", include_bytes!("../../policies/prebuilt/geo.wasm")),
    ("nft-immutable", include_bytes!("../../policies/prebuilt/nft-immutable.wasm")),
    ("places", include_bytes!("../../policies/prebuilt/places.wasm")),
    ("pages", include_bytes!("../../policies/prebuilt/pages.wasm")),
    ("signed", include_bytes!("../../policies/prebuilt/signed.wasm")),
    ("ttl", include_bytes!("../../policies/prebuilt/ttl.wasm")),
];

/// How many characters of a key an error shows.
const SHOWN_LETTERS_MAX: usize = 64;

/// A policy that was read and is within the limits. It is not validated yet: a sandbox does that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySource {
    /// The links, in the order in which they are asked.
    pub links: Vec<LinkSource>,
}

/// One link of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkSource {
    /// The ready-made name or the file, for people.
    pub title: String,
    /// The component.
    pub component: Bytes,
    /// Its configuration, TOML text.
    pub config: String,
}

/// Why a text is not a policy. Its writer must correct it.
#[derive(Debug, thiserror::Error)]
pub enum PolicySourceError {
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Not TOML.
    #[error("the policy is not TOML")]
    Toml(#[from] Box<toml::de::Error>),
    /// No links, or too many.
    #[error("a policy has [[link]] tables, 1 to {POLICY_LINKS_MAX} of them")]
    Shape,
    /// A key outside of all links, where it would have no effect.
    #[error("{key} stands outside of the links; write it under its [[link]]")]
    Outside {
        /// The key, cut at 64 characters.
        key: String,
    },
    /// A link has neither `use` nor `component`, or both.
    #[error("link {link} needs either use = \"NAME\" ({}) or component = \"FILE.wasm\", and not both", ready_made())]
    Component {
        /// Counted from 1.
        link: usize,
    },
    /// A link names a file, and the text came from elsewhere.
    #[error(
        "link {link} names a file of this machine, which is not read for a policy that comes over HTTP; use a ready-made component ({}), \
         or `evernear policy publish`",
        ready_made()
    )]
    File {
        /// Counted from 1.
        link: usize,
    },
    /// A link uses a component that is not ready-made.
    #[error(
        "link {link} uses {name:?}, which is not ready-made; there are {}; a file of your own is component = \"FILE.wasm\"",
        ready_made()
    )]
    Unknown {
        /// Counted from 1.
        link: usize,
        /// How the name begins.
        name: String,
    },
    /// A file or text is too large.
    #[error("{what} of link {link} has {found} bytes where at most {max} are allowed")]
    Large {
        /// Counted from 1.
        link: usize,
        /// The component or the configuration.
        what: &'static str,
        /// Bytes found.
        found: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A value that TOML cannot write back.
    #[error("the configuration of link {link} cannot be written")]
    Config {
        /// Counted from 1.
        link: usize,
        /// The cause.
        source: Box<toml::ser::Error>,
    },
}

impl PolicySource {
    /// Returns what the manifest names by hash: each link's component and configuration.
    pub(crate) fn blobs(&self) -> Vec<Bytes> {
        let blobs = |link: &LinkSource| [link.component.clone(), Bytes::from(link.config.clone())];
        self.links.iter().flat_map(blobs).collect()
    }

    /// Reads a policy file and the components it names.
    ///
    /// # Errors
    /// [`PolicySourceError`].
    pub fn read(path: &Path) -> Result<Self, PolicySourceError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| PolicySourceError::Io { path: path.to_owned(), source })?;
        Self::parse(&text, path.parent().unwrap_or(Path::new("")))
    }

    /// Parses a policy text. Component files are looked for in `folder`.
    ///
    /// # Errors
    /// [`PolicySourceError`].
    pub fn parse(text: &str, folder: &Path) -> Result<Self, PolicySourceError> {
        Self::with_files(text, Some(folder))
    }

    /// Parses a policy text of somebody who may read no file of this machine: its components are ready-made.
    ///
    /// # Errors
    /// [`PolicySourceError`].
    pub fn ready_made(text: &str) -> Result<Self, PolicySourceError> {
        Self::with_files(text, None)
    }

    fn with_files(text: &str, folder: Option<&Path>) -> Result<Self, PolicySourceError> {
        let mut document: toml::Table = toml::from_str(text).map_err(Box::new)?;
        let tables = document.remove("link");
        if let Some(key) = document.keys().next() {
            return Err(PolicySourceError::Outside { key: key.chars().take(SHOWN_LETTERS_MAX).collect() });
        }
        let Some(toml::Value::Array(tables)) = tables else { return Err(PolicySourceError::Shape) };
        if !(1..=POLICY_LINKS_MAX).contains(&tables.len()) {
            return Err(PolicySourceError::Shape);
        }
        let links = (1..).zip(tables).map(|(link, table)| match table {
            toml::Value::Table(table) => LinkSource::from_table(link, table, folder),
            _ => Err(PolicySourceError::Shape),
        });
        Ok(Self { links: links.collect::<Result<_, _>>()? })
    }
}

impl LinkSource {
    /// Returns the link as the signed manifest names it.
    #[must_use]
    pub fn link(&self) -> PolicyLink {
        let bytes = |length| u32::try_from(length).expect("both were bounded when they were read");
        PolicyLink {
            component: BlobId::of(&self.component),
            component_bytes: bytes(self.component.len()),
            config: BlobId::of(self.config.as_bytes()),
            config_bytes: bytes(self.config.len()),
        }
    }

    fn from_table(link: usize, mut table: toml::Table, folder: Option<&Path>) -> Result<Self, PolicySourceError> {
        let (title, component) = match (table.remove("use"), table.remove("component")) {
            (Some(toml::Value::String(name)), None) => {
                let found = READY_MADE.iter().find(|(known, _)| *known == name);
                let unknown =
                    || PolicySourceError::Unknown { link, name: name.chars().take(SHOWN_LETTERS_MAX).collect() };
                let (_, component) = found.ok_or_else(unknown)?;
                (name, Bytes::from_static(component))
            }
            (None, Some(toml::Value::String(file))) => {
                let folder = folder.ok_or(PolicySourceError::File { link })?;
                let component = read_component(link, &folder.join(&file))?;
                (file, component)
            }
            _ => return Err(PolicySourceError::Component { link }),
        };
        let config =
            toml::to_string(&table).map_err(|source| PolicySourceError::Config { link, source: Box::new(source) })?;
        bounded(link, "the configuration", config.len(), POLICY_CONFIG_BYTES_MAX)?;
        Ok(Self { title, component, config })
    }
}

fn read_component(link: usize, path: &Path) -> Result<Bytes, PolicySourceError> {
    let io = |source| PolicySourceError::Io { path: path.to_owned(), source };
    let found = std::fs::metadata(path).map_err(io)?.len();
    bounded(link, "the component", usize::try_from(found).unwrap_or(usize::MAX), POLICY_COMPONENT_BYTES_MAX)?;
    Ok(std::fs::read(path).map_err(io)?.into())
}

fn bounded(link: usize, what: &'static str, found: usize, max: usize) -> Result<(), PolicySourceError> {
    if found > max { Err(PolicySourceError::Large { link, what, found, max }) } else { Ok(()) }
}

fn ready_made() -> String {
    READY_MADE.map(|(name, _)| name).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<PolicySource, PolicySourceError> {
        PolicySource::parse(text, Path::new("/nowhere"))
    }

    #[test]
    fn the_rest_of_a_link_is_its_configuration() {
        let text = "[[link]]\nuse = \"geo\"\ndeny = [\"KP\"]\n[link.more]\nstatus = 451\n[[link]]\nuse = \"ttl\"\n";
        let source = parse(text).unwrap();
        let [geo, ttl] = &source.links[..] else { panic!("two links") };
        let config: toml::Table = toml::from_str(&geo.config).unwrap();
        assert_eq!(config["more"]["status"].as_integer(), Some(451));
        assert_eq!((config.len(), ttl.config.as_str()), (2, ""));
        assert_eq!(geo.link().component_bytes as usize, READY_MADE[0].1.len());
        assert_ne!(geo.link().component, ttl.link().component);
    }

    #[test]
    fn what_is_no_policy_says_why() {
        for text in ["", "link = 3", "link = []", &"[[link]]\nuse=\"geo\"\n".repeat(9)] {
            assert!(matches!(parse(text), Err(PolicySourceError::Shape)), "{text}");
        }
        for text in ["other = 1\n[[link]]\nuse=\"geo\"\n", "[[link]]\nuse=\"geo\"\n[other]\n", "[[other]]\nuse=\"geo\""]
        {
            assert!(matches!(parse(text), Err(PolicySourceError::Outside { key }) if key == "other"), "{text}");
        }
        for text in ["[[link]]\n", "[[link]]\nuse=\"geo\"\ncomponent=\"x\"\n", "[[link]]\nuse=1\n"] {
            assert!(matches!(parse(text), Err(PolicySourceError::Component { link: 1 })), "{text}");
        }
        let unknown = parse("[[link]]\nuse=\"goe\"\n").unwrap_err();
        assert!(
            unknown.to_string().starts_with("link 1 uses \"goe\", which is not ready-made; there are geo, "),
            "{unknown}"
        );
        assert!(matches!(parse("[[link]]\ncomponent=\"absent.wasm\"\n"), Err(PolicySourceError::Io { .. })));
        assert!(matches!(parse("[["), Err(PolicySourceError::Toml(_))));
        let foreign = |text: &str| PolicySource::ready_made(text);
        assert_eq!(foreign("[[link]]\nuse=\"geo\"\n").unwrap(), parse("[[link]]\nuse=\"geo\"\n").unwrap());
        for file in ["absent.wasm", "/etc/passwd"] {
            let text = format!("[[link]]\nuse=\"geo\"\n[[link]]\ncomponent=\"{file}\"\n");
            assert!(matches!(foreign(&text), Err(PolicySourceError::File { link: 2 })), "{text}");
        }
        let large = format!("[[link]]\nuse=\"geo\"\nx=\"{}\"\n", "y".repeat(POLICY_CONFIG_BYTES_MAX));
        assert!(matches!(parse(&large), Err(PolicySourceError::Large { what: "the configuration", .. })));
    }
}
