//! One object on its way: encoded on a thread, sent as it is encoded, committed, written down in the index.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use client::{Receipt, UploadError, Uploader};
use format::{Encoder, EncoderOptions, Kind, Lease, Locator, NodeName};
use tokio::{sync::mpsc, task::spawn_blocking};

use super::{
    Deduplication, PutError, PutOptions,
    encoding::{Encoding, Key, Outgoing, Source},
    random,
};
use crate::{
    index::{Batch, Entry, Hashes, PATH_BYTES_MAX, Position, State, Tenure},
    progress::Progress,
    recover, retention,
    twin::{Twin, now},
    unfinished::PartJournal,
};

/// Attempts at one file, of which each sends what nodes do not hold after the one before. A stream has one.
const ATTEMPTS_MAX: usize = 3;
/// Between two attempts: a node that restarts may be there again.
const ATTEMPT_PAUSE: Duration = Duration::from_secs(5);

/// Notes which object is about to be stored, and under which version of its lease.
pub(super) type Noting = Arc<dyn Fn(Locator, u64) + Send + Sync>;

/// One object to be stored.
pub(super) struct Item {
    pub(super) source: Source,
    /// What is known of earlier attempts, and told to later ones.
    pub(super) part: Option<PartJournal>,
    /// For errors and progress.
    pub(super) path: PathBuf,
    /// Name in the manifest.
    pub(super) name: String,
    /// Path in the index.
    pub(super) inner: String,
    pub(super) mime: Option<String>,
    pub(super) kind: Kind,
    pub(super) batch: Batch,
    pub(super) position: Position,
    /// Is told of the object before nodes are asked to commit it. The index knows later whether they did.
    pub(super) noting: Option<Noting>,
}

impl Twin {
    /// Stores one object, in several attempts where later ones can go on with what the first ones sent. Dropping the
    /// future abandons the upload.
    pub(super) async fn store(
        &self,
        item: Item,
        options: &PutOptions,
        progress: &Arc<dyn Progress>,
    ) -> Result<(Entry, Receipt), PutError> {
        let (mut item, mut told, mut attempt) = (item, Told { progress: progress.clone(), sent: 0 }, 1);
        let mut refused = BTreeSet::new();
        loop {
            let again = item.again();
            match (self.attempt(item, options, &refused, &mut told).await, again) {
                (Err(PutError::Upload { source: UploadError::Lost { source, failed, .. }, .. }), Some(again))
                    if attempt < ATTEMPTS_MAX =>
                {
                    tracing::warn!(path = %again.path.display(), attempt, error = %source, "an upload is tried again");
                    let for_good = failed.iter().filter(|error| error.ends_upload());
                    refused.extend(for_good.map(|error| error.node().clone()));
                    (item, attempt) = (again, attempt + 1);
                    tokio::time::sleep(ATTEMPT_PAUSE).await;
                }
                (done, _) => return done,
            }
        }
    }

