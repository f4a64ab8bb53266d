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
    address: IpAddr,
}

impl Connections {
    pub(crate) fn new(max: usize, per_address_max: usize) -> Self {
        Self(Arc::new(Inner { max, per_address_max, open: Mutex::default() }))
    }

    /// Counts a connection, or refuses it at a limit.
    pub(crate) fn admit(&self, address: IpAddr) -> Option<Admitted> {
        // One household has a whole IPv6 /64.
        let address = match address.to_canonical() {
            v6 @ IpAddr::V6(_) => cut(v6, 64),
            v4 => v4,
        };
        let mut open = self.open();
        let of_address = open.by_address.get(&address).copied().unwrap_or(0);
        if open.all >= self.0.max || of_address >= self.0.per_address_max {
            return None;
        }
        open.all += 1;
        open.by_address.insert(address, of_address + 1);
        Some(Admitted { connections: self.clone(), address })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = self.connections.open();
        open.all = open.all.saturating_sub(1);
        match open.by_address.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                open.by_address.remove(&self.address);
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
        let from = |text: &str| connections.admit(text.parse().unwrap());
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
}
