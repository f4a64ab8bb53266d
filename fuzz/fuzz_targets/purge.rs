//! Feeds arbitrary bytes to `decoders::purge`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::decoders::purge(bytes));
