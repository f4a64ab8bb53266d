//! What every engine promises of objects, repairs, tickets and shared work; part of the suite in `catalog.rs`.

use std::time::Duration;

use bytes::Bytes;
use format::{
    ObjectId, Retention,
    wire::{Amount, ChangeKind, Obstacle, Ticket},
};
use origin::catalog::{
    AHEAD_MAX, Applied, CURSOR_BYTES_MAX, Catalog, DeadRepair, ERROR_CHARS_MAX, LOCATORS_MAX, MARGIN_LAST, RETRY_PAUSE,
    Refused, Repair, RepairAsk, RepairCause, RepairEnd, RepairQueue, Revival, ShardRow, TICKETS_MAX,
    TICKETS_PER_READER_MAX,
};

use super::{ago, node, refused};
use testing::Sample;

/// Long enough that no hold ends while a test runs.
pub(super) const HOLD: Duration = Duration::from_secs(3600);

fn ask(object: u8, margin: i32) -> RepairAsk {
    let (object, cause) = (ObjectId([object; 32]), RepairCause::Scan);
    RepairAsk { object, margin, bytes: 10, cause, target: None, only_lost: vec![0, 12] }
}

pub(in crate::catalog) async fn living_objects_come_in_pages_with_their_shards(catalog: &dyn Catalog) {
    let row =
        |name: &str, sample: &Sample, column| ShardRow { node: node(name), object: sample.id(), column, bytes: 10 };
    let mut all: Vec<_> = (0..5).map(|seed| Sample::new(seed, 40_000)).collect();
    all.sort_by_key(Sample::id);
    for sample in &all {
        catalog.put_record(&sample.record(&sample.lease(1), &node("hint"))).await.unwrap();
    }
    // One that is inline, and one whose record is not there.
    let inline = Sample::of(9, [9; 32], b"inline");
    catalog.put_record(&inline.record(&inline.lease(1), &node("hint"))).await.unwrap();
    catalog.place_shard(&row("o1", &Sample::new(77, 40_000), 0)).await.unwrap();
    for shard in [row("o2", &all[1], 2), row("o1", &all[1], 0), row("o1", &all[1], 2), row("o1", &all[3], 1)] {
        catalog.place_shard(&shard).await.unwrap();
    }
    let ids = |page: &origin::catalog::ObjectPage| page.objects.iter().map(|row| row.id()).collect::<Vec<_>>();
    let expected: Vec<_> = all.iter().map(Sample::id).collect();
    let page = catalog.objects(None, 100).await.unwrap();
    assert_eq!((ids(&page), page.next), (expected.clone(), None));
    let page = catalog.objects(None, 2).await.unwrap();
    assert_eq!((ids(&page), page.next), (expected[..2].to_vec(), Some(expected[1])));
    let page = catalog.objects(page.next.as_ref(), 2).await.unwrap();
    assert_eq!((ids(&page), page.next), (expected[2..4].to_vec(), Some(expected[3])));
    let page = catalog.objects(page.next.as_ref(), 2).await.unwrap();
    assert_eq!((ids(&page), page.next), (expected[4..].to_vec(), None));
    let page = catalog.objects_on(&node("o1"), None, 1).await.unwrap();
    assert_eq!((ids(&page), page.next), (vec![expected[1]], Some(expected[1])));
    assert_eq!(page.objects[0].shards, [(0, node("o1")), (2, node("o1")), (2, node("o2"))]);
    let page = catalog.objects_on(&node("o1"), page.next.as_ref(), 2).await.unwrap();
    assert_eq!((ids(&page), page.next), (vec![expected[3]], None));
    assert!(catalog.objects_on(&node("o9"), None, 2).await.unwrap().objects.is_empty());

    let found = catalog.object(&expected[1]).await.unwrap().unwrap();
    assert_eq!((found.id(), found.lease.version), (expected[1], 1));
    assert_eq!((found.locators, found.shards.len()), (vec![all[1].sealed.locator], 3));
    assert!(catalog.object(&ObjectId([7; 32])).await.unwrap().is_none());
    let erasure = all[1].erasure(2);
    catalog.put_lease(&erasure, &all[1].sign(&erasure)).await.unwrap();
    assert!(catalog.object(&expected[1]).await.unwrap().is_none());
    assert_eq!(ids(&catalog.objects_on(&node("o1"), None, 9).await.unwrap()), [expected[3]]);
    assert_eq!(catalog.objects(None, 100).await.unwrap().objects.len(), 4);

    // Many names of one object: some are named, the newest lease is the one that counts.
    let names: Vec<_> = (0..20).map(|name| Sample::of(1, [name; 32], &[5; 40_000])).collect();
    for (name, version) in names.iter().zip(1..) {
        catalog.put_record(&name.record(&name.lease(version), &node("hint"))).await.unwrap();
    }
    let found = catalog.object(&names[0].id()).await.unwrap().unwrap();
    assert_eq!((found.locators.len(), found.lease.version), (LOCATORS_MAX, 20));
    assert_eq!(found.locators[..2], [names[19].sealed.locator, names[18].sealed.locator]);
}

