//! Limits of a run: loops, memory, stack, questions, effects and verdicts, with both sides of each.

use std::sync::Arc;

use sandbox::{Config, Effect, Fault, Hook, Run, VerdictError};

use crate::world::{MEMORY, component_of_world, config, load, serve_policy, viewer};

fn serve(items: &str, body: &str) -> Result<Run<sandbox::Decision>, Fault> {
    serve_with(items, body, &config(""))
}

fn serve_with(items: &str, body: &str, config: &Arc<Config>) -> Result<Run<sandbox::Decision>, Fault> {
    serve_policy(items, body).serve(&viewer("DE"), config)
}

fn store(instruction: &str, offset: u32, value: u32) -> String {
    format!("i32.const 0 i32.const {value} {instruction} offset={offset} ")
}

const COUNTDOWN: &str = "loop local.get $i i32.const 1 i32.sub local.tee $i br_if 0 end";

fn count(from: u32) -> String {
    format!("i32.const {from} local.set $i {COUNTDOWN}")
}

#[test]
fn infinite_loop_runs_out_of_fuel() {
    assert_eq!(serve(MEMORY, "loop br 0 end").err(), Some(Fault::Fuel { hook: Hook::Serve, limit: 100_000 }));
}

#[test]
fn fuel_ends_at_the_same_instruction_every_time() {
    let fuel_of = |rounds| serve(MEMORY, &count(rounds)).map(|run| run.fuel);
    let each = fuel_of(1001).unwrap() - fuel_of(1000).unwrap();
    let rest = fuel_of(1000).unwrap() - 1000 * each;
    let most = u32::try_from((100_000 - rest) / each).unwrap();
    // The last round may exceed the limit by one block before the check. Both sides lie within two rounds.
    assert!(fuel_of(most - 1).is_ok());
    assert!(matches!(fuel_of(most + 2), Err(Fault::Fuel { .. })));
    assert_eq!(fuel_of(500), fuel_of(500));
}

#[test]
fn memory_grows_to_the_limit_and_not_past_it() {
    // Memory starts with one page, and 15 more fit into 1 MiB.
    let grow = |pages| format!("i32.const {pages} memory.grow i32.const -1 i32.eq if unreachable end");
    assert!(serve(MEMORY, &grow(15)).is_ok());
    let fault = Fault::Memory { hook: Hook::Serve, bytes: 17 * 65_536, limit: 1_048_576 };
    assert_eq!(serve(MEMORY, &grow(16)).err(), Some(fault));
    // A guest that handles the refusal may continue.
    assert!(serve(MEMORY, "i32.const 60000 memory.grow drop").is_ok());
    let bomb = "loop i32.const 1 memory.grow i32.const -1 i32.ne br_if 0 end unreachable";
    assert!(matches!(serve(MEMORY, bomb), Err(Fault::Memory { .. })));
}

#[test]
fn deep_recursion_traps_on_its_own_stack() {
    let items = format!(
        "{MEMORY} (func $deep (param i64) (result i64) (i64.add (local.get 0) (call $deep (i64.add (local.get 0) (i64.const 1)))))"
    );
    let fault = serve(&items, "i64.const 0 call $deep drop").unwrap_err();
    assert!(matches!(fault, Fault::Stack { limit_bytes: 262_144, .. }), "{fault}");
}

#[test]
fn waiting_for_a_core_is_no_fault() {
    // There are more threads than cores, and all of them run policies. A thread that loses its core during a run waits
    // longer than a run may take.
    let policy = serve_policy(MEMORY, &count(15_000));
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| (0..200).for_each(|_| drop(policy.serve(&viewer("DE"), &config("")).unwrap())));
        }
    });
}

#[test]
fn a_trap_is_named_and_leaves_nothing_behind() {
    let policy = serve_policy(MEMORY, "i32.const 1 i32.const 0 i32.div_u drop");
    for _ in 0..200 {
        let fault = policy.serve(&viewer("DE"), &config("")).unwrap_err();
        assert_eq!(fault.to_string(), "policy trapped in serve: wasm trap: integer divide by zero");
        assert!(fault.is_of_policy());
    }
}

#[test]
fn instances_are_fresh_each_time() {
    // Counts in its memory at offset 8 (client-ttl). A fresh instance always counts to 1.
    let body = "i32.const 0 i32.const 0 i32.load offset=8 i32.const 1 i32.add i32.store offset=8";
    let policy = serve_policy(MEMORY, body);
    for _ in 0..100 {
        assert_eq!(policy.serve(&viewer("DE"), &config("")).unwrap().verdict.client_ttl, 1);
    }
}

fn claims(count: u32) -> String {
    format!(
        "i32.const {count} local.set $i loop local.get $i call $bucket drop local.get $i i32.const 1 i32.sub local.tee $i br_if 0 end"
    )
}

const BUCKET: &str = r#"(import "evernear:policy/client@1.0.0" "bucket" (func $bucket (param i32) (result i32)))
    (memory (export "memory") 1)"#;

