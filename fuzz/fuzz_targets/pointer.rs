//! Feeds arbitrary bytes to `decoders::pointer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::decoders::pointer(bytes));
