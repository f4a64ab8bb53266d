//! Where an owner's policy lets shards lie. Its `place` hook is asked once for each upload, before anything is read.
//! The answer becomes part of the lease, so repairs and moves keep to it without asking again.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::{SystemTime, UNIX_EPOCH},
};

use edge::{PolicyError, PolicyLibrary, content_kind, policy_place};
use format::{
    BlobId, Cap, Domain, Level, Moment, Place, PolicyName, Profile, Redundancy, RedundancyError, Retention,
    limits::LEASE_PLACES_MAX,
    wire::{NodeEntry, Role},
};
use sandbox::{
    Chain, ContentKind, Engine, EngineError, EngineOptions, Facts, LinkFault, Plan, Site, guard::ChildCommand,
};
use tokio::task::spawn_blocking;
use twin::{PolicyNameError, PutOptions, Tenure, Twin};

const GIB: u64 = 1 << 30;

/// Why a policy does not say where an upload may lie. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum PlacingError {
    /// There is no such policy, or nobody says so.
    #[error("the policy {policy} cannot be asked where this may lie")]
    Name {
        /// Which.
        policy: PolicyName,
        /// Why.
        source: PolicyNameError,
    },
    /// It cannot be had, or compiled.
    #[error("the policy {policy} cannot be asked where this may lie")]
    Load {
        /// Which.
        policy: PolicyName,
        /// Why.
        source: PolicyError,
    },
    /// This program cannot run policies.
    #[error("no policy can be asked here")]
    Engine(#[from] EngineError),
    /// It failed.
    #[error("the policy {policy} cannot say where this may lie")]
    Failed {
        /// Which.
        policy: PolicyName,
        /// Why.
        source: LinkFault,
    },
    /// What it says is more than a lease can say, or contradicts the options.
    #[error("the policy {policy} cannot be kept to")]
    Plan {
        /// Which.
        policy: PolicyName,
        /// Why.
        source: PlanFault,
    },
    /// The program is ending.
    #[error("the policy was not asked: the program is ending")]
    Cut,
}

/// Why a policy's plan cannot be kept to; the policy's fault, or the options'.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanFault {
    /// No such redundancy.
    #[error("it asks for shards that cannot be")]
    Redundancy(#[from] RedundancyError),
    /// Two times that cannot both be.
    #[error(
        "it is to be kept until {} and gone at {}; change the policy or the options",
        Moment(*keep_until),
        Moment(*expires)
    )]
    Times {
        /// Seconds since 1970.
        keep_until: u64,
        /// Seconds since 1970.
        expires: u64,
    },
    /// One zone has allowed and refused nodes.
    #[error("it allows one and refuses another node of zone {zone}, which no lease can say")]
    Divided {
        /// Which.
        zone: String,
    },
    /// Nothing is left.
    #[error("it allows none of the {sites} sites that there are")]
    Nowhere {
        /// How many there are.
        sites: usize,
    },
    /// Too many words.
    #[error("what it allows takes {places} places to say, a lease holds {LEASE_PLACES_MAX}")]
    Long {
        /// How many.
        places: usize,
    },
}

/// What is to be stored, as a policy may ask for it.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// Bytes of a file; zero for a folder or a stream, whose size is not known before.
    pub bytes: u64,
    /// The media type; empty when it is not known.
    pub mime: String,
}

/// An upload that a policy asks about.
struct Upload {
    about: About,
    /// Seconds since 1970.
    now: u64,
    tags: BTreeMap<String, u32>,
}

impl Facts for Upload {
    fn now(&self) -> u32 {
        u32::try_from(self.now).unwrap_or(u32::MAX)
    }

    fn object_kind(&self) -> ContentKind {
        content_kind(&self.about.mime)
    }

    fn object_size(&self) -> u32 {
        u32::try_from(self.about.bytes.div_ceil(1024)).unwrap_or(u32::MAX)
    }

    fn object_immutable(&self) -> bool {
        true
    }

