//! Feeds arbitrary bytes to `decoders::sealed_block`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::decoders::sealed_block(bytes));
