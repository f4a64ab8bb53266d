//! Feeds arbitrary bytes to `decoders::policy_manifest`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::decoders::policy_manifest(bytes));
