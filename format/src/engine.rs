//! The engines: the AEADs, signatures and compressors of others, behind interfaces of our own. No other module names
//! them.
//!
//! AWS-LC and zstd: C and assembly.

mod native;

pub(crate) use native::{Aead, Keys, compress, decompress, verify};
