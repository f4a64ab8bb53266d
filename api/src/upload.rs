//! An upload from its first byte to its row in the store. It runs in a task of its own: whoever hangs up in the middle
//! of a body leaves nothing, and what came whole is stored whether or not its sender waits for the answer.
//!
//! ```text
//! row: begun -> body: up to 128 KiB in memory, more through a pipe -> twin: durable at nodes -> row: kept -> answer
//! ```

use std::{
    io::{Cursor, Read},
    sync::Arc,
};

use bytes::{Buf, Bytes, BytesMut};
use twin::{Incoming, Progress, PutOptions, Stored};
use unixfs::Profile;

use crate::{
    cids::{Dag, Passing},
    intake::{Body, Bounds, IntakeError, pipe},
    places::Place,
    quota::{Reservation, counted},
    refusal::Refusal,
    service::{Service, UnderWay},
    store::{MadeOf, Source, Write},
    token::{Grant, TokenId},
};

/// A file of at most so many bytes is read into memory before it is stored: the twin stores many of these at once.
pub(crate) const SMALL_BYTES: usize = 128 << 10;

/// What an upload is to become.
pub(crate) struct Wanted {
    pub(crate) options: PutOptions,
    /// By which rules its CID is made.
    pub(crate) profile: Profile,
    pub(crate) source: Source,
    /// What its owner calls it, where that is not the name of the object.
    pub(crate) title: Option<String>,
    /// Whether a body without a byte is none.
    pub(crate) empty: Empty,
}

/// Whether a file may be empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Empty {
    Allowed,
    Refused,
}

/// What was stored and acknowledged.
pub(crate) struct Kept {
    pub(crate) stored: Stored,
    pub(crate) dag: Dag,
}

impl Service {
    /// Returns the bounds of a token's bodies.
    pub(crate) fn bounds(&self, token: TokenId) -> Bounds {
        Bounds::of(&self.config, self.cut.clone(), self.callers.ended(token))
    }

    /// Stores a body as one file.
    pub(crate) async fn store_file(
        self: &Arc<Self>,
        grant: &Grant,
        body: Body,
        announced: Option<u64>,
        wanted: Wanted,
    ) -> Result<Kept, Refusal> {
        let (service, token) = (self.clone(), grant.id);
        let task = async move {
            let under_way = service.begin(token, wanted.source, wanted.title.clone()).await?;
            let mut body = body;
            let stored = service.read_file(&under_way, &mut body, announced, &wanted).await;
            service.end(under_way, stored, MadeOf::Request, body.reservation).await
        };
        self.tasks.spawn(task).await.map_err(|_| Refusal::stopping())?
    }

    /// Writes down that an upload is whole, or ends what is left of it.
    pub(crate) async fn end(
        self: &Arc<Self>,
        under_way: UnderWay,
        stored: Result<(Stored, Dag), Refusal>,
        made_of: MadeOf,
        reservation: Reservation,
    ) -> Result<Kept, Refusal> {
        let batch = under_way.batch;
        let kept = match stored {
            // A token that was ended meanwhile stores nothing more.
            Ok(_) if self.callers.ended(under_way.token).is_cancelled() => Err(IntakeError::Ended.into()),
            Ok((stored, dag)) => {
                let (locator, bytes) = (stored.entry.capability.locator(), counted(stored.bytes, stored.objects));
                let dag_of = Some((dag.cid.to_string(), dag.bytes));
                let keep = self.store.write(Write::Keep { batch, locator, bytes, dag: dag_of, made_of }).await;
                keep.map(|freed| (Kept { stored, dag }, freed)).map_err(Refusal::from)
            }
            Err(refusal) => Err(refusal),
        };
        let kept = kept.map(|(kept, freed)| {
            // The file counts before what it was made of does no more.
            reservation.keep(counted(kept.stored.bytes, kept.stored.objects));
            self.give_back(freed);
            kept
        });
        if kept.is_err() {
            // The caller need not wait for it: while nodes are away it takes long.
            let service = self.clone();
            self.tasks.spawn(async move {
                service.clear(batch).await;
                drop(under_way);
            });
        }
        kept
    }

    async fn read_file(
        &self,
        under_way: &UnderWay,
        body: &mut Body,
        announced: Option<u64>,
        wanted: &Wanted,
    ) -> Result<(Stored, Dag), Refusal> {
        let (quiet, passing): (Arc<dyn Progress>, _) = (Arc::new(()), Passing::new(wanted.profile));
        let (first, is_whole) = head(body).await?;
        let stored = match is_whole {
            true if first.is_empty() && wanted.empty == Empty::Refused => return Err(Refusal::wrong("empty payload")),
            true => {
                passing.see(&first);
                self.twin.put_incoming(under_way.batch, whole(first), &wanted.options, &quiet).await?
            }
            false => {
                body.held.set(Some(self.place(under_way.token).await?));
                let (inlet, outlet) = pipe();
                let stream = Box::new(passing.tap(first.reader().chain(outlet)));
                let incoming = Incoming { stream, length: announced };
                let put = self.twin.put_incoming(under_way.batch, incoming, &wanted.options, &quiet);
                let stored = both(Box::pin(put), Box::pin(body.pour(inlet))).await;
                body.held.set(None);
                stored?
            }
        };
        Ok((stored, passing.root().into()))
    }

    /// Waits for a place among the uploads that are encoded while they come.
    pub(crate) async fn place(&self, token: TokenId) -> Result<Place, Refusal> {
        let place = self.streams.take(self.lineage.root(token), self.config.wait()).await;
        place.ok_or_else(|| Refusal::busy().closing())
    }
}

/// Returns the whole of a small file as something to read.
pub(crate) fn whole(bytes: Bytes) -> Incoming {
    Incoming { length: Some(bytes.len() as u64), stream: Box::new(Cursor::new(bytes)) }
}

/// Reads the beginning of a body, and says whether that is all of it.
async fn head(body: &mut Body) -> Result<(Bytes, bool), IntakeError> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.next().await? {
        bytes.extend_from_slice(&frame);
        if bytes.len() > SMALL_BYTES {
            return Ok((bytes.freeze(), false));
        }
    }
    Ok((bytes.freeze(), true))
}

/// Stores while the body comes. Where both fail the body is the cause.
pub(crate) async fn both<T>(
    mut put: impl Future<Output = Result<T, twin::PutError>> + Unpin,
    mut pump: impl Future<Output = Result<(), impl Into<Refusal>>> + Unpin,
) -> Result<T, Refusal> {
    tokio::select! {
        // What was not read of the body is of no use any more.
        stored = &mut put => Ok(stored?),
        pumped = &mut pump => {
            let stored = put.await;
            pumped.map_err(Into::into)?;
            Ok(stored?)
        }
    }
}
