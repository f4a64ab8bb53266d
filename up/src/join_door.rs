//! The door at which an invited machine becomes a node: TLS 1.3 that proves the network's authority, one request, one
//! answer. It takes strangers, so all of it is bounded: connections, those of one peer, their time and their bytes. A
//! wrong secret costs one hash and a look into a small file; guessing one of 256 bits is no way in.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use client::{
    causes,
    tls::{Fingerprint, Requested},
};
use data_encoding::HEXLOWER;
use format::wire::Role;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::{
    clock,
    exchange::{self, Admitted, Answer, REQUEST_BYTES_MAX, Refusal, SeedEntry},
    invitations::Invitations,
    keys::Keys,
    up_error::UpError,
};

/// Connections at once; more are closed.
const CONNECTIONS_MAX: usize = 32;
/// Those of one address (IPv6: one /64).
const CONNECTIONS_OF_ONE_MAX: usize = 4;
/// From the first byte to the last, in both directions.
const DEADLINE: Duration = Duration::from_secs(15);
/// Pause when the system has no more files or memory for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// All that the door decides by, and tells.
pub(crate) struct Admitting {
    pub(crate) invitations: Invitations,
    pub(crate) keys: Arc<Keys>,
    pub(crate) zone: &'static str,
    /// Whether everybody reads, at another zone, whose secret edges on other machines lack.
    pub(crate) is_public: bool,
    pub(crate) seeds: Vec<SeedEntry>,
    /// The catalog, where another machine reaches it.
    pub(crate) catalog: Option<String>,
    /// Requests that were refused since the start.
    pub(crate) refused: AtomicU64,
}

