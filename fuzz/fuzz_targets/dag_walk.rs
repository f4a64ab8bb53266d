//! Feeds arbitrary bytes to `blocks::dag_walk`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::blocks::dag_walk(bytes));
