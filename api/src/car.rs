//! CARs: a DAG as its blocks, whole or in parts. Each block is checked while it comes; what came lies in the spool
//! until the DAG is complete, or for a week after its newest part. Then its files are stored as files, so that edges
//! serve them, and the CAR is gone. A part counts for the token that brought it, the files for the one that completed
//! them.
//!
//! ```text
//! body -> blocks checked, spooled, synced -> complete? no: acknowledged as a part
//!                                                      yes: files put together from the blocks -> twin -> kept
//! ```

mod blocks;
mod plan;

use std::{io::Read, sync::Arc, time::Duration};

use axum::http::StatusCode;
use futures::{StreamExt, stream};
use tokio::{sync::Mutex, task::spawn_blocking};
use twin::{Batch, Incoming, Progress, Stored};
use unixfs::Cid;

pub(crate) use self::blocks::CarFault;
use self::{
    blocks::{Blocks, Part},
    plan::{Content, Plan},
};
use crate::{
    audit::Subject,
    cids::Dag,
    intake::{Body, IntakeError, pipe},
    places::Place,
    quota::{OBJECT_BYTES_MIN, counted},
    refusal::{Refusal, causes},
    service::{Service, UnderWay},
    spool::NoRoom,
    store::{MadeOf, Write},
    token::{Grant, TokenId},
    turns::Turn,
    upload::{SMALL_BYTES, Wanted},
};

/// Files of a DAG that are stored at once.
const FILES_AT_ONCE: usize = 16;
/// How long a part that is given up waits for whoever puts its DAG together.
const TURN_WAIT: Duration = Duration::from_secs(5);
/// How long parts of a DAG are kept after the newest of them came.
const PARTS_KEPT_SECONDS: u64 = 7 * 86_400;
/// The file of a part, and which blocks it has.
const PART: &str = "part";
const BLOCKS: &str = "blocks";

/// What came of a part.
enum Came {
    /// The DAG is complete and stored, of this part and these.
    Whole(Box<(Stored, Dag)>, Vec<Batch>),
    /// More is to come.
    Part,
}

impl Service {
    /// Takes a CAR. Returns its root, and what is to be noted of it.
    pub(crate) async fn store_car(
        self: &Arc<Self>,
        grant: &Grant,
        body: Body,
        wanted: Wanted,
    ) -> Result<(Cid, Subject), Refusal> {
        let (service, token) = (self.clone(), grant.id);
        let task = async move {
            let under_way = service.begin(token, wanted.source, wanted.title.clone()).await?;
            let mut body = body;
            let batch = under_way.batch;
            let taken = Box::pin(service.take_car(&under_way, &mut body, &wanted)).await;
            let (root, stored, parts, _turn) = match taken {
                Ok((root, Came::Whole(stored, parts), turn)) => (root, *stored, parts, turn),
                Ok((root, Came::Part, _)) => {
                    let bytes = body.taken();
                    body.reservation.keep(counted(bytes, 1));
                    if let Some(spooled) = body.spooled {
                        spooled.keep(counted(bytes, 1));
                    }
                    return Ok((root, Subject { locator: None, bytes }));
                }
                Err(refusal) => {
                    service.unspool(batch).await;
                    let ended = service.end(under_way, Err(refusal), MadeOf::Request, body.reservation).await;
                    return ended.map(|kept| (kept.dag.cid, Subject::of(&kept)));
                }
            };
            let kept = service.end(under_way, Ok(stored), MadeOf::Cars(parts.clone()), body.reservation).await;
            service.unspool(batch).await;
            let kept = kept?;
            // Only now: until it is kept, what came before is all that was acknowledged.
            for part in parts {
                service.unspool(part).await;
            }
            Ok((root, Subject::of(&kept)))
        };
        self.tasks.spawn(task).await.map_err(|_| Refusal::stopping())?
    }

