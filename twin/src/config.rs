//! `twin.toml`: how an owner's programs reach their cluster. Checked whole before anything is sent. `twin.sample.toml`
//! shows every key; a test reads it.

mod api;

use std::path::{Path, PathBuf};

use client::IdentityFiles;
use format::{NodeAddress, NodeName, Place, PolicyName, Profile};
use serde::Deserialize;

pub use self::api::ApiConfig;
use crate::urls::{UrlTemplate, UrlTemplateError};

/// Largest configuration file, in bytes. Ours have less than 1 KiB.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// The twin's configuration.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TwinConfig {
    /// Template of objects' URLs. It must contain `{label}` and may contain `{name}`. Absent:
    /// `http://{label}.localhost:8080/{name}`, which a browser on this machine resolves by itself.
    #[serde(default)]
    pub url: UrlTemplate,
    /// Redundancy of objects stored without `--profile`. Absent: `standard`, which needs 24 nodes for large files.
    #[serde(default, deserialize_with = "profile")]
    pub profile: Profile,
    /// Policy of objects stored without `--policy`. Absent: `nft-immutable`.
    #[serde(default)]
    pub policy: PolicyName,
    /// Where this program runs, to read from the nearest nodes. Absent: nowhere in particular.
    #[serde(default = "nowhere")]
    pub place: Place,
    /// The key file that opens the owner key, where neither the command line nor the environment names one. A relative
    /// path starts at the configuration's folder. Absent: none.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// Identity of this program for mutual TLS with nodes. Relative paths start at the configuration's folder.
    pub identity: IdentityFiles,
    /// Origins that this program asks for the list of all others (seed nodes); at least one.
    #[serde(rename = "node")]
    pub nodes: Vec<SeedConfig>,
    /// How the twin answers HTTP. Absent: the defaults of each key.
    #[serde(default)]
    pub api: ApiConfig,
    /// Folder of the configuration, where what is learned of the cluster is kept too.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// A seed node: an origin to ask first.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedConfig {
    /// The name in its certificate.
    pub name: NodeName,
    /// Where its node API listens: `HOST:PORT`. A name is resolved at each connection.
    pub address: NodeAddress,
}

/// Why a configuration cannot be used. Its writer must correct it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {} cannot be read", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is too large to be a configuration.
    #[error("{} has over {CONFIG_BYTES_MAX} bytes; it is no configuration", path.display())]
    Large {
        /// Which file.
        path: PathBuf,
    },
    /// Not TOML, an unknown key, or a value out of bounds.
    #[error("the configuration {} is wrong", path.display())]
    Toml {
        /// Which file.
        path: PathBuf,
        /// What and where.
        source: Box<toml::de::Error>,
    },
    /// No node to ask.
    #[error("the configuration {} names no [[node]]; it needs at least one origin to ask", path.display())]
    NoNode {
        /// Which file.
        path: PathBuf,
    },
    /// A value of `[api]` is out of bounds.
    #[error("`{key}` of [api] in {} is out of bounds; twin.sample.toml says which there are", path.display())]
    Api {
        /// Which file.
        path: PathBuf,
        /// Which key.
        key: &'static str,
    },
    /// Half of a certificate for TLS.
    #[error("[api] in {} has one of `certificate` and `key`; TLS needs both", path.display())]
    ApiCertificate {
        /// Which file.
        path: PathBuf,
    },
    /// The place is out of bounds.
    #[error("the place in {} is wrong", path.display())]
    Place {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: format::PlaceError,
    },
}

impl TwinConfig {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let owned = || path.to_owned();
        let io = |source| ConfigError::Io { path: owned(), source };
        if std::fs::metadata(path).map_err(io)?.len() > CONFIG_BYTES_MAX {
            return Err(ConfigError::Large { path: owned() });
        }
        let text = std::fs::read_to_string(path).map_err(io)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut config: Self =
            toml::from_str(&text).map_err(|source| ConfigError::Toml { path: owned(), source: Box::new(source) })?;
        if config.nodes.is_empty() {
            return Err(ConfigError::NoNode { path: owned() });
        }
        folder.clone_into(&mut config.folder);
        if let Some(key) = config.api.wrong() {
            return Err(ConfigError::Api { path: owned(), key });
        }
        if config.api.certificate.is_some() != config.api.key.is_some() {
            return Err(ConfigError::ApiCertificate { path: owned() });
        }
        config.place.check().map_err(|source| ConfigError::Place { path: owned(), source })?;
        for file in [&mut config.identity.authority, &mut config.identity.certificate, &mut config.identity.key] {
            *file = folder.join(&*file);
        }
        for file in [&mut config.key_file, &mut config.api.certificate, &mut config.api.key].into_iter().flatten() {
            *file = folder.join(&*file);
        }
        Ok(config)
    }
}

