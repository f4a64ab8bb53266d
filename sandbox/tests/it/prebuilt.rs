//! The ready-made policies, as owners use them.

use sandbox::{Answer, Candidate, ContentKind, Continent, Hook, Marks, Outcome, Question, Site, Tier, admit};

use crate::world::{World, config, prebuilt, prebuilt_bytes, viewer};

const YEAR: u32 = 31_536_000;

fn reads(name: &str) -> Vec<String> {
    let wasm = prebuilt_bytes(name);
    admit(&wasm, &[]).unwrap().summary().imports.iter().map(ToString::to_string).collect()
}

#[test]
fn import_lists_say_what_policies_look_at() {
    assert_eq!(reads("nft-immutable"), [""; 0]);
    assert_eq!(reads("geo"), ["client.country", "config.has", "config.number", "config.truth", "edge.country"]);
    assert_eq!(reads("template"), ["config.number", "object.tagged", "request.token"]);
    assert_eq!(
        reads("signed"),
        ["config.number", "config.text", "config.truth", "object.tagged", "request.token", "request.token-claim"]
    );
    assert_eq!(reads("pages"), ["config.number", "config.text", "effect.header"]);
    assert_eq!(reads("places"), ["config.has", "config.number", "config.truth"]);
    assert!(!reads("ttl").iter().any(|import| import.starts_with("client.")));
}

#[test]
fn nft_immutable_serves_everybody_for_ever_without_a_question() {
    let policy = prebuilt("nft-immutable");
    let run = policy.serve(&viewer("RU"), &config("")).unwrap();
    assert_eq!((run.verdict.outcome, run.verdict.status, run.verdict.client_ttl), (Outcome::Allow, 200, YEAR));
    assert_eq!(run.verdict.marks, Marks::IMMUTABLE | Marks::CORS_ANY);
    assert!(run.trace.is_empty() && run.effects.is_empty() && run.fuel > 0 && run.fuel < 1000, "{}", run.fuel);
    assert_eq!(policy.hold(&viewer("RU"), &config("")).unwrap().verdict.tier, Tier::Disk);
    assert!(!policy.has(Hook::Steer));
}