pub(in crate::catalog) async fn a_nodes_rows_come_in_pages(catalog: &dyn Catalog) {
    let row = |name: &str, object, column| ShardRow {
        node: node(name),
        object: ObjectId([object; 32]),
        column,
        bytes: 10 + column as u64,
    };
    let rows = [row("o1", 1, 0), row("o1", 1, 9), row("o1", 1, 10), row("o1", 2, 3)];
    for shard in rows.iter().rev().chain([&row("o2", 1, 1)]) {
        catalog.place_shard(shard).await.unwrap();
    }
    let after = |row: &ShardRow| Some((row.object, row.column));
    assert_eq!(catalog.shards_on(&node("o1"), None, 9).await.unwrap(), rows);
    assert_eq!(catalog.shards_on(&node("o1"), None, 2).await.unwrap(), rows[..2]);
    assert_eq!(catalog.shards_on(&node("o1"), after(&rows[1]), 2).await.unwrap(), rows[2..]);
    assert_eq!(catalog.shards_on(&node("o1"), after(&rows[3]), 2).await.unwrap(), []);
}

pub(in crate::catalog) async fn a_lost_shard_is_gone_at_once(catalog: &dyn Catalog) {
    let shard = ShardRow { node: node("o1"), object: ObjectId([1; 32]), column: 3, bytes: 10 };
    catalog.place_shard(&shard).await.unwrap();
    catalog.lose_shard(&ShardRow { column: 4, ..shard.clone() }).await.unwrap();
    assert_eq!(catalog.shard_totals(&shard.node).await.unwrap().shards, 1);
    catalog.lose_shard(&shard).await.unwrap();
    catalog.lose_shard(&shard).await.unwrap();
    assert_eq!(catalog.shard_totals(&shard.node).await.unwrap().shards, 0);
}

pub(in crate::catalog) async fn repairs_are_taken_by_risk_and_one_at_a_time(catalog: &dyn Catalog) {
    let (o1, o2) = (node("o1"), node("o2"));
    assert_eq!(catalog.take_repair(&o1, HOLD).await.unwrap(), None);
    for (object, margin) in [(1, 4), (2, 1), (3, 4)] {
        assert_eq!(catalog.queue_repair(&ask(object, margin)).await.unwrap(), Applied::Stored);
    }
    // Safer than known: nothing new. Riskier: replaces margin, bytes and cause.
    assert_eq!(catalog.queue_repair(&ask(1, 5)).await.unwrap(), Applied::Unchanged);
    assert_eq!(catalog.queue_repair(&ask(1, 4)).await.unwrap(), Applied::Unchanged);
    let worse = RepairAsk { bytes: 70, cause: RepairCause::Drain, ..ask(3, 0) };
    assert_eq!(catalog.queue_repair(&worse).await.unwrap(), Applied::Stored);
    let all = RepairQueue { waiting: 3, waiting_bytes: 90, ..RepairQueue::default() };
    assert_eq!(catalog.repair_queue().await.unwrap(), all);
    let first = catalog.take_repair(&o1, HOLD).await.unwrap().unwrap();
    let RepairAsk { object, margin, bytes, cause, target, .. } = worse;
    let fresh =
        Repair { object, margin, bytes, cause, target, attempts: 1, error: None, failed_by: None, unmakable: vec![] };
    assert_eq!(first, fresh);
    assert_eq!(catalog.take_repair(&o2, HOLD).await.unwrap().unwrap().object, ask(2, 1).object);
    // A hold that is over at once: the next taker has it, and counts it as another attempt.
    let lapsed = catalog.take_repair(&o1, Duration::ZERO).await.unwrap().unwrap();
    assert_eq!((lapsed.object, lapsed.attempts), (ask(1, 4).object, 1));
    let retaken = catalog.take_repair(&o2, HOLD).await.unwrap().unwrap();
    assert_eq!((retaken.object, retaken.attempts), (ask(1, 4).object, 2));
    assert_eq!(catalog.take_repair(&o1, HOLD).await.unwrap(), None);
    assert!(!catalog.keep_repair(&retaken.object, &o1, HOLD).await.unwrap());
    assert!(catalog.keep_repair(&retaken.object, &o2, HOLD).await.unwrap());
    let all = RepairQueue { running: 3, running_bytes: 90, ..RepairQueue::default() };
    assert_eq!(catalog.repair_queue().await.unwrap(), all);
    assert!(catalog.keep_repair(&retaken.object, &o2, Duration::ZERO).await.unwrap());
    assert_eq!(catalog.take_repair(&o1, HOLD).await.unwrap().unwrap().attempts, 3);
    assert!(!catalog.keep_repair(&ObjectId([9; 32]), &o1, HOLD).await.unwrap());
}

