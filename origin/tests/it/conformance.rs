//! A real origin, over mutual TLS and HTTP/2, keeps what every node promises.

use std::sync::Arc;

use client::Transport;
use format::{NodeName, wire::Role};
use testing::conformance::Stage;

use crate::world::World;

const UPLOADS_MAX: usize = 8;

impl Stage for World {
    fn node(&self) -> NodeName {
        self.name(1)
    }

    fn caller(&self, name: &str, role: Role) -> Arc<dyn Transport> {
        Arc::new(World::caller(self, name, role))
    }

    fn uploads_max(&self) -> usize {
        UPLOADS_MAX
    }

    async fn end(self) {
        World::end(self).await;
    }
}

async fn start() -> World {
    World::start(1, &format!("limits.uploads_max = {UPLOADS_MAX}")).await
}

testing::conformance!(start);
