//! The object store that shards lie in when the operator wants it so: one object for each shard, with all that is
//! needed to read it, so that it is there whole or not at all.
//!
//! ```text
//! PREFIX/origin                            the name of the origin whose place this is
//! PREFIX/shards/aa/<object>.<column>       a head that says where the rest begins, P, list and strips
//! ```
//!
//! Every call has a deadline and says whose fault it is when it fails. That a shard is not there is believed only while
//! the mark of this origin is: a bucket that was deleted, renamed or not mounted has nothing, and tells nothing of
//! shards.

use std::{
    error::Error,
    fmt, io, iter,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use format::{ObjectId, limits::COLUMNS_MAX};
use futures::TryStreamExt;
use object_store::{
    GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload, client::HttpError,
    path::Path as Key,
};
use tokio::{runtime::Handle, sync::Semaphore, time::timeout};

use super::{HeldShard, ShardId, StoreError, head::Head, send::SENDS_MAX};

/// Longest time of one call: a part of 8 MiB on the slowest link worth using.
pub(crate) const CALL: Duration = Duration::from_secs(20);
/// What is read of a shard at first: head, P and list of all but the longest, and all of a little one.
const FRONT_BYTES: u64 = 32 * 1024;
const _: () = assert!(COLUMNS_MAX <= 1000);

/// Whose fault it is that an object store did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BucketFault {
    /// The network's, or of a server that is down or overloaded; it is worth another try.
    #[error("the object store cannot be reached or is too slow, look at it and at the network")]
    Unreachable,
    /// The operator's: the keys are wrong, or may not do this.
    #[error("the object store refuses the credentials or does not let them do this, look at the keys and their rights")]
    Credentials,
    /// The operator's: the bucket, or this node's place in it, is not there.
    #[error("there is no such bucket, or this origin's mark is no longer in it, look at [bucket]")]
    Gone,
    /// The object store's; it is worth another try.
    #[error("the object store failed")]
    Failed,
}

/// The object store of an origin, and the origin's place in it.
pub struct Bucket {
    pub(super) store: Arc<dyn ObjectStore>,
    /// One permit for each large shard that may be on its way at once.
    pub(super) sends: Semaphore,
    runtime: Handle,
    url: String,
    prefix: Key,
    owner: String,
}

/// The beginning of a shard that is here.
#[derive(Debug)]
pub(super) struct Front {
    /// None when what is there is not what was sent.
    pub(super) head: Option<Head>,
    pub(super) bytes: Bytes,
    pub(super) object: ObjectMeta,
}

impl Front {
    /// When the last strip was appended; of a damaged shard, when the object store says it came.
    pub(super) fn written(&self) -> SystemTime {
        self.head.map_or_else(|| self.object.last_modified.into(), |head| super::time(head.written))
    }
}

impl fmt::Debug for Bucket {
    /// Where it is; what the client holds has its keys.
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_tuple("Bucket").field(&self.url).finish()
    }
}

impl Bucket {
    /// Takes an object store, all keys of which begin with `prefix`, for the origin `owner`. Asks nobody yet; calls are
    /// made on the current runtime.
    pub(crate) fn new(store: Arc<dyn ObjectStore>, url: String, prefix: Key, owner: String) -> Self {
        Self { store, sends: Semaphore::new(SENDS_MAX), runtime: Handle::current(), url, prefix, owner }
    }

    /// Takes the place for this origin, or finds that it has it already.
    ///
    /// # Errors
    /// [`StoreError::Bucket`]; [`StoreError::BucketInUse`] when another origin has it: each would take the other's
    /// shards for its own.
    pub(super) fn claim(&self) -> Result<(), StoreError> {
        let mark = self.mark();
        let owner = self.call("take", &mark, CALL, async {
            let payload = PutPayload::from(self.owner.clone());
            match self.store.put_opts(&mark, payload, PutMode::Create.into()).await {
                Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {}
                other => drop(other?),
            }
            self.store.get(&mark).await?.bytes().await
        })?;
        if owner == self.owner.as_bytes() {
            return Ok(());
        }
        Err(StoreError::BucketInUse { url: self.url.clone(), owner: String::from_utf8_lossy(&owner).into_owned() })
    }

    /// Reads the beginning of a shard; none when it is not here.
    pub(super) fn front(&self, shard: &ShardId) -> Result<Option<Front>, StoreError> {
        let key = self.key(shard);
        let options = GetOptions { range: Some(GetRange::Bounded(0..FRONT_BYTES)), ..GetOptions::default() };
        let read = self.present("read", &key, async {
            let found = self.store.get_opts(&key, options).await?;
            Ok((found.meta.clone(), found.bytes().await?))
        });
        let (object, bytes) = match read {
            Ok(None) => return Ok(None),
            Ok(Some(read)) => read,
            // No range of an object of no bytes can be read.
            Err(error @ StoreError::Bucket { fault: BucketFault::Failed, .. }) => match self.meta(shard)? {
                Some(object) if object.size == 0 => (object, Bytes::new()),
                _ => return Err(error),
            },
            Err(error) => return Err(error),
        };
        Ok(Some(Front { head: Head::decode(&bytes, shard, object.size), bytes, object }))
    }

