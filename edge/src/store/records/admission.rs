//! How many look-ups run at one time, and how long who asks waits for a place. Each kind has places of its own, so none
//! keeps another waiting.

use std::{net::IpAddr, sync::Arc, time::Duration};

use prometheus_client::metrics::counter::Counter;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{
    error::Fault,
    net::network,
    store::{
        register::Standing,
        room::{Room, Taken},
    },
};

/// Look-ups for viewers: names with a good check cost nothing to make up, so what they cost us is bounded. And the wait
/// for a place.
const VIEWERS_MAX: usize = 512;
const VIEWERS_DEADLINE: Duration = Duration::from_secs(1);
/// The same of what the change feed never told of: what is new by less than the feed's lag, or made up.
const VIEWERS_UNTOLD_MAX: usize = 64;
/// Look-ups for resolvers. Who asks them may be spoofed, so they are few, take nothing away from viewers, and nobody
/// waits for a place. The resolvers of one network have half of what the others leave.
const RESOLVERS_MAX: u32 = 128;
const RESOLVERS_UNTOLD_MAX: u32 = 32;
/// Look-ups of what is doubted, once for all who ask for one: what is open was found once, so labels that were made up
/// take no place here. The wait is longer, as all that is hot is looked up at a time.
pub(super) const DOUBTED_MAX: usize = 1024;
const DOUBTED_DEADLINE: Duration = Duration::from_secs(5);
/// Look-ups of what is open already, behind the viewers' backs: an owner who changes much keeps no viewer waiting.
const REFRESHES_MAX: usize = 128;
const REFRESHES_DEADLINE: Duration = Duration::from_secs(30);

/// Admits look-ups.
pub(super) struct Admission {
    pub(super) viewers: ByStanding<Semaphore>,
    resolvers: ByStanding<Room<IpAddr>>,
    pub(super) doubted: Arc<Semaphore>,
    refreshes: Arc<Semaphore>,
    /// Look-ups for resolvers that found no place.
    turned_away: Counter,
}

/// Places apart for what the change feed never told of.
pub(super) struct ByStanding<P> {
    pub(super) may_be: Arc<P>,
    pub(super) untold: Arc<P>,
}

impl<P> ByStanding<P> {
    fn of(&self, standing: Standing) -> &Arc<P> {
        match standing {
            Standing::MayBe => &self.may_be,
            Standing::Untold => &self.untold,
        }
    }
}

impl Admission {
    /// Makes all places, and counts look-ups for resolvers that find none.
    pub(super) fn new(turned_away: Counter) -> Self {
        let viewers = [VIEWERS_MAX, VIEWERS_UNTOLD_MAX].map(|places| Arc::new(Semaphore::new(places)));
        let resolvers = [RESOLVERS_MAX, RESOLVERS_UNTOLD_MAX].map(Room::new);
        let ([may_be, untold], [may_be_asked, untold_asked]) = (viewers, resolvers);
        Self {
            viewers: ByStanding { may_be, untold },
            resolvers: ByStanding { may_be: may_be_asked, untold: untold_asked },
            doubted: Arc::new(Semaphore::new(DOUBTED_MAX)),
            refreshes: Arc::new(Semaphore::new(REFRESHES_MAX)),
            turned_away,
        }
    }

    /// Waits for the place of a viewer's look-up.
    ///
    /// # Errors
    /// [`Fault::Busy`], as of the next ones.
    pub(super) async fn viewer(&self, standing: Standing) -> Result<OwnedSemaphorePermit, Fault> {
        wait(self.viewers.of(standing), VIEWERS_DEADLINE).await
    }

    /// Returns the place of a look-up for a resolver at this address. What client subnet a question tells does not
    /// count: that is anybody's word.
    ///
    /// # Errors
    /// [`Fault::Busy`]; [`Fault::Unknown`] of what the change feed never told of.
    pub(super) fn resolver(&self, standing: Standing, resolver: IpAddr) -> Result<Taken<IpAddr>, Fault> {
        self.resolvers.of(standing).try_take(network(resolver), 1).ok_or_else(|| {
            self.turned_away.inc();
            if standing == Standing::Untold { Fault::Unknown } else { Fault::Busy }
        })
    }

    /// Waits for the place of a look-up of what is doubted.
    pub(super) async fn doubted(&self) -> Result<OwnedSemaphorePermit, Fault> {
        wait(&self.doubted, DOUBTED_DEADLINE).await
    }

    /// Waits for the place of a look-up behind the viewers' backs.
    pub(super) async fn refresh(&self) -> Result<OwnedSemaphorePermit, Fault> {
        wait(&self.refreshes, REFRESHES_DEADLINE).await
    }
}

async fn wait(places: &Arc<Semaphore>, deadline: Duration) -> Result<OwnedSemaphorePermit, Fault> {
    let place = timeout(deadline, Arc::clone(places).acquire_owned()).await;
    place.map_err(|_| Fault::Busy)?.map_err(|_| Fault::Busy)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    /// Has each of so many addresses ask twice, and returns who was let in.
    fn crowd(admission: &Admission, standing: Standing, addresses: impl Iterator<Item = IpAddr>) -> Vec<Taken<IpAddr>> {
        let twice = addresses.flat_map(|address| [address; 2]);
        twice.filter_map(|address| admission.resolver(standing, address).ok()).collect()
    }

    #[test]
    fn the_resolvers_of_one_network_leave_half_of_the_look_ups_to_others() {
        let of_v4 = |last| IpAddr::from(Ipv4Addr::new(192, 0, 2, last));
        // All over one /56: in its first /64, and in its last.
        let of_v6 = |last: u8| {
            let subnet = if last.is_multiple_of(2) { 0x100 } else { 0x1ff };
            IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 1, subnet, 0, 0, 0, last.into()))
        };
        let honest: [IpAddr; 2] = ["192.0.3.1", "2001:db8:1:200::1"].map(|address| address.parse().unwrap());
        let networks: [fn(u8) -> IpAddr; 2] = [of_v4, of_v6];
        for (standing, all, full) in
            [(Standing::MayBe, RESOLVERS_MAX, Fault::Busy), (Standing::Untold, RESOLVERS_UNTOLD_MAX, Fault::Unknown)]
        {
            for network in networks {
                let turned_away = Counter::default();
                let admission = Admission::new(turned_away.clone());
                let crowd = crowd(&admission, standing, (0..200).map(network));
                assert_eq!((crowd.len(), turned_away.get()), (all as usize / 2, 400 - u64::from(all / 2)));
                assert_eq!(admission.resolver(standing, network(255)).err(), Some(full.clone()));
                for address in honest {
                    let places: Vec<_> = (0..all / 4).map(|_| admission.resolver(standing, address)).collect();
                    assert!(places.iter().all(Result::is_ok), "who asks from elsewhere is let in");
                }
                drop(crowd);
                assert!(admission.resolver(standing, network(255)).is_ok(), "places come back");
            }
        }
    }
}
