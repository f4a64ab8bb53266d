//! A range of an object as it is read, block by block. One block is in hand at a time; the stripes ahead are asked for
//! while it is written, as far as there is room for them, so memory grows neither with the object nor with its viewers.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use bytes::Bytes;
use format::{BlockIndex, BlockSlice, Geometry, StripeIndex, limits::BLOCK_BYTES};
use sandbox::Tier;

use super::{
    cache::{BlockCache, BlockKey},
    film::{has_boxes, index_behind},
    hand::{Content, Hand, InHand},
    miss::{Ahead, Fills, Flight},
    objects::Opened,
};
use crate::error::Fault;

/// Most bytes asked for ahead of one reader: a round trip of 160 ms at 50 MB/s.
const AHEAD_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Blocks looked at to say hit or miss; of a larger range the rest is taken to be like them.
const LOOKED_AT_MAX: usize = 1024;
/// Blocks read together of an object of which none may be kept. All that one viewer of it holds; fewer cost more round
/// trips, and, while a node is down, more strips for each.
const UNKEPT_BLOCKS_MAX: usize = 4;

/// A range of an object with shards; its first block is here once it has begun.
pub(crate) struct Body {
    opened: Arc<Opened>,
    geometry: Geometry,
    range: Range<u64>,
    /// Where the owner lets the blocks lie.
    tier: Tier,
    /// Blocks that are here and not yet written.
    ready: VecDeque<(BlockIndex, Bytes)>,
    /// Stripes that were asked for ahead.
    ahead: VecDeque<Ahead>,
    /// Of the connection that all of it goes out on.
    hand: Hand,
    /// Room for what was read last, and the first block of that.
    held: (Option<BlockIndex>, InHand),
    /// The first stripe not asked for yet.
    next: u64,
    /// Whether a block whose frame is held is not asked for.
    passes_frames: bool,
    pub(crate) source: Source,
}

impl Body {
    /// Takes a non-empty range and says whether all of it is held. Reads nothing yet.
    pub(crate) fn new(
        (cache, fills): (&BlockCache, &Fills),
        opened: Arc<Opened>,
        geometry: Geometry,
        range: Range<u64>,
        tier: Tier,
        hand: Hand,
    ) -> Self {
        let body = Self::without((cache, fills), opened, geometry, range, tier, hand, |_| false);
        Self { passes_frames: false, ..body }
    }

    /// As [`Self::new`], of which blocks whose frames are held are passed ([`Reading::pass`]): those that `is_had`
    /// says, and any whose frame is held once it is their turn.
    pub(crate) fn without(
        (cache, fills): (&BlockCache, &Fills),
        opened: Arc<Opened>,
        geometry: Geometry,
        range: Range<u64>,
        tier: Tier,
        hand: Hand,
        is_had: impl Fn(BlockIndex) -> bool,
    ) -> Self {
        let locator = opened.object.locator();
        let held = |slice: BlockSlice| match cache.holds(&BlockKey { locator, block: slice.block }) {
            true => Source::Hit,
            false if fills.is_on_disk(&opened, geometry, slice.block, tier) => Source::Disk,
            false => Source::Miss,
        };
        let source = geometry.slices(range.clone()).filter(|slice| !is_had(slice.block));
        let source = farthest(source.take(LOOKED_AT_MAX).map(held));
        let (ready, ahead, held) = (VecDeque::new(), VecDeque::new(), Default::default());
        Self { opened, geometry, range, tier, ready, ahead, hand, held, next: 0, passes_frames: true, source }
    }

    /// Reads the first block, so that what fails at once still gets an honest status.
    ///
    /// # Errors
    /// The faults of reading.
    pub(crate) async fn begin(mut self, fills: &Arc<Fills>) -> Result<Self, Fault> {
        let Some(first) = self.geometry.slices(self.range.clone()).next() else { return Ok(self) };
        if self.tier != Tier::None {
            ReadAhead::new(&self).reach(fills, &mut self, first.block);
        }
        let bytes = self.read(fills, first.block).await?;
        if self.range.start == 0 {
            self.reach_for_index(fills, &bytes);
        }
        self.ready.push_front((first.block, bytes));
        Ok(self)
    }

