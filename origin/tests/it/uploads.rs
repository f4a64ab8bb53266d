//! Uploads in the real world: answers that are lost, nodes that restart, disks that take their time.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use client::{HttpTransport, ShardAsk, Topology, Transport, TransportError};
use format::wire::Role;
use origin::{
    Origin,
    store::{Disk, RealDisk, Step, SyncFailure},
};
use testing::{Sample, conformance::status, until};
use tokio::time::timeout;

use crate::world::World;

/// A disk on which fsyncs of strips wait until the gate is open.
#[derive(Default)]
struct Gate {
    waiting: Mutex<usize>,
    open: (Mutex<bool>, Condvar),
}

impl Gate {
    fn open(&self) {
        *self.open.0.lock().unwrap() = true;
        self.open.1.notify_all();
    }
}

impl Disk for Gate {
    fn sync(&self, file: &File) -> io::Result<()> {
        RealDisk.sync(file)
    }

    fn reached(&self, step: Step) {
        if step == Step::StripsSynced {
            *self.waiting.lock().unwrap() += 1;
            let _open = self.open.1.wait_while(self.open.0.lock().unwrap(), |open| !*open).unwrap();
        }
    }

    fn crash(&self, failure: &SyncFailure) -> ! {
        panic!("{failure}")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_comes_again_while_the_first_syncs_gets_the_same_answer() {
    let world = World::start(0, "").await;
    let gate = Arc::new(Gate::default());
    let (config, identity) = (world.config("o1", ""), world.identity("o1", Role::Origin));
    let running = Origin::start_on(config, identity, world.stop.clone(), gate.clone()).await.unwrap();
    let entry = world.entry("o1", Role::Origin, Some(running.local_addr.into()));
    let (node, topology) = (entry.name.clone(), Arc::new(Topology::new(vec![entry])));
    let twin = Arc::new(HttpTransport::new(&world.identity("t1", Role::Twin), topology).unwrap());

    let sample = Sample::new(1, 3 << 20);
    let public = sample.sealed.public.encoded();
    let upload = twin.create_upload(&node, 0, 6).await.unwrap();
    twin.append(&node, &upload, 0, &sample.columns[0]).await.unwrap();
    let commit = || {
        let (twin, node, upload, public) = (twin.clone(), node.clone(), upload.clone(), public.clone());
        tokio::spawn(async move { twin.commit(&node, &upload, 0, public).await })
    };
    let first = commit();
    until("the first commit to sync", || async { *gate.waiting.lock().unwrap() == 1 }).await;
    let mut again = commit();
    let early = timeout(Duration::from_millis(300), &mut again).await;
    assert!(early.is_err(), "it is answered before the shard is durable: {early:?}");
    assert_eq!(status(twin.append(&node, &upload, 0, &sample.columns[0][..1]).await), 503, "it is being committed");
    gate.open();
    assert_eq!((first.await.unwrap(), again.await.unwrap(), commit().await.unwrap()), (Ok(()), Ok(()), Ok(())));
    assert_eq!(*gate.waiting.lock().unwrap(), 1, "the shard was made once");
    twin.read_shard(&node, ShardAsk { object: sample.id(), column: 0, first: 0, count: 1 }).await.unwrap();
    world.end().await;
    running.stopped().await.unwrap();
}

/// A disk on which the first commit that comes so far ends by a panic, as a fault of the program would.
#[derive(Default)]
struct Panics {
    done: AtomicBool,
}

impl Disk for Panics {
    fn sync(&self, file: &File) -> io::Result<()> {
        RealDisk.sync(file)
    }

    fn reached(&self, step: Step) {
        assert!(step != Step::StripsSynced || self.done.swap(true, Ordering::SeqCst), "a planted fault");
    }

    fn crash(&self, failure: &SyncFailure) -> ! {
        panic!("{failure}")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_panics_is_answered_and_made_again() {
    let world = World::start(0, "").await;
    let (config, identity) = (world.config("o1", ""), world.identity("o1", Role::Origin));
    let running = Origin::start_on(config, identity, world.stop.clone(), Arc::new(Panics::default())).await.unwrap();
    let entry = world.entry("o1", Role::Origin, Some(running.local_addr.into()));
    let (node, topology) = (entry.name.clone(), Arc::new(Topology::new(vec![entry])));
    let twin = HttpTransport::new(&world.identity("t1", Role::Twin), topology).unwrap();
    let sample = Sample::new(1, 3 << 20);
    let upload = twin.create_upload(&node, 0, 6).await.unwrap();
    twin.append(&node, &upload, 0, &sample.columns[0]).await.unwrap();
    let commit = || twin.commit(&node, &upload, 0, sample.sealed.public.encoded().clone());
    assert_eq!(status(commit().await), 500);
    commit().await.unwrap();
    twin.read_shard(&node, ShardAsk { object: sample.id(), column: 0, first: 0, count: 1 }).await.unwrap();
    world.end().await;
    running.stopped().await.unwrap();
}

/// The one draft of a node.
fn draft(world: &World) -> PathBuf {
    let mut drafts = fs::read_dir(world.data_dir("o1").join("tmp")).unwrap();
    drafts.next().expect("there is a draft").unwrap().path()
}

async fn commits(world: &World, upload: &str, sample: &Sample, from: usize) {
    let (twin, node) = (world.caller("t1", Role::Twin), world.name(1));
    twin.append(&node, upload, from as u64, &sample.columns[0][from..]).await.unwrap();
    twin.commit(&node, upload, 0, sample.sealed.public.encoded().clone()).await.unwrap();
    let ask = ShardAsk { object: sample.id(), column: 0, first: 0, count: 3 };
    twin.read_shard(&node, ask).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_goes_on_after_restarts_of_its_node() {
    let (mut world, sample) = (World::start(1, "").await, Sample::new(1, 3 << 20));
    let (twin, node) = (world.caller("t1", Role::Twin), world.name(1));
    let upload = twin.create_upload(&node, 0, 6).await.unwrap();
    for cells in 1..=2 {
        let twin = world.caller("t1", Role::Twin);
        twin.append(&node, &upload, cells - 1, &sample.columns[0][usize::try_from(cells).unwrap() - 1..][..1])
            .await
            .unwrap();
        world.stop_node(1).await;
        world.start_node(1).await;
        let (twin, other) = (world.caller("t1", Role::Twin), world.caller("t2", Role::Twin));
        assert_eq!(twin.upload_cells(&node, &upload).await, Ok(cells));
        assert_eq!(status(other.upload_cells(&node, &upload).await), 404, "another's");
    }
    commits(&world, &upload, &sample, 2).await;
    world.end().await;
}

/// A power cut takes what was not synced, or leaves something else in its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_power_cut_takes_of_an_upload_is_told_and_sent_again() {
    let sample = Sample::new(1, 3 << 20);
    let cell = usize::try_from(sample.cell_start(0, 1)).unwrap();
    let cut = |bytes: usize| move |file: &mut Vec<u8>| file.truncate(bytes);
    let zeros = |from: usize| move |file: &mut Vec<u8>| file[from..].fill(0);
    type Harm = Box<dyn Fn(&mut Vec<u8>)>;
    let harms: [(Harm, usize); 6] = [
        (Box::new(cut(0)), 0),
        (Box::new(cut(cell * 2 - 1)), 1),
        (Box::new(cut(cell + 10)), 1),
        (Box::new(zeros(cell)), 1),
        (Box::new(zeros(cell + 4)), 1),
        (Box::new(move |file| file[cell * 2 - 1] ^= 1), 1),
    ];
    for (number, (harm, left)) in harms.into_iter().enumerate() {
        let mut world = World::start(1, "").await;
        let (twin, node) = (world.caller("t1", Role::Twin), world.name(1));
        let upload = twin.create_upload(&node, 0, 6).await.unwrap();
        twin.append(&node, &upload, 0, &sample.columns[0][..2]).await.unwrap();
        world.stop_node(1).await;
        let path = draft(&world);
        let mut bytes = fs::read(&path).unwrap();
        harm(&mut bytes);
        fs::write(&path, bytes).unwrap();
        world.start_node(1).await;
        let twin = world.caller("t1", Role::Twin);
        assert_eq!(status(twin.append(&node, &upload, 2, &sample.columns[0][2..]).await), 409, "harm {number}");
        assert_eq!(twin.upload_cells(&node, &upload).await, Ok(left as u64), "harm {number}");
        commits(&world, &upload, &sample, left).await;
        world.end().await;
    }
}

/// Drafts give way to what needs their room. One that is dropped where only the operator's bound is reached would make
/// none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_has_all_it_may_have_drops_no_draft_for_it() {
    let (mut world, sample) = (World::start(1, "").await, Sample::new(1, 3 << 20));
    let node = world.name(1);
    let upload = world.caller("t1", Role::Twin).create_upload(&node, 0, 6).await.unwrap();
    world.caller("t1", Role::Twin).append(&node, &upload, 0, &sample.columns[0][..1]).await.unwrap();
    testing::conformance::upload(&world.caller("t1", Role::Twin), &node, &sample.columns[1], 1, &sample.sealed.public)
        .await
        .unwrap();
    world.stop_node(1).await;
    let file = OpenOptions::new().append(true).open(draft(&world)).unwrap();
    file.set_modified(std::time::SystemTime::now() - Duration::from_secs(60)).unwrap();
    world.set("capacity_bytes = 700_000");
    world.start_node(1).await;
    let twin = world.caller("t1", Role::Twin);
    assert_eq!(status(twin.create_upload(&node, 0, 6).await), 507);
    assert_eq!(twin.upload_cells(&node, &upload).await, Ok(1));
    world.end().await;
}

/// Every cell of the sample has 262,000 bytes and more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drafts_take_no_more_than_may_become_shards_and_no_caller_has_all_of_it() {
    let (world, sample) = (World::start(1, "capacity_bytes = 1_200_000").await, Sample::new(1, 3 << 20));
    let (greedy, again, other) =
        (world.caller("t1", Role::Twin), world.caller("t1", Role::Twin), world.caller("t2", Role::Twin));
    let node = world.name(1);
    let cells = |cells: std::ops::Range<usize>| &sample.columns[0][cells];
    // On two connections, and a cell in each call: what counts is the sum.
    let first = greedy.create_upload(&node, 0, 6).await.unwrap();
    let second = again.create_upload(&node, 0, 6).await.unwrap();
    greedy.append(&node, &first, 0, cells(0..1)).await.unwrap();
    greedy.append(&node, &first, 1, cells(1..2)).await.unwrap();
    let refused = again.append(&node, &second, 0, cells(0..1)).await.unwrap_err();
    assert!(refused.is_retryable() && !refused.is_full() && !refused.ends_upload(), "{refused}");
    assert!(refused.to_string().contains("its share of what those of others leave"), "{refused}");
    // Others have room, and as much stays free for more of them.
    let third = other.create_upload(&node, 0, 6).await.unwrap();
    other.append(&node, &third, 0, cells(0..1)).await.unwrap();
    let refused = other.append(&node, &third, 1, cells(1..2)).await.unwrap_err();
    assert!(refused.is_retryable() && !refused.ends_upload(), "{refused}");
    assert!(refused.to_string().contains("its share of what those of others leave"), "{refused}");
    // It passes.
    greedy.abort(&node, &first).await.unwrap();
    other.append(&node, &third, 1, cells(1..2)).await.unwrap();
    assert_eq!(other.upload_cells(&node, &third).await, Ok(2));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drafts_that_nobody_goes_on_with_do_not_outlive_their_age() {
    let mut world = World::start(1, "limits.upload_idle_seconds = 3600\nlimits.sweep_seconds = 1").await;
    let (twin, node, sample) = (world.caller("t1", Role::Twin), world.name(1), Sample::new(1, 3 << 20));
    let upload = twin.create_upload(&node, 0, 6).await.unwrap();
    twin.append(&node, &upload, 0, &sample.columns[0][..1]).await.unwrap();
    world.stop_node(1).await;
    let file = OpenOptions::new().append(true).open(draft(&world)).unwrap();
    file.set_modified(std::time::SystemTime::now() - Duration::from_secs(3601)).unwrap();
    fs::write(world.data_dir("o1").join("tmp/scrap"), b"of a commit").unwrap();
    world.start_node(1).await;
    let tmp = world.data_dir("o1").join("tmp");
    until("the end of the draft", || async { fs::read_dir(&tmp).unwrap().count() == 0 }).await;
    let gone = world.caller("t1", Role::Twin).upload_cells(&node, &upload).await.unwrap_err();
    // Whoever reads it knows what happened and what to do.
    let TransportError::Refused { status: 404, reason, .. } = gone else { panic!("{gone}") };
    assert!(reason.contains("nobody went on with it for too long") && reason.contains("again"), "{reason}");
    world.end().await;
}
