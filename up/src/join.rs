//! Joining the network of another machine: what `evernear join` does before it runs the node.
//!
//! A join that is cut short at any moment is gone on with by the same command: the key is the one that was made first,
//! and the door answers the same key again.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use client::{
    IdentityError, KeyFileError,
    tls::{Fingerprint, Identity, NodeKey, TlsError, pinned_config},
};
use format::{NodeName, wire::Role};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{
    TlsConnector,
    rustls::{self, CertificateError},
};

use crate::{
    exchange::{self, ANSWER_BYTES_MAX, Admitted, Answer, Refusal, Request},
    invitation::Invitation,
    node_folder::{Marker, NodeFolder},
};

/// From the first packet to the last byte of the answer.
const DEADLINE: Duration = Duration::from_secs(30);

/// What a machine that joins is told.
#[derive(Debug)]
pub struct JoinOptions {
    /// The state folder.
    pub state: PathBuf,
    /// The invitation. Absent: this machine has joined already.
    pub invitation: Option<Invitation>,
    /// The folder, on a disk, for what an origin stores. Absent: one in the state folder.
    pub disk: Option<PathBuf>,
    /// Where an edge answers HTTP, and an origin other nodes. Absent: at 127.0.0.1, and at the address from which this
    /// machine reaches the door.
    pub listen: Option<SocketAddr>,
    /// What is lost together with this machine. Absent: this machine alone.
    pub zone: Option<String>,
}

/// A machine that has joined.
#[derive(Debug)]
pub struct Joined {
    /// The node's name.
    pub name: NodeName,
    /// Its role.
    pub role: Role,
    /// The configuration to run it with.
    pub config: PathBuf,
    /// Its certificate.
    pub certificate: Fingerprint,
    /// The certificate of the network's authority.
    pub authority: Fingerprint,
    /// Whether it joined just now.
    pub is_new: bool,
}

