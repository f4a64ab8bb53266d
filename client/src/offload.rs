//! Work that blocks or computes for long, off the reactor.

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::{JoinError, spawn_blocking},
};

/// Runs work on a thread where it holds nobody up. On a runtime of one thread it runs at once: the order of events
/// depends on nothing outside then, so that tests in virtual time come out the same every time. Dropped, it runs to its
/// end or has not begun.
///
/// # Errors
/// [`JoinError`] when the work panicked, or the runtime ends before it began.
pub async fn offload<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => Ok(work()),
        _ => spawn_blocking(work).await,
    }
}
