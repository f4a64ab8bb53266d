//! SHA-256 by others' hands. No other module names them.
//!
//! Feature `native`: AWS-LC, with the processor's own instructions. Feature `portable`: Rust alone, for wasm32. With
//! both it is `native`, so what one crate of a build asks for changes nothing for the others.

/// Hashes what comes in pieces.
#[derive(Clone)]
pub(crate) struct Sha256(Engine);

#[cfg(feature = "native")]
type Engine = aws_lc_rs::digest::Context;
#[cfg(all(feature = "portable", not(feature = "native")))]
type Engine = sha2::Sha256;

impl Sha256 {
    #[cfg(feature = "native")]
    pub(crate) fn new() -> Self {
        Self(Engine::new(&aws_lc_rs::digest::SHA256))
    }

    #[cfg(all(feature = "portable", not(feature = "native")))]
    pub(crate) fn new() -> Self {
        use sha2::Digest as _;
        Self(Engine::new())
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        #[cfg(all(feature = "portable", not(feature = "native")))]
        use sha2::Digest as _;
        self.0.update(bytes);
    }

    #[cfg(feature = "native")]
    pub(crate) fn finish(self) -> [u8; 32] {
        self.0.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    #[cfg(all(feature = "portable", not(feature = "native")))]
    pub(crate) fn finish(self) -> [u8; 32] {
        use sha2::Digest as _;
        self.0.finalize().into()
    }
}

/// Returns the SHA-256 of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(bytes);
    hash.finish()
}

#[cfg(not(any(feature = "native", feature = "portable")))]
compile_error!("`unixfs` needs SHA-256: its feature `native`, or `portable` where no C is compiled");