    /// Returns what the object store says of a shard; none when it is not here.
    pub(super) fn meta(&self, shard: &ShardId) -> Result<Option<ObjectMeta>, StoreError> {
        let key = self.key(shard);
        self.present("look for", &key, self.store.head(&key))
    }

    /// Reads bytes of a shard that was found; none when it is gone since.
    pub(super) fn read(&self, shard: &ShardId, at: u64, count: u64) -> Result<Option<Bytes>, StoreError> {
        let key = self.key(shard);
        self.present("read", &key, self.store.get_range(&key, at..at.saturating_add(count)))
    }

    /// Removes a shard, if it is here.
    pub(super) fn remove(&self, shard: &ShardId) -> Result<(), StoreError> {
        let key = self.key(shard);
        self.present("remove", &key, self.store.delete(&key)).map(drop)
    }

    /// Returns the shards after `after`, at most `limit`, in the order of their names. Costs one listing of the keys
    /// after `after` whose objects begin with the same byte.
    pub(super) fn page(&self, after: Option<&ShardId>, limit: usize) -> Result<Vec<HeldShard>, StoreError> {
        let root = self.prefix.clone().join("shards");
        let listed = self.call("list", &root, CALL, self.store.list_with_delimiter(Some(&root)))?;
        let after = after.map(|shard| (self.group(&shard.object), self.key(shard)));
        let mut groups = listed.common_prefixes;
        groups.retain(|group| after.as_ref().is_none_or(|(first, _)| group >= first));
        groups.sort_unstable();
        let mut page: Vec<HeldShard> = Vec::new();
        for group in groups {
            let objects = match &after {
                Some((_, key)) => self.store.list_with_offset(Some(&group), key),
                None => self.store.list(Some(&group)),
            };
            let objects: Vec<ObjectMeta> = self.call("list", &group, CALL, objects.try_collect())?;
            let held =
                |object: &ObjectMeta| Some(HeldShard { shard: self.shard(&object.location)?, bytes: object.size });
            page.extend(objects.iter().filter_map(held));
            if page.len() >= limit {
                break;
            }
        }
        self.confirm_mark()?;
        // Not every store lists in an order: a folder does not.
        page.sort_unstable_by_key(|held| held.shard);
        page.truncate(limit);
        Ok(page)
    }

    /// The key of a shard, after its store: what an operator looks for.
    pub(super) fn name(&self, key: &Key) -> String {
        format!("{} {key}", self.url)
    }

    /// Three digits of column make the order of keys that of shards.
    pub(super) fn key(&self, shard: &ShardId) -> Key {
        let ShardId { object, column } = shard;
        self.group(object).join(format!("{object}.{column:03}"))
    }

    /// Runs a call to its end or its deadline. Blocks, so the thread must not be one that runs tasks.
    pub(super) fn call<T>(
        &self,
        action: &'static str,
        key: &Key,
        deadline: Duration,
        call: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, StoreError> {
        let done = self.runtime.block_on(async { timeout(deadline, call).await });
        let done = done.unwrap_or_else(|late| {
            Err(object_store::Error::Generic { store: "deadline", source: Box::new(io::Error::from(late)) })
        });
        done.map_err(|source| StoreError::Bucket { action, key: self.name(key), fault: fault_of(&source), source })
    }

    /// The same for an object; none when it is not there, while this origin's mark is.
    fn present<T>(
        &self,
        action: &'static str,
        key: &Key,
        call: impl Future<Output = object_store::Result<T>>,
    ) -> Result<Option<T>, StoreError> {
        match self.call(action, key, CALL, call) {
            Err(StoreError::Bucket { source: object_store::Error::NotFound { .. }, .. }) => {
                self.confirm_mark()?;
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    fn confirm_mark(&self) -> Result<(), StoreError> {
        let mark = self.mark();
        self.call("find", &mark, CALL, self.store.head(&mark)).map(drop)
    }

    fn mark(&self) -> Key {
        self.prefix.clone().join("origin")
    }

    /// What the keys of one in 256 objects begin with: listed at once, and a folder where keys are files.
    fn group(&self, object: &ObjectId) -> Key {
        self.prefix.clone().join("shards").join(&object.to_string()[..2])
    }

    /// Reads the key of a shard; none for every other.
    fn shard(&self, key: &Key) -> Option<ShardId> {
        let (object, column) = key.filename()?.split_once('.')?;
        let shard = ShardId { object: object.parse().ok()?, column: column.parse().ok()? };
        (shard.column < COLUMNS_MAX && self.key(&shard) == *key).then_some(shard)
    }
}

/// Tells from an error, and from what caused it, whose fault it is.
fn fault_of(error: &object_store::Error) -> BucketFault {
    use object_store::Error as E;
    let mut causes = iter::successors(error.source(), |cause| {
        let cause = *cause;
        cause.source()
    });
    match error {
        E::NotFound { .. } => BucketFault::Gone,
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => BucketFault::Credentials,
        _ if causes.any(is_of_the_way) => BucketFault::Unreachable,
        _ => BucketFault::Failed,
    }
}

/// Whether no answer came, or not all of it.
fn is_of_the_way(cause: &(dyn Error + 'static)) -> bool {
    cause.is::<HttpError>() || cause.downcast_ref::<io::Error>().is_some_and(|it| it.kind() == io::ErrorKind::TimedOut)
}
