//! The deadlines of a reader: those of an edge, before which a viewer waits, and those of an owner's program.

use std::time::Duration;

/// What may make a reader slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bottleneck {
    /// Its nodes. All strips are asked for at once, and a node that is slower than usual is doubted.
    Nodes,
    /// Its own link, too. Only as many strips are on their way at once as come within seconds, and a node is doubted
    /// only when it is slower than the others.
    Link,
}

/// Deadlines of a reader.
#[derive(Debug, Clone, Copy)]
pub struct ReaderOptions {
    /// What may make it slow.
    pub bottleneck: Bottleneck,
    /// The deadline of one strip of a node, from when it is asked for.
    pub strip_deadline: Duration,
    /// The deadline of one stripe, including all its hedged requests, and the wait for room on the link.
    pub stripe_deadline: Duration,
    /// The deadline of one record, over all nodes asked.
    pub record_deadline: Duration,
    /// After this long without an answer, the next node is also asked for a record (hedged request).
    pub record_hedge: Duration,
    /// The time that a neighbour has for a strip, beside the time after which the strip's node is doubted. Then the
    /// node itself is asked.
    pub neighbour_patience: Duration,
}

impl Default for ReaderOptions {
    /// Returns the options of an edge: a viewer waits.
    fn default() -> Self {
        Self {
            bottleneck: Bottleneck::Nodes,
            strip_deadline: Duration::from_secs(20),
            stripe_deadline: Duration::from_secs(15),
            record_deadline: Duration::from_secs(5),
            record_hedge: Duration::from_millis(250),
            neighbour_patience: Duration::from_millis(100),
        }
    }
}

impl ReaderOptions {
    /// Returns the options of an owner's program, which goes on as long as bytes come.
    ///
    /// Four strips at once come in 17 s over the slowest link, 0.5 Mbit/s, so one that takes a minute does not come. A
    /// stripe waits behind those of all files that are fetched at once, some 64 MiB: they take 20 minutes there, and an
    /// hour where gaps interrupt it. A record waits behind the strips that are on their way.
    #[must_use]
    pub fn patient() -> Self {
        Self {
            bottleneck: Bottleneck::Link,
            strip_deadline: Duration::from_secs(60),
            stripe_deadline: Duration::from_secs(3600),
            record_deadline: Duration::from_secs(20),
            ..Self::default()
        }
    }
}
