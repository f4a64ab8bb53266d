//! What becomes of an upload: stored when it is whole, and given up when its time is over.

use std::{
    fs::File,
    io::{self, Read},
    sync::Arc,
};

use twin::{Batch, Incoming, Progress};
use unixfs::Profile;

use super::{DATA, EXPIRY_SECONDS, TURN_WAIT, metadata::Metadata, options, request::Concat};
use crate::{
    audit::Subject,
    cids::Passing,
    refusal::{NETWORK_FULL, Refusal},
    service::{self, Service},
    spool::Spool,
    store::{Fault, MadeOf, Resumable, Source, Write},
    token::TokenFault,
};

/// Pauses before what could not be stored is tried again: the first, and how often it doubles.
const PAUSE_SECONDS: u64 = 60;
const PAUSE_DOUBLINGS: u32 = 6;
/// Longest reason that is kept.
const REASON_CHARACTERS_MAX: usize = 500;

impl Service {
    /// Stores an upload that is whole, in its turn. Returns what became of it. What keeps it from being stored is
    /// written down, and when it is tried again.
    pub(super) async fn finish(self: &Arc<Self>, upload: &Resumable) -> Result<Subject, Refusal> {
        // Times are kept as they were meant when the upload was created.
        let meant = Metadata::of(upload.metadata.as_deref());
        let meant = meant.and_then(|metadata| options(self, &upload.wishes, &metadata, service::now()));
        let finished = match meant {
            Ok(options) => Box::pin(self.finish_now(upload, options)).await,
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = &finished {
            let reason: String = refusal.message.chars().take(REASON_CHARACTERS_MAX).collect();
            tracing::warn!(batch = %upload.batch, reason, "an upload that is whole is not stored yet");
            let lived = self.lived();
            let fault = Fault { reason, due: lived + pause(upload.tries), refused: is_refused(refusal) };
            let expires = lived + EXPIRY_SECONDS;
            self.write(Write::Failed { batch: upload.batch, fault, expires }).await?;
        }
        finished
    }

    async fn finish_now(self: &Arc<Self>, upload: &Resumable, options: twin::PutOptions) -> Result<Subject, Refusal> {
        let (grant, _) = self.store.token(upload.token).await?.ok_or(TokenFault::Unknown)?;
        if let Some(ended) = grant.ended(service::now()) {
            return Err(ended.into());
        }
        let options = self.placed(grant.scope, options, upload.length).await?;
        let parts: Vec<Batch> = match &upload.concat {
            Some(text) => Concat::of(text)?.batches()?,
            None => vec![upload.batch],
        };
        let (batches, length) = (parts.clone(), upload.length);
        let open = move |spool: &Spool| batches.iter().map(|batch| spool.file(*batch, DATA)).collect();
        let files: Vec<File> = self.on_spool(open).await?;
        let under_way = self.begin(upload.token, Source::Files, None).await?;
        let passing = Passing::new(Profile::UNIXFS_V1_2025);
        let all: Box<dyn Read + Send> =
            files.into_iter().fold(Box::new(io::empty()), |before, file| Box::new(before.chain(file)));
        let incoming = Incoming { stream: Box::new(passing.tap(all.take(length))), length: Some(length) };
        let quiet: Arc<dyn Progress> = Arc::new(());
        let is_small = length <= crate::upload::SMALL_BYTES as u64;
        let stored = {
            let place = if is_small { Ok(None) } else { self.place(upload.token).await.map(Some) };
            match place {
                Ok(_place) => {
                    let put = self.twin.put_incoming(under_way.batch, incoming, &options, &quiet);
                    let put = async { Ok::<_, Refusal>(put.await?) };
                    let stored = self.while_it_counts(upload.token, Box::pin(put)).await;
                    stored.map(|stored| (stored, passing.root().into()))
                }
                Err(refusal) => Err(refusal),
            }
        };
        // The bytes count for the token since the upload was created, and are given back as those of its parts.
        let unbound = self.unbound_account(upload.token);
        let kept = self.end(under_way, stored, MadeOf::Resumable(upload.batch), unbound).await?;
        for part in parts.into_iter().chain([upload.batch]) {
            self.unspool(part).await;
        }
        Ok(Subject::of(&kept))
    }

    /// Forgets an upload, its parts, and what came of them.
    pub(super) async fn give_up(&self, batch: Batch) -> Result<(), Refusal> {
        // The bytes first: on a full disk their room lets the rows go.
        for part in self.store.parts_of(batch).await?.into_iter().chain([batch]) {
            self.unspool(part).await;
        }
        Ok(self.write(Write::DropResumable(batch)).await?)
    }

    /// Forgets some of what tokens that were ended did not finish. Returns how many uploads these were.
    pub(crate) async fn drop_ended_resumables(&self) -> Result<usize, Refusal> {
        let mut dropped = 0;
        for batch in self.store.resumables_of_ended(self.lived(), service::now()).await? {
            let Some(_turn) = self.turns.wait(&batch, TURN_WAIT).await else { continue };
            match self.give_up(batch).await {
                Ok(()) => dropped += 1,
                Err(refusal) => {
                    let reason = refusal.message;
                    tracing::warn!(%batch, reason, "an upload of a token that was ended is not forgotten yet");
                }
            }
        }
        Ok(dropped)
    }

    /// Stores what is whole and was not stored, and forgets what has expired. Whoever works on an upload is let be, and
    /// one that cannot be forgotten keeps no other from it.
    pub(crate) async fn sweep_resumables(self: &Arc<Self>) -> Result<(), Refusal> {
        for upload in self.store.expired(self.lived()).await? {
            let Some(_turn) = self.turns.take(&upload.batch) else { continue };
            let upload = self.store.resumable(upload.batch).await?;
            if let Some(upload) = upload.filter(|upload| upload.has_expired(self.lived()))
                && let Err(refusal) = self.give_up(upload.batch).await
            {
                let reason = refusal.message;
                tracing::warn!(batch = %upload.batch, reason, "an upload has expired and is not forgotten yet");
            }
        }
        for upload in self.store.due(self.lived(), service::now()).await? {
            if self.stop.is_cancelled() {
                return Ok(());
            }
            let Some(_turn) = self.turns.take(&upload.batch) else { continue };
            let upload = self.store.resumable(upload.batch).await?.filter(|upload| upload.locator.is_none());
            if let Some(upload) = upload {
                // It ends when its token does, as a request.
                let _work = self.callers.attend(upload.token);
                // What keeps it is written down.
                let _ = self.finish(&upload).await;
            }
        }
        Ok(())
    }
}

/// Whether an upload that is whole is tried for seven days more and then given up. Its owner is at fault, as far as
/// anybody can tell now; or the network has no room for it. Where nodes lie on the twin's disk, the upload itself may
/// be what takes that room, and would for ever. While something is away, or fails here, an upload has all the time that
/// it needs.
fn is_refused(refusal: &Refusal) -> bool {
    refusal.status.is_client_error() || refusal.code == NETWORK_FULL
}

/// Seconds until an upload is tried again that failed so many times before.
fn pause(tries: u32) -> u64 {
    PAUSE_SECONDS << tries.min(PAUSE_DOUBLINGS)
}
