//! `evernear node drain`: says before the drain what can leave the node and what cannot, and shows the progress. It
//! fails when what is left has nowhere to go.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, Write},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use client::{HttpTransport, Topology, TransportError};
use format::{
    NodeName,
    wire::{Amount, NodeEntry, Obstacle, Role},
};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::{
    commands::Options,
    output::{bytes, count},
};

/// Shortest time between two polls of a node that is being emptied.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A poll lists every object on the node. The pause after it is at least this many times as long as the poll took.
const LOOK_SHARE: u32 = 4;
/// How many polls the rate is measured over: one minute at 2 s each, because shards complete in bursts.
const LOOKS_MAX: usize = 30;

/// What to do.
pub(super) enum Order {
    /// Empty the node.
    Empty,
    /// Empty it and wait until nothing is left, at most this long if a time is given.
    EmptyAndWait(Option<Duration>),
    /// Fill it again.
    Undo,
}

/// Why a drained node is not empty.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DrainError {
    /// The other nodes cannot take what is left.
    #[error("{} of {node} have nowhere to go; the rest has left, and it takes nothing new", amount(*.left))]
    Stuck { node: NodeName, left: Amount, source: Obstacles },
    /// The drain takes longer than the given time. It continues.
    #[error("{node} is not empty after {seconds} s: {left}; it goes on")]
    Late { node: NodeName, seconds: u64, left: String },
}

/// Reasons, sorted by the number of objects, most first.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Obstacles(String);

/// What a node holds, and where it goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct Outlook {
    /// What will move to other nodes.
    moving: Amount,
    /// What is on other nodes already, and is removed here soon.
    moved: Amount,
    /// What has nowhere to go, and why.
    stuck: Vec<Obstacle>,
    /// Bytes of all shards on the node.
    held_bytes: u64,
}

impl Outlook {
    async fn of(transport: &HttpTransport, node: &NodeName) -> Result<Self, TransportError> {
        let (mut whole, mut stuck, mut after) = (Self::default(), BTreeMap::<String, Amount>::new(), None);
        loop {
            let page = transport.drain_outlook(node, after.as_ref()).await?;
            whole.moving += page.moving;
            whole.moved += page.moved;
            whole.held_bytes = page.held_bytes;
            for Obstacle { why, amount } in page.stuck {
                *stuck.entry(why).or_default() += amount;
            }
            if page.next.is_none() {
                break;
            }
            after = page.next;
        }
        whole.stuck = stuck.into_iter().map(|(why, amount)| Obstacle { why, amount }).collect();
        whole.stuck.sort_by_key(|obstacle| std::cmp::Reverse(obstacle.amount.objects));
        Ok(whole)
    }

    fn stuck_amount(&self) -> Amount {
        self.stuck.iter().fold(Amount::default(), |mut sum, obstacle| {
            sum += obstacle.amount;
            sum
        })
    }

    /// Returns the objects that are not erased.
    fn living(&self) -> Amount {
        let mut living = self.stuck_amount();
        living += self.moving;
        living += self.moved;
        living
    }

    fn is_empty(&self) -> bool {
        self.living().objects == 0 && self.held_bytes == 0
    }

    /// Returns whether nothing can leave any more although something is left.
    fn is_stuck(&self) -> bool {
        self.moving.objects == 0 && self.moved.objects == 0 && !self.stuck.is_empty()
    }

    fn reasons(&self) -> Obstacles {
        let line = |obstacle: &Obstacle| format!("{}: {}", amount(obstacle.amount), obstacle.why);
        Obstacles(self.stuck.iter().map(line).collect::<Vec<_>>().join("; "))
    }

    /// Returns what is left, in one line.
    fn left(&self) -> String {
        let living = self.living();
        let mut parts = Vec::new();
        if living.objects > 0 {
            parts.push(amount(living));
        }
        if !self.stuck.is_empty() {
            parts.push(format!("{} of them with nowhere to go", amount(self.stuck_amount())));
        }
        // The two counts are not taken at the same moment, so a shard that comes or goes in between may be in only one
        // of them.
        let rest = self.held_bytes.saturating_sub(living.bytes);
        if rest > 0 {
            parts.push(format!("{} of erased objects, which go when their grace is over", bytes(rest)));
        }
        if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
    }
}

