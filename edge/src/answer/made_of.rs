//! What an answer is made of: the name, the records, the policies and the denylist that it goes by. Any of it may
//! change while the answer waits: for origins, for a turn of a policy, for its viewer.
//!
//! Keeps true: no answer begins by what counts no more, as far as this edge was told. An answer that may be given again
//! hangs on the same.

use std::{
    cell::RefCell,
    iter,
    sync::Arc,
    time::{Instant, SystemTime},
};

use bytes::Bytes;

use super::{
    conditions::Validators,
    ready::{Ready, Seen, Stored, Words},
};
use crate::{
    clock,
    error::Fault,
    node::{Node, Root},
    policy::{ask::Ask, epochs::Epoch},
    store::{
        names::{Hold, Named},
        objects::Opened,
    },
};

/// What an answer is made of.
pub(super) struct MadeOf {
    seen: Seen,
    /// What says that the label stands for the root, where that may change.
    named: Option<Arc<Named>>,
    pub(super) root: Arc<Opened>,
    /// The directories on the way.
    trail: Vec<Arc<Opened>>,
    /// What the path leads to; the root where it leads nowhere.
    pub(super) leaf: Arc<Opened>,
    /// Of the policy of that.
    of_leaf: Epoch,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    Fault(Fault),
    /// What it is made of changed meanwhile: it is to be made anew.
    Changed,
}

impl From<Fault> for NoAnswer {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl MadeOf {
    pub(super) fn new(node: &Node, seen: Seen, root: Root, trail: Vec<Arc<Opened>>, leaf: Arc<Opened>) -> Self {
        let of_leaf = node.policies.epoch(&leaf.record.lease.owner, &leaf.record.lease.policy);
        let Root { opened: root, named } = root;
        Self { seen, named, root, trail, leaf, of_leaf }
    }

    /// Returns for how long the label stands for the root, where it may stand for another object later.
    pub(super) fn moves(&self) -> Option<Hold> {
        self.named.as_ref().map(|named| named.hold())
    }

    /// Returns the second since 1970 at which the first of it ends.
    pub(super) fn ends(&self) -> Option<u64> {
        let leases = self.opened().filter_map(|opened| opened.ends());
        leases.chain(self.moves().map(|hold| hold.ends)).min()
    }

    fn opened(&self) -> impl Iterator<Item = &Arc<Opened>> {
        self.trail.iter().chain([&self.root, &self.leaf])
    }

    /// Looks at all of it after a wait, and returns the second since 1970 from which an answer counts. Asks no node.
    ///
    /// # Errors
    /// [`NoAnswer::Changed`], or the fault of what ended by itself meanwhile.
    pub(super) fn look_again(&self, node: &Node) -> Result<u64, NoAnswer> {
        let is_new = |epoch| node.policies.is_over(epoch);
        if self.is_list_new(node)
            || is_new(self.seen.epoch)
            || is_new(self.of_leaf)
            || self.named.as_ref().is_some_and(|named| !node.names.counts(named))
            || self.opened().any(|opened| !node.objects.counts(opened))
        {
            return Err(NoAnswer::Changed);
        }
        let now = SystemTime::now();
        if let Some(named) = &self.named {
            named.pointer(now)?;
        }
        for opened in self.opened() {
            opened.check_lease(now)?;
        }
        Ok(clock::unix_seconds(now))
    }

    /// Whether an answer that has begun goes on without a question: nothing was told that may end it.
    pub(super) fn goes_on(&self, node: &Node) -> bool {
        !self.is_list_new(node) && self.opened().all(|opened| !opened.claim().is_ended())
    }

    /// Asks whether it goes on, where it does not without that. The feed's word for an end is nobody's signature: what
    /// nodes have decides, as for those who come now.
    ///
    /// # Errors
    /// [`Fault::Blocked`], [`Fault::Erased`], or the faults of opening what is said to have ended.
    pub(super) async fn ask_anew(&mut self, node: &Node) -> Result<(), Fault> {
        let denylist = Arc::downgrade(&node.denylist.load());
        if let Some(named) = &self.named {
            node.check_denylist(&named.locator())?;
        }
        for opened in self.trail.iter_mut().chain([&mut self.root, &mut self.leaf]) {
            node.check_denylist(&opened.object.locator())?;
            if opened.claim().is_ended() {
                *opened = node.open(opened.capability(), SystemTime::now()).await?;
            }
        }
        self.seen.denylist = denylist;
        Ok(())
    }

    fn is_list_new(&self, node: &Node) -> bool {
        self.seen.denylist.as_ptr() != Arc::as_ptr(&node.denylist.load())
    }

    /// Returns an answer as it may be given again, where one policy alone decides about it.
    pub(super) async fn ready(self, node: &Node, ask: &Ask<'_>, words: Words, validators: Validators) -> Option<Ready> {
        let about = ask.request.as_ref().filter(|about| about.token.is_none())?;
        let program = node.sole_program(&self.root, &self.leaf).await?;
        // What is not remembered would not be found again.
        program.known(ask).filter(|said| Arc::ptr_eq(said, &words.said))?;
        let content = match (self.leaf.object.inline(), self.leaf.object.geometry()) {
            (Some(inline), _) => Stored::Inline(Bytes::copy_from_slice(inline)),
            (None, Some(geometry)) => Stored::Blocks(geometry),
            (None, None) => return None,
        };
        let mut trail = Vec::with_capacity(self.trail.len() + 1);
        let mut fresh_until = node.objects.fresh_until(&self.leaf);
        for opened in self.trail.iter().chain(iter::once(&self.leaf)) {
            trail.push((Arc::downgrade(opened), node.objects.watch(opened).await?));
            fresh_until = fresh_until.min(node.objects.fresh_until(opened));
        }
        if fresh_until <= Instant::now() {
            return None;
        }
        Some(Ready {
            fresh_until,
            alive_until: self.ends().unwrap_or(u64::MAX),
            trail,
            program: Arc::downgrade(&program),
            seen: self.seen,
            file: self.leaf,
            is_secure: about.is_secure,
            host: about.host.to_string(),
            path: about.path.to_string(),
            query: about.query.to_string(),
            content,
            validators,
            words: RefCell::new(vec![words]),
        })
    }
}
