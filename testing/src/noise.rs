//! Bytes that neither compress nor repeat, the same on every run.

/// Returns so many bytes. The golden vectors of `format` are made of them: they stay what they are.
#[must_use]
pub fn noise(length: usize) -> Vec<u8> {
    drawn(&[], length)
}

/// Returns so many bytes that differ with `seed`.
#[must_use]
pub fn noise_of(seed: u64, length: usize) -> Vec<u8> {
    drawn(&seed.to_le_bytes(), length)
}

fn drawn(seed: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(b"noise").update(seed).finalize_xof().fill(&mut bytes);
    bytes
}
