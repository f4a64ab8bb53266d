//! Keeps the list of nodes of a long command new: nodes move, come and go while a large file is stored.

use std::{sync::Arc, time::Duration};

use client::{Topology, Transport};
use format::Place;
use tokio::{task::JoinHandle, time::sleep};

use crate::learn::refresh;

/// Between two looks at the list. A node that is gone is noticed after this and its silence.
const EVERY: Duration = Duration::from_secs(60);

/// The task that asks. It ends when this is dropped.
pub(crate) struct Refresh(JoinHandle<()>);

impl Refresh {
    /// Asks the nearest origins each minute.
    pub(crate) fn start(transport: Arc<dyn Transport>, topology: Arc<Topology>, here: Place) -> Self {
        Self(tokio::spawn(async move {
            loop {
                sleep(EVERY).await;
                // Who failed was logged.
                let _ = refresh(&*transport, &topology, &topology.origins_by_distance(&here)).await;
            }
        }))
    }
}

impl Drop for Refresh {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use testing::{MemoryTransport, node, place};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_node_that_comes_is_known_within_a_minute_though_the_nearest_is_away() {
        let known = [node("o1", place("z1")), node("o2", place("z1"))];
        let all = [&known[..], &[node("o3", place("z2"))]].concat();
        let memory = Arc::new(MemoryTransport::new(&all));
        let topology = Arc::new(Topology::new(known.to_vec()));
        memory.remove(&topology.origins_by_distance(&place("z1"))[0]);
        let task = Refresh::start(memory, topology.clone(), place("z1"));
        assert_eq!(topology.origins().len(), 2);
        sleep(EVERY + Duration::from_secs(1)).await;
        assert_eq!(topology.origins().len(), 3);
        drop(task);
    }
}
