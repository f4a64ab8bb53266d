//! Chains: the first refusal wins, lifetimes are the minimum, and questions know their link.

use sandbox::{Candidate, Chain, ChainError, Continent, Hook, Link, Outcome, Question};

use crate::world::{MEMORY, World, config, prebuilt, serve_policy, viewer};

fn link(name: &str, text: &str) -> Link {
    Link { policy: prebuilt(name), config: config(text) }
}

fn chain(links: Vec<Link>) -> Chain {
    Chain::new(links).unwrap()
}

#[test]
fn has_one_to_eight_links() {
    assert!(matches!(Chain::new(Vec::new()), Err(ChainError::Links { links: 0 })));
    assert!(Chain::new(vec![link("nft-immutable", ""); 8]).is_ok());
    assert!(matches!(Chain::new(vec![link("nft-immutable", ""); 9]), Err(ChainError::Links { links: 9 })));
}

#[test]
fn is_not_made_with_a_config_that_does_not_fit_its_component() {
    let error = Chain::new(vec![link("nft-immutable", ""), link("geo", r#"recieve-allow = ["eu"]"#)]).err().unwrap();
    assert_eq!(error.to_string(), "the configuration of link 2 is not what its component takes");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.starts_with("recieve-allow is none") && cause.ends_with("; did you mean receive-allow?"), "{cause}");
}

#[test]
fn first_refusal_decides_and_later_links_do_not_run() {
    let chain = chain(vec![
        link("nft-immutable", ""),
        link("geo", r#"receive-deny = ["RU"]"#),
        link("geo", "receive-deny = [\"RU\", \"BY\"]\nstatus = 403"),
    ]);
    let serve = |country| chain.serve(&viewer(country)).unwrap().unwrap();
    let refused = serve("RU");
    assert_eq!((refused.verdict.outcome, refused.verdict.status, refused.verdict.link.0), (Outcome::Deny, 451, 1));
    assert_eq!(refused.trace.len(), 1);
    assert_eq!((serve("BY").verdict.status, serve("BY").verdict.link.0, serve("BY").trace.len()), (403, 2, 2));
    assert_eq!(serve("DE").verdict.outcome, Outcome::Allow);
}

#[test]
fn lifetimes_are_the_least_and_marks_add_up() {
    let chain = chain(vec![link("nft-immutable", ""), link("ttl", "ttl = 70"), link("geo", "ttl = 90")]);
    let run = chain.serve(&viewer("DE")).unwrap().unwrap();
    assert_eq!(run.verdict.client_ttl, 70);
    assert!(run.verdict.marks.contains(sandbox::Marks::IMMUTABLE));
    let asked: Vec<(u8, &Question)> = run.trace.iter().map(|asked| (asked.link, &asked.question)).collect();
    assert_eq!(asked.first().unwrap().0, 1);
    assert_eq!(asked.last().unwrap(), &(2, &Question::ClientCountry));
}

#[test]
fn links_without_a_hook_have_no_say() {
    let chain = chain(vec![link("nft-immutable", ""), link("geo", r#"hold-allow = ["DE"]"#)]);
    assert!(chain.has(Hook::Steer) && !chain.has(Hook::Place));
    let edge = |country: &str| Candidate {
        country: country.parse().unwrap(),
        continent: Continent::Europe,
        region: 0,
        rtt_ms: 0,
        load: 0,
        holds: true,
    };
    let run = chain.steer(&viewer("DE"), &[edge("DE"), edge("FR")]).unwrap().unwrap();
    assert_eq!(run.verdict.weights, [100, 0]);
    assert!(chain.place(&viewer("DE"), &[]).unwrap().is_none());
    let facts = World { edge_country: "FR", ..World::default() }.shared();
    assert_eq!(chain.hold(&facts).unwrap().unwrap().verdict.tier, sandbox::Tier::None);
}

#[test]
fn a_failing_link_is_named() {
    let failing = Link { policy: serve_policy(MEMORY, "unreachable").into(), config: config("") };
    let chain = chain(vec![link("nft-immutable", ""), failing]);
    let fault = chain.serve(&viewer("DE")).unwrap_err();
    assert_eq!((fault.link.0, fault.to_string().as_str()), (1, "link 2 failed"));
}

#[test]
fn headers_and_targets_come_from_the_config_of_the_link() {
    let set = |number, value: &str, outcome| {
        let body =
            format!("i32.const 0 i32.const {number} i32.store offset=24 i32.const 0 i32.const {outcome} i32.store8");
        let text = format!(
            "header-set = [{{ x-of = \"{value}\" }}, {{ x-more = \"1\" }}]\ntarget = [{{ url = \"/{value}\" }}]\nrate-class = []"
        );
        Link { policy: serve_policy(MEMORY, &body).into(), config: config(&text) }
    };
    let both = chain(vec![set(1, "a", 0), set(3, "b", 0)]).serve(&viewer("DE")).unwrap().unwrap().verdict;
    let headers: Vec<String> =
        both.headers.iter().map(|header| format!("{}={}", header.name(), header.value())).collect();
    assert_eq!(headers, ["x-of=a", "x-of=b", "x-more=1"]);
    let redirect = chain(vec![set(1, "a", 0), set(0, "b", 2)]).serve(&viewer("DE")).unwrap().unwrap().verdict;
    assert_eq!((redirect.status, redirect.target.as_deref(), redirect.headers.len()), (302, Some("/b"), 0));
}
