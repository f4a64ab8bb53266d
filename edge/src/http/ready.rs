//! Answers that are ready: what a worker made once for a host and a target, and gives again without asking anybody, for
//! as long as nothing that it hangs on has changed.
//!
//! Keeps true: what is given from here is what [`answer`](super::answer) would make now, but for the seconds of its
//! clock. An owner's policy is asked for each request; only its words are kept.

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
use format::{Geometry, Locator};
use http::HeaderMap;
use sandbox::{Method, Tier};

use super::head::Head;
use crate::{
    ask::{Ask, EdgeFacts, Fields, RequestFacts},
    decide::{Program, Said},
    denylist::Denylist,
    node::Node,
    objects::Opened,
    places::ViewerPlace,
    records::Watch,
};

/// Targets that a worker keeps answers for, and the bytes that they may take: each of two generations has half of them.
const READY_MAX: usize = 8192;
const READY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// What an answer takes beside its head and its content, about.
const READY_BYTES: usize = 1024;
/// Different words of the owner's policy that are kept for one target.
const HEADS_MAX: usize = 16;

/// An answer with all of a file's content, and what it hangs on.
pub(super) struct Ready {
    pub(super) file: Arc<Opened>,
    /// Of the file, and of every directory on the way to it.
    pub(super) watches: Vec<Watch>,
    /// Until when no record of these is to be looked up again.
    pub(super) fresh_until: Instant,
    /// The second since 1970 at which the first lease of these ends.
    pub(super) alive_until: u64,
    pub(super) program: Weak<Program>,
    pub(super) seen: Seen,
    /// The facts of the request that are the same for all who ask for this target.
    pub(super) is_secure: bool,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) content: Stored,
    pub(super) words: RefCell<Vec<Words>>,
}

/// What an answer hangs on as a whole, taken before anything was asked for it. Nothing is kept alive by it.
#[derive(Clone)]
pub(super) struct Seen {
    denylist: Weak<Denylist>,
    policies: u64,
}

impl Seen {
    pub(super) fn of(node: &Node) -> Self {
        Self { denylist: Arc::downgrade(&node.denylist.load()), policies: node.policies.epoch() }
    }

    fn counts(&self, node: &Node, program: &Program) -> bool {
        (program.is_built_in() || self.policies == node.policies.epoch())
            && self.denylist.as_ptr() == Arc::as_ptr(&node.denylist.load())
    }
}

/// Where the content is.
pub(super) enum Stored {
    /// Here.
    Inline(Bytes),
    /// In the cache of blocks, as the one block of its object.
    Block(Geometry),
}

/// The head of an answer under one verdict of the owner's policy.
pub(super) struct Words {
    pub(super) said: Arc<Said>,
    /// The second since 1970 from which the head would be another.
    pub(super) until: u64,
    pub(super) lasting: Lasting,
}

/// What is the same in the heads of an answer for all who get it: all but the date and the request's name. HTTP/1.1
/// sends the bytes, which begin with the status line.
#[derive(Clone)]
pub(super) struct Lasting {
    pub(super) head: Bytes,
    pub(super) fields: Arc<HeaderMap>,
}

/// An answer that is given.
pub(super) struct Given {
    pub(super) lasting: Lasting,
    pub(super) content: Bytes,
    pub(super) locator: Locator,
}

/// Who asks, as far as answers hang on it.
pub(super) struct Asker {
    pub(super) peer: IpAddr,
    pub(super) place: ViewerPlace,
    pub(super) is_secure: bool,
}

/// The moment, and what the edge is at it.
#[derive(Clone, Copy)]
pub(super) struct Present {
    pub(super) now: Instant,
    /// Since 1970.
    pub(super) seconds: u64,
    pub(super) edge: EdgeFacts,
}

impl Ready {
    fn bytes(&self) -> usize {
        let words: usize = self.words.borrow().iter().map(|words| 3 * words.lasting.head.len()).sum();
        let content = if let Stored::Inline(bytes) = &self.content { bytes.len() } else { 0 };
        READY_BYTES + words + content + self.host.len() + self.path.len() + self.query.len()
    }

    /// Whether it is of the same record of the same file, under the same version of its policy.
    fn is_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.file, &other.file) && self.program.ptr_eq(&other.program)
    }

    fn counts(&self, present: &Present) -> bool {
        self.watches.iter().all(|watch| !watch.is_over())
            && present.now < self.fresh_until
            && present.seconds < self.alive_until
    }

    fn give(&self, node: &Node, head: &Head<'_>, asker: &Asker, present: &Present) -> Option<Given> {
        let ask = Ask {
            now: present.seconds,
            viewer: asker.place,
            ipv6: asker.peer.is_ipv6(),
            edge: present.edge,
            request: Some(RequestFacts {
                method: if head.is_head { Method::Head } else { Method::Get },
                is_secure: asker.is_secure,
                range: false,
                host: Cow::Borrowed(&self.host),
                path: Cow::Borrowed(&self.path),
                query: Cow::Borrowed(&self.query),
                fields: Fields::Parsed(head.fields),
                token: None,
            }),
            object: Some(Arc::clone(&self.file.object)),
        };
        let program = self.program.upgrade().filter(|program| self.seen.counts(node, program))?;
        let said = program.known(&ask)?;
        let words = self.words.borrow();
        let words = words.iter().find(|words| Arc::ptr_eq(&words.said, &said) && present.seconds < words.until)?;
        let content = match &self.content {
            Stored::Inline(bytes) if !head.is_head => bytes.clone(),
            Stored::Inline(_) => Bytes::new(),
            Stored::Block(geometry) => {
                let tier = program.known_tier(&ask).filter(|tier| *tier != Tier::None)?;
                let block = node.fills.held(&self.file, *geometry, geometry.block_at(0), tier)?;
                if block.len() as u64 != self.file.object.length() {
                    return None;
                }
                if head.is_head {
                    Bytes::new()
                } else {
                    self.file.begin();
                    block
                }
            }
        };
        Some(Given { lasting: words.lasting.clone(), content, locator: self.file.object.locator() })
    }
}

/// The answers of one worker, found by the door, the host and the target as they came. Two generations: what is asked
/// for moves to the young one, and when that is full the old one is forgotten.
#[derive(Default)]
pub(super) struct Answers {
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
    /// Returns the answer to a request that no condition and no range changes; none when it has to be made.
    pub(super) fn give(&mut self, node: &Node, head: &Head<'_>, asker: &Asker, present: &Present) -> Option<Given> {
        if !head.is_plain {
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
    pub(super) fn insert(&mut self, host: &str, target: &str, ready: Ready) {
        write_key(&mut self.key, ready.is_secure, host, target);
        self.old.forget(&self.key);
        if let Some(held) = self.young.forget(&self.key).filter(|held| held.is_of(&ready)) {
            let mut others = held.words.take();
            let mut words = ready.words.borrow_mut();
            others.retain(|held| words.iter().all(|new| !Arc::ptr_eq(&held.said, &new.said)));
            others.truncate(HEADS_MAX - words.len());
            words.append(&mut others);
        }
        let key = self.key.as_slice().into();
        self.keep(key, Rc::new(ready));
    }

    fn keep(&mut self, key: Box<[u8]>, ready: Rc<Ready>) -> &Rc<Ready> {
        let bytes = key.len() + ready.bytes();
        let is_full = self.young.answers.len() >= READY_MAX / 2 || self.young.bytes + bytes > READY_BYTES_MAX / 2;
        if is_full {
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
