//! Foreign bytes as a liar makes them up: good messages that are cut, flipped, spliced and swapped for others.

use bytes::Bytes;
use fastrand::Rng;

/// Largest run of bytes that one change inserts, removes or takes from another message.
const RUN_BYTES_MAX: usize = 64;
/// Changes of one message.
const CHANGES_MAX: usize = 3;

/// Returns how many mutations a test tries: the number in `EVERNEAR_MUTATIONS`, or `usual`.
///
/// # Panics
/// When the variable is no number.
#[must_use]
pub fn mutations(usual: u64) -> u64 {
    std::env::var("EVERNEAR_MUTATIONS").map_or(usual, |count| count.parse().expect("EVERNEAR_MUTATIONS is a number"))
}

/// Draws mutations; the same for the same seed and the same messages.
pub struct Mutator {
    rng: Rng,
    known: Vec<Bytes>,
    made: u64,
}

impl Mutator {
    /// Starts with nothing known.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { rng: Rng::with_seed(seed), known: Vec::new(), made: 0 }
    }

    /// Takes a message whose parts may turn up in others.
    #[must_use]
    pub fn knowing(mut self, message: impl Into<Bytes>) -> Self {
        self.known.push(message.into());
        self
    }

    /// Returns how many messages were changed.
    #[must_use]
    pub fn made(&self) -> u64 {
        self.made
    }

    /// Draws a number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.rng.usize(..end)
    }

    /// Draws one of these.
    pub fn one_of<'a, T>(&mut self, these: &'a [T]) -> &'a T {
        &these[self.rng.usize(..these.len())]
    }

    /// Changes a message, at one to three places or as a whole.
    pub fn mutate(&mut self, message: &[u8]) -> Bytes {
        self.made += 1;
        if self.rng.u8(..) < 8 && !self.known.is_empty() {
            return self.known[self.rng.usize(..self.known.len())].clone();
        }
        let mut bytes = message.to_vec();
        for _ in 0..self.rng.usize(1..=CHANGES_MAX) {
            self.change(&mut bytes);
        }
        bytes.into()
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let rng = &mut self.rng;
        let at = rng.usize(..=bytes.len());
        let run = rng.usize(1..=RUN_BYTES_MAX);
        let end = bytes.len().min(at + run);
        match rng.u8(..8) {
            0 => bytes.truncate(at),
            1 => drop(bytes.splice(at..at, (0..run).map(|_| rng.u8(..)))),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let again = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, again));
            }
            4 if !self.known.is_empty() => {
                let other = &self.known[rng.usize(..self.known.len())];
                let from = rng.usize(..=other.len());
                let part = other[from..other.len().min(from + run)].to_vec();
                drop(bytes.splice(at..end, part));
            }
            _ if at == bytes.len() => {}
            5 => bytes[at] = rng.u8(..),
            6 => bytes[at] = bytes[at].wrapping_add(1),
            _ => bytes[at] ^= 1 << rng.u8(..8),
        }
    }
}
