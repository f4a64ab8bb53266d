//! From the address of a node to a connection: names are resolved anew each time, and all their addresses are tried
//! ("happy eyeballs", RFC 8305, without its sorting by history). The caller sets the deadline.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use format::NodeAddress;
use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, Shared},
    stream::FuturesUnordered,
};
use tokio::{sync::Semaphore, time::sleep};

/// An address has this long before the next is tried beside it (RFC 8305 section 5, "Connection Attempt Delay").
const HEAD_START: Duration = Duration::from_millis(250);
/// Addresses of one name that are tried; all of them are meant to be one node.
const ADDRESSES_MAX: usize = 8;
/// Names being resolved at once. The system's resolver holds a thread of the pool that also works on the disk, for half
/// a minute when no server answers it.
static RESOLVING: Semaphore = Semaphore::const_new(16);
/// Of these each name holds one at most, however often it is tried meanwhile.
static LOOK_UPS: LookUps = LookUps(Mutex::new(BTreeMap::new()));

/// Why no connection came about. The fault of the node, of the network, or of who wrote the address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("its name {name} cannot be resolved")]
    Name { name: String, source: io::Error },
    #[error("its name {name} has no address")]
    NoAddress { name: String },
    #[error("{}", failures.iter().map(|(address, error)| format!("{address}: {error}")).collect::<Vec<_>>().join("; "))]
    Failed { failures: Vec<(SocketAddr, io::Error)> },
}

