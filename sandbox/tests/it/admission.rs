//! Admission: both sides of each limit, hostile bytes, and everything that must never reach the compiler.

use std::fmt::Write as _;

use proptest::prelude::*;
use sandbox::{AdmitError, Class, Hook, admit};

use crate::world::{MEMORY, component, engine, load, prebuilt_bytes, serve_wat, viewer};

fn refusal(items: &str, body: &str) -> Option<AdmitError> {
    admit(&component(&serve_wat(items, body)), &[]).err()
}

#[test]
fn admits_ready_made_policies_and_names_their_hooks() {
    let wasm = prebuilt_bytes("geo");
    let admitted = admit(&wasm, &[]).unwrap();
    assert_eq!(admitted.summary().hooks, [Hook::Steer, Hook::Serve, Hook::Hold]);
    assert_eq!(admitted.summary().class, Class::Small);
}

#[test]
fn refuses_wasi_by_name() {
    let wasm = wat::parse_str(r#"(component (import "wasi:filesystem/preopens@0.2.0" (instance)))"#).unwrap();
    let error = admit(&wasm, &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "imports wasi:filesystem/preopens@0.2.0, which policies do not have; only evernear:policy/*@1 is there"
    );
    let next = wat::parse_str(r#"(component (import "evernear:policy/client@2.0.0" (instance)))"#).unwrap();
    assert!(matches!(admit(&next, &[]), Err(AdmitError::Import { .. })));
}

#[test]
fn refuses_a_fact_that_the_contract_does_not_have_when_it_is_linked() {
    let wasm = component(&serve_wat(MEMORY, ""));
    assert!(load(&wasm).is_ok());
    let newer = wat::parse_str(
        r#"(component
            (import "evernear:policy/client@1.0.0" (instance $client (export "shoe-size" (func (result u32)))))
            (import "evernear:policy/serve@1.0.0" (instance $serve))
            (export "evernear:policy/serve@1.0.0" (instance $serve)))"#,
    )
    .unwrap();
    let admitted = admit(&newer, &[]).unwrap();
    assert_eq!(admitted.summary().imports.iter().map(ToString::to_string).collect::<Vec<_>>(), ["client.shoe-size"]);
    let artefact = engine().compile(&admitted).unwrap();
    let error = engine().load(&admitted, &artefact).err().unwrap().to_string();
    assert!(error.contains("shoe-size") || error.contains("serve"), "{error}");
}

#[test]
fn refuses_what_is_no_component_or_has_no_hook() {
    assert_eq!(admit(&wat::parse_str("(module)").unwrap(), &[]).err(), Some(AdmitError::CoreModule));
    assert_eq!(admit(&wat::parse_str("(component)").unwrap(), &[]).err(), Some(AdmitError::NoHook));
    for other in [&b""[..], b"#!/bin/sh", b"\0as"] {
        assert!(matches!(admit(other, &[]), Err(AdmitError::NotWasm)), "{other:?}");
    }
    assert!(matches!(admit(b"\0asm\x0d\0\x01", &[]), Err(AdmitError::Invalid { .. })));
}

#[test]
fn refuses_a_big_function_by_name_and_takes_the_biggest_allowed() {
    let big = |nops: usize| format!("{MEMORY} (func $monster {})", "nop ".repeat(nops));
    // A body consists of the count of its locals, the code and `end`.
    assert_eq!(refusal(&big(16 * 1024 - 2), ""), None);
    let error = refusal(&big(16 * 1024 - 1), "").unwrap();
    assert_eq!(
        error.to_string(),
        "function 0 of core module 0 (monster) has a body of 16385 bytes, at most 16384 are allowed; split it"
    );
}

#[test]
fn counts_parameters_and_locals_together() {
    let locals = |count: usize| format!("{MEMORY} (func (param i32 i32) (local {}))", "i64 ".repeat(count));
    assert_eq!(refusal(&locals(510), ""), None);
    assert!(matches!(refusal(&locals(511), ""), Some(AdmitError::Locals { locals: 513, limit: 512, .. })));
}

#[test]
fn limits_nesting_tables_and_types() {
    let nested = |depth: usize| format!("{}{}", "block ".repeat(depth), "end ".repeat(depth));
    assert_eq!(refusal(MEMORY, &nested(128)), None);
    assert!(matches!(refusal(MEMORY, &nested(129)), Some(AdmitError::Nesting { limit: 128, .. })));

    let jump = |targets: usize| format!("block i32.const 0 br_table {} 0 end", "0 ".repeat(targets));
    assert_eq!(refusal(MEMORY, &jump(1024)), None);
    assert!(matches!(refusal(MEMORY, &jump(1025)), Some(AdmitError::BrTable { targets: 1025, .. })));

    let params = |count: usize| format!("{MEMORY} (func (param {}))", "i32 ".repeat(count));
    assert_eq!(refusal(&params(32), ""), None);
    assert!(matches!(refusal(&params(33), ""), Some(AdmitError::TypeValues { values: 33, .. })));

    let table = |elements: u32| format!("{MEMORY} (table {elements} funcref)");
    assert_eq!(refusal(&table(1024), ""), None);
    assert!(matches!(refusal(&table(1025), ""), Some(AdmitError::Table { elements: 1025, .. })));
}

#[test]
fn limits_memory_functions_parts_and_size() {
    let memory = |pages: u32| format!(r#"(memory (export "memory") {pages})"#);
    assert_eq!(refusal(&memory(16), ""), None);
    assert!(matches!(refusal(&memory(17), ""), Some(AdmitError::Memory { bytes: 1_114_112, .. })));

    let functions = |count: usize| format!("{MEMORY} {}", "(func)".repeat(count));
    assert_eq!(refusal(&functions(1990), ""), None);
    assert!(matches!(refusal(&functions(2001), ""), Some(AdmitError::Functions { .. })));

    let modules = |count: usize| wat::parse_str(format!("(component {})", "(core module)".repeat(count))).unwrap();
    assert_eq!(admit(&modules(8), &[]).err(), Some(AdmitError::NoHook));
    assert_eq!(admit(&modules(9), &[]).err(), Some(AdmitError::Parts { parts: 9, limit: 8 }));

    let mut long = String::from("(component (@custom \"x\" \"");
    long.push_str(&"a".repeat(256 * 1024));
    long.push_str("\"))");
    assert!(matches!(admit(&wat::parse_str(&long).unwrap(), &[]), Err(AdmitError::Component { limit: 262_144, .. })));
    assert!(matches!(admit(&vec![0; 4 * 1024 * 1024 + 1], &[]), Err(AdmitError::Component { .. })));
}

#[test]
fn refuses_start_functions() {
    let items = format!("{MEMORY} (func $go) (start $go)");
    assert!(matches!(refusal(&items, ""), Some(AdmitError::Start { module: 0 })));
}

/// One function of 256 KiB, with 300 locals and loops nested 400 deep, keeps Cranelift busy for most of a minute.
/// Admission only reads; it compiles nothing.
#[test]
fn refuses_a_compile_bomb_by_its_size_alone() {
    let (mut body, mut opened) = (String::new(), 0);
    for k in 0..14_000_u32 {
        let (from, to) = (1 + k % 300, 1 + (k * 7 + 1) % 300);
        write!(body, "loop local.get {from} i64.const 1 i64.add local.set {to} local.get 0 br_if 0 ").unwrap();
        opened += 1;
        if opened > 400 {
            body.push_str(&"end ".repeat(opened));
            opened = 0;
        }
    }
    body.push_str(&"end ".repeat(opened));
    let items = format!("{MEMORY} (func $bomb (param i32) (local {}) {body})", "i64 ".repeat(300));
    let wasm = component(&serve_wat(&items, ""));
    let error = admit(&wasm, &[]).unwrap_err();
    assert!(matches!(error, AdmitError::FunctionBytes { .. }), "{error}");
}

#[test]
fn allow_listed_engines_get_the_limits_of_engines() {
    let wasm = component(&serve_wat(MEMORY, ""));
    // The code hash covers all bodies of a module in order. Here this is the one body of the fixture.
    let body = {
        let mut body = None;
        for payload in wasmparser::Parser::new(0).parse_all(&wasm) {
            if let wasmparser::Payload::CodeSectionEntry(entry) = payload.unwrap() {
                body.get_or_insert(*blake3::hash(entry.as_bytes()).as_bytes());
            }
        }
        body.unwrap()
    };
    assert_eq!(admit(&wasm, &[]).unwrap().summary().class, Class::Small);
    assert_eq!(admit(&wasm, &[[7; 32], body]).unwrap().summary().class, Class::Script);
}

#[test]
fn flipped_bits_never_panic_the_host() {
    let mut ran = 0;
    for name in ["nft-immutable", "geo"] {
        let wasm = prebuilt_bytes(name);
        let step = 8 * wasm.len() / 3000;
        for bit in (0..8 * wasm.len()).step_by(step.max(1)) {
            let mut flipped = wasm.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let Ok(admitted) = admit(&flipped, &[]) else {
                continue;
            };
            // Compiling takes milliseconds, so every fourth one is enough.
            if !(bit / step).is_multiple_of(4) {
                continue;
            }
            let Ok(artefact) = engine().compile(&admitted) else {
                continue;
            };
            let Ok(policy) = engine().load(&admitted, &artefact) else {
                continue;
            };
            if policy.serve(&viewer("RU"), &crate::world::config("")).is_ok() {
                ran += 1;
            }
        }
    }
    assert!(ran > 0);
}

proptest! {
    #[test]
    fn random_bytes_never_panic_admission(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = admit(&bytes, &[]);
        let mut headed = b"\0asm\x0d\0\x01\0".to_vec();
        headed.extend(bytes);
        let _ = admit(&headed, &[]);
    }
}
