//! Feeds arbitrary bytes to `decoders::record`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::decoders::record(bytes));
