//! Decisions: one version of an owner's policy, what it says of a request, and the memory of what it said. No IO, no clock:
//! the same facts give the same verdict.
//!
//! The trie is asked first (tens of nanoseconds); a fresh instance runs on a miss (microseconds).

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use sandbox::{
    Area, Asked, Candidate, Chain, Effect, Facts, Hook, LinkFault, Marks, Outcome, Served, Steering, Tier, Trie,
    valid_until,
};

use tracing::field::display;

use crate::{
    ask::Ask,
    error::{Fault, causes},
    policies::Key,
};

/// Bytes of remembered decisions of one policy version; when full it forgets all and costs some runs.
const SERVED_BYTES_MAX: usize = 1024 * 1024;
const STEERED_BYTES_MAX: usize = 256 * 1024;
const HELD_BYTES_MAX: usize = 64 * 1024;
/// Lifetime of a DNS answer when the policy has no say in it, in seconds.
const DNS_SECONDS_DEFAULT: u32 = 60;
/// The weight of every edge when the policy has no say in it.
const WEIGHT_DEFAULT: u8 = 100;

/// A decision about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) served: Arc<Said>,
    /// Seconds the viewer may keep the answer, already cut at the second when the decision itself turns.
    pub(crate) viewer_seconds: u32,
}

/// What the policy said, as remembered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) served: Served,
    pub(crate) effects: Vec<Effect>,
    /// The questions whose answers the clock turns.
    timed: Vec<Asked>,
}

/// One version of a policy, ready to decide.
pub(crate) struct Program {
    chain: Chain,
    /// Whose it is, for the log; none of the built-in one.
    key: Option<Key>,
    /// The version's number, which only grows.
    pub(crate) sequence: u64,
    /// Seconds since 1970 from which it no longer counts; zero for never.
    pub(crate) expires: u64,
    served: RwLock<Trie<Arc<Said>>>,
    held: RwLock<Trie<Tier>>,
    steered: Mutex<Steered>,
}

/// Weights hang on the edges too, so a memory holds for one set of them.
struct Steered {
    candidates: u64,
    trie: Trie<Steering>,
}

impl Program {
    pub(crate) fn new(chain: Chain, key: Option<Key>, sequence: u64, expires: u64) -> Self {
        Self {
            chain,
            key,
            sequence,
            expires,
            served: RwLock::new(Trie::new(SERVED_BYTES_MAX)),
            held: RwLock::new(Trie::new(HELD_BYTES_MAX)),
            steered: Mutex::new(Steered { candidates: 0, trie: Trie::new(STEERED_BYTES_MAX) }),
        }
    }

    /// Decides about a request.
    ///
    /// # Errors
    /// [`Fault::Policy`] when a run has no verdict, or the version has expired: nobody is served on a guess.
    pub(crate) fn serve(&self, ask: &Arc<Ask>) -> Result<Decision, Fault> {
        if self.expires != 0 && ask.now >= self.expires {
            return Err(Fault::Policy);
        }
        let known = {
            let trie = self.served.read().unwrap_or_else(PoisonError::into_inner);
            trie.lookup(&self.chain.respondent(&**ask)).cloned()
        };
        let said = match known {
            Some(said) => said,
            None => self.run(ask)?,
        };
        Ok(Decision::new(said, ask.now()))
    }

    fn run(&self, ask: &Arc<Ask>) -> Result<Arc<Said>, Fault> {
        let facts: Arc<dyn Facts> = Arc::clone(ask) as Arc<dyn Facts>;
        let run = self.chain.serve(&facts).map_err(|fault| {
            self.warn(&fault, "policy gave no verdict");
            Fault::Policy
        })?;
        // A chain that has no say in serving says yes for as long as the version may stand.
        let Some(run) = run else { return Ok(Arc::new(Said::allow())) };
        let timed = run.trace.iter().filter(|asked| asked.question.area() == Area::Time).cloned().collect();
        let said = Arc::new(Said { served: run.verdict, effects: run.effects, timed });
        let mut trie = self.served.write().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = trie.insert(&run.trace, Arc::clone(&said), said.bytes()) {
            tracing::error!(%error, "decisions are not remembered");
            *trie = Trie::new(SERVED_BYTES_MAX);
        }
        Ok(said)
    }

    /// Says where blocks of an object may lie at this edge. A run without a verdict keeps none: that costs reads, where a guess
    /// could keep what the owner forbids.
    pub(crate) fn hold(&self, ask: &Arc<Ask>) -> Tier {
        if !self.chain.has(Hook::Hold) {
            return Tier::Disk;
        }
        let known = {
            let trie = self.held.read().unwrap_or_else(PoisonError::into_inner);
            trie.lookup(&self.chain.respondent(&**ask)).copied()
        };
        if let Some(tier) = known {
            return tier;
        }
        let facts: Arc<dyn Facts> = Arc::clone(ask) as Arc<dyn Facts>;
        let run = match self.chain.hold(&facts) {
            Ok(Some(run)) => run,
            Ok(None) => return Tier::Disk,
            Err(fault) => {
                self.warn(&fault, "policy did not say what may be kept");
                return Tier::None;
            }
        };
        let tier = if run.verdict.ttl == 0 { Tier::None } else { run.verdict.tier };
        let mut trie = self.held.write().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = trie.insert(&run.trace, tier, 0) {
            tracing::error!(%error, "decisions are not remembered");
            *trie = Trie::new(HELD_BYTES_MAX);
        }
        tier
    }

