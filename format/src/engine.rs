//! The engines: the AEADs, signatures and compressors of others, behind interfaces of our own. No other module names
//! them.
//!
//! Feature `native`: AWS-LC and zstd, C and assembly. Every node and twin has it. Feature `portable`: Rust alone, so it
//! compiles for wasm32. With both it is `native`: what one crate of a build asks for changes nothing for the others.
//! Unit tests with `portable` alone have zstd in C beside it, which they compare it with.

#[cfg(feature = "native")]
mod native;
#[cfg(all(feature = "portable", not(feature = "native")))]
mod portable;
#[cfg(any(feature = "native", test))]
#[cfg_attr(not(feature = "native"), expect(dead_code, reason = "tests inflate by it and compress nothing"))]
pub(crate) mod zstd_c;
#[cfg(all(feature = "portable", not(feature = "native")))]
pub(crate) mod zstd_rust;

#[cfg(feature = "native")]
pub(crate) use self::{
    native::{Aead, Keys, verify},
    zstd_c::{compress, decompress},
};
#[cfg(all(feature = "portable", not(feature = "native")))]
pub(crate) use self::{
    portable::{Aead, Keys, verify},
    zstd_rust::{compress, decompress},
};

#[cfg(not(any(feature = "native", feature = "portable")))]
compile_error!("`format` needs engines: its feature `native`, or `portable` where no C is compiled");