    fn object_created(&self) -> u32 {
        self.now()
    }

    fn object_tagged(&self, tag: &str) -> bool {
        self.tags.contains_key(tag)
    }

    fn object_tag_number(&self, tag: &str) -> Option<u32> {
        self.tags.get(tag).copied()
    }
}

/// Loads policies for one program. What runs them is made when the first one is to be asked.
pub struct Placer {
    here: Place,
    compiler: ChildCommand,
    library: OnceLock<PolicyLibrary>,
}

/// The policy that uploads name, and what it is asked about.
pub struct Placing(Option<Asked>);

struct Asked {
    policy: PolicyName,
    chain: Arc<Chain>,
    nodes: Vec<NodeEntry>,
}

impl Placer {
    /// Makes one for a program at `here`. Components are compiled by `compiler`, which bounds what that costs.
    #[must_use]
    pub fn new(here: Place, compiler: ChildCommand) -> Self {
        Self { here, compiler, library: OnceLock::new() }
    }

    /// Returns what compiles.
    pub(crate) fn compiler(&self) -> &ChildCommand {
        &self.compiler
    }

    /// Loads a policy of the twin's owner. One load is enough for many uploads. The default policy says nothing of
    /// places and is not loaded.
    ///
    /// # Errors
    /// [`PlacingError`].
    pub async fn load(&self, twin: &Twin, policy: &PolicyName) -> Result<Placing, PlacingError> {
        if policy.as_str() == PolicyName::DEFAULT {
            return Ok(Placing(None));
        }
        let name = || policy.clone();
        twin.know_policy(policy).await.map_err(|source| PlacingError::Name { policy: name(), source })?;
        let network = twin.network();
        let topology = network.topology().clone();
        if self.library.get().is_none() {
            let engine = Engine::new(EngineOptions::default())?;
            let (transport, compiler) = (network.reader().transport().clone(), Some(self.compiler.clone()));
            let library = PolicyLibrary::new(transport, topology.clone(), self.here.clone(), engine, compiler);
            // Another upload may have been first.
            let _ = self.library.set(library);
        }
        let library = self.library.get().ok_or(PlacingError::Cut)?;
        let loaded = library.load(&twin.owner(), policy, 0).await;
        let chain = loaded.map_err(|source| PlacingError::Load { policy: name(), source })?.chain;
        Ok(Placing(Some(Asked { policy: name(), chain: Arc::new(chain), nodes: topology.origins() })))
    }
}

impl Placing {
    /// Asks the policy about an upload, if it has the hook. Returns options that satisfy both the owner's options and
    /// the policy.
    ///
    /// # Errors
    /// When the policy fails, or plans what a lease cannot express.
    pub async fn of(&self, mut put: PutOptions, about: About) -> Result<PutOptions, PlacingError> {
        let Some(Asked { policy, chain, nodes }) = &self.0 else { return Ok(put) };
        let policy = || policy.clone();
        let open = Sites::of(nodes, &put.tenure);
        let sites = open.sites();
        let facts: Arc<dyn Facts> = Arc::new(Upload { about, now: now(), tags: put.tags.clone() });
        let chain = chain.clone();
        let asked = spawn_blocking(move || chain.place(&facts, &sites)).await.map_err(|_| PlacingError::Cut)?;
        let Some(run) = asked.map_err(|source| PlacingError::Failed { policy: policy(), source })? else {
            return Ok(put);
        };
        let planned = open.keep_to(&run.verdict, nodes, put.tenure, now());
        put.tenure = planned.map_err(|source| PlacingError::Plan { policy: policy(), source })?;
        put.preferences = open.preferences(&run.verdict, nodes);
        Ok(put)
    }
}

/// The places that the owner's own options allow, each once, with the free bytes of its nodes.
struct Sites<'a>(Vec<(&'a Place, u64)>);

