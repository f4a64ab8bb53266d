//! The nodes in memory keep what every node promises.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::sync::Arc;

use client::Transport;
use format::{NodeName, wire::Role};
use testing::{MemoryTransport, conformance::Stage, node, place};

struct Memory(MemoryTransport);

impl Stage for Memory {
    fn node(&self) -> NodeName {
        "o1".parse().unwrap()
    }

    fn caller(&self, name: &str, role: Role) -> Arc<dyn Transport> {
        Arc::new(self.0.caller(name, role))
    }

    fn uploads_max(&self) -> usize {
        MemoryTransport::UPLOADS_MAX
    }

    async fn end(self) {}
}

async fn start() -> Memory {
    Memory(MemoryTransport::new(&[node("o1", place("z1"))]))
}

testing::conformance!(start);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_who_makes_things_up_harms_no_object() {
    testing::siege::withstand(&start().await, 1, testing::mutations(3_000)).await;
}
