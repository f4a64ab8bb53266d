//! Feeds arbitrary bytes to `decoders::directory`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::decoders::directory(bytes));
