//! The connection to one node, made once for all who ask at a time (single flight), and beside them: who leaves while
//! it is made finds it made later. Who waited while an attempt failed shares its failure: a node that is gone costs its
//! callers one deadline, not one after the other.

use std::sync::{Mutex, PoisonError};

use format::NodeAddress;
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};

use crate::TransportError;

type Attempt<C> = Shared<BoxFuture<'static, Result<C, TransportError>>>;

/// The last attempt to connect, and the address that it was for.
pub(super) struct Slot<C: Clone>(Mutex<Option<(NodeAddress, Attempt<C>)>>);

impl<C: Clone> Default for Slot<C> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<C: Clone + Send + Sync + 'static> Slot<C> {
    /// Returns the connection to `address` while it is open, else what `connect` makes of it, which ends in bounded
    /// time. Cancel safe: the attempt goes on.
    ///
    /// # Errors
    /// That of an attempt that was under way, or of a new one.
    pub(super) async fn connection(
        &self,
        address: &NodeAddress,
        is_open: impl Fn(&C) -> bool,
        connect: impl Future<Output = Result<C, TransportError>> + Send + 'static,
    ) -> Result<C, TransportError> {
        self.attempt(address, is_open, connect).await
    }

    fn attempt(
        &self,
        address: &NodeAddress,
        is_open: impl Fn(&C) -> bool,
        connect: impl Future<Output = Result<C, TransportError>> + Send + 'static,
    ) -> Attempt<C> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, attempt)) = last.as_ref().filter(|(to, _)| to == address) {
            match attempt.peek() {
                Some(Err(_)) => {}
                Some(Ok(connection)) if !is_open(connection) => {}
                _ => return attempt.clone(),
            }
        }
        let attempt = connect.boxed().shared();
        tokio::spawn(attempt.clone());
        *last = Some((address.clone(), attempt.clone()));
        attempt
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicU64, Ordering},
        },
        time::Duration,
    };

    use futures::future::join_all;
    use tokio::time::{sleep, timeout};

    use super::*;

    /// A node that answers nobody, and counts who tries.
    #[derive(Default)]
    struct Gone {
        slot: Slot<()>,
        attempts: Arc<AtomicU64>,
    }

    const DEADLINE: Duration = Duration::from_secs(3);

    impl Gone {
        async fn call(&self, address: &str) -> Result<(), TransportError> {
            let attempts = Arc::clone(&self.attempts);
            let connect = async move {
                attempts.fetch_add(1, Ordering::Relaxed);
                sleep(DEADLINE).await;
                Err(TransportError::TimedOut { node: "o1".parse().unwrap() })
            };
            self.slot.connection(&address.parse().unwrap(), |()| true, connect).await
        }

        fn attempts(&self) -> u64 {
            self.attempts.load(Ordering::Relaxed)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_while_an_attempt_fails_shares_its_failure_and_who_comes_later_tries_again() {
        let gone = Gone::default();
        assert!(join_all((0..100).map(|_| gone.call("10.0.0.1:1"))).await.iter().all(Result::is_err));
        assert_eq!(gone.attempts(), 1);
        gone.call("10.0.0.1:1").await.unwrap_err();
        assert_eq!(gone.attempts(), 2, "what failed before the call began says nothing of now");
        // The node moved meanwhile: nobody tried its new address yet.
        let (before, after) = tokio::join!(gone.call("10.0.0.1:1"), gone.call("10.0.0.2:1"));
        assert!(before.is_err() && after.is_err());
        assert_eq!(gone.attempts(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_goes_on_when_all_who_waited_for_it_have_left() {
        let (slot, attempts) = (Slot::default(), Arc::new(AtomicU64::new(0)));
        let call = || {
            let attempts = Arc::clone(&attempts);
            let connect = async move {
                attempts.fetch_add(1, Ordering::Relaxed);
                sleep(DEADLINE / 2).await;
                Ok(())
            };
            let address = "10.0.0.1:1".parse().unwrap();
            let slot = &slot;
            async move { slot.connection(&address, |()| true, connect).await }
        };
        for _ in 0..2 {
            assert!(timeout(DEADLINE / 5, call()).await.is_err(), "its patience is shorter than the way");
        }
        sleep(DEADLINE).await;
        assert!(timeout(Duration::ZERO, call()).await.is_ok(), "the connection is there");
        assert_eq!(attempts.load(Ordering::Relaxed), 1);
        // What failed while nobody waited is tried again.
        let gone = Gone::default();
        assert!(timeout(DEADLINE / 2, gone.call("10.0.0.1:1")).await.is_err());
        sleep(DEADLINE).await;
        assert!(gone.call("10.0.0.1:1").await.is_err());
        assert_eq!(gone.attempts(), 2);
    }
}
