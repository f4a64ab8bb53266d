//! From a path to an object: a file answers at its root and at any one name below it, a directory is walked.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use bytes::Bytes;
use format::{Directory, Kind, Locator, StripeIndex, limits::DIRECTORY_BYTES_MAX};
use moka::future::Cache;
use tokio::task::spawn_blocking;

use super::objects::Opened;
use crate::{answer::path::Path, error::Fault, node::Node};

/// Decoded directories kept, by the bytes of their bodies.
const DIRECTORIES_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// A decoded directory takes about so many times its body.
const DECODED_FACTOR: u64 = 3;
/// Decoding more than this leaves the reactor.
const DECODE_INLINE_BYTES_MAX: usize = 64 * 1024;
const INDEX: &str = "index.html";

/// Directories that were walked lately.
pub(crate) struct Directories(Cache<Locator, Arc<Directory>>);

/// What a path leads to.
pub(crate) enum Found {
    /// A file.
    File(Arc<Opened>),
    /// A directory without an index.
    Listing(Arc<Opened>, Arc<Directory>),
    /// A directory asked for without its final slash: relative links in it would lead astray.
    Slash,
}

impl Directories {
    pub(crate) fn new() -> Self {
        let weigh = |_: &Locator, directory: &Arc<Directory>| {
            let bytes: usize = directory.entries().map(|(name, entry)| name.len() + entry.mime.len() + 160).sum();
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        Self(Cache::builder().max_capacity(DIRECTORIES_BYTES_MAX * DECODED_FACTOR).weigher(weigh).build())
    }

    /// Forgets what an object was decoded to. What is being read now is forgotten as it comes.
    pub(crate) async fn forget(&self, locator: &Locator) {
        self.0.invalidate(locator).await;
    }

    /// Returns what a path below `root` leads to, and adds the directories on the way to `trail`. No object on it,
    /// between or at its end, is one that may not be served. Cancel safe.
    ///
    /// # Errors
    /// [`Fault::Path`], or the faults of [`Node::open`] and of reading.
    pub(crate) async fn walk(
        &self,
        node: &Node,
        root: &Arc<Opened>,
        path: &Path<'_>,
        now: SystemTime,
        trail: &mut Vec<Arc<Opened>>,
    ) -> Result<Found, Fault> {
        let names = path.names();
        if root.object.kind() == Kind::File {
            // A name is for players and people; it is not looked at.
            return if names.len() <= 1 { Ok(Found::File(Arc::clone(root))) } else { Err(Fault::Path) };
        }
        let mut at = Arc::clone(root);
        let mut names = names.iter().peekable();
        loop {
            // Names ran out on a directory: its own slash is missing.
            let Some(name) = names.next() else { return Ok(Found::Slash) };
            let directory = self.read(node, &at).await?;
            trail.push(Arc::clone(&at));
            if name.is_empty() {
                if names.peek().is_some() {
                    return Err(Fault::Path);
                }
                return match directory.entry(INDEX).filter(|entry| entry.kind == Kind::File) {
                    Some(index) => Ok(Found::File(node.open(&index.capability, now).await?)),
                    None => Ok(Found::Listing(at, directory)),
                };
            }
            let entry = directory.entry(name).ok_or(Fault::Path)?;
            at = node.open(&entry.capability, now).await?;
            if at.object.kind() != entry.kind {
                return Err(Fault::Damaged);
            }
            if entry.kind == Kind::File {
                return if names.next().is_none() { Ok(Found::File(at)) } else { Err(Fault::Path) };
            }
        }
    }

    async fn read(&self, node: &Node, opened: &Arc<Opened>) -> Result<Arc<Directory>, Fault> {
        let reading = async {
            let body = whole(node, opened).await?;
            let decode = move || Directory::decode(&body).map(Arc::new).map_err(|_| Fault::Damaged);
            if opened.object.length() <= DECODE_INLINE_BYTES_MAX as u64 {
                decode()
            } else {
                spawn_blocking(decode).await.map_err(|_| Fault::Busy)?
            }
        };
        let (locator, begun) = (opened.object.locator(), Instant::now());
        // Once for all who ask at a time: it takes up to four times the bytes of its body.
        let read = self.0.try_get_with(locator, reading).await.map_err(|fault| (*fault).clone());
        if node.cache.was_forgotten(&locator, begun) {
            self.forget(&locator).await;
        }
        read
    }
}

/// Reads a directory's whole body; the only object that is ever whole in memory, hence its bound.
async fn whole(node: &Node, opened: &Arc<Opened>) -> Result<Bytes, Fault> {
    if let Some(inline) = opened.object.inline() {
        return Ok(Bytes::copy_from_slice(inline));
    }
    let geometry = opened.object.geometry().ok_or(Fault::Damaged)?;
    let length = usize::try_from(geometry.length())
        .ok()
        .filter(|length| *length <= DIRECTORY_BYTES_MAX)
        .ok_or(Fault::Damaged)?;
    let mut body = Vec::with_capacity(length);
    for stripe in (0..geometry.stripes()).map(StripeIndex) {
        // Kept decoded, so the blocks need not be; and the owner is asked only once the path is known.
        for (_, block) in node.fills.unkept(opened, geometry, stripe, 0..geometry.columns(stripe)).await? {
            body.extend_from_slice(&block);
        }
    }
    Ok(body.into())
}
