//! Feeds arbitrary bytes to `decoders::whole_lease`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::decoders::whole_lease(bytes));
