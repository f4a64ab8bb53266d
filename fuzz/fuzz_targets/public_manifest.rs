//! Feeds arbitrary bytes to `decoders::public_manifest`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::decoders::public_manifest(bytes));
