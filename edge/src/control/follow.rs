//! Keeps the edge in step with the cluster: the change feed by long poll, the announcement and the node list every 5 s.
//!
//! An erasure, a purge or a new policy is told within the round trip of a long poll; when no origin answers, the edge
//! goes on with what it has and tries again.
//!
//! Keeps true: the feed is one origin's word, which nobody signed, so it decides nothing. It has the edge look up, at
//! many nodes and by what owners signed, or forget what it can get again; and no origin has it do so without a pause.

use std::{
    collections::HashSet,
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use client::{HttpTransport, Topology, Transport, TransportError};
use format::{
    NodeName,
    limits::{CHANGES_WAIT_SECONDS_MAX, EDGE_ANNOUNCE_SECONDS, PAGE_ENTRIES_MAX},
    wire::{ChangeKind, ChangePage, NodeEntry},
};
use tokio::time::{Instant, sleep, timeout};

use super::purge::{Sweeps, purge};
use crate::{clock, node::Node};

/// How long the origin may sit on a question for news.
const WAIT_SECONDS: u32 = 20;
const _: () = assert!(WAIT_SECONDS <= CHANGES_WAIT_SECONDS_MAX);
/// An answer later than this is none.
const CHANGES_DEADLINE: Duration = Duration::from_secs(WAIT_SECONDS as u64 + 10);
/// Between tries when an origin failed; also what an erasure may take longer when the nearest origin dies.
const RETRY: Duration = Duration::from_millis(500);
/// Between tries to list all locators. Until it is done, labels that somebody made up cost look-ups.
const LIST_RETRY: Duration = Duration::from_secs(5);
/// After each page of news, so that an origin that makes news up costs little.
const NEWS_PAUSE: Duration = Duration::from_millis(10);
/// The longest pause after a feed began anew: each time costs a look-up of all that is asked for. A first time costs no
/// pause, if the time before was so long ago.
const RESET_PAUSE_MAX: Duration = Duration::from_secs(30);
const RESETS_APART: Duration = Duration::from_secs(600);
/// Between announcements.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(EDGE_ANNOUNCE_SECONDS);
/// An announcement must be taken by then.
const ANNOUNCE_DEADLINE: Duration = Duration::from_secs(5);

/// Applies changes for ever. Cancel safe: a change half applied is applied again.
pub(crate) async fn changes(node: Arc<Node>, transport: Arc<dyn Transport>, sweeps: Arc<Sweeps>) {
    let mut since = 0;
    node.register.begin();
    let mut turn = 0;
    let mut refused = refused_number(&node);
    let mut pauses = Pauses::default();
    loop {
        // Whoever is refused since may have told this feed, and have held news back.
        let newest = refused_number(&node);
        if newest != refused {
            (refused, since) = (newest, 0);
            node.register.begin();
            doubt(&node);
        }
        let origins = node.topology.origins_by_distance(&node.config.place);
        let Some(origin) = pick(&origins, turn) else {
            sleep(RETRY).await;
            continue;
        };
        let asked = Instant::now();
        match timeout(CHANGES_DEADLINE, transport.changes(origin, since, WAIT_SECONDS)).await {
            Ok(Ok(page)) => {
                let told = Page::of(&page, since);
                // First, and whatever else the page holds: a thief is to be cut off within two seconds.
                if page.reset || page.changes.iter().any(|change| matches!(change.kind, ChangeKind::Refused { .. })) {
                    learn_refused(&node, &*transport, origin).await;
                }
                since = apply(&node, page, since, &sweeps).await;
                let pause = pauses.after(told, asked, Instant::now());
                // One that goes on beginning anew is broken, or keeps this edge from its work: another one is asked.
                turn += usize::from(told == Page::Reset && !pause.is_zero());
                sleep(pause).await;
            }
            Ok(Err(error)) => {
                node.metrics.change_faults.inc();
                tracing::debug!(%origin, error = client::causes(&error), "no news");
                turn += 1;
                sleep(RETRY).await;
            }
            Err(_) => {
                node.metrics.change_faults.inc();
                turn += 1;
            }
        }
    }
}

/// Fills the gaps of the register for ever: where the feed does not reach back to its beginning, an origin lists what
/// was stored before.
pub(crate) async fn fill_register(node: Arc<Node>, transport: Arc<dyn Transport>) {
    let mut turn = 0;
    loop {
        let gap = node.register.gap().await;
        let origins = node.topology.origins_by_distance(&node.config.place);
        if let Some(origin) = pick(&origins, turn) {
            match list_all(&node, &*transport, origin, gap).await {
                Ok(()) => continue,
                Err(error) => {
                    tracing::debug!(%origin, error = client::causes(&error), "no list of all locators");
                }
            }
            turn += 1;
        }
        sleep(LIST_RETRY).await;
    }
}

/// Reads the list of all locators into the register.
async fn list_all(node: &Node, transport: &dyn Transport, origin: &NodeName, gap: u64) -> Result<(), TransportError> {
    let mut after = None;
    loop {
        let page = timeout(CHANGES_DEADLINE, transport.all_locators(origin, after.as_ref())).await;
        let page = page.map_err(|_| TransportError::TimedOut { node: origin.clone() })??;
        // Grows with every page, so it comes to an end, and be it the bound of the register.
        let is_ordered = page.locators.is_sorted_by(|one, next| one < next) && page.locators.first() > after.as_ref();
        if page.next.is_some() && !is_ordered {
            let reason = "a list of locators that does not go on in their order".to_owned();
            return Err(TransportError::Nonsense { node: origin.clone(), reason });
        }
        if !node.register.fill(gap, &page.locators) {
            return Ok(());
        }
        if page.next.is_none() {
            node.register.filled(gap);
            return Ok(());
        }
        after = page.locators.last().copied();
        sleep(NEWS_PAUSE).await;
    }
}

/// What a page of the feed holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Page {
    /// The feed begins anew.
    Reset,
    /// News.
    News,
    Nothing,
}

