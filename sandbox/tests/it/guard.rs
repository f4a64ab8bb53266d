//! The compiler child works, is killed at its deadline, refuses components that are not admitted, and limits itself
//! before it reads.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sandbox::guard::{ChildCommand, GuardError, compile};
use sandbox::{Artefact, Config, Engine, EngineOptions, Outcome, admit};

use crate::world::{engine, prebuilt_bytes, viewer};

/// The program `child.rs`.
const CHILD: &str = env!("CARGO_BIN_EXE_sandbox-child");

fn child(program: &str, argument: Option<&str>, deadline: Duration) -> ChildCommand {
    ChildCommand { program: program.into(), arguments: argument.into_iter().map(Into::into).collect(), deadline }
}

#[test]
fn compiles_in_a_child_what_runs_here() {
    let wasm = prebuilt_bytes("geo");
    let admitted = admit(&wasm, &[]).unwrap();
    let artefact = compile(&admitted, &[], &child(CHILD, None, Duration::from_secs(30))).unwrap();
    let sealed = artefact.seal(&[1; 32]);
    let policy = engine().load(&admitted, &Artefact::open(&[1; 32], &sealed).unwrap()).unwrap();
    let run = policy.serve(&viewer("DE"), &Arc::new(Config::default())).unwrap();
    assert_eq!(run.verdict.outcome, Outcome::Allow);
}

#[test]
fn kills_a_child_at_its_deadline() {
    let wasm = prebuilt_bytes("geo");
    // This child neither reads nor ends. The call returns only because the child was killed.
    let result =
        compile(&admit(&wasm, &[]).unwrap(), &[], &child("/bin/sleep", Some("600"), Duration::from_millis(200)));
    assert!(matches!(result, Err(GuardError::Deadline { .. })), "{result:?}");
}

#[test]
fn child_refuses_what_is_not_admitted() {
    let mut child =
        Command::new(CHILD).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"\0not a component").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.starts_with("not admitted: not WebAssembly"), "{message}");
}

#[test]
fn artefact_of_another_component_is_not_loaded() {
    let (geo, ttl) = (prebuilt_bytes("geo"), prebuilt_bytes("ttl"));
    let (geo, ttl) = (admit(&geo, &[]).unwrap(), admit(&ttl, &[]).unwrap());
    let artefact = engine().compile(&geo).unwrap();
    assert!(engine().load(&geo, &artefact).is_ok());
    assert!(engine().load(&ttl, &artefact).is_err());
    assert_eq!(engine().fingerprint(), Engine::new(EngineOptions::default()).unwrap().fingerprint());
}

#[test]
fn missing_executable_is_named() {
    let wasm = prebuilt_bytes("geo");
    let command = child("/no/such/evernear", None, Duration::from_secs(1));
    let error = compile(&admit(&wasm, &[]).unwrap(), &[], &command).unwrap_err();
    assert_eq!(error.to_string(), "cannot start the policy compiler /no/such/evernear");
}

/// While the child waits for its input, it already has the limits under which it will compile.
#[test]
fn child_limits_itself_before_it_reads() {
    let mut child =
        Command::new(CHILD).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let path = format!("/proc/{}/limits", child.id());
    let deadline = Instant::now() + Duration::from_secs(60);
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