impl<'a> Sites<'a> {
    fn of(nodes: &'a [NodeEntry], tenure: &Tenure) -> Self {
        let mut sites: Vec<(&Place, u64)> = Vec::new();
        let is_open = |node: &&NodeEntry| {
            node.role == Role::Origin && Domain::allow(&tenure.wanted, &tenure.refused, &node.place)
        };
        for node in nodes.iter().filter(is_open) {
            match sites.iter_mut().find(|(place, _)| is_same(place, &node.place)) {
                Some((_, free)) => *free += node.free_bytes,
                None => sites.push((&node.place, node.free_bytes)),
            }
        }
        Self(sites)
    }

    /// Returns what the policy sees of the places.
    fn sites(&self) -> Vec<Site> {
        let site = |(place, free): &(&Place, u64)| {
            let (country, continent) = policy_place(place);
            Site {
                country,
                continent,
                operator: number(&place.operator),
                datacentre: number(&place.datacentre),
                free_gib: u32::try_from(free / GIB).unwrap_or(u32::MAX),
                grams_co2_per_kwh: 0,
            }
        };
        self.0.iter().map(site).collect()
    }

    /// Returns the weight of the site that a place is in, or `None` when the owner's options exclude it.
    fn weight(&self, plan: &Plan, place: &Place) -> Option<u8> {
        let at = self.0.iter().position(|(site, _)| is_same(site, place))?;
        plan.weights.get(at).copied()
    }

    fn preferences(&self, plan: &Plan, nodes: &[NodeEntry]) -> BTreeMap<format::NodeName, u8> {
        let weighed = nodes.iter().filter_map(|node| Some((node.name.clone(), self.weight(plan, &node.place)?)));
        weighed.filter(|(_, weight)| *weight > 0).collect()
    }

    /// Restricts the owner's options to what the policy plans at `now`, seconds since 1970.
    fn keep_to(&self, plan: &Plan, nodes: &[NodeEntry], mut tenure: Tenure, now: u64) -> Result<Tenure, PlanFault> {
        if plan.weights.contains(&0) {
            tenure.wanted = self.wanted(plan, nodes, &tenure.wanted)?;
        }
        if plan.data_shards > 0 {
            let (data, parity) = (usize::from(plan.data_shards), usize::from(plan.parity_shards));
            tenure.profile = Profile::Custom(Redundancy::new(data, parity)?);
        }
        let caps = [
            (Level::Datacentre, plan.per_datacentre),
            (Level::Country, plan.per_country),
            (Level::Operator, plan.per_operator),
        ];
        for (level, columns_max) in caps.into_iter().filter(|(_, most)| *most > 0) {
            match tenure.caps.iter_mut().find(|cap| cap.level == level) {
                Some(cap) => cap.columns_max = cap.columns_max.min(columns_max),
                None => tenure.caps.push(Cap { level, columns_max }),
            }
        }
        let Retention { keep_until, expires } = tenure.retention;
        let ends = [expires, u64::from(plan.erase_after)].into_iter().filter(|end| *end > 0).min();
        // A date stays in the policy's configuration after it has passed. Then it has no effect.
        let promised = Some(u64::from(plan.keep_until)).filter(|until| *until > now);
        tenure.retention = Retention { keep_until: keep_until.max(promised.unwrap_or(0)), expires: ends.unwrap_or(0) };
        let Retention { keep_until, expires } = tenure.retention;
        if expires != 0 && keep_until > expires {
            return Err(PlanFault::Times { keep_until, expires });
        }
        Ok(tenure)
    }

