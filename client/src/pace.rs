//! The response times of each node, from its recent answers. The gather plans with them.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use format::{NodeName, Place};
use tokio::time::Instant;

/// Number of recent answers remembered for each node.
const SAMPLES: usize = 64;
/// After an answer that was wrong or missing, a node is asked last for this long (back-off).
const DISTRUST: Duration = Duration::from_secs(30);
/// Each further wrong answer doubles that time, at most this often: 30 s grows to 64 minutes.
const DOUBLINGS_MAX: u32 = 7;
/// A node counts as stalling (it "drips") when hedged requests replaced it twice, at least this long apart, and it
/// answered nothing in between. Honest nodes exceed their own p95 in 5 % of answers too, but their other answers arrive
/// in between and reset the count.
const SILENCE: Duration = Duration::from_millis(300);
/// A stalling node is asked last for this long. Each time it stalls again doubles this, up to 4 h 16 min.
const DRIP_DISTRUST: Duration = Duration::from_secs(120);
/// What an asked strip costs a neighbour that did not bring it though its node gives it, what one that came makes good,
/// and at what sum the neighbour is asked no more for a while: after eight in vain, or when one in four is.
const VAIN_COST: u32 = 3;
const BROUGHT_WORTH: u32 = 1;
const VAIN_MAX: u32 = 24;
/// After this many right answers, one wrong answer is forgotten.
const RIGHT_FOR_WRONG: u32 = 64;
/// The estimate for a node without answers: the round-trip time of light in fibre with detours, per kilometre, plus the
/// node's own time.
const PER_KILOMETRE: Duration = Duration::from_micros(15);
const AT_FIRST: Duration = Duration::from_millis(5);
/// No answer is doubted before this time. Below it, the timers of a busy machine are noise.
const DOUBT_AFTER_MIN: Duration = Duration::from_millis(30);

#[derive(Debug, Default)]
struct Answers {
    times: Vec<Duration>,
    next: usize,
    distrusted_until: Option<Instant>,
    wrong: u32,
    right: u32,
    /// When the node was first late since its last answer, and how often it was distrusted for that.
    late_since: Option<Instant>,
    drips: u32,
    /// What was asked for in vain, less what came.
    vain: u32,
}

impl Answers {
    /// From now on the node is asked last for `first`. `times` counts the reasons so far: each one after the first
    /// doubles that time, at most `DOUBLINGS_MAX` times.
    fn distrust(&mut self, first: Duration, times: u32, now: Instant) {
        let doublings = times.saturating_sub(1).min(DOUBLINGS_MAX);
        self.distrusted_until = self.distrusted_until.max(Some(now + first * (1 << doublings)));
    }

    fn heard(&mut self) {
        (self.late_since, self.drips) = (None, 0);
    }
}

/// How a node failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It did not answer.
    Silent,
    /// It answered with wrong bytes: its disk is bad, or it lies.
    Wrong,
}

/// The response times and failures of all nodes.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    nodes: Mutex<HashMap<NodeName, Answers>>,
}

/// The expected response time of a node, and the time after which it is doubted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expectation {
    pub(crate) expected: Duration,
    pub(crate) doubted_after: Duration,
}

impl Pace {
    pub(crate) fn answered(&self, node: &NodeName, took: Duration) {
        self.with(node, |answers| {
            if answers.times.len() < SAMPLES {
                answers.times.push(took);
            } else {
                answers.times[answers.next] = took;
            }
            answers.next = (answers.next + 1) % SAMPLES;
            answers.heard();
            answers.right += 1;
            if answers.right >= RIGHT_FOR_WRONG {
                answers.right = 0;
                answers.wrong = answers.wrong.saturating_sub(1);
            }
        });
    }

    /// Notes an answer that was wrong or missing. Returns the number of wrong answers remembered.
    pub(crate) fn failed(&self, node: &NodeName, how: Failure, now: Instant) -> u32 {
        self.with(node, |answers| {
            if how == Failure::Wrong {
                answers.wrong = answers.wrong.saturating_add(1);
                answers.right = 0;
            }
            answers.distrust(DISTRUST, answers.wrong, now);
            answers.wrong
        })
    }

    /// Notes a straggler: the node was doubted and had still not answered when its answer was no longer needed. A node
    /// that does this again and again is asked last for longer each time, so a stalling node hardly affects the p99 of
    /// reads.
    pub(crate) fn late(&self, node: &NodeName, now: Instant) {
        self.with(node, |answers| {
            let since = *answers.late_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= SILENCE {
                answers.drips = answers.drips.saturating_add(1);
                answers.distrust(DRIP_DISTRUST, answers.drips, now);
            }
        });
    }

    /// Notes that a neighbour did not bring what its node then gave: it refused, or was late, whatever it brought in
    /// between.
    pub(crate) fn in_vain(&self, neighbour: &NodeName, now: Instant) {
        self.with(neighbour, |answers| {
            answers.vain += VAIN_COST;
            if answers.vain >= VAIN_MAX {
                answers.vain = 0;
                answers.distrust(DISTRUST, 1, now);
            }
        });
    }

    /// Notes that a neighbour brought a strip.
    pub(crate) fn brought(&self, neighbour: &NodeName) {
        self.with(neighbour, |answers| answers.vain = answers.vain.saturating_sub(BROUGHT_WORTH));
    }

    /// Notes that an answer arrived that says nothing about strips.
    pub(crate) fn on_time(&self, node: &NodeName) {
        self.with(node, Answers::heard);
    }