    /// Spools a CAR, and stores its DAG if that is complete now. Nobody else puts parts of this DAG together until the
    /// turn that is returned ends.
    async fn take_car(
        &self,
        under_way: &UnderWay,
        body: &mut Body,
        wanted: &Wanted,
    ) -> Result<(Cid, Came, Turn<'_, String>), Refusal> {
        let (batch, token, spool) = (under_way.batch, under_way.token, self.spool.clone());
        let promised = self.check_room(body.announced()).await?;
        // Each takes a thread.
        let place = self.cars.take(self.lineage.root(token), self.config.wait()).await;
        body.held.set(Some(place.ok_or_else(|| Refusal::busy().closing())?));
        let (inlet, outlet) = pipe();
        let receiving = spawn_blocking(move || {
            let into = (&spool.create(batch, PART)?, spool.path(batch, PART));
            let list = spool.create(batch, BLOCKS)?;
            Part::receive(outlet, into, &list, |bytes| spool.check_room(bytes, promised))
        });
        let poured = body.pour(inlet).await;
        // To its end: what it makes in the spool is removed after it.
        let received = receiving.await.map_err(|_| Refusal::stopping())?;
        // A body that breaks off is the cause of what the reader says.
        poured?;
        let part = received?;
        let (root, dag_bytes) = (part.root, part.dag_bytes);
        let cid = root.to_v1().to_string();
        // One at a time looks which parts there are, and puts them together.
        let turn = self.parts.wait(&cid, self.config.wait()).await.ok_or_else(Refusal::busy)?;
        let before = self.store.parts(&cid).await?;
        let (spool, others) = (self.spool.clone(), before.iter().map(|it| it.batch).collect::<Vec<_>>());
        let max = self.config.upload_bytes_max.unwrap_or(u64::MAX);
        let planned = spawn_blocking(move || {
            let mut parts = vec![part];
            for other in others {
                parts.push(Part::read(spool.path(other, PART), spool.file(other, BLOCKS)?)?);
            }
            let blocks = Blocks::of(parts, &root)?;
            let plan = if blocks.is_complete() { Some(Plan::of(&root, &blocks, max)?) } else { None };
            Ok::<_, CarFault>(plan.map(|plan| (plan, blocks)))
        });
        let Some((plan, blocks)) = planned.await.map_err(|_| Refusal::stopping())?? else {
            let (bytes, arrived) = (counted(body.taken(), 1), self.lived());
            self.write(Write::Partial { batch, token, bytes, cid, arrived }).await?;
            return Ok((root, Came::Part, turn));
        };
        // What this token's parts take of its quota is given back when the files take theirs. A leaf that stands many
        // times in a DAG comes once, and is stored each time.
        let own: u64 = before.iter().filter(|it| it.token == token).map(|it| it.bytes).sum();
        let counts = counted(plan.bytes, plan.objects());
        body.reservation.reach(counts.saturating_sub(own).max(OBJECT_BYTES_MIN)).map_err(IntakeError::from)?;
        let storing = Box::pin(self.store_plan(under_way, plan, Arc::new(blocks), wanted));
        let stored = self.while_it_counts(token, storing).await?;
        body.held.set(None);
        let dag = Dag { cid: root.to_v1(), bytes: dag_bytes };
        Ok((root, Came::Whole(Box::new((stored, dag)), before.into_iter().map(|it| it.batch).collect()), turn))
    }

    /// Forgets a part of a DAG that is not whole. Returns whether it did: not while somebody puts the DAG together.
    pub(crate) async fn drop_part(&self, batch: Batch, cid: &str) -> Result<bool, Refusal> {
        let Some(_turn) = self.parts.wait(&cid.to_owned(), TURN_WAIT).await else { return Ok(false) };
        self.write(Write::Drop(batch)).await?;
        self.unspool(batch).await;
        Ok(true)
    }

    /// Forgets the parts of DAGs that nobody completed.
    pub(crate) async fn sweep_parts(&self) -> Result<(), Refusal> {
        for (batch, cid) in self.store.parts_before(self.lived().saturating_sub(PARTS_KEPT_SECONDS)).await? {
            self.drop_part(batch, &cid).await?;
        }
        Ok(())
    }

