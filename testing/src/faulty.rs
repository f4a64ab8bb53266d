//! A transport whose nodes are down, late or lying, as a test wants it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use client::{Transport, TransportError};
use format::NodeName;

use crate::{Call, Intercept, Intercepted};

/// What a [`FaultyTransport`] does to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The node cannot be reached.
    Down,
    /// The call takes this much longer.
    Late(Duration),
    /// One bit of the answer of a shard read is flipped.
    Flip,
}

type FaultOf = dyn Fn(&NodeName) -> Fault + Send + Sync;

/// The faults of a [`FaultyTransport`]: asked once for each call.
pub struct Faults(Box<FaultOf>);

/// A transport with faults.
pub type FaultyTransport = Intercepted<Faults>;

impl FaultyTransport {
    /// Wraps `inner`.
    pub fn new<T: Transport>(inner: Arc<T>, fault: impl Fn(&NodeName) -> Fault + Send + Sync + 'static) -> Self {
        Self::over(inner, Faults(Box::new(fault)))
    }
}

#[async_trait]
impl Intercept for Faults {
    type Pass = Fault;

    async fn before(&self, node: &NodeName, _: Call) -> Result<Fault, TransportError> {
        let fault = (self.0)(node);
        match fault {
            Fault::Down => Err(TransportError::Unreachable { node: node.clone(), reason: "made so".to_owned() }),
            Fault::Late(by) => {
                tokio::time::sleep(by).await;
                Ok(fault)
            }
            Fault::None | Fault::Flip => Ok(fault),
        }
    }

    fn shard(&self, _: &NodeName, fault: Fault, body: Bytes) -> Bytes {
        let mut body = body.to_vec();
        if fault == Fault::Flip
            && let Some(byte) = body.last_mut()
        {
            *byte ^= 1;
        }
        body.into()
    }
}
