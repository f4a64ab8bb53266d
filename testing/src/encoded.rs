//! Objects through the real encoder, with keys that tests choose.
//!
//! Needs nothing but `format`, whose own tests take it by its path.

use std::collections::BTreeMap;

use format::{Attributes, EncodedStripe, EncoderOptions, Kind, Sealed, hazmat};

/// Returns the attributes of a nameless file.
#[must_use]
pub fn attributes() -> Attributes {
    Attributes {
        mime: "application/octet-stream".into(),
        name: String::new(),
        created: 0,
        kind: Kind::File,
        tags: BTreeMap::new(),
    }
}

/// An object with all its stripes.
#[derive(Debug)]
pub struct Encoded {
    /// Both manifests and the capability.
    pub sealed: Sealed,
    /// The stripes.
    pub stripes: Vec<EncodedStripe>,
}

impl Encoded {
    /// Encodes bytes that come in chunks.
    #[must_use]
    pub fn of(
        chunks: &[&[u8]],
        options: EncoderOptions,
        key: [u8; 32],
        attributes: Attributes,
        random: [u8; 32],
    ) -> Self {
        let mut encoder = hazmat::encoder(options, key);
        let mut stripes = Vec::new();
        for chunk in chunks {
            let mut input = *chunk;
            while let Some(stripe) = encoder.write(&mut input).unwrap() {
                stripes.push(stripe);
            }
            assert!(input.is_empty(), "the encoder takes all of a chunk");
        }
        let mut ending = encoder.end();
        while let Some(stripe) = ending.stripe().unwrap() {
            stripes.push(stripe);
        }
        Self { sealed: ending.seal(attributes, random).unwrap(), stripes }
    }
}
