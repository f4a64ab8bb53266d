//! Answers that are ready: what a worker made once for a host and a target, and gives again without asking anybody, for
//! as long as nothing that it hangs on has changed.
//!
//! Keeps true: what is given from here is what [`answer`](super::answer()) would make now, but for the seconds of its
//! clock, Server-Timing, which only what was made has, and where among the fields the date and the name of the request
//! stand. An owner's policy is asked for each request; only its words are kept.

use std::{
    borrow::Cow,
    cell::RefCell,
    collections::HashMap,
    net::IpAddr,
    rc::Rc,
    sync::{Arc, Weak},
    time::Instant,
};

use bytes::Bytes;
use format::{BlockIndex, BlockSlice, Geometry, Locator, limits::BLOCK_BYTES};
use http::{HeaderMap, StatusCode, header};
use sandbox::{Method, Tier};

use super::{
    coding::{may_be_coded, takes_zstd},
    conditions::Validators,
    head::{Head, Wants},
    headers,
    plan::{Piece, Plan, Prepared, View},
    reply::{OF_WAYS, refused},
    request::RequestId,
};
use crate::{
    error::Fault,
    node::Node,
    policy::{
        ask::{Ask, Client, EdgeFacts, Fields, RequestFacts},
        denylist::Denylist,
        epochs::Epoch,
        places::ViewerPlace,
        program::Program,
        said::Said,
    },
    store::{body::Source, objects::Opened, watch::Watch},
};

/// What an answer takes beside its head and its content, about.
const READY_BYTES: usize = 1024;
/// Heads that are kept for one target: of sixteen different words of the owner's policy, each over both forms of the
/// file. Of more the last that were made stay; whoever gets other words has the answer made, which costs what it cost
/// the first time, and nobody else's head but the oldest.
const HEADS_MAX: usize = 32;
/// What the record of a file takes that is not counted: its manifests and its lease, as they came and as they were
/// read.
const RECORD_BYTES_USUAL: usize = 16 * 1024;

/// The longest content that is kept ready, in bytes. A viewer that takes its time keeps so much of a longer one in
/// memory, too.
pub(crate) const CONTENT_BYTES_MAX: u64 = BLOCK_BYTES as u64;
/// What the head of most answers takes.
const HEAD_BYTES_USUAL: usize = 1024;

/// An answer with a file's content, and what it hangs on.
pub(crate) struct Ready {
    pub(crate) file: Arc<Opened>,
    /// The records of every directory on the way to the file, and of the file, and whether they still count.
    pub(crate) trail: Vec<(Weak<Opened>, Watch)>,
    /// Until when no record of these is to be looked up again.
    pub(crate) fresh_until: Instant,
    /// The second since 1970 at which the first lease of these ends.
    pub(crate) alive_until: u64,
    pub(crate) program: Weak<Program>,
    pub(crate) seen: Seen,
    /// The facts of the request that are the same for all who ask for this target.
    pub(crate) is_secure: bool,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) content: Stored,
    pub(crate) validators: Validators,
    pub(crate) words: RefCell<Vec<Words>>,
}

/// What an answer hangs on beside records, taken before anything was asked for it. Nothing is kept alive by it.
pub(crate) struct Seen {
    pub(crate) denylist: Weak<Denylist>,
    /// Of the policy that decides about it.
    pub(crate) epoch: Epoch,
}

impl Seen {
    fn counts(&self, node: &Node, program: &Program) -> bool {
        (program.is_built_in() || !node.policies.is_over(self.epoch))
            && self.denylist.as_ptr() == Arc::as_ptr(&node.denylist.load())
    }
}

/// Where the content is.
pub(crate) enum Stored {
    /// Here.
    Inline(Bytes),
    /// In the cache of blocks, which alone decides what stays in memory: a block that was evicted has the answer made
    /// anew.
    Blocks(Geometry),
}

/// The head of an answer under one verdict of the owner's policy.
pub(crate) struct Words {
    pub(crate) said: Arc<Said>,
    /// The bytes of the content where it is compressed; none where the answer is the file as it is.
    pub(crate) coded: Option<u64>,
    /// The second since 1970 from which the head would be another.
    pub(crate) until: u64,
    pub(crate) lasting: Lasting,
}

