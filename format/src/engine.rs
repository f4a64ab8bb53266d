//! The engines: the AEADs, signatures and compressors of others, behind interfaces of our own. No other module names
//! them.
//!
//! Feature `native`: AWS-LC and zstd, C and assembly. Every node and twin has it. Feature `portable`: Rust alone, so it
//! compiles for wasm32. With both it is `native`: what one crate of a build asks for changes nothing for the others.

#[cfg(feature = "native")]
mod native;
#[cfg(all(feature = "portable", not(feature = "native")))]
mod portable;

#[cfg(feature = "native")]
pub(crate) use native::{Aead, Keys, compress, decompress, verify};
#[cfg(all(feature = "portable", not(feature = "native")))]
pub(crate) use portable::{Aead, Keys, compress, decompress, verify};

#[cfg(not(any(feature = "native", feature = "portable")))]
compile_error!("`format` needs engines: its feature `native`, or `portable` where no C is compiled");
