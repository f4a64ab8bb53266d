//! What both doors of one edge share: the objects, the policies, the places, the list of nodes.

use std::{
    borrow::Cow,
    collections::HashSet,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use client::{KnownNodes, Membership, Topology};
use format::{
    Capability, Label, Locator, Mode, OwnerId,
    wire::{NodeEntry, Role},
};
use sandbox::{Candidate as PolicyCandidate, CountryCode, Tier};
use tokio::time::timeout;

use crate::{
    clock,
    config::Config,
    dns::steer::{Candidate, steer},
    error::Fault,
    listen::certificate::Certificate,
    metrics::Metrics,
    policy::{
        ask::{Ask, BucketKey, Client, EdgeFacts, continent, country_code},
        decide::{Decision, Program},
        denylist::Denylist,
        places::{Coordinates, PlaceTable, ViewerPlace},
        policies::Policies,
        token::{self, Asked, Weighed},
    },
    secret::ZoneSecret,
    store::{
        cache::BlockCache,
        directories::Directories,
        miss::Fills,
        names::{Hold, Named, Names},
        objects::{Objects, Opened},
        register::Register,
    },
};

/// How long a DNS question waits for the owner's policy.
const POLICY_PATIENCE: Duration = Duration::from_secs(2);
/// Lifetime of a DNS answer given without knowing the owner's wishes.
const GUESS_SECONDS: u32 = 5;

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
    pub(crate) cache: BlockCache,
    pub(crate) directories: Directories,
    pub(crate) fills: Arc<Fills>,
    pub(crate) metrics: Arc<Metrics>,
    /// What tokens of links are signed with, derived; without it none is worth anything.
    pub(crate) links: Option<ZoneSecret>,
    /// By which viewers fall into buckets.
    pub(crate) buckets: BucketKey,
    /// What is not served.
    pub(crate) denylist: Arc<ArcSwap<Denylist>>,
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
    /// For how long it does, where the label may stand for another one later.
    pub(crate) moves: Option<Hold>,
}

impl Root {
    /// Returns for how many seconds after `now`, since 1970, the label certainly stands for the object, as far as its
    /// owner lets that be kept, and the object lives.
    pub(crate) fn seconds_at(&self, now: u64) -> u32 {
        let lives = self.opened.ends().map_or(u64::MAX, |end| end.saturating_sub(now));
        let moves = self.moves.map_or(u32::MAX, |hold| hold.seconds_at(now));
        moves.min(u32::try_from(lives).unwrap_or(u32::MAX))
    }
}

/// Which edges to name, best first, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Steered {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) seconds: u32,
}

/// Returns what a name points to, and for how long.
fn pointed(named: &Named, now: SystemTime) -> Result<(Capability, Hold), Fault> {
    Ok((named.pointer(now)?.target.clone(), named.hold()))
}

impl Node {
    /// Has memory forget the content of objects, and what comes of reads of them that are under way.
    pub(crate) async fn forget(&self, locators: &HashSet<Locator>) {
        for locator in locators {
            self.cache.forget(locator);
            self.directories.forget(locator).await;
        }
    }

