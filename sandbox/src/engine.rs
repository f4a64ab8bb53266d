//! The engine: one for each process, with its pool of instances and its clock.
//!
//! Flow: [`Engine::compile`] turns an [`Admitted`] component into machine code (in this process, or better in a child
//! process, see [`crate::guard`]). [`Engine::load`] links it. Invariants: only admitted components are compiled, only
//! our own artefacts are loaded, and only functions of the contract can be imported.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{
    Config as WasmtimeConfig, Enabled, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Store,
    UpdateDeadline, WasmBacktraceDetails,
};

use crate::admit::Admitted;
use crate::artefact::Artefact;
use crate::bindings::evernear::policy as contract;
use crate::clock::{Clock, Ticking};
use crate::host::{CORE_INSTANCES_MAX, MEMORIES_MAX, State, TABLES_MAX};
use crate::limits::{Limits, WASM_STACK_BYTES};
use crate::policy::Policy;

const MEMORY_RESERVATION_BYTES: u64 = 64 * 1024 * 1024;
const MEMORY_GUARD_BYTES: u64 = 64 * 1024;
/// Bytes of an instance that stay mapped for the next one. Otherwise every run would map its memory anew.
const KEEP_RESIDENT_BYTES: usize = 64 * 1024;

/// Settings of the operator.
#[derive(Debug, Clone, Copy)]
pub struct EngineOptions {
    /// Maximum number of concurrent runs in all threads. Each reserves 64 MiB of address space, not of memory. Default:
    /// 64.
    pub instances: u32,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { instances: 64 }
    }
}

/// Why the engine cannot start, compile or load.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// This machine cannot run the engine. The operator must fix it.
    #[error("policy engine cannot start on this machine: {reason}")]
    Start {
        /// The message of wasmtime.
        reason: String,
    },
    /// The compiler refused an admitted component. The owner is at fault.
    #[error("policy cannot be compiled: {reason}")]
    Compile {
        /// The message of wasmtime.
        reason: String,
    },
    /// The artefact was made by another engine. Compile again.
    #[error("compiled policy is not of this engine; compile it again: {reason}")]
    Load {
        /// The message of wasmtime.
        reason: String,
    },
    /// The component imports a function that this version of the contract does not have. The owner is at fault, or this
    /// edge is too old.
    #[error("policy does not fit the contract of this edge: {reason}")]
    Link {
        /// The message of wasmtime.
        reason: String,
    },
}

/// Compiles and loads policies. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    engine: wasmtime::Engine,
    linker: Linker<State>,
    /// Dropping it stops the clock and then joins its thread.
    clock: Clock,
}

impl Engine {
    /// Reserves the pool and starts the clock, which has its own thread.
    ///
    /// # Errors
    /// [`EngineError::Start`] if the address space or the thread is not available.
    pub fn new(options: EngineOptions) -> Result<Self, EngineError> {
        let start = |error: wasmtime::Error| EngineError::Start { reason: format!("{error:#}") };
        let mut config = compiler_config();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(options)));
        let engine = wasmtime::Engine::new(&config).map_err(start)?;
        let linker = linker(&engine).map_err(start)?;
        let ticking = engine.clone();
        let clock = Clock::start(move || ticking.increment_epoch())
            .map_err(|error| EngineError::Start { reason: error.to_string() })?;
        Ok(Self { inner: Arc::new(Inner { engine, linker, clock }) })
    }

    /// Compiles in this process. Admission bounds this to some 100 ms. For untrusted owners, use
    /// [`crate::guard::compile`].
    ///
    /// # Errors
    /// [`EngineError::Compile`].
    pub fn compile(&self, admitted: &Admitted<'_>) -> Result<Artefact, EngineError> {
        precompile(&self.inner.engine, admitted)
    }

    /// Loads machine code that this installation compiled. `admitted` must be the component that it was compiled from.
    ///
    /// # Errors
    /// [`EngineError::Load`] if another version, machine or component made the artefact. [`EngineError::Link`] if the
    /// component imports something that the contract does not have.
    pub fn load(&self, admitted: &Admitted<'_>, artefact: &Artefact) -> Result<Policy, EngineError> {
        if !artefact.is_of(admitted) {
            return Err(EngineError::Load { reason: "it was compiled from another component".to_owned() });
        }
        // SAFETY: an `Artefact` is made only by `precompile` in this process, by the guarded child that this process
        // started from its own executable, or by `Artefact::open` after its keyed MAC proved that this installation
        // sealed it. None of these accepts machine code from an owner or a peer. wasmtime checks its version and
        // settings itself.
        #[expect(unsafe_code, reason = "the only way to load compiled code; see SAFETY")]
        let component = unsafe { Component::deserialize(&self.inner.engine, artefact.code()) }
            .map_err(|error| EngineError::Load { reason: format!("{error:#}") })?;
        let pre = self
            .inner
            .linker
            .instantiate_pre(&component)
            .map_err(|error| EngineError::Link { reason: format!("{error:#}") })?;
        Policy::new(self.clone(), pre, admitted.summary().clone())
    }

    /// Returns a number that identifies the compiler, its settings and the machine. It is part of the key under which
    /// an artefact is stored.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = StableHasher(blake3::Hasher::new());
        self.inner.engine.precompile_compatibility_hash().hash(&mut hasher);
        hasher.finish()
    }

    /// Lets the clock tick, by which [`end_run`] ends a run, until the returned value is dropped.
    pub(crate) fn ticking(&self) -> Ticking<'_> {
        self.inner.clock.run()
    }

    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.inner.engine
    }
}