#[test]
fn a_run_asks_64_different_questions_and_no_more() {
    assert_eq!(serve(BUCKET, &claims(64)).unwrap().trace.len(), 64);
    let fault = serve(BUCKET, &claims(65)).unwrap_err();
    assert!(matches!(&fault, Fault::Question { .. }), "{fault}");
    let same = "i32.const 5000 local.set $i loop i32.const 7 call $bucket drop local.get $i i32.const 1 i32.sub local.tee $i br_if 0 end";
    assert_eq!(serve(BUCKET, same).unwrap().trace.len(), 1);
}

const NOTE: &str = r#"(import "evernear:policy/effect@1.0.0" "note" (func $note (param i32 i32)))
    (memory (export "memory") 1)"#;

fn notes(count: u32, bytes: u32) -> String {
    format!(
        "i32.const {count} local.set $i loop i32.const 64 i32.const {bytes} call $note local.get $i i32.const 1 i32.sub local.tee $i br_if 0 end"
    )
}

#[test]
fn a_run_adds_16_effects_of_1_kib_and_no_more() {
    let run = serve(NOTE, &notes(16, 1024)).unwrap();
    assert_eq!(run.effects.len(), 16);
    assert!(matches!(&run.effects[0], Effect::Note(text) if text.len() == 1024));
    assert!(matches!(serve(NOTE, &notes(17, 1)), Err(Fault::Effect { .. })));
    assert!(matches!(serve(NOTE, &notes(1, 1025)), Err(Fault::Effect { .. })));
    // Copying is bounded before the effect is checked.
    assert!(matches!(serve(NOTE, &notes(1, 60_000)), Err(Fault::Trap { .. })));
    assert!(matches!(serve(NOTE, "i32.const 65530 i32.const 100 call $note"), Err(Fault::Trap { .. })));
}

#[test]
fn effects_cannot_set_headers_of_the_edge() {
    let header = |name: &str| {
        let items = format!(
            r#"(import "evernear:policy/effect@1.0.0" "header" (func $header (param i32 i32 i32 i32)))
            (memory (export "memory") 1) (data (i32.const 64) "{name}")"#
        );
        let length = name.len();
        serve(&items, &format!("i32.const 64 i32.const {length} i32.const 64 i32.const 1 call $header"))
    };
    assert_eq!(header("x-cat").unwrap().effects.len(), 1);
    for name in ["Set-Cookie", "content-length", "x-request-id", "a b", ""] {
        assert!(matches!(header(name), Err(Fault::Effect { .. })), "{name}");
    }
}

#[test]
fn facts_of_another_hook_are_refused() {
    let wat = r#"(module
        (import "evernear:policy/client@1.0.0" "country" (func $country (result i32)))
        (memory (export "memory") 1)
        (func (export "evernear:policy/serve@1.0.0#serve") (result i32) call $country drop i32.const 0)
        (func (export "evernear:policy/hold@1.0.0#hold") (result i32) call $country drop i32.const 0))"#;
    let policy = load(&component_of_world(wat, "serve-hold")).unwrap();
    assert!(policy.serve(&viewer("DE"), &config("")).is_ok());
    assert_eq!(
        policy.hold(&viewer("DE"), &config("")).unwrap_err().to_string(),
        "policy asked client.country in hold: its facts do not exist in this hook"
    );
    assert_eq!(policy.steer(&viewer("DE"), &config(""), &[]).err(), Some(Fault::NoHook { hook: Hook::Steer }));
}

#[test]
fn verdicts_are_checked_against_the_config() {
    let own = config(
        r#"
        header-set = [{ x-a = "1" }]
        target = [{ url = "https://example.org/" }]
        rate-class = [{ requests = 10, seconds = 1 }]
        "#,
    );
    let verdict = |body: &str| serve_with(MEMORY, body, &own);
    let bad = |source| Fault::Verdict { hook: Hook::Serve, source };
    assert!(verdict(&store("i32.store", 24, 1)).is_ok());
    assert_eq!(verdict(&store("i32.store", 24, 2)).err(), Some(bad(VerdictError::HeaderSet { set: 1 })));
    assert!(verdict(&store("i32.store8", 30, 1)).is_ok());
    assert_eq!(verdict(&store("i32.store8", 30, 2)).err(), Some(bad(VerdictError::RateClass { class: 2 })));
    let redirect = store("i32.store8", 0, 2);
    assert!(verdict(&redirect).is_ok());
    assert_eq!(
        verdict(&(redirect + &store("i32.store16", 28, 1))).err(),
        Some(bad(VerdictError::Target { target: 1 }))
    );
    // An outcome that does not exist never becomes a verdict.
    assert!(matches!(verdict(&store("i32.store8", 0, 6)), Err(Fault::Trap { .. })));
    assert!(matches!(verdict(&store("i32.store16", 2, 451)), Err(Fault::Verdict { .. })));
}

#[test]
fn fuel_stops_host_calls_too() {
    // Some hundred calls: many thousands could use up the time of a run before its fuel.
    let body = format!("loop {} i32.const 7 call $bucket drop br 0 end", count(100));
    assert!(matches!(serve(BUCKET, &body), Err(Fault::Fuel { .. })));
}
