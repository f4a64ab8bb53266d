//! A number for each thread, so that what threads write often can lie in places of their own.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Returns the number of this thread: the first that asks has 0, and no two have the same.
#[must_use]
pub fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed));
    NUMBER.with(|number| *number)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, thread};

    use super::*;

    #[test]
    fn each_thread_keeps_a_number_of_its_own() {
        let threads: Vec<_> = (0..8).map(|_| thread::spawn(|| [thread_number(), thread_number()])).collect();
        let numbers = threads.into_iter().map(|thread| thread.join().unwrap());
        let own: BTreeSet<_> = numbers.inspect(|[first, again]| assert_eq!(first, again)).collect();
        assert_eq!(own.len(), 8);
    }
}