/// Resolves an address and returns the first connection that `connect` makes to it. Dropped, it leaves no attempt under
/// way.
pub(crate) async fn dial<T, F: Future<Output = io::Result<T>>>(
    address: &NodeAddress,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<T, DialError> {
    dial_by(resolve, address, connect).await
}

/// The same with another resolver than the system's.
async fn dial_by<T, F: Future<Output = io::Result<T>>, R: Future<Output = io::Result<Vec<SocketAddr>>>>(
    resolve: impl Fn(String, u16) -> R,
    address: &NodeAddress,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<T, DialError> {
    let addresses = match (address.ip(), address.name()) {
        (None, Some(name)) => {
            let found = resolve(name.to_owned(), address.port()).await;
            let found = found.map_err(|source| DialError::Name { name: name.to_owned(), source })?;
            let addresses = families_in_turn(found);
            if addresses.is_empty() {
                return Err(DialError::NoAddress { name: name.to_owned() });
            }
            addresses
        }
        (ip, _) => ip.map(|ip| SocketAddr::new(ip, address.port())).into_iter().collect(),
    };
    race(&addresses, connect).await
}

/// Asks the system's resolver. Dropped, the question still holds its place until the resolver is done with it.
async fn resolve(name: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    let ask = |name, port| async move {
        let _place = RESOLVING.acquire().await.map_err(io::Error::other)?;
        Ok(tokio::net::lookup_host((name, port)).await?.collect())
    };
    LOOK_UPS.join((name, port), ask).await
}

type Name = (String, u16);
/// An error of the system is no value that many can have.
type Found = Result<Vec<SocketAddr>, (io::ErrorKind, String)>;

/// The names that are being resolved: whoever wants one of them joins (single flight).
struct LookUps(Mutex<BTreeMap<Name, Shared<BoxFuture<'static, Found>>>>);

/// A look-up that can be joined until this is dropped.
struct UnderWay(&'static LookUps, Name);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

impl LookUps {
    async fn join<F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static>(
        &'static self,
        name: Name,
        ask: impl FnOnce(String, u16) -> F,
    ) -> io::Result<Vec<SocketAddr>> {
        let look_up = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let begin = || {
                let asked = ask(name.0.clone(), name.1);
                let name = name.clone();
                let task = tokio::spawn(async move {
                    let _under_way = UnderWay(self, name);
                    asked.await.map_err(|error| (error.kind(), error.to_string()))
                });
                let found =
                    task.map(|done| done.unwrap_or_else(|error| Err((io::ErrorKind::Other, error.to_string()))));
                found.boxed().shared()
            };
            all.entry(name.clone()).or_insert_with(begin).clone()
        };
        look_up.await.map_err(|(kind, reason)| io::Error::new(kind, reason))
    }
}

/// Orders addresses so that IPv6 and IPv4 take turns, each in the order of the resolver, the family of its first before
/// the other: a machine without one of them loses one head start at most.
fn families_in_turn(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_ipv6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|it| it.is_ipv6() == first_is_ipv6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let turns = std::iter::from_fn(|| {
        let pair = [first.next(), second.next()];
        pair.iter().any(Option::is_some).then_some(pair)
    });
    turns.flatten().flatten().take(ADDRESSES_MAX).collect()
}

/// Tries the addresses in order, the next as soon as one failed or had its head start.
async fn race<T, F: Future<Output = io::Result<T>>>(
    addresses: &[SocketAddr],
    connect: impl Fn(SocketAddr) -> F,
) -> Result<T, DialError> {
    let (connect, mut waiting) = (&connect, addresses.iter());
    let (mut under_way, mut failures) = (FuturesUnordered::new(), Vec::new());
    loop {
        if let Some(address) = waiting.next() {
            under_way.push(async move { (*address, connect(*address).await) });
        }
        tokio::select! {
            done = under_way.next() => match done {
                Some((_, Ok(connection))) => return Ok(connection),
                Some((address, Err(error))) => failures.push((address, error)),
                None => return Err(DialError::Failed { failures }),
            },
            () = sleep(HEAD_START), if waiting.len() > 0 => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::{Instant, pause, timeout};

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn families_take_turns_and_no_more_are_tried_than_the_bound() {
        let [a, b, c, d] = ["[2001:db8::1]:1", "[2001:db8::2]:1", "192.0.2.1:1", "192.0.2.2:1"].map(address);
        assert_eq!(families_in_turn(vec![a, b, c, d]), [a, c, b, d]);
        assert_eq!(families_in_turn(vec![d, c, a]), [d, a, c]);
        assert_eq!(families_in_turn(vec![a, b]), [a, b]);
        assert_eq!(families_in_turn(vec![]), []);
        assert_eq!(families_in_turn(vec![c; 20]).len(), ADDRESSES_MAX);
    }

    #[tokio::test]
    async fn a_silent_address_costs_its_head_start_and_a_refusing_one_nothing() {
        pause();
        let [silent, refusing, good] = ["192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"].map(address);
        let begun = Instant::now();
        let tried = Mutex::new(Vec::new());
        let all = [silent, refusing, good];
        let found = race(&all, |to| {
            tried.lock().unwrap().push((to, begun.elapsed()));
            async move {
                match to {
                    _ if to == silent => std::future::pending().await,
                    _ if to == refusing => Err(io::ErrorKind::ConnectionRefused.into()),
                    _ => Ok(to),
                }
            }
        });
        assert_eq!(found.await.unwrap(), good);
        // The clock of the runtime ticks in milliseconds.
        let tried = tried.lock().unwrap().clone().into_iter();
        let starts: Vec<_> = tried.map(|(to, after): (_, Duration)| (to, after.as_millis() / 10)).collect();
        assert_eq!(starts, [(silent, 0), (refusing, 25), (good, 25)]);
    }

    #[tokio::test]
    async fn a_name_that_no_server_answers_is_asked_for_once_however_often_it_is_tried() {
        static LOOK_UPS: LookUps = LookUps(Mutex::new(BTreeMap::new()));
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        const SILENCE: Duration = Duration::from_secs(30);
        pause();
        let find = |name: &str| {
            LOOK_UPS.join((name.to_owned(), 1), |_, _| async {
                ASKED.fetch_add(1, Ordering::Relaxed);
                sleep(SILENCE).await;
                Err(io::ErrorKind::TimedOut.into())
            })
        };
        for _ in 0..9 {
            assert!(timeout(SILENCE / 10, find("o1.example")).await.is_err());
        }
        assert!(timeout(SILENCE / 100, find("o2.example")).await.is_err());
        assert_eq!(ASKED.load(Ordering::Relaxed), 2, "one for each name");
        assert_eq!(find("o1.example").await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(ASKED.load(Ordering::Relaxed), 2);
        assert!(timeout(SILENCE / 10, find("o1.example")).await.is_err());
        assert_eq!(ASKED.load(Ordering::Relaxed), 3, "what ended is asked for anew");
    }

    #[tokio::test]
    async fn when_all_fail_each_address_is_named_with_its_reason() {
        let all = ["192.0.2.1:1", "[2001:db8::1]:1"].map(address);
        let failed = race::<(), _>(&all, |_| async { Err(io::Error::other("no")) }).await.unwrap_err();
        assert_eq!(failed.to_string(), "192.0.2.1:1: no; [2001:db8::1]:1: no");
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_is_told_by_name() {
        // RFC 6761 section 6.4: no resolver finds a name under `invalid`.
        let failed = dial::<(), _>(&"o1.invalid:7400".parse().unwrap(), |_| async { Ok(()) }).await.unwrap_err();
        assert!(failed.to_string().starts_with("its name o1.invalid "), "{failed}");
    }

    #[tokio::test]
    async fn a_name_is_resolved_anew_at_each_connection_and_an_address_never() {
        let asked = Mutex::new(Vec::new());
        // A node that moves each time.
        let moves = |name: String, port| {
            let mut asked = asked.lock().unwrap();
            asked.push(name);
            std::future::ready(Ok(vec![address(&format!("192.0.2.{}:{port}", asked.len()))]))
        };
        let reach = async |to: &str| dial_by(moves, &to.parse().unwrap(), |to| async move { Ok(to) }).await.unwrap();
        for number in 1..=3 {
            assert_eq!(reach("o1.example:7400").await, address(&format!("192.0.2.{number}:7400")));
        }
        assert_eq!(reach("192.0.2.9:7400").await, address("192.0.2.9:7400"));
        assert_eq!(*asked.lock().unwrap(), ["o1.example"; 3]);
    }

    #[tokio::test]
    async fn a_name_is_resolved_and_one_of_its_addresses_answers() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let stream = dial(&format!("localhost:{port}").parse().unwrap(), tokio::net::TcpStream::connect).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
    }
}
