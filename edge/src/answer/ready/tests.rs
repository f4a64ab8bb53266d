//! Tests of what is kept beside an answer that takes the place of another.

use client::{Reader, ReaderOptions, Topology, Transport};
use prometheus_client::metrics::counter::Counter;
use sandbox::Marks;
use testing::{MemoryTransport, Sample};

use super::*;
use crate::{config::CacheConfig, policy::decision::Decision, store::objects::Objects};

/// Opens the object of a seed; each time another reading of its record.
async fn opened(seed: u8) -> Arc<Opened> {
    let (node, sample) = (testing::node("o1", testing::place("o1")), Sample::new(seed, 100));
    let origins = Arc::new(MemoryTransport::new(std::slice::from_ref(&node)));
    let record = Bytes::from(sample.record(&sample.lease(1), &node.name).encode());
    origins.put_record(&node.name, &sample.sealed.locator, record).await.unwrap();
    let (topology, place) = (Arc::new(Topology::new(vec![node])), testing::place("here"));
    let reader = Reader::new(origins as _, topology, place, ReaderOptions::default());
    let objects = Objects::new(Arc::new(reader), &CacheConfig::default(), Arc::default(), Counter::default());
    Arc::new(objects).open(&sample.sealed.capability).await.unwrap()
}

/// Returns an answer with a file that was reached over a folder, and what a policy said then.
fn ready(folder: &Arc<Opened>, file: &Arc<Opened>) -> Ready {
    let said = Decision::allowing(vec![], vec![], Marks::empty()).said;
    let lasting = Lasting::of(StatusCode::OK, HeaderMap::new());
    Ready {
        trail: [folder, file].map(|opened| (Arc::downgrade(opened), Watch::default())).into(),
        file: Arc::clone(file),
        fresh_until: Instant::now(),
        alive_until: u64::MAX,
        program: Weak::new(),
        seen: Seen { denylist: Weak::new(), epoch: Epoch::default() },
        is_secure: false,
        host: "label.example".to_owned(),
        path: "/file".to_owned(),
        query: String::new(),
        content: Stored::Inline(Bytes::new()),
        validators: Validators::none(),
        words: RefCell::new(vec![Words { said, coded: None, until: u64::MAX, lasting }]),
    }
}

#[tokio::test]
async fn what_was_said_while_a_folder_had_another_lease_is_not_said_again() {
    let (folder, renewed, file) = (opened(1).await, opened(1).await, opened(2).await);
    let mut answers = Answers::new(1 << 20);
    let mut words_with = |folder: &Arc<Opened>| {
        answers.insert("label.example", "/file", ready(folder, &file));
        answers.young.answers.values().map(|ready| ready.words.borrow().len()).sum::<usize>()
    };
    assert_eq!([words_with(&folder), words_with(&folder)], [1, 2], "of one record all that was said counts");
    // The second record was read while the second answer was made: its lease may end sooner.
    assert_eq!(words_with(&renewed), 1, "what was said before told caches of the first lease");
}

#[tokio::test]
async fn of_more_different_words_than_are_kept_the_last_that_were_made_stay() {
    let (folder, file) = (opened(1).await, opened(2).await);
    let mut answers = Answers::new(1 << 20);
    let mut said = Vec::new();
    for _ in 0..HEADS_MAX + 3 {
        let ready = ready(&folder, &file);
        said.insert(0, Arc::as_ptr(&ready.words.borrow()[0].said));
        answers.insert("label.example", "/file", ready);
    }
    let kept = answers.young.answers.values().next().unwrap();
    let kept: Vec<_> = kept.words.borrow().iter().map(|words| Arc::as_ptr(&words.said)).collect();
    assert_eq!(kept, said[..HEADS_MAX]);
    // The bytes of those that left are free again.
    let bytes = answers.young.bytes;
    answers.insert("label.example", "/file", ready(&folder, &file));
    assert_eq!(answers.young.bytes, bytes);
}
