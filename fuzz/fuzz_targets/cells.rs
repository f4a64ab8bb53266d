//! Feeds arbitrary bytes to `decoders::cells`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::decoders::cells(bytes));
