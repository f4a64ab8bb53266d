//! Feeds arbitrary bytes to `decoders::list_proof`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::decoders::list_proof(bytes));
