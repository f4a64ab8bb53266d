//! The invitations of a network: `network/invitations.toml`. `evernear node invite` writes it, beside the process of
//! the network, whose door reads it at each request; a lock keeps one change from overtaking another.
//!
//! An invitation is bound to the first key that shows its secret, before that gets a certificate. So whoever was cut
//! short asks again with the same key and gets the same answer, and nobody else does.

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use client::tls::Requested;
use format::{NodeName, wire::Role};
use serde::{Deserialize, Serialize};

use crate::{exchange, exchange::Refusal, invitation::SecretHash};

const VERSION: u32 = 1;
/// Most invitations that are kept, those included that were used or ended lately.
pub(crate) const INVITATIONS_MAX: usize = 64;
/// Largest file, in bytes. An invitation takes less than 512.
const BYTES_MAX: usize = 64 * 1024;
/// One that ended is shown, and one that was used answers its key, for so many seconds more.
const KEPT_SECONDS: u64 = 7 * 24 * 3600;
/// The longest time that an invitation may count, in seconds.
pub(crate) const LIFE_SECONDS_MAX: u64 = 7 * 24 * 3600;

/// The file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    #[serde(default, rename = "invitation")]
    all: Vec<Invited>,
}

/// What is kept of an invitation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invited {
    /// The name of the node to come.
    pub name: NodeName,
    /// Its role.
    pub role: Role,
    /// When the invitation ends, in seconds since 1970.
    pub expires: u64,
    #[serde(with = "exchange::hash")]
    pub(crate) secret: [u8; 32],
    /// The hash of the key that used it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
}

impl Invited {
    /// Returns whether a machine has joined by it, or is about to.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.key.is_some()
    }
}

/// Why invitations cannot be made, listed or revoked.
#[derive(Debug, thiserror::Error)]
pub enum InvitationsError {
    /// The disk returns an error.
    #[error("{} cannot be read or written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is damaged: move it away; invitations that were not used must be made again, and nodes that joined stay", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// Too many.
    #[error(
        "there are {INVITATIONS_MAX} invitations, and no more are kept: `evernear node invitations --revoke NAME` takes one back"
    )]
    Many,
    /// The name belongs to a node.
    #[error("a node, or an invitation, has the name {name}; choose another")]
    Taken {
        /// The name.
        name: NodeName,
    },
    /// The name belongs to this machine.
    #[error("{name} is a name of this machine's own nodes: these are o and a number; choose another")]
    Reserved {
        /// The name.
        name: NodeName,
    },
    /// Somebody joined by it.
    #[error(
        "a machine joined as {name} already, and taking its invitation back keeps it not out: `evernear cluster revoke ~/.evernear/network/keys {name}` does, with the \
         keys in the state folder of this network"
    )]
    Joined {
        /// The name.
        name: NodeName,
    },
    /// There is no such invitation.
    #[error("there is no invitation for {name}; `evernear node invitations` lists them")]
    Absent {
        /// The name.
        name: NodeName,
    },
}

/// The file and its lock.
#[derive(Debug, Clone)]
pub(crate) struct Invitations {
    path: PathBuf,
}

impl Invitations {
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Keeps an invitation for a node of this name, or of the first free one of its role. `is_node` says which names
    /// have a certificate. `now` is in seconds since 1970. Blocks on the disk.
    ///
    /// # Errors
    /// [`InvitationsError`].
    pub(crate) fn invite(
        &self,
        name: Option<&NodeName>,
        (role, expires): (Role, u64),
        secret: SecretHash,
        is_node: impl Fn(&NodeName) -> bool,
        now: u64,
    ) -> Result<NodeName, InvitationsError> {
        self.change(|all| {
            all.retain(|one| one.expires.saturating_add(KEPT_SECONDS) > now);
            if all.len() >= INVITATIONS_MAX {
                return Err(InvitationsError::Many);
            }
            let invited: BTreeSet<NodeName> = all.iter().map(|one| one.name.clone()).collect();
            let is_free = |name: &NodeName| !invited.contains(name) && !is_node(name);
            let name = match name {
                Some(name) if is_own(name) => return Err(InvitationsError::Reserved { name: name.clone() }),
                Some(name) if !is_free(name) => return Err(InvitationsError::Taken { name: name.clone() }),
                Some(name) => name.clone(),
                None => {
                    let named = |number: u32| format!("{}{number}", role.as_str()).parse().expect("it is a name");
                    (1..).map(named).find(is_free).expect("names do not run out")
                }
            };
            all.push(Invited { name: name.clone(), role, expires, secret: secret.0, key: None });
            Ok(name)
        })
    }

