//! Reads that are on their way: begun once for all who want a block, each in a task of its own.

use std::{
    collections::HashMap,
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use client::{Near, Said, Scope, Shelf, Span};
use format::{BlockIndex, Geometry, StripeIndex};
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use sandbox::Tier;
use tokio::{sync::oneshot, task::JoinSet, time::timeout};

use super::Fills;
use crate::{
    error::Fault,
    store::{cache::BlockKey, objects::Opened, region::Home},
};

/// A stripe must be there by then; origins that are merely slow are hedged long before.
const FILL_DEADLINE: Duration = Duration::from_secs(25);

type Blocks = Arc<Vec<(BlockIndex, Bytes)>>;
pub(crate) type Flight = Shared<BoxFuture<'static, Result<Blocks, Fault>>>;

/// Blocks that one read brings: they are on their way until it is dropped, whatever ends it.
struct UnderWay {
    fills: Arc<Fills>,
    keys: Vec<BlockKey>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.fills.state();
        for key in &self.keys {
            state.flights.remove(key);
        }
    }
}

#[derive(Default)]
pub(super) struct State {
    flights: HashMap<BlockKey, Flight>,
    tasks: JoinSet<()>,
}

impl Fills {
    /// Returns, for each of the columns, its block and the read that brings it; no read where the cache has it.
    pub(super) fn launch(
        self: &Arc<Self>,
        opened: &Arc<Opened>,
        geometry: Geometry,
        stripe: StripeIndex,
        columns: impl Iterator<Item = usize>,
        tier: Tier,
    ) -> Vec<(BlockIndex, Option<Flight>)> {
        let locator = opened.object.locator();
        let key = |column| BlockKey { locator, block: geometry.block(stripe, column) };
        let mut state = self.state();
        // A fill puts its blocks into the cache before its flight is taken away, so under the lock none slips through.
        let (mut wanted, mut missing) = (Vec::new(), Vec::new());
        for column in columns.filter(|column| *column < geometry.columns(stripe)) {
            let key = key(column);
            let flight = state.flights.get(&key).cloned();
            if flight.is_none() && !self.cache.holds(&key) {
                missing.push(column);
            } else {
                wanted.push((key.block, flight));
            }
        }
        if missing.is_empty() {
            return wanted;
        }
        let (done, filled) = oneshot::channel();
        let flight: Flight = filled.map(|result| result.unwrap_or(Err(Fault::Busy))).boxed().shared();
        for column in &missing {
            let key = key(*column);
            state.flights.insert(key, flight.clone());
            wanted.push((key.block, Some(flight.clone())));
        }
        // Ended tasks are taken out here, so that the set stays as small as the work under way.
        while state.tasks.try_join_next().is_some() {}
        let (fills, opened) = (Arc::clone(self), Arc::clone(opened));
        let keys = missing.iter().map(|column| key(*column)).collect();
        let read = async move {
            // Made here: a runtime that ends drops what it is given at once, and the state is held now.
            let under_way = UnderWay { fills: Arc::clone(&fills), keys };
            let span = Span::within("fill");
            let result = span.scope().around(fills.fill(&opened, stripe, &missing, tier, &span)).await;
            if let Ok(blocks) = &result {
                for (block, bytes) in blocks.iter().filter(|_| tier != Tier::None) {
                    fills.cache.insert(BlockKey { locator, block: *block }, bytes.clone(), opened.claim());
                }
            } else {
                fills.metrics.fill_faults.inc();
                span.fail("the nodes");
            }
            drop((under_way, span));
            // Nobody may be waiting any more; the cache has what may be kept.
            let _ = done.send(result);
        };
        // Whoever asks may run on a worker, where decoding would hold up all its viewers.
        state.tasks.spawn_on(Scope::current().around(read), &self.control);
        wanted
    }

    async fn fill(
        &self,
        opened: &Opened,
        stripe: StripeIndex,
        columns: &[usize],
        tier: Tier,
        span: &Span,
    ) -> Result<Blocks, Fault> {
        span.say("evernear.blocks", Said::Number(columns.len() as u64));
        let wanted = u32::try_from(columns.len()).unwrap_or(u32::MAX);
        let room = self.room.take(opened.record.lease.owner, wanted).await;
        let _room = room.inspect_err(|_| _ = self.metrics.fills_turned_away.inc())?;
        // What was forgotten since it was opened lies nowhere here again.
        let tier = if opened.claim().is_forgotten() { Tier::None } else { tier };
        let disk = self.disk(tier).map(|disk| disk.shelf(opened.is_wanted()));
        // What its owner lets nobody keep no other edge is asked for: it would keep the ciphertext.
        let region = self.region.as_ref().filter(|_| tier != Tier::None);
        let home = region.and_then(|region| Some((region, region.home(&opened.object.public().id(), stripe)?)));
        let (kept, disk, neighbour) = match home {
            Some((region, Home::Here)) => (Some(region.shelf(opened.object.public().owner(), disk)), None, None),
            Some((_, Home::At(neighbour))) => (None, disk, Some(neighbour)),
            None => (None, disk, None),
        };
        let shelf = kept.as_ref().map(|kept| kept as &dyn Shelf).or(disk.as_ref().map(|disk| disk as &dyn Shelf));
        let near = Near { shelf, neighbour: neighbour.as_ref() };
        let read = self.reader.blocks_near(near, &opened.object, &opened.record.placement, stripe, columns);
        let read = timeout(FILL_DEADLINE, read).await;
        if opened.claim().is_forgotten() {
            self.forget_stripe(opened.object.public(), stripe);
        }
        let read = read.map_err(|_| Fault::Slow)?.map_err(|error| {
            let locator = opened.object.locator();
            tracing::warn!(%locator, stripe = stripe.0, error = client::causes(&error), "stripe cannot be read");
            Fault::from(&error)
        })?;
        self.metrics.fills.inc();
        self.metrics.fill_bytes.inc_by(read.bytes);
        self.metrics.neighbour_bytes.inc_by(read.neighbour_bytes);
        self.metrics.fills_recovered.inc_by(u64::from(read.recovered));
        span.say("evernear.nodes", Said::Number(read.nodes.len() as u64));
        span.say("evernear.bytes", Said::Number(read.bytes));
        span.say("evernear.recovered", Said::Number(read.recovered.into()));
        Ok(Arc::new(read.blocks))
    }

    /// Ends all fills, whoever waits gets [`Fault::Busy`], and writes what is on its way to the disk.
    pub(crate) async fn stop(&self) {
        {
            let mut state = self.state();
            state.tasks.abort_all();
            state.flights.clear();
        }
        if let Some(disk) = self.disk.get() {
            disk.close().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