pub(in crate::catalog) async fn a_move_comes_last_keeps_its_target_and_gives_way_to_a_loss(catalog: &dyn Catalog) {
    let o1 = node("o1");
    let target = Some((7, node("o9")));
    let even = |object| RepairAsk { cause: RepairCause::Balance, target: target.clone(), ..ask(object, MARGIN_LAST) };
    for object in [1, 2] {
        catalog.queue_repair(&even(object)).await.unwrap();
    }
    for object in [2, 3] {
        catalog.queue_repair(&ask(object, 12)).await.unwrap();
    }
    assert_eq!(catalog.queue_repair(&even(3)).await.unwrap(), Applied::Unchanged);
    let queue = catalog.repair_queue().await.unwrap();
    assert_eq!((queue.waiting, queue.balancing), (3, 1));
    let mut taken = Vec::new();
    while let Some(Repair { object, cause, target, .. }) = catalog.take_repair(&o1, HOLD).await.unwrap() {
        taken.push((object.0[0], cause, target));
    }
    let scan = |object| (object, RepairCause::Scan, None);
    assert_eq!(taken, [scan(2), scan(3), (1, RepairCause::Balance, target)]);
    assert_eq!(catalog.repair_queue().await.unwrap().balancing, 1);
}

pub(in crate::catalog) async fn repairs_come_back_or_die_by_their_holders_word(catalog: &dyn Catalog) {
    let (o1, o2) = (node("o1"), node("o2"));
    catalog.queue_repair(&ask(1, 0)).await.unwrap();
    let object = ask(1, 0).object;
    let take = || async { catalog.take_repair(&o1, HOLD).await.unwrap() };
    let again = |after| RepairEnd::Again { error: "no node has room".to_owned(), after };
    assert_eq!(take().await.unwrap().attempts, 1);
    // Another's word does not count.
    for end in [RepairEnd::Done, again(Duration::ZERO), RepairEnd::Dead { error: String::new() }] {
        catalog.end_repair(&object, &o2, &end).await.unwrap();
    }
    assert!(catalog.keep_repair(&object, &o1, HOLD).await.unwrap());
    catalog.end_repair(&object, &o1, &again(Duration::ZERO)).await.unwrap();
    assert!(!catalog.keep_repair(&object, &o1, HOLD).await.unwrap());
    assert_eq!(take().await.unwrap().attempts, 2);
    catalog.end_repair(&object, &o1, &again(HOLD)).await.unwrap();
    assert_eq!(take().await, None, "it is not due");
    assert_eq!(catalog.repair_queue().await.unwrap().waiting, 1);

    catalog.queue_repair(&ask(2, 0)).await.unwrap();
    let doomed = take().await.unwrap().object;
    let error = "x\0".to_owned() + &"y".repeat(2 * ERROR_CHARS_MAX);
    catalog.end_repair(&doomed, &o1, &RepairEnd::Dead { error }).await.unwrap();
    for margin in [0, 1] {
        assert_eq!(catalog.queue_repair(&ask(2, margin)).await.unwrap(), Applied::Unchanged, "nothing is worse");
    }
    assert_eq!(take().await, None);
    let dead = catalog.dead_repairs(9).await.unwrap();
    let error = "x".to_owned() + &"y".repeat(ERROR_CHARS_MAX - 1);
    assert_eq!(dead, [DeadRepair { object: doomed, attempts: 1, error }]);
    assert_eq!(catalog.dead_repairs(0).await.unwrap(), []);
    let obstacles = catalog.repair_obstacles(9).await.unwrap();
    let amount = Amount { objects: 1, bytes: 10 };
    let why = |why: &str| Obstacle { why: why.to_owned(), amount };
    assert_eq!(obstacles, [why("no node has room"), why(&dead[0].error)]);
    assert_eq!(catalog.repair_obstacles(1).await.unwrap().len(), 1);
    assert_eq!(catalog.revive_repairs(Revival::Node).await.unwrap(), 2, "the dead one, and the one that rests");
    assert_eq!(catalog.revive_repairs(Revival::Node).await.unwrap(), 0);
    let revived = [take().await.unwrap(), take().await.unwrap()];
    assert_eq!(revived.map(|it| (it.object, it.attempts)), [(object, 1), (doomed, 1)]);
    catalog.end_repair(&object, &o1, &again(HOLD)).await.unwrap();
    catalog.end_repair(&doomed, &o1, &RepairEnd::Dead { error: String::new() }).await.unwrap();
    // The attempts of one that rests stay, and half of those of a dead one, rounded up.
    for of in [&object, &doomed] {
        assert_eq!(catalog.revive_repairs(Revival::Lease(of)).await.unwrap(), 1);
        assert_eq!(catalog.revive_repairs(Revival::Lease(of)).await.unwrap(), 0);
        let revived = take().await.unwrap();
        assert_eq!((revived.object, revived.attempts), (*of, 2));
        assert_eq!(take().await, None, "the other one stays as it was");
    }
    catalog.end_repair(&doomed, &o1, &RepairEnd::Dead { error: String::new() }).await.unwrap();
    // What was lost since is due at once, whatever failed before and for how long it was to wait.
    assert_eq!(catalog.queue_repair(&ask(2, -1)).await.unwrap(), Applied::Stored);
    let worse = take().await.unwrap();
    assert_eq!((worse.object, worse.margin, worse.attempts), (doomed, -1, 1));
    catalog.end_repair(&doomed, &o1, &again(HOLD)).await.unwrap();
    assert_eq!(catalog.queue_repair(&ask(2, -1)).await.unwrap(), Applied::Unchanged);
    assert_eq!(take().await, None, "it is not due");
    assert_eq!(catalog.queue_repair(&ask(2, -2)).await.unwrap(), Applied::Stored);
    let worst = take().await.unwrap();
    assert_eq!((worst.object, worst.margin, worst.attempts), (doomed, -2, 1));
    catalog.end_repair(&doomed, &o1, &RepairEnd::Done).await.unwrap();
    catalog.end_repair(&object, &o1, &again(Duration::ZERO)).await.unwrap();
    let left = RepairQueue { waiting: 1, waiting_bytes: 10, ..RepairQueue::default() };
    assert_eq!(catalog.repair_queue().await.unwrap(), left);
}

