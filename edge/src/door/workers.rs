//! All workers of an edge, and how connections are dealt to them.

use std::{
    io,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tokio::{
    runtime,
    sync::mpsc,
    task::{LocalSet, spawn_local},
};

use super::{
    connection::{Dealt, connection},
    shared::HttpDoor,
    worker::Worker,
};

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
