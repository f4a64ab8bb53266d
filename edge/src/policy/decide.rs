//! Decisions: one version of an owner's policy, what it says of a request, and the memory of what it said. No IO, no
//! clock: the same facts give the same verdict.
//!
//! The trie is asked first (tens of nanoseconds); a fresh instance runs on a miss (microseconds).

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use sandbox::{
    Area, Asked, Candidate, Chain, Effect, Facts, Hook, LinkFault, Marks, Outcome, Question, Served, Steering, Tier,
    Trie, valid_until,
};

use tracing::field::display;

use super::{ask::Ask, library::Key};
use crate::error::{Fault, causes};

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
    /// The second since 1970 at which the decision itself turns.
    turns: u64,
    /// Seconds that the answer may be kept stale at most: what turns, or ends, is not shown after that.
    stale_seconds: u32,
    /// The second since 1970 from which nothing is served here: no answer is kept for longer.
    ends: u64,
    /// Whether the address may show something else, or nothing, before `viewer_seconds` would have passed: then no
    /// answer is immutable.
    moves: bool,
}

/// What the policy said, as remembered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) served: Served,
    pub(crate) effects: Vec<Effect>,
    /// The questions whose answers the clock turns.
    timed: Vec<Asked>,
    /// The fields of the request that it hung on, in small letters and in order.
    vary: Vec<Box<str>>,
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
    pub(crate) fn serve(&self, ask: &Arc<Ask<'static>>) -> Result<Decision, Fault> {
        self.seconds_left(ask)?;
        let said = match self.known(ask) {
            Some(said) => said,
            None => self.run(ask)?,
        };
        let decision = Decision::new(said, ask.now());
        // Nobody keeps an answer for longer than its version counts.
        Ok(if self.expires == 0 { decision } else { decision.until(self.expires, ask.now) })
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
        let left = self.seconds_left(ask)?;
        let steering = self.weigh(ask, candidates)?;
        Ok(Steering { ttl: steering.ttl.min(left), ..steering })
    }

    fn weigh(&self, ask: &Arc<Ask<'static>>, candidates: &[Candidate]) -> Result<Steering, Fault> {
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
        let turns = valid_until(&served.timed, now);
        let left = turns.map_or(u32::MAX, |turns| turns.saturating_sub(now));
        let stale_seconds = if turns.is_some() { 0 } else { u32::MAX };
        let viewer_seconds = served.served.client_ttl.min(left);
        let turns = u64::from(now) + u64::from(left);
        Self { viewer_seconds, served, turns, stale_seconds, ends: u64::MAX, moves: false }
    }

    /// Returns the second since 1970 from which its words to the viewer are others, at `now`.
    pub(crate) fn says_so_until(&self, now: u32) -> u64 {
        let fresh = u64::from(self.viewer_seconds);
        let stale = self.stale().into_iter().map(|(_, seconds)| seconds).max().unwrap_or(0);
        let ends = self.ends.saturating_sub(fresh + u64::from(stale));
        self.turns.saturating_sub(fresh).min(ends).max(u64::from(now) + 1)
    }

    /// Joins the decisions of a directory's policy and of the policy of the object in it, as the links of one policy
    /// are joined: the first refusal decides, the shorter lifetime holds, what both say of caches and headers adds up.
    pub(crate) fn and(self, then: &Self) -> Self {
        let viewer_seconds = self.viewer_seconds.min(then.viewer_seconds);
        if self.served.served.outcome != Outcome::Allow {
            return Self { viewer_seconds, ..self };
        }
        let served = self.served.served.clone().and(then.served.served.clone());
        let effects = [&self.served.effects[..], &then.served.effects].concat();
        let timed = [&self.served.timed[..], &then.served.timed].concat();
        let vary = in_order([&self.served.vary[..], &then.served.vary].concat());
        let (turns, moves) = (self.turns.min(then.turns), self.moves || then.moves);
        let (stale_seconds, ends) = (self.stale_seconds.min(then.stale_seconds), self.ends.min(then.ends));
        let served = Arc::new(Said { served, effects, timed, vary });
        Self { served, viewer_seconds, turns, stale_seconds, ends, moves }
    }

    /// The same for an answer to a link that ends in so many seconds: what it opens is not kept for longer.
    pub(crate) fn of_link(self, seconds: u32) -> Self {
        Self { viewer_seconds: self.viewer_seconds.min(seconds), stale_seconds: 0, ..self }
    }

    /// The same for an answer under a stable name, which its owner lets be kept for so many seconds at most.
    pub(crate) fn of_name(self, seconds: u32) -> Self {
        let viewer_seconds = self.viewer_seconds.min(seconds);
        Self { viewer_seconds, stale_seconds: self.stale_seconds.min(viewer_seconds), moves: true, ..self }
    }

    /// The same for an answer of what is served no more from the second `end` since 1970 on, which comes after `now`:
    /// fresh or stale, no cache is told that it may keep it for longer.
    pub(crate) fn until(self, end: u64, now: u64) -> Self {
        let left = rounded(u32::try_from(end.saturating_sub(now)).unwrap_or(u32::MAX));
        let viewer_seconds = self.viewer_seconds.min(left);
        let stale_seconds = self.stale_seconds.min(left - viewer_seconds);
        let moves = self.moves || left < self.viewer_seconds;
        Self { viewer_seconds, stale_seconds, ends: self.ends.min(end), moves, ..self }
    }

    pub(crate) fn marks(&self) -> Marks {
        self.served.served.marks
    }

    /// Returns the refusal, if it is one that is not a redirect. A redirect to nowhere is one: it must not end as a
    /// yes.
    pub(crate) fn refusal(&self) -> Option<Fault> {
        let status = self.served.served.status;
        match self.served.served.outcome {
            Outcome::Allow => None,
            Outcome::Redirect => self.redirect().is_none().then_some(Fault::Policy),
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

    /// Returns the fields of the request that the answer hung on, as Vary has them; empty for none.
    //= https://www.rfc-editor.org/rfc/rfc9110#section-12.5.5
    //# An origin server SHOULD generate a Vary header field on a cacheable response when it wishes that response to be
    //# selectively reused for subsequent requests.
    pub(crate) fn vary(&self) -> String {
        self.served.vary.join(", ")
    }

    /// Returns the Cache-Control of the answer.
    pub(crate) fn cache_control(&self) -> String {
        let marks = self.marks();
        if marks.contains(Marks::NO_STORE) {
            return "no-store".to_owned();
        }
        let mut text = if marks.contains(Marks::PRIVATE) { "private".to_owned() } else { "public".to_owned() };
        text.push_str(&format!(", max-age={}", self.viewer_seconds));
        for (name, seconds) in self.stale() {
            if seconds > 0 {
                text.push_str(&format!(", {name}={seconds}"));
            }
        }
        for (mark, name) in [(Marks::IMMUTABLE, "immutable"), (Marks::NO_TRANSFORM, "no-transform")] {
            if marks.contains(mark) && !(self.moves && mark == Marks::IMMUTABLE) {
                text.push_str(", ");
                text.push_str(name);
            }
        }
        text
    }

    /// Returns for how many seconds the answer may be kept stale, each with its name in Cache-Control.
    fn stale(&self) -> [(&'static str, u32); 2] {
        let served = &self.served.served;
        [("stale-while-revalidate", served.stale_revalidate), ("stale-if-error", served.stale_error)]
            .map(|(name, seconds)| (name, seconds.min(self.stale_seconds)))
    }
}

/// Returns a little less than so many seconds, by 1/32 at most: what is told of an end that comes nearer stays the same
/// for a while, so that ready answers do.
fn rounded(seconds: u32) -> u32 {
    let bits = (seconds / 32).max(1).ilog2();
    seconds >> bits << bits
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
        Self::of(served, Vec::new(), &[])
    }

    /// What hung on who the viewer is, which no field of a request tells, no cache may show to another.
    //= https://www.rfc-editor.org/rfc/rfc9111#section-5.2.2.7
    //# The unqualified private response directive indicates that a shared cache MUST NOT store the response
    fn of(mut served: Served, effects: Vec<Effect>, trace: &[Asked]) -> Self {
        let timed = trace.iter().filter(|asked| asked.question.area() == Area::Time).cloned().collect();
        let mut vary = Vec::new();
        for Asked { question, .. } in trace {
            match question {
                Question::RequestHeaderIs(name, _)
                | Question::RequestHeaderHas(name, _)
                | Question::RequestHeader(name, _) => vary.push(name.to_ascii_lowercase().into()),
                Question::RequestReferer => vary.push("referer".into()),
                Question::RequestToken | Question::RequestTokenClaim(_) => served.marks |= Marks::PRIVATE,
                question if question.area() == Area::Client => served.marks |= Marks::PRIVATE,
                _ => {}
            }
        }
        Self { served, effects, timed, vary: in_order(vary) }
    }

    /// What it holds on the heap, about.
    fn bytes(&self) -> usize {
        let headers: usize =
            self.served.headers.iter().map(|header| header.name().len() + header.value().len() + 48).sum();
        let vary: usize = self.vary.iter().map(|name| size_of::<Box<str>>() + name.len()).sum();
        size_of::<Self>() + headers + self.effects.len() * 128 + self.timed.len() * size_of::<Asked>() + vary
    }
}

/// Returns names in order, each once.
fn in_order(mut names: Vec<Box<str>>) -> Vec<Box<str>> {
    names.sort_unstable();
    names.dedup();
    names
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
        let served = Served { headers, marks, ..Said::allow().served };
        Self::new(Arc::new(Said::of(served, effects, &[])), 0)
    }
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

    /// A yes that hung on these questions, at second 40.
    fn asked(questions: Vec<Question>) -> Decision {
        let served = Served { stale_revalidate: 60, stale_error: 600, ..Said::allow().served };
        let asked = |question| Asked { link: 0, question, answer: false.into() };
        let trace: Vec<Asked> = questions.into_iter().map(asked).collect();
        Decision::new(Arc::new(Said::of(served, Vec::new(), &trace)), 40)
    }

    #[test]
    fn no_shared_cache_shows_one_viewer_what_another_may_see() {
        let header = |name: &str| Question::RequestHeaderIs(name.into(), "x".into());
        for (questions, begins, vary) in [
            (vec![], "public", ""),
            (vec![Question::ObjectKind, Question::RequestPath(9), Question::TimeAfter(1)], "public", ""),
            (vec![Question::ObjectKind, Question::ClientCountry], "private", ""),
            (vec![Question::ClientBucket(10)], "private", ""),
            (vec![Question::RequestToken], "private", ""),
            (
                vec![header("x-b"), Question::RequestReferer, header("Accept"), header("x-b")],
                "public",
                "accept, referer, x-b",
            ),
            (vec![header("accept-language"), Question::ClientAsn], "private", "accept-language"),
        ] {
            let decision = asked(questions);
            assert_eq!((&decision.cache_control()[..begins.len()], &*decision.vary()), (begins, vary));
        }
        let both = asked(vec![header("b")]).and(&asked(vec![header("a"), Question::ClientCountry]));
        assert_eq!((&both.cache_control()[..7], &*both.vary()), ("private", "a, b"));
    }

    #[test]
    fn what_turns_or_ends_is_not_kept_stale_beyond_that() {
        let decision = |question| asked(vec![question]);
        let (turns, turned) = (decision(Question::TimeAfter(100)), decision(Question::TimeAfter(30)));
        let long = "public, max-age=3600, stale-while-revalidate=60, stale-if-error=600";
        for (decision, says) in [
            (turned.clone(), long),
            (turns.clone(), "public, max-age=60"),
            (turned.clone().and(&turns), "public, max-age=60"),
            (turned.clone().of_link(30), "public, max-age=30"),
            (turned.of_name(90), "public, max-age=90, stale-while-revalidate=60, stale-if-error=90"),
        ] {
            assert_eq!(decision.cache_control(), says);
        }
    }

    #[test]
    fn no_cache_is_told_to_keep_an_answer_past_an_end() {
        let year = |marks| {
            let mut said = Said::allow();
            let served = &mut said.served;
            (served.client_ttl, served.stale_error, served.stale_revalidate) = (31_536_000, 86_400, 600);
            served.marks = marks;
            Decision::new(Arc::new(said), 1_000)
        };
        let immutable = || year(Marks::IMMUTABLE);
        for (decision, says) in [
            (immutable().until(1_060, 1_000), "public, max-age=60"),
            (immutable().until(1_001, 1_000), "public, max-age=1"),
            (immutable().until(1_000 + 3_600, 1_000), "public, max-age=3584"),
            (
                immutable().of_name(30).until(1_040, 1_000),
                "public, max-age=30, stale-while-revalidate=10, stale-if-error=10",
            ),
            (year(Marks::empty()).until(1_050, 1_000).until(1_020, 1_000), "public, max-age=20"),
            (
                immutable().until(u64::MAX, 1_000),
                "public, max-age=31536000, stale-while-revalidate=600, stale-if-error=86400, immutable",
            ),
        ] {
            assert_eq!(decision.cache_control(), says);
        }
        // The words stay true for as long as they are kept ready, whatever the end and the moment.
        for left in [1, 2, 59, 64, 100, 3_599, 86_400, 31_536_000, 31_536_001, 31_622_400, 40_000_000_u32] {
            let end = 1_000 + u64::from(left);
            let decision = immutable().until(end, 1_000);
            let stale = decision.stale().map(|(_, seconds)| seconds).into_iter().max().unwrap();
            let kept = u64::from(decision.viewer_seconds + stale);
            let last = decision.says_so_until(1_000) - 1;
            assert!(last >= 1_000 && last + kept <= end, "{left}: {kept}, {last}");
            assert!(kept >= u64::from(left - left / 32).min(31_536_000), "{left}: {kept}");
        }
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
        let good = steering(&weights, 0).steer(&ask(9), &candidates()).unwrap();
        assert_eq!((good.weights, good.ttl), (vec![0, 1], 256));
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

    #[test]
    fn a_redirect_to_nowhere_is_a_refusal() {
        let mut said = Said::allow();
        said.served.outcome = Outcome::Redirect;
        let decision = Decision { viewer_seconds: 60, ..Decision::new(Arc::new(said), 0) };
        assert_eq!((decision.redirect(), decision.refusal()), (None, Some(Fault::Policy)));
    }
}
