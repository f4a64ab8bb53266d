//! The scan: walks over all objects and asks for the repair of those that need it. One origin at a time does it for
//! all; its cursor is in the catalog, so that the next holder goes on where the last one stopped. When a node goes down
//! or is to be emptied, its objects are looked at first. Between walks, while nothing else is to be repaired, it evens
//! out how full nodes are by what the last walk counted.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use format::{NodeName, ObjectId};
use tokio::time::Instant;

use super::{HOLD, ask, balance::Balance, census::Census, diagnose, may_judge, standing::Standing, standings};
use crate::{
    catalog::{CatalogError, MARGIN_LAST, OBJECTS_MAX, ObjectPage, RepairAsk, RepairCause, RepairQueue, Revival},
    node::Node,
    upkeep::pause,
};

const WORK: &str = "scan";
/// Between pages, so that the catalog has time for others: 256 objects in this time are 10^7 in an hour and a half.
const PAGE_PAUSE: Duration = Duration::from_millis(100);
/// Between looks at the nodes.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What the holder of the scan remembers between its steps.
#[derive(Default)]
struct Walk {
    /// How nodes stood when they were last looked at.
    known: BTreeMap<NodeName, Standing>,
    cursor: Option<ObjectId>,
    /// What the walk has counted; none when it did not begin here, or with the first object.
    census: Option<Census>,
    balance: Balance,
    /// When the next full walk begins; one is under way when none.
    rest_until: Option<Instant>,
}

impl Walk {
    fn cursor_bytes(&self) -> &[u8] {
        self.cursor.as_ref().map_or(&[], |object| &object.0[..])
    }
}

/// Scans until the node stops.
pub(crate) async fn run(node: Arc<Node>) {
    let mut walk: Option<Walk> = None;
    while pause(LOOK_EVERY, &node.stop).await {
        match step(&node, walk.take()).await {
            Ok(next) => {
                if next.is_none() {
                    node.metrics.forget_scan();
                }
                walk = next;
            }
            Err(error) => tracing::warn!(%error, "the scan for lost shards cannot go on"),
        }
    }
    // Whoever is up goes on at once: what this node takes along may be what has to be repaired.
    if let Some(walk) = walk
        && let Err(error) = node.catalog.keep_work(WORK, &node.config.name, Duration::ZERO, walk.cursor_bytes()).await
    {
        tracing::warn!(%error, "the scan cannot be left to others before its time");
    }
}

/// Takes or keeps the scan, looks at the nodes and walks for a while. Returns what to remember; none when another has
/// it.
async fn step(node: &Arc<Node>, walk: Option<Walk>) -> Result<Option<Walk>, CatalogError> {
    let name = &node.config.name;
    if !may_judge(node) {
        return Ok(walk);
    }
    let Some(cursor) = node.catalog.take_work(WORK, name, HOLD).await? else { return Ok(None) };
    let mut walk = walk.unwrap_or_else(|| Walk { cursor: read_cursor(&cursor), ..Walk::default() });
    look_at_nodes(node, &mut walk).await?;
    if walk.rest_until.is_none_or(|until| Instant::now() >= until) && !walk_on(node, &mut walk).await? {
        return Ok(None);
    }
    let queue = node.catalog.repair_queue().await?;
    node.metrics.backlog(&queue);
    if walk.rest_until.is_some() {
        even_out(node, &mut walk.balance, queue).await?;
    }
    Ok(Some(walk))
}

/// Walks for a while. False when another has the scan.
async fn walk_on(node: &Arc<Node>, walk: &mut Walk) -> Result<bool, CatalogError> {
    walk.rest_until = None;
    let started = Instant::now();
    while started.elapsed() < LOOK_EVERY {
        if walk.cursor.is_none() {
            walk.census = Some(Census::default());
        }
        let page = node.catalog.objects(walk.cursor.as_ref(), OBJECTS_MAX).await?;
        walk.cursor = page.next;
        look_at(node, page, walk.census.as_mut()).await?;
        if !node.catalog.keep_work(WORK, &node.config.name, HOLD, walk.cursor_bytes()).await? {
            return Ok(false);
        }
        if walk.cursor.is_none() {
            node.metrics.scans.inc();
            walk.rest_until = Some(Instant::now() + Duration::from_secs(node.config.limits.scan_seconds));
            if let Some(census) = walk.census.take() {
                let survey = census.survey(node.catalog.now().await?);
                node.metrics.survey(&survey);
                node.put_survey(survey);
                walk.balance.renew(census.kept_bytes);
            }
            break;
        }
        if !pause(PAGE_PAUSE, &node.stop).await {
            break;
        }
    }
    Ok(true)
}

