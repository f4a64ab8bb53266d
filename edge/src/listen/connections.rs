//! How many connections a door may have, in all and from one address, and which of them give way when it is full.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use prometheus_client::metrics::counter::Counter;
use tokio::{sync::Notify, time::sleep};

use crate::net::cut;

/// Connections that are looked at to find one that gives way.
const LOOKS_MAX: usize = 64;
/// One that was picked, and got a request at that moment, is looked at again after this.
const BUSY_RETRY: Duration = Duration::from_secs(1);
/// In place of the time since which a connection waits.
const BUSY: u64 = u64::MAX;

/// The connections that are open.
#[derive(Clone)]
pub(crate) struct Connections(Arc<Inner>);

struct Inner {
    max: usize,
    per_address_max: usize,
    /// Connections that found no place.
    refused: Counter,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    /// By the order in which they were admitted.
    seats: HashMap<u64, Arc<Seat>>,
    /// Whose turn it is to be looked at, and since when it waited at the last look.
    turns: VecDeque<(u64, u64)>,
    admitted: u64,
    by_address: HashMap<IpAddr, usize>,
}

/// One open connection; closing is dropping it.
pub(crate) struct Admitted {
    connections: Connections,
    number: u64,
    seat: Arc<Seat>,
    address: Option<IpAddr>,
}

/// What an open connection does: it is busy, or waits for the other side to begin a request.
pub(crate) struct Seat {
    opened: Instant,
    /// Milliseconds after `opened`, or [`BUSY`]. Busy at first: who never says that it waits never gives way.
    waits_since: AtomicU64,
    given_up: Notify,
}

impl Seat {
    pub(crate) fn is_busy(&self) -> bool {
        self.waits_since.load(Ordering::Relaxed) == BUSY
    }

    pub(crate) fn work(&self) {
        self.waits_since.store(BUSY, Ordering::Relaxed);
    }

    pub(crate) fn wait(&self, now: Instant) {
        let waited = now.saturating_duration_since(self.opened).as_millis();
        self.waits_since.store(u64::try_from(waited).unwrap_or(BUSY), Ordering::Relaxed);
    }

    /// Returns when the connection has to give way to another, and waits. Cancel safe.
    pub(crate) async fn given_up(&self) {
        self.given_up.notified().await;
        while self.is_busy() {
            sleep(BUSY_RETRY).await;
        }
    }
}

impl Connections {
    /// Allows so many connections, in all and from one address, and counts those that are refused.
    pub(crate) fn new(max: usize, per_address_max: usize, refused: Counter) -> Self {
        Self(Arc::new(Inner { max, per_address_max, refused, open: Mutex::default() }))
    }

    /// Whether an eighth of what is allowed is open, in all or from one address.
    pub(crate) fn are_many(&self, address: IpAddr) -> bool {
        let open = self.open();
        let of_address = open.by_address.get(&household(address)).copied().unwrap_or(0);
        open.seats.len() >= self.0.max / 8 || of_address >= self.0.per_address_max / 8
    }

    /// Counts a connection. At the limit of all, one that has waited long gives way; when none is found, it is refused.
    pub(crate) fn admit(&self) -> Option<Admitted> {
        let mut open = self.open();
        if open.seats.len() >= self.0.max && !open.make_room() {
            self.0.refused.inc();
            return None;
        }
        let number = open.admitted;
        open.admitted += 1;
        let (waits_since, given_up) = (AtomicU64::new(BUSY), Notify::new());
        let seat = Arc::new(Seat { opened: Instant::now(), waits_since, given_up });
        open.seats.insert(number, Arc::clone(&seat));
        // Who has not begun a request by its turn has had time enough.
        open.turns.push_back((number, 0));
        open.forget_turns();
        Some(Admitted { connections: self.clone(), number, seat, address: None })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Tells one that waits to give way, and frees its seat. False when none was found. Each is looked at in turn, and
    /// gives way when it was waiting already at the look before (the clock algorithm: Corbato, "A Paging Experiment
    /// with the Multics System", 1968).
    fn make_room(&mut self) -> bool {
        for _ in 0..LOOKS_MAX {
            let Some((number, seen)) = self.turns.pop_front() else { return false };
            let Some(seat) = self.seats.get(&number) else { continue };
            let waits_since = seat.waits_since.load(Ordering::Relaxed);
            if waits_since != BUSY && waits_since == seen {
                seat.given_up.notify_one();
                self.seats.remove(&number);
                return true;
            }
            self.turns.push_back((number, waits_since));
        }
        false
    }

    /// Forgets the turns of those that are gone, when there are more of these than of others.
    fn forget_turns(&mut self) {
        if self.turns.len() > 2 * self.seats.len() + LOOKS_MAX {
            self.turns.retain(|(number, _)| self.seats.contains_key(number));
        }
    }
}

/// One household has a whole IPv6 /64.
fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        v6 @ IpAddr::V6(_) => cut(v6, 64),
        v4 => v4,
    }
}

