//! Programs: one version of an owner's policy, and the memory of what it said. No IO, no clock: the same facts give the
//! same verdict.
//!
//! The trie is asked first (tens of nanoseconds); a fresh instance runs on a miss (microseconds).

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use sandbox::{Candidate, Chain, Facts, Hook, LinkFault, Steering, Tier, Trie};
use tracing::field::display;

use super::{ask::Ask, decision::Decision, library::Key, said::Said};
use crate::error::Fault;

/// Bytes of remembered decisions of one policy version; when full it forgets all and costs some runs.
const SERVED_BYTES_MAX: usize = 1024 * 1024;
const STEERED_BYTES_MAX: usize = 128 * 1024;
const HELD_BYTES_MAX: usize = 64 * 1024;
/// Lifetime of a DNS answer when the policy has no say in it, in seconds.
const DNS_SECONDS_DEFAULT: u32 = 60;
/// The weight of every edge when the policy has no say in it.
const WEIGHT_DEFAULT: u8 = 100;

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
    /// For objects that none of the edges is known to hold, and for those that one holds: questions about both come in
    /// turns.
    steered: [Mutex<Weights>; 2],
}

/// Weights hang on the edges too, so a memory holds for one set of them.
struct Weights {
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
            steered: [(); 2].map(|()| Mutex::new(Weights { candidates: 0, trie: Trie::new(STEERED_BYTES_MAX) })),
        }
    }

    /// Decides about a request.
    ///
    /// # Errors
    /// [`Fault::Policy`] when a run has no verdict, or the version has expired: nobody is served on a guess.
    pub(crate) fn serve(&self, ask: &Arc<Ask<'static>>) -> Result<Decision, Fault> {
        match self.recall(ask) {
            Some(known) => known,
            None => Ok(self.decision(self.run(ask)?, ask)),
        }
    }

    /// Returns what [`Self::serve`] would, where no run is needed for it.
    pub(crate) fn recall(&self, ask: &Ask<'_>) -> Option<Result<Decision, Fault>> {
        match self.seconds_left(ask) {
            Err(fault) => Some(Err(fault)),
            Ok(_) => Some(Ok(self.decision(self.known(ask)?, ask))),
        }
    }

    fn decision(&self, said: Arc<Said>, ask: &Ask<'_>) -> Decision {
        let decision = Decision::new(said, ask.now());
        // Nobody keeps an answer for longer than its version counts.
        if self.expires == 0 { decision } else { decision.until(self.expires, ask.now) }
    }

    /// Returns what is remembered for these facts.
    pub(crate) fn known(&self, ask: &Ask<'_>) -> Option<Arc<Said>> {
        let trie = self.served.read().unwrap_or_else(PoisonError::into_inner);
        trie.lookup(&self.chain.respondent(ask)).cloned()
    }

    /// Returns whether it is the built-in policy, which never changes.
    pub(crate) fn is_built_in(&self) -> bool {
        self.key.is_none()
    }

    /// Returns what is remembered of where blocks may lie under these facts.
    pub(crate) fn known_tier(&self, ask: &Ask<'_>) -> Option<Tier> {
        if !self.chain.has(Hook::Hold) {
            return Some(Tier::Disk);
        }
        let trie = self.held.read().unwrap_or_else(PoisonError::into_inner);
        trie.lookup(&self.chain.respondent(ask)).copied()
    }

    /// Returns for how many seconds the version still counts; nobody keeps an answer for longer.
    ///
    /// # Errors
    /// [`Fault::Policy`] when it no longer does.
    fn seconds_left(&self, ask: &Ask<'_>) -> Result<u32, Fault> {
        match self.expires {
            0 => Ok(u32::MAX),
            expires if ask.now >= expires => Err(Fault::Policy),
            expires => Ok(u32::try_from(expires - ask.now).unwrap_or(u32::MAX)),
        }
    }

    fn run(&self, ask: &Arc<Ask<'static>>) -> Result<Arc<Said>, Fault> {
        let facts: Arc<dyn Facts> = Arc::clone(ask) as Arc<dyn Facts>;
        let run = self.chain.serve(&facts).map_err(|fault| {
            self.warn(&fault, "policy gave no verdict");
            Fault::Policy
        })?;
        let (trace, said) = match run {
            Some(run) => {
                let said = Said::of(run.verdict, run.effects, &run.trace);
                (run.trace, said)
            }
            // A chain that has no say in serving says yes for as long as the version may stand.
            None => (Vec::new(), Said::allow()),
        };
        let said = Arc::new(said);
        let mut trie = self.served.write().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = trie.insert(&trace, Arc::clone(&said), said.bytes()) {
            tracing::error!(%error, "decisions are not remembered");
            *trie = Trie::new(SERVED_BYTES_MAX);
        }
        Ok(said)
    }

    /// Says where blocks of an object may lie at this edge. A run without a verdict keeps none: that costs reads, where
    /// a guess could keep what the owner forbids.
    pub(crate) fn hold(&self, ask: &Arc<Ask<'static>>) -> Tier {
        if let Some(tier) = self.known_tier(ask) {
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
    pub(crate) fn steer(&self, ask: &Arc<Ask<'static>>, candidates: &[Candidate]) -> Result<Steering, Fault> {
        match self.recall_weights(ask, candidates) {
            Some(known) => known,
            None => Ok(at_most(self.weigh(ask, candidates)?, self.seconds_left(ask)?)),
        }
    }

    /// Returns what [`Self::steer`] would, where no run is needed for it.
    pub(crate) fn recall_weights(&self, ask: &Ask<'_>, candidates: &[Candidate]) -> Option<Result<Steering, Fault>> {
        match self.seconds_left(ask) {
            Err(fault) => Some(Err(fault)),
            Ok(left) => Some(Ok(at_most(self.known_weights(ask, candidates)?, left))),
        }
    }

    fn known_weights(&self, ask: &Ask<'_>, candidates: &[Candidate]) -> Option<Steering> {
        if !self.chain.has(Hook::Steer) {
            return Some(Steering { ttl: DNS_SECONDS_DEFAULT, weights: vec![WEIGHT_DEFAULT; candidates.len()] });
        }
        let steered = self.steered(candidates);
        let known = steered.trie.lookup(&self.chain.respondent(ask));
        known.filter(|_| steered.candidates == fingerprint(candidates)).cloned()
    }

    fn weigh(&self, ask: &Arc<Ask<'static>>, candidates: &[Candidate]) -> Result<Steering, Fault> {
        let fingerprint = fingerprint(candidates);
        let facts: Arc<dyn Facts> = Arc::clone(ask) as Arc<dyn Facts>;
        let run = self.chain.steer(&facts, candidates).map_err(|fault| {
            self.warn(&fault, "policy gave no weights");
            Fault::Policy
        })?;
        let run = run.ok_or(Fault::Policy)?;
        let mut steered = self.steered(candidates);
        if steered.candidates != fingerprint {
            *steered = Weights { candidates: fingerprint, trie: Trie::new(STEERED_BYTES_MAX) };
        }
        if steered.trie.insert(&run.trace, run.verdict.clone(), run.verdict.weights.len()).is_err() {
            steered.trie = Trie::new(STEERED_BYTES_MAX);
        }
        Ok(run.verdict)
    }

    /// Returns the memory of weights for edges like these.
    fn steered(&self, candidates: &[Candidate]) -> MutexGuard<'_, Weights> {
        let is_held = candidates.iter().any(|edge| edge.holds);
        self.steered[usize::from(is_held)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn warn(&self, fault: &LinkFault, what: &'static str) {
        let (owner, policy) = self.key.as_ref().map(|(owner, name)| (display(owner), display(name))).unzip();
        tracing::warn!(owner, policy, link = fault.link.0 + 1, fault = client::causes(&fault.source), "{what}");
    }
}

/// Has weights count for so many seconds at most.
fn at_most(steering: Steering, seconds: u32) -> Steering {
    Steering { ttl: steering.ttl.min(seconds), ..steering }
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
#[path = "../../../sandbox/tests/it/guest.rs"]
mod guest;

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use format::Country;
    use sandbox::{Config, Continent, CountryCode, Engine, EngineOptions, Link};

    use super::{
        guest::{MEMORY, component, component_of_world, serve_wat},
        *,
    };
    use crate::policy::{
        ask::{Client, EdgeFacts},
        places::ViewerPlace,
    };

    static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new(EngineOptions::default()).unwrap());

    fn program_until(component: &[u8], expires: u64) -> Program {
        let admitted = sandbox::admit(component, &[]).unwrap();
        let policy = Arc::new(ENGINE.load(&admitted, &ENGINE.compile(&admitted).unwrap()).unwrap());
        let link = Link { policy, config: Arc::new(Config::default()) };
        Program::new(Chain::new(vec![link]).unwrap(), None, 1, expires)
    }

    /// A policy whose `serve` runs `body`.
    fn serving(body: &str) -> Program {
        program_until(&component(&serve_wat(MEMORY, body)), 0)
    }

    /// Stores a field of the record that `serve` returns.
    fn field(instruction: &str, offset: u32, value: u32) -> String {
        format!("i32.const 0 i32.const {value} {instruction} offset={offset} ")
    }

    /// A body that decides so: the number of an outcome, seconds, bits of marks.
    fn says(outcome: u32, seconds: u32, marks: u32) -> String {
        field("i32.store8", 0, outcome) + &field("i32.store", 8, seconds) + &field("i32.store8", 20, marks)
    }

    /// A policy that allows and whose `hold` runs `body`; the record lies at 0: tier u8 @0, ttl u32 @4.
    fn holding(body: &str) -> Program {
        let wat = format!(
            r#"(module {MEMORY}
                (func (export "evernear:policy/serve@1.0.0#serve") (result i32) i32.const 512)
                (func (export "evernear:policy/hold@1.0.0#hold") (result i32) {body} i32.const 0))"#
        );
        program_until(&component_of_world(&wat, "serve-hold"), 0)
    }

    /// A policy whose `steer` runs `body`; the record lies at 0: ttl u32 @0, weights as pointer @4 and length @8.
    fn steering(body: &str, expires: u64) -> Program {
        let wat = format!(
            r#"(module {MEMORY}
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 4096)
                (func (export "evernear:policy/steer@1.0.0#steer") (param i32 i32) (result i32) {body} i32.const 0))"#
        );
        program_until(&component_of_world(&wat, "steer-only"), expires)
    }

    fn ask(now: u64) -> Arc<Ask<'static>> {
        let country: Country = "BE".parse().unwrap();
        let edge = EdgeFacts { country: CountryCode::UNKNOWN, continent: Continent::Europe, load: 0 };
        let viewer = ViewerPlace::of_country(country);
        Arc::new(Ask { now, viewer, client: Client::UNKNOWN, edge, request: None, object: None, policy: None })
    }

    fn candidates() -> [Candidate; 2] {
        let country = CountryCode::UNKNOWN;
        let edge = Candidate { country, continent: Continent::Europe, region: 0, rtt_ms: 0, load: 0, holds: false };
        [edge.clone(), edge]
    }

    #[test]
    fn a_run_without_a_verdict_serves_nobody_each_time() {
        for body in [
            "unreachable".to_owned(),
            "loop br 0 end".to_owned(),
            "i32.const 0 i32.const 1 i32.const 0 i32.div_u i32.store8".to_owned(),
            // No such outcome; a status of another class; a header set, a target, a rate class that are not in the
            // config.
            field("i32.store8", 0, 6),
            field("i32.store16", 2, 451),
            field("i32.store", 24, 1),
            field("i32.store8", 0, 2),
            field("i32.store8", 30, 1),
        ] {
            let program = serving(&body);
            for _ in 0..3 {
                assert_eq!(program.serve(&ask(9)), Err(Fault::Policy), "{body}");
            }
            // DNS has no say of such a policy; HTTP decides.
            assert_eq!(program.steer(&ask(9), &candidates()).unwrap().weights, [WEIGHT_DEFAULT; 2]);
        }
        assert_eq!(serving("").serve(&ask(9)).unwrap().refusal(), None);
    }

    #[test]
    fn a_run_that_does_not_say_what_may_be_kept_keeps_nothing() {
        let (disk, day) = (field("i32.store8", 0, 2), field("i32.store", 4, 86_400));
        for body in ["unreachable", "loop br 0 end", &field("i32.store8", 0, 3), &disk] {
            assert_eq!(holding(body).hold(&ask(9)), Tier::None, "{body}");
        }
        let memory = field("i32.store8", 0, 1);
        for (body, tier) in [(&disk, Tier::Disk), (&memory, Tier::Memory)] {
            let program = holding(&(body.clone() + &day));
            assert_eq!([program.hold(&ask(9)), program.hold(&ask(9))], [tier; 2]);
        }
        assert_eq!(serving("unreachable").hold(&ask(9)), Tier::Disk, "without the hook there is no say in it");
    }

    #[test]
    fn a_run_without_weights_names_no_edge() {
        for body in ["unreachable", "loop br 0 end", "", &field("i32.store", 8, 1), &field("i32.store", 8, 3)] {
            assert_eq!(steering(body, 0).steer(&ask(9), &candidates()), Err(Fault::Policy), "{body}");
        }
        let weights = format!("{}{}", field("i32.store", 8, 2), field("i32.store8", 1, 1));
        let program = steering(&weights, 0);
        assert_eq!(program.recall_weights(&ask(9), &candidates()), None, "it takes a run");
        let good = program.steer(&ask(9), &candidates()).unwrap();
        assert_eq!(program.recall_weights(&ask(9), &candidates()), Some(Ok(good.clone())));
        assert_eq!(program.recall_weights(&ask(9), &candidates()[..1]), None, "of other edges nothing is known");
        assert_eq!((good.weights, good.ttl), (vec![0, 1], 256));
    }

    #[test]
    fn what_is_known_of_objects_that_an_edge_holds_drives_out_nothing_of_others() {
        let program = steering(&field("i32.store", 8, 2), 0);
        let ([cold, mut held], mut loaded) = ([(); 2].map(|()| candidates()), candidates());
        held[0].holds = true;
        loaded[0].load = 50;
        for edges in [&cold, &held] {
            program.steer(&ask(9), edges).unwrap();
        }
        let is_known = |edges: &[Candidate]| program.recall_weights(&ask(9), edges).is_some();
        assert!(is_known(&cold) && is_known(&held));
        // What is true of all objects alike makes the memory another.
        program.steer(&ask(9), &loaded).unwrap();
        assert!(is_known(&loaded) && !is_known(&cold) && is_known(&held));
    }

    #[test]
    fn a_version_decides_until_it_ends_and_nobody_keeps_an_answer_for_longer() {
        let hour = component(&serve_wat(MEMORY, &says(0, 3600, 0)));
        let program = program_until(&hour, 10_000);
        let seconds = |now| program.serve(&ask(now)).map(|decision| decision.viewer_seconds);
        assert_eq!((seconds(6_200), seconds(6_401), seconds(9_999)), (Ok(3600), Ok(3584), Ok(1)));
        assert_eq!((seconds(10_000), seconds(u64::MAX)), (Err(Fault::Policy), Err(Fault::Policy)));
        let ttl = |now| program.steer(&ask(now), &candidates()).map(|steering| steering.ttl);
        assert_eq!((ttl(9_000), ttl(9_999), ttl(10_000)), (Ok(DNS_SECONDS_DEFAULT), Ok(1), Err(Fault::Policy)));
        let weights = field("i32.store", 8, 2) + &field("i32.store", 0, 200);
        let program = steering(&weights, 10_000);
        let ttl = |now| program.steer(&ask(now), &candidates()).map(|steering| steering.ttl);
        assert_eq!((ttl(9_000), ttl(9_900), ttl(9_950), ttl(10_000)), (Ok(200), Ok(100), Ok(50), Err(Fault::Policy)));
        // Nor is it a policy without a say that opens what has ended.
        assert_eq!(program.serve(&ask(9_998)).map(|decision| decision.viewer_seconds), Ok(2));
        assert_eq!(program.serve(&ask(10_000)), Err(Fault::Policy));
        assert_eq!(program_until(&hour, 0).serve(&ask(u64::MAX)).map(|it| it.viewer_seconds), Ok(3600));
    }

    #[test]
    fn of_two_decisions_the_first_refusal_decides_and_what_both_restrict_adds_up() {
        const ALLOW: u32 = 0;
        const DENY: u32 = 1;
        const HIDE: u32 = 4;
        let decide = |outcome, seconds, marks| serving(&says(outcome, seconds, marks)).serve(&ask(9)).unwrap();
        let both = |first: (u32, u32, u32), then: (u32, u32, u32)| {
            decide(first.0, first.1, first.2).and(&decide(then.0, then.1, then.2))
        };
        let (denied, hidden) = (Some(Fault::Denied { status: 403 }), Some(Fault::Unknown));
        for (first, then, refusal, seconds) in [
            ((ALLOW, 60, 0), (ALLOW, 70, 0), None, 60),
            ((ALLOW, 70, 0), (ALLOW, 60, 0), None, 60),
            ((DENY, 70, 0), (ALLOW, 60, 0), denied.clone(), 60),
            ((ALLOW, 60, 0), (DENY, 70, 0), denied.clone(), 60),
            ((HIDE, 60, 0), (DENY, 70, 0), hidden, 60),
            ((DENY, 60, 0), (HIDE, 70, 0), denied, 60),
        ] {
            let joined = both(first, then);
            assert_eq!((joined.refusal(), joined.viewer_seconds), (refusal, seconds), "{first:?} {then:?}");
        }
        // Bits: immutable 1, private 2, no-store 4. Whichever policy says it, it holds.
        for (first, then, says) in [
            (4, 1, "no-store"),
            (1, 4, "no-store"),
            (2, 0, "private, max-age=60"),
            (0, 2, "private, max-age=60"),
            (0, 0, "public, max-age=60"),
        ] {
            assert_eq!(both((ALLOW, 60, first), (ALLOW, 60, then)).cache_control(), says, "{first} {then}");
        }
    }
}
