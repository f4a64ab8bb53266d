//! Blocking or long CPU work, moved off the async reactor.

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::{JoinError, spawn_blocking},
};

/// Runs work on a thread where it blocks no other task. On a single-threaded runtime the work runs at once, so the
/// order of events depends on nothing outside, and tests in virtual time are deterministic. If the future is dropped,
/// work that has begun runs to its end; other work never begins.
///
/// # Errors
/// [`JoinError`] if the work panicked, or if the runtime ended before the work began.
pub async fn offload<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => Ok(work()),
        _ => spawn_blocking(work).await,
    }
}
