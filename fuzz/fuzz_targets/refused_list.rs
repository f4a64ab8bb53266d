//! Feeds arbitrary bytes to `origin::fuzz::refused_list`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| origin::fuzz::refused_list(bytes));
