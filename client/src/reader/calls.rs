//! Strips that are on their way from nodes: who wants one that somebody else has asked the same node for joins that
//! call (single flight).

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use format::NodeName;
use futures::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use tokio::time::Instant;

use crate::{ShardAsk, Transport, TransportError};

type Call = BoxFuture<'static, Answer>;
type Key = (NodeName, ShardAsk);

/// What a call came to; all who joined have the same.
#[derive(Clone)]
pub(super) struct Answer {
    pub(super) body: Result<Bytes, TransportError>,
    pub(super) begun: Instant,
    /// From the beginning of the call, whenever somebody joined it.
    pub(super) took: Duration,
    is_noted: Arc<AtomicBool>,
}

impl Answer {
    /// Whether nobody noted before what it says of its node: that is noted once, however many joined.
    pub(super) fn is_first(&self) -> bool {
        !self.is_noted.swap(true, Ordering::Relaxed)
    }
}

/// The calls under way.
#[derive(Default)]
pub(super) struct Calls(Mutex<HashMap<Key, WeakShared<Call>>>);

/// A call, and its answer for as long as this lives: who comes before the answer lies where it is kept finds it here.
pub(super) struct Joined<'c> {
    calls: &'c Calls,
    key: Key,
    call: Option<Shared<Call>>,
}

impl Calls {
    /// Joins the call for a strip, or begins it.
    pub(super) fn join(&self, transport: &Arc<dyn Transport>, node: &NodeName, ask: ShardAsk) -> Joined<'_> {
        let key = (node.clone(), ask);
        let mut calls = self.calls();
        let call = calls.get(&key).and_then(WeakShared::upgrade).unwrap_or_else(|| {
            let (transport, node) = (Arc::clone(transport), node.clone());
            let call = async move {
                let begun = Instant::now();
                let body = transport.read_shard(&node, ask).await;
                Answer { body, begun, took: begun.elapsed(), is_noted: Arc::default() }
            };
            let call = call.boxed().shared();
            calls.extend(call.downgrade().map(|weak| (key.clone(), weak)));
            call
        });
        Joined { calls: self, key, call: Some(call) }
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<Key, WeakShared<Call>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Joined<'_> {
    /// Waits for the answer. Cancel safe; the call goes on for the others.
    pub(super) async fn answer(&self) -> Option<Answer> {
        Some(self.call.clone()?.await)
    }
}

impl Drop for Joined<'_> {
    fn drop(&mut self) {
        let mut calls = self.calls.calls();
        self.call = None;
        if calls.get(&self.key).is_some_and(|call| call.upgrade().is_none()) {
            calls.remove(&self.key);
        }
    }
}
