//! How many connections a door may have, in all and from one address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::places::cut;

/// The connections that are open.
#[derive(Clone)]
pub(crate) struct Connections(Arc<Inner>);

struct Inner {
    max: usize,
    per_address_max: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One open connection; closing is dropping it.
pub(crate) struct Admitted {
    connections: Connections,
    address: Option<IpAddr>,
}

impl Connections {
    pub(crate) fn new(max: usize, per_address_max: usize) -> Self {
        Self(Arc::new(Inner { max, per_address_max, open: Mutex::default() }))
    }

    /// Whether an eighth of what is allowed is open, in all or from one address.
    pub(crate) fn are_many(&self, address: IpAddr) -> bool {
        let open = self.open();
        let of_address = open.by_address.get(&household(address)).copied().unwrap_or(0);
        open.all >= self.0.max / 8 || of_address >= self.0.per_address_max / 8
    }

    /// Counts a connection, or refuses it at the limit of all.
    pub(crate) fn admit(&self) -> Option<Admitted> {
        let mut open = self.open();
        if open.all >= self.0.max {
            return None;
        }
        open.all += 1;
        Some(Admitted { connections: self.clone(), address: None })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// Counts a connection among those of its address, or refuses it at their limit.
    pub(crate) fn of(mut self, address: IpAddr) -> Option<Self> {
        let address = household(address);
        let connections = self.connections.clone();
        let mut open = connections.open();
        let of_address = open.by_address.get(&address).copied().unwrap_or(0);
        if of_address >= connections.0.per_address_max {
            // The lock must be free before the connection is dropped.
            drop(open);
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
        open.all = open.all.saturating_sub(1);
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
    use super::*;

    #[test]
    fn limits_hold_in_all_and_for_one_address_and_places_come_back() {
        let connections = Connections::new(3, 2);
        let from = |text: &str| connections.admit()?.of(text.parse().unwrap());
        let first = from("192.0.2.1");
        let second = from("::ffff:192.0.2.1");
        assert!(first.is_some() && second.is_some() && from("192.0.2.1").is_none());
        let third = from("2001:db8::1");
        assert!(third.is_some() && from("2001:db8::2").is_none(), "all places are taken");
        drop(first);
        assert!(from("192.0.2.1").is_some());
        drop((second, third));
        assert!(connections.open().by_address.is_empty() && connections.open().all == 0);
    }

    #[test]
    fn an_eighth_is_many() {
        let connections = Connections::new(64, 16);
        let address = "192.0.2.1".parse().unwrap();
        let mut open = vec![connections.admit().unwrap().of(address)];
        assert!(!connections.are_many(address));
        open.push(connections.admit().unwrap().of(address));
        assert!(connections.are_many(address) && !connections.are_many("192.0.2.2".parse().unwrap()));
        open.extend((0..6).map(|_| connections.admit()));
        assert!(connections.are_many("192.0.2.2".parse().unwrap()), "in all");
    }
}