/// BLAKE3 behind std's trait, because the standard hasher may change from one build to the next.
struct StableHasher(blake3::Hasher);

impl Hasher for StableHasher {
    fn finish(&self) -> u64 {
        let mut first = [0; 8];
        self.0.finalize_xof().fill(&mut first);
        u64::from_le_bytes(first)
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

/// Ends a run after it has computed for `limit` since its first tick, plus at most two ticks. Time spent waiting for a
/// core does not count, because a busy machine is not the policy's fault. Most runs end before their first tick and
/// never read a clock. Ticks come while [`Engine::ticking`] is held.
pub(crate) fn end_run<T>(store: &mut Store<T>, limit: Duration) {
    let mut began = None;
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |_| {
        let now = Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or(Duration::MAX);
        let computed = now.saturating_sub(*began.get_or_insert(now));
        Ok(if computed < limit { UpdateDeadline::Continue(1) } else { UpdateDeadline::Interrupt })
    });
}

/// Compiles without an instance pool. The child process uses this, because its address space is limited.
pub(crate) fn compile_poolless(admitted: &Admitted<'_>) -> Result<Artefact, EngineError> {
    let engine = wasmtime::Engine::new(&compiler_config())
        .map_err(|error| EngineError::Start { reason: format!("{error:#}") })?;
    precompile(&engine, admitted)
}

fn precompile(engine: &wasmtime::Engine, admitted: &Admitted<'_>) -> Result<Artefact, EngineError> {
    let code = engine
        .precompile_component(admitted.wasm())
        .map_err(|error| EngineError::Compile { reason: format!("{error:#}") })?;
    Ok(Artefact::new(admitted, code))
}

/// All settings that affect the machine code. They are the same with and without a pool, so artefacts work for both.
fn compiler_config() -> WasmtimeConfig {
    let mut config = WasmtimeConfig::new();
    config
        .wasm_component_model(true)
        .concurrency_support(false)
        .consume_fuel(true)
        .epoch_interruption(true)
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .memory_init_cow(true)
        .max_wasm_stack(WASM_STACK_BYTES)
        .memory_reservation(MEMORY_RESERVATION_BYTES)
        .memory_guard_size(MEMORY_GUARD_BYTES);
    config
}

fn pool(options: EngineOptions) -> PoolingAllocationConfig {
    let each = |count: u32| options.instances.saturating_mul(count);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(options.instances)
        .total_core_instances(each(CORE_INSTANCES_MAX))
        .total_memories(each(MEMORIES_MAX))
        .total_tables(each(TABLES_MAX))
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .max_memory_size(Limits::SCRIPT.memory_bytes_max)
        .table_elements(usize::try_from(Limits::SCRIPT.table_elements_max).unwrap_or(usize::MAX))
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(KEEP_RESIDENT_BYTES)
        .pagemap_scan(Enabled::Auto);
    pool
}

/// Unknown imports stay undefined. `define_unknown_imports_as_traps` would shadow semver-compatible ones.
fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<State>> {
    type Add = fn(&mut Linker<State>, fn(&mut State) -> &mut State) -> wasmtime::Result<()>;
    let interfaces: [Add; 8] = [
        contract::types::add_to_linker::<State, HasSelf<State>>,
        contract::client::add_to_linker::<State, HasSelf<State>>,
        contract::request::add_to_linker::<State, HasSelf<State>>,
        contract::object::add_to_linker::<State, HasSelf<State>>,
        contract::edge::add_to_linker::<State, HasSelf<State>>,
        contract::time::add_to_linker::<State, HasSelf<State>>,
        contract::config::add_to_linker::<State, HasSelf<State>>,
        contract::effect::add_to_linker::<State, HasSelf<State>>,
    ];
    let mut linker = Linker::new(engine);
    for add in interfaces {
        add(&mut linker, |state| state)?;
    }
    Ok(linker)
}

#[cfg(test)]
mod tests {
    use wasmtime::{Module, Trap};

    use super::*;

    #[test]
    fn a_run_ends_when_its_time_is_used_up_whatever_its_fuel() {
        let engine = Engine::new(EngineOptions { instances: 1 }).unwrap();
        let endless = wat::parse_str(r#"(module (func (export "run") (loop br 0)))"#).unwrap();
        let module = Module::new(engine.wasmtime(), endless).unwrap();
        let mut store = Store::new(engine.wasmtime(), ());
        store.set_fuel(u64::MAX).unwrap();
        end_run(&mut store, Duration::from_millis(20));
        let instance = wasmtime::Instance::new(&mut store, &module, &[]).unwrap();
        let _ticking = engine.ticking();
        let run = instance.get_typed_func::<(), ()>(&mut store, "run").unwrap();
        let error = run.call(&mut store, ()).unwrap_err();
        assert_eq!(error.downcast_ref::<Trap>(), Some(&Trap::Interrupt));
    }
}