pub(in crate::catalog) async fn a_repair_that_always_fails_lets_others_pass_until_more_is_lost(catalog: &dyn Catalog) {
    let o1 = node("o1");
    catalog.queue_repair(&ask(1, 1)).await.unwrap();
    catalog.queue_repair(&ask(2, 3)).await.unwrap();
    let take = async || catalog.take_repair(&o1, HOLD).await.unwrap().unwrap();
    let again = RepairEnd::Again { error: "no".to_owned(), after: Duration::ZERO };
    let (failing, other) = (ask(1, 1).object, ask(2, 3).object);
    for attempts in 1..=3 {
        let taken = take().await;
        assert_eq!((taken.object, taken.attempts), (failing, attempts));
        let (before, by) = (taken.error.as_deref(), taken.failed_by);
        assert_eq!((before, by), if attempts > 1 { (Some("no"), Some(o1.clone())) } else { (None, None) });
        catalog.end_repair(&failing, &o1, &again).await.unwrap();
    }
    assert_eq!(take().await.object, other, "three attempts failed");
    catalog.end_repair(&other, &o1, &again).await.unwrap();
    // One loss from gone, it waits behind none for what failed before.
    catalog.queue_repair(&ask(3, 1)).await.unwrap();
    catalog.queue_repair(&ask(1, 0)).await.unwrap();
    let taken = take().await;
    assert_eq!((taken.object, taken.attempts), (failing, 1));
    assert_eq!(take().await.object, ask(3, 1).object);
    catalog.end_repair(&ask(3, 1).object, &o1, &RepairEnd::Done).await.unwrap();

    // A lease changed: it is due, after those that never failed.
    let dead = RepairEnd::Dead { error: "no".to_owned() };
    for attempts in [2, 2, 2] {
        catalog.end_repair(&failing, &o1, &dead).await.unwrap();
        assert_eq!(catalog.revive_repairs(Revival::Lease(&failing)).await.unwrap(), 1);
        assert_eq!(take().await.attempts, attempts, "however often that is said");
    }
    catalog.end_repair(&failing, &o1, &dead).await.unwrap();
    catalog.revive_repairs(Revival::Lease(&failing)).await.unwrap();
    catalog.queue_repair(&ask(2, 0)).await.unwrap();
    assert_eq!(take().await.object, other);
    assert_eq!(take().await.object, failing);
}

