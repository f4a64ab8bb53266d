//! Simulated latency: every call waits for the round-trip time of light in fibre between two places before it is sent.
//! The bytes read are counted, so that the demo can say what a read cost.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use client::{Topology, TransportError};
use format::{NodeName, Place, wire::ChangePage};
use testing::{Call, Intercept};

/// Round-trip time of light in fibre for each kilometre, with the detours of real cables: 1.5 ms for 100 km.
const PER_KILOMETRE: Duration = Duration::from_micros(15);

/// Whether distance adds latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Distance {
    /// No latency is added.
    #[default]
    None,
    /// Calls take as long as they would between the real places.
    Simulated,
}

/// What is wrong with a node, as seen from one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It cannot be reached.
    Down,
    /// It takes this much longer.
    Slow(Duration),
    /// The last bit of each strip that it sends is flipped.
    Flips,
}

/// Delays the calls from one place by the latency of the distance.
pub struct Links {
    topology: Arc<Topology>,
    here: Place,
    distance: Distance,
    pulled: Mutex<BTreeMap<NodeName, u64>>,
    waited_out: AtomicU64,
    troubles: Mutex<BTreeMap<NodeName, Trouble>>,
}

impl Links {
    /// Makes the links of `here` to all nodes of `topology`.
    #[must_use]
    pub fn new(topology: Arc<Topology>, here: Place, distance: Distance) -> Self {
        Self {
            topology,
            here,
            distance,
            pulled: Mutex::default(),
            waited_out: AtomicU64::new(0),
            troubles: Mutex::default(),
        }
    }

    /// Gives a node trouble from now on.
    pub fn trouble(&self, node: NodeName, trouble: Trouble) {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).insert(node, trouble);
    }

    fn trouble_of(&self, node: &NodeName) -> Option<Trouble> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).get(node).copied()
    }

    /// Takes how many questions for news since the last call came to the end of their wait (long poll) without any.
    pub fn take_waited_out(&self) -> u64 {
        self.waited_out.swap(0, Ordering::Relaxed)
    }

    /// Takes the bytes of shards read since the last call, for each node.
    pub fn take_pulled(&self) -> BTreeMap<NodeName, u64> {
        std::mem::take(&mut self.pulled.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Intercept for Links {
    type Pass = ();

    async fn before(&self, node: &NodeName, _: Call) -> Result<(), TransportError> {
        if self.distance == Distance::Simulated {
            let kilometres = self.topology.node(node).map_or(0.0, |entry| self.here.kilometres_to(&entry.place));
            tokio::time::sleep(PER_KILOMETRE.mul_f64(kilometres)).await;
        }
        match self.trouble_of(node) {
            Some(Trouble::Down) => {
                Err(TransportError::Unreachable { node: node.clone(), reason: "made so".to_owned() })
            }
            Some(Trouble::Slow(by)) => {
                tokio::time::sleep(by).await;
                Ok(())
            }
            Some(Trouble::Flips) | None => Ok(()),
        }
    }

    fn shard(&self, node: &NodeName, (): (), body: Bytes) -> Bytes {
        let mut pulled = self.pulled.lock().unwrap_or_else(PoisonError::into_inner);
        *pulled.entry(node.clone()).or_default() += body.len() as u64;
        if self.trouble_of(node) != Some(Trouble::Flips) {
            return body;
        }
        let mut body = body.to_vec();
        body.last_mut().into_iter().for_each(|byte| *byte ^= 1);
        body.into()
    }

    fn changes(&self, _: &NodeName, (): (), page: ChangePage) -> ChangePage {
        if page.changes.is_empty() && !page.reset {
            self.waited_out.fetch_add(1, Ordering::Relaxed);
        }
        page
    }
}