impl Words {
    /// Whether they stand over the same form of the file, under the same words of the policy.
    fn are_of(&self, said: &Arc<Said>, is_coded: bool) -> bool {
        self.coded.is_some() == is_coded && Arc::ptr_eq(&self.said, said)
    }
}

/// What is the same in the heads of an answer for all who get it: all but the date and the request's name. HTTP/1.1
/// sends the bytes, which begin with the status line.
#[derive(Clone)]
pub(crate) struct Lasting {
    pub(crate) head: Bytes,
    pub(crate) fields: Arc<HeaderMap>,
}

impl Lasting {
    pub(crate) fn of(status: StatusCode, fields: HeaderMap) -> Self {
        let mut head = Vec::with_capacity(HEAD_BYTES_USUAL);
        headers::write_head(&mut head, status, &fields);
        Self { head: head.into(), fields: Arc::new(fields) }
    }
}

/// The head of an answer that is given, but for the date and the request's name.
enum GivenHead {
    /// It was kept.
    Kept(Lasting),
    /// Made for one request, of which each version of HTTP wants one form only.
    Made(HeaderMap),
}

/// An answer that is given.
pub(crate) struct Given {
    pub(crate) id: RequestId,
    pub(crate) status: StatusCode,
    head: GivenHead,
    /// One after another.
    pub(crate) content: Vec<Bytes>,
    pub(crate) source: Source,
    pub(crate) locator: Locator,
}

impl Given {
    /// Writes its head as HTTP/1.1 has it, from the status line on.
    pub(crate) fn write_head(&self, out: &mut Vec<u8>) {
        match &self.head {
            GivenHead::Kept(lasting) => out.extend_from_slice(&lasting.head),
            GivenHead::Made(fields) => headers::write_head(out, self.status, fields),
        }
    }

    /// Returns the fields of its head, once.
    pub(crate) fn take_fields(&mut self) -> HeaderMap {
        match &mut self.head {
            GivenHead::Kept(lasting) => HeaderMap::clone(&lasting.fields),
            GivenHead::Made(fields) => std::mem::take(fields),
        }
    }

    /// Returns the bytes of its content.
    pub(crate) fn bytes(&self) -> u64 {
        self.content.iter().map(|bytes| bytes.len() as u64).sum()
    }
}

/// Who asks, as far as answers hang on it.
pub(crate) struct Asker {
    pub(crate) peer: IpAddr,
    pub(crate) place: ViewerPlace,
    pub(crate) is_secure: bool,
}

/// The moment, and what the edge is at it.
#[derive(Clone, Copy)]
pub(crate) struct Present {
    pub(crate) now: Instant,
    /// Since 1970.
    pub(crate) seconds: u64,
    pub(crate) edge: EdgeFacts,
}

impl Ready {
    fn bytes(&self) -> usize {
        let words: usize = self.words.borrow().iter().map(|words| 3 * words.lasting.head.len()).sum();
        let content = if let Stored::Inline(bytes) = &self.content { bytes.len() } else { 0 };
        let record = &self.file.record;
        let manifests = record.public.encoded().len() + record.sealed.as_ref().map_or(0, Bytes::len);
        let record = (2 * (manifests + record.lease_envelope.len())).saturating_sub(RECORD_BYTES_USUAL);
        READY_BYTES + record + words + content + self.host.len() + self.path.len() + self.query.len()
    }

    /// Whether it hangs on the same records, under the same version of the policy. One target leads over the same
    /// directories each time, for none of them changes; but the lease of one may have while the other answer was made,
    /// and by it ends what caches are told.
    fn is_of(&self, other: &Self) -> bool {
        let records = |ready: &Self| ready.trail.iter().map(|(opened, _)| opened.as_ptr()).collect::<Vec<_>>();
        records(self) == records(other) && self.program.ptr_eq(&other.program)
    }

    fn counts(&self, present: &Present) -> bool {
        self.trail.iter().all(|(_, watch)| !watch.is_over())
            && present.now < self.fresh_until
            && present.seconds < self.alive_until
    }

