//! A twin and an owner who send one node whatever they can make up of what they have seen, and what must be true all
//! the while: another owner's objects are there, unaltered, and the node answers.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use client::{ShardAsk, Transport, TransportError, verify_slice};
use format::{
    Locator, NodeName, Object, OwnerSecret, Pointer, PolicyName, Purge, Purged, Record, Signed, SigningDomain,
    StableName,
    wire::{Role, frame_cells, read_cells},
};

use crate::{
    Mutator, Sample,
    conformance::{Stage, upload},
};

/// Calls between looks at what must be true.
const CALLS_PER_LOOK: u64 = 100;

/// The owner's things at the node, and what an attacker has seen of them.
struct Victim {
    small: Sample,
    large: Sample,
    name: StableName,
    /// Under which locator which record lies.
    records: Vec<(Locator, Record)>,
}

/// Makes `count` calls of an attacker and looks at the owner's objects again and again.
///
/// # Panics
/// When an object of the owner is not there or altered, or the node fails instead of refusing.
pub async fn withstand(stage: &impl Stage, seed: u64, count: u64) {
    let (owner, node) = (stage.caller("t1", Role::Twin), stage.node());
    let victim = Victim::store(&*owner, &node).await;
    let (twin, mut attacker) = (stage.caller("t2", Role::Twin), Attacker::new(seed, &victim));
    for call in 0..count {
        let answer = attacker.call(&*twin, &node, &victim).await;
        if let Err(TransportError::Refused { status, reason, .. }) = &answer {
            assert!(*status != 500, "call {call} of seed {seed} broke the node: {reason}");
        } else if let Err(error) = answer {
            panic!("call {call} of seed {seed} was not answered: {error}");
        }
        if call % CALLS_PER_LOOK == 0 || call + 1 == count {
            victim.look(&*owner, &node).await;
        }
    }
}

impl Victim {
    async fn store(owner: &dyn Transport, node: &NodeName) -> Self {
        let (small, large) = (Sample::of(1, [1; 32], b"a letter"), Sample::new(1, 40_000));
        upload(owner, node, &large.columns[0], 0, &large.sealed.public).await.unwrap();
        let secret = OwnerSecret::from_bytes([1; 32]);
        let name = StableName::derive(&secret, "site").unwrap();
        let pointer = Pointer { target: small.sealed.capability.clone(), fresh_until: u64::MAX, seconds: 60 };
        let named = name.record(&secret.keys(), &pointer, 5, None);
        let records: Vec<(Locator, Record)> = [&small, &large]
            .map(|sample| sample.record(&sample.lease(5), node))
            .into_iter()
            .chain([named])
            .map(|record| (record.locator(), record))
            .collect();
        for (locator, record) in &records {
            owner.put_record(node, locator, record.encode().into()).await.unwrap();
        }
        Self { small, large, name, records }
    }

    async fn look(&self, owner: &dyn Transport, node: &NodeName) {
        for (locator, record) in &self.records {
            let held = owner.record(node, locator).await.unwrap().unwrap_or_else(|| panic!("{locator} is gone"));
            let held = Record::decode(&held).unwrap();
            assert_eq!((held.lease_envelope, held.sealed), (record.lease_envelope.clone(), record.sealed.clone()));
            assert_eq!(held.placement, record.placement, "nobody signs it, and the first counts");
        }
        let open = |sample: &Sample, record: &Record| Object::open(&sample.sealed.capability, record, 1).is_ok();
        assert!(open(&self.small, &self.records[0].1) && open(&self.large, &self.records[1].1));
        assert!(Pointer::open(self.name.capability(), &self.records[2].1, 1).is_ok());
        let ask = ShardAsk { object: self.large.id(), column: 0, first: 0, count: 1 };
        let slice = owner.read_shard(node, ask).await.unwrap();
        verify_slice(&self.large.sealed.public, ask, slice).unwrap();
    }
}

/// Knows all labels of the victim and has keys of its own.
struct Attacker {
    mutator: Mutator,
    own: Sample,
    /// The upload that is open.
    open: Option<String>,
}

impl Attacker {
    fn new(seed: u64, victim: &Victim) -> Self {
        let own = Sample::new(2, 40_000);
        let mutator = Mutator::new(seed).knowing(own.sealed.sealed.clone()).knowing(own.sign(&own.lease(9)));
        let known = |mutator: Mutator, (_, record): &(Locator, Record)| {
            mutator
                .knowing(record.encode())
                .knowing(record.lease_envelope.clone())
                .knowing(record.public.encoded().clone())
        };
        let mutator = victim.records.iter().fold(mutator, known);
        Self { mutator, own, open: None }
    }