/// Asks for moves from fuller to emptier nodes, while nothing else is to be repaired.
async fn even_out(node: &Arc<Node>, balance: &mut Balance, queue: RepairQueue) -> Result<(), CatalogError> {
    let limits = &node.config.limits;
    let mut room = u64::from(limits.balance_moves_max).saturating_sub(queue.balancing);
    if limits.balance_percent == 0 || queue.waiting + queue.running > queue.balancing {
        return Ok(());
    }
    let mut standings = standings(node).await?;
    let started = Instant::now();
    while room > 0 && started.elapsed() < LOOK_EVERY {
        let threshold = f64::from(limits.balance_percent) / 100.0;
        let Some((giver, after)) = balance.giver(&standings, threshold) else { break };
        let page = node.catalog.objects_on(&giver, after.as_ref(), OBJECTS_MAX).await?;
        let mut reached = page.next;
        for row in &page.objects {
            let Some(chosen) = balance.choose(row, &giver, &mut standings) else { continue };
            let target = Some((chosen.column, chosen.to));
            let (object, bytes, cause) = (row.id(), chosen.bytes, RepairCause::Balance);
            node.catalog
                .queue_repair(&RepairAsk { object, margin: MARGIN_LAST, bytes, cause, target, only_lost: vec![] })
                .await?;
            room -= 1;
            if room == 0 {
                reached = Some(object);
                break;
            }
        }
        balance.looked(&giver, reached);
        node.repair_wanted.notify_one();
        if !pause(PAGE_PAUSE, &node.stop).await {
            break;
        }
    }
    Ok(())
}

fn read_cursor(cursor: &Bytes) -> Option<ObjectId> {
    <[u8; 32]>::try_from(&cursor[..]).ok().map(ObjectId)
}

/// Looks at the objects of nodes that stand worse than before; a node that is new or came back gives given-up repairs
/// another try.
async fn look_at_nodes(node: &Arc<Node>, walk: &mut Walk) -> Result<(), CatalogError> {
    let now = standings(node).await?;
    let changed: Vec<(NodeName, Standing)> = now
        .names()
        .filter(|(name, standing)| walk.known.get(*name) != Some(standing))
        .map(|(name, standing)| (name.clone(), standing))
        .collect();
    // At first all nodes are news.
    let is_first_look = walk.known.is_empty();
    for (name, standing) in changed {
        match standing {
            Standing::Up if !is_first_look => {
                tracing::info!(node = %name, "a node is back, or new");
                // The others are looked at all the same, and this one again.
                if let Err(error) = node.catalog.revive_repairs(Revival::Node).await {
                    tracing::warn!(%error, "not all repairs that were given up are tried again yet");
                    continue;
                }
                node.repair_wanted.notify_one();
            }
            Standing::Up => {}
            Standing::Down | Standing::Draining => {
                tracing::warn!(node = %name, ?standing, "looking for the shards of a node");
                let mut after = None;
                loop {
                    let page = node.catalog.objects_on(&name, after.as_ref(), OBJECTS_MAX).await?;
                    after = page.next;
                    look_at(node, page, None).await?;
                    if after.is_none() || !pause(PAGE_PAUSE, &node.stop).await {
                        break;
                    }
                    node.catalog.take_work(WORK, &node.config.name, HOLD).await?;
                }
            }
        }
        walk.known.insert(name, standing);
    }
    Ok(())
}

/// Asks for the repair of those that need it, and counts all when there is a census.
async fn look_at(node: &Arc<Node>, page: ObjectPage, mut census: Option<&mut Census>) -> Result<(), CatalogError> {
    if page.objects.is_empty() {
        return Ok(());
    }
    let mut now = standings(node).await?;
    let mut queued = false;
    for row in &page.objects {
        let found = diagnose(row, &mut now);
        if let Some(census) = &mut census {
            census.count(&row.public, &found);
        }
        if let Some(cause) = found.act {
            ask(node, row, &found, cause).await?;
            queued = true;
        }
    }
    if queued {
        node.repair_wanted.notify_one();
    }
    Ok(())
}
