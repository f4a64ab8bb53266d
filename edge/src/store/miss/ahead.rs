//! Blocks that are read before a viewer comes to them: ahead of one who reads on, and what is likely to be wanted.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    sync::Arc,
};

use bytes::Bytes;
use format::{BlockIndex, Geometry, StripeIndex};
use sandbox::Tier;

use super::{Fills, flights::Flight};
use crate::store::{objects::Opened, room::Taken};

/// Blocks of one stripe that were on their way when a viewer came near them, in order. They are kept for that viewer,
/// because the cache keeps only what it thinks worth it.
pub(crate) struct Ahead {
    flights: VecDeque<(BlockIndex, Flight)>,
    _room: Option<Taken>,
}

impl Ahead {
    /// Takes out what brings a block, and forgets what comes before it.
    pub(crate) fn take(&mut self, block: BlockIndex) -> Option<Flight> {
        while self.flights.front()?.0 < block {
            self.flights.pop_front();
        }
        self.flights.pop_front_if(|(index, _)| *index == block).map(|(_, flight)| flight)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }
}

impl Fills {
    /// Waits for a block that was asked for ahead; none when it could not be read then.
    pub(crate) async fn landed(&self, flight: Flight, block: BlockIndex) -> Option<Bytes> {
        let blocks = flight.await.ok()?;
        self.metrics.block_misses.inc();
        blocks.iter().find(|(index, _)| *index == block).map(|(_, bytes)| bytes.clone())
    }

    /// Begins to read those of a stripe's data columns that are neither held nor on their way. Never waits; none when
    /// viewers who are slow have all the room for what is ahead of them, or the owner's all of its share.
    pub(crate) fn ahead(
        self: &Arc<Self>,
        opened: &Arc<Opened>,
        geometry: Geometry,
        stripe: StripeIndex,
        columns: &[usize],
        tier: Tier,
    ) -> Option<Ahead> {
        let wanted = u32::try_from(columns.len()).unwrap_or(u32::MAX);
        let room = self.ahead.try_take(opened.record.lease.owner, wanted)?;
        let launched = self.launch(opened, geometry, stripe, columns.iter().copied(), tier).into_iter();
        let mut flights: Vec<_> = launched.filter_map(|(block, flight)| Some((block, flight?))).collect();
        flights.sort_unstable_by_key(|(block, _)| *block);
        let room = (!flights.is_empty()).then_some(room);
        Some(Ahead { flights: flights.into(), _room: room })
    }

    /// Keeps a block that came and waits to be written, in the room for those that are ahead of their viewers; none
    /// where there is no room for it.
    pub(crate) fn keep(&self, opened: &Opened, block: Bytes) -> Option<(Bytes, Taken)> {
        Some((block, self.ahead.try_take(opened.record.lease.owner, 1)?))
    }

    /// Begins to read what is likely to be wanted of a range, as far as the owner has half of its share of the room
    /// free then. Returns whether anything was begun. Never waits; nobody is told of the end.
    pub(crate) fn prefetch(
        self: &Arc<Self>,
        opened: &Arc<Opened>,
        geometry: Geometry,
        range: Range<u64>,
        tier: Tier,
    ) -> bool {
        let mut is_begun = false;
        let mut columns_of = BTreeMap::<u64, Range<usize>>::new();
        for slice in geometry.slices(range) {
            let (stripe, column) = geometry.place(slice.block);
            columns_of.entry(stripe.0).or_insert(column..column).end = column + 1;
        }
        for (stripe, columns) in columns_of {
            let wanted = u32::try_from(columns.len()).unwrap_or(u32::MAX);
            if !self.room.is_half_free(&opened.record.lease.owner, wanted) {
                break;
            }
            self.metrics.prefetches.inc();
            drop(self.launch(opened, geometry, StripeIndex(stripe), columns, tier));
            is_begun = true;
        }
        is_begun
    }
}
