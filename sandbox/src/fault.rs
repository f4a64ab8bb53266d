//! The faults of a run, and whose fault each is.

use std::time::Duration;

use crate::question::Hook;
use crate::verdict::VerdictError;

/// Why a run gave no verdict. The request is then refused, because a guess would decide in the owner's name (fail
/// closed).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The policy does not export the hook. The caller is at fault, not the policy.
    #[error("policy has no hook {hook}")]
    NoHook {
        /// The hook called.
        hook: Hook,
    },
    /// Too many candidates or sites were passed. The caller is at fault.
    #[error("{given} candidates passed to {hook}, at most {limit} are allowed")]
    Candidates {
        /// The hook called.
        hook: Hook,
        /// Candidates passed.
        given: usize,
        /// Candidates allowed.
        limit: usize,
    },
    /// The policy trapped. It is at fault, and the same question will trap again.
    #[error("policy trapped in {hook}: {reason}")]
    Trap {
        /// The hook called.
        hook: Hook,
        /// The trap's name.
        reason: String,
    },
    /// The policy recursed too deeply.
    #[error("policy used more than {limit_bytes} bytes of stack in {hook}")]
    Stack {
        /// The hook called.
        hook: Hook,
        /// Bytes of stack allowed.
        limit_bytes: usize,
    },
    /// The policy used up its fuel.
    #[error("policy used up its {limit} fuel in {hook}")]
    Fuel {
        /// The hook called.
        hook: Hook,
        /// Fuel allowed for a run.
        limit: u64,
    },
    /// The CPU time ran out before the fuel: the machine is slow, or the work costs no fuel.
    #[error("policy computed for longer than {limit:?} in {hook}")]
    Time {
        /// The hook called.
        hook: Hook,
        /// CPU time allowed for a run.
        limit: Duration,
    },
    /// The policy asked for too much memory and failed after the refusal.
    #[error("policy asked for {bytes} bytes of memory in {hook}, at most {limit} are allowed")]
    Memory {
        /// The hook called.
        hook: Hook,
        /// Bytes requested.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The policy asked a question that it may not ask.
    #[error("policy asked {question} in {hook}: {reason}")]
    Question {
        /// The hook called.
        hook: Hook,
        /// The question.
        question: String,
        /// Why the question is refused.
        reason: &'static str,
    },
    /// The policy asked its configuration for a key as one type, but the key has another type. If it counted as absent,
    /// a restriction of the owner would be lifted.
    #[error("policy asked in {hook} for {key} as {asked}, but its configuration has {found} there")]
    Config {
        /// The hook called.
        hook: Hook,
        /// The key.
        key: Box<str>,
        /// The type that the policy asked for.
        asked: &'static str,
        /// The type in the configuration.
        found: &'static str,
    },
    /// The policy added an effect that is not allowed.
    #[error("policy added an effect in {hook} that is not allowed: {reason}")]
    Effect {
        /// The hook called.
        hook: Hook,
        /// Why the effect is refused.
        reason: String,
    },
    /// The verdict is invalid.
    #[error("policy returned a bad verdict from {hook}")]
    Verdict {
        /// The hook called.
        hook: Hook,
        /// Why it is invalid.
        source: VerdictError,
    },
    /// All instances of the pool are in use. The edge is at fault: retry.
    #[error("no free policy instance for {hook}; raise `instances` or retry")]
    Busy {
        /// The hook called.
        hook: Hook,
    },
}

impl Fault {
    /// Returns whether the fault counts towards the policy's fallback to its last good version. A lack of time counts
    /// too: a policy that is too slow on this machine is unusable on it.
    #[must_use]
    pub fn is_of_policy(&self) -> bool {
        !matches!(self, Self::NoHook { .. } | Self::Candidates { .. } | Self::Busy { .. })
    }
}
