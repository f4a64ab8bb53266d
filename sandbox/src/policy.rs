//! A loaded policy and one run of it.
//!
//! Every run gets a fresh instance in a fresh store. Nothing that a guest wrote can reach the next run, and a trap
//! leaves nothing behind.

use std::sync::Arc;

use wasmtime::component::{Instance, InstancePre};
use wasmtime::{PoolConcurrencyLimitError, Store, Trap};

use crate::admit::Summary;
use crate::bindings::exports::evernear::policy::{hold, place, serve, steer};
use crate::config::Config;
use crate::engine::{self, Engine, EngineError};
use crate::facts::Facts;
use crate::fault::Fault;
use crate::headers::Header;
use crate::host::State;
use crate::limits::{CANDIDATES_MAX, HOSTCALL_BYTES_MAX, Limits, WASM_STACK_BYTES};
use crate::question::{Asked, Hook};
use crate::verdict::{self, Candidate, Decision, Keep, Plan, Site, Steering, VerdictError};

/// An addition of a policy to its answer. Effects are remembered with the verdict, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Set a response header.
    Header(Header),
    /// Leave out a response header. The name is in lower case.
    DropHeader(Box<str>),
    /// Count on the owner's dashboard.
    Count(Box<str>),
    /// A note for tests and sampled traces.
    Note(Box<str>),
}

impl Effect {
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Header(header) => header.name().len() + header.value().len(),
            Self::DropHeader(text) | Self::Count(text) | Self::Note(text) => text.len(),
        }
    }
}

/// A verdict and how it was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run<V> {
    /// The decision.
    pub verdict: V,
    /// The questions with their answers, each once, in the order asked.
    pub trace: Vec<Asked>,
    /// The additions to the answer.
    pub effects: Vec<Effect>,
    /// Fuel used, about one unit for each instruction.
    pub fuel: u64,
}

/// A compiled component. It can run in any thread.
pub struct Policy {
    engine: Engine,
    pre: InstancePre<State>,
    summary: Summary,
    limits: &'static Limits,
    steer: Option<steer::GuestIndices>,
    serve: Option<serve::GuestIndices>,
    hold: Option<hold::GuestIndices>,
    place: Option<place::GuestIndices>,
}

impl Policy {
    pub(crate) fn new(engine: Engine, pre: InstancePre<State>, summary: Summary) -> Result<Self, EngineError> {
        let link = |error: wasmtime::Error| EngineError::Link { reason: format!("{error:#}") };
        let has = |hook| summary.hooks.contains(&hook);
        Ok(Self {
            steer: has(Hook::Steer).then(|| steer::GuestIndices::new(&pre)).transpose().map_err(link)?,
            serve: has(Hook::Serve).then(|| serve::GuestIndices::new(&pre)).transpose().map_err(link)?,
            hold: has(Hook::Hold).then(|| hold::GuestIndices::new(&pre)).transpose().map_err(link)?,
            place: has(Hook::Place).then(|| place::GuestIndices::new(&pre)).transpose().map_err(link)?,
            limits: Limits::of(summary.class),
            engine,
            pre,
            summary,
        })
    }

    /// Returns the policy's class, exports and imports.
    #[must_use]
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Returns whether the policy exports `hook`.
    #[must_use]
    pub fn has(&self, hook: Hook) -> bool {
        self.summary.hooks.contains(&hook)
    }

