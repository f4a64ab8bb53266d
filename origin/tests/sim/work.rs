//! What goes on all the time: twins that store, renew and erase, and edges that read.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use client::{ReadError, Reader, ReaderOptions, Transport};
use format::{Object, OpenError, Record, StripeIndex, wire::Role};
use tokio::time::sleep;

use crate::{
    check,
    object::{Draft, Known, Stored},
    trace::lock,
    world::World,
};

/// Objects of one simulation, at most.
const OBJECTS_MAX: usize = 16;
/// An edge holds an opened object for so many reads.
const HELD_READS: usize = 4;

/// All acknowledged objects, and how many of the first of them must be readable whatever is wrong now.
#[derive(Default)]
pub(crate) struct Shelf {
    objects: Mutex<Vec<Arc<Stored>>>,
    must_read: AtomicUsize,
    pub(crate) reads: AtomicUsize,
    pub(crate) failures: AtomicUsize,
}

impl Shelf {
    pub(crate) fn objects(&self) -> Vec<Arc<Stored>> {
        lock(&self.objects).clone()
    }

    /// From now on all that is here must be readable, or nothing need be.
    pub(crate) fn must_read(&self, all: usize) {
        self.must_read.store(all, Ordering::Relaxed);
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.objects).len()
    }

    fn draw(&self, world: &World) -> Option<(usize, Arc<Stored>)> {
        let objects = lock(&self.objects);
        let at = world.draw(|dice| dice.usize(0..objects.len().max(1)));
        Some((at, objects.get(at)?.clone()))
    }
}

fn pause(world: &World, ms: std::ops::Range<u64>) -> tokio::time::Sleep {
    sleep(Duration::from_millis(world.draw(|dice| dice.u64(ms))))
}

/// Stores, renews and erases for ever.
pub(crate) async fn twin(world: Arc<World>, shelf: Arc<Shelf>, number: usize) {
    let place = World::outside(number);
    let transport = world.transport(&format!("t{number}"), Role::Twin, place);
    let topology = world.topology().await;
    let mut stored = 0;
    loop {
        pause(&world, 1_000..6_000).await;
        world.refresh(&*transport, &topology).await;
        let (what, at) = world.draw(|dice| (dice.u32(0..10), dice.usize(0..world.hosts.len())));
        let node = world.hosts[at].name.clone();
        if what < 6 && shelf.len() < OBJECTS_MAX {
            stored += 1;
            let draft = Draft::new(&world, stored * 10 + number);
            let (name, length) = (draft.name.clone(), draft.bytes.len());
            match draft.store(transport.clone(), topology.clone()).await {
                Ok((object, receipt)) => {
                    world.trace.note(format_args!("{name} of {length} bytes stored {}", receipt.durable));
                    check::acknowledged(&world, &object, &receipt).await;
                    lock(&shelf.objects).push(Arc::new(object));
                }
                Err(error) => world.trace.note(format_args!("{name} of {length} bytes not stored: {error}")),
            }
            continue;
        }
        let Some((_, object)) = shelf.draw(&world) else { continue };
        let known = *lock(&object.known);
        if what == 9 {
            // Who kept an old lease or record and brings it back, or wraps the lease into another record, changes
            // nothing.
            let old = object.lease(known.sent.saturating_sub(1).max(1), false);
            let locator = &object.sealed.locator;
            let renewed = transport.put_lease(&node, locator, old).await.is_ok();
            let forgery = world.draw(|dice| dice.usize(0..4));
            let filed = transport.put_record(&node, locator, object.forged(forgery)).await.is_ok();
            world.trace.note(format_args!("{} brought back as {forgery} at {node}: {renewed} {filed}", object.name));
        } else if !known.erasing {
            let (version, erased) = (known.sent + 1, what >= 8 && shelf.len() > 4);
            *lock(&object.known) = Known { sent: version, erasing: erased, ..known };
            let done = transport.put_lease(&node, &object.sealed.locator, object.lease(version, erased)).await;
            if done.is_ok() {
                let mut known = lock(&object.known);
                (known.acknowledged, known.erased) = (version, erased);
            }
            let verb = if erased { "erased" } else { "renewed" };
            world.trace.note(format_args!("{} {verb} by {version} at {node}: {}", object.name, done.is_ok()));
        }
    }
}

