//! From a path to an object: a file answers at its root and at any one name below it, a directory is walked.

use std::{
    borrow::Cow,
    pin::pin,
    sync::Arc,
    time::{Instant, SystemTime},
};

use format::{Directory, Kind};
use futures::future::join_all;

use super::path::Path;
use crate::{
    error::Fault,
    node::Node,
    store::{objects::Opened, register::Standing},
};

const INDEX: &str = "index.html";
/// Directories on the way that are opened before the walk reaches them. Beyond, each is opened as it is reached. Nobody
/// checked yet whether the viewer may see what lies there, and whoever wrote the directory may have made them up.
const AHEAD_MAX: usize = 4;
/// What browsers and robots ask every host for, whatever lies there.
const ASKED_EVERYWHERE: [&str; 6] =
    ["favicon.ico", "browserconfig.xml", "robots.txt", "sitemap.xml", "ads.txt", "app-ads.txt"];

/// Whether it is such a name. Apple's have a size in them where the device asks for one.
fn is_asked_everywhere(name: &str) -> bool {
    ASKED_EVERYWHERE.contains(&name) || (name.starts_with("apple-touch-icon") && name.ends_with(".png"))
}

/// What a path leads to.
pub(crate) enum Found {
    /// A file.
    File(Arc<Opened>),
    /// A directory without an index.
    Listing(Arc<Opened>, Arc<Directory>),
    /// A directory asked for without its final slash: relative links in it would lead astray.
    Slash,
}

/// Returns what a path below `root` leads to, and adds the directories on the way to `trail`. No object on it,
/// between or at its end, is one that may not be served. Cancel safe.
///
/// # Errors
/// [`Fault::Path`], or the faults of [`Node::open`] and of reading.
pub(crate) async fn walk(
    node: &Node,
    root: &Arc<Opened>,
    path: &Path<'_>,
    now: SystemTime,
    trail: &mut Vec<Arc<Opened>>,
) -> Result<Found, Fault> {
    let names = path.names();
    if root.object.kind() == Kind::File {
        // A name is for players and people; it is not looked at. But a browser that shows the file asks for its icon,
        // too, and would get all of it once more; a robot that asks for its rules would read the file as such.
        let is_named = match names {
            [name] => !is_asked_everywhere(name) || root.object.manifest().name == *name,
            _ => false,
        };
        return if is_named { Ok(Found::File(Arc::clone(root))) } else { Err(Fault::Path) };
    }
    let first = node.directories.read(&node.fills, root).await?;
    let mut ahead = pin!(open_ahead(node, &first, names, now));
    let mut walked = pin!(walk_down(node, root, names, now, trail));
    // Beside the walk, which waits for none of them but those that it comes to.
    tokio::select! {
        biased;
        found = &mut walked => found,
        () = &mut ahead => walked.await,
    }
}

async fn walk_down(
    node: &Node,
    root: &Arc<Opened>,
    names: &[Cow<'_, str>],
    now: SystemTime,
    trail: &mut Vec<Arc<Opened>>,
) -> Result<Found, Fault> {
    let mut at = Arc::clone(root);
    let mut names = names.iter().peekable();
    loop {
        // Names ran out on a directory: its own slash is missing.
        let Some(name) = names.next() else { return Ok(Found::Slash) };
        let directory = node.directories.read(&node.fills, &at).await?;
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

/// Opens directories on the way at once, as far as the first one knows them, or each would cost a trip of its own to
/// the origins. What comes of it is for the walk to find: it goes by names, and meets every fault where it is. What the
/// change feed never told of is not looked up before the walk comes to it.
async fn open_ahead(node: &Node, first: &Directory, names: &[Cow<'_, str>], now: SystemTime) {
    let Some(entry) = names.first().and_then(|name| first.entry(name)) else { return };
    let mut path = String::new();
    let below = names[1..].iter().map_while(|name| {
        path = if path.is_empty() { name.to_string() } else { format!("{path}/{name}") };
        entry.below.get(&path)
    });
    // The walk begins with the entry itself.
    let is_told = |locator| node.register.standing(&locator, Instant::now()) == Standing::MayBe;
    let below: Vec<_> = below.take(AHEAD_MAX).filter(|capability| is_told(capability.locator())).collect();
    join_all(below.into_iter().map(|capability| node.open(capability, now))).await;
}
