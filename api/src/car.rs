//! CARs: a DAG as its blocks, whole or in parts. Each block is checked while it comes; what came lies in the spool
//! until the DAG is complete. Then its files are stored as files, so that edges serve them, and the CAR is gone.
//!
//! ```text
//! body -> blocks checked, spooled, synced -> complete? no: acknowledged as a part
//!                                                      yes: files put together from the blocks -> twin -> kept
//! ```

mod blocks;
mod plan;

use std::{io::Read, sync::Arc};

use axum::http::StatusCode;
use futures::{StreamExt, stream};
use tokio::{task::spawn_blocking, time::timeout};
use twin::{Incoming, Progress, Stored};
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
    refusal::{Refusal, causes},
    service::{Service, UnderWay},
    store::{Upload, Write},
    token::Grant,
    upload::{SMALL_BYTES, Wanted},
};

/// Files of a DAG that are stored at once.
const FILES_AT_ONCE: usize = 16;
/// The file of a part that is not filed yet.
const COMING: &str = "coming";

/// What came of a part.
enum Came {
    /// The DAG is complete and stored.
    Whole(Box<(Stored, Dag)>, Option<Upload>),
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
            match taken {
                Ok((root, Came::Whole(stored, before))) => {
                    let kept = service.end(under_way, Ok(*stored), body.reservation).await?;
                    service.unspool(batch).await;
                    // Only now: until it is kept, what came before is all that was acknowledged.
                    if let Some(before) = before {
                        service.drop_parts(&before).await.unwrap_or_else(|refusal| {
                            tracing::warn!(?refusal, "parts of a DAG that is stored stay in the spool");
                        });
                    }
                    Ok((root, Subject::of(&kept)))
                }
                Ok((root, Came::Part)) => {
                    let bytes = body.taken();
                    body.reservation.keep(bytes);
                    Ok((root, Subject { locator: None, bytes }))
                }
                Err(refusal) => {
                    service.unspool(batch).await;
                    service
                        .end(under_way, Err(refusal), body.reservation)
                        .await
                        .map(|kept| (kept.dag.cid, Subject::of(&kept)))
                }
            }
        };
        self.tasks.spawn(task).await.map_err(|_| Refusal::stopping())?
    }

    /// Spools a CAR, and stores its DAG if that is complete now.
    async fn take_car(
        self: &Arc<Self>,
        under_way: &UnderWay,
        body: &mut Body,
        wanted: &Wanted,
    ) -> Result<(Cid, Came), Refusal> {
        let (batch, spool) = (under_way.batch, self.spool.clone());
        // Each takes a thread.
        let cars = timeout(self.config.wait(), self.cars.acquire()).await;
        let _car = cars.map_err(|_| Refusal::busy().closing())?.map_err(|_| Refusal::stopping())?;
        let (inlet, outlet) = pipe();
        let receiving = spawn_blocking(move || Part::receive(outlet, spool.create(batch, COMING)?));
        // A body that breaks off is the cause of what the reader says.
        body.pour(inlet).await?;
        let part = receiving.await.map_err(|_| Refusal::stopping())??;
        let root = part.root;
        // One at a time looks which parts there are, and puts them together.
        let _turn = self.parts.lock().await;
        let before = self.partial_of(&root).await?;
        let (spool, others) = (self.spool.clone(), before.as_ref().map(|it| it.batch));
        let max = self.config.upload_bytes_max.unwrap_or(u64::MAX);
        let planned = spawn_blocking(move || {
            let mut parts = vec![part];
            if let Some(others) = others {
                for file in spool.files(others)? {
                    parts.push(Part::read(file)?);
                }
            }
            let dag_bytes = parts[0].dag_bytes;
            let blocks = Blocks::of(parts, &root)?;
            let plan = if blocks.is_complete() { Some(Plan::of(&root, &blocks, max)?) } else { None };
            Ok::<_, CarFault>((plan.map(|plan| (plan, blocks)), dag_bytes))
        });
        let (planned, dag_bytes) = planned.await.map_err(|_| Refusal::stopping())??;
        let Some((plan, blocks)) = planned else {
            self.file_part(batch, &root, before.as_ref(), body.taken()).await?;
            return Ok((root, Came::Part));
        };
        // A leaf that stands many times in a DAG comes once, and is stored each time.
        let came = body.taken() + before.as_ref().map_or(0, |it| it.bytes);
        body.reservation.grow(plan.bytes.saturating_sub(came)).map_err(IntakeError::from)?;
        let stored = self.store_plan(under_way, plan, Arc::new(blocks), wanted).await?;
        Ok((root, Came::Whole(Box::new((stored, Dag { cid: root.to_v1(), bytes: dag_bytes })), before)))
    }

    /// Returns the upload of a DAG of which parts are there already.
    async fn partial_of(&self, root: &Cid) -> Result<Option<Upload>, Refusal> {
        let uploads = self.store.by_cid(&root.to_v1().to_string()).await?;
        Ok(uploads.into_iter().find(|upload| upload.locator.is_none()))
    }

    /// Makes what came the next part of its DAG, durably.
    async fn file_part(
        &self,
        batch: twin::Batch,
        root: &Cid,
        before: Option<&Upload>,
        bytes: u64,
    ) -> Result<(), Refusal> {
        let (into, held) = before.map_or((batch, 0), |it| (it.batch, it.bytes));
        let spool = self.spool.clone();
        let filed = spawn_blocking(move || {
            let number = spool.files(into)?.len() - usize::from(into == batch);
            spool.move_to((batch, COMING), (into, &format!("{number:06}")))
        });
        filed.await.map_err(|_| Refusal::stopping())?.map_err(CarFault::Spool)?;
        let cid = root.to_v1().to_string();
        self.store.write(Write::Partial { batch: into, bytes: held + bytes, cid }).await?;
        if into != batch {
            self.store.write(Write::Drop(batch)).await?;
            self.unspool(batch).await;
        }
        Ok(())
    }

    /// Forgets the parts of a DAG that is not whole.
    pub(crate) async fn drop_parts(&self, upload: &Upload) -> Result<(), Refusal> {
        self.store.write(Write::Drop(upload.batch)).await?;
        self.accounts.give_back(upload.token, upload.bytes);
        self.unspool(upload.batch).await;
        Ok(())
    }

    /// Removes what an upload has in the spool. What stays is removed at the next start.
    pub(crate) async fn unspool(&self, batch: twin::Batch) {
        let spool = self.spool.clone();
        match spawn_blocking(move || spool.remove(batch)).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(error)) => tracing::warn!(%error, "a folder of the spool stays until the next start"),
        }
    }

    /// Stores the files of a DAG.
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
            let _place = self.place_for(incoming.length).await?;
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
        let store = |file: plan::File| {
            let (storer, blocks, quiet) = (storer.clone(), blocks.clone(), &quiet);
            async move {
                let incoming = incoming(file.content, blocks);
                let _place = self.place_for(incoming.length).await?;
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
    async fn place_for(&self, length: Option<u64>) -> Result<Option<tokio::sync::SemaphorePermit<'_>>, Refusal> {
        let is_small = length.is_some_and(|length| length <= SMALL_BYTES as u64);
        if is_small { Ok(None) } else { self.place().await.map(Some) }
    }
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
            CarFault::Spool(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "ERROR_SPOOL_FULL", "the twin's disk is full")
            }
            CarFault::Spool(_) => Self::own(&fault),
            CarFault::Broken => IntakeError::Broken.into(),
            fault => {
                let message = format!("Invalid CAR file received: {}", causes(&fault));
                Self::new(StatusCode::BAD_REQUEST, "ERROR_INVALID_CAR", message).closing()
            }
        }
    }
}
