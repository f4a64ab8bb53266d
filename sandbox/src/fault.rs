//! What can go wrong in a run, and whose fault it is.

use std::time::Duration;

use crate::question::Hook;
use crate::verdict::VerdictError;

/// A run without a verdict. Whoever asked is refused: a guess would decide in the owner's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The policy does not export the hook: the caller's fault, not a failure of the policy.
    #[error("policy has no hook {hook}")]
    NoHook {
        /// The hook called.
        hook: Hook,
    },
    /// Too many candidates or sites were passed: the caller's fault.
    #[error("{given} candidates passed to {hook}, at most {limit} are allowed")]
    Candidates {
        /// The hook called.
        hook: Hook,
        /// How many.
        given: usize,
        /// Most allowed.
        limit: usize,
    },
    /// The policy trapped: its fault, and the same question will trap again.
    #[error("policy trapped in {hook}: {reason}")]
    Trap {
        /// The hook called.
        hook: Hook,
        /// The trap's name.
        reason: String,
    },
    /// The policy recursed too deep.
    #[error("policy used more than {limit_bytes} bytes of stack in {hook}")]
    Stack {
        /// The hook called.
        hook: Hook,
        /// Bytes of stack.
        limit_bytes: usize,
    },
    /// The policy computed too long.
    #[error("policy used up its {limit} fuel in {hook}")]
    Fuel {
        /// The hook called.
        hook: Hook,
        /// Fuel of a run.
        limit: u64,
    },
    /// The CPU time ran out before the fuel: a slow machine, or work that fuel does not see.
    #[error("policy computed for longer than {limit:?} in {hook}")]
    Time {
        /// The hook called.
        hook: Hook,
        /// CPU time of a run.
        limit: Duration,
    },
    /// The policy asked for too much memory and did not survive the refusal.
    #[error("policy asked for {bytes} bytes of memory in {hook}, at most {limit} are allowed")]
    Memory {
        /// The hook called.
        hook: Hook,
        /// Bytes asked for.
        bytes: usize,
        /// Most allowed.
        limit: usize,
    },
    /// The policy asked what it may not ask.
    #[error("policy asked {question} in {hook}: {reason}")]
    Question {
        /// The hook called.
        hook: Hook,
        /// The question.
        question: String,
        /// Why it is refused.
        reason: &'static str,
    },
    /// The policy asked its configuration for a key as one type, and it is there as another. Taken for absent, it would
    /// open what the owner closed.
    #[error("policy asked in {hook} for {key} as {asked}, but its configuration has {found} there")]
    Config {
        /// The hook called.
        hook: Hook,
        /// The key.
        key: Box<str>,
        /// What it was asked for as.
        asked: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// The policy added an effect that is not allowed.
    #[error("policy added an effect in {hook} that is not allowed: {reason}")]
    Effect {
        /// The hook called.
        hook: Hook,
        /// Why.
        reason: String,
    },
    /// The verdict makes no sense.
    #[error("policy returned a bad verdict from {hook}")]
    Verdict {
        /// The hook called.
        hook: Hook,
        /// What is wrong with it.
        source: VerdictError,
    },
    /// All instances of the pool are in use: ours; retry.
    #[error("no free policy instance for {hook}; raise `instances` or retry")]
    Busy {
        /// The hook called.
        hook: Hook,
    },
}

impl Fault {
    /// Whether the fault counts towards the policy's fallback to its last good version. Lack of time counts too: a
    /// policy that is slow on this machine is no good on it.
    #[must_use]
    pub fn is_of_policy(&self) -> bool {
        !matches!(self, Self::NoHook { .. } | Self::Candidates { .. } | Self::Busy { .. })
    }
}
