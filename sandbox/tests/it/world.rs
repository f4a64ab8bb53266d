//! Shared by the tests: one engine, facts that can be set freely, and loaded policies.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use sandbox::{Config, ContentKind, CountryCode, Engine, EngineError, EngineOptions, Facts, Policy, TokenState, admit};

pub(crate) use crate::guest::{MEMORY, component, component_of_world, serve_wat};

/// 2026-01-05, a Monday, 00:00Z.
pub(crate) const NOW: u32 = 1_767_571_200;

static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new(EngineOptions::default()).unwrap());

pub(crate) fn engine() -> &'static Engine {
    &ENGINE
}

#[derive(Clone)]
pub(crate) struct World {
    pub(crate) now: u32,
    pub(crate) country: &'static str,
    pub(crate) edge_country: &'static str,
    pub(crate) kind: ContentKind,
    pub(crate) path: String,
    pub(crate) token: TokenState,
    pub(crate) tags: BTreeMap<&'static str, Option<u32>>,
    pub(crate) asn: u32,
}

impl Default for World {
    fn default() -> Self {
        Self {
            now: NOW,
            country: "DE",
            edge_country: "DE",
            kind: ContentKind::Image,
            path: "/cat.png".into(),
            token: TokenState::Absent,
            tags: BTreeMap::new(),
            asn: 3320,
        }
    }
}

impl World {
    pub(crate) fn shared(self) -> Arc<dyn Facts> {
        Arc::new(self)
    }
}

pub(crate) fn viewer(country: &'static str) -> Arc<dyn Facts> {
    World { country, ..World::default() }.shared()
}

impl Facts for World {
    fn now(&self) -> u32 {
        self.now
    }
    fn client_country(&self) -> CountryCode {
        self.country.parse().unwrap()
    }
    fn client_asn(&self) -> u32 {
        self.asn
    }
    fn request_path(&self) -> &str {
        &self.path
    }
    fn request_token(&self) -> TokenState {
        self.token
    }
    fn object_kind(&self) -> ContentKind {
        self.kind
    }
    fn object_tagged(&self, tag: &str) -> bool {
        self.tags.contains_key(tag)
    }
    fn object_tag_number(&self, tag: &str) -> Option<u32> {
        *self.tags.get(tag)?
    }
    fn edge_country(&self) -> CountryCode {
        self.edge_country.parse().unwrap()
    }
}

pub(crate) fn config(text: &str) -> Arc<Config> {
    Arc::new(Config::parse(text).unwrap())
}

pub(crate) fn prebuilt_bytes(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/prebuilt").join(format!("{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn load(wasm: &[u8]) -> Result<Policy, EngineError> {
    let admitted = admit(wasm, &[]).unwrap();
    let artefact = engine().compile(&admitted)?;
    engine().load(&admitted, &artefact)
}

pub(crate) fn prebuilt(name: &str) -> Arc<Policy> {
    Arc::new(load(&prebuilt_bytes(name)).unwrap())
}

pub(crate) fn serve_policy(items: &str, body: &str) -> Policy {
    load(&component(&serve_wat(items, body))).unwrap()
}