    /// Forgets some of the parts of tokens that were ended. Returns how many.
    pub(crate) async fn drop_ended_parts(&self) -> Result<usize, Refusal> {
        let mut dropped = 0;
        for (batch, cid) in self.store.parts_of_ended().await? {
            dropped += usize::from(self.drop_part(batch, &cid).await?);
        }
        Ok(dropped)
    }

    /// Removes what an upload has in the spool. What stays is removed at the next start.
    pub(crate) async fn unspool(&self, batch: Batch) {
        let spool = self.spool.clone();
        match spawn_blocking(move || spool.remove(batch)).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(error)) => tracing::warn!(%error, "a folder of the spool stays until the next start"),
        }
    }

    /// Stores the files of a DAG: small ones many at once, large ones one after another, each in a place of its own,
    /// which others may have in between.
    async fn store_plan(
        &self,
        under_way: &UnderWay,
        plan: Plan,
        blocks: Arc<Blocks>,
        wanted: &Wanted,
    ) -> Result<Stored, Refusal> {
        let quiet: Arc<dyn Progress> = Arc::new(());
        let Plan { mut files, folders, .. } = plan;
        if let [file] = &mut files[..]
            && file.path.is_empty()
        {
            let incoming = incoming(std::mem::take(&mut file.content), blocks);
            let _place = self.place_for(under_way.token, incoming.length).await?;
            return Ok(self.twin.put_incoming(under_way.batch, incoming, &wanted.options, &quiet).await?);
        }
        let mut folder = self.twin.begin_folder(under_way.batch, wanted.options.clone()).await?;
        for path in folders.iter().filter(|path| !path.is_empty()) {
            folder.take_folder(path)?;
        }
        for file in &files {
            folder.take_path(&file.path)?;
        }
        let storer = folder.files();
        // So that no file waits for a place that others of this DAG have for longer than it may.
        let large = &Mutex::new(());
        let store = |file: plan::File| {
            let (storer, blocks, quiet) = (storer.clone(), blocks.clone(), &quiet);
            async move {
                let incoming = incoming(file.content, blocks);
                let _turn = if is_small(incoming.length) { None } else { Some(large.lock().await) };
                let _place = self.place_for(under_way.token, incoming.length).await?;
                let entry = storer.store(&file.path, None, incoming, quiet).await?;
                Ok::<_, Refusal>((file.path, entry))
            }
        };
        let mut storing = Box::pin(stream::iter(files.into_iter().map(store)).buffer_unordered(FILES_AT_ONCE));
        while let Some(stored) = storing.next().await {
            let (path, entry) = stored?;
            folder.insert(&path, &entry)?;
        }
        drop(storing);
        Ok(folder.finish().await?)
    }

    /// Waits for a place, for what is not small.
    async fn place_for(&self, token: TokenId, length: Option<u64>) -> Result<Option<Place>, Refusal> {
        if is_small(length) { Ok(None) } else { self.place(token).await.map(Some) }
    }
}

fn is_small(length: Option<u64>) -> bool {
    length.is_some_and(|length| length <= SMALL_BYTES as u64)
}

/// Returns the content of a file as something to read.
fn incoming(content: Content, blocks: Arc<Blocks>) -> Incoming {
    let length = Some(content.bytes());
    let stream: Box<dyn Read + Send> = Box::new(content.read(blocks));
    Incoming { stream, length }
}

impl From<CarFault> for Refusal {
    fn from(fault: CarFault) -> Self {
        match fault {
            CarFault::Spool(ref error) => match error.get_ref().and_then(|error| error.downcast_ref::<NoRoom>()) {
                Some(room) => {
                    Self::new(StatusCode::INSUFFICIENT_STORAGE, "ERROR_SPOOL_FULL", room.to_string()).closing()
                }
                None => Self::own(&fault).closing(),
            },
            CarFault::Changed(_) => Self::own(&fault),
            CarFault::Broken => IntakeError::Broken.into(),
            fault => {
                let message = format!("Invalid CAR file received: {}", causes(&fault));
                Self::new(StatusCode::BAD_REQUEST, "ERROR_INVALID_CAR", message).closing()
            }
        }
    }
}
