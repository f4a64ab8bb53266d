//! Content on its way to QUIC, which tells how much of it was taken: a connection's own numbers count what acknowledges
//! pings among what was sent.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::{Buf, Bytes};

/// A piece of content.
pub(super) struct Counted {
    piece: Bytes,
    taken: Arc<AtomicU64>,
}

impl Counted {
    /// Adds to `taken` whatever is taken of the piece.
    pub(super) fn new(piece: Bytes, taken: &Arc<AtomicU64>) -> Self {
        Self { piece, taken: Arc::clone(taken) }
    }
}

impl Buf for Counted {
    fn remaining(&self) -> usize {
        self.piece.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.piece.chunk()
    }

    fn advance(&mut self, bytes: usize) {
        self.taken.fetch_add(bytes as u64, Ordering::Relaxed);
        self.piece.advance(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_counts_and_what_is_dropped_does_not() {
        let taken = Arc::default();
        let mut piece = Counted::new(Bytes::from_static(b"content"), &taken);
        piece.advance(3);
        assert_eq!((piece.remaining(), piece.chunk(), taken.load(Ordering::Relaxed)), (4, &b"tent"[..], 3));
        drop(piece);
        assert_eq!(taken.load(Ordering::Relaxed), 3);
    }
}
