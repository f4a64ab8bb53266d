//! Feeds arbitrary bytes to `decoders::lease`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::decoders::lease(bytes));
