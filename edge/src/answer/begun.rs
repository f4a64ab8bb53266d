//! An answer that has begun, which a film takes hours for. Before each block is read it is looked whether something was
//! told since it began.
//!
//! Keeps true: what was erased or denied meanwhile ends with the block that is being read. What is read after a hard
//! purge is kept once the object was looked up after it, and where its policy still lets it lie as it did; until then
//! it goes out and lies nowhere.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use sandbox::Tier;

use super::made_of::MadeOf;
use crate::{error::Fault, node::Node, policy::ask::Ask, store::objects::Opened};

/// Between tries to look up what was purged: each may take as long as a look-up, and its viewer waits.
const RETRY: Duration = Duration::from_secs(10);

/// An answer that has begun.
pub(crate) struct Begun {
    made_of: MadeOf,
    /// What its policies were asked.
    ask: Arc<Ask<'static>>,
    /// Where they let its blocks lie.
    tier: Tier,
    /// What blocks are read for.
    file: Arc<Opened>,
    /// Until then what was purged is not looked up.
    waits: Option<Instant>,
}

impl Begun {
    pub(super) fn new(made_of: MadeOf, ask: Arc<Ask<'static>>, tier: Tier) -> Self {
        let file = Arc::clone(&made_of.leaf);
        Self { made_of, ask, tier, file, waits: None }
    }

    /// Whether it goes on without a question.
    pub(crate) fn goes_on(&self, node: &Node) -> bool {
        self.made_of.goes_on(node) && !self.is_kept_nowhere()
    }

    /// Asks whether it goes on, and whether what was purged may be kept again.
    ///
    /// # Errors
    /// [`Fault::Blocked`], [`Fault::Erased`], or the faults of opening what is said to have ended.
    pub(crate) async fn ask_anew(&mut self, node: &Node) -> Result<(), Fault> {
        self.made_of.ask_anew(node).await?;
        if self.is_kept_nowhere() {
            match node.open(self.file.capability(), SystemTime::now()).await {
                Ok(fresh) => {
                    let may_lie = node.hold(&self.made_of.root, &fresh, &self.ask).await;
                    if may_lie == Ok(self.tier) {
                        self.file = fresh;
                    }
                }
                Err(fault @ (Fault::Blocked { .. } | Fault::Erased)) => return Err(fault),
                // A purge ends no answer.
                Err(_) => {}
            }
            // Nodes that are away take long to say so.
            self.waits = Some(Instant::now() + RETRY);
        }
        Ok(())
    }

    /// Returns what blocks are read for.
    pub(crate) fn file(&self) -> &Arc<Opened> {
        &self.file
    }

    /// Whether it was purged, and is to be looked up.
    fn is_kept_nowhere(&self) -> bool {
        self.tier != Tier::None
            && self.file.claim().is_forgotten()
            && self.waits.is_none_or(|until| Instant::now() >= until)
    }
}
