//! The one loop that accepts connections over TCP: for DNS, HTTP, the other edges, and the operator.
//!
//! Keeps true: a door has no more connections than its [`Connections`] allow; none is accepted after the shutdown;
//! where the system gives none, because no descriptor is left, the next try waits, and the log is told once a minute.

use std::{
    io::{Error, ErrorKind},
    net::SocketAddr,
    time::{Duration, Instant},
};

use prometheus_client::metrics::counter::Counter;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::sleep,
};

use super::connections::{Admitted, Connections};

/// After a failed accept the next try waits, or the loop would spin: the connection that could not be accepted stays in
/// the queue. After each in a row it waits twice as long, up to the last.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LAST: Duration = Duration::from_secs(1);
/// Between lines of the log that say so.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// A socket that accepts connections until the shutdown.
pub(crate) struct Acceptor {
    socket: TcpListener,
    connections: Connections,
    shutdown: watch::Receiver<bool>,
    /// Failed accepts of all doors.
    faults: Counter,
    /// What the next failed accept in a row waits, and when the log was last told of one.
    pause: Duration,
    told: Option<Instant>,
}

/// A connection that has a seat. From [`Acceptor::next`] it counts for no address until [`Admitted::of`], as a balancer
/// may name another.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) admitted: Admitted,
}

impl Acceptor {
    pub(crate) fn new(
        socket: TcpListener,
        connections: Connections,
        faults: Counter,
        shutdown: watch::Receiver<bool>,
    ) -> Self {
        Self { socket, connections, shutdown, faults, pause: RETRY_FIRST, told: None }
    }

    /// Returns the next connection; none once the shutdown was called. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Accepted> {
        loop {
            let accepted = tokio::select! {
                biased;
                _ = self.shutdown.wait_for(|down| *down) => return None,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                // Its other side ended it while it was in the queue.
                Err(error) if is_of_other_side(&error) => {}
                Err(error) => {
                    self.count(&error, Instant::now());
                    sleep(self.pause).await;
                    self.pause = (self.pause * 2).min(RETRY_LAST);
                }
                Ok((stream, peer)) => {
                    self.pause = RETRY_FIRST;
                    if let Some(admitted) = self.connections.admit() {
                        return Some(Accepted { stream, peer, admitted });
                    }
                }
            }
        }
    }

    fn count(&mut self, error: &Error, now: Instant) {
        self.faults.inc();
        if self.told.is_none_or(|told| now.duration_since(told) >= TELL_EVERY) {
            self.told = Some(now);
            let address = self.socket.local_addr().ok().map(tracing::field::display);
            tracing::warn!(
                %error, address,
                "the system gives no connection; they wait, and evernear_edge_accept_faults counts the tries"
            );
        }
    }

    /// Serves each connection in a task of its own until the shutdown, then waits until those under way end. It counts
    /// for its peer's address before it has a task: nobody fills the seats by a burst. Dropping it cuts them.
    pub(crate) async fn each<F>(mut self, serve: impl Fn(Accepted) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        while let Some(Accepted { stream, peer, admitted }) = self.next().await {
            let Some(admitted) = admitted.of(peer.ip()) else { continue };
            // Those that ended are taken out here, so that the set stays as small as what is open.
            while tasks.try_join_next().is_some() {}
            tasks.spawn(serve(Accepted { stream, peer, admitted }));
        }
        while tasks.join_next().await.is_some() {}
    }
}

fn is_of_other_side(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, sync::Arc};

    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    use testing::Heard;
    use tokio::{io::AsyncReadExt, sync::Semaphore, time::timeout};
    use tracing_subscriber::fmt;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    struct Scene {
        address: SocketAddr,
        refused: Counter,
        down: watch::Sender<bool>,
        /// Each connection ends when it gets a permit.
        end: Arc<Semaphore>,
        serving: tokio::task::JoinHandle<()>,
    }

    impl Scene {
        async fn new(max: usize) -> Self {
            let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let (address, refused, (down, going_down)) =
                (socket.local_addr().unwrap(), Counter::default(), watch::channel(false));
            let acceptor =
                Acceptor::new(socket, Connections::new(max, max, refused.clone()), Counter::default(), going_down);
            let end = Arc::new(Semaphore::new(0));
            let ends = Arc::clone(&end);
            let serving = tokio::spawn(acceptor.each(move |accepted| {
                let ends = Arc::clone(&ends);
                async move {
                    let _permit = ends.acquire_owned().await.unwrap();
                    drop(accepted);
                }
            }));
            Self { address, refused, down, end, serving }
        }

        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.unwrap()
        }
    }

    async fn is_closed(stream: &mut TcpStream) -> bool {
        !matches!(timeout(DEADLINE, stream.read(&mut [0; 1])).await.unwrap(), Ok(1..))
    }

    #[tokio::test]
    async fn at_its_limit_a_door_closes_what_comes_and_counts_it() {
        let scene = Scene::new(2).await;
        let mut open = [scene.connect().await, scene.connect().await];
        assert!(is_closed(&mut scene.connect().await).await);
        assert_eq!(scene.refused.get(), 1);
        scene.end.add_permits(2);
        for stream in &mut open {
            assert!(is_closed(stream).await);
        }
        assert_eq!(scene.refused.get(), 1);
    }

    #[tokio::test]
    async fn after_the_shutdown_none_is_accepted_and_what_is_open_ends_by_itself() {
        let mut scene = Scene::new(8).await;
        let mut open = scene.connect().await;
        testing::until("it is accepted", async || Arc::strong_count(&scene.end) > 2).await;
        scene.down.send(true).unwrap();
        assert!(timeout(Duration::from_millis(50), &mut scene.serving).await.is_err(), "one is open");
        scene.end.add_permits(1);
        timeout(DEADLINE, &mut scene.serving).await.unwrap().unwrap();
        assert!(is_closed(&mut open).await);
        assert!(TcpStream::connect(scene.address).await.is_err(), "nobody listens any more");
    }
    /// For a process of its own, as nextest gives it: no other test would find a descriptor.
    #[tokio::test]
    async fn without_descriptors_the_log_is_told_once_and_connections_are_accepted_later() {
        let log = Heard::default();
        let writer = log.clone();
        let _heard = tracing::subscriber::set_default(fmt().with_writer(move || writer.clone()).finish());
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, faults) = (socket.local_addr().unwrap(), Counter::default());
        let (_down, going_down) = watch::channel(false);
        let connections = Connections::new(8, 8, Counter::default());
        let mut acceptor = Acceptor::new(socket, connections, faults.clone(), going_down);
        let _viewer = TcpStream::connect(address).await.unwrap();

        let before = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(256), ..before }).unwrap();
        let mut taken = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            taken.push(file);
        }
        // Tries after 0, 50, 150, 350 and 750 ms; without growing pauses there would be twenty.
        assert!(timeout(Duration::from_secs(1), acceptor.next()).await.is_err());
        drop(taken);
        setrlimit(Resource::Nofile, before).unwrap();
        assert!((3..=6).contains(&faults.get()), "{}", faults.get());
        assert_eq!(log.text().lines().count(), 1, "{}", log.text());
        assert!(timeout(DEADLINE, acceptor.next()).await.unwrap().is_some());
        assert_eq!(acceptor.pause, RETRY_FIRST);
    }
}
