//! The node of an edge, built of its configuration and of what it was given.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use client::{KnownNodes, Reader, ReaderOptions, Traces};
use sandbox::{Engine, EngineOptions};

use super::{Parts, StartError, loaded::Secured};
use crate::{
    config::Config,
    metrics::Metrics,
    node::{Node, WEIGHED_BYTES_MAX},
    policy::{
        ask::BucketKey, denylist::Denylist, library::PolicyLibrary, places::PlaceTable, policies::Policies,
        versions::SeenVersions,
    },
    secret::ZoneSecret,
    store::{
        cache::BlockCache, directories::Directories, miss::Fills, names::Names, objects::Objects, region::Region,
        register::Register, room::Room,
    },
};

pub(super) fn build(
    config: Config,
    parts: &Parts,
    places: PlaceTable,
    links: Option<ZoneSecret>,
    denylist: Denylist,
    known_nodes: Option<Arc<KnownNodes>>,
    secure: Option<&Secured>,
) -> Result<Node, StartError> {
    let metrics = Arc::new(Metrics::new());
    let shared = secure.and_then(|(_, secret)| secret.as_deref());
    let buckets = BucketKey::of(links.as_ref().or(shared), &config.zone);
    let denylist = Arc::new(ArcSwap::from_pointee(denylist));
    let engine = match &parts.engine {
        Some(engine) => engine.clone(),
        None => Engine::new(EngineOptions::default())?,
    };
    let (transport, topology) = (&parts.transport, &parts.topology);
    let place = config.place.clone();
    let compiler = parts.compiler.clone();
    let library = PolicyLibrary::new(Arc::clone(transport), Arc::clone(topology), place, engine.clone(), compiler);
    let versions = config.state_dir.as_ref().map(|folder| folder.join("policies.json"));
    let versions = SeenVersions::recall(versions.as_deref());
    let policies = Policies::new(library, &engine, versions)
        .map_err(|error| StartError::DefaultPolicy { reason: error.to_string() })?;
    let mut options = ReaderOptions::default();
    if let Some(peers) = &config.peers {
        options.neighbour_patience = peers.patience();
    }
    let place = config.place.clone();
    let reader = Arc::new(Reader::new(Arc::clone(transport), Arc::clone(topology), place, options));
    let cache = BlockCache::new(config.cache.block_bytes_max);
    let register = Arc::new(Register::default());
    let turned_away = metrics.dns_look_ups_turned_away.clone();
    let objects = Objects::new(Arc::clone(&reader), &config.cache, Arc::clone(&register), turned_away.clone());
    let fill_bytes_max = config.cache.fill_bytes_max;
    let region = config.peers.as_ref().map(|peers| {
        let own = (config.name.clone(), config.place.region.clone());
        Region::new(Arc::clone(&reader), own, peers.strip_bytes_max, Arc::clone(&metrics))
    });
    let fills = Fills::new(Arc::clone(&reader), cache.clone(), fill_bytes_max, region, Arc::clone(&metrics));
    let traces =
        config.traces.as_ref().map(|traces| Traces::start(traces, "evernear-edge", &config.name)).transpose()?;
    Ok(Node {
        public: config.public_addresses(),
        objects: Arc::new(objects),
        names: Arc::new(Names::new(reader, &config.cache, Arc::clone(&register), turned_away)),
        register,
        policies: Arc::new(policies),
        runs: Node::room_of_runs(),
        weighed: Room::new(WEIGHED_BYTES_MAX),
        topology: Arc::clone(topology),
        membership: parts.membership.clone(),
        known_nodes,
        fills: Arc::new(fills),
        places,
        cache,
        directories: Directories::new(),
        metrics,
        traces,
        links,
        buckets,
        denylist,
        peer_address: OnceLock::new(),
        published: ArcSwap::default(),
        certificate: secure.map(|(terminator, _)| Arc::clone(terminator.certificate())),
        config,
    })
}
