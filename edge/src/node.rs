//! All that one edge has, and the way to an object that may be served from it. It knows the store and the policies;
//! doors, answers and control know it.

use std::{
    collections::HashSet,
    net::IpAddr,
    num::NonZero,
    sync::{Arc, OnceLock},
    thread::available_parallelism,
    time::SystemTime,
};

use arc_swap::ArcSwap;
use client::{KnownNodes, Membership, Topology, Traces};
use format::{
    Capability, Label, Locator, Mode, NodeAddress, OwnerId,
    limits::NODES_MAX,
    wire::{NodeEntry, Role},
};
use sandbox::{Candidate, Steering, Tier};
use tokio::task::spawn_blocking;

use crate::{
    clock,
    config::Config,
    error::Fault,
    listen::certificate::Certificate,
    metrics::Metrics,
    policy::{
        ask::{Ask, BucketKey, EdgeFacts},
        decision::Decision,
        denylist::Denylist,
        places::PlaceTable,
        policies::Policies,
        program::Program,
        token::{self, Setting, Weighed},
    },
    secret::ZoneSecret,
    store::{
        cache::BlockCache,
        directories::Directories,
        miss::Fills,
        names::{Hold, Named, Names},
        objects::{Objects, Opened},
        register::Register,
        room::Room,
    },
};

/// Runs of policies that wait for a place, of all owners; of one owner half of what the others leave. A run may take
/// milliseconds, so more would only wait to be told that the edge is busy.
const RUNS_WAITING_MAX: usize = 1024;
/// Bytes of DNS questions for which a policy runs, or waits to, of all owners; of one owner half of what the others
/// leave. A question counts so many at least that 64 wait: who asks may be spoofed, and they take little of what
/// viewers' runs wait in.
pub(crate) const WEIGHED_BYTES_MAX: u32 = 1024 * 1024;
pub(crate) const WEIGHED_BYTES_MIN: u32 = WEIGHED_BYTES_MAX / 64;
// Whatever the list of nodes has room for, several questions about it wait.
const _: () = assert!(NODES_MAX * size_of::<Candidate>() <= WEIGHED_BYTES_MAX as usize / 4);

/// One edge.
pub(crate) struct Node {
    pub(crate) config: Config,
    pub(crate) public: Vec<IpAddr>,
    pub(crate) places: PlaceTable,
    pub(crate) topology: Arc<Topology>,
    /// The own certificate towards origins, and whom the cluster refuses; none where the transport has none.
    pub(crate) membership: Option<Arc<Membership>>,
    /// What is remembered of the topology; none without a folder for that.
    pub(crate) known_nodes: Option<Arc<KnownNodes>>,
    pub(crate) objects: Arc<Objects>,
    pub(crate) names: Arc<Names>,
    /// What the change feed told of.
    pub(crate) register: Arc<Register>,
    pub(crate) policies: Arc<Policies>,
    /// A place for each run of an owner's policy.
    pub(crate) runs: Arc<Room>,
    /// Room for DNS questions that wait for such a run, in bytes.
    pub(crate) weighed: Arc<Room>,
    pub(crate) cache: BlockCache,
    pub(crate) directories: Arc<Directories>,
    pub(crate) fills: Arc<Fills>,
    pub(crate) metrics: Arc<Metrics>,
    /// What is told of requests; none where the operator named no collector.
    pub(crate) traces: Option<Traces>,
    /// What tokens of links are signed with, derived; without it none is worth anything.
    pub(crate) links: Option<ZoneSecret>,
    /// By which viewers fall into buckets.
    pub(crate) buckets: BucketKey,
    /// What is not served.
    pub(crate) denylist: Arc<ArcSwap<Denylist>>,
    /// Where other edges of the region ask for strips; none before the port is bound, or where there is none.
    pub(crate) peer_address: OnceLock<NodeAddress>,
    /// What the zone's certificate needs DNS to say.
    pub(crate) published: ArcSwap<Published>,
    /// What viewers are shown; none where a terminator stands in front.
    pub(crate) certificate: Option<Arc<Certificate>>,
}

/// What the DNS door says for the zone because of its certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Published {
    /// Values of `_acme-challenge`.
    pub(crate) challenges: Vec<String>,
    /// The account's URL, for CAA records (RFC 8657 section 3).
    pub(crate) account: Option<String>,
}

/// The object that a label stands for.
pub(crate) struct Root {
    pub(crate) opened: Arc<Opened>,
    /// What says so, where the label may stand for another one later.
    pub(crate) named: Option<Arc<Named>>,
}

impl Root {
    /// Returns for how long the label stands for the object, where it may stand for another one later.
    pub(crate) fn moves(&self) -> Option<Hold> {
        self.named.as_ref().map(|named| named.hold())
    }