/// A place of which nothing is known.
pub(crate) fn nowhere() -> Place {
    Place {
        country: format::Country::UNKNOWN,
        region: "unknown".to_owned(),
        zone: "unknown".to_owned(),
        operator: String::new(),
        datacentre: String::new(),
        latitude: 0.0,
        longitude: 0.0,
    }
}

fn profile<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Profile, D::Error> {
    String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
}

impl<'de> Deserialize<'de> for UrlTemplate {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(|error: UrlTemplateError| serde::de::Error::custom(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = r#"
        profile = "small-cluster"
        [identity]
        authority = "authority.pem"
        certificate = "twin.pem"
        key = "/keys/twin.key"
        [[node]]
        name = "o1"
        address = "127.0.0.1:7001"
    "#;

    fn read(text: &str) -> Result<TwinConfig, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("twin.toml");
        std::fs::write(&path, text).unwrap();
        let mut config = TwinConfig::read(&path)?;
        config.identity.authority = config.identity.authority.strip_prefix(folder.path()).unwrap().to_owned();
        Ok(config)
    }

    #[test]
    fn what_is_absent_has_its_default_and_paths_start_at_the_folder() {
        let config = read(SAMPLE).unwrap();
        assert_eq!(config.profile, Profile::SmallCluster);
        assert_eq!(config.policy, PolicyName::default());
        assert_eq!(config.url, UrlTemplate::default());
        assert_eq!(config.identity.authority, Path::new("authority.pem"));
        assert_eq!(config.identity.key, Path::new("/keys/twin.key"));
        assert_eq!(config.key_file, None);
        for (named, is) in [("unlock.key", "unlock.key"), ("/keys/unlock.key", "/keys/unlock.key")] {
            let config = read(&format!("key_file = \"{named}\"\n{SAMPLE}")).unwrap();
            let (file, folder) = (config.key_file.unwrap(), config.folder);
            assert_eq!(file.strip_prefix(folder).unwrap_or(&file), Path::new(is));
        }
    }

    #[test]
    fn the_sample_is_a_configuration() {
        let config = TwinConfig::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("twin.sample.toml")).unwrap();
        assert_eq!((config.nodes.len(), config.place.zone.as_str()), (2, "home"));
        assert_eq!((config.profile, config.policy), (Profile::default(), PolicyName::default()));
    }

    #[test]
    fn unknown_keys_and_values_out_of_bounds_are_refused() {
        for (from, to) in [
            ("profile =", "profil ="),
            ("small-cluster", "fast"),
            ("[[node]]", "[[nodes]]"),
            ("\"o1\"", "\"O1\""),
            ("127.0.0.1:7001", "localhost"),
        ] {
            let text = SAMPLE.replace(from, to);
            assert_ne!(text, SAMPLE);
            assert!(matches!(read(&text), Err(ConfigError::Toml { .. })), "{to}");
        }
        let url = format!("url = \"http://example.org/\"\n{SAMPLE}");
        assert!(matches!(read(&url), Err(ConfigError::Toml { .. })));
        for wrong in [
            "streams_max = 0",
            "streams_max = 4",
            "wait_seconds = 0",
            "upload_bytes_max = 0",
            "hosts = [\"a.example:443\"]",
            "hosts = [\"\"]",
        ] {
            assert!(matches!(read(&format!("{SAMPLE}\n[api]\n{wrong}")), Err(ConfigError::Api { .. })), "{wrong}");
        }
        assert!(matches!(read(&format!("{SAMPLE}\n[api]\nport = 1")), Err(ConfigError::Toml { .. })));
        for half in ["certificate", "key"] {
            let text = format!("{SAMPLE}\n[api]\n{half} = \"twin.pem\"");
            assert!(matches!(read(&text), Err(ConfigError::ApiCertificate { .. })), "{half}");
        }
        let none = SAMPLE.split("[[node]]").next().unwrap().replace("[identity]", "node = []\n[identity]");
        assert!(matches!(read(&none), Err(ConfigError::NoNode { .. })));
    }
}
