//! What the fuzz targets do: each body is one function of bytes that must return, whatever the bytes are.
//!
//! A target in `fuzz_targets/` is one call of one body, here, in `origin::fuzz` or `up::fuzz_join`. All replay
//! `corpus/` in the normal tests (`tests/it/corpus.rs` of `format`, `sandbox`, `unixfs` and `origin`, and beside the
//! decoder in `up`), so an input that once broke something is tried on every run.
//!
//! ```text
//! ./x fuzz --seconds 60 record      what libFuzzer finds is under target/fuzz/record-found/
//! ```
//!
//! To keep an input, mend the fault and copy the input to `corpus/TARGET/what-it-is.seed`; other names are not
//! committed.

pub mod blocks;
pub mod decoders;
pub mod policies;
