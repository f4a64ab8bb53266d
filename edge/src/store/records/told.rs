//! What the change feed told of records: what is open is looked up again while it serves, or serves no more.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use format::{Locator, OwnerId};
use tokio::time::sleep;

use super::{
    Records,
    look::{Content, OPEN_DEADLINE},
};
use crate::error::Fault;

/// Pauses between looks for a change that was told. Origins follow the feed as edges do, half a second behind at most;
/// together they leave an answer under two seconds.
const COPIES_BEHIND: [Duration; 3] = [Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1)];
/// Between two look-ups of one record of which the first failed.
const REFRESH_REST: Duration = Duration::from_secs(1);
/// Ends remembered, the latest of them, and for how long: a node may be behind, and a look-up that began before an end
/// may come after it, but not by so much.
pub(super) const ENDS_MAX: u64 = 100_000;
pub(super) const ENDS_TIME: Duration = Duration::from_secs(60);
const _: () = assert!(OPEN_DEADLINE.as_secs() * 2 < ENDS_TIME.as_secs());

impl<T: Content> Records<T> {
    /// Looks a record up again, once at a time, while the old one serves: when no node can be asked, it goes on
    /// serving.
    pub(super) fn refresh(self: &Arc<Self>, opened: &Arc<T>) {
        if opened.look().refreshing.swap(true, Ordering::Relaxed) {
            return;
        }
        let (records, opened) = (Arc::clone(self), Arc::clone(opened));
        // Ends by OPEN_DEADLINE and holds nothing but its arguments, so nobody needs to own it.
        self.control.spawn(async move {
            let look_up = async {
                let _place = records.admission.refresh().await?;
                records.look_up(&opened.look().capability).await
            };
            match look_up.await {
                Ok(fresh) => drop(records.renew(&opened, fresh).await),
                Err(Fault::Unknown | Fault::Erased) => records.close(opened.record().locator()).await,
                Err(_) => {
                    // What serves while no node answers asks for no look-up after another.
                    sleep(REFRESH_REST).await;
                    opened.look().refreshing.store(false, Ordering::Relaxed);
                }
            }
        });
    }

    /// Takes note of another lease, placement or pointer. What is open is looked up at once, and serves until the new
    /// one is here; but not of what was told to have ended a moment ago.
    pub(crate) async fn changed(self: &Arc<Self>, locator: Locator) {
        if self.ends.contains_key(&locator) {
            return self.ended(locator).await;
        }
        self.presences.change(&locator);
        self.tell(&locator);
        let Some(opened) = self.opened.get(&locator).await else { return };
        self.refresh(&opened);
        self.look_again(&opened);
    }

    /// Looks a record up a little later while no node gives another: the catalog tells of a change before all copies of
    /// the record have it.
    pub(super) fn look_again(self: &Arc<Self>, opened: &Arc<T>) {
        let (records, opened) = (Arc::clone(self), Arc::clone(opened));
        // Ends with the last pause and holds nothing but its arguments, so nobody needs to own it.
        self.control.spawn(async move {
            let (locator, known) = (opened.record().locator(), &opened.record().lease_envelope);
            for pause in COPIES_BEHIND {
                sleep(pause).await;
                match records.opened.get(&locator).await {
                    Some(held) if held.record().lease_envelope == *known => records.refresh(&held),
                    _ => break,
                }
            }
        });
    }

    /// Forgets what its owner is said to have ended. The feed is one origin's word, which nobody signed: the old one
    /// serves no more, and whether its owner ended it the lease says, which all nodes are asked for.
    pub(crate) async fn ended(&self, locator: Locator) {
        self.ends.insert(locator, ());
        // After the note: who is here since looks for that, and who was here before learns of this.
        self.presences.end(&locator);
        self.tell(&locator);
        self.opened.invalidate(&locator).await;
    }

    /// Forgets what may be looked up again at once, and returns it if it was open and is the owner's.
    pub(crate) async fn purged(&self, locator: Locator, owner: &OwnerId) -> Option<Arc<T>> {
        self.presences.change(&locator);
        self.tell(&locator);
        self.opened.remove(&locator).await.filter(|opened| opened.record().public.owner() == *owner)
    }

    /// Tells whoever keeps what came of a record, once note was taken of what the feed told.
    fn tell(&self, locator: &Locator) {
        self.watches.end(locator);
        self.faults.invalidate(locator);
    }
}