    fn give(&self, node: &Node, head: &Head<'_>, asker: &Asker, present: &Present) -> Option<Given> {
        let conditions = head.conditions()?;
        let ask = Ask {
            now: present.seconds,
            viewer: asker.place,
            client: Client { address: asker.peer, buckets: node.buckets },
            edge: present.edge,
            request: Some(RequestFacts {
                method: if head.is_head() { Method::Head } else { Method::Get },
                is_secure: asker.is_secure,
                range: conditions.contains_key(header::RANGE),
                host: Cow::Borrowed(&self.host),
                path: Cow::Borrowed(&self.path),
                query: Cow::Borrowed(&self.query),
                fields: Fields::Parsed(head.fields),
                token: None,
            }),
            object: Some(Arc::clone(&self.file.object)),
            policy: Some((self.file.record.lease.owner, Cow::Borrowed(&self.file.record.lease.policy))),
        };
        let program = self.program.upgrade().filter(|program| self.seen.counts(node, program))?;
        let said = program.known(&ask)?;
        let is_partial = [header::RANGE, header::IF_MATCH].iter().any(|name| conditions.contains_key(name));
        let is_coded =
            !is_partial && may_be_coded(&self.file, said.verdict.marks) && takes_zstd(head.texts("accept-encoding"));
        let words = self.words.borrow();
        let words_of =
            |is_coded| words.iter().find(|words| words.are_of(&said, is_coded) && present.seconds < words.until);
        let wanted = words_of(is_coded)?;
        let view = View { method: &head.method, fields: &conditions, id: RequestId::next() };
        let (length, whole) = (self.file.object.length(), &wanted.lasting);
        let prepared = Prepared { validators: &self.validators, length, fields: &whole.fields, is_coded };
        let plan = match Plan::of(&view, &prepared) {
            Ok(plan) => plan,
            Err(fault) => return Some(self.refuse(head, view.id, &fault, whole)),
        };
        // Who takes zstd may have the file as it is, and is told so in the words of that.
        let words = if plan.is_coded == is_coded { wanted } else { words_of(plan.is_coded)? };
        let tier = match self.content {
            Stored::Blocks(_) if is_coded || plan.has_content() => program.known_tier(&ask)?,
            Stored::Blocks(_) | Stored::Inline(_) => Tier::Memory,
        };
        let content = self.content(node, tier, &plan, words.coded)?;
        let head = match plan.status {
            StatusCode::OK => GivenHead::Kept(words.lasting.clone()),
            _ => GivenHead::Made(plan.fields(&words.lasting.fields)),
        };
        let source = if plan.has_content() { Source::Hit } else { Source::Own };
        let locator = self.file.object.locator();
        Some(Given { id: view.id, status: plan.status, head, content, source, locator })
    }

    /// Returns the content, as far as it is sent, where it may be kept in this tier; none where not all of it is held.
    fn content(&self, node: &Node, tier: Tier, plan: &Plan, coded: Option<u64>) -> Option<Vec<Bytes>> {
        if tier == Tier::None {
            return None;
        }
        if !plan.is_sent {
            return self.is_held(node, plan, coded).then(Vec::new);
        }
        let (mut content, mut begins) = (Vec::new(), false);
        for piece in plan.pieces() {
            match (piece, &self.content) {
                (Piece::Text(text), _) => content.push(text),
                (Piece::Range(range), Stored::Inline(bytes)) => {
                    let bounds = usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?;
                    content.push(bytes.slice(bounds));
                }
                (Piece::Range(range), Stored::Blocks(geometry)) => {
                    begins |= range.start == 0;
                    for BlockSlice { block, within } in geometry.slices(range) {
                        content.push(node.fills.held(&self.file, *geometry, block, tier)?.slice(within));
                    }
                }
                (Piece::Coded, Stored::Blocks(geometry)) => {
                    begins = true;
                    for block in (0..geometry.blocks()).map(BlockIndex) {
                        node.fills.add_packed(&self.file, *geometry, block, tier, &mut content)?;
                    }
                    // The head tells how long it was when it was made.
                    coded.filter(|coded| *coded == content.iter().map(|piece| piece.len() as u64).sum::<u64>())?;
                }
                (Piece::Coded, Stored::Inline(_)) => return None,
            }
        }
        if begins {
            self.file.begin();
        }
        Some(content)
    }

