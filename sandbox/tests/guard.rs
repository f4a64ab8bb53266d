//! The compiler child: works, is killed at its deadline, refuses what is not admitted, dies of its own limits.
//!
//! A test program with a `main` of its own, because the child is this same executable under a hidden subcommand.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use std::env;
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sandbox::guard::{ChildCommand, GuardError, child_main, compile};
use sandbox::{Artefact, Config, Engine, EngineOptions, Facts, Outcome, admit};

struct Nobody;

impl Facts for Nobody {
    fn now(&self) -> u32 {
        0
    }
}

fn main() -> ExitCode {
    match env::args().nth(1).as_deref() {
        Some("compile") => return child_main(),
        Some("hang") => loop {
            std::thread::park();
        },
        _ => {}
    }
    let tests: [(&str, fn()); 6] = [
        ("child_limits_itself_before_it_reads", child_limits_itself_before_it_reads),
        ("compiles_in_a_child_what_runs_here", compiles_in_a_child_what_runs_here),
        ("kills_a_child_at_its_deadline", kills_a_child_at_its_deadline),
        ("child_refuses_what_is_not_admitted", child_refuses_what_is_not_admitted),
        ("artefact_of_another_component_is_not_loaded", artefact_of_another_component_is_not_loaded),
        ("missing_executable_is_named", missing_executable_is_named),
    ];
    for (name, test) in tests {
        test();
        println!("test {name} ... ok");
    }
    println!("{} passed, 0 failed", tests.len());
    ExitCode::SUCCESS
}

fn wasm(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../policies/prebuilt/{name}.wasm"))).unwrap()
}

fn child(subcommand: &str, deadline: Duration) -> ChildCommand {
    ChildCommand { program: env::current_exe().unwrap(), arguments: vec![subcommand.into()], deadline }
}

fn compiles_in_a_child_what_runs_here() {
    let engine = Engine::new(EngineOptions::default()).unwrap();
    let wasm = wasm("geo");
    let admitted = admit(&wasm, &[]).unwrap();
    let start = Instant::now();
    let artefact = compile(&admitted, &[], &child("compile", Duration::from_secs(30))).unwrap();
    println!("child compiled geo in {:?}", start.elapsed());
    let sealed = artefact.seal(&[1; 32]);
    let policy = engine.load(&admitted, &Artefact::open(&[1; 32], &sealed).unwrap()).unwrap();
    let facts: Arc<dyn Facts> = Arc::new(Nobody);
    let run = policy.serve(&facts, &Arc::new(Config::default())).unwrap();
    assert_eq!(run.verdict.outcome, Outcome::Allow);
}

fn kills_a_child_at_its_deadline() {
    let wasm = wasm("geo");
    let start = Instant::now();
    let result = compile(&admit(&wasm, &[]).unwrap(), &[], &child("hang", Duration::from_millis(200)));
    assert!(matches!(result, Err(GuardError::Deadline { .. })), "{result:?}");
    assert!(start.elapsed() < Duration::from_secs(5));
}

fn child_refuses_what_is_not_admitted() {
    let mut child = Command::new(env::current_exe().unwrap())
        .arg("compile")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"\0not a component").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.starts_with("not admitted: not a valid component"), "{message}");
}

fn artefact_of_another_component_is_not_loaded() {
    let engine = Engine::new(EngineOptions::default()).unwrap();
    let (geo, ttl) = (wasm("geo"), wasm("ttl"));
    let (geo, ttl) = (admit(&geo, &[]).unwrap(), admit(&ttl, &[]).unwrap());
    let artefact = engine.compile(&geo).unwrap();
    assert!(engine.load(&ttl, &artefact).is_err());
    assert_eq!(engine.fingerprint(), Engine::new(EngineOptions::default()).unwrap().fingerprint());
}

fn missing_executable_is_named() {
    let wasm = wasm("geo");
    let command =
        ChildCommand { program: "/no/such/evernear".into(), arguments: vec![], deadline: Duration::from_secs(1) };
    let error = compile(&admit(&wasm, &[]).unwrap(), &[], &command).unwrap_err();
    assert_eq!(error.to_string(), "cannot start the policy compiler /no/such/evernear");
}

/// While it waits for its input, the child already has the limits that its policy will meet.
fn child_limits_itself_before_it_reads() {
    let mut child = Command::new(env::current_exe().unwrap())
        .arg("compile")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let path = format!("/proc/{}/limits", child.id());
    let deadline = Instant::now() + Duration::from_secs(10);
    let has = |limits: &str, name: &str, limit: &str| {
        limits.lines().any(|line| line.starts_with(name) && line[name.len()..].split_whitespace().next() == Some(limit))
    };
    let all = [
        ("Max address space", "536870912"),
        ("Max cpu time", "10"),
        ("Max file size", "0"),
        ("Max core file size", "0"),
    ];
    loop {
        let limits = std::fs::read_to_string(&path).unwrap();
        if all.iter().all(|(name, limit)| has(&limits, name, limit)) {
            break;
        }
        assert!(Instant::now() < deadline, "{limits}");
        std::thread::yield_now();
    }
    drop(child.stdin.take());
    assert!(!child.wait().unwrap().success());
}
