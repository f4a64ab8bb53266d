//! Rust types and host traits generated from `wit/policy.wit`.
#![allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, reason = "generated")]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "policy",
    imports: { default: trappable },
});
