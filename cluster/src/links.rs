//! Simulated distance: every call waits for the round trip of light in fibre between two places before it goes out.
//! What is read over it is counted, so that the demo can say what a read cost.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use client::{Call, Intercept, Topology, TransportError};
use format::{NodeName, Place};

/// Light in fibre, there and back, with the detours of real cables: 100 km are 1.5 ms.
const PER_KILOMETRE: Duration = Duration::from_micros(15);

/// Whether distance takes time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Distance {
    /// Calls are as fast as this machine.
    #[default]
    None,
    /// Calls take as long as they would in the world.
    Simulated,
}

/// Makes the calls of one place take as long as the distance says.
pub struct Links {
    topology: Arc<Topology>,
    here: Place,
    distance: Distance,
    pulled: Mutex<BTreeMap<NodeName, u64>>,
}

impl Links {
    /// Makes the links of `here` to all nodes of `topology`.
    #[must_use]
    pub fn new(topology: Arc<Topology>, here: Place, distance: Distance) -> Self {
        Self { topology, here, distance, pulled: Mutex::default() }
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
        Ok(())
    }

    fn shard(&self, node: &NodeName, (): (), body: Bytes) -> Bytes {
        let mut pulled = self.pulled.lock().unwrap_or_else(PoisonError::into_inner);
        *pulled.entry(node.clone()).or_default() += body.len() as u64;
        body
    }
}