#[test]
fn geo_refuses_a_country_only_when_configured() {
    let policy = prebuilt("geo");
    let serve = |country, text| policy.serve(&viewer(country), &config(text)).unwrap();
    assert_eq!(serve("RU", "").verdict.outcome, Outcome::Allow);

    let refused = serve("RU", r#"receive-deny = ["RU", "BY"]"#);
    assert_eq!((refused.verdict.outcome, refused.verdict.status, refused.verdict.reason), (Outcome::Deny, 451, 1));
    assert_eq!(refused.trace.len(), 1);
    assert_eq!(refused.trace[0].question, Question::ClientCountry);
    assert_eq!(refused.trace[0].answer, Answer::Country("RU".parse().unwrap()));
    assert_eq!(serve("DE", r#"receive-deny = ["RU", "BY"]"#).verdict.outcome, Outcome::Allow);

    let own = r#"receive-deny = ["RU"]
        status = 403
        reason = 7
        refused-ttl = 9"#;
    let own = serve("RU", own).verdict;
    assert_eq!((own.status, own.reason, own.client_ttl), (403, 7, 9));
    let hidden = serve("RU", "receive-deny = [\"RU\"]\nhide = true").verdict;
    assert_eq!((hidden.outcome, hidden.status), (Outcome::Hide, 404));
    assert_eq!(serve("DE", "receive-deny = [\"RU\"]\nhide = true").verdict.outcome, Outcome::Allow);
}

#[test]
fn signed_refuses_or_hides_whom_it_has_no_link_of() {
    let serve = |text| prebuilt("signed").serve(&viewer("DE"), &config(text)).unwrap().verdict;
    for (text, outcome, status) in
        [("", Outcome::Deny, 403), ("status = 401", Outcome::Deny, 401), ("hide = true", Outcome::Hide, 404)]
    {
        assert_eq!((serve(text).outcome, serve(text).status), (outcome, status), "{text}");
    }
}

#[test]
fn geo_lists_take_groups_and_the_unknown_country() {
    let policy = prebuilt("geo");
    let outcome = |country, text| policy.serve(&viewer(country), &config(text)).unwrap().verdict.outcome;
    let allow = r#"receive-allow = ["eea", "CH"]"#;
    for (country, expected) in [
        ("DE", Outcome::Allow),
        ("NO", Outcome::Allow),
        ("CH", Outcome::Allow),
        ("US", Outcome::Deny),
        ("unknown", Outcome::Deny),
    ] {
        assert_eq!(outcome(country, allow), expected, "{country}");
    }
    assert_eq!(outcome("unknown", r#"receive-deny = ["RU"]"#), Outcome::Allow);
    assert_eq!(outcome("unknown", r#"receive-deny = ["RU", "unknown"]"#), Outcome::Deny);
    assert_eq!(outcome("DE", "receive-allow = []"), Outcome::Deny);
    assert_eq!(outcome("DE", "receive-allow = [\"eu\"]\nreceive-deny = [\"DE\"]"), Outcome::Deny);
}

#[test]
fn geo_never_steers_to_an_edge_that_may_not_hold() {
    let policy = prebuilt("geo");
    let edge = |country: &str| Candidate {
        country: country.parse().unwrap(),
        continent: Continent::Europe,
        region: 1,
        rtt_ms: 20,
        load: 10,
        holds: false,
    };
    let edges = [edge("DE"), edge("US"), edge("NO")];
    let steer = |country, text| policy.steer(&viewer(country), &config(text), &edges).unwrap().verdict;
    assert_eq!(steer("DE", r#"hold-allow = ["eu"]"#).weights, [100, 0, 0]);
    assert_eq!(steer("DE", r#"hold-deny = ["US"]"#).weights, [100, 0, 100]);
    let hidden = "receive-deny = [\"RU\"]\nhide-name = true\ndns-ttl = 1";
    assert_eq!((steer("RU", hidden).weights, steer("RU", hidden).ttl), (vec![0, 0, 0], 5));
    assert_eq!(steer("DE", hidden).weights, [100, 100, 100]);
    assert_eq!(policy.steer(&viewer("DE"), &config(""), &[]).unwrap().verdict.weights, [0; 0]);

    let hold = |edge_country| {
        let facts = World { edge_country, ..World::default() }.shared();
        policy.hold(&facts, &config(r#"hold-allow = ["eu"]"#)).unwrap().verdict.tier
    };
    assert_eq!((hold("FR"), hold("US")), (Tier::Disk, Tier::None));
}

#[test]
fn geo_weighs_256_edges_within_its_fuel_and_is_not_given_257() {
    let policy = prebuilt("geo");
    let edge = Candidate {
        country: "FR".parse().unwrap(),
        continent: Continent::Europe,
        region: 1,
        rtt_ms: 20,
        load: 10,
        holds: false,
    };
    let facts = viewer("DE");
    let config = config("hold-allow = [\"eu\"]\nhold-deny = [\"DE\"]");
    let run = policy.steer(&facts, &config, &vec![edge.clone(); 256]).unwrap();
    assert!(run.fuel < 100_000, "{}", run.fuel);
    assert!(policy.steer(&facts, &config, &vec![edge; 257]).is_err());
}

#[test]
fn places_plans_by_country_and_passes_numbers_on() {
    let policy = prebuilt("places");
    let site = |country: &str| Site {
        country: country.parse().unwrap(),
        continent: Continent::Europe,
        operator: 1,
        datacentre: 2,
        free_gib: 3,
        grams_co2_per_kwh: 4,
    };
    let sites = ["DE", "BE", "US", "RU"].map(site);
    let plan = |text: &str| policy.place(&viewer("DE"), &config(text), &sites).map(|run| run.verdict);
    assert_eq!(plan("").unwrap().weights, [25, 25, 25, 25]);
    let eu = plan("store-allow = [\"eu\", \"RU\"]\nstore-deny = [\"RU\"]\nprefer-countries = [\"BE\"]").unwrap();
    assert_eq!((&eu.weights[..], eu.data_shards, eu.per_country), (&[25, 250, 0, 0][..], 0, 0));
    let numbers =
        plan("data = 4\nparity = 2\nper-country = 3\nper-operator = 2\nper-datacentre = 1\nkeep-until = 7").unwrap();
    assert_eq!((numbers.data_shards, numbers.parity_shards, numbers.keep_until, numbers.erase_after), (4, 2, 7, 0));
    assert_eq!((numbers.per_country, numbers.per_operator, numbers.per_datacentre), (3, 2, 1));
    assert!(plan("parity = 4").is_err(), "parity of nothing");
}

#[test]
fn ttl_takes_the_first_rule_that_has_a_number() {
    let policy = prebuilt("ttl");
    let rules = config(
        r#"
        ttl = 50
        ttl-image = 40
        tag-1 = "hot"
        tag-1-ttl = 20
        paths = [{ glob = "/img/**", number = 30 }, { glob = "/**", number = 35 }]
        "#,
    );
    let ttl = |world: World| policy.serve(&world.shared(), &rules).unwrap().verdict.client_ttl;
    let plain = World { path: "none".into(), kind: ContentKind::Html, ..World::default() };
    let image = World { kind: ContentKind::Image, ..plain.clone() };
    let path = World { path: "/img/a/b.png".into(), ..image.clone() };
    let other_path = World { path: "/b.png".into(), ..image.clone() };
    let tagged = World { tags: [("hot", None)].into(), ..path.clone() };
    let numbered = World { tags: [("hot", None), ("ttl", Some(10))].into(), ..path.clone() };
    assert_eq!(
        [ttl(plain), ttl(image), ttl(other_path), ttl(path), ttl(tagged), ttl(numbered)],
        [50, 40, 35, 30, 20, 10]
    );
    assert_eq!(policy.serve(&viewer("DE"), &config("")).unwrap().verdict.client_ttl, 3600);
    assert_eq!(policy.serve(&viewer("DE"), &config("ttl = 0")).unwrap().verdict.marks, Marks::NO_STORE);
    assert_eq!(policy.serve(&viewer("DE"), &config("ttl = 4294967295")).unwrap().verdict.client_ttl, YEAR);
}

#[test]
fn same_facts_give_same_runs() {
    for name in ["geo", "ttl", "pages", "places", "signed", "nft-immutable", "template"] {
        let policy = prebuilt(name);
        let config = config(r#"receive-deny = ["RU"]"#);
        let first = policy.serve(&viewer("RU"), &config);
        for _ in 0..20 {
            assert_eq!(policy.serve(&viewer("RU"), &config), first, "{name}");
        }
    }
}
