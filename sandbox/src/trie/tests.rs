//! The trie against random programs: a remembered verdict equals the verdict of a run.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use proptest::prelude::*;

use super::*;

const FACTS: usize = 6;
const VALUES: u32 = 3;

/// A random policy: it asks for a fact and continues according to the answer.
#[derive(Debug, Clone)]
enum Program {
    Decide(u32),
    Ask(u8, Vec<Program>),
}

fn program() -> impl Strategy<Value = Program> {
    any::<u32>().prop_map(Program::Decide).prop_recursive(5, 64, VALUES, |inner| {
        let branches = prop::collection::vec(inner, VALUES as usize);
        (0..u8::try_from(FACTS).unwrap(), branches).prop_map(|(fact, branches)| Program::Ask(fact, branches))
    })
}

fn question(fact: u8) -> Question {
    Question::RequestTokenClaim(fact)
}

/// Runs a program as the host does: each question is recorded once.
fn run(program: &Program, facts: &[u32; FACTS]) -> (u32, Vec<Asked>) {
    let (mut program, mut trace) = (program, Vec::<Asked>::new());
    loop {
        match program {
            Program::Decide(verdict) => return (*verdict, trace),
            Program::Ask(fact, branches) => {
                let value = facts[usize::from(*fact)];
                let asked = Asked { link: 0, question: question(*fact), answer: Answer::Number(value) };
                if !trace.contains(&asked) {
                    trace.push(asked);
                }
                program = &branches[value as usize];
            }
        }
    }
}

fn respond(facts: [u32; FACTS]) -> impl Respondent {
    move |_: u8, question: &Question| match question {
        Question::RequestTokenClaim(fact) => Answer::Number(facts[usize::from(*fact)]),
        _ => panic!("no program asks {question}"),
    }
}

proptest! {
    #[test]
    fn remembers_what_a_run_would_say(
        program in program(),
        requests in prop::collection::vec(prop::array::uniform6(0..VALUES), 1..64),
        bytes_max in prop_oneof![Just(usize::MAX), 600_usize..4000],
    ) {
        let mut trie = Trie::new(bytes_max);
        for facts in requests {
            let (verdict, trace) = run(&program, &facts);
            if let Some(remembered) = trie.lookup(&respond(facts)) {
                prop_assert_eq!(*remembered, verdict);
                prop_assert_eq!(trie.insert(&trace, verdict, 0), Ok(Inserted::Known));
            } else if trie.insert(&trace, verdict, 0).unwrap() == Inserted::New {
                prop_assert_eq!(trie.lookup(&respond(facts)), Some(&verdict));
            }
            prop_assert!(trie.bytes <= bytes_max);
        }
    }

    #[test]
    fn facts_not_asked_never_split_a_memory(
        program in program(),
        facts in prop::array::uniform6(0..VALUES),
        others in prop::array::uniform6(0..VALUES),
    ) {
        let (verdict, trace) = run(&program, &facts);
        let mut trie = Trie::new(usize::MAX);
        trie.insert(&trace, verdict, 0).unwrap();
        let mut changed = others;
        for asked in &trace {
            if let Question::RequestTokenClaim(fact) = asked.question {
                changed[usize::from(fact)] = facts[usize::from(fact)];
            }
        }
        prop_assert_eq!(trie.lookup(&respond(changed)), Some(&verdict));
        prop_assert_eq!(trie.len(), trace.len() + 1);
    }
}

fn asked(question: Question, answer: Answer) -> Asked {
    Asked { link: 0, question, answer }
}

#[test]
fn empty_trie_knows_nothing_and_an_empty_trace_answers_all() {
    let mut trie = Trie::new(1000);
    let nobody = |_: u8, _: &Question| -> Answer { panic!("asks nothing") };
    assert_eq!(trie.lookup(&nobody), None);
    assert_eq!(trie.insert(&[], 7, 0), Ok(Inserted::New));
    assert_eq!(trie.lookup(&nobody), Some(&7));
}