impl Admitted {
    pub(crate) fn seat(&self) -> &Arc<Seat> {
        &self.seat
    }

    /// Counts a connection among those of its address, or refuses it at their limit.
    pub(crate) fn of(mut self, address: IpAddr) -> Option<Self> {
        let address = household(address);
        let connections = self.connections.clone();
        let mut open = connections.open();
        let of_address = open.by_address.get(&address).copied().unwrap_or(0);
        if of_address >= connections.0.per_address_max {
            // The lock must be free before the connection is dropped.
            drop(open);
            connections.0.refused.inc();
            return None;
        }
        open.by_address.insert(address, of_address + 1);
        self.address = Some(address);
        Some(self)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = self.connections.open();
        // Not there any more when it gave way.
        open.seats.remove(&self.number);
        let Some(address) = self.address else { return };
        match open.by_address.get_mut(&address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                open.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[test]
    fn limits_hold_in_all_and_for_one_address_and_places_come_back() {
        let connections = Connections::new(3, 2, Counter::default());
        let from = |text: &str| connections.admit()?.of(text.parse().unwrap());
        let first = from("192.0.2.1");
        let second = from("::ffff:192.0.2.1");
        assert!(first.is_some() && second.is_some() && from("192.0.2.1").is_none());
        let third = from("2001:db8::1");
        assert!(third.is_some() && from("2001:db8::2").is_none(), "all seats are taken");
        assert_eq!(connections.0.refused.get(), 2);
        drop(first);
        assert!(from("192.0.2.1").is_some());
        drop((second, third));
        assert!(connections.open().by_address.is_empty() && connections.open().seats.is_empty());
    }

    #[tokio::test]
    async fn at_the_limit_who_waits_gives_way_and_who_works_does_not() {
        let connections = Connections::new(3, 3, Counter::default());
        let open: Vec<Admitted> = (0..3).map(|_| connections.admit().unwrap()).collect();
        assert!(connections.admit().is_none(), "all are busy");
        // The first has had a request since it was admitted, the last has had none.
        open[0].seat().wait(Instant::now() + Duration::from_secs(1));
        open[2].seat().wait(open[2].seat().opened);
        let fourth = connections.admit().unwrap();
        open[2].seat().given_up().await;
        assert!(connections.admit().is_some(), "the first has not had one since the last look");
        open[0].seat().given_up().await;
        assert!(timeout(Duration::from_millis(10), open[1].seat.given_up.notified()).await.is_err());
        drop((open, fourth));
        assert!(connections.open().seats.is_empty());
    }

    #[test]
    fn turns_of_the_gone_are_forgotten() {
        let connections = Connections::new(10, 10, Counter::default());
        let _stays = connections.admit();
        for _ in 0..10_000 {
            drop(connections.admit());
        }
        assert!(connections.open().turns.len() <= 2 * 2 + LOOKS_MAX + 1);
    }

    #[test]
    fn an_eighth_is_many() {
        let connections = Connections::new(64, 16, Counter::default());
        let address = "192.0.2.1".parse().unwrap();
        let mut open = vec![connections.admit().unwrap().of(address)];
        assert!(!connections.are_many(address));
        open.push(connections.admit().unwrap().of(address));
        assert!(connections.are_many(address) && !connections.are_many("192.0.2.2".parse().unwrap()));
        open.extend((0..6).map(|_| connections.admit()));
        assert!(connections.are_many("192.0.2.2".parse().unwrap()), "in all");
    }
}
