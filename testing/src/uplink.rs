//! An owner's uplink: slow, lossy, and cut now and then. A TCP proxy before each node, through which all bytes towards
//! the nodes share one rate. For machines whose kernel cannot shape a link, and for tests that run without root.
//!
//! A proxy loses no packets, so a lost packet is what TCP makes of it: its connection waits for the retransmission.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

/// Bytes that travel together: those of a packet on an Ethernet.
const PACKET_BYTES: usize = 1448;
/// Until a lost packet is sent again: the least that Linux waits.
const RETRANSMISSION: Duration = Duration::from_millis(200);
/// What may wait in the proxy's socket. More would take the sender's bytes faster than the link does.
const WINDOW_BYTES: u32 = 32 * 1024;

/// How an uplink is.
#[derive(Debug, Clone, Copy)]
pub struct UplinkOptions {
    /// Bytes in a second, of all connections together.
    pub bytes_per_second: u64,
    /// Packets of a hundred that are lost.
    pub lost_percent: u8,
}

/// An uplink. Dropped, it ends with all its connections.
pub struct Uplink {
    link: Arc<Link>,
    cuts: watch::Sender<u64>,
    tasks: JoinSet<()>,
}

struct Link {
    options: UplinkOptions,
    /// When the link is free for the next packet.
    free: Mutex<Instant>,
    sent_bytes: AtomicU64,
}

impl Uplink {
    /// Makes an uplink that leads nowhere yet.
    #[must_use]
    pub fn new(options: UplinkOptions) -> Self {
        let link = Link { options, free: Mutex::new(Instant::now()), sent_bytes: AtomicU64::new(0) };
        Self { link: Arc::new(link), cuts: watch::channel(0).0, tasks: JoinSet::new() }
    }

    /// Returns the address at which the uplink leads to a node.
    ///
    /// # Panics
    /// When loopback cannot be listened on.
    pub fn to(&mut self, node: SocketAddr) -> SocketAddr {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(WINDOW_BYTES).unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener = socket.listen(16).unwrap();
        let address = listener.local_addr().unwrap();
        let (link, cuts) = (self.link.clone(), self.cuts.subscribe());
        self.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let (link, mut cuts) = (link.clone(), cuts.clone());
                cuts.mark_unchanged();
                connections.spawn(async move {
                    tokio::select! {
                        _ = carry(&link, near, node) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        address
    }

    /// Cuts all connections. New ones may be made at once.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Returns how many bytes went up so far.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.link.sent_bytes.load(Ordering::Relaxed)
    }
}

async fn carry(link: &Link, near: TcpStream, node: SocketAddr) -> io::Result<()> {
    let far = TcpStream::connect(node).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let ((near_from, mut near_to), (mut far_from, far_to)) = (near.into_split(), far.into_split());
    let down = async { tokio::io::copy(&mut far_from, &mut near_to).await.map(drop) };
    tokio::try_join!(up(link, near_from, far_to), down).map(drop)
}

async fn up(link: &Link, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
    let mut packet = [0; PACKET_BYTES];
    loop {
        let bytes = from.read(&mut packet).await?;
        if bytes == 0 {
            return to.shutdown().await;
        }
        sleep_until(link.takes(bytes as u64)).await;
        if fastrand::u8(0..100) < link.options.lost_percent {
            sleep(RETRANSMISSION).await;
        }
        to.write_all(&packet[..bytes]).await?;
    }
}

impl Link {
    /// Takes a packet up, and returns when it is through.
    fn takes(&self, bytes: u64) -> Instant {
        self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        *free = Instant::now().max(*free) + Duration::from_micros(bytes * 1_000_000 / self.options.bytes_per_second);
        *free
    }
}
