//! Inviting machines into a network, beside the process that runs it: what `evernear node invite` does.

use std::{
    io,
    path::{Path, PathBuf},
};

use client::tls::Fingerprint;
use format::{NodeName, wire::Role};

use crate::{
    folders::Folders,
    invitation::{Invitation, Secret},
    invitations::{Invitations, InvitationsError, Invited, LIFE_SECONDS_MAX},
    keys::{self, KeysError},
    settings::{Settings, SettingsError},
};

/// An invitation that was made.
#[derive(Debug)]
pub struct Invite {
    /// What the second machine types. It is shown once, and kept nowhere.
    pub invitation: Invitation,
    /// The name of the node to come.
    pub name: NodeName,
    /// When it ends, in seconds since 1970.
    pub expires: u64,
}

/// Why nobody is invited.
#[derive(Debug, thiserror::Error)]
pub enum InviteError {
    /// There is no network.
    #[error("{} has no network of `evernear up`; name its state folder by --state", state.display())]
    NoNetwork {
        /// The state folder.
        state: PathBuf,
    },
    /// The state folder cannot be read.
    #[error("the state folder cannot be used")]
    Folder(#[source] io::Error),
    /// The settings cannot be read.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The authority cannot be read.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// No other machine reaches it.
    #[error(
        "no other machine reaches this network: stop it, and `evernear up --nodes IP` with the address by which the others reach this one"
    )]
    Alone,
    /// Its catalog is a file.
    #[error(
        "an origin on another machine needs a catalog that it reaches, and this network's answers on this machine alone: stop it, and `evernear up --catalog postgres://USER@HOST/DATABASE` moves it to PostgreSQL, with HOST as the others reach it. An edge needs none: --role edge"
    )]
    Catalog,
    /// Its edges share a secret.
    #[error(
        "everybody reads from this network, at a zone of its own, whose certificate its edge alone has: no edge joins it by an invitation. An origin does: --role origin"
    )]
    Public,
    /// It would count for too long.
    #[error("an invitation counts for {} days at most", LIFE_SECONDS_MAX / (24 * 3600))]
    Long,
    /// It cannot be kept.
    #[error(transparent)]
    Invitations(#[from] InvitationsError),
    /// The system has no randomness.
    #[error("the system gives no random bytes")]
    Random(#[from] getrandom::Error),
}

/// Invites a machine into the network of a state folder: as a node of this name, or of the next free one of its role.
/// `expires` and `now` are in seconds since 1970. Blocks on the disk.
///
/// # Errors
/// [`InviteError`].
pub fn invite(
    state: &Path,
    name: Option<&NodeName>,
    role: Role,
    expires: u64,
    now: u64,
) -> Result<Invite, InviteError> {
    let (folders, settings) = network(state)?;
    let door = settings.nodes.ok_or(InviteError::Alone)?;
    if role == Role::Origin && settings.shared_catalog().is_none() {
        return Err(InviteError::Catalog);
    }
    if role == Role::Edge && settings.public.is_some() {
        return Err(InviteError::Public);
    }
    if expires.saturating_sub(now) > LIFE_SECONDS_MAX {
        return Err(InviteError::Long);
    }
    let authority = authority(&folders)?;
    let secret = Secret::draw(getrandom::fill)?;
    let is_node = |name: &NodeName| keys::is_named(&folders.keys(), name);
    let name = Invitations::at(folders.invitations()).invite(name, (role, expires), secret.hash(), is_node, now)?;
    Ok(Invite { invitation: Invitation { door, role, authority, secret }, name, expires })
}

/// An invitation as it is listed.
#[derive(Debug)]
pub struct Listed {
    /// What is kept of it.
    pub invited: Invited,
    /// The certificate of the node that joined by it.
    pub certificate: Option<Fingerprint>,
}

/// Returns the invitations of a network. Those that ended are among them for a week. Blocks on the disk.
///
/// # Errors
/// [`InviteError`].
pub fn invitations(state: &Path) -> Result<Vec<Listed>, InviteError> {
    let (folders, _) = network(state)?;
    let list = |invited: Invited| {
        let certificate = match invited.is_used() {
            true => keys::certificate_in(&folders.keys(), &invited.name)?,
            false => None,
        };
        Ok(Listed { invited, certificate })
    };
    Invitations::at(folders.invitations()).all()?.into_iter().map(list).collect()
}

/// Takes an invitation back. A node that joined by it stays: `evernear cluster revoke` refuses that. Blocks on the
/// disk.
///
/// # Errors
/// [`InviteError`].
pub fn revoke_invitation(state: &Path, name: &NodeName) -> Result<(), InviteError> {
    let (folders, _) = network(state)?;
    Ok(Invitations::at(folders.invitations()).revoke(name)?)
}

fn network(state: &Path) -> Result<(Folders, Settings), InviteError> {
    let folders = Folders::of(state).map_err(InviteError::Folder)?;
    match Settings::read(&folders.settings())? {
        Some(settings) => Ok((folders, settings)),
        None => Err(InviteError::NoNetwork { state: folders.state }),
    }
}

fn authority(folders: &Folders) -> Result<Fingerprint, InviteError> {
    let no = || InviteError::NoNetwork { state: folders.state.clone() };
    keys::authority_in(&folders.keys())?.ok_or_else(no)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        keys::Keys,
        settings::{Elsewhere, Listen},
    };

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn a_network_that_others_reach_invites_edges_and_shows_who_came() {
        let home = tempfile::tempdir().unwrap();
        let state = home.path();
        let edge = |expires| invite(state, None, Role::Edge, expires, NOW);
        assert!(matches!(edge(NOW + 60), Err(InviteError::NoNetwork { .. })));
        let folders = Folders::of(state).unwrap();
        folders.make().unwrap();
        let mut settings = Settings::new("ab".repeat(16), "127.0.0.1:8080".parse().unwrap(), Listen::Off);
        settings.keep(&folders.settings()).unwrap();
        assert!(matches!(edge(NOW + 60), Err(InviteError::Alone)));
        settings.nodes = Some("192.0.2.1:7499".parse().unwrap());
        settings.keep(&folders.settings()).unwrap();
        assert!(matches!(edge(NOW + 60), Err(InviteError::NoNetwork { .. })), "no start has made its authority");
        let keys = Keys::open(folders.keys()).unwrap();
        assert!(matches!(edge(NOW + LIFE_SECONDS_MAX + 1), Err(InviteError::Long)));
        for (url, is_shared) in [("postgres://u@localhost/d", false), ("postgres://u@192.0.2.1/d", true)] {
            assert!(matches!(invite(state, None, Role::Origin, NOW + 60, NOW), Err(InviteError::Catalog)));
            settings.catalog = Some(Elsewhere { url: url.to_owned(), id: "ab".repeat(16) });
            settings.keep(&folders.settings()).unwrap();
            assert_eq!(settings.shared_catalog().is_some(), is_shared, "{url}");
        }
        let origin = invite(state, None, Role::Origin, NOW + 60, NOW).unwrap();
        revoke_invitation(state, &origin.name).unwrap();
        let made = edge(NOW + 60).unwrap();
        assert_eq!((made.name.as_str(), made.invitation.authority), ("edge1", keys.fingerprint()));
        assert_eq!(Some(made.invitation.door), settings.nodes);
        let listed = invitations(state).unwrap();
        assert!(listed.len() == 1 && listed[0].certificate.is_none() && !listed[0].invited.is_used());
        let kept = std::fs::read_to_string(folders.invitations()).unwrap();
        let secret = data_encoding::HEXLOWER.encode(made.invitation.secret.expose());
        assert!(!kept.contains(&secret), "the secret itself is kept nowhere");
        revoke_invitation(state, &made.name).unwrap();
        assert!(invitations(state).unwrap().is_empty());
    }
}
