//! Feeds arbitrary bytes to `decoders::strip`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::decoders::strip(bytes));