    /// Returns the sites that are left, named by the widest level that fits: country, operator, datacentre or zone.
    /// Where the owner said where, it is named by the owner's word for it, or the zone: nodes that come later to the
    /// same country are none of theirs.
    fn wanted(&self, plan: &Plan, nodes: &[NodeEntry], owners: &[Domain]) -> Result<Vec<Domain>, PlanFault> {
        let is_allowed = |place: &Place| self.weight(plan, place).is_some_and(|weight| weight > 0);
        let closed: Vec<&Place> = nodes.iter().map(|node| &node.place).filter(|place| !is_allowed(place)).collect();
        let mut wanted: Vec<Domain> = Vec::new();
        for (place, _) in self.0.iter().filter(|(place, _)| is_allowed(place)) {
            if wanted.iter().any(|domain| domain.holds(place)) {
                continue;
            }
            let said = owners.iter().filter(|domain| domain.holds(place)).cloned();
            let mut fitting = said.chain(domains(place).filter(|domain| match domain {
                Domain::Zone(_) => true,
                _ => owners.is_empty(),
            }));
            let widest = fitting.find(|domain| !closed.iter().any(|other| domain.holds(other)));
            wanted.push(widest.ok_or_else(|| PlanFault::Divided { zone: place.zone.clone() })?);
        }
        match wanted.len() {
            0 => return Err(PlanFault::Nowhere { sites: self.0.len() }),
            places if places > LEASE_PLACES_MAX => return Err(PlanFault::Long { places }),
            _ => {}
        }
        Ok(wanted)
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn is_same(one: &Place, other: &Place) -> bool {
    one.country == other.country
        && one.operator == other.operator
        && one.datacentre == other.datacentre
        && one.zone == other.zone
}

/// Returns the named places that a node is in, one for each level, widest first.
fn domains(place: &Place) -> impl Iterator<Item = Domain> {
    let named = |name: &String, domain: fn(String) -> Domain| (!name.is_empty()).then(|| domain(name.clone()));
    let country = Some(Domain::Country(place.country));
    let within = [
        named(&place.operator, Domain::Operator),
        named(&place.datacentre, Domain::Datacentre),
        named(&place.zone, Domain::Zone),
    ];
    country.into_iter().chain(within.into_iter().flatten())
}

/// The number by which a policy knows an operator or a datacentre: the first four bytes of its name's BLAKE3; 0 without
/// name.
fn number(name: &str) -> u32 {
    let [a, b, c, d, ..] = BlobId::of(name.as_bytes()).0;
    if name.is_empty() { 0 } else { u32::from_be_bytes([a, b, c, d]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, country: &str, operator: &str, zone: &str) -> NodeEntry {
        let place = Place { country: country.parse().unwrap(), operator: operator.into(), ..testing::place(zone) };
        NodeEntry { capacity_bytes: 8 * GIB, free_bytes: 2 * GIB, ..testing::node(name, place) }
    }

    fn nodes() -> Vec<NodeEntry> {
        vec![
            node("o1", "BE", "acme", "z1"),
            node("o2", "BE", "acme", "z1"),
            node("o3", "BE", "emca", "z2"),
            node("o4", "DE", "acme", "z3"),
            node("o5", "US", "acme", "z4"),
        ]
    }

    fn plan(weights: &[u8]) -> Plan {
        Plan {
            weights: weights.to_vec(),
            data_shards: 0,
            parity_shards: 0,
            per_datacentre: 0,
            per_country: 0,
            per_operator: 0,
            keep_until: 0,
            erase_after: 0,
        }
    }

    fn wanted(weights: &[u8], tenure: Tenure) -> Result<Vec<String>, PlanFault> {
        let nodes = nodes();
        let kept = Sites::of(&nodes, &tenure).keep_to(&plan(weights), &nodes, tenure, 0)?;
        Ok(kept.wanted.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn sites_are_places_and_the_lease_names_the_widest() {
        let nodes = nodes();
        let sites = Sites::of(&nodes, &Tenure::default()).sites();
        assert_eq!(sites.iter().map(|site| site.free_gib).collect::<Vec<_>>(), [4, 2, 2, 2]);
        assert!(sites[0].operator == sites[2].operator && sites[0].operator != sites[1].operator);
        assert_eq!(wanted(&[9, 9, 9, 9], Tenure::default()).unwrap(), Vec::<String>::new());
        assert_eq!(wanted(&[9, 9, 9, 0], Tenure::default()).unwrap(), ["country:BE", "country:DE"]);
        // In Belgium only one operator is allowed, and its nodes in other countries are refused.
        assert_eq!(wanted(&[9, 0, 9, 0], Tenure::default()).unwrap(), ["zone:z1", "country:DE"]);
        assert_eq!(wanted(&[0, 9, 0, 0], Tenure::default()).unwrap(), ["operator:emca"]);
        let refused = wanted(&[0, 0, 0, 0], Tenure::default()).unwrap_err().to_string();
        assert_eq!(refused, "it allows none of the 4 sites that there are");
        // A place that the owner excludes is not shown to the policy, and stays excluded.
        let owner = Tenure { refused: vec!["zone:z2".parse().unwrap()], ..Tenure::default() };
        assert_eq!(wanted(&[9, 9, 0], owner).unwrap(), ["zone:z1", "country:DE"]);
    }

    #[test]
    fn what_the_owner_wanted_is_never_named_by_a_wider_word() {
        let owner = |wanted: &[&str]| Tenure {
            wanted: wanted.iter().map(|domain| domain.parse().unwrap()).collect(),
            ..Tenure::default()
        };
        // In each country but Belgium is one zone now; another may come.
        assert_eq!(wanted(&[9, 0], owner(&["zone:z3", "zone:z4"])).unwrap(), ["zone:z3"]);
        assert_eq!(wanted(&[9, 0], owner(&["country:DE", "zone:z4"])).unwrap(), ["country:DE"]);
        assert_eq!(wanted(&[9, 0], owner(&["country:BE"])).unwrap(), ["zone:z1"]);
        let divided = wanted(&[9, 0, 9], owner(&["operator:acme"])).unwrap();
        assert_eq!(divided, ["zone:z1", "zone:z4"]);
    }

    #[test]
    fn the_stricter_of_owner_and_policy_counts() {
        let nodes = nodes();
        let owner = Tenure {
            caps: vec!["country=3".parse().unwrap(), "zone=2".parse().unwrap()],
            retention: Retention { keep_until: 100, expires: 900 },
            ..Tenure::default()
        };
        let sites = Sites::of(&nodes, &owner);
        let policy = Plan {
            data_shards: 2,
            parity_shards: 1,
            per_country: 2,
            per_operator: 4,
            keep_until: 50,
            erase_after: 500,
            ..plan(&[255, 1, 1, 1])
        };
        let kept = sites.keep_to(&policy, &nodes, owner.clone(), 10).unwrap();
        let caps: Vec<String> = kept.caps.iter().map(ToString::to_string).collect();
        assert_eq!(caps, ["country=2", "zone=2", "operator=4"]);
        assert_eq!(kept.retention, Retention { keep_until: 100, expires: 500 });
        assert_eq!(kept.profile.to_string(), "2+1");
        let preferences = sites.preferences(&policy, &nodes);
        assert_eq!(preferences.values().copied().collect::<Vec<_>>(), [255, 255, 1, 1, 1]);
        let late = Plan { keep_until: 1000, ..policy };
        assert!(
            sites
                .keep_to(&late, &nodes, owner, 10)
                .unwrap_err()
                .to_string()
                .contains("kept until 1970-01-01T00:16:40Z")
        );
    }

    #[test]
    fn a_date_of_the_policy_that_has_passed_binds_nobody() {
        let nodes = nodes();
        let sites = Sites::of(&nodes, &Tenure::default());
        let policy = Plan { keep_until: 100, ..plan(&[1; 4]) };
        let kept = |keep_until, now| {
            let retention = Retention { keep_until, expires: 0 };
            let owner = Tenure { retention, ..Tenure::default() };
            sites.keep_to(&policy, &nodes, owner, now).unwrap().retention.keep_until
        };
        assert_eq!((kept(0, 99), kept(0, 100), kept(0, 101)), (100, 0, 0));
        // The policy cannot drop what the owner asks for.
        assert_eq!((kept(50, 101), kept(200, 101)), (50, 200));
    }
}