pub(in crate::catalog) async fn what_cannot_be_read_is_repaired_last_until_it_can(catalog: &dyn Catalog) {
    let o1 = node("o1");
    for (object, margin) in [(1, -255), (2, -1), (3, 9)] {
        catalog.queue_repair(&ask(object, margin)).await.unwrap();
    }
    assert_eq!(catalog.queue_repair(&ask(2, 0)).await.unwrap(), Applied::Stored, "a node came back");
    assert_eq!(catalog.queue_repair(&ask(2, 1)).await.unwrap(), Applied::Unchanged);
    let mut taken = Vec::new();
    while let Some(Repair { object, margin, .. }) = catalog.take_repair(&o1, HOLD).await.unwrap() {
        taken.push((object.0[0], margin));
    }
    assert_eq!(taken, [(2, 0), (3, 9), (1, -255)]);
}

pub(in crate::catalog) async fn an_operators_word_makes_nothing_due_that_failed_a_moment_ago(catalog: &dyn Catalog) {
    let o1 = node("o1");
    let take = async || catalog.take_repair(&o1, HOLD).await.unwrap();
    for (object, end) in [
        (1, RepairEnd::Dead { error: "no".to_owned() }),
        (2, RepairEnd::Again { error: "no".to_owned(), after: AHEAD_MAX / 2 }),
        (3, RepairEnd::Again { error: "no".to_owned(), after: RETRY_PAUSE / 2 }),
    ] {
        catalog.queue_repair(&ask(object, 0)).await.unwrap();
        let taken = take().await.unwrap();
        catalog.end_repair(&taken.object, &o1, &end).await.unwrap();
    }
    assert_eq!(catalog.revive_repairs(Revival::Operator).await.unwrap(), 2, "the third is due before");
    assert_eq!(catalog.revive_repairs(Revival::Operator).await.unwrap(), 0);
    let queue = catalog.repair_queue().await.unwrap();
    assert_eq!((queue.waiting, queue.dead), (3, 0));
    assert_eq!(take().await, None, "all failed a moment ago");
}

pub(in crate::catalog) async fn a_hopeless_repair_rests_until_other_work_is_asked_for(catalog: &dyn Catalog) {
    let o1 = node("o1");
    let take = async || catalog.take_repair(&o1, HOLD).await.unwrap();
    let object = ask(1, 0).object;
    let only = |columns: &[usize], margin| RepairAsk { only_lost: columns.to_vec(), ..ask(1, margin) };
    let give_up = async || {
        let end = RepairEnd::Hopeless { error: "never".to_owned(), lost: vec![0, 12] };
        catalog.end_repair(&object, &o1, &end).await.unwrap();
        assert_eq!(take().await, None);
    };
    catalog.queue_repair(&only(&[0, 12], 0)).await.unwrap();
    assert!(take().await.unwrap().unmakable.is_empty());
    give_up().await;
    let dead = catalog.dead_repairs(9).await.unwrap();
    assert_eq!(dead.iter().map(|it| (it.object, &*it.error)).collect::<Vec<_>>(), [(object, "never")]);
    assert_eq!(catalog.queue_repair(&only(&[0, 12], 0)).await.unwrap(), Applied::Unchanged);
    // Columns to move, others lost instead, more lost.
    for ask in [only(&[], 0), only(&[0, 11], 0), only(&[0, 11, 12], -1)] {
        assert_eq!(catalog.queue_repair(&ask).await.unwrap(), Applied::Stored, "{ask:?}");
        let taken = take().await.unwrap();
        assert_eq!((taken.attempts, taken.unmakable), (1, vec![0, 12]));
        give_up().await;
    }
    // Whoever repairs it after a node came, or under a new lease, still knows; what an operator says, no longer.
    for by in [Revival::Node, Revival::Lease(&object)] {
        assert_eq!(catalog.revive_repairs(by).await.unwrap(), 1);
        assert_eq!(take().await.unwrap().unmakable, [0, 12]);
        give_up().await;
    }
    assert_eq!(catalog.revive_repairs(Revival::Operator).await.unwrap(), 1);
    assert_eq!(catalog.revive_repairs(Revival::Node).await.unwrap(), 1);
    assert!(take().await.unwrap().unmakable.is_empty());
}

