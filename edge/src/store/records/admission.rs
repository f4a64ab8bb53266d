//! How many look-ups run at one time, and how long who asks waits for a place. Each kind has places of its own, so none
//! keeps another waiting.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{error::Fault, store::register::Standing};

/// Look-ups for viewers: names with a good check cost nothing to make up, so what they cost us is bounded. And the wait
/// for a place.
const VIEWERS_MAX: usize = 512;
const VIEWERS_DEADLINE: Duration = Duration::from_secs(1);
/// The same of what the change feed never told of: what is new by less than the feed's lag, or made up.
const VIEWERS_UNTOLD_MAX: usize = 64;
/// Look-ups for resolvers. Who asks them may be spoofed, so they are few, take nothing away from viewers, and nobody
/// waits for a place.
const RESOLVERS_MAX: usize = 64;
const RESOLVERS_UNTOLD_MAX: usize = 16;
/// Look-ups of what is doubted, once for all who ask for one: what is open was found once, so labels that were made up
/// take no place here. The wait is longer, as all that is hot is looked up at a time.
pub(super) const DOUBTED_MAX: usize = 1024;
const DOUBTED_DEADLINE: Duration = Duration::from_secs(5);
/// Look-ups of what is open already, behind the viewers' backs: an owner who changes much keeps no viewer waiting.
const REFRESHES_MAX: usize = 128;
const REFRESHES_DEADLINE: Duration = Duration::from_secs(30);

/// Admits look-ups.
pub(super) struct Admission {
    pub(super) viewers: ByStanding,
    resolvers: ByStanding,
    pub(super) doubted: Arc<Semaphore>,
    refreshes: Arc<Semaphore>,
}

/// Places apart for what the change feed never told of.
pub(super) struct ByStanding {
    pub(super) may_be: Arc<Semaphore>,
    pub(super) untold: Arc<Semaphore>,
}

impl ByStanding {
    fn new(may_be: usize, untold: usize) -> Self {
        Self { may_be: Arc::new(Semaphore::new(may_be)), untold: Arc::new(Semaphore::new(untold)) }
    }

    fn of(&self, standing: Standing) -> &Arc<Semaphore> {
        match standing {
            Standing::MayBe => &self.may_be,
            Standing::Untold => &self.untold,
        }
    }
}

impl Admission {
    pub(super) fn new() -> Self {
        Self {
            viewers: ByStanding::new(VIEWERS_MAX, VIEWERS_UNTOLD_MAX),
            resolvers: ByStanding::new(RESOLVERS_MAX, RESOLVERS_UNTOLD_MAX),
            doubted: Arc::new(Semaphore::new(DOUBTED_MAX)),
            refreshes: Arc::new(Semaphore::new(REFRESHES_MAX)),
        }
    }

    /// Waits for the place of a viewer's look-up.
    ///
    /// # Errors
    /// [`Fault::Busy`], as of the next ones.
    pub(super) async fn viewer(&self, standing: Standing) -> Result<OwnedSemaphorePermit, Fault> {
        wait(self.viewers.of(standing), VIEWERS_DEADLINE).await
    }

    /// Returns the place of a resolver's look-up.
    ///
    /// # Errors
    /// [`Fault::Busy`]; [`Fault::Unknown`] of what the change feed never told of.
    pub(super) fn resolver(&self, standing: Standing) -> Result<OwnedSemaphorePermit, Fault> {
        let full = || if standing == Standing::Untold { Fault::Unknown } else { Fault::Busy };
        Arc::clone(self.resolvers.of(standing)).try_acquire_owned().map_err(|_| full())
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
