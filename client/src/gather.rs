//! Gathering one stripe, as a state machine. It decides which columns to fetch now and when the stripe is complete.
//!
//! It does no IO and has no clock: the driver passes the time since the start and reports what arrived or failed. A
//! strip with a wrong hash counts as failed, like one that never arrived; to the erasure code both are erasures.
//!
//! The plan follows expected times. If few blocks are wanted, their own strips are fetched and nothing is decoded. If
//! most of the stripe is wanted, or a wanted node is slow or lost, the k nearest strips are fetched, whichever they
//! are. If a fetch takes longer than its node's p95, it is doubted: it may still arrive, but a strip of another column
//! is fetched too (a hedged request or speculative read, Dean and Barroso 2013). Every column is fetched at most once,
//! so a stripe costs at most k + m strips.

use std::time::Duration;

/// The time to recover a stripe of 16+8 on one core (own measurement, `bench/results`). It is added to the expected
/// time of a plan that decodes.
const DECODE_TIME: Duration = Duration::from_millis(2);
/// A wanted node counts as slow if waiting for it takes this many times longer than decoding from other nodes. A
/// smaller factor would too often fetch k strips for one block.
const SLOW_FACTOR: u32 = 4;

/// A column that can be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The column.
    pub column: usize,
    /// The time that a strip from its node is expected to take.
    pub expected: Duration,
    /// The time after which a strip from its node is late and gets a hedge: about the node's p95.
    pub doubted_after: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unused,
    /// It is to be fetched, and waits for room on the reader's link.
    Waiting,
    Asked {
        at: Duration,
        doubted: bool,
    },
    Arrived,
    Failed,
}

/// The state of the stripe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// More strips are needed and can still arrive.
    Waiting,
    /// All wanted strips have arrived.
    Direct,
    /// Enough strips have arrived to recover the wanted ones.
    Decode,
    /// A wanted strip failed, and too few strips are left to recover it.
    Lost {
        /// Strips that arrived or may still arrive.
        have: usize,
        /// Strips needed.
        need: usize,
    },
}

/// The state of gathering one stripe.
#[derive(Debug)]
pub struct Gather {
    /// Strips needed to recover the stripe: the number of its filled data columns.
    need: usize,
    wanted: Vec<usize>,
    /// Sources, nearest first.
    sources: Vec<(Source, State)>,
    decode: bool,
}

impl Gather {
    /// Plans a stripe with `need` filled data columns. `wanted` are the columns to return.
    #[must_use]
    pub fn new(need: usize, wanted: &[usize], mut sources: Vec<Source>) -> Self {
        sources.sort_by_key(|source| (source.expected, source.column));
        let decode = plans_to_decode(need, wanted, &sources);
        let sources = sources.into_iter().map(|source| (source, State::Unused)).collect();
        Self { need, wanted: wanted.to_vec(), sources, decode }
    }

    /// Returns the columns to fetch now. Each column is returned once.
    pub fn fetch(&mut self, now: Duration) -> Vec<usize> {
        self.doubt(now);
        let mut columns = Vec::new();
        if !self.decode {
            for (source, state) in &mut self.sources {
                if self.wanted.contains(&source.column) && *state == State::Unused {
                    *state = State::Asked { at: now, doubted: false };
                    columns.push(source.column);
                }
            }
            return columns;
        }
        let is_promising =
            |state| matches!(state, State::Arrived | State::Waiting | State::Asked { doubted: false, .. });
        let mut promising = self.count(is_promising);
        for (source, state) in &mut self.sources {
            if promising >= self.need {
                break;
            }
            if *state == State::Unused {
                *state = State::Asked { at: now, doubted: false };
                columns.push(source.column);
                promising += 1;
            }
        }
        columns
    }

    /// Returns when to call [`Self::fetch`] again even if nothing arrives.
    #[must_use]
    pub fn wake_at(&self) -> Option<Duration> {
        let deadline = |(source, state): &(Source, State)| match state {
            State::Asked { at, doubted: false } => Some(*at + source.doubted_after),
            _ => None,
        };
        self.sources.iter().filter_map(deadline).min()
    }

    /// Notes that the fetch of a column waits for room. It cannot be late before it begins.
    pub fn waits(&mut self, column: usize) {
        self.set(column, State::Waiting);
    }

    /// Notes that the fetch of a column that waited begins, and when it is doubted as things are now.
    pub fn begins(&mut self, column: usize, now: Duration, doubted_after: Duration) {
        if let Some((source, state)) = self.sources.iter_mut().find(|(source, _)| source.column == column) {
            source.doubted_after = doubted_after;
            *state = State::Asked { at: now, doubted: false };
        }
    }