pub(in crate::catalog) async fn what_is_lost_during_a_repair_is_repaired_after_it(catalog: &dyn Catalog) {
    let o1 = node("o1");
    catalog.queue_repair(&ask(1, 0)).await.unwrap();
    let taken = catalog.take_repair(&o1, HOLD).await.unwrap().unwrap();
    assert_eq!(catalog.queue_repair(&ask(1, 3)).await.unwrap(), Applied::Stored);
    catalog.end_repair(&taken.object, &o1, &RepairEnd::Done).await.unwrap();
    let again = catalog.take_repair(&o1, HOLD).await.unwrap().unwrap();
    assert_eq!((again.object, again.attempts), (taken.object, 1));
    catalog.end_repair(&taken.object, &o1, &RepairEnd::Done).await.unwrap();
    assert_eq!(catalog.repair_queue().await.unwrap(), RepairQueue::default());
}

pub(in crate::catalog) async fn the_erased_need_no_repair(catalog: &dyn Catalog) {
    let (one, two) = (Sample::of(1, [1; 32], &[7; 40_000]), Sample::of(1, [2; 32], &[7; 40_000]));
    for sample in [&one, &two] {
        catalog.put_record(&sample.record(&sample.lease(1), &node("o1"))).await.unwrap();
    }
    catalog.queue_repair(&RepairAsk { object: one.id(), ..ask(0, 0) }).await.unwrap();
    let erasure = one.erasure(2);
    catalog.put_lease(&erasure, &one.sign(&erasure)).await.unwrap();
    assert_eq!(catalog.repair_queue().await.unwrap().waiting, 1, "another name of it lives");
    catalog.put_record(&two.record(&two.erasure(2), &node("o1"))).await.unwrap();
    assert_eq!(catalog.repair_queue().await.unwrap(), RepairQueue::default());
}

pub(in crate::catalog) async fn tickets_merge_and_are_bounded(catalog: &dyn Catalog) {
    let (o1, o2, reader) = (node("o1"), node("o2"), node("e99"));
    let ticket = |object: usize, column, stripe| Ticket {
        node: node("bad"),
        object: ObjectId(*blake3::hash(&object.to_le_bytes()).as_bytes()),
        column,
        stripe,
    };
    assert_eq!(catalog.report(&reader, &ticket(0, 1, 5)).await.unwrap(), Applied::Stored);
    assert_eq!(catalog.report(&reader, &ticket(0, 1, 6)).await.unwrap(), Applied::Unchanged);
    assert_eq!(catalog.report(&reader, &ticket(0, 2, 6)).await.unwrap(), Applied::Stored);
    assert_eq!(catalog.take_tickets(&o1, HOLD, 1).await.unwrap().len(), 1);
    assert_eq!(catalog.take_tickets(&o2, Duration::ZERO, 9).await.unwrap().len(), 1);
    let other = catalog.take_tickets(&o2, HOLD, 9).await.unwrap();
    assert_eq!(other.len(), 1, "a hold that is over leaves it to the next");
    assert_eq!(catalog.take_tickets(&o2, HOLD, 9).await.unwrap(), []);
    for column in [1, 2] {
        catalog.end_ticket(&ticket(0, column, 0)).await.unwrap();
    }
    // One reader fills its own share and no more; what others said first does not count as its word.
    let readers: Vec<_> = (0..TICKETS_MAX / TICKETS_PER_READER_MAX).map(|e| node(&format!("e{e}"))).collect();
    for object in 0..TICKETS_MAX {
        if object == TICKETS_PER_READER_MAX {
            let full = Refused::TooManyTickets { max: TICKETS_PER_READER_MAX };
            assert_eq!(refused(catalog.report(&readers[0], &ticket(object, 0, 0)).await), full);
            assert_eq!(catalog.report(&readers[0], &ticket(3, 0, 0)).await.unwrap(), Applied::Unchanged);
        }
        let reader = &readers[object / TICKETS_PER_READER_MAX];
        assert_eq!(catalog.report(reader, &ticket(object, 0, 0)).await.unwrap(), Applied::Stored);
    }
    let full = Refused::TooManyTickets { max: TICKETS_MAX };
    assert_eq!(refused(catalog.report(&reader, &ticket(TICKETS_MAX, 0, 0)).await), full);
    catalog.end_ticket(&ticket(3, 0, 0)).await.unwrap();
    assert_eq!(catalog.report(&readers[0], &ticket(TICKETS_MAX, 0, 0)).await.unwrap(), Applied::Stored);
}

