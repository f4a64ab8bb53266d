//! The cost of a decision: fresh (a new instance for each run) and remembered (a look-up in the trie).
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use sandbox::{Chain, Config, ContentKind, CountryCode, Engine, EngineOptions, Facts, Link, Trie, admit, answer};

struct Viewer {
    country: CountryCode,
    kind: ContentKind,
}

impl Facts for Viewer {
    fn now(&self) -> u32 {
        1_767_571_200
    }
    fn client_country(&self) -> CountryCode {
        self.country
    }
    fn object_kind(&self) -> ContentKind {
        self.kind
    }
    fn request_path(&self) -> &str {
        "/images/2026/a.avif"
    }
}

fn wasm(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../policies/prebuilt/{name}.wasm"))).unwrap()
}

fn link(engine: &Engine, name: &str, config: &str) -> Link {
    let wasm = wasm(name);
    let admitted = admit(&wasm, &[]).unwrap();
    let policy = engine.load(&admitted, &engine.compile(&admitted).unwrap()).unwrap();
    Link { policy: Arc::new(policy), config: Arc::new(Config::parse(config).unwrap()) }
}

fn decisions(criterion: &mut Criterion) {
    let engine = Engine::new(EngineOptions::default()).unwrap();
    let facts: Arc<dyn Facts> = Arc::new(Viewer { country: "DE".parse().unwrap(), kind: ContentKind::Image });
    let geo = link(&engine, "geo", r#"receive-deny = ["RU", "BY"]"#);
    let ttl = link(&engine, "ttl", "ttl-image = 604800\npaths = [{ glob = \"/a/**\", number = 5 }]");
    let nft = link(&engine, "nft-immutable", "");
    for (name, link) in [("nft-immutable", &nft), ("geo", &geo), ("ttl", &ttl)] {
        criterion.bench_function(&format!("fresh serve, {name}"), |bencher| {
            bencher.iter(|| link.policy.serve(black_box(&facts), &link.config).unwrap());
        });
    }

    let chain = Chain::new(vec![geo, ttl]).unwrap();
    criterion.bench_function("fresh serve, chain of geo and ttl", |bencher| {
        bencher.iter(|| chain.serve(black_box(&facts)).unwrap());
    });
    let mut trie = Trie::new(1 << 20);
    let mut viewers = Vec::new();
    for letters in (b'A'..=b'Z').flat_map(|first| (b'A'..b'K').map(move |second| [first, second])) {
        let viewer =
            Arc::new(Viewer { country: CountryCode::from_letters(letters).unwrap(), kind: ContentKind::Image });
        let facts: Arc<dyn Facts> = viewer.clone();
        let run = chain.serve(&facts).unwrap().unwrap();
        trie.insert(&run.trace, run.verdict, 0).unwrap();
        viewers.push(viewer);
    }
    let mut at = 0;
    criterion.bench_function("remembered, chain of geo and ttl, 260 countries, 4 questions", |bencher| {
        bencher.iter(|| {
            at = (at + 7) % viewers.len();
            trie.lookup(&chain.respondent(&*viewers[at])).unwrap().status
        });
    });
    let trace = chain.serve(&facts).unwrap().unwrap().trace;
    criterion.bench_function("the answers to the same 4 questions alone", |bencher| {
        bencher.iter(|| {
            at = (at + 7) % viewers.len();
            for asked in &trace {
                let config = &chain.links()[usize::from(asked.link)].config;
                black_box(answer(black_box(&*viewers[at]), config, &asked.question)).unwrap();
            }
        });
    });
    let one = Chain::new(vec![link(&engine, "geo", r#"receive-deny = ["RU", "BY"]"#)]).unwrap();
    let mut trie = Trie::new(1 << 20);
    for viewer in &viewers {
        let facts: Arc<dyn Facts> = viewer.clone();
        let run = one.serve(&facts).unwrap().unwrap();
        trie.insert(&run.trace, run.verdict, 0).unwrap();
    }
    criterion.bench_function("remembered, geo, 260 countries, 1 question", |bencher| {
        bencher.iter(|| {
            at = (at + 7) % viewers.len();
            trie.lookup(&one.respondent(&*viewers[at])).unwrap().status
        });
    });
    let geo = wasm("geo");
    criterion.bench_function("admit geo", |bencher| bencher.iter(|| admit(black_box(&geo), &[]).unwrap()));
    criterion.bench_function("compile geo in process", |bencher| {
        let admitted = admit(&geo, &[]).unwrap();
        bencher.iter(|| engine.compile(&admitted).unwrap());
    });
}

criterion_group!(benches, decisions);
criterion_main!(benches);
