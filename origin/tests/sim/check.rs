//! What must always hold, by what lies on disks and what nodes answer: judged without the code that is judged, as far
//! as it goes.

use std::{collections::BTreeMap, time::Duration};

use axum::http::StatusCode;
use client::{Reader, ReaderOptions, Receipt};
use format::{NodeName, Object, Record, wire::Role};
use origin::catalog::Catalog;
use tokio::time::{Instant, sleep};

use crate::{object::Stored, trace::lock, work, world::World};

/// After the last fault everything is whole again within this.
const HEALED: Duration = Duration::from_secs(240);
const LOOK_EVERY: Duration = Duration::from_secs(4);

/// An acknowledged upload is durable on a quorum of nodes, and no zone has more columns than the placement says.
pub(crate) async fn acknowledged(world: &World, object: &Stored, receipt: &Receipt) {
    let public = &object.sealed.public;
    let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
    let mut durable = 0;
    for (column, node) in receipt.placement.iter().enumerate() {
        let Some(node) = node else { continue };
        let host = world.host(node);
        *zones.entry(&host.place.zone).or_default() += 1;
        // A node that went down in this moment has its disk.
        let is_off = host.service().is_none() && host.folder().exists();
        durable += usize::from(is_off || world.holds(node, public, column).await);
    }
    let lost = world.lost_disks();
    let quorum = public.redundancy().map_or(0, |redundancy| redundancy.quorum());
    if durable + lost < quorum {
        world.trace.violated(format_args!("{} was acknowledged with {durable} of {quorum} columns", object.name));
    }
    for (zone, columns) in zones {
        if columns > object.zone_columns_max() {
            world.trace.violated(format_args!("{} was stored with {columns} columns in {zone}", object.name));
        }
    }
}

/// Waits until every living object has its redundancy again.
pub(crate) async fn heals(world: &World, objects: &[std::sync::Arc<Stored>]) {
    let began = Instant::now();
    let mut why = String::new();
    while began.elapsed() < HEALED {
        sleep(LOOK_EVERY).await;
        let mut sick = None;
        for object in objects {
            if let Some(lack) = lacks(world, object).await {
                sick = Some(format!("{}: {lack}", object.name));
                break;
            }
        }
        match sick {
            Some(lack) => why = lack,
            None => {
                world.trace.note(format_args!("whole again after {} ms", began.elapsed().as_millis()));
                return;
            }
        }
    }
    world.trace.violated(format_args!("not whole again after {} s: {why}", HEALED.as_secs()));
}

/// What an object lacks of its redundancy and of its spread over zones.
async fn lacks(world: &World, object: &Stored) -> Option<String> {
    let public = &object.sealed.public;
    if lock(&object.known).erasing || public.redundancy().is_none() {
        return None;
    }
    let row = match world.catalog.object(&public.id()).await {
        Ok(Some(row)) => row,
        Ok(None) => return Some("the catalog does not know it".to_owned()),
        Err(error) => return Some(error.to_string()),
    };
    let mut whole = 0;
    let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
    for column in 0..public.columns() {
        // A column without strips lies everywhere.
        if public.column_strips(column) == 0 {
            whole += 1;
            continue;
        }
        let mut holders: Vec<&NodeName> = Vec::new();
        for (_, node) in row.shards.iter().filter(|(of, _)| *of == column) {
            if world.holds(node, public, column).await {
                holders.push(node);
            }
        }
        whole += usize::from(!holders.is_empty());
        let mut at: Vec<&str> = holders.iter().map(|node| world.host(node).place.zone.as_str()).collect();
        at.dedup();
        // One that has copies in two zones is on its way from one to the other.
        if let [zone] = at[..] {
            *zones.entry(zone).or_default() += 1;
        }
    }
    if whole < object.columns_healthy() {
        return Some(format!("{whole} of {} columns", object.columns_healthy()));
    }
    let (zone, columns) = zones.into_iter().max_by_key(|(_, columns)| *columns)?;
    (columns > object.zone_columns_max()).then(|| format!("{columns} columns in {zone}"))
}

/// At the end every node agrees in what was acknowledged last, and every object reads exactly,
/// from the nodes alone.
pub(crate) async fn finally(world: &std::sync::Arc<World>, objects: &[std::sync::Arc<Stored>]) {
    for object in objects {
        let known = *lock(&object.known);
        let path = format!("/v1/records/{}", object.sealed.locator);
        for host in &world.hosts {
            let Some((status, body)) = world.inspect(host, &path).await else {
                world.trace.violated(format_args!("{} is down at the end", host.name));
                continue;
            };
            let record = (status == StatusCode::OK).then(|| Record::decode(&body).ok()).flatten();
            let Some(record) = record else {
                world.trace.violated(format_args!("{} has {status} for {}", host.name, object.name));
                continue;
            };
            let version = record.lease.version;
            if !(known.acknowledged..=known.sent).contains(&version) {
                let Stored { name, .. } = &**object;
                world.trace.violated(format_args!("{} has {name} by {version} for {known:?}", host.name));
            }
            let erased = record.lease.erased && record.sealed.is_none();
            if known.erased && !erased || erased && !known.erasing {
                world.trace.violated(format_args!("{} has {} erased: {erased}", host.name, object.name));
            }
            if !erased && let Err(error) = Object::open(&object.sealed.capability, &record, 0) {
                world.trace.violated(format_args!("what {} has of {} does not open: {error}", host.name, object.name));
            }
        }
    }
    let topology = world.topology().await;
    // Reads do not need the catalog.
    world.catalog.set_down(true);
    for (number, object) in objects.iter().enumerate() {
        let place = World::outside(number % 8);
        let transport = world.transport("viewer", Role::Edge, place.clone());
        let reader = Reader::new(transport, topology.clone(), place, ReaderOptions::default());
        let read = work::read(world, &reader, object, None, true).await;
        let known = *lock(&object.known);
        match read {
            Ok(_) if known.erased => world.trace.violated(format_args!("{} reads although erased", object.name)),
            Err(error) if !known.erasing => {
                world.trace.violated(format_args!("{} cannot be read at the end: {error}", object.name));
            }
            _ => world.trace.note(format_args!("{} read at the end", object.name)),
        }
    }
}