    /// Notes that a column's strip arrived and was verified.
    pub fn arrived(&mut self, column: usize) {
        self.set(column, State::Arrived);
    }

    /// Notes that a column is not available: its node failed, or its strip was wrong.
    pub fn failed(&mut self, column: usize) {
        self.set(column, State::Failed);
        self.decode |= self.wanted.contains(&column);
    }

    /// Returns the late columns (stragglers): doubted, and not arrived since.
    pub fn late(&self) -> impl Iterator<Item = usize> {
        let is_late = |(source, state): &(Source, State)| {
            matches!(state, State::Asked { doubted: true, .. }).then_some(source.column)
        };
        self.sources.iter().filter_map(is_late)
    }

    /// Returns the state of the stripe.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let is_there =
            |column: &usize| self.sources.iter().any(|(s, state)| s.column == *column && *state == State::Arrived);
        if self.wanted.iter().all(is_there) {
            return Progress::Direct;
        }
        if self.count(|state| state == State::Arrived) >= self.need {
            return Progress::Decode;
        }
        // A wanted strip that is late may be the slowest of all, and it needs no other.
        let may_come =
            |column: &usize| self.sources.iter().any(|(s, state)| s.column == *column && *state != State::Failed);
        let have = self.count(|state| state != State::Failed);
        if have < self.need && !self.wanted.iter().all(may_come) {
            return Progress::Lost { have, need: self.need };
        }
        Progress::Waiting
    }

    fn doubt(&mut self, now: Duration) {
        for (source, state) in &mut self.sources {
            if let State::Asked { at, doubted } = state
                && now >= *at + source.doubted_after
            {
                *doubted = true;
                self.decode = true;
            }
        }
    }

    fn count(&self, matches: impl Fn(State) -> bool) -> usize {
        self.sources.iter().filter(|(_, state)| matches(*state)).count()
    }

    fn set(&mut self, column: usize, to: State) {
        if let Some((_, state)) = self.sources.iter_mut().find(|(source, _)| source.column == column) {
            *state = to;
        }
    }
}

