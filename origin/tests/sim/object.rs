//! Objects of a simulation: what a twin stored, and what of it was acknowledged.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use client::{Receipt, Topology, Transport, UploadError};
use format::{Compression, EncoderOptions, Lease, OwnerKeys, OwnerSecret, Profile, Record, Sealed, Suite};
use testing::{Encoded, attributes};

use crate::world::World;

/// What the twin knows of an object's lease.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Known {
    /// The highest version that was acknowledged.
    pub(crate) acknowledged: u64,
    /// The highest version that was sent.
    pub(crate) sent: u64,
    /// Whether its erasure was sent, and whether acknowledged.
    pub(crate) erasing: bool,
    pub(crate) erased: bool,
}

/// An acknowledged object.
pub(crate) struct Stored {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) sealed: Sealed,
    pub(crate) owner: OwnerKeys,
    profile: Profile,
    /// The record as it was first filed, for those who bring it back.
    pub(crate) first: Bytes,
    pub(crate) known: Mutex<Known>,
}

/// What is to be stored.
pub(crate) struct Draft {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) profile: Profile,
    key: [u8; 32],
    random: [u8; 32],
    seed: [u8; 32],
}

impl Draft {
    /// Draws an object: inline, of one block, or of several stripes.
    pub(crate) fn new(world: &World, number: usize) -> Self {
        world.draw(|dice| {
            let length = match dice.u32(0..10) {
                0..3 => dice.usize(0..1_000),
                3..8 => dice.usize(10_000..250_000),
                _ => dice.usize(1_200_000..2_600_000),
            };
            let profile = if dice.u32(0..4) == 0 { Profile::Eco } else { Profile::SmallCluster };
            let mut array = || std::array::from_fn(|_| dice.u8(..));
            let (key, random, seed) = (array(), array(), array());
            let mut bytes = vec![0; length];
            dice.fill(&mut bytes);
            Self { name: format!("object-{number}"), bytes, profile, key, random, seed }
        })
    }

    /// Stores it as a twin does.
    pub(crate) async fn store(
        self,
        transport: Arc<dyn Transport>,
        topology: Arc<Topology>,
    ) -> Result<(Stored, Receipt), UploadError> {
        let Self { name, bytes, profile, key, random, seed } = self;
        let owner = OwnerSecret::from_bytes([7; 32]).keys();
        let suite = Suite::ChaCha20Poly1305;
        let options = EncoderOptions { profile, suite, compression: Compression::Off, owner: owner.id() };
        let encoded = Encoded::of(&[&bytes], options, key, attributes(), random);
        let known = Mutex::new(Known { acknowledged: 1, sent: 1, ..Known::default() });
        let sealed = encoded.sealed.clone();
        let mut stored = Stored { name, bytes, sealed, owner, profile, first: Bytes::new(), known };
        let envelope = stored.lease(1, false);
        let receipt = encoded.upload(transport, topology, seed, envelope.clone()).await?;
        let Sealed { public, sealed, .. } = stored.sealed.clone();
        stored.first = Record::new(public, Some(sealed), envelope, receipt.placement.clone()).unwrap().encode().into();
        Ok((stored, receipt))
    }
}

impl Stored {
    /// Signs a lease.
    pub(crate) fn lease(&self, version: u64, erased: bool) -> Bytes {
        let lease = Lease { version, erased, ..Lease::new(&self.sealed, self.profile) };
        lease.sign(&self.owner).into()
    }

    /// The first record, as it was or with what nobody signs exchanged.
    pub(crate) fn forged(&self, number: usize) -> Bytes {
        let record = Record::decode(&self.first).unwrap();
        let forged = match number {
            0 => return self.first.clone(),
            1 => Record { sealed: None, ..record },
            2 => Record { sealed: Some(vec![7; 100].into()), ..record },
            _ => Record { placement: vec![Some("nowhere".parse().unwrap()); record.placement.len()], ..record },
        };
        forged.encode().into()
    }

    /// Columns that must be readable once nothing is wrong any more: repair waits while there are more.
    pub(crate) fn columns_healthy(&self) -> usize {
        let redundancy = self.sealed.public.redundancy();
        redundancy.map_or(0, |redundancy| redundancy.columns().min(redundancy.quorum() + 1))
    }

    /// The most columns that one zone may have: half the parity, as there are zones enough.
    pub(crate) fn zone_columns_max(&self) -> usize {
        self.sealed.public.redundancy().map_or(usize::MAX, |redundancy| (redundancy.parity() / 2).max(1))
    }
}
