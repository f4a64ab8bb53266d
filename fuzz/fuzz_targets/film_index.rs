//! Feeds arbitrary bytes to `edge::fuzz_film_index`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| edge::fuzz_film_index(bytes));
