//! What is safe only while its caller keeps a promise that no type can hold. Nothing outside this module gives away a
//! text or a key by the way it is called.

use crate::{Encoder, EncoderOptions, SealError, Suite, engine::Aead, limits::TAG_BYTES, seal::DataKey};

/// Seals and opens texts under one key, with raw nonces.
///
/// The caller keeps this: **no two texts are sealed under one key and nonce.** Otherwise whoever sees both learns the
/// difference of the texts, and can forge seals (RFC 8439 section 4; NIST SP 800-38D appendix A). A key that seals one
/// text only, because it is derived with a fresh salt, may take nonce zero.
pub struct Sealer(Aead);

impl Sealer {
    /// Takes the key.
    #[must_use]
    pub fn new(suite: Suite, key: &[u8; 32]) -> Self {
        Self(Aead::new(suite, key))
    }

    /// Encrypts `text` in place and returns the tag.
    #[must_use]
    pub fn seal(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8]) -> [u8; TAG_BYTES] {
        self.0.seal(nonce, aad, text)
    }

    /// Decrypts `sealed` (ciphertext ‖ tag) into `text`, which is `TAG_BYTES` shorter.
    ///
    /// # Errors
    /// [`SealError`] if anything differs. The content of `text` is then useless.
    pub fn open(&self, nonce: [u8; 12], aad: &[u8], sealed: &[u8], text: &mut [u8]) -> Result<(), SealError> {
        let (cipher, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(SealError)?;
        if cipher.len() != text.len() {
            return Err(SealError);
        }
        self.0.open(nonce, aad, cipher, tag, text)
    }
}

/// Starts an encoder under a key that somebody has kept, to go on with an upload that ended early.
///
/// The caller keeps this: **under one key, with the same options, no two stripes of one index leave that have not the
/// same row.** Otherwise it is as with a repeated nonce, which here is the index of the block. So the options and the
/// row of each stripe are written down with the key before it is sent, and compared the next time.
#[must_use]
pub fn encoder(options: EncoderOptions, key: [u8; 32]) -> Encoder {
    Encoder::new(options, DataKey(key), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8439 section 2.8.2.
    #[test]
    fn suite_1_is_rfc_8439() {
        let key: [u8; 32] = std::array::from_fn(|i| 0x80 + u8::try_from(i).unwrap());
        let nonce = [0x07, 0, 0, 0, 0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47];
        let aad = [0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7];
        let text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
        let mut sealed = text.to_vec();
        let tag = Sealer::new(Suite::ChaCha20Poly1305, &key).seal(nonce, &aad, &mut sealed);
        assert_eq!(data_encoding::HEXLOWER.encode(&tag), "1ae10b594f09e26a7e902ecbd0600691");
        assert_eq!(&sealed[..4], [0xd3, 0x1a, 0x8d, 0x34]);
    }

    /// The GCM specification (`McGrew` and Viega), test case 14.
    #[test]
    fn suite_2_is_aes_256_gcm() {
        let mut sealed = [0; 16];
        let tag = Sealer::new(Suite::Aes256Gcm, &[0; 32]).seal([0; 12], b"", &mut sealed);
        assert_eq!(data_encoding::HEXLOWER.encode(&sealed), "cea7403d4d606b6e074ec5d3baf39d18");
        assert_eq!(data_encoding::HEXLOWER.encode(&tag), "d0d1c8a799996bf0265b98b5d48ab919");
    }

    #[test]
    fn nothing_but_the_whole_opens() {
        for suite in Suite::ALL {
            let sealer = Sealer::new(suite, &[3; 32]);
            for length in [0, 1, 15, 16, 17, 63, 64, 65, 4096] {
                let text = vec![7; length];
                let mut sealed = text.clone();
                let tag = sealer.seal([1; 12], b"aad", &mut sealed);
                sealed.extend(tag);
                let mut opened = vec![0; length];
                assert_eq!(sealer.open([1; 12], b"aad", &sealed, &mut opened), Ok(()));
                assert_eq!(opened, text);
                assert_eq!(sealer.open([2; 12], b"aad", &sealed, &mut opened), Err(SealError));
                assert_eq!(sealer.open([1; 12], b"", &sealed, &mut opened), Err(SealError));
                assert_eq!(sealer.open([1; 12], b"aad", &sealed, &mut vec![0; length + 1]), Err(SealError));
                assert_eq!(sealer.open([1; 12], b"aad", &sealed[..TAG_BYTES - 1], &mut []), Err(SealError));
            }
        }
    }
}
