//! Workers: a thread each with a runtime of its own, which serves connections from the first byte to the last. A worker
//! shares with the others what the node knows, and nothing that is written for each request: its answers, its clock and
//! its date are its own.
//!
//! What takes long, or blocks, runs on the control runtime: looking records up, reading and decoding blocks, fetching
//! and compiling policies.

use std::{
    cell::RefCell,
    io,
    net::{SocketAddr, TcpStream},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Instant, SystemTime},
};

use pingora_core::server::ShutdownWatch;
use tokio::{
    runtime,
    sync::mpsc,
    task::{LocalSet, spawn_local},
};

use super::{HttpDoor, Terminator, connection};
use crate::{
    answer::{
        head::Head,
        ready::{Answers, Asker, Given, Present, Ready},
    },
    clock,
    listen::connections::Admitted,
};

thread_local! {
    /// The worker whose thread this is.
    static HERE: RefCell<Option<Rc<Worker>>> = const { RefCell::new(None) };
}

/// One worker, on its own thread.
pub(super) struct Worker {
    pub(super) door: Arc<HttpDoor>,
    answers: RefCell<Answers>,
    moment: RefCell<Moment>,
}

/// What changes by the second.
struct Moment {
    seconds: u64,
    edge: crate::policy::ask::EdgeFacts,
    /// The field Date, with its line's end.
    date: String,
}

/// A connection for a worker.
pub(super) struct Dealt {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) terminator: Option<Arc<Terminator>>,
    pub(super) admitted: Admitted,
    pub(super) shutdown: ShutdownWatch,
    /// Dropped when the connection ended.
    pub(super) alive: mpsc::Sender<()>,
}

/// One connection of a worker, until it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(open))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All workers of an edge; they end, and cut their connections, when this is dropped.
pub(crate) struct Workers(Vec<Desk>);

/// Where connections for one worker are left.
struct Desk {
    dealt: mpsc::Sender<(Dealt, Counted)>,
    open: Arc<AtomicUsize>,
}

impl Workers {
    /// Starts so many workers.
    ///
    /// # Errors
    /// When the system gives no thread or no reactor.
    pub(crate) fn start(door: &Arc<HttpDoor>, count: usize) -> io::Result<Self> {
        let desk = |number: usize| {
            let (dealt, mut desk) = mpsc::channel::<(Dealt, Counted)>(door.node.config.http.connections_max);
            let open = Arc::new(AtomicUsize::new(0));
            let door = Arc::clone(door);
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            let work = move || {
                let worker = Rc::new(Worker::new(door));
                HERE.set(Some(Rc::clone(&worker)));
                let local = LocalSet::new();
                local.block_on(&runtime, async move {
                    while let Some((dealt, counted)) = desk.recv().await {
                        let worker = Rc::clone(&worker);
                        spawn_local(async move {
                            connection(&worker, dealt).await;
                            drop(counted);
                        });
                    }
                });
            };
            thread::Builder::new().name(format!("worker-{number}")).spawn(work)?;
            Ok(Desk { dealt, open })
        };
        Ok(Self((0..count.max(1)).map(desk).collect::<io::Result<_>>()?))
    }

    /// Gives a connection to the worker with the fewest. One that cannot be given is closed.
    pub(super) fn deal(&self, dealt: Dealt) {
        let Some(desk) = self.0.iter().min_by_key(|desk| desk.open.load(Ordering::Relaxed)) else { return };
        let counted = Counted::new(&desk.open);
        drop(desk.dealt.try_send((dealt, counted)));
    }
}

impl Worker {
    /// Returns the worker whose thread this is: the streams of HTTP/2 cannot carry it with them, since pingora would
    /// have them go from thread to thread.
    pub(super) fn here() -> Option<Rc<Self>> {
        HERE.with_borrow(Option::clone)
    }

    fn new(door: Arc<HttpDoor>) -> Self {
        let moment = Moment { seconds: 0, edge: door.node.edge_facts(), date: String::new() };
        Self { door, answers: RefCell::default(), moment: RefCell::new(moment) }
    }

    /// Returns the answer to a request, where one is ready.
    pub(super) fn give(&self, head: &Head<'_>, asker: &Asker, now: Instant) -> Option<Given> {
        let (node, wall) = (&self.door.node, SystemTime::now());
        let mut moment = self.moment.borrow_mut();
        let seconds = clock::unix_seconds(wall);
        if moment.seconds != seconds {
            let date = format!("date: {}\r\n", httpdate::fmt_http_date(wall));
            *moment = Moment { seconds, edge: node.edge_facts(), date };
        }
        let present = Present { now, seconds, edge: moment.edge };
        self.answers.borrow_mut().give(node, head, asker, &present)
    }

    /// Keeps an answer that was made.
    pub(super) fn keep(&self, host: &str, target: &str, ready: Ready) {
        self.answers.borrow_mut().insert(host, target, ready);
    }

    /// Adds the field Date of now.
    pub(super) fn write_date(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.moment.borrow().date.as_bytes());
    }
}
