//! A connection whose other side has to take what is written: some byte within the time that a body has for one, and
//! then at the least pace. Else it is broken off, so that nobody holds answers in memory.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use crate::pace::Pace;

/// A connection with a deadline for writes.
pub(crate) struct Paced<S> {
    stream: S,
    idle: Duration,
    least: u64,
    pace: Pace,
    /// Since when the other side takes nothing, and how long it may.
    stalled: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<S> Paced<S> {
    /// Bounds what a connection waits: `idle` for a byte, and for `least` bytes a second.
    pub(crate) fn new(stream: S, idle: Duration, least: u64) -> Self {
        Self { stream, idle, least, pace: Pace::default(), stalled: None }
    }

    pub(crate) fn into_inner(self) -> S {
        self.stream
    }

    fn written(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Pending => {
                let wait = self.idle.min(self.pace.left(1));
                let (_, deadline) = self.stalled.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(wait))));
                deadline.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Ready(result) => {
                let waited = self.stalled.take().map_or(Duration::ZERO, |(since, _)| since.elapsed());
                self.pace.count(waited, result.as_ref().map_or(0, |bytes| *bytes as u64), self.least);
                Poll::Ready(result)
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.written(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_takes_nothing_or_a_trickle_of_an_answer_is_gone_and_whoever_keeps_the_pace_gets_it() {
        let idle = Duration::from_secs(30);
        for (every, expected) in
            [(None, false), (Some(Duration::from_secs(10)), false), (Some(Duration::from_secs(1)), true)]
        {
            let (ours, mut theirs) = duplex(1000);
            let reading = async {
                let mut some = [0; 1000];
                let Some(every) = every else { return std::future::pending().await };
                loop {
                    sleep(every).await;
                    theirs.read_exact(&mut some).await.unwrap();
                }
            };
            let mut paced = Paced::new(ours, idle, 1000);
            let begun = Instant::now();
            let written = tokio::select! {
                written = paced.write_all(&[0; 100_000]) => written,
                () = reading => unreachable!(),
            };
            assert_eq!(written.is_ok(), expected, "{every:?}");
            assert!(expected || begun.elapsed() <= Duration::from_secs(90), "{every:?}");
        }
    }
}
