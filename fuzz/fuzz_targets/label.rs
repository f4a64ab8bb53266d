//! Feeds arbitrary bytes to `decoders::label`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::decoders::label(bytes));