    /// Makes one attempt. Columns at nodes that refused an earlier one begin anew, at others if these refuse again.
    async fn attempt(
        &self,
        item: Item,
        options: &PutOptions,
        refused: &BTreeSet<NodeName>,
        told: &mut Told,
    ) -> Result<(Entry, Receipt), PutError> {
        let Item { source, part, path, name, inner, mime, kind, batch, position, noting } = item;
        if inner.len() > PATH_BYTES_MAX {
            return Err(PutError::Bounds { what: "path", max: PATH_BYTES_MAX });
        }
        let encoder_options = EncoderOptions {
            profile: options.tenure.profile,
            suite: options.suite,
            compression: options.compression,
            owner: self.owner(),
        };
        let (encoder, manifest_random, seed) = match &part {
            Some(part) => part.begin(encoder_options),
            None => (Encoder::fresh(encoder_options, getrandom::fill)?, random()?, random()?),
        };
        let key = match options.deduplication {
            Deduplication::Off => Key::Drawn(Box::new(encoder)),
            Deduplication::On => Key::Derived(encoder_options, self.dedup_key.clone()),
        };
        let created = part.as_ref().map_or_else(now, |part| part.created);
        let mut tenure = Tenure { version: 1, ..options.tenure.clone() };
        let fault = |source| PutError::Upload { path: path.clone(), source };
        let network = &self.network;
        let mut uploader = Uploader::begin(
            network.transport.clone(),
            network.topology.clone(),
            seed,
            tenure.wanted.clone(),
            tenure.refused.clone(),
        )
        .with_caps(tenure.caps.clone())
        .with_preferences(options.preferences.clone());
        if let Some(part) = part.clone() {
            let mut earlier = part.earlier();
            earlier.sessions.iter_mut().for_each(|it| drop(it.take_if(|session| refused.contains(&session.node))));
            uploader = uploader.going_on(earlier).noting(Arc::new(move |column, it| part.session(column, it)));
        }
        let encoding = Encoding {
            source,
            path: path.clone(),
            key,
            random: manifest_random,
            part: part.clone(),
            changes: options.changes,
            name,
            mime,
            created,
            kind,
            tags: options.tags.clone(),
            // Of later attempts only what goes beyond the first is news.
            progress: if told.sent == 0 { told.progress.clone() } else { Arc::new(()) },
        };

        let (to, mut from) = mpsc::channel(1);
        // This task is not awaited when the nodes fail, because it may be blocked reading standard input. It ends when
        // the channel closes.
        let encoder = spawn_blocking(move || encoding.run(&to));
        while let Some(Outgoing { read, stripe }) = from.recv().await {
            uploader.send(stripe).await.map_err(fault)?;
            told.sent(read);
        }
        let (sealed, mime) = encoder.await.expect("the encoder neither panics nor is cancelled")?;

        retention::check_end(tenure.retention, self.now())?;
        let (keys, locator) = (self.keys.clone(), sealed.locator);
        if let Some(held) = self.with_index(move |index| index.entry(&locator).cloned()).await {
            // An earlier attempt came to its commit. Nodes that took its lease take only a later one.
            tenure.version = held.tenure.version + 1;
        }
        let note = recover::note(&sealed.capability, batch, position).seal(&self.note_key);
        let lease = Lease { note: Some(note), ..tenure.lease(Lease::new(&sealed, tenure.profile)) };
        let is_inline = sealed.public.redundancy().is_none();
        let hashes = is_inline.then_some(Hashes { object: lease.object, manifest: lease.manifest });
        let envelope = spawn_blocking(move || Bytes::from(lease.sign(&keys))).await.expect("signing does not panic");
        let mut entry = Entry {
            capability: sealed.capability.clone(),
            state: State::Committing,
            path: inner,
            length: sealed.length,
            mime,
            kind,
            created,
            tags: options.tags.keys().cloned().collect(),
            tenure,
            batch,
            position,
            hashes,
            name: None,
        };
        if let Some(noting) = noting {
            noting(locator, entry.tenure.version);
        }
        self.record(entry.clone()).await?;
        // After the index: one that is not there counts as removed since.
        if let Some(part) = &part {
            part.public(sealed.public.encoded());
        }
        let receipt = uploader.commit(&sealed, envelope).await.map_err(fault)?;
        entry.state = State::Stored;
        self.record(entry.clone()).await?;
        tracing::debug!(%locator, durable = receipt.durable, records = receipt.records, "an object is stored");
        told.progress.durable(&path, receipt.durable);
        Ok((entry, receipt))
    }
}

impl Item {
    /// What is stored by itself, and not as a part of a folder.
    pub(super) fn top(source: Source, path: &Path, name: String, options: &PutOptions, batch: Batch) -> Self {
        Self {
            source,
            part: None,
            path: path.to_owned(),
            inner: name.clone(),
            name,
            mime: options.mime.as_ref().map(|mime| mime.as_str().to_owned()),
            kind: Kind::File,
            batch,
            position: Position::Top,
            noting: None,
        }
    }

    /// Returns the same for another attempt; none of what can be read only once, or of which nothing is remembered.
    fn again(&self) -> Option<Self> {
        let source = match &self.source {
            Source::File(file) => Source::File(file.clone()),
            Source::Inner(file) => Source::Inner(file.clone()),
            Source::Stream(_) => return None,
        };
        let Self { part, path, name, inner, mime, kind, batch, position, noting, .. } = self;
        Some(Self {
            source,
            part: Some(part.clone()?),
            path: path.clone(),
            name: name.clone(),
            inner: inner.clone(),
            mime: mime.clone(),
            kind: *kind,
            batch: *batch,
            position: *position,
            noting: noting.clone(),
        })
    }
}

/// What the progress of one object was told.
struct Told {
    progress: Arc<dyn Progress>,
    sent: u64,
}

impl Told {
    /// Tells that so many bytes in all are at nodes, in whichever attempt.
    fn sent(&mut self, bytes: u64) {
        if bytes > self.sent {
            self.progress.sent(bytes - self.sent);
            self.sent = bytes;
        }
    }
}