fn plans_to_decode(need: usize, wanted: &[usize], by_time: &[Source]) -> bool {
    let time_of = |column: &usize| by_time.iter().find(|source| source.column == *column).map(|source| source.expected);
    let direct: Option<Vec<Duration>> = wanted.iter().map(time_of).collect();
    let Some(direct) = direct else { return true };
    let Some(farthest) = need.checked_sub(1).and_then(|last| by_time.get(last)) else { return false };
    let direct = direct.into_iter().max().unwrap_or_default();
    let decode = farthest.expected + DECODE_TIME;
    let most_is_wanted = wanted.len() * 2 > need;
    if most_is_wanted { direct > decode } else { direct > decode * SLOW_FACTOR }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn sources(times: &[u64]) -> Vec<Source> {
        let source =
            |(column, time): (usize, &u64)| Source { column, expected: ms(*time), doubted_after: ms(*time * 3) };
        times.iter().enumerate().map(source).collect()
    }

    #[test]
    fn few_wanted_blocks_cost_their_own_strips_only() {
        let mut gather = Gather::new(4, &[2], sources(&[1, 1, 5, 1, 1, 1]));
        assert_eq!(gather.fetch(ms(0)), [2]);
        gather.arrived(2);
        assert_eq!((gather.progress(), gather.fetch(ms(1))), (Progress::Direct, vec![]));
    }

    #[test]
    fn a_whole_stripe_comes_from_the_nearest_nodes() {
        let mut gather = Gather::new(4, &[0, 1, 2, 3], sources(&[90, 1, 80, 2, 3, 4]));
        assert_eq!(gather.fetch(ms(0)), [1, 3, 4, 5]);
        // Data strips at equal distance are preferred, because they need no decoding.
        assert_eq!(Gather::new(2, &[0, 1], sources(&[5, 5, 4, 4])).fetch(ms(0)), [0, 1]);
    }

    #[test]
    fn a_slow_lost_or_lying_node_is_replaced() {
        assert_eq!(Gather::new(2, &[0], sources(&[500, 1, 2])).fetch(ms(0)), [1, 2], "too slow to wait for");
        let mut late = Gather::new(2, &[0], sources(&[5, 6, 7]));
        assert_eq!((late.fetch(ms(0)), late.wake_at()), (vec![0], Some(ms(15))));
        assert_eq!((late.fetch(ms(14)), late.fetch(ms(15))), (vec![], vec![1, 2]));
        assert_eq!(late.late().collect::<Vec<_>>(), [0]);
        late.arrived(0);
        assert_eq!(late.progress(), Progress::Direct, "a doubted strip may still come");
        assert_eq!(late.late().next(), None);
        let mut lying = Gather::new(2, &[0], sources(&[5, 6, 7]));
        assert_eq!(lying.fetch(ms(0)), [0]);
        lying.failed(0);
        assert_eq!(lying.fetch(ms(1)), [1, 2]);
        lying.arrived(1);
        assert_eq!(lying.progress(), Progress::Waiting);
        lying.arrived(2);
        assert_eq!(lying.progress(), Progress::Decode);
    }

    #[test]
    fn a_strip_that_waits_for_room_is_not_late_and_is_asked_for_once() {
        let mut gather = Gather::new(2, &[0, 1], sources(&[5, 6, 7]));
        assert_eq!(gather.fetch(ms(0)), [0, 1]);
        gather.waits(1);
        gather.begins(0, ms(0), ms(40));
        assert_eq!((gather.fetch(ms(39)), gather.wake_at()), (vec![], Some(ms(40))));
        assert_eq!((gather.fetch(ms(40)), gather.late().collect::<Vec<_>>()), (vec![2], vec![0]));
        gather.waits(2);
        gather.begins(1, ms(60), ms(15));
        gather.arrived(1);
        assert_eq!((gather.progress(), gather.fetch(ms(9_000))), (Progress::Waiting, vec![]));
        gather.begins(2, ms(9_000), ms(15));
        gather.arrived(2);
        assert_eq!(gather.progress(), Progress::Decode);
    }

    #[test]
    fn a_stripe_is_not_lost_while_all_wanted_strips_may_still_come() {
        let late = || {
            let mut gather = Gather::new(2, &[0], sources(&[5, 6, 7]));
            assert_eq!((gather.fetch(ms(0)), gather.fetch(ms(15))), (vec![0], vec![1, 2]));
            gather.failed(1);
            gather.failed(2);
            assert_eq!((gather.progress(), gather.fetch(ms(99))), (Progress::Waiting, vec![]));
            gather
        };
        let (mut came, mut failed) = (late(), late());
        came.arrived(0);
        assert_eq!(came.progress(), Progress::Direct);
        failed.failed(0);
        assert_eq!(failed.progress(), Progress::Lost { have: 0, need: 2 });
        // Two are wanted, and one of them cannot come.
        let mut one = Gather::new(2, &[0, 1], sources(&[5, 6]));
        assert_eq!(one.fetch(ms(0)), [0, 1]);
        one.failed(1);
        assert_eq!(one.progress(), Progress::Lost { have: 1, need: 2 });
    }

    proptest! {
        /// Whatever fails, in whatever order: with at most m losses the stripe is answered, with more it is Lost once a
        /// wanted strip is, and no column is fetched twice.
        #[test]
        fn ends_with_the_stripe_or_with_its_loss(
            k in 1usize..8, m in 1usize..5, times in prop::collection::vec(1u64..100, 12), lost in prop::collection::vec(any::<bool>(), 12),
            late in prop::collection::vec(any::<bool>(), 12), wanted in prop::collection::vec(any::<bool>(), 8),
        ) {
            let wanted: Vec<usize> = (0..k).filter(|c| wanted[*c]).collect();
            prop_assume!(!wanted.is_empty());
            let n = k + m;
            let mut gather = Gather::new(k, &wanted, sources(&times[..n]));
            let (mut now, mut asked, mut waiting) = (ms(0), Vec::new(), Vec::new());
            for _ in 0..200 {
                for column in gather.fetch(now) {
                    prop_assert!(!asked.contains(&column));
                    asked.push(column);
                    waiting.push((now + ms(times[column] * if late[column] { 10 } else { 1 }), column));
                }
                match gather.progress() {
                    Progress::Waiting => {}
                    Progress::Lost { .. } => {
                        prop_assert!(lost[..n].iter().filter(|lost| **lost).count() > m);
                        prop_assert!(wanted.iter().any(|column| lost[*column]));
                        return Ok(());
                    }
                    Progress::Direct | Progress::Decode => return Ok(()),
                }
                waiting.sort_unstable();
                let next = waiting.first().map(|(at, _)| *at);
                now = [next, gather.wake_at()].into_iter().flatten().min().expect("something is under way");
                if next == Some(now) {
                    let (_, column) = waiting.remove(0);
                    if lost[column] { gather.failed(column) } else { gather.arrived(column) }
                }
            }
            prop_assert!(false, "did not end");
        }
    }
}
