//! Answers of hostile nodes, as they come over HTTP: what is taken is bounded by what was asked.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use client::{AnswerBody, CallBody, Carrier, HttpTransport, ShardAsk, Transport, TransportError};
use format::{
    Locator, NodeName, ObjectId,
    limits::{RECORD_BYTES_MAX, STRIP_BYTES_MAX},
};
use futures::stream;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

const FRAME_BYTES: usize = 16 * 1024;

/// A node whose answers have no end. It counts the bytes that were taken of them.
struct Endless(Arc<AtomicUsize>);

#[async_trait]
impl Carrier for Endless {
    async fn carry(&self, _: &NodeName, _: Request<CallBody>) -> Result<Response<AnswerBody>, TransportError> {
        let taken = self.0.clone();
        let frames = stream::repeat_with(move || {
            taken.fetch_add(FRAME_BYTES, Ordering::Relaxed);
            Ok(Frame::data(Bytes::from_static(&[0; FRAME_BYTES])))
        });
        Ok(Response::new(StreamBody::new(frames).boxed_unsync()))
    }
}

#[tokio::test]
async fn of_an_answer_no_more_is_taken_than_was_asked_for() {
    let taken = Arc::new(AtomicUsize::new(0));
    let transport = HttpTransport::over(Endless(taken.clone()));
    let node: NodeName = "o1".parse().unwrap();
    let most = |error: TransportError, most: usize| {
        assert!(matches!(error, TransportError::Nonsense { .. }), "{error}");
        let taken = taken.swap(0, Ordering::Relaxed);
        assert!((most..=most + 2 * FRAME_BYTES).contains(&taken), "{taken} bytes of {most}");
    };
    // A row of 256 columns lies beside each strip, a proof and its length before the first.
    let cells = |count: usize| 4 + 6_208 + count * (8_196 + STRIP_BYTES_MAX);
    for count in [1, 2, 64] {
        let ask = ShardAsk { object: ObjectId([1; 32]), column: 0, first: 0, count: count as u64 };
        most(transport.read_shard(&node, ask).await.unwrap_err(), cells(count));
    }
    most(transport.record(&node, &Locator([1; 32])).await.unwrap_err(), RECORD_BYTES_MAX);
}