impl Page {
    fn of(page: &ChangePage, since: u64) -> Self {
        // A feed that goes backwards is another feed.
        match page {
            ChangePage { reset, next, .. } if *reset || *next < since => Self::Reset,
            ChangePage { changes, .. } if changes.is_empty() => Self::Nothing,
            _ => Self::News,
        }
    }
}

/// How long the feed is left alone after a page.
#[derive(Debug, Default)]
struct Pauses {
    /// The last time that the feed began anew, and the pause after it.
    reset: Option<(Instant, Duration)>,
}

impl Pauses {
    /// Returns the pause after a page that was asked for at `asked` and is applied `now`.
    fn after(&mut self, page: Page, asked: Instant, now: Instant) -> Duration {
        match page {
            Page::News => NEWS_PAUSE,
            // An honest origin waits for news; one that is ending may not.
            Page::Nothing if now.saturating_duration_since(asked) < RETRY => RETRY,
            Page::Nothing => Duration::ZERO,
            Page::Reset => {
                let lately = self.reset.filter(|(at, _)| now.saturating_duration_since(*at) < RESETS_APART);
                let pause = lately.map_or(Duration::ZERO, |(_, pause)| (pause * 2).clamp(RETRY, RESET_PAUSE_MAX));
                self.reset = Some((now, pause));
                pause
            }
        }
    }
}

/// Applies one page and returns where to go on.
async fn apply(node: &Node, page: ChangePage, since: u64, sweeps: &Sweeps) -> u64 {
    if Page::of(&page, since) == Page::Reset {
        tracing::info!(since, next = page.next, "change feed begins anew");
        node.register.lose();
        // It begins anew at its end.
        node.register.heard(Instant::now().into_std());
        doubt(node);
        return page.next;
    }
    let is_last = page.changes.len() < PAGE_ENTRIES_MAX;
    for change in page.changes {
        node.metrics.changes.inc();
        match change.kind {
            ChangeKind::Record { locator } => {
                node.register.add(&locator);
                node.objects.changed(locator).await;
                node.names.changed(locator).await;
            }
            ChangeKind::Erased { locator } => {
                node.register.add(&locator);
                node.objects.ended(locator).await;
                node.names.ended(locator).await;
                node.forget(&[locator].into());
            }
            ChangeKind::Policy { owner, name } => node.policies.changed(owner, name),
            ChangeKind::Purge { owner, locator, hard, .. } => {
                tracing::info!(%owner, locator = locator.map(tracing::field::display), hard, "purged");
                for sweep in purge(node, owner, locator, hard).await {
                    if !sweeps.add(owner, sweep) {
                        tracing::warn!(
                            "too many owners purge at a time; what one names may still lie on the disk, encrypted"
                        );
                    }
                }
            }
            // The list was taken up already. The node list is read every 5 s anyway; a new node can wait that long.
            ChangeKind::Refused { .. } | ChangeKind::Node { .. } => {}
        }
    }
    if is_last {
        node.register.heard(Instant::now().into_std());
    }
    page.next
}