/// What an edge holds of an object it opened.
type Held = (Arc<Object>, Record, usize);

/// Reads for ever.
pub(crate) async fn edge(world: Arc<World>, shelf: Arc<Shelf>, number: usize) {
    let place = World::outside(number);
    let transport = world.transport(&format!("e{number}"), Role::Edge, place.clone());
    let topology = world.topology().await;
    let reader = Reader::new(transport.clone(), topology.clone(), place, ReaderOptions::default());
    let mut held: BTreeMap<usize, Held> = BTreeMap::new();
    loop {
        pause(&world, 1_000..7_000).await;
        if world.draw(|dice| dice.u32(0..4)) == 0 {
            world.refresh(&*transport, &topology).await;
        }
        let Some((at, object)) = shelf.draw(&world) else { continue };
        let had_to = shelf.must_read.load(Ordering::Relaxed) > at;
        let whole = world.draw(|dice| dice.u32(0..4)) == 0;
        let from = held.remove(&at).filter(|(.., left)| *left > 0);
        let read = read(&world, &reader, &object, from, whole).await;
        shelf.reads.fetch_add(1, Ordering::Relaxed);
        let has_to = had_to && shelf.must_read.load(Ordering::Relaxed) > at;
        let outcome = match read {
            Ok(now) => {
                held.insert(at, now);
                "exact".to_owned()
            }
            Err(error) => {
                shelf.failures.fetch_add(1, Ordering::Relaxed);
                let erasing = lock(&object.known).erasing;
                match error {
                    ReadError::Decode(_) => world.trace.violated(format_args!("{} is broken: {error}", object.name)),
                    ReadError::Open(OpenError::Erased) if !erasing => {
                        world.trace.violated(format_args!("{} is told to be erased", object.name));
                    }
                    _ if has_to && !erasing => {
                        world.trace.violated(format_args!("e{number} cannot read {}: {error}", object.name));
                    }
                    _ => {}
                }
                error.to_string()
            }
        };
        world.trace.note(format_args!("e{number} read {}: {outcome}", object.name));
    }
}

/// Reads an object or one block of it, and compares every byte.
///
/// # Errors
/// What the reader says; wrong bytes are noted as a violation.
pub(crate) async fn read(
    world: &World,
    reader: &Reader,
    stored: &Stored,
    held: Option<Held>,
    whole: bool,
) -> Result<Held, ReadError> {
    let (object, record, left) = match held {
        Some((object, record, left)) => (object, record, left - 1),
        None => {
            let (object, record) = reader.object(&stored.sealed.capability).await?;
            (object, record, HELD_READS)
        }
    };
    let wrong = || world.trace.violated(format_args!("{} reads as other bytes", stored.name));
    let Some(geometry) = object.geometry() else {
        if object.inline().is_none_or(|inline| inline[..] != stored.bytes[..]) {
            wrong();
        }
        return Ok((object, record, left));
    };
    let all: Vec<StripeIndex> = (0..geometry.stripes()).map(StripeIndex).collect();
    let one = world.draw(|dice| dice.usize(0..all.len()));
    let stripes = if whole { &all[..] } else { &all[one..=one] };
    for stripe in stripes {
        let mut columns: Vec<usize> = (0..geometry.columns(*stripe)).collect();
        if !whole {
            let column = world.draw(|dice| dice.usize(0..columns.len()));
            columns = vec![column];
        }
        let read = reader.blocks(&object, &record.placement, *stripe, &columns).await?;
        for (column, (block, bytes)) in columns.iter().zip(&read.blocks) {
            let range = geometry.range(*block);
            let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
            if *block != geometry.block(*stripe, *column) || stored.bytes.get(range) != Some(&bytes[..]) {
                wrong();
            }
        }
        if read.blocks.len() != columns.len() {
            wrong();
        }
    }
    Ok((object, record, left))
}