    /// Has the index of a film fetched where it lies at the end: whoever begins a film goes there next, and waits.
    fn reach_for_index(&self, fills: &Arc<Fills>, beginning: &[u8]) {
        let object = &self.opened.object;
        if self.tier != Tier::None
            && has_boxes(&object.manifest().mime)
            && let Some(index) = index_behind(beginning, object.length())
            && self.opened.begin_film()
            && !fills.prefetch(&self.opened, self.geometry, index, self.tier)
        {
            self.opened.leave_film();
        }
    }

    /// Gives back the room for what was read before, and waits for that which reading a block takes, unless it has that
    /// already. Cancel safe.
    async fn take_room(&mut self, block: BlockIndex) {
        if self.held.0 == Some(block) || self.ready.front().is_some_and(|(index, _)| *index == block) {
            return;
        }
        self.held = (None, InHand::default());
        let (content, bytes) = match self.tier {
            Tier::None => (Content::Unkept, self.unkept_bytes(block)),
            _ => (Content::Kept, self.geometry.block_bytes(block)),
        };
        self.held = (Some(block), self.hand.take(content, bytes).await);
    }

    /// Reads a block, for which there is room in the hand then. One that may be kept takes that when it is here: what
    /// an origin is slow to send keeps no answer waiting that could go out. Where there is none, it is let go, and had
    /// from the cache once there is. The cache may give up one that has just come, which would be read from origins
    /// again: it waits in the room for what is ahead of viewers.
    async fn read(&mut self, fills: &Arc<Fills>, block: BlockIndex) -> Result<Bytes, Fault> {
        if self.tier == Tier::None || self.held.0 == Some(block) {
            self.take_room(block).await;
            return Ok(self.block(fills, block).await?.0);
        }
        self.held = (None, InHand::default());
        let (bytes, source) = self.block(fills, block).await?;
        if let Some(held) = self.hand.try_take(Content::Kept, bytes.len()) {
            self.held = (Some(block), held);
            return Ok(bytes);
        }
        let came = (source == Source::Miss).then_some(bytes);
        let waits = came.and_then(|bytes| fills.keep(&self.opened, bytes));
        self.take_room(block).await;
        match waits {
            Some((bytes, _room)) => Ok(bytes),
            None => Ok(self.block(fills, block).await?.0),
        }
    }

    /// Reads a block, or returns it where it is here; and whether it came just now.
    async fn block(&mut self, fills: &Arc<Fills>, block: BlockIndex) -> Result<(Bytes, Source), Fault> {
        if let Some((_, bytes)) = self.ready.pop_front_if(|(index, _)| *index == block) {
            return Ok((bytes, Source::Own));
        }
        if self.tier != Tier::None {
            if let Some(flight) = self.take_ahead(block)
                && let Some(bytes) = fills.landed(flight, block).await
            {
                return Ok((bytes, Source::Miss));
            }
            if let Some(bytes) = fills.held(&self.opened, self.geometry, block, self.tier) {
                return Ok((bytes, Source::Hit));
            }
            let bytes = fills.block(&self.opened, self.geometry, block, self.tier).await?;
            return Ok((bytes, Source::Miss));
        }
        let (stripe, _) = self.geometry.place(block);
        let columns = self.unkept_columns(block);
        self.ready = fills.unkept(&self.opened, self.geometry, stripe, columns).await?.into();
        self.ready.pop_front().map(|(_, bytes)| (bytes, Source::Miss)).ok_or(Fault::Busy)
    }

    /// Returns what is read together with a block of an object of which none may be kept.
    fn unkept_columns(&self, block: BlockIndex) -> Range<usize> {
        let (stripe, column) = self.geometry.place(block);
        column..self.columns(stripe).end.min(column + UNKEPT_BLOCKS_MAX)
    }

    fn unkept_bytes(&self, block: BlockIndex) -> usize {
        let (stripe, _) = self.geometry.place(block);
        let bytes = |column| self.geometry.block_bytes(self.geometry.block(stripe, column));
        self.unkept_columns(block).map(bytes).sum()
    }