fn refused_number(node: &Node) -> u64 {
    node.membership.as_ref().map_or(0, |membership| membership.refused().number())
}

/// Doubts what a change may have ended unheard. Blocks stay: a locator has one content, and whether it may be served is
/// asked of its record.
fn doubt(node: &Node) {
    node.objects.doubt_all();
    node.names.doubt_all();
    node.policies.changed_all();
}

/// Announces this edge and reads the node list for ever.
pub(crate) async fn announce(node: Arc<Node>, transport: Arc<dyn Transport>) {
    let mut turn = 0;
    let mut failures = 0;
    let mut is_forgetful = false;
    let mut round = 0;
    let witnesses = Witnesses::of(&node);
    loop {
        let mut told = Vec::new();
        if let Some(witnesses) = &witnesses {
            told = witnesses.ask(&node, round).await;
        }
        let origins = node.topology.origins_by_distance(&node.config.place);
        if let Some(origin) = pick(&origins, round) {
            let _ = timeout(ANNOUNCE_DEADLINE, learn_refused(&node, &*transport, origin)).await;
        }
        round += 1;
        if let Some(origin) = pick(&origins, turn) {
            let round = timeout(ANNOUNCE_DEADLINE, one_round(&node, &*transport, origin, told)).await;
            if !matches!(round, Ok(Ok(()))) {
                tracing::debug!(%origin, "not announced");
                turn += 1;
                failures += 1;
                // Nobody answers of whom the last list told: who made it may have lied, or they all moved.
                if failures % origins.len() == 0 {
                    node.topology.replace(with(node.config.seed_nodes(), &node.topology.snapshot()));
                }
                sleep(RETRY).await;
                continue;
            }
            failures = 0;
            node.metrics.announced.set(clock::unix_seconds(SystemTime::now()));
            let kept = remember_nodes(&node).await;
            if let (Err(error), false) = (&kept, is_forgetful) {
                tracing::warn!(%error, "the node list cannot be kept; after a restart only the seeds are known");
            }
            is_forgetful = kept.is_err();
        }
        node.metrics.cache_bytes.set(node.cache.bytes());
        sleep(ANNOUNCE_EVERY).await;
    }
}

/// The seeds, asked whom the cluster refuses at the addresses of the configuration. A thief with the key of the nearest
/// origin tells this edge of no other node that answers, and of no list; these addresses it cannot change.
struct Witnesses {
    names: Vec<NodeName>,
    transport: HttpTransport,
}

impl Witnesses {
    fn of(node: &Node) -> Option<Self> {
        let seeds = node.config.seed_nodes();
        let names = seeds.iter().map(|seed| seed.name.clone()).collect();
        let transport = HttpTransport::of(Arc::clone(node.membership.as_ref()?), Arc::new(Topology::new(seeds)));
        Some(Self { names, transport })
    }

    /// Asks one of them, and returns the nodes that it knows. A list that is news may name the origin that told of the
    /// nodes: the seeds tell again.
    async fn ask(&self, node: &Node, round: usize) -> Vec<NodeEntry> {
        let Some(seed) = pick(&self.names, round) else { return Vec::new() };
        let asked = async {
            if learn_refused(node, &self.transport, seed).await {
                node.topology.replace(node.config.seed_nodes());
            }
            self.transport.nodes(seed).await
        };
        timeout(ANNOUNCE_DEADLINE, asked).await.map_or_else(|_| Vec::new(), Result::unwrap_or_default)
    }
}

/// Adds to these nodes those of `others` that have other names.
fn with(mut nodes: Vec<NodeEntry>, others: &[NodeEntry]) -> Vec<NodeEntry> {
    let known: HashSet<NodeName> = nodes.iter().map(|node| node.name.clone()).collect();
    nodes.extend(others.iter().filter(|it| !known.contains(&it.name)).cloned());
    nodes
}