    /// Weighs the edges that DNS could answer with.
    ///
    /// # Errors
    /// As [`Self::serve`].
    pub(crate) fn steer(&self, ask: &Arc<Ask>, candidates: &[Candidate]) -> Result<Steering, Fault> {
        if self.expires != 0 && ask.now >= self.expires {
            return Err(Fault::Policy);
        }
        if !self.chain.has(Hook::Steer) {
            return Ok(Steering { ttl: DNS_SECONDS_DEFAULT, weights: vec![WEIGHT_DEFAULT; candidates.len()] });
        }
        let fingerprint = fingerprint(candidates);
        {
            let steered = self.steered.lock().unwrap_or_else(PoisonError::into_inner);
            if steered.candidates == fingerprint
                && let Some(known) = steered.trie.lookup(&self.chain.respondent(&**ask))
            {
                return Ok(known.clone());
            }
        }
        let facts: Arc<dyn Facts> = Arc::clone(ask) as Arc<dyn Facts>;
        let run = self.chain.steer(&facts, candidates).map_err(|fault| {
            self.warn(&fault, "policy gave no weights");
            Fault::Policy
        })?;
        let run = run.ok_or(Fault::Policy)?;
        let mut steered = self.steered.lock().unwrap_or_else(PoisonError::into_inner);
        if steered.candidates != fingerprint {
            *steered = Steered { candidates: fingerprint, trie: Trie::new(STEERED_BYTES_MAX) };
        }
        if steered.trie.insert(&run.trace, run.verdict.clone(), run.verdict.weights.len()).is_err() {
            steered.trie = Trie::new(STEERED_BYTES_MAX);
        }
        Ok(run.verdict)
    }

    fn warn(&self, fault: &LinkFault, what: &'static str) {
        let (owner, policy) = self.key.as_ref().map(|(owner, name)| (display(owner), display(name))).unzip();
        tracing::warn!(owner, policy, link = fault.link.0 + 1, fault = causes(&fault.source), "{what}");
    }
}

impl Decision {
    fn new(served: Arc<Said>, now: u32) -> Self {
        let turns = valid_until(&served.timed, now).map_or(u32::MAX, |turns| turns.saturating_sub(now));
        Self { viewer_seconds: served.served.client_ttl.min(turns), served }
    }

    /// Joins the decisions of a directory's policy and of the policy of the object in it: the first refusal decides, the
    /// shorter lifetime holds.
    pub(crate) fn and(self, then: Self) -> Self {
        let seconds = self.viewer_seconds.min(then.viewer_seconds);
        let decides = if self.served.served.outcome == Outcome::Allow { then } else { self };
        Self { viewer_seconds: seconds, ..decides }
    }

    pub(crate) fn marks(&self) -> Marks {
        self.served.served.marks
    }

    /// Returns the refusal, if it is one that is not a redirect.
    pub(crate) fn refusal(&self) -> Option<Fault> {
        let status = self.served.served.status;
        match self.served.served.outcome {
            Outcome::Allow | Outcome::Redirect => None,
            Outcome::Hide => Some(Fault::Unknown),
            Outcome::Deny | Outcome::Challenge | Outcome::Unavailable => Some(Fault::Denied { status }),
        }
    }

    /// Returns where to redirect to, with the status.
    pub(crate) fn redirect(&self) -> Option<(u16, &str)> {
        let served = &self.served.served;
        (served.outcome == Outcome::Redirect)
            .then(|| served.target.as_deref().map(|target| (served.status, target)))
            .flatten()
    }

    /// Returns the Cache-Control of the answer.
    pub(crate) fn cache_control(&self) -> String {
        let marks = self.marks();
        if marks.contains(Marks::NO_STORE) {
            return "no-store".to_owned();
        }
        let mut text = if marks.contains(Marks::PRIVATE) { "private".to_owned() } else { "public".to_owned() };
        text.push_str(&format!(", max-age={}", self.viewer_seconds));
        let served = &self.served.served;
        for (name, seconds) in
            [("stale-while-revalidate", served.stale_revalidate), ("stale-if-error", served.stale_error)]
        {
            if seconds > 0 {
                text.push_str(&format!(", {name}={seconds}"));
            }
        }
        for (mark, name) in [(Marks::IMMUTABLE, "immutable"), (Marks::NO_TRANSFORM, "no-transform")] {
            if marks.contains(mark) {
                text.push_str(", ");
                text.push_str(name);
            }
        }
        text
    }
}

impl Said {
    fn allow() -> Self {
        let served = Served {
            outcome: Outcome::Allow,
            link: sandbox::LinkIndex(0),
            status: 200,
            reason: 0,
            client_ttl: 3600,
            stale_revalidate: 0,
            stale_error: 0,
            marks: Marks::empty(),
            headers: Vec::new(),
            target: None,
            rate_class: None,
        };
        Self { served, effects: Vec::new(), timed: Vec::new() }
    }

    /// What it holds on the heap, about.
    fn bytes(&self) -> usize {
        let headers: usize =
            self.served.headers.iter().map(|header| header.name().len() + header.value().len() + 48).sum();
        size_of::<Self>() + headers + self.effects.len() * 128 + self.timed.len() * size_of::<Asked>()
    }
}

fn fingerprint(candidates: &[Candidate]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for edge in candidates {
        (edge.country.packed(), edge.continent as u8, edge.region, edge.rtt_ms, edge.load, edge.holds)
            .hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
impl Decision {
    /// Allows, and says this beside it.
    pub(crate) fn allowing(headers: Vec<sandbox::Header>, effects: Vec<Effect>, marks: Marks) -> Self {
        let Said { served, timed, .. } = Said::allow();
        Self::new(Arc::new(Said { served: Served { headers, marks, ..served }, effects, timed }), 0)
    }
}