    /// Says what the token of a link to an owner's object is worth.
    pub(crate) fn weigh(&self, token: &str, owner: &OwnerId, asked: &Asked<'_>) -> Weighed {
        match &self.links {
            Some(secret) => token::weigh(token, &secret.link_key(owner), asked),
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
    /// As [`Self::open`] and [`Self::points_to`].
    pub(crate) async fn open_label(&self, label: &Label, now: SystemTime) -> Result<Root, Fault> {
        if label.mode() == Mode::Name {
            self.check_denylist(&label.capability().locator())?;
        }
        let pointed = self.points_to(label, now).await?;
        let target = pointed.as_ref().map_or(label.capability(), |(target, _)| target);
        Ok(Root { opened: self.open(target, now).await?, moves: pointed.as_ref().map(|(_, hold)| *hold) })
    }

    /// Returns the object that a stable name points to, and for how long; none for the label of an object. Cancel safe.
    ///
    /// # Errors
    /// [`Fault::NameEnded`], or the faults of opening the name.
    async fn points_to(&self, label: &Label, now: SystemTime) -> Result<Option<(Capability, Hold)>, Fault> {
        if label.mode() == Mode::Open {
            return Ok(None);
        }
        let named = self.names.open(label.capability()).await?;
        pointed(&named, now).map(Some)
    }

    /// Opens the object that a label stands for now as far as a resolver waits for it. Cancel safe.
    ///
    /// # Errors
    /// As [`Self::open_label`], but for the denylist, which concerns content, and [`Fault::Slow`] or [`Fault::Busy`]
    /// while it is looked up.
    pub(crate) async fn resolve(&self, label: &Label, now: SystemTime) -> Result<Root, Fault> {
        let pointed = match label.mode() {
            Mode::Name => {
                let named = self.names.open_soon(label.capability()).await?;
                Some(pointed(&named, now)?)
            }
            Mode::Open => None,
        };
        let target = pointed.as_ref().map_or(label.capability(), |(target, _)| target);
        let opened = self.objects.open_soon(target).await?;
        opened.check_lease(now)?;
        Ok(Root { opened, moves: pointed.as_ref().map(|(_, hold)| *hold) })
    }

    /// Refuses what the operator does not serve.
    ///
    /// # Errors
    /// [`Fault::Blocked`].
    fn check_denylist(&self, locator: &Locator) -> Result<(), Fault> {
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

    /// Returns this edge as the others are told of it: without an address to send viewers to while it has no
    /// certificate to show them.
    pub(crate) fn announced(&self) -> NodeEntry {
        let entry = self.entry();
        if self.can_shake_hands() { entry } else { NodeEntry { public: Vec::new(), ..entry } }
    }

    /// Returns this edge as it is.
    fn entry(&self) -> NodeEntry {
        NodeEntry {
            name: self.config.name.clone(),
            role: Role::Edge,
            address: None,
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

    /// Returns all edges with addresses, this one among them even when nobody told us of ourselves yet.
    fn edges(&self) -> Vec<(NodeEntry, bool)> {
        let nodes = self.topology.snapshot();
        let newest = NodeEntry::newest(&nodes);
        let others = nodes
            .iter()
            .filter(|node| node.role == Role::Edge && node.name != self.config.name && !node.public.is_empty());
        let mut edges: Vec<_> = others.map(|node| (node.clone(), !node.is_silent(newest))).collect();
        edges.push((self.entry(), self.can_shake_hands()));
        // One order at every edge, so that the same question has the same answer everywhere.
        edges.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        edges
    }

    /// Decides about one object's DNS answer for a viewer; no addresses where the owner allows no edge.
    pub(crate) async fn steer_to(
        &self,
        opened: &Arc<Opened>,
        address: IpAddr,
        viewer: ViewerPlace,
        now: SystemTime,
    ) -> Steered {
        let lease = &opened.record.lease;
        let locator = opened.object.locator();
        // A resolver does not wait for a policy to be compiled; by its next question it is.
        let program = timeout(POLICY_PATIENCE, self.policies.program(lease.owner, &lease.policy)).await;
        let Ok(Ok(program)) = program else { return self.guess(viewer, &locator) };
        let ask = Arc::new(Ask {
            now: clock::unix_seconds(now),
            viewer,
            client: Client { address, buckets: self.buckets },
            edge: self.edge_facts(),
            request: None,
            object: Some(Arc::clone(&opened.object)),
            policy: Some((lease.owner, Cow::Owned(lease.policy.clone()))),
        });
        let edges = self.edges();
        let candidates: Vec<PolicyCandidate> =
            edges.iter().map(|(edge, _)| self.policy_candidate(edge, &locator)).collect();
        match program.steer(&ask, &candidates) {
            Err(_) => {
                self.metrics.policy_faults.inc();
                self.guess(viewer, &locator)
            }
            Ok(steering) => {
                Steered { addresses: self.order(&edges, &steering.weights, viewer, &locator), seconds: steering.ttl }
            }
        }
    }

    /// Names the nearest edges without knowing the object or its owner's wishes; HTTP decides again anyway.
    pub(crate) fn guess(&self, viewer: ViewerPlace, locator: &Locator) -> Steered {
        self.metrics.dns_failed_open.inc();
        Steered { addresses: self.nearest(viewer, locator), seconds: GUESS_SECONDS }
    }

    /// Names the nearest edges.
    pub(crate) fn nearest(&self, viewer: ViewerPlace, locator: &Locator) -> Vec<IpAddr> {
        let edges = self.edges();
        self.order(&edges, &vec![1; edges.len()], viewer, locator)
    }

    fn order(
        &self,
        edges: &[(NodeEntry, bool)],
        weights: &[u8],
        viewer: ViewerPlace,
        locator: &Locator,
    ) -> Vec<IpAddr> {
        let candidates: Vec<Candidate<'_>> = edges
            .iter()
            .zip(weights)
            .map(|((edge, healthy), weight)| Candidate {
                name: edge.name.as_str(),
                place: &edge.place,
                healthy: *healthy,
                load: edge.load,
                weight: *weight,
            })
            .collect();
        // A viewer of whom nothing is known most likely came to the edge near it.
        let from = viewer.coordinates.unwrap_or_else(|| Coordinates::of(&self.config.place));
        steer(&candidates, from, locator).into_iter().flat_map(|at| edges[at].0.public.iter().copied()).collect()
    }

    fn policy_candidate(&self, edge: &NodeEntry, locator: &Locator) -> PolicyCandidate {
        let known = ViewerPlace::of_country(edge.place.country);
        let country: CountryCode = country_code(edge.place.country);
        PolicyCandidate {
            country,
            continent: continent(known.continent),
            region: 0,
            rtt_ms: 0,
            load: edge.load / 10 * 10,
            holds: edge.name == self.config.name && self.objects.holds(locator),
        }
    }

    /// Decides about one request by the policy of the name asked for and, where it is another, of the object itself.
    ///
    /// # Errors
    /// [`Fault::Policy`] while a policy cannot be had.
    pub(crate) async fn decide(
        &self,
        root: &Opened,
        leaf: &Opened,
        ask: &Arc<Ask<'static>>,
    ) -> Result<Decision, Fault> {
        let of_root = self.program_of(root).await?.serve(ask)?;
        let (a, b) = (&root.record.lease, &leaf.record.lease);
        if (a.owner, &a.policy) == (b.owner, &b.policy) {
            return Ok(of_root);
        }
        Ok(of_root.and(&self.program_of(leaf).await?.serve(ask)?))
    }

    /// Says where blocks of `leaf` may lie here: what both policies allow.
    ///
    /// # Errors
    /// [`Fault::Policy`] while a policy cannot be had.
    pub(crate) async fn hold(&self, root: &Opened, leaf: &Opened, ask: &Arc<Ask<'static>>) -> Result<Tier, Fault> {
        let of_root = self.program_of(root).await?.hold(ask);
        let (a, b) = (&root.record.lease, &leaf.record.lease);
        if of_root == Tier::None || (a.owner, &a.policy) == (b.owner, &b.policy) {
            return Ok(of_root);
        }
        let of_leaf = self.program_of(leaf).await?.hold(ask);
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

    async fn program_of(&self, opened: &Opened) -> Result<Arc<Program>, Fault> {
        let lease = &opened.record.lease;
        self.policies.program(lease.owner, &lease.policy).await
    }
}
