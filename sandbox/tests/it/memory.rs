//! Trie and policies together: a remembered decision equals that of a fresh run, over all countries and times.

use std::sync::Arc;

use sandbox::{Chain, Facts, Inserted, Link, Question, Served, TokenState, Trie, valid_until};

use crate::world::{NOW, World, config, prebuilt, serve_policy, viewer};

fn chain() -> Chain {
    let geo = Link { policy: prebuilt("geo"), config: config(r#"receive-deny = ["RU", "BY"]"#) };
    let rules = r#"paths = [{ glob = "/a/**", number = 5 }]
        ttl-image = 9
        tag-1 = "cat"
        tag-1-ttl = 3"#;
    Chain::new(vec![geo, Link { policy: prebuilt("ttl"), config: config(rules) }]).unwrap()
}

fn decide(chain: &Chain, trie: &mut Trie<Served>, facts: &Arc<dyn Facts>) -> (Served, bool) {
    if let Some(served) = trie.lookup(&chain.respondent(&**facts)) {
        return (served.clone(), true);
    }
    let run = chain.serve(facts).unwrap().unwrap();
    assert_eq!(trie.insert(&run.trace, run.verdict.clone(), 0), Ok(Inserted::New));
    (run.verdict, false)
}

#[test]
fn remembers_what_a_fresh_run_says_in_all_countries() {
    let chain = chain();
    let mut trie = Trie::new(1 << 20);
    let countries: Vec<String> = (b'A'..=b'Z')
        .flat_map(|first| (b'A'..=b'Z').map(move |second| String::from_utf8(vec![first, second]).unwrap()))
        .collect();
    let mut hits = 0;
    for path in ["/a/1", "/b/1", "/a/2", "/b/2"] {
        for country in &countries {
            let country: &'static str = Box::leak(country.clone().into_boxed_str());
            let facts = World { country, path: path.into(), ..World::default() }.shared();
            let (served, hit) = decide(&chain, &mut trie, &facts);
            assert_eq!(served, chain.serve(&facts).unwrap().unwrap().verdict, "{country} {path}");
            hits += usize::from(hit);
        }
    }
    // Other paths under the same rules ask the same questions. So half of all decisions are hits, and both refused
    // countries once more.
    assert_eq!(hits, 2 * 676 + 2);
}

#[test]
fn facts_nobody_asked_do_not_split_the_memory() {
    let chain = chain();
    let mut trie = Trie::new(1 << 20);
    assert!(!decide(&chain, &mut trie, &viewer("DE")).1);
    let other = World { asn: 1, token: TokenState::Forged, now: NOW + 1, path: "/dog.png".into(), ..World::default() };
    assert!(decide(&chain, &mut trie, &other.shared()).1);
}

#[test]
fn embargo_ends_at_its_second() {
    let embargo = format!("i32.const 0 i32.const {} call $after i32.eqz i32.store8", NOW + 100);
    let items = r#"(import "evernear:policy/time@1.0.0" "after" (func $after (param i32) (result i32)))
        (memory (export "memory") 1)"#;
    let link = Link { policy: Arc::new(serve_policy(items, &embargo)), config: config("") };
    let chain = Chain::new(vec![link]).unwrap();
    let mut trie = Trie::new(1 << 20);
    let mut at = |now| {
        let facts = World { now, ..World::default() }.shared();
        let (served, hit) = decide(&chain, &mut trie, &facts);
        (served.status, hit)
    };
    assert_eq!(
        [at(NOW), at(NOW + 99), at(NOW + 100), at(NOW + 101)],
        [(403, false), (403, true), (200, false), (200, true)]
    );
    let run = chain.serve(&World::default().shared()).unwrap().unwrap();
    assert_eq!(run.trace[0].question, Question::TimeAfter(NOW + 100));
    assert_eq!(valid_until(&run.trace, NOW), Some(NOW + 100));
}

#[test]
fn the_same_group_in_two_configs_is_two_questions() {
    let items = r#"(import "evernear:policy/client@1.0.0" "in-group" (func $in (param i32 i32) (result i32)))
        (memory (export "memory") 1) (data (i32.const 64) "my-countries")"#;
    let policy = Arc::new(serve_policy(items, "i32.const 0 i32.const 64 i32.const 12 call $in i32.store8"));
    let link = |text| Link { policy: Arc::clone(&policy), config: config(text) };
    let chain = Chain::new(vec![link("my-countries = [\"FR\"]"), link("my-countries = [\"eu\"]")]).unwrap();
    let mut trie = Trie::new(1 << 20);
    let mut link_of = |country| decide(&chain, &mut trie, &viewer(country)).0.link.0;
    assert_eq!([link_of("FR"), link_of("DE"), link_of("US"), link_of("FR"), link_of("DE")], [0, 1, 1, 0, 1]);
}