    /// Returns what brings a block that was asked for ahead.
    fn take_ahead(&mut self, block: BlockIndex) -> Option<Flight> {
        while let Some(stripe) = self.ahead.front_mut() {
            let flight = stripe.take(block);
            if !stripe.is_empty() {
                return flight;
            }
            self.ahead.pop_front();
            if flight.is_some() {
                return flight;
            }
        }
        None
    }

    fn passes(&self, fills: &Fills, stripe: StripeIndex, column: usize) -> bool {
        self.passes_frames && fills.holds_frame(&self.opened, self.geometry.block(stripe, column))
    }

    /// What the range wants of a stripe.
    fn columns(&self, stripe: StripeIndex) -> Range<usize> {
        let start = match self.geometry.place(self.geometry.block_at(self.range.start)) {
            (first, column) if first == stripe => column,
            _ => 0,
        };
        let end = match self.geometry.place(self.geometry.block_at(self.range.end - 1)) {
            (last, column) if last == stripe => column + 1,
            _ => self.geometry.columns(stripe),
        };
        start..end
    }

    /// Returns the bytes of the range.
    pub(crate) fn length(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Begins to read the range from its start.
    pub(crate) fn reading(self) -> Reading {
        Reading { ahead: ReadAhead::new(&self), at: self.range.start, body: self }
    }
}

/// A range that is being read, in order.
pub(crate) struct Reading {
    body: Body,
    ahead: ReadAhead,
    /// The first byte not given yet.
    at: u64,
}

impl Reading {
    /// Returns what the range has of its next block; none at its end.
    ///
    /// # Errors
    /// The faults of reading.
    pub(crate) async fn next(&mut self, fills: &Arc<Fills>) -> Result<Option<Bytes>, Fault> {
        let Self { body, ahead, at } = self;
        let Some(slice) = body.geometry.slices(*at..body.range.end).next() else { return Ok(None) };
        if body.tier != Tier::None {
            ahead.reach(fills, body, slice.block);
        }
        let bytes = body.read(fills, slice.block).await?.slice(slice.within);
        *at += bytes.len() as u64;
        Ok(Some(bytes))
    }

    /// Whether other answers of the same connection have much in hand, too.
    pub(crate) fn is_crowded(&self) -> bool {
        self.body.hand.is_crowded()
    }

    /// Lets go of the last so many bytes of the block that was given last, which are given again. False where the cache
    /// does not have it: a viewer whose window opens by a byte at a time would have it read from origins each time.
    pub(crate) fn put_back(&mut self, fills: &Fills, bytes: usize) -> bool {
        let at = self.at - bytes as u64;
        let block = self.body.geometry.block_at(at);
        let is_held = self.body.tier != Tier::None && fills.holds(&self.body.opened, block);
        if is_held {
            self.at = at;
            self.body.held = (None, InHand::default());
        }
        is_held
    }

    /// Reads for an object as it was opened since: what was ordered before that concerns it no more.
    pub(crate) fn go_on_for(&mut self, opened: &Arc<Opened>) {
        if !Arc::ptr_eq(&self.body.opened, opened) {
            self.body.opened = Arc::clone(opened);
        }
    }

    /// Waits for the room that the next block takes, in whatever form. Cancel safe.
    pub(super) async fn take_room(&mut self) {
        let block = self.body.geometry.block_at(self.at);
        self.body.take_room(block).await;
    }

    /// Goes on behind so many bytes, which are had from elsewhere.
    pub(super) fn pass(&mut self, bytes: u64) {
        self.at += bytes;
    }
}

/// Where the content came from, the farthest of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// All of it was held in memory.
    Hit,
    /// Some of it was on the disk.
    Disk,
    /// Some of it had to be read from origins.
    Miss,
    /// There was none to read.
    Own,
}

/// Returns the farthest of the places where a content is, and looks no further than it takes to know.
fn farthest(mut sources: impl Iterator<Item = Source>) -> Source {
    let found = sources.try_fold(Source::Hit, |farthest, source| match source {
        Source::Miss => Err(source),
        held => Ok(farthest.max(held)),
    });
    found.unwrap_or_else(|miss| miss)
}

