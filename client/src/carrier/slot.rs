//! The connection to one node, made once for all who ask at a time (single flight). Who waited while an attempt failed
//! shares its failure: a node that is gone costs its callers one deadline, not one after the other.

use std::sync::atomic::{AtomicU64, Ordering};

use format::NodeAddress;
use tokio::sync::Mutex;

use crate::TransportError;

pub(super) struct Slot<C> {
    held: Mutex<Held<C>>,
    /// Attempts that failed.
    failures: AtomicU64,
}

enum Held<C> {
    Nothing,
    Connection(NodeAddress, C),
    /// How the last attempt failed.
    Failure(NodeAddress, TransportError),
}

impl<C> Default for Slot<C> {
    fn default() -> Self {
        Self { held: Mutex::new(Held::Nothing), failures: AtomicU64::new(0) }
    }
}

impl<C: Clone> Slot<C> {
    /// Returns the connection to `address` while it is open, else what `connect` makes of it, which ends in bounded
    /// time. Cancel safe: when the caller who connects leaves, the next one begins anew.
    ///
    /// # Errors
    /// That of `connect`, of this caller's attempt or of one that failed since this call began.
    pub(super) async fn connection(
        &self,
        address: &NodeAddress,
        is_open: impl Fn(&C) -> bool,
        connect: impl Future<Output = Result<C, TransportError>>,
    ) -> Result<C, TransportError> {
        let failures = self.failures.load(Ordering::Acquire);
        let mut held = self.held.lock().await;
        match &*held {
            Held::Connection(to, connection) if to == address && is_open(connection) => return Ok(connection.clone()),
            Held::Failure(to, error) if to == address && self.failures.load(Ordering::Acquire) != failures => {
                return Err(error.clone());
            }
            _ => {}
        }
        let connected = connect.await;
        *held = match &connected {
            Ok(connection) => Held::Connection(address.clone(), connection.clone()),
            Err(error) => {
                self.failures.fetch_add(1, Ordering::Release);
                Held::Failure(address.clone(), error.clone())
            }
        };
        connected
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::join_all;
    use tokio::time::{sleep, timeout};

    use super::*;

    /// A node that answers nobody, and counts who tries.
    #[derive(Default)]
    struct Gone {
        slot: Slot<()>,
        attempts: AtomicU64,
    }

    const DEADLINE: Duration = Duration::from_secs(3);

    impl Gone {
        async fn call(&self, address: &str) -> Result<(), TransportError> {
            let connect = async {
                self.attempts.fetch_add(1, Ordering::Relaxed);
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
    async fn a_caller_who_leaves_while_connecting_takes_nobody_elses_attempt_away() {
        let gone = Gone::default();
        let leaving = timeout(DEADLINE / 2, gone.call("10.0.0.1:1"));
        let (left, stayed) = tokio::join!(leaving, gone.call("10.0.0.1:1"));
        assert!(left.is_err() && stayed.is_err());
        assert_eq!(gone.attempts(), 2);
        assert!(gone.slot.connection(&"10.0.0.1:1".parse().unwrap(), |()| true, async { Ok(()) }).await.is_ok());
        assert!(gone.call("10.0.0.1:1").await.is_ok(), "one connection for all");
    }
}