/// Why a machine does not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Another process is at it.
    #[error("another `evernear join` is at work in {}", path.display())]
    Running {
        /// The folder.
        path: PathBuf,
    },
    /// The disk returns an error.
    #[error("{} cannot be read or written", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It has not joined yet, and nobody invites it.
    #[error("this machine has not joined a network: `evernear node invite`, where that runs, prints what to type here")]
    NoInvitation,
    /// It is a node already.
    #[error(
        "this machine is the node {name} already, by another invitation. `evernear join` without one goes on with it; --state names a folder for another node"
    )]
    OtherNode {
        /// The node.
        name: NodeName,
    },
    /// The record of what this machine is cannot be read.
    #[error("{} is damaged; put back a copy, or move it away and join again by a new invitation", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// An edge has no disk.
    #[error("this invitation is for an edge, which stores nothing: leave the folder out")]
    DiskOfEdge,
    /// The folder for the shards is not there.
    #[error("{} is no folder; name one on the disk that is to be filled", path.display())]
    Disk {
        /// The folder.
        path: PathBuf,
    },
    /// Nobody listens at the door.
    #[error(
        "nobody answers at {door}. Does `evernear up` run there, with --nodes? May this machine reach that address and port, through firewalls?"
    )]
    Unreachable {
        /// The door.
        door: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// It is not the door of the invitation.
    #[error(
        "what answers at {door} is not the network of this invitation: its authority is another. Nothing was told to it. Somebody is in between, or the \
         keys there were made anew; invite again"
    )]
    Stranger {
        /// The door.
        door: SocketAddr,
    },
    /// The clocks differ.
    #[error("the certificate of {door} does not count by the clock of this machine; is it right, here and there?")]
    Clock {
        /// The door.
        door: SocketAddr,
    },
    /// The connection broke.
    #[error("the connection to {door} broke; the same command again goes on")]
    Broken {
        /// The door.
        door: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// It is not this protocol.
    #[error("the answer of {door} is not understood; use the same version of this program on both machines")]
    Answer {
        /// The door.
        door: SocketAddr,
    },
    /// The network does not want it.
    #[error(transparent)]
    Refused(Refusal),
    /// A key cannot be made.
    #[error("the key of this node cannot be made or read")]
    Tls(#[from] TlsError),
    /// The key cannot be read.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// What came is no identity.
    #[error("the certificate that came cannot be used")]
    Identity(#[from] IdentityError),
    /// No port is free.
    #[error("this node cannot listen on {address}; name another address by --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The configuration of an origin is none.
    #[error("the configuration of the origin cannot be made; are --listen and --zone right?")]
    Origin(#[source] Box<origin::config::ConfigError>),
    /// The configuration of an edge is none.
    #[error("the configuration of the edge cannot be made; are --listen and --zone right?")]
    Edge(#[source] Box<edge::ConfigError>),
    /// Work off the reactor did not come back.
    #[error("joining was cut short")]
    Lost(#[from] tokio::task::JoinError),
}

/// Makes this machine a node of the network that invites it, or finds that it is one.
///
/// # Errors
/// [`JoinError`]. The same command again goes on.
pub async fn join(options: JoinOptions) -> Result<Joined, JoinError> {
    let folder = NodeFolder::of(&options.state)?;
    let (lock, marker) = client::offload({
        let folder = folder.clone();
        move || Ok::<_, JoinError>((folder.open()?, folder.marker()?))
    })
    .await??;
    let joined = match (marker, &options.invitation) {
        (None, None) => Err(JoinError::NoInvitation),
        (Some(marker), Some(other)) if marker.invitation != other.secret.hash().0 => {
            Err(JoinError::OtherNode { name: marker.name })
        }
        (Some(marker), _) => folder.joined(&marker, false),
        (None, Some(invitation)) => ask_and_write(&folder, invitation, &options).await,
    };
    drop(lock);
    joined
}

async fn ask_and_write(
    folder: &NodeFolder,
    invitation: &Invitation,
    options: &JoinOptions,
) -> Result<Joined, JoinError> {
    match (&options.disk, invitation.role) {
        (Some(_), Role::Edge) => return Err(JoinError::DiskOfEdge),
        (Some(path), _) if !path.is_dir() => return Err(JoinError::Disk { path: path.clone() }),
        _ => {}
    }
    let key = client::offload({
        let folder = folder.clone();
        move || folder.key()
    })
    .await??;
    let (admitted, local) = ask(invitation, &key).await?;
    let door = invitation.door;
    let identity = Identity::from_pem(&admitted.authority, &admitted.certificate, key.pem())?;
    identity.check(&admitted.name, invitation.role, SystemTime::now())?;
    if Fingerprint::of_pem(&admitted.authority)? != invitation.authority {
        return Err(JoinError::Stranger { door });
    }
    let text = match invitation.role {
        Role::Origin => folder.origin_config(&admitted, options, local).ok_or(JoinError::Answer { door })??,
        _ => folder.edge_config(&admitted, options, local)?,
    };
    let marker = Marker::new(admitted.name.clone(), invitation.role, invitation.secret.hash());
    let folder = folder.clone();
    client::offload(move || {
        folder.write(&marker, &admitted, &text)?;
        folder.joined(&marker, true)
    })
    .await?
}

/// Asks at the door. Returns its answer, and the address from which this machine reaches it.
async fn ask(invitation: &Invitation, key: &NodeKey) -> Result<(Admitted, IpAddr), JoinError> {
    let door = invitation.door;
    let (config, name) = pinned_config(invitation.authority)?;
    let asked = Request { secret: invitation.secret.clone(), role: invitation.role, certificate: key.request()? };
    let talk = async {
        let stream = TcpStream::connect(door).await.map_err(|source| JoinError::Unreachable { door, source })?;
        let broken = |source| JoinError::Broken { door, source };
        let local = stream.local_addr().map_err(broken)?.ip();
        let shaken = TlsConnector::from(config).connect(name, stream).await;
        let mut stream = shaken.map_err(|error| not_shaken(door, error))?;
        exchange::send(&mut stream, &asked).await.map_err(broken)?;
        let answer = exchange::receive(&mut stream, ANSWER_BYTES_MAX).await.map_err(broken)?;
        match exchange::answer(&answer) {
            Some(Answer::Admitted(admitted)) => Ok((*admitted, local)),
            Some(Answer::Refused(refusal)) => Err(JoinError::Refused(refusal)),
            None => Err(JoinError::Answer { door }),
        }
    };
    let late = || JoinError::Unreachable { door, source: io::ErrorKind::TimedOut.into() };
    timeout(DEADLINE, talk).await.unwrap_or_else(|_| Err(late()))
}

/// Says what a handshake that failed means.
fn not_shaken(door: SocketAddr, source: io::Error) -> JoinError {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    match source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(
            Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. },
        )) => JoinError::Clock { door },
        Some(rustls::Error::InvalidCertificate(_)) => JoinError::Stranger { door },
        _ => JoinError::Broken { door, source },
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::Path};

    use super::*;
    use crate::join_door::tests::Network;

    fn invitation(network: &Network, role: Role, secret: u8) -> Invitation {
        let secret = network.invite(role, secret);
        Invitation { door: network.address, role, authority: network.pin, secret }
    }

    fn options(state: &Path, invitation: Option<&Invitation>) -> JoinOptions {
        JoinOptions { state: state.to_owned(), invitation: invitation.cloned(), disk: None, listen: None, zone: None }
    }

    #[tokio::test]
    async fn an_edge_joins_once_and_goes_on_with_what_it_is() {
        let (network, home) = (Network::start(None).await, tempfile::tempdir().unwrap());
        let state = home.path().join("state");
        assert!(matches!(join(options(&state, None)).await, Err(JoinError::NoInvitation)));
        let [one, other] = [1, 2].map(|secret| invitation(&network, Role::Edge, secret));
        let with_disk = JoinOptions { disk: Some(home.path().to_owned()), ..options(&state, Some(&one)) };
        assert!(matches!(join(with_disk).await, Err(JoinError::DiskOfEdge)));
        let zone = JoinOptions { zone: Some("attic".into()), ..options(&state, Some(&one)) };
        let joined = join(zone).await.unwrap();
        assert!(joined.is_new && joined.name.as_str() == "edge1" && joined.authority == network.pin);
        let config = edge::Config::from_toml(&fs::read_to_string(&joined.config).unwrap()).unwrap();
        assert_eq!((config.place.zone.as_str(), config.http.listen.ip()), ("attic", IpAddr::from([127, 0, 0, 1])));
        config.tls.unwrap().read().unwrap().check(&joined.name, Role::Edge, SystemTime::now()).unwrap();
        for file in fs::read_dir(state.join("node")).unwrap().map(Result::unwrap) {
            let mode = file.metadata().unwrap().permissions().mode();
            assert!(file.file_name() == "lock" || mode & 0o077 == 0, "{:?} {mode:o}", file.path());
        }
        for again in [Some(&one), None] {
            let again = join(options(&state, again)).await.unwrap();
            assert!(!again.is_new && again.certificate == joined.certificate);
        }
        let refused = join(options(&state, Some(&other))).await.unwrap_err();
        assert!(matches!(&refused, JoinError::OtherNode { name } if *name == joined.name), "{refused}");
    }

    #[tokio::test]
    async fn whatever_a_cut_left_is_gone_on_with_by_the_same_key() {
        let (network, home) = (Network::start(None).await, tempfile::tempdir().unwrap());
        let invitation = invitation(&network, Role::Edge, 1);
        let first = join(options(home.path(), Some(&invitation))).await.unwrap();
        let node = home.path().join("node");
        // In the order in which they are written.
        let files = ["authority.pem", "edge1.pem", "edge.toml", "joined.toml"].map(|file| node.join(file));
        for written in 0..files.len() {
            files[written..].iter().for_each(|file| fs::remove_file(file).unwrap());
            let again = join(options(home.path(), Some(&invitation))).await.unwrap();
            assert!(again.is_new && again.certificate == first.certificate, "{written}");
        }
        // Without the key it is another machine.
        fs::remove_dir_all(&node).unwrap();
        let refused = join(options(home.path(), Some(&invitation))).await.unwrap_err();
        assert!(matches!(refused, JoinError::Refused(Refusal::Used)), "{refused}");
    }

    #[tokio::test]
    async fn a_door_of_another_authority_is_told_nothing() {
        let (network, between, home) =
            (Network::start(None).await, Network::start(None).await, tempfile::tempdir().unwrap());
        let honest = invitation(&network, Role::Edge, 1);
        between.invite(Role::Edge, 1);
        let led_astray = Invitation { door: between.address, ..honest.clone() };
        let refused = join(options(home.path(), Some(&led_astray))).await.unwrap_err();
        assert!(matches!(refused, JoinError::Stranger { .. }), "{refused}");
        assert!(!between.invitations.all().unwrap()[0].is_used());
        join(options(home.path(), Some(&honest))).await.unwrap();
    }

    #[tokio::test]
    async fn a_door_that_is_not_there_and_one_that_ended_say_what_to_do() {
        let (network, home) = (Network::start(None).await, tempfile::tempdir().unwrap());
        let invitation = invitation(&network, Role::Edge, 1);
        let door = SocketAddr::from(([127, 0, 0, 1], testing::free_port()));
        let nobody = join(options(home.path(), Some(&Invitation { door, ..invitation.clone() }))).await.unwrap_err();
        assert!(matches!(nobody, JoinError::Unreachable { .. }) && nobody.to_string().contains("--nodes"), "{nobody}");
        network.invitations.revoke(&"edge1".parse().unwrap()).unwrap();
        let revoked = join(options(home.path(), Some(&invitation))).await.unwrap_err();
        assert!(matches!(revoked, JoinError::Refused(Refusal::Unknown)), "{revoked}");
    }

    #[tokio::test]
    async fn an_origin_gets_a_configuration_with_its_disk_and_the_catalog() {
        let url = "postgres://u:secret@192.0.2.1/evernear";
        let (network, home) = (Network::start(Some(url)).await, tempfile::tempdir().unwrap());
        let invitation = invitation(&network, Role::Origin, 1);
        let [state, disk] = ["state", "disk"].map(|name| home.path().join(name));
        let told = || JoinOptions { disk: Some(disk.clone()), ..options(&state, Some(&invitation)) };
        assert!(matches!(join(told()).await, Err(JoinError::Disk { .. })));
        fs::create_dir(&disk).unwrap();
        let joined = join(told()).await.unwrap();
        let config = origin::Config::read(&joined.config).unwrap();
        assert_eq!((config.name.as_str(), &config.data_dir), ("origin1", &disk.join("evernear/origin1")));
        assert!(config.catalog == url.parse().unwrap() && config.listen.port() >= 7500);
        assert_eq!(fs::metadata(&joined.config).unwrap().permissions().mode() & 0o077, 0, "it has a password");
    }
}