    /// Returns for how many seconds after `now`, since 1970, the label certainly stands for the object, as far as its
    /// owner lets that be kept, and the object lives.
    pub(crate) fn seconds_at(&self, now: u64) -> u32 {
        let lives = self.opened.ends().map_or(u64::MAX, |end| end.saturating_sub(now));
        let moves = self.moves().map_or(u32::MAX, |hold| hold.seconds_at(now));
        moves.min(u32::try_from(lives).unwrap_or(u32::MAX))
    }
}

/// Returns what opens the object that a label stands for now.
fn target<'a>(label: &'a Label, named: Option<&'a Named>, now: SystemTime) -> Result<&'a Capability, Fault> {
    named.map_or(Ok(label.capability()), |named| Ok(&named.pointer(now)?.target))
}

impl Node {
    /// Has memory forget the content of objects, and what comes of reads of them for whoever opened them before.
    pub(crate) fn forget(&self, locators: &HashSet<Locator>) {
        for locator in locators {
            // First, so that what comes meanwhile is found below, or learns of it.
            self.objects.forget(locator);
            self.cache.forget(locator);
            self.directories.forget(locator);
        }
    }

    /// Says what the token of a link to an owner's object is worth.
    pub(crate) fn weigh(&self, token: &str, owner: &OwnerId, setting: &Setting<'_>) -> Weighed {
        match &self.links {
            Some(secret) => token::weigh(token, &secret.link_key(owner), setting),
            None => Weighed::unknown(),
        }
    }

    /// Opens an object that may be served from here: all that is served goes through this, a directory on the way to a
    /// file like the file. Cancel safe.
    ///
    /// # Errors
    /// [`Fault::Blocked`] for what the operator does not serve, [`Fault::Erased`] for what its owner took back or let
    /// end, or the faults of opening.
    pub(crate) async fn open(&self, capability: &Capability, now: SystemTime) -> Result<Arc<Opened>, Fault> {
        // First, so that what is denied is not even asked for.
        self.check_denylist(&capability.locator())?;
        let opened = self.objects.open(capability).await?;
        opened.check_lease(now)?;
        Ok(opened)
    }

    /// Opens the object that a label stands for now. Cancel safe.
    ///
    /// # Errors
    /// As [`Self::open`]; [`Fault::NameEnded`] of a name past its end, or the faults of opening it.
    pub(crate) async fn open_label(&self, label: &Label, now: SystemTime) -> Result<Root, Fault> {
        let named = match label.mode() {
            Mode::Name => {
                self.check_denylist(&label.capability().locator())?;
                Some(self.names.open(label.capability()).await?)
            }
            Mode::Open => None,
        };
        let target = target(label, named.as_deref(), now)?;
        Ok(Root { opened: self.open(target, now).await?, named })
    }

    /// Opens the object that a label stands for now as far as a resolver at this address waits for it. Cancel safe.
    ///
    /// # Errors
    /// As [`Self::open_label`], but for the denylist, which concerns content, and [`Fault::Slow`] or [`Fault::Busy`]
    /// while it is looked up.
    pub(crate) async fn resolve(&self, label: &Label, resolver: IpAddr, now: SystemTime) -> Result<Root, Fault> {
        let named = match label.mode() {
            Mode::Name => Some(self.names.open_soon(label.capability(), resolver).await?),
            Mode::Open => None,
        };
        let opened = self.objects.open_soon(target(label, named.as_deref(), now)?, resolver).await?;
        opened.check_lease(now)?;
        Ok(Root { opened, named })
    }

    /// Refuses what the operator does not serve.
    ///
    /// # Errors
    /// [`Fault::Blocked`].
    pub(crate) fn check_denylist(&self, locator: &Locator) -> Result<(), Fault> {
        match &self.config.denylist {
            Some(config) if self.denylist.load().denies(locator) => Err(Fault::Blocked { status: config.status }),
            _ => Ok(()),
        }
    }

    /// Whether viewers who are sent here get an answer: over TLS that takes a certificate.
    pub(crate) fn can_shake_hands(&self) -> bool {
        let now = clock::unix_seconds(SystemTime::now());
        self.certificate.as_ref().is_none_or(|certificate| certificate.can_shake_hands(now))
    }

    /// Whether there is, or ever was, something to shake hands with.
    pub(crate) fn has_certificate(&self) -> bool {
        self.certificate.as_ref().is_some_and(|certificate| certificate.is_there())
    }

    /// Returns this edge as it is.
    pub(crate) fn entry(&self) -> NodeEntry {
        NodeEntry {
            name: self.config.name.clone(),
            role: Role::Edge,
            address: self.peer_address.get().cloned(),
            public: self.public.clone(),
            place: self.config.place.clone(),
            capacity_bytes: 0,
            free_bytes: 0,
            load: self.load(),
            draining: false,
            seen: 0,
        }
    }

    /// Returns how full the edge is: its connections against the most it takes.
    fn load(&self) -> u8 {
        let open = u64::try_from(self.metrics.http_connections.get()).unwrap_or(0);
        let most = (self.config.http.connections_max as u64).max(1);
        u8::try_from((open * 100 / most).min(100)).unwrap_or(100)
    }