/// Who is at the door.
#[derive(Clone, Default)]
struct Seats(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A place at the door; dropping it gives it back.
struct Taken {
    seats: Seats,
    peer: IpAddr,
}

/// The door, open.
pub(crate) struct JoinDoor {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    admitting: Arc<Admitting>,
}

impl JoinDoor {
    /// Listens. Who comes now waits for [`Self::answer`].
    ///
    /// # Errors
    /// [`UpError::Address`] and [`UpError::Keys`].
    pub(crate) async fn open(address: SocketAddr, admitting: Admitting) -> Result<Self, UpError> {
        let acceptor = admitting.keys.door_config()?.into();
        let unusable = |source| UpError::Address { door: "nodes", address, source };
        let listener = TcpListener::bind(address).await.map_err(unusable)?;
        Ok(Self { listener, acceptor, admitting: Arc::new(admitting) })
    }

    /// Answers until the network stops; then connections are cut.
    pub(crate) async fn answer(self, stop: CancellationToken) {
        let (seats, mut talks) = (Seats::default(), JoinSet::new());
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
                Some(_) = talks.join_next() => continue,
            };
            match accepted {
                Ok((stream, address)) => {
                    // Who finds no place is closed: it tries again.
                    let Some(taken) = seats.take(peer_of(address.ip())) else { continue };
                    let (acceptor, admitting) = (self.acceptor.clone(), self.admitting.clone());
                    talks.spawn(async move {
                        let _taken = taken;
                        let talked = timeout(DEADLINE, talk(stream, &acceptor, admitting)).await;
                        let talked = talked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                        if let Err(error) = talked {
                            tracing::debug!(%address, %error, "who was at the door did not join");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted at the door for nodes");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn talk(stream: TcpStream, acceptor: &TlsAcceptor, admitting: Arc<Admitting>) -> io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let asked = exchange::receive(&mut stream, REQUEST_BYTES_MAX).await?;
    let answer = client::offload(move || admitting.admit(&asked, clock::now())).await.map_err(io::Error::other)?;
    exchange::send(&mut stream, &answer).await?;
    stream.shutdown().await
}

impl Admitting {
    /// Judges a request. Blocks on the disk, and signs a certificate, which takes milliseconds.
    fn admit(&self, asked: &Zeroizing<Vec<u8>>, now: u64) -> Answer {
        match self.judge(asked, now) {
            Ok(admitted) => Answer::Admitted(Box::new(admitted)),
            Err(refusal) => {
                let refused = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
                // Whoever asks without end writes few lines.
                if refused.is_power_of_two() {
                    tracing::warn!(refused, why = %refusal, "a machine that asked to join was refused");
                }
                Answer::Refused(refusal)
            }
        }
    }

    fn judge(&self, asked: &Zeroizing<Vec<u8>>, now: u64) -> Result<Admitted, Refusal> {
        let request = exchange::request(asked).ok_or(Refusal::Malformed)?;
        let secret = request.secret.hash();
        let unable = |error: &dyn std::error::Error| {
            tracing::error!(error = causes(error), "a machine cannot join");
            Refusal::Unable
        };
        // Of a stranger no signature is verified.
        if !self.invitations.all().map_err(|error| unable(&error))?.iter().any(|one| one.secret == secret.0) {
            return Err(Refusal::Unknown);
        }
        let catalog = match (request.role, &self.catalog) {
            (Role::Origin, None) => return Err(Refusal::Catalog),
            (Role::Origin, catalog) => catalog.clone(),
            (Role::Edge, _) if self.is_public => return Err(Refusal::Public),
            _ => None,
        };
        let key = Requested::read(&request.certificate).map_err(|_| Refusal::Malformed)?;
        let redeemed = self.invitations.redeem(secret, request.role, &key, now);
        let name = redeemed.map_err(|error| unable(&error))??;
        let certified = self.keys.certify(&name, request.role, &key).map_err(|error| unable(&error))?;
        let certificate = certified.ok_or(Refusal::Used)?;
        let refused = self.keys.refused().map_err(|error| unable(&error))?;
        if let Ok(fingerprint) = Fingerprint::of_pem(&certificate) {
            let role = request.role.as_str();
            // Whoever invited is to see it, and whoever did not, too.
            tracing::warn!(%name, role, certificate = %fingerprint, authority = %self.keys.fingerprint(), "a node joins the network");
        }
        Ok(Admitted {
            name,
            certificate,
            authority: self.keys.authority_pem().to_owned(),
            refused: refused.map(|list| HEXLOWER.encode(&list)),
            zone: self.zone.to_owned(),
            seeds: self.seeds.clone(),
            catalog,
        })
    }
}

impl Seats {
    fn take(&self, peer: IpAddr) -> Option<Taken> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, of_one) = (held.values().sum::<usize>(), held.entry(peer).or_default());
        if all >= CONNECTIONS_MAX || *of_one >= CONNECTIONS_OF_ONE_MAX {
            held.retain(|_, count| *count > 0);
            return None;
        }
        *of_one += 1;
        Some(Taken { seats: self.clone(), peer })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut held = self.seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.peer) {
            *count -= 1;
        }
        held.retain(|_, count| *count > 0);
    }
}

/// Returns what counts as one peer.
fn peer_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !0 << 64).into(),
        ip => ip,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use client::tls::{NodeKey, pinned_config};
    use tokio::{io::AsyncReadExt, task::JoinHandle};
    use tokio_rustls::{TlsConnector, client::TlsStream};

    use super::*;
    use crate::{
        exchange::{ANSWER_BYTES_MAX, Request},
        invitation::Secret,
        keys,
    };

    /// A network's door.
    pub(crate) struct Network {
        folder: tempfile::TempDir,
        pub(crate) invitations: Invitations,
        pub(crate) pin: Fingerprint,
        pub(crate) address: SocketAddr,
        task: JoinHandle<()>,
    }

    impl Drop for Network {
        fn drop(&mut self) {
            self.task.abort();
        }
    }

    impl Network {
        pub(crate) async fn start(catalog: Option<&str>) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let keys = Arc::new(Keys::open(folder.path().join("keys")).unwrap());
            let invitations = Invitations::at(folder.path().join("invitations.toml"));
            let admitting = Admitting {
                invitations: invitations.clone(),
                keys: keys.clone(),
                zone: "localhost",
                is_public: false,
                seeds: vec![SeedEntry { name: "o1".parse().unwrap(), address: "192.0.2.1:7500".parse().unwrap() }],
                catalog: catalog.map(str::to_owned),
                refused: AtomicU64::new(0),
            };
            let door = JoinDoor::open("127.0.0.1:0".parse().unwrap(), admitting).await.unwrap();
            let address = door.listener.local_addr().unwrap();
            let task = tokio::spawn(door.answer(CancellationToken::new()));
            Self { folder, invitations, pin: keys.fingerprint(), address, task }
        }

        pub(crate) fn invite(&self, role: Role, secret: u8) -> Secret {
            let secret = Secret::from_slice(&[secret; 32]).unwrap();
            let (expires, hash) = (clock::now() + 60, secret.hash());
            self.invitations.invite(None, (role, expires), hash, |_| false, clock::now()).unwrap();
            secret
        }

        async fn knock(&self) -> io::Result<TlsStream<TcpStream>> {
            let (config, name) = pinned_config(self.pin).unwrap();
            TlsConnector::from(config).connect(name, TcpStream::connect(self.address).await?).await
        }

        async fn ask(&self, secret: &Secret, role: Role, key: &NodeKey) -> Answer {
            let mut stream = self.knock().await.unwrap();
            let asked = Request { secret: secret.clone(), role, certificate: key.request().unwrap() };
            exchange::send(&mut stream, &asked).await.unwrap();
            exchange::answer(&exchange::receive(&mut stream, ANSWER_BYTES_MAX).await.unwrap()).unwrap()
        }
    }

    fn admitted(answer: Answer) -> Admitted {
        let Answer::Admitted(admitted) = answer else { panic!("{answer:?}") };
        *admitted
    }

    #[tokio::test]
    async fn an_invited_key_gets_one_certificate_however_often_it_asks_and_another_key_none() {
        let network = Network::start(None).await;
        let (secret, key) = (network.invite(Role::Edge, 1), NodeKey::create().unwrap());
        let first = admitted(network.ask(&secret, Role::Edge, &key).await);
        assert_eq!((first.name.as_str(), first.zone.as_str(), &first.catalog), ("edge1", "localhost", &None));
        assert_eq!(admitted(network.ask(&secret, Role::Edge, &key).await), first);
        let other = NodeKey::create().unwrap();
        assert_eq!(network.ask(&secret, Role::Edge, &other).await, Answer::Refused(Refusal::Used));
        let identity = client::tls::Identity::from_pem(&first.authority, &first.certificate, key.pem()).unwrap();
        identity.check(&first.name, Role::Edge, std::time::SystemTime::now()).unwrap();
        assert!(keys::is_named(&network.folder.path().join("keys"), &first.name), "what was issued is on record");
    }

    #[tokio::test]
    async fn a_guess_another_role_and_nonsense_are_refused() {
        let network = Network::start(None).await;
        let (secret, key) = (network.invite(Role::Edge, 1), NodeKey::create().unwrap());
        let guess = Secret::from_slice(&[2; 32]).unwrap();
        assert_eq!(network.ask(&guess, Role::Edge, &key).await, Answer::Refused(Refusal::Unknown));
        assert_eq!(network.ask(&secret, Role::Twin, &key).await, Answer::Refused(Refusal::Role));
        assert_eq!(network.ask(&secret, Role::Origin, &key).await, Answer::Refused(Refusal::Catalog));
        let mut stream = network.knock().await.unwrap();
        exchange::send(&mut stream, &"nonsense").await.unwrap();
        let answer = exchange::receive(&mut stream, ANSWER_BYTES_MAX).await.unwrap();
        assert_eq!(exchange::answer(&answer), Some(Answer::Refused(Refusal::Malformed)));
        assert!(!network.invitations.all().unwrap()[0].is_used(), "it counts still");
    }

    #[tokio::test]
    async fn an_origin_is_told_the_catalog_and_an_edge_is_not() {
        let network = Network::start(Some("postgres://u:secret@192.0.2.1/e")).await;
        let (origin, edge) = (network.invite(Role::Origin, 1), network.invite(Role::Edge, 2));
        let key = NodeKey::create().unwrap();
        assert_eq!(network.ask(&edge, Role::Origin, &key).await, Answer::Refused(Refusal::Role));
        let told = admitted(network.ask(&origin, Role::Origin, &key).await);
        assert_eq!((told.name.as_str(), told.catalog.as_deref()), ("origin1", Some("postgres://u:secret@192.0.2.1/e")));
        assert_eq!(admitted(network.ask(&edge, Role::Edge, &NodeKey::create().unwrap()).await).catalog, None);
    }

    #[tokio::test]
    async fn a_long_request_ends_the_connection_and_so_does_speaking_in_clear() {
        let network = Network::start(None).await;
        let mut stream = network.knock().await.unwrap();
        let length = u32::try_from(REQUEST_BYTES_MAX + 1).unwrap();
        stream.write_all(&length.to_be_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(stream.read(&mut [0; 9]).await.unwrap_or(0), 0);
        let mut clear = TcpStream::connect(network.address).await.unwrap();
        clear.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let _ = clear.read_to_end(&mut answer).await;
        assert!(answer.len() < 16, "an alert at most: {answer:?}");
    }

    #[tokio::test]
    async fn one_peer_that_says_nothing_has_few_places() {
        let network = Network::start(None).await;
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS_OF_ONE_MAX {
            silent.push(network.knock().await.unwrap());
        }
        assert!(network.knock().await.is_err(), "it is closed at once");
        drop(silent);
        let deadline = tokio::time::Instant::now() + DEADLINE;
        while network.knock().await.is_err() {
            assert!(tokio::time::Instant::now() < deadline, "places come back");
        }
    }

    #[tokio::test]
    async fn who_is_slow_is_cut() {
        let network = Network::start(None).await;
        let mut stream = network.knock().await.unwrap();
        tokio::time::pause();
        stream.write_all(&[0, 0]).await.unwrap();
        stream.flush().await.unwrap();
        assert!(matches!(timeout(2 * DEADLINE, stream.read(&mut [0; 9])).await, Ok(Ok(0) | Err(_))));
    }

    #[test]
    fn places_are_counted_by_peer_and_in_all() {
        let seats = Seats::default();
        let peers: Vec<IpAddr> = (1..=40).map(|n| format!("2001:db8:0:{n}::1").parse().unwrap()).map(peer_of).collect();
        let taken: Vec<_> = peers.iter().map_while(|peer| seats.take(*peer)).collect();
        assert_eq!(taken.len(), CONNECTIONS_MAX);
        drop(taken);
        assert!(seats.0.lock().unwrap().is_empty());
        let same = ["2001:db8::1", "2001:db8::ffff:1"].map(|ip| peer_of(ip.parse().unwrap()));
        assert_eq!(same[0], same[1]);
        assert_eq!(peer_of("::ffff:192.0.2.1".parse().unwrap()), "192.0.2.1".parse::<IpAddr>().unwrap());
    }
}