/// Takes up the list of refused certificates that an origin has, if it is newer than the one held and verifies. Returns
/// whether it was.
async fn learn_refused(node: &Node, transport: &dyn Transport, origin: &NodeName) -> bool {
    let Some(membership) = &node.membership else { return false };
    node.metrics.node_certificate_ends.set(membership.ends());
    let list = match transport.refused(origin, membership.refused().number()).await {
        Ok(None) => return false,
        Ok(Some(list)) => membership.open_refused(list),
        Err(error) => {
            tracing::debug!(%origin, %error, "not asked for refused certificates");
            return false;
        }
    };
    match list {
        Ok(list) => membership.take_up(list).await,
        Err(error) => {
            tracing::warn!(%origin, %error, "a list of refused certificates does not count");
            false
        }
    }
}

async fn remember_nodes(node: &Node) -> io::Result<()> {
    let Some(known) = node.known_nodes.clone() else { return Ok(()) };
    let nodes = node.topology.snapshot();
    client::offload(move || known.keep(&nodes)).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Announces the edge at an origin and takes up the nodes that a seed told of, as the seed told it, and those that only
/// the origin knows: one that was cut off, or lies, hides no other from this edge.
async fn one_round(
    node: &Node,
    transport: &dyn Transport,
    origin: &NodeName,
    told: Vec<NodeEntry>,
) -> Result<(), TransportError> {
    transport.announce(origin, &announced(node)).await?;
    node.topology.replace(with(told, &transport.nodes(origin).await?));
    Ok(())
}

/// Returns this edge as the others are told of it: without an address to send viewers to while it has no
/// certificate to show them.
fn announced(node: &Node) -> NodeEntry {
    let entry = node.entry();
    if node.can_shake_hands() { entry } else { NodeEntry { public: Vec::new(), ..entry } }
}

/// The nearest origin, and after each failure the next.
fn pick(origins: &[NodeName], turn: usize) -> Option<&NodeName> {
    origins.get(turn.checked_rem(origins.len())?)
}

#[cfg(test)]
mod tests {
    use format::wire::Change;

    use super::*;

    #[test]
    fn failures_move_on_to_the_next_origin_and_come_round() {
        let origins: Vec<NodeName> = ["a", "b", "c"].iter().map(|name| name.parse().unwrap()).collect();
        let picked: Vec<&str> = (0..4).filter_map(|turn| pick(&origins, turn)).map(NodeName::as_str).collect();
        assert_eq!(picked, ["a", "b", "c", "a"]);
        assert_eq!(pick(&[], 7), None);
    }

    #[test]
    fn no_origin_has_an_edge_ask_it_without_a_pause() {
        let (start, mut pauses) = (Instant::now(), Pauses::default());
        let page = |changes, next, reset| ChangePage { changes, next, reset };
        let news = || vec![Change { sequence: 1, kind: ChangeKind::Refused { number: 1 } }];
        let read = [(page(news(), 9, false), 8), (page(vec![], 9, false), 9), (page(news(), 7, false), 8)];
        assert_eq!(read.map(|(page, since)| Page::of(&page, since)), [Page::News, Page::Nothing, Page::Reset]);
        assert_eq!(Page::of(&page(vec![], 9, true), 1), Page::Reset);

        assert_eq!(pauses.after(Page::News, start, start), NEWS_PAUSE);
        assert_eq!(pauses.after(Page::Nothing, start, start), RETRY, "it did not wait for news");
        assert_eq!(pauses.after(Page::Nothing, start, start + RETRY), Duration::ZERO);
        // A catalog that was restored once costs nothing; one that begins anew for ever, ever less.
        let mut now = start;
        let seconds = [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0].map(Duration::from_secs_f64);
        for pause in seconds {
            assert_eq!(pauses.after(Page::Reset, now, now), pause);
            now += pause;
            assert_eq!(pauses.after(Page::News, now, now), NEWS_PAUSE, "news in between change nothing");
        }
        assert_eq!(pauses.after(Page::Reset, now, now + RESETS_APART), Duration::ZERO);
    }
}