    /// Signs a changed payload of somebody's envelope with the attacker's own keys.
    fn signed(&mut self, envelope: &[u8], domain: SigningDomain) -> Bytes {
        let payload = Signed::open(envelope, domain, envelope.len()).unwrap().payload;
        let payload = self.mutator.mutate(&payload);
        Signed::seal(&self.own.owner, domain, &payload).into()
    }

    async fn call(&mut self, twin: &dyn Transport, node: &NodeName, victim: &Victim) -> Result<(), TransportError> {
        let (locator, record) = self.mutator.one_of(&victim.records).clone();
        let own = self.own.record(&self.own.lease(9), node);
        match self.mutator.below(9) {
            0 => {
                let body = self.mutator.mutate(&record.encode());
                twin.put_record(node, &locator, body).await
            }
            1 => {
                // Parts of both owners' records, each whole.
                let mut part = |mine: Bytes, theirs: Bytes| self.mutator.one_of(&[mine, theirs]).clone();
                let lease_envelope = part(own.lease_envelope.clone(), record.lease_envelope.clone());
                let sealed = record.sealed.clone().unwrap_or_default();
                let sealed = part(own.sealed.clone().unwrap_or_default(), sealed);
                let public = self.mutator.one_of(&[own.public.clone(), record.public.clone()]).clone();
                let body = Record { public, lease_envelope, sealed: Some(sealed), ..record }.encode();
                twin.put_record(node, &locator, body.into()).await
            }
            2 => {
                let body = self.mutator.mutate(&record.lease_envelope);
                twin.put_lease(node, &locator, body).await
            }
            3 => {
                let body = self.signed(&record.lease_envelope, SigningDomain::Lease);
                twin.put_lease(node, &locator, body).await
            }
            4 => {
                let envelope = self.signed(&record.lease_envelope, SigningDomain::Lease);
                let body = Record { lease_envelope: envelope, ..record }.encode();
                twin.put_record(node, &locator, body.into()).await
            }
            5 => self.append(twin, node, victim).await,
            6 => self.commit(twin, node, victim).await,
            7 => {
                let what = Purged::Objects([locator].into());
                let order = Purge { owner: self.own.owner.id(), issued: now(), hard: true, what };
                let order = order.sign(&self.own.owner);
                let body = if self.mutator.below(2) == 0 {
                    order.clone().into()
                } else {
                    self.signed(&order, SigningDomain::Purge)
                };
                twin.purge(node, body).await
            }
            _ => {
                let name: PolicyName = "geo".parse().unwrap();
                let body = self.mutator.mutate(&record.lease_envelope);
                twin.put_policy(node, &record.lease.owner, &name, body).await
            }
        }
    }
}

impl Attacker {
    /// Sends changed cells to an upload of its own, which is begun when there is none.
    async fn append(&mut self, twin: &dyn Transport, node: &NodeName, victim: &Victim) -> Result<(), TransportError> {
        let upload = self.upload(twin, node).await?;
        let column = &self.mutator.one_of(&[&victim.large, &self.own]).columns[0];
        let body = self.mutator.mutate(&frame_cells(column).concat());
        // What is no frame does not leave a client of ours; the wire's own decoder is fuzzed.
        let cells = read_cells(body, 6, 0, 64).unwrap_or_default();
        twin.append(node, &upload, 0, &cells).await
    }

    async fn commit(&mut self, twin: &dyn Transport, node: &NodeName, victim: &Victim) -> Result<(), TransportError> {
        let upload = self.upload(twin, node).await?;
        self.open = None;
        let column = self.mutator.below(6);
        let public = self.mutator.one_of(&[&victim.large, &self.own]).sealed.public.encoded().clone();
        let public = self.mutator.mutate(&public);
        let committed = twin.commit(node, &upload, column, public).await;
        let _ = twin.abort(node, &upload).await;
        committed
    }

    async fn upload(&mut self, twin: &dyn Transport, node: &NodeName) -> Result<String, TransportError> {
        if let Some(upload) = &self.open {
            return Ok(upload.clone());
        }
        let upload = twin.create_upload(node, 0, 6).await?;
        Ok(self.open.insert(upload).clone())
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