    /// Whether all is held of a content of which no more than the length is told, and that is what the head says.
    fn is_held(&self, node: &Node, plan: &Plan, coded: Option<u64>) -> bool {
        plan.pieces().all(|piece| match (piece, &self.content) {
            (Piece::Text(_), _) | (Piece::Range(_), Stored::Inline(_)) => true,
            (Piece::Range(range), Stored::Blocks(geometry)) => {
                geometry.slices(range).all(|slice| node.fills.holds(&self.file, slice.block))
            }
            (Piece::Coded, Stored::Blocks(geometry)) => {
                let bytes = |block| node.fills.packed_bytes(&self.file, *geometry, block);
                coded.is_some() && (0..geometry.blocks()).map(BlockIndex).map(bytes).sum::<Option<u64>>() == coded
            }
            (Piece::Coded, Stored::Inline(_)) => false,
        })
    }

    /// Returns what tells of a fault of the request, given the head of an answer that does not.
    fn refuse(&self, head: &Head<'_>, id: RequestId, fault: &Fault, whole: &Lasting) -> Given {
        let (mut fields, page) = refused(head.style(), fault, id);
        fields.insert(header::CONTENT_LENGTH, page.len().into());
        for name in OF_WAYS {
            if let Some(value) = whole.fields.get(&name) {
                fields.insert(name, value.clone());
            }
        }
        let status = fault.status();
        let content = if head.is_head() { Vec::new() } else { vec![page] };
        let (head, locator) = (GivenHead::Made(fields), self.file.object.locator());
        Given { id, status, head, content, source: Source::Own, locator }
    }
}

/// The answers of one worker, found by the door, the host and the target as they came. Two generations: what is asked
/// for moves to the young one, and when that has half of the bytes the old one is forgotten.
pub(crate) struct Answers {
    bytes_max: usize,
    young: Generation,
    old: Generation,
    /// The key that is looked for.
    key: Vec<u8>,
}

#[derive(Default)]
struct Generation {
    answers: HashMap<Box<[u8]>, Rc<Ready>>,
    bytes: usize,
}

impl Answers {
    /// Makes room for answers of so many bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, young: Generation::default(), old: Generation::default(), key: Vec::new() }
    }

    /// Returns the answer to a request; none when it has to be made.
    pub(crate) fn give(&mut self, node: &Node, head: &Head<'_>, asker: &Asker, present: &Present) -> Option<Given> {
        if head.wants == Wants::Other {
            return None;
        }
        write_key(&mut self.key, asker.is_secure, head.host, head.target);
        let ready = match self.young.answers.get(&*self.key) {
            Some(ready) => ready,
            None => {
                let (key, ready) = self.old.answers.remove_entry(&*self.key)?;
                self.old.bytes = self.old.bytes.saturating_sub(ready.bytes());
                self.keep(key, ready)
            }
        };
        if ready.counts(present) {
            return ready.give(node, head, asker, present);
        }
        self.young.forget(&self.key);
        None
    }

    /// Keeps an answer that was made. What the policy said before of the same file stays beside it.
    pub(crate) fn insert(&mut self, host: &str, target: &str, ready: Ready) {
        write_key(&mut self.key, ready.is_secure, host, target);
        self.old.forget(&self.key);
        if let Some(held) = self.young.forget(&self.key).filter(|held| held.is_of(&ready)) {
            let mut others = held.words.take();
            let mut words = ready.words.borrow_mut();
            others.retain(|held| words.iter().all(|new| !new.are_of(&held.said, held.coded.is_some())));
            others.truncate(HEADS_MAX - words.len());
            words.append(&mut others);
        }
        let key = self.key.as_slice().into();
        self.keep(key, Rc::new(ready));
    }

    fn keep(&mut self, key: Box<[u8]>, ready: Rc<Ready>) -> &Rc<Ready> {
        let bytes = key.len() + ready.bytes();
        if self.young.bytes + bytes > self.bytes_max / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.bytes += bytes;
        self.young.answers.entry(key).insert_entry(ready).into_mut()
    }
}

impl Generation {
    fn forget(&mut self, key: &[u8]) -> Option<Rc<Ready>> {
        let ready = self.answers.remove(key)?;
        self.bytes = self.bytes.saturating_sub(key.len() + ready.bytes());
        Some(ready)
    }
}

fn write_key(key: &mut Vec<u8>, is_secure: bool, host: &str, target: &str) {
    key.clear();
    key.push(u8::from(is_secure));
    key.extend_from_slice(host.as_bytes());
    // No host and no target holds a NUL.
    key.push(0);
    key.extend_from_slice(target.as_bytes());
}

#[cfg(test)]
mod tests;