    /// Returns the expected response time of a node. Without any answers yet, the estimate comes from the distance.
    pub(crate) fn expect(&self, node: &NodeName, kilometres: f64, now: Instant) -> Expectation {
        let by_distance = AT_FIRST + PER_KILOMETRE.mul_f64(kilometres.clamp(0.0, 20_100.0));
        self.with(node, |answers| {
            let mut times = answers.times.clone();
            times.sort_unstable();
            let median = times.get(times.len() / 2).copied().unwrap_or(by_distance);
            let slowest = times.get(times.len() * 95 / 100).copied().unwrap_or(by_distance * 3);
            let distrusted = answers.distrusted_until.is_some_and(|until| now < until);
            Expectation {
                expected: if distrusted { median + DISTRUST } else { median },
                doubted_after: slowest.max(median * 2).max(DOUBT_AFTER_MIN),
            }
        })
    }

    /// Returns whether a node is asked last for a while, because it failed, lied or was late.
    pub(crate) fn distrusts(&self, node: &NodeName, now: Instant) -> bool {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.get(node).and_then(|answers| answers.distrusted_until).is_some_and(|until| now < until)
    }

    fn with<T>(&self, node: &NodeName, act: impl FnOnce(&mut Answers) -> T) -> T {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        match nodes.get_mut(node) {
            Some(answers) => act(answers),
            None => act(nodes.entry(node.clone()).or_default()),
        }
    }
}

/// Returns the distance to a node in kilometres. If its place is unknown: 10,000 km, half the greatest distance on
/// Earth.
pub(crate) fn kilometres(here: &Place, node: Option<&format::wire::NodeEntry>) -> f64 {
    node.map_or(10_000.0, |node| here.kilometres_to(&node.place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expects_by_distance_then_by_answers_and_distrusts_after_a_failure() {
        let pace = Pace::default();
        let (node, now) = ("o1".parse().unwrap(), Instant::now());
        assert!(pace.expect(&node, 9000.0, now).expected > pace.expect(&node, 100.0, now).expected);
        (0..200).for_each(|_| pace.answered(&node, Duration::from_millis(7)));
        assert_eq!(pace.expect(&node, 9000.0, now).expected, Duration::from_millis(7));
        assert_eq!(pace.failed(&node, Failure::Silent, now), 0);
        assert!(pace.expect(&node, 0.0, now).expected > DISTRUST);
        assert_eq!(pace.expect(&node, 0.0, now + DISTRUST).expected, Duration::from_millis(7));
    }

    #[test]
    fn who_is_late_again_and_was_not_heard_of_meanwhile_is_asked_last() {
        let pace = Pace::default();
        let (node, now) = ("o1".parse().unwrap(), Instant::now());
        let distrusted_at = |time| pace.expect(&node, 0.0, now + time).expected > DISTRUST;
        for number in 0..3 {
            pace.late(&node, now + SILENCE * number);
            pace.answered(&node, Duration::from_millis(7));
        }
        // Many late answers at once count as one hiccup.
        (0..9).for_each(|_| pace.late(&node, now + SILENCE * 3));
        assert!(!distrusted_at(SILENCE * 3));
        pace.late(&node, now + SILENCE * 4);
        let until = SILENCE * 4 + DRIP_DISTRUST;
        assert!(distrusted_at(until - SILENCE) && !distrusted_at(until));
        pace.late(&node, now + until);
        assert!(distrusted_at(until + DRIP_DISTRUST * 2 - SILENCE) && !distrusted_at(until + DRIP_DISTRUST * 2));
        pace.on_time(&node);
        pace.late(&node, now + until * 9);
        assert!(!distrusted_at(until * 9));
    }

    #[test]
    fn a_neighbour_is_left_out_when_more_than_one_strip_in_four_is_asked_of_it_in_vain() {
        let (pace, now) = (Pace::default(), Instant::now());
        let [bad, good, refuses]: [NodeName; 3] = ["e1", "e2", "e3"].map(|name| name.parse().unwrap());
        for _ in 0..100 {
            pace.in_vain(&bad, now);
            (0..2).for_each(|_| pace.brought(&bad));
            pace.in_vain(&good, now);
            (0..3).for_each(|_| pace.brought(&good));
        }
        assert!(pace.distrusts(&bad, now) && !pace.distrusts(&good, now));
        (0..7).for_each(|_| pace.in_vain(&refuses, now));
        assert!(!pace.distrusts(&refuses, now));
        pace.in_vain(&refuses, now);
        assert!(pace.distrusts(&refuses, now) && !pace.distrusts(&refuses, now + DISTRUST));
    }

    #[test]
    fn who_goes_on_lying_is_asked_last_for_ever_longer() {
        let pace = Pace::default();
        let (node, now) = ("o1".parse().unwrap(), Instant::now());
        (0..64).for_each(|_| pace.answered(&node, Duration::from_millis(7)));
        let distrusted_after = |time| pace.expect(&node, 0.0, now + time).expected > DISTRUST;
        assert_eq!(pace.failed(&node, Failure::Wrong, now), 1);
        assert!(distrusted_after(DISTRUST / 2) && !distrusted_after(DISTRUST));
        for wrong in 2..=10 {
            assert_eq!(pace.failed(&node, Failure::Wrong, now), wrong);
        }
        assert!(distrusted_after(DISTRUST * 127) && !distrusted_after(DISTRUST * 128));
        // Right answers slowly restore trust.
        (0..64 * 9).for_each(|_| pace.answered(&node, Duration::from_millis(7)));
        assert_eq!(pace.failed(&node, Failure::Wrong, now), 2);
    }
}