/// The answer of the command.
#[derive(Serialize)]
pub(super) struct Drained {
    node: NodeName,
    draining: bool,
    /// Whether the node holds nothing: after waiting, or already before the drain.
    empty: bool,
    /// What the node held before the drain; `None` when a drain is undone.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Outlook>,
}

impl Drained {
    pub(super) fn text(&self) -> String {
        let Self { node, draining, empty, before } = self;
        match (draining, empty, before) {
            (false, ..) => format!("{node} takes shards again\n"),
            (true, true, _) => format!("{node} is empty and may be switched off\n"),
            (true, false, before) => {
                let forecast = before.as_ref().map(|before| forecast(node, before)).unwrap_or_default();
                format!("{forecast}{node} is being emptied; `evernear node ls` shows what is left\n")
            }
        }
    }
}

fn forecast(node: &NodeName, before: &Outlook) -> String {
    let mut text =
        format!("{node} holds {}; {} can go to other origins\n", amount(before.living()), amount(before.moving));
    for Obstacle { why, amount: stuck } in &before.stuck {
        text += &format!("{} have nowhere to go: {why}\n", amount(*stuck));
    }
    text
}

fn amount(Amount { objects, bytes: held }: Amount) -> String {
    format!("{} ({})", count(objects, "object"), bytes(held))
}

/// The progress of a drain that somebody waits for.
#[derive(Serialize)]
struct Progress<'o> {
    #[serde(flatten)]
    left: &'o Outlook,
    bytes_per_second: u64,
}

impl Progress<'_> {
    /// Writes a line to standard error: standard output is for the answer.
    fn show(&self, options: &Options) -> anyhow::Result<()> {
        let line = if options.json {
            serde_json::to_string(self)?
        } else {
            format!("left: {}; {}/s", self.left.left(), bytes(self.bytes_per_second))
        };
        // A closed standard error is no failure.
        let _ = writeln!(io::stderr().lock(), "{line}");
        Ok(())
    }
}

/// Connects to a node by its own configuration and orders the drain.
pub(super) async fn run(path: &Path, order: Order, options: &Options) -> anyhow::Result<Drained> {
    let (node, transport) = reach(path)?;
    let told = || format!("{node} cannot be told; is it up?");
    if let Order::Undo = order {
        transport.drain(&node, false).await.with_context(told)?;
        return Ok(Drained { node, draining: false, empty: false, before: None });
    }
    let before = Outlook::of(&transport, &node).await.with_context(|| format!("{node} cannot be asked; is it up?"))?;
    let waits = match order {
        Order::EmptyAndWait(longest) => Some(longest),
        Order::Empty | Order::Undo => None,
    };
    if waits.is_some() && !options.json {
        let _ = io::stderr().lock().write_all(forecast(&node, &before).as_bytes());
    }
    transport.drain(&node, true).await.with_context(told)?;
    let Some(longest) = waits else {
        return Ok(Drained { node, draining: true, empty: before.is_empty(), before: Some(before) });
    };
    wait(&transport, &node, before.clone(), longest, options).await?;
    Ok(Drained { node, draining: true, empty: true, before: Some(before) })
}