/// Asks for stripes ahead of a reader; the further it reads in one go, the more of them.
struct ReadAhead {
    last: BlockIndex,
    window: Window,
}

/// How many stripes to ask for beyond the one being read. A reader that leaves after its first block costs nothing
/// ahead; one that goes on has the next stripe asked for, and each stripe that it comes into doubles that.
struct Window {
    stripes: u64,
    max: u64,
    at: Option<StripeIndex>,
}

impl Window {
    fn new(max: u64) -> Self {
        Self { stripes: 0, max, at: None }
    }

    /// Called with the stripe of each block before it is read.
    fn reach(&mut self, stripe: StripeIndex) -> u64 {
        self.stripes = match self.at.replace(stripe) {
            None => 0,
            Some(at) if at == stripe => self.stripes.max(1),
            Some(_) => (self.stripes * 2).clamp(1, self.max),
        };
        self.stripes
    }
}

impl ReadAhead {
    fn new(body: &Body) -> Self {
        let last = body.geometry.block_at(body.range.end - 1);
        let stripe_bytes = body.geometry.columns(StripeIndex(0)).max(1) as u64 * BLOCK_BYTES as u64;
        Self { last, window: Window::new((AHEAD_BYTES_MAX / stripe_bytes).max(1)) }
    }

    /// Called for each block before it is read.
    fn reach(&mut self, fills: &Arc<Fills>, body: &mut Body, block: BlockIndex) {
        let (stripe, _) = body.geometry.place(block);
        let window = self.window.reach(stripe);
        for stripe in body.next.max(stripe.0)..=stripe.0 + window {
            if !self.stripe(fills, body, StripeIndex(stripe), block) {
                return;
            }
            body.next = stripe + 1;
        }
    }

    /// Asks for what the range wants of one stripe, from `block` on. False when there is no room.
    fn stripe(&self, fills: &Arc<Fills>, body: &mut Body, stripe: StripeIndex, block: BlockIndex) -> bool {
        if stripe > body.geometry.place(self.last).0 {
            return true;
        }
        let mut columns = body.columns(stripe);
        let (current, column) = body.geometry.place(block);
        if current == stripe {
            columns.start = columns.start.max(column);
        }
        let wanted: Vec<usize> = columns.filter(|column| !body.passes(fills, stripe, *column)).collect();
        if wanted.is_empty() {
            return true;
        }
        let Some(ahead) = fills.ahead(&body.opened, body.geometry, stripe, &wanted, body.tier) else {
            return false;
        };
        if !ahead.is_empty() {
            body.ahead.push_back(ahead);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::iter;

    use super::*;

    #[test]
    fn the_window_grows_by_the_stripe_and_not_by_the_block() {
        let mut window = Window::new(8);
        let blocks_of = |stripe: u64| iter::repeat_n(StripeIndex(stripe), 4);
        let windows: Vec<u64> = (0..6).flat_map(blocks_of).map(|stripe| window.reach(stripe)).collect();
        assert_eq!(windows[..8], [0, 1, 1, 1, 2, 2, 2, 2]);
        assert_eq!(windows[8..], [[4; 4], [8; 4], [8; 4], [8; 4]].concat());
        // The last block of a stripe may be the first that is read.
        let mut window = Window::new(8);
        assert_eq!([7, 8, 8, 9].map(|stripe| window.reach(StripeIndex(stripe))), [0, 1, 1, 2]);
        let mut window = Window::new(1);
        assert_eq!([0, 0, 1, 2].map(|stripe| window.reach(StripeIndex(stripe))), [0, 1, 1, 1]);
    }

    #[test]
    fn nothing_is_looked_at_behind_a_miss() {
        use Source::{Disk, Hit, Miss};
        for (sources, expected) in
            [(&[][..], Hit), (&[Hit, Hit], Hit), (&[Hit, Disk, Hit], Disk), (&[Disk, Hit, Miss], Miss)]
        {
            assert_eq!(farthest(sources.iter().copied()), expected, "{sources:?}");
        }
        let endless = iter::once(Disk).chain(iter::repeat(Miss));
        assert_eq!(farthest(endless), Miss);
    }
}