    /// Returns all of them. Blocks on the disk.
    ///
    /// # Errors
    /// [`InvitationsError`].
    pub(crate) fn all(&self) -> Result<Vec<Invited>, InvitationsError> {
        self.read()
    }

    /// Forgets one that was not used: of a node that joined the list is to say so. Blocks on the disk.
    ///
    /// # Errors
    /// [`InvitationsError`].
    pub(crate) fn revoke(&self, name: &NodeName) -> Result<(), InvitationsError> {
        self.change(|all| {
            if all.iter().any(|one| one.name == *name && one.is_used()) {
                return Err(InvitationsError::Joined { name: name.clone() });
            }
            let before = all.len();
            all.retain(|one| one.name != *name);
            if all.len() < before { Ok(()) } else { Err(InvitationsError::Absent { name: name.clone() }) }
        })
    }

    /// Binds the invitation with this secret to a key, durably, and returns the name of its node. Of a wrong secret
    /// nothing is written. Blocks on the disk.
    ///
    /// # Errors
    /// [`InvitationsError`]; the inner error is the asker's.
    pub(crate) fn redeem(
        &self,
        secret: SecretHash,
        role: Role,
        key: &Requested,
        now: u64,
    ) -> Result<Result<NodeName, Refusal>, InvitationsError> {
        let key = key.fingerprint().to_string();
        let judge = |all: &[Invited]| {
            // What differs is a hash of what was sent, so the time that comparing takes tells nothing of the secret.
            let at = all.iter().position(|one| one.secret == secret.0).ok_or(Refusal::Unknown)?;
            match &all[at] {
                one if one.role != role => Err(Refusal::Role),
                Invited { key: Some(bound), .. } if *bound == key => Ok((at, false)),
                Invited { key: Some(_), .. } => Err(Refusal::Used),
                one if one.expires <= now => Err(Refusal::Expired),
                _ => Ok((at, true)),
            }
        };
        // Whoever guesses waits for no lock.
        let all = self.read()?;
        match judge(&all) {
            Err(refusal) => return Ok(Err(refusal)),
            Ok((at, false)) => return Ok(Ok(all[at].name.clone())),
            Ok((_, true)) => {}
        }
        self.change(|all| {
            Ok(judge(all).map(|(at, _)| {
                all[at].key = Some(key.clone());
                all[at].name.clone()
            }))
        })
    }

    fn change<T>(
        &self,
        work: impl FnOnce(&mut Vec<Invited>) -> Result<T, InvitationsError>,
    ) -> Result<T, InvitationsError> {
        let lock = self.path.with_extension("lock");
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| InvitationsError::Io { path, source }
        };
        let held = File::options().create(true).truncate(false).write(true).open(&lock).map_err(io(&lock))?;
        held.lock().map_err(io(&lock))?;
        let mut all = self.read()?;
        let before = all.clone();
        let done = work(&mut all)?;
        if all != before {
            let text = toml::to_string(&Kept { version: VERSION, all });
            let text = text.map_err(|error| io(&self.path)(io::Error::other(error)))?;
            client::keep(&self.path, text.as_bytes()).map_err(io(&self.path))?;
        }
        Ok(done)
    }

    fn read(&self) -> Result<Vec<Invited>, InvitationsError> {
        let damaged = || InvitationsError::Damaged { path: self.path.clone() };
        let read = client::read_kept(&self.path, BYTES_MAX);
        let read = read.map_err(|source| InvitationsError::Io { path: self.path.clone(), source })?;
        let Some(bytes) = read else { return Ok(Vec::new()) };
        let text = String::from_utf8(bytes).map_err(|_| damaged())?;
        match toml::from_str(&text) {
            Ok(Kept { version: VERSION, all }) => Ok(all),
            _ => Err(damaged()),
        }
    }
}

