//! Ranges that are made to have an edge fetch, or send, far more than was asked for (Li et al., "CDN Backfired:
//! Amplification Attacks Based on HTTP Range Requests", DSN 2020).

use std::cell::Cell;

use format::limits::BLOCK_BYTES;
use testing::{noise_of, until};

use crate::site::Site;

const LENGTH: usize = 16 << 20;

/// What an edge may pull or send for each byte that the request is worth.
const AMPLIFICATION_MAX: f64 = 1.2;

/// What a request makes an edge do.
struct Case {
    range: String,
    /// Blocks that have a byte of what is asked for.
    blocks: usize,
    /// Bytes of the object asked for, each counted once.
    bytes: usize,
}

fn case(range: &str, blocks: usize, bytes: usize) -> Case {
    Case { range: format!("bytes={range}"), blocks, bytes }
}

fn corpus() -> Vec<Case> {
    let all = LENGTH / BLOCK_BYTES;
    let repeat = |range: &str, times: usize| vec![range; times].join(",");
    let far = |count: usize| (0..count).map(|n| format!("{0}-{0}", n * 2 * BLOCK_BYTES)).collect::<Vec<_>>().join(",");
    vec![
        // One small range of a large object: the edge must not fetch all of it.
        case("0-0", 1, 1),
        case("-1", 1, 1),
        case("8388608-8388608", 1, 1),
        case("262143-262144", 2, 2),
        case("0-0,-1", 2, 2),
        case("0-1023", 1, 1024),
        case(&far(2), 2, 2),
        case(&far(8), 8, 8),
        // Overlapping ranges: the edge must not send a part for each.
        case(&repeat("0-", 2), all, LENGTH),
        case(&repeat("0-", 8), all, LENGTH),
        case(&repeat("0-", 9), all, LENGTH),
        case(&repeat("0-", 1000), all, LENGTH),
        case(&repeat("-16777216", 8), all, LENGTH),
        case("0-8388607,0-8388607,8388608-,0-", all, LENGTH),
        case("1-,0-,-16777216,2-,3-,4-", all, LENGTH),
        case(&repeat("0-0", 8), 1, 1),
        // Too many to be honest: the field is ignored, so all of it is asked for.
        case(&far(9), all, LENGTH),
        case(&far(31), all, LENGTH),
        case(&repeat("0-0", 1000), all, LENGTH),
        // Nonsense asks for all.
        case("5-4", all, LENGTH),
        case("--1", all, LENGTH),
        case("18446744073709551616-", all, LENGTH),
        // Nothing of it is there.
        case("16777216-", 0, 0),
        case("18446744073709551615-18446744073709551615", 0, 0),
        case("-0", 0, 0),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_range_makes_an_edge_pull_or_send_more_than_it_is_worth() {
    let base = Site::start().await;
    let stored = base.store("film.bin", "application/octet-stream", noise_of(1, LENGTH)).await;
    for Case { range, blocks, bytes } in corpus() {
        let shown = &range[..range.len().min(40)];
        // Nothing is held, so that all that is sent must be pulled.
        let edge = base.beside(|_| {}).await;
        let answer = edge.get(&stored, "/film.bin", &["-H", &format!("Range: {range}")]).await;
        let pulled = edge.counter("evernear_edge_fill_bytes_total").await;
        // Heads of parts, and of the answer to what is not there.
        let worth = bytes as f64 * AMPLIFICATION_MAX + 4096.0;
        assert!(answer.body().len() as f64 <= worth, "{shown}: {} bytes sent for {bytes}", answer.body().len());
        let worth = (blocks * BLOCK_BYTES) as f64 * AMPLIFICATION_MAX;
        assert!(pulled as f64 <= worth, "{shown}: {pulled} bytes pulled for {blocks} blocks");
        edge.stop().await;
    }
    base.stop().await;
}

/// What an edge has pulled once it pulls no more: the count stays as it is for a while.
async fn pulled_in_all(edge: &Site) -> u64 {
    let (last, same) = (Cell::new(0), Cell::new(0));
    until("the edge rests", || async {
        let pulled = edge.counter("evernear_edge_fill_bytes_total").await;
        same.set(if last.replace(pulled) == pulled { same.get() + 1 } else { 0 });
        same.get() == 25
    })
    .await;
    last.get()
}

/// A viewer who asks for all and leaves makes the edge pull no more than it reads ahead.
#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_early_is_worth_the_window_alone() {
    const AHEAD_BYTES: u64 = 8 << 20;
    let base = Site::start().await;
    let stored = base.store("film.bin", "application/octet-stream", noise_of(2, 64 << 20)).await;
    for range in ["bytes=0-", "bytes=0-0,2-2,4-4,6-6,8-8,10-10,12-12,14-14,16-16", "bytes=33554432-"] {
        let edge = base.beside(|_| {}).await;
        for _ in 0..3 {
            let slow = ["-H", &format!("Range: {range}"), "--limit-rate", "1k", "--max-time", "1"];
            edge.get(&stored, "/film.bin", &slow).await;
        }
        let pulled = pulled_in_all(&edge).await;
        assert!(pulled > 0);
        // What the sockets between them hold is on its way as well.
        assert!(pulled <= AHEAD_BYTES * 2, "{range}: {pulled} bytes pulled");
        edge.stop().await;
    }
    base.stop().await;
}
