//! Workers: a thread each with a runtime of its own, which serves connections from the first byte to the last. A worker
//! shares with the others what the node knows, and nothing that is written for each request: its answers, its clock and
//! its date are its own.
//!
//! What takes long, or blocks, runs on the control runtime: looking records up, reading and decoding blocks, fetching
//! and compiling policies.

use std::{
    cell::RefCell,
    sync::Arc,
    time::{Instant, SystemTime},
};

use http::HeaderValue;

use super::shared::HttpDoor;
use crate::{
    answer::{
        head::Head,
        ready::{Answers, Asker, Given, Present, Ready},
        reply::date_at,
    },
    clock,
    node::Node,
    policy::ask::EdgeFacts,
};

/// One worker, on its own thread.
pub(super) struct Worker {
    pub(super) door: Arc<HttpDoor>,
    answers: RefCell<Answers>,
    moment: RefCell<Moment>,
}

/// What changes by the second.
struct Moment {
    seconds: u64,
    edge: EdgeFacts,
    /// The field Date.
    date: HeaderValue,
}

impl Moment {
    fn at(node: &Node, now: SystemTime) -> Self {
        Self { seconds: clock::unix_seconds(now), edge: node.edge_facts(), date: date_at(now) }
    }
}

impl Worker {
    pub(super) fn new(door: Arc<HttpDoor>) -> Self {
        let moment = Moment::at(&door.node, SystemTime::now());
        let config = &door.node.config;
        let share = config.cache.ready_bytes_max / config.http.workers() as u64;
        let answers = Answers::new(usize::try_from(share).unwrap_or(usize::MAX));
        Self { door, answers: RefCell::new(answers), moment: RefCell::new(moment) }
    }

    /// Returns the answer to a request, where one is ready.
    pub(super) fn give(&self, head: &Head<'_>, asker: &Asker, now: Instant) -> Option<Given> {
        let (node, wall) = (&self.door.node, SystemTime::now());
        let mut moment = self.moment.borrow_mut();
        let seconds = clock::unix_seconds(wall);
        if moment.seconds != seconds {
            *moment = Moment::at(node, wall);
        }
        let present = Present { now, seconds, edge: moment.edge };
        self.answers.borrow_mut().give(node, head, asker, &present)
    }

    /// Keeps an answer that was made.
    pub(super) fn keep(&self, host: &str, target: &str, ready: Ready) {
        self.answers.borrow_mut().insert(host, target, ready);
    }

    /// Returns the field Date of the second in which an answer was last looked for.
    pub(super) fn date(&self) -> HeaderValue {
        self.moment.borrow().date.clone()
    }
}
