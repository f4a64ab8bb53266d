//! The network's owner, with a state folder as `evernear` uses one. So a user can list, add and remove objects from
//! another terminal, with the program and the same files.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};
use client::tls::Authority;
use format::{
    OwnerSecret,
    wire::{NodeEntry, Role},
};
use twin::{Cost, Index, OwnerStore, Twin, TwinConfig, Unlock};

use crate::{
    network::{PROFILE, ZONE, node_toml, place_toml},
    world::EDGES,
};

/// The owner's state folder.
#[derive(Debug, Clone)]
pub struct OwnerFolder(PathBuf);

impl OwnerFolder {
    /// Creates the folder: an owner key and the key file that opens it, an identity in the cluster, and a configuration
    /// that names all origins.
    pub(crate) fn make(
        path: PathBuf,
        authority: &Authority,
        seeds: &[NodeEntry],
        http_port: u16,
    ) -> Result<(Self, OwnerSecret)> {
        let it = Self(path);
        let identity = authority.issue(&"me".parse()?, Role::Twin)?;
        let mut config = format!(
            "url = \"http://{{label}}.{ZONE}:{http_port}/{{name}}\"\nprofile = \"{PROFILE}\"\n[place]\n{}[identity]\n\
             authority = \"authority.pem\"\ncertificate = \"me.pem\"\nkey = \"me.key\"\n",
            place_toml(&EDGES[0]),
        );
        for seed in seeds {
            config += &node_toml("node", seed)?;
        }
        fs::create_dir_all(&it.0)?;
        for (name, text) in [
            ("authority.pem", authority.certificate_pem()),
            ("me.pem", &identity.certificate),
            ("me.key", &identity.key),
            ("twin.toml", &config),
        ] {
            // Only this user may read the files, because one of them is a key.
            let file = fs::File::options().create_new(true).write(true).mode(0o600).open(it.0.join(name));
            file.and_then(|mut file| file.write_all(text.as_bytes()))
                .with_context(|| format!("the owner's {name} cannot be written"))?;
        }
        let unlock = Unlock::create_key_file(&it.0.join("unlock.key"))?;
        let secret = OwnerStore::at(it.0.join("owner.key")).create(&unlock, Cost::RECOMMENDED)?;
        Ok((it, secret))
    }

    /// Connects to the cluster as `evernear` does, with the configuration file.
    pub(crate) async fn connect(&self, secret: &OwnerSecret) -> Result<(TwinConfig, Twin)> {
        let config = TwinConfig::read(&self.0.join("twin.toml"))?;
        let index = Index::open(self.0.join("index"), secret)?;
        let network = twin::Network::connect(&config).await?;
        Ok((config, Twin::new(secret, index, Arc::new(network))))
    }

    /// Returns the path of the folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns three shell lines that store a file of this folder and read it. The first names the owner and the
    /// cluster, the second stores, the third asks the nearest edge for the URL that was printed. `evernear` is the path
    /// of the program.
    #[must_use]
    pub fn lines(&self, evernear: &Path, file: &str) -> [String; 3] {
        let (folder, evernear) = (quoted(&self.0), quoted(evernear));
        let variables = r#"EVERNEAR_STATE="$D" EVERNEAR_CONFIG="$D/twin.toml" EVERNEAR_KEY_FILE="$D/unlock.key""#;
        [
            format!("D={folder}; export {variables}"),
            format!(r#"{evernear} put "$D/{file}" | tee "$D/stored""#),
            r#"curl "$(sed -n 's/^url *//p' "$D/stored")""#.to_owned(),
        ]
    }
}

/// Quotes a path as one shell word.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.chars().all(is_plain) { text.into_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_quoted_path_is_one_word_of_a_shell() {
        for path in ["/tmp/a-b_c.d", "/tmp/it's $HOME `x` \"y\"\\", "/tmp/two words", "ünï*"] {
            let line = format!("printf %s {}", quoted(Path::new(path)));
            let output = Command::new("sh").args(["-c", &line]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), path, "{line}");
        }
        assert_eq!(quoted(Path::new("/tmp/a-b_c.d")), "/tmp/a-b_c.d");
    }
}