/// Polls until nothing is left.
async fn wait(
    transport: &HttpTransport,
    node: &NodeName,
    mut left: Outlook,
    longest: Option<Duration>,
    options: &Options,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut looks = VecDeque::from([(begun, left.held_bytes)]);
    let mut pause = LOOK_EVERY;
    loop {
        if left.is_empty() {
            return Ok(());
        }
        if left.is_stuck() {
            bail!(DrainError::Stuck { node: node.clone(), left: left.stuck_amount(), source: left.reasons() });
        }
        if let Some(longest) = longest.filter(|longest| begun.elapsed() >= *longest) {
            bail!(DrainError::Late { node: node.clone(), seconds: longest.as_secs(), left: left.left() });
        }
        sleep(longest.map_or(pause, |longest| pause.min(longest.saturating_sub(begun.elapsed())))).await;
        let asked = Instant::now();
        left = Outlook::of(transport, node).await?;
        pause = LOOK_EVERY.max(asked.elapsed() * LOOK_SHARE);
        looks.push_back((Instant::now(), left.held_bytes));
        if looks.len() > LOOKS_MAX {
            looks.pop_front();
        }
        Progress { left: &left, bytes_per_second: pace(&looks) }.show(options)?;
    }
}

/// Returns the bytes per second that left the node, over all kept polls.
fn pace(looks: &VecDeque<(Instant, u64)>) -> u64 {
    let (Some((since, before)), Some((now, after))) = (looks.front(), looks.back()) else { return 0 };
    let milliseconds = now.duration_since(*since).as_millis().max(1);
    u64::try_from(u128::from(before.saturating_sub(*after)) * 1000 / milliseconds).unwrap_or(u64::MAX)
}

fn reach(path: &Path) -> anyhow::Result<(NodeName, HttpTransport)> {
    let config =
        origin::Config::read(path).with_context(|| format!("the configuration {} cannot be used", path.display()))?;
    let identity = config.identity().with_context(|| format!("the identity in {} cannot be used", path.display()))?;
    let (node, address) = (config.name.clone(), config.advertised(config.listen));
    if address.port() == 0 {
        bail!("{} listens on a port the system chose; give it a fixed one to reach it", node);
    }
    let entry = NodeEntry {
        name: node.clone(),
        role: Role::Origin,
        address: Some(address),
        public: Vec::new(),
        place: config.place.clone(),
        capacity_bytes: 0,
        free_bytes: 0,
        load: 0,
        draining: false,
        seen: 0,
    };
    let transport = HttpTransport::new(&identity, Arc::new(Topology::new(vec![entry])))?;
    Ok((node, transport))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outlook(moving: u64, moved: u64, stuck: u64, held_bytes: u64) -> Outlook {
        let amount = |objects| Amount { objects, bytes: objects * 1024 };
        let stuck = (stuck > 0).then(|| Obstacle { why: "no room".into(), amount: amount(stuck) });
        Outlook { moving: amount(moving), moved: amount(moved), stuck: stuck.into_iter().collect(), held_bytes }
    }

    #[test]
    fn a_node_is_stuck_only_once_everything_else_has_left() {
        for (left, is_stuck, is_empty) in [
            (outlook(1, 0, 1, 9), false, false),
            (outlook(0, 1, 1, 9), false, false),
            (outlook(0, 0, 1, 9), true, false),
            (outlook(0, 0, 0, 9), false, false),
            (outlook(0, 0, 0, 0), false, true),
        ] {
            assert_eq!((left.is_stuck(), left.is_empty()), (is_stuck, is_empty), "{left:?}");
        }
    }

    #[test]
    fn what_is_left_is_told_in_numbers() {
        let said = outlook(2, 1, 1, 10 * 1024).left();
        assert_eq!(
            said,
            "4 objects (4.00 KiB), 1 object (1.00 KiB) of them with nowhere to go, 6.00 KiB of erased objects, which go when their grace is over"
        );
        let node = "o3".parse().unwrap();
        let said = forecast(&node, &outlook(2, 0, 1, 0));
        assert!(
            said.contains("o3 holds 3 objects") && said.contains("1 object (1.00 KiB) have nowhere to go: no room"),
            "{said}"
        );
    }

    #[test]
    fn the_pace_is_what_left_over_the_looks() {
        let now = Instant::now();
        let looks = [(now, 9000), (now + Duration::from_secs(2), 5000), (now + Duration::from_secs(4), 1000)].into();
        assert_eq!(pace(&looks), 2000);
        assert_eq!(pace(&[(now, 5)].into()), 0);
    }
}