    /// Decides about a request. `bench/results/policy.md` has the cost.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn serve(&self, facts: &Arc<dyn Facts>, config: &Arc<Config>) -> Result<Run<Decision>, Fault> {
        let guest = self.serve.as_ref().ok_or(Fault::NoHook { hook: Hook::Serve })?;
        let raw = self
            .run(Hook::Serve, facts, config, |store, instance| guest.load(&mut *store, instance)?.call_serve(store))?;
        raw.check(Hook::Serve, |raw| {
            let decision = verdict::decision(&raw)?;
            check_references(&decision, config)?;
            Ok(decision)
        })
    }

    /// Decides how long this edge keeps an object.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn hold(&self, facts: &Arc<dyn Facts>, config: &Arc<Config>) -> Result<Run<Keep>, Fault> {
        let guest = self.hold.as_ref().ok_or(Fault::NoHook { hook: Hook::Hold })?;
        let raw =
            self.run(Hook::Hold, facts, config, |store, instance| guest.load(&mut *store, instance)?.call_hold(store))?;
        raw.check(Hook::Hold, |raw| Ok(verdict::keep(&raw)))
    }

    /// Weighs the edges that DNS could answer with. There may be at most 256.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn steer(
        &self,
        facts: &Arc<dyn Facts>,
        config: &Arc<Config>,
        candidates: &[Candidate],
    ) -> Result<Run<Steering>, Fault> {
        let guest = self.steer.as_ref().ok_or(Fault::NoHook { hook: Hook::Steer })?;
        check_candidates(Hook::Steer, candidates.len())?;
        let edges: Vec<_> = candidates.iter().map(steer::Candidate::from).collect();
        let raw = self.run(Hook::Steer, facts, config, |store, instance| {
            guest.load(&mut *store, instance)?.call_steer(store, &edges)
        })?;
        raw.check(Hook::Steer, |raw| verdict::steering(raw, candidates.len()))
    }

    /// Plans where shards lie, over at most 256 sites.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn place(&self, facts: &Arc<dyn Facts>, config: &Arc<Config>, sites: &[Site]) -> Result<Run<Plan>, Fault> {
        let guest = self.place.as_ref().ok_or(Fault::NoHook { hook: Hook::Place })?;
        check_candidates(Hook::Place, sites.len())?;
        let given: Vec<_> = sites.iter().map(place::Site::from).collect();
        let raw = self.run(Hook::Place, facts, config, |store, instance| {
            guest.load(&mut *store, instance)?.call_place(store, &given)
        })?;
        raw.check(Hook::Place, |raw| verdict::plan(raw, sites.len()))
    }

    /// Makes one run in a fresh store, which is dropped in any case.
    fn run<V>(
        &self,
        hook: Hook,
        facts: &Arc<dyn Facts>,
        config: &Arc<Config>,
        call: impl FnOnce(&mut Store<State>, &Instance) -> wasmtime::Result<V>,
    ) -> Result<Run<V>, Fault> {
        let state = State::new(Arc::clone(facts), Arc::clone(config), hook, self.limits);
        let mut store = Store::new(self.engine.wasmtime(), state);
        store.limiter(|state| &mut state.limiter);
        store.set_fuel(self.limits.fuel_max).expect("the engine consumes fuel");
        engine::end_run(&mut store, self.limits.time_max);
        store.set_hostcall_fuel(HOSTCALL_BYTES_MAX);
        let ticking = self.engine.ticking();
        let result = self.pre.instantiate(&mut store).and_then(|instance| call(&mut store, &instance));
        drop(ticking);
        let fuel = self.limits.fuel_max - store.get_fuel().expect("the engine consumes fuel");
        let state = store.into_data();
        match result {
            Ok(verdict) => Ok(Run { verdict, trace: state.trace, effects: state.effects, fuel }),
            Err(error) => Err(self.fault(hook, state, &error)),
        }
    }

    /// Determines why a run failed: first the host's own reason, then the kind of trap, then a refused growth of
    /// memory.
    fn fault(&self, hook: Hook, state: State, error: &wasmtime::Error) -> Fault {
        if let Some(fault) = state.fault {
            return fault;
        }
        if error.downcast_ref::<PoolConcurrencyLimitError>().is_some() {
            return Fault::Busy { hook };
        }
        match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => {
                return Fault::Fuel { hook, limit: self.limits.fuel_max };
            }
            Some(Trap::Interrupt) => {
                return Fault::Time { hook, limit: self.limits.time_max };
            }
            Some(Trap::StackOverflow) => {
                return Fault::Stack { hook, limit_bytes: WASM_STACK_BYTES };
            }
            _ => {}
        }
        if let Some(bytes) = state.limiter.refused_bytes {
            return Fault::Memory { hook, bytes, limit: self.limits.memory_bytes_max };
        }
        let reason = error.downcast_ref::<Trap>().map_or_else(|| error.root_cause().to_string(), Trap::to_string);
        Fault::Trap { hook, reason }
    }
}

impl<V> Run<V> {
    /// Returns the same run with its verdict checked and clamped.
    fn check<W>(self, hook: Hook, check: impl FnOnce(V) -> Result<W, VerdictError>) -> Result<Run<W>, Fault> {
        let Self { verdict, trace, effects, fuel } = self;
        let verdict = check(verdict).map_err(|source| Fault::Verdict { hook, source })?;
        Ok(Run { verdict, trace, effects, fuel })
    }
}

fn check_candidates(hook: Hook, given: usize) -> Result<(), Fault> {
    if given > CANDIDATES_MAX {
        return Err(Fault::Candidates { hook, given, limit: CANDIDATES_MAX });
    }
    Ok(())
}

/// Checks that the config has everything that a decision refers to.
fn check_references(decision: &Decision, config: &Config) -> Result<(), VerdictError> {
    use crate::vocabulary::Outcome;
    if decision.outcome == Outcome::Redirect && config.target(decision.target).is_none() {
        return Err(VerdictError::Target { target: decision.target });
    }
    if decision.rate_class != 0 && config.rate_class(decision.rate_class).is_none() {
        return Err(VerdictError::RateClass { class: decision.rate_class });
    }
    let missing = (0..u32::BITS)
        .filter(|set| decision.header_sets >> set & 1 == 1)
        .find(|set| usize::try_from(*set).ok().and_then(|set| config.header_set(set)).is_none());
    missing.map_or(Ok(()), |set| Err(VerdictError::HeaderSet { set }))
}