    pub(crate) fn edge_facts(&self) -> EdgeFacts {
        EdgeFacts::of(&self.config.place, self.load())
    }

    /// Makes room for runs of policies: half of the cores, at least one. The workers, which serve all owners, have the
    /// others.
    pub(crate) fn room_of_runs() -> Arc<Room> {
        let cores = available_parallelism().map_or(1, NonZero::get);
        Room::with_queues(u32::try_from((cores / 2).max(1)).unwrap_or(u32::MAX), RUNS_WAITING_MAX)
    }

    /// Decides about one request by the policy of the name asked for and, where it is another, of the object itself.
    ///
    /// # Errors
    /// [`Fault::Policy`] while a policy cannot be had, [`Fault::Busy`] while too much is asked of it.
    pub(crate) async fn decide(
        &self,
        root: &Opened,
        leaf: &Opened,
        ask: &Arc<Ask<'static>>,
    ) -> Result<Decision, Fault> {
        let of_root = self.verdict(root, ask).await?;
        let (a, b) = (&root.record.lease, &leaf.record.lease);
        if (a.owner, &a.policy) == (b.owner, &b.policy) {
            return Ok(of_root);
        }
        Ok(of_root.and(&self.verdict(leaf, ask).await?))
    }

    /// Says where blocks of `leaf` may lie here: what both policies allow.
    ///
    /// # Errors
    /// [`Fault::Policy`] while a policy cannot be had, [`Fault::Busy`] while too much is asked of it.
    pub(crate) async fn hold(&self, root: &Opened, leaf: &Opened, ask: &Arc<Ask<'static>>) -> Result<Tier, Fault> {
        let of_root = self.tier(root, ask).await?;
        let (a, b) = (&root.record.lease, &leaf.record.lease);
        if of_root == Tier::None || (a.owner, &a.policy) == (b.owner, &b.policy) {
            return Ok(of_root);
        }
        let of_leaf = self.tier(leaf, ask).await?;
        // The tiers stand in order of how much they permit.
        Ok(if (of_leaf as u8) < (of_root as u8) { of_leaf } else { of_root })
    }

    /// Returns the policy that decides alone about an object under a root.
    pub(crate) async fn sole_program(&self, root: &Opened, leaf: &Opened) -> Option<Arc<Program>> {
        let (a, b) = (&root.record.lease, &leaf.record.lease);
        if (a.owner, &a.policy) != (b.owner, &b.policy) {
            return None;
        }
        self.program_of(leaf).await.ok()
    }

    /// Has the policy of an object weigh the edges that DNS could answer with.
    ///
    /// # Errors
    /// [`Fault::Policy`] where it gives no weights, [`Fault::Busy`] while too much is asked of it.
    pub(crate) async fn steer(
        &self,
        program: Arc<Program>,
        opened: &Opened,
        ask: &Arc<Ask<'static>>,
        candidates: Vec<Candidate>,
    ) -> Result<Steering, Fault> {
        match program.recall_weights(ask, &candidates) {
            Some(known) => known,
            None => self.run(program, opened, ask, move |program, ask| program.steer(ask, &candidates)).await?,
        }
    }

    async fn verdict(&self, opened: &Opened, ask: &Arc<Ask<'static>>) -> Result<Decision, Fault> {
        let program = self.program_of(opened).await?;
        match program.recall(ask) {
            Some(known) => known,
            None => self.run(program, opened, ask, Program::serve).await?,
        }
    }

    async fn tier(&self, opened: &Opened, ask: &Arc<Ask<'static>>) -> Result<Tier, Fault> {
        let program = self.program_of(opened).await?;
        match program.known_tier(ask) {
            Some(known) => Ok(known),
            None => self.run(program, opened, ask, Program::hold).await,
        }
    }

    /// Has a policy say what it does not remember. An owner's runs on a thread of its own, where owners take turns: it
    /// may take milliseconds, in which all viewers of a worker would wait. The built-in one, which never does, runs
    /// here. Cancel safe: what a run said is remembered.
    ///
    /// # Errors
    /// [`Fault::Busy`] where too many of the owner's wait.
    async fn run<T: Send + 'static>(
        &self,
        program: Arc<Program>,
        opened: &Opened,
        ask: &Arc<Ask<'static>>,
        hook: impl FnOnce(&Program, &Arc<Ask<'static>>) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        if program.is_built_in() {
            return Ok(hook(&program, ask));
        }
        let turn = self.runs.take(opened.record.lease.owner, 1).await?;
        let ask = Arc::clone(ask);
        let run = move || {
            let said = hook(&program, &ask);
            drop(turn);
            said
        };
        spawn_blocking(run).await.map_err(|_| Fault::Policy)
    }

    async fn program_of(&self, opened: &Opened) -> Result<Arc<Program>, Fault> {
        let lease = &opened.record.lease;
        self.policies.program(lease.owner, &lease.policy).await
    }
}
