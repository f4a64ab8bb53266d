//! How a node is told to stop: Ctrl-C, or SIGTERM as service managers send it.

use anyhow::Context;
use tokio::signal;

/// Waits for either.
pub(crate) async fn stop() -> anyhow::Result<()> {
    #[cfg(unix)]
    {
        let mut terminate =
            signal::unix::signal(signal::unix::SignalKind::terminate()).context("SIGTERM cannot be awaited")?;
        tokio::select! {
            pressed = signal::ctrl_c() => pressed.context("Ctrl-C cannot be awaited"),
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    signal::ctrl_c().await.context("Ctrl-C cannot be awaited")
}
