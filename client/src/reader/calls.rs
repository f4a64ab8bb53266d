//! Strips that are on their way from nodes: who wants one that somebody else has asked the same node for joins that
//! call (single flight).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use format::NodeName;
use futures::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};

use crate::{ShardAsk, Transport, TransportError};

type Answer = BoxFuture<'static, Result<Bytes, TransportError>>;
type Key = (NodeName, ShardAsk);

/// The calls under way.
#[derive(Default)]
pub(super) struct Calls(Mutex<HashMap<Key, WeakShared<Answer>>>);

/// A call, and its answer for as long as this lives: who comes before the answer lies where it is kept finds it here.
pub(super) struct Joined<'c> {
    calls: &'c Calls,
    key: Key,
    call: Option<Shared<Answer>>,
}

impl Calls {
    /// Joins the call for a strip, or begins it.
    pub(super) fn join(&self, transport: &Arc<dyn Transport>, node: &NodeName, ask: ShardAsk) -> Joined<'_> {
        let key = (node.clone(), ask);
        let mut calls = self.calls();
        let call = calls.get(&key).and_then(WeakShared::upgrade).unwrap_or_else(|| {
            let (transport, node) = (Arc::clone(transport), node.clone());
            let call = async move { transport.read_shard(&node, ask).await }.boxed().shared();
            calls.extend(call.downgrade().map(|weak| (key.clone(), weak)));
            call
        });
        Joined { calls: self, key, call: Some(call) }
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<Key, WeakShared<Answer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Joined<'_> {
    /// Waits for the answer. Cancel safe; the call goes on for the others.
    pub(super) async fn answer(&self) -> Result<Bytes, TransportError> {
        match &self.call {
            Some(call) => call.clone().await,
            None => Err(TransportError::Unknown { node: self.key.0.clone() }),
        }
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
