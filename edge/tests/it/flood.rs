//! A flood of DNS questions, two thousand a second.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use testing::until;
use tokio::{
    net::UdpSocket,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

const EVERY: Duration = Duration::from_millis(1);
const AT_ONCE: usize = 2;

/// `NAME A?` with an id, of a name written as `a.example`.
pub(crate) fn question(id: u64, name: &str) -> Vec<u8> {
    let id = id.to_le_bytes();
    let mut message = vec![id[0], id[1], 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// Questions that are poured over an edge until this is dropped.
pub(crate) struct Flood {
    count: Arc<Count>,
    /// Aborted with it.
    _tasks: JoinSet<()>,
}

/// What went, and what came back.
#[derive(Default)]
struct Count {
    sent: AtomicU64,
    /// NXDOMAIN.
    turned_away: AtomicU64,
}

impl Flood {
    /// Asks the question of each number from 0 on, from these addresses in turns, and returns once it is a flood.
    pub(crate) async fn pour(
        edge: SocketAddr,
        from: &[IpAddr],
        question: impl Fn(u64) -> Vec<u8> + Send + 'static,
    ) -> Self {
        let (count, mut tasks, mut sockets) = (Arc::<Count>::default(), JoinSet::new(), Vec::new());
        for address in from {
            let socket = Arc::new(UdpSocket::bind((*address, 0)).await.unwrap());
            socket.connect(edge).await.unwrap();
            let (from_edge, counted) = (Arc::clone(&socket), Arc::clone(&count));
            tasks.spawn(async move {
                let mut answer = [0; 1232];
                while let Ok(length) = from_edge.recv(&mut answer).await {
                    if length > 3 && answer[3] & 0x0f == 3 {
                        counted.turned_away.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            sockets.push(socket);
        }
        let counted = Arc::clone(&count);
        tasks.spawn(async move {
            let mut ticks = interval(EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut sockets = sockets.iter().cycle();
            loop {
                ticks.tick().await;
                for socket in sockets.by_ref().take(AT_ONCE) {
                    let number = counted.sent.fetch_add(1, Ordering::Relaxed);
                    // A full queue loses it, as it would on a wire.
                    let _ = socket.send(&question(number)).await;
                }
            }
        });
        let flood = Self { count, _tasks: tasks };
        until("the flood", async || flood.sent() > 2_000).await;
        flood
    }

    /// Questions sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.count.sent.load(Ordering::Relaxed)
    }

    /// Of the answers so far those that there is no such name.
    pub(crate) fn turned_away(&self) -> u64 {
        self.count.turned_away.load(Ordering::Relaxed)
    }
}
