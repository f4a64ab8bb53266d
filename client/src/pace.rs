//! How fast each node answers, from its last answers: what the gather plans by.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use format::{NodeName, Place};
use tokio::time::Instant;

/// Answers of a node that are remembered.
const SAMPLES: usize = 64;
/// After an answer that was wrong or did not come, a node is asked last for this long.
const DISTRUST: Duration = Duration::from_secs(30);
/// Each further wrong answer doubles that, so many times at most: one and a half hours.
const DOUBLINGS_MAX: u32 = 7;
/// A node that others stood in for, and that was not heard of for so long when they did so again, drips: five in a
/// hundred answers of honest ones are doubted, but others of theirs come meanwhile.
const SILENCE: Duration = Duration::from_millis(300);
/// One that drips is asked last for this long, doubled each time that it goes on when it is asked again.
const DRIP_DISTRUST: Duration = Duration::from_secs(120);
/// So many right answers make one wrong one forgotten.
const RIGHT_FOR_WRONG: u32 = 64;
/// Answers of light in fibre with detours, per kilometre there and back, and what a node itself takes at first.
const PER_KILOMETRE: Duration = Duration::from_micros(15);
const AT_FIRST: Duration = Duration::from_millis(5);
/// No answer is doubted before this: below it the clock of a busy machine is noise.
const DOUBT_AFTER_MIN: Duration = Duration::from_millis(30);

#[derive(Debug, Default)]
struct Answers {
    times: Vec<Duration>,
    next: usize,
    distrusted_until: Option<Instant>,
    wrong: u32,
    right: u32,
    /// When a node was late first since it was last heard of, and how often it was distrusted for that.
    late_since: Option<Instant>,
    drips: u32,
}

impl Answers {
    /// Asked last from now on, for `first`; doubled for each of the `times` before that the node gave reason to.
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

/// Remembered answering times of all nodes.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    nodes: Mutex<HashMap<NodeName, Answers>>,
}

/// What to expect of a node.
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

    /// Notes an answer that was wrong or did not come. Returns how many wrong ones are remembered.
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

    /// Notes that a node was doubted and had not answered when it was no longer needed. Who does that again and again
    /// is asked last for ever longer, so that one that drips costs little even of the slowest hundredth of reads.
    pub(crate) fn late(&self, node: &NodeName, now: Instant) {
        self.with(node, |answers| {
            let since = *answers.late_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= SILENCE {
                answers.drips = answers.drips.saturating_add(1);
                answers.distrust(DRIP_DISTRUST, answers.drips, now);
            }
        });
    }

    /// Notes an answer that says nothing about strips, and came.
    pub(crate) fn on_time(&self, node: &NodeName) {
        self.with(node, Answers::heard);
    }

    /// Returns what to expect of a node; by distance as long as it has not answered.
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

    fn with<T>(&self, node: &NodeName, act: impl FnOnce(&mut Answers) -> T) -> T {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        match nodes.get_mut(node) {
            Some(answers) => act(answers),
            None => act(nodes.entry(node.clone()).or_default()),
        }
    }
}

/// Distance of a node from here, or half the world when it is not known.
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
        // Many at once are one hiccup.
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
        // Right answers win trust back, slowly.
        (0..64 * 9).for_each(|_| pace.answered(&node, Duration::from_millis(7)));
        assert_eq!(pace.failed(&node, Failure::Wrong, now), 2);
    }
}
