//! Feeds arbitrary bytes to `decoders::shard_slice`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::decoders::shard_slice(bytes));
