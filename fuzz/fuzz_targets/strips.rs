//! Feeds arbitrary bytes to `decoders::strips`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::decoders::strips(bytes));
