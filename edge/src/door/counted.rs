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
    taken: [Arc<AtomicU64>; 2],
}

impl Counted {
    /// Adds whatever is taken of the piece to both numbers: that of its connection, and that of its answer.
    pub(super) fn new(piece: Bytes, taken: [&Arc<AtomicU64>; 2]) -> Self {
        Self { piece, taken: taken.map(Arc::clone) }
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
        for taken in &self.taken {
            taken.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        self.piece.advance(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_counts_and_what_is_dropped_does_not() {
        let (of_connection, of_answer) = (Arc::new(AtomicU64::new(10)), Arc::default());
        let taken = || [&of_connection, &of_answer].map(|taken| taken.load(Ordering::Relaxed));
        let mut piece = Counted::new(Bytes::from_static(b"content"), [&of_connection, &of_answer]);
        piece.advance(3);
        assert_eq!((piece.remaining(), piece.chunk(), taken()), (4, &b"tent"[..], [13, 3]));
        drop(piece);
        assert_eq!(taken(), [13, 3]);
    }
}
