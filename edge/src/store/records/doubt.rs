//! Records that are doubted, because the change feed lost its thread: each is looked up again before it serves next,
//! once for all who ask for it.

use std::{
    collections::HashMap,
    sync::{Arc, MutexGuard, PoisonError, atomic::Ordering},
};

use client::Scope;
use format::Locator;
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};

use super::{Records, look::Content};
use crate::error::Fault;

/// A look-up that all who ask for what is doubted wait for.
pub(super) type Flight<T> = Shared<BoxFuture<'static, Result<Arc<T>, Fault>>>;

/// A look-up of what is doubted: it is under way until this is dropped, whatever ends it.
struct UnderWay<T: Content> {
    records: Arc<Records<T>>,
    key: (Locator, u64),
}

impl<T: Content> Drop for UnderWay<T> {
    fn drop(&mut self) {
        self.records.again().remove(&self.key);
    }
}

impl<T: Content> Records<T> {
    /// Looks a record up again before it is served, once for all who ask at a time. It serves on where no node can be
    /// asked, or nodes are behind, and is looked up behind the viewers' backs from then on. Cancel safe.
    pub(super) async fn open_again(self: &Arc<Self>, opened: Arc<T>, doubts: u64) -> Result<Arc<T>, Fault> {
        let key = (opened.record().locator(), doubts);
        let flight = self.again().get(&key).cloned();
        let flight = flight.unwrap_or_else(|| self.launch_again(opened, key));
        flight.await
    }

    /// Begins to look a record up again, or joins who does. One task, however many wait for it and leave.
    fn launch_again(self: &Arc<Self>, opened: Arc<T>, key: (Locator, u64)) -> Flight<T> {
        let mut under_way = self.again();
        if let Some(flight) = under_way.get(&key) {
            return flight.clone();
        }
        let records = Arc::clone(self);
        // Ends by OPEN_DEADLINE after it has a place; whoever waits may leave meanwhile.
        let task = self.control.spawn(Scope::current().around(async move {
            // Made here: a runtime that ends drops what it is given at once, and the map is held now.
            let here = UnderWay { records, key };
            here.records.look_up_doubted(&opened, key).await
        }));
        let flight = async move { task.await.unwrap_or(Err(Fault::Busy)) }.boxed().shared();
        under_way.insert(key, flight.clone());
        flight
    }

    async fn look_up_doubted(&self, opened: &Arc<T>, (locator, doubts): (Locator, u64)) -> Result<Arc<T>, Fault> {
        if opened.look().is_excused(doubts) {
            return Ok(Arc::clone(opened));
        }
        match self.opened.get(&locator).await {
            Some(held) if !Arc::ptr_eq(&held, opened) => return Ok(held),
            Some(_) => {}
            None => return Err(self.faults.get(&locator).unwrap_or(Fault::Busy)),
        }
        let look_up = async {
            let _place = self.admission.doubted().await?;
            self.look_up(&opened.look().capability).await
        };
        match look_up.await {
            Ok(fresh) => Ok(self.renew(opened, fresh).await),
            Err(fault @ (Fault::Unknown | Fault::Erased)) => {
                self.remember(locator, &fault);
                self.close(locator).await;
                Err(fault)
            }
            // No node could be asked, or those that could be have only what is older. Any other failure says nothing of
            // the record, least of all that this edge has much to do.
            Err(Fault::Unreachable | Fault::Slow | Fault::Outdated) => {
                opened.look().excused.fetch_max(doubts, Ordering::Relaxed);
                Ok(Arc::clone(opened))
            }
            Err(fault) => Err(fault),
        }
    }

    pub(super) fn again(&self) -> MutexGuard<'_, HashMap<(Locator, u64), Flight<T>>> {
        self.again.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn doubts(&self) -> u64 {
        self.doubts.load(Ordering::Acquire)
    }

    /// Doubts everything: what is open is looked up again before it is served next. It is not forgotten, or each hiccup
    /// of the feed would take away what is held, and for as long as no node can be asked.
    pub(crate) fn doubt_all(&self) {
        self.doubts.fetch_add(1, Ordering::AcqRel);
        self.faults.invalidate_all();
        self.watches.end_all();
    }
}