#[test]
fn memory_ends_at_the_very_second() {
    let mut trie = Trie::new(1000);
    trie.insert(&[asked(Question::TimeAfter(100), Answer::Truth(false))], "before", 0).unwrap();
    let at = |now: u32| {
        move |_: u8, question: &Question| match question {
            Question::TimeAfter(t) => Answer::Truth(now >= *t),
            _ => panic!("asks the time only"),
        }
    };
    assert_eq!(trie.lookup(&at(99)), Some(&"before"));
    assert_eq!(trie.lookup(&at(100)), None);
    trie.insert(&[asked(Question::TimeAfter(100), Answer::Truth(true))], "after", 0).unwrap();
    assert_eq!((trie.lookup(&at(99)), trie.lookup(&at(100))), (Some(&"before"), Some(&"after")));
}

#[test]
fn tells_none_from_a_number_and_from_a_text() {
    let mut trie = Trie::new(10_000);
    let tag = || Question::ObjectTagNumber("ttl".into());
    let answers = [Answer::MaybeNumber(None), Answer::MaybeNumber(Some(0)), Answer::MaybeNumber(Some(u32::MAX))];
    for (verdict, answer) in answers.iter().enumerate() {
        assert_eq!(trie.insert(&[asked(tag(), answer.clone())], verdict, 0), Ok(Inserted::New));
    }
    for (verdict, answer) in answers.iter().enumerate() {
        assert_eq!(trie.lookup(&|_: u8, _: &Question| answer.clone()), Some(&verdict));
    }
    let mut trie = Trie::new(10_000);
    let header = || Question::RequestHeader("accept".into(), 9);
    let answers = [Answer::MaybeText(None), Answer::MaybeText(Some("".into())), Answer::MaybeText(Some("a".into()))];
    for (verdict, answer) in answers.iter().enumerate() {
        assert_eq!(trie.insert(&[asked(header(), answer.clone())], verdict, 0), Ok(Inserted::New));
    }
}

#[test]
fn tells_links_apart() {
    let mut trie = Trie::new(1000);
    let by = |link| Asked { link, question: Question::ClientIpv6, answer: Answer::Truth(true) };
    trie.insert(&[by(0), by(1)], 1, 0).unwrap();
    assert_eq!(trie.insert(&[by(1)], 2, 0), Err(NotPure { at: 0 }));
    assert_eq!(trie.lookup(&|link: u8, _: &Question| Answer::Truth(link == 0)), None);
}

#[test]
fn contradicting_traces_are_reported() {
    let mut trie = Trie::new(1000);
    let first = asked(Question::ClientIpv6, Answer::Truth(true));
    trie.insert(&[first.clone(), asked(Question::ObjectSize, Answer::Number(1))], 1, 0).unwrap();
    assert_eq!(
        trie.insert(&[first.clone(), asked(Question::ClientAsn, Answer::Number(1))], 1, 0),
        Err(NotPure { at: 1 })
    );
    assert_eq!(trie.insert(&[first], 1, 0), Err(NotPure { at: 1 }));
}

#[test]
fn forgets_everything_when_full_and_refuses_what_never_fits() {
    let mut trie = Trie::new(2000);
    let claim = |value| [asked(question(0), Answer::Number(value))];
    let mut value = 0;
    while trie.forgotten() == 0 {
        assert_eq!(trie.insert(&claim(value), value, 0), Ok(Inserted::New));
        value += 1;
    }
    assert_eq!(trie.len(), 2);
    assert_eq!(trie.lookup(&respond([value - 1; FACTS])), Some(&(value - 1)));
    assert_eq!(trie.lookup(&respond([0; FACTS])), None);
    assert_eq!(trie.insert(&claim(9999), 0, 2000), Ok(Inserted::TooBig));
    assert_eq!(trie.len(), 2);
}
