//! Room for look-ups: how many run at one time, and how long who asks waits for one of these.

use std::time::Duration;

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use crate::{error::Fault, store::register::Standing};

/// Look-ups for viewers at one time: names with a good check cost nothing to make up, so what they cost us is bounded.
pub(super) const LOOK_UPS_MAX: usize = 512;
/// The same of what the change feed never told of: what is new by less than the feed's lag, or made up.
pub(super) const UNTOLD_LOOK_UPS_MAX: usize = 64;
/// The same of what is doubted, once for all who ask for one: what is open was found once, so labels that were made up
/// take none of this room.
pub(super) const DOUBTED_LOOK_UPS_MAX: usize = 1024;
/// Waiting for one of those: longer, as all that is hot is looked up at a time.
pub(super) const DOUBTED_ROOM_DEADLINE: Duration = Duration::from_secs(5);
/// Waiting for one of these.
pub(super) const ROOM_DEADLINE: Duration = Duration::from_secs(1);
/// Look-ups for resolvers at one time, of both kinds. Who asks them may be spoofed, so they are few and take nothing
/// away from viewers.
pub(super) const DNS_LOOK_UPS_MAX: usize = 64;
pub(super) const DNS_UNTOLD_LOOK_UPS_MAX: usize = 16;
/// Look-ups at one time of what is open already, and the wait for one of these.
pub(super) const REFRESHES_MAX: usize = 128;
pub(super) const REFRESH_DEADLINE: Duration = Duration::from_secs(30);

/// Room for look-ups: apart for what the change feed never told of.
pub(super) struct Room<S> {
    pub(super) may_be: S,
    pub(super) untold: S,
}

impl<S> Room<S> {
    pub(super) fn of(&self, standing: Standing) -> &S {
        match standing {
            Standing::MayBe => &self.may_be,
            Standing::Untold => &self.untold,
        }
    }
}

/// Waits for room for a look-up.
pub(super) async fn room(room: &Semaphore, deadline: Duration) -> Result<SemaphorePermit<'_>, Fault> {
    timeout(deadline, room.acquire()).await.map_err(|_| Fault::Busy)?.map_err(|_| Fault::Busy)
}
