//! What the opening of a catalog could not do yet, and every call needs.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::BoxFuture;

use crate::catalog::OpenError;

/// Work that is tried before each call until it is done. Calls that come together may do it at the same time.
pub(in crate::catalog) struct Late {
    work: Box<dyn Fn() -> BoxFuture<'static, Result<(), OpenError>> + Send + Sync>,
    is_done: AtomicBool,
}

impl Late {
    pub(in crate::catalog) fn new(
        work: impl Fn() -> BoxFuture<'static, Result<(), OpenError>> + Send + Sync + 'static,
    ) -> Self {
        Self { work: Box::new(work), is_done: AtomicBool::new(false) }
    }

    /// Does it, unless it is done.
    ///
    /// # Errors
    /// Why it cannot be done now.
    pub(super) async fn catch_up(&self) -> Result<(), OpenError> {
        if !self.is_done.load(Ordering::Acquire) {
            (self.work)().await?;
            self.is_done.store(true, Ordering::Release);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::ready,
        sync::{Arc, atomic::AtomicU32},
    };

    use super::*;

    #[tokio::test]
    async fn work_is_tried_until_it_is_done_and_then_never_again() {
        let tries = Arc::new(AtomicU32::new(0));
        let counted = tries.clone();
        let late = Late::new(move || {
            let is_first = counted.fetch_add(1, Ordering::Relaxed) == 0;
            Box::pin(ready(if is_first { Err(OpenError::Slow { seconds: 1 }) } else { Ok(()) }))
        });
        assert!(late.catch_up().await.is_err());
        late.catch_up().await.unwrap();
        late.catch_up().await.unwrap();
        assert_eq!(tries.load(Ordering::Relaxed), 2);
    }
}