/// Returns whether a name is of the shape that origins of this machine's disks get.
fn is_own(name: &NodeName) -> bool {
    name.as_str()
        .strip_prefix('o')
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use client::tls::NodeKey;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn key() -> Requested {
        Requested::read(&NodeKey::create().unwrap().request().unwrap()).unwrap()
    }

    fn invitations() -> (tempfile::TempDir, Invitations) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("invitations.toml");
        (folder, Invitations::at(path))
    }

    fn nobody(_: &NodeName) -> bool {
        false
    }

    #[test]
    fn one_key_joins_by_it_as_often_as_it_asks_and_no_other() {
        let (_folder, invitations) = invitations();
        let (secret, [one, other]) = (SecretHash([1; 32]), [key(), key()]);
        let name = invitations.invite(None, (Role::Edge, NOW + 60), secret, nobody, NOW).unwrap();
        assert_eq!(name.as_str(), "edge1");
        let ask = |secret, role, key, now| invitations.redeem(secret, role, key, now).unwrap();
        assert_eq!(ask(SecretHash([2; 32]), Role::Edge, &one, NOW), Err(Refusal::Unknown));
        assert_eq!(ask(secret, Role::Origin, &one, NOW), Err(Refusal::Role));
        assert_eq!(ask(secret, Role::Edge, &one, NOW + 60), Err(Refusal::Expired));
        assert!(!invitations.all().unwrap()[0].is_used(), "nothing of that used it");
        for now in [NOW + 59, NOW + 59, NOW + 600] {
            assert_eq!(ask(secret, Role::Edge, &one, now), Ok(name.clone()), "again with the same key");
            assert_eq!(ask(secret, Role::Edge, &other, now), Err(Refusal::Used));
        }
        assert_eq!(invitations.all().unwrap()[0].key, Some(one.fingerprint().to_string()));
        // Of who joined the list goes on to say so.
        assert!(matches!(invitations.revoke(&name), Err(InvitationsError::Joined { .. })));
        let open = SecretHash([3; 32]);
        let other_name = invitations.invite(None, (Role::Edge, NOW + 60), open, nobody, NOW).unwrap();
        invitations.revoke(&other_name).unwrap();
        assert_eq!(ask(open, Role::Edge, &other, NOW), Err(Refusal::Unknown));
        assert!(matches!(invitations.revoke(&other_name), Err(InvitationsError::Absent { .. })));
    }

    #[test]
    fn names_are_given_once_and_those_of_this_machine_never() {
        let (_folder, invitations) = invitations();
        let named = |name: &str| {
            let name: NodeName = name.parse().unwrap();
            invitations.invite(
                Some(&name),
                (Role::Edge, NOW + 60),
                SecretHash([3; 32]),
                |it| it.as_str() == "edge",
                NOW,
            )
        };
        assert!(matches!(named("o7"), Err(InvitationsError::Reserved { .. })));
        assert!(matches!(named("edge"), Err(InvitationsError::Taken { .. })));
        assert_eq!(named("attic").unwrap().as_str(), "attic");
        assert!(matches!(named("attic"), Err(InvitationsError::Taken { .. })));
        let next = |role| {
            let taken = |name: &NodeName| name.as_str() == "origin1";
            invitations.invite(None, (role, NOW + 60), SecretHash([4; 32]), taken, NOW).unwrap().to_string()
        };
        assert_eq!([next(Role::Edge), next(Role::Edge), next(Role::Origin)], ["edge1", "edge2", "origin2"]);
    }

    #[test]
    fn they_are_bounded_and_those_that_ended_make_room() {
        let (_folder, invitations) = invitations();
        let invite = |now| invitations.invite(None, (Role::Edge, now + 60), SecretHash([5; 32]), nobody, now);
        for _ in 0..INVITATIONS_MAX {
            invite(NOW).unwrap();
        }
        assert!(matches!(invite(NOW), Err(InvitationsError::Many)));
        invite(NOW + 60 + KEPT_SECONDS).unwrap();
        assert_eq!(invitations.all().unwrap().len(), 1);
        let bytes = std::fs::read(&invitations.path).unwrap().len();
        assert!(bytes * INVITATIONS_MAX < BYTES_MAX, "{bytes}");
    }

    #[test]
    fn a_file_that_is_none_is_refused_and_left() {
        let (_folder, invitations) = invitations();
        for text in
            ["version = 2\n", "nonsense", "version = 1\nmore = 1\n", "version = 1\n[[invitation]]\nname = \"a\"\n"]
        {
            std::fs::write(&invitations.path, text).unwrap();
            let refused = invitations.invite(None, (Role::Edge, NOW + 60), SecretHash([6; 32]), nobody, NOW);
            assert!(matches!(refused, Err(InvitationsError::Damaged { .. })), "{text}");
            assert_eq!(std::fs::read_to_string(&invitations.path).unwrap(), text);
        }
    }
}