pub(in crate::catalog) async fn named_work_has_one_holder_and_goes_on_where_it_was(catalog: &dyn Catalog) {
    let (o1, o2) = (node("o1"), node("o2"));
    assert!(!catalog.keep_work("scan", &o1, HOLD, b"x").await.unwrap());
    assert_eq!(catalog.take_work("scan", &o1, HOLD).await.unwrap(), Some(Bytes::new()));
    assert_eq!(catalog.take_work("scan", &o2, HOLD).await.unwrap(), None);
    assert_eq!(catalog.take_work("expiry", &o2, HOLD).await.unwrap(), Some(Bytes::new()));
    assert!(!catalog.keep_work("scan", &o2, HOLD, b"theirs").await.unwrap());
    assert!(catalog.keep_work("scan", &o1, HOLD, b"mine").await.unwrap());
    assert_eq!(catalog.take_work("scan", &o1, HOLD).await.unwrap(), Some(Bytes::from_static(b"mine")));
    let longest = vec![7; CURSOR_BYTES_MAX];
    assert!(catalog.keep_work("scan", &o1, Duration::ZERO, &longest).await.unwrap());
    assert_eq!(catalog.take_work("scan", &o2, HOLD).await.unwrap(), Some(Bytes::from(longest)));
    assert!(!catalog.keep_work("scan", &o1, HOLD, b"late").await.unwrap());
    assert!(catalog.now().await.unwrap() > 1_700_000_000);
}

pub(in crate::catalog) async fn a_hold_from_before_the_clock_was_set_back_holds_nothing(catalog: &dyn Catalog) {
    let (o1, o2) = (node("o1"), node("o2"));
    // A hold for a day stands for one that was begun by a clock a day ahead.
    let (day, second) = (Duration::from_secs(86_400), Duration::from_secs(1));
    catalog.take_work("scan", &o1, day).await.unwrap().unwrap();
    catalog.queue_repair(&ask(1, 1)).await.unwrap();
    catalog.take_repair(&o1, day).await.unwrap().unwrap();
    let ticket = Ticket { node: o1.clone(), object: ObjectId([1; 32]), column: 0, stripe: 0 };
    catalog.report(&node("o0"), &ticket).await.unwrap();
    assert_eq!(catalog.take_tickets(&o1, day, 9).await.unwrap().len(), 1);
    assert!(catalog.take_work("scan", &o2, second).await.unwrap().is_some());
    let taken = catalog.take_repair(&o2, second).await.unwrap().unwrap();
    assert_eq!(catalog.take_tickets(&o2, second, 9).await.unwrap().len(), 1);
    // What failed a moment ago waits; what says that it failed tomorrow does not.
    let again = |after| RepairEnd::Again { error: String::new(), after };
    catalog.end_repair(&taken.object, &o2, &again(AHEAD_MAX / 2)).await.unwrap();
    assert_eq!(catalog.take_repair(&o1, second).await.unwrap(), None);
    catalog.queue_repair(&ask(2, 1)).await.unwrap();
    let taken = catalog.take_repair(&o2, second).await.unwrap().unwrap();
    catalog.end_repair(&taken.object, &o2, &again(day)).await.unwrap();
    assert_eq!(catalog.take_repair(&o1, second).await.unwrap().map(|taken| taken.object), Some(taken.object));
}

pub(in crate::catalog) async fn leases_end_by_themselves_but_no_promise_is_broken(catalog: &dyn Catalog) {
    let now = catalog.now().await.unwrap();
    let samples: Vec<_> = (0..5).map(|seed| Sample::new(seed, 40_000)).collect();
    let retention = [(0, 0), (0, now), (now + 5000, now), (0, now + 5000), (now - 5, now - 9)];
    for (sample, (keep_until, expires)) in samples.iter().zip(retention) {
        let lease = format::Lease { retention: Retention { keep_until, expires }, ..sample.lease(1) };
        let record = sample.record(&lease, &node("o1"));
        // What has ended already only a rebuild files.
        match lease.retention.end() {
            Some(end) if end <= now => {
                let told = refused(catalog.put_record(&record).await);
                assert!(matches!(told, Refused::Ended { end: at, now: by } if at == end && by >= now), "{told}");
                assert!(catalog.record(&sample.sealed.locator).await.unwrap().is_none());
                catalog.restore_record(&record, 0).await.unwrap();
            }
            _ => drop(catalog.put_record(&record).await.unwrap()),
        }
    }
    catalog.queue_repair(&RepairAsk { object: samples[1].id(), ..ask(0, 0) }).await.unwrap();
    let since = catalog.newest_change().await.unwrap();
    assert_eq!(catalog.expire(now - 10, 9).await.unwrap(), 0, "a clock that said so was trusted, and no other");
    assert_eq!(catalog.expire(ago(catalog, 0).await, 1).await.unwrap(), 1);
    assert_eq!(catalog.expire(ago(catalog, 0).await, 9).await.unwrap(), 1);
    assert_eq!(catalog.expire(ago(catalog, 0).await, 9).await.unwrap(), 0);
    for (number, sample) in samples.iter().enumerate() {
        let held = catalog.record(&sample.sealed.locator).await.unwrap().unwrap();
        assert_eq!(held.sealed.is_none(), [1, 4].contains(&number), "{number}");
        assert_eq!(catalog.object(&sample.id()).await.unwrap().is_none(), [1, 4].contains(&number));
    }
    assert_eq!(catalog.repair_queue().await.unwrap(), RepairQueue::default());
    // The oldest end comes first.
    let kinds: Vec<_> =
        catalog.changes(since, 9).await.unwrap().changes.into_iter().map(|change| change.kind).collect();
    let erased = [4, 1].map(|number: usize| ChangeKind::Erased { locator: samples[number].sealed.locator });
    assert_eq!(kinds, erased);
    // What ended is dead: neither its old record nor a renewal brings it back, and its owner may still say so.
    let dead = &samples[1];
    let old = format::Lease { retention: Retention { keep_until: 0, expires: now }, ..dead.lease(1) };
    assert!(catalog.put_record(&dead.record(&old, &node("o1"))).await.is_err());
    assert_eq!(refused(catalog.put_record(&dead.record(&dead.lease(2), &node("o1"))).await), Refused::Erased);
    assert!(catalog.record(&dead.sealed.locator).await.unwrap().unwrap().sealed.is_none());
    catalog.put_lease(&dead.erasure(3), &dead.sign(&dead.erasure(3))).await.unwrap();
    // A renewal before the end moves it.
    let renewed = format::Lease { retention: Retention { keep_until: 0, expires: now - 1 }, ..samples[3].lease(2) };
    let record = samples[3].record(&renewed, &node("o1"));
    for told in [catalog.put_lease(&renewed, &record.lease_envelope).await, catalog.put_record(&record).await] {
        assert!(matches!(refused(told), Refused::Ended { end, .. } if end == now - 1));
    }
    assert_eq!(catalog.expire(ago(catalog, 0).await, 9).await.unwrap(), 0);
    catalog.restore_record(&record, 0).await.unwrap();
    assert_eq!(catalog.expire(ago(catalog, 0).await, 9).await.unwrap(), 1);
}

pub(in crate::catalog) async fn many_takers_never_share_a_repair_or_a_ticket(catalog: &dyn Catalog) {
    const EACH: u8 = 60;
    for object in 0..EACH {
        catalog.queue_repair(&ask(object, i32::from(object % 3))).await.unwrap();
        let ticket = Ticket { node: node("bad"), object: ObjectId([object; 32]), column: 0, stripe: 0 };
        catalog.report(&node("e1"), &ticket).await.unwrap();
    }
    let taker = |number: usize| async move {
        let (holder, mut repairs, mut tickets) = (node(&format!("o{number}")), Vec::new(), Vec::new());
        while let Some(repair) = catalog.take_repair(&holder, HOLD).await.unwrap() {
            repairs.push(repair.object.0[0]);
            let taken = catalog.take_tickets(&holder, HOLD, 2).await.unwrap();
            tickets.extend(taken.iter().map(|ticket| ticket.object.0[0]));
        }
        (repairs, tickets)
    };
    let all = futures::future::join_all((0..8).map(taker)).await;
    let (mut repairs, mut tickets) = (Vec::new(), Vec::new());
    for (some_repairs, some_tickets) in all {
        repairs.extend(some_repairs);
        tickets.extend(some_tickets);
    }
    repairs.sort_unstable();
    tickets.sort_unstable();
    let each: Vec<_> = (0..EACH).collect();
    assert_eq!((&repairs, &tickets), (&each, &each));
}
