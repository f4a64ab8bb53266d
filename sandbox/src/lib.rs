//! Runs policy calls in wasmtime within limits. Only this crate names wasmtime.
//!
//! Flow: foreign bytes -> [`admit`] (structure, pure) -> [`Engine::compile`] or [`guard::compile`] (a child process) ->
//! [`Policy`] -> [`Chain`] of one to eight links with their [`Config`] -> a [`Run`]: verdict, questions asked, effects,
//! fuel -> [`Trie`], which remembers the verdict under exactly these questions.
//!
//! Invariants: a policy cannot block, allocate or run beyond its [`Limits`]; it learns nothing but the answers to its
//! questions; and no bytes from an owner can panic the host. This crate knows no async runtime and no other crate of
//! ours.

mod admit;
mod artefact;
mod bindings;
mod chain;
mod clock;
mod config;
mod country;
mod engine;
mod facts;
mod fault;
mod glob;
pub mod groups;
pub mod guard;
mod headers;
mod host;
mod keys;
mod limits;
mod nearest;
mod path;
mod policy;
mod question;
mod trie;
mod verdict;
mod vocabulary;

pub use admit::{AdmitError, Admitted, FunctionPlace, Import, Summary, admit};
pub use artefact::{Artefact, ArtefactError};
pub use chain::{Chain, ChainError, Link, LinkFault, LinkIndex, Served};
pub use config::{Config, ConfigError, RateClass, WrongType};
pub use country::{CountryCode, CountryCodeError};
pub use engine::{Engine, EngineError, EngineOptions};
pub use facts::Facts;
pub use fault::Fault;
pub use glob::{Glob, GlobError};
pub use headers::{Header, HeaderError};
pub use keys::{Keys, KeysError};
pub use limits::{Class, Limits};
pub use path::canonical_path;
pub use policy::{Effect, Policy, Run};
pub use question::{Answer, Area, Asked, Hook, Question, answer, valid_until};
pub use trie::{Inserted, NotPure, Respondent, Trie};
pub use verdict::{Candidate, Decision, Keep, Plan, Site, Steering, VerdictError};
pub use vocabulary::{
    ContentKind, Continent, Marks, Method, NetworkKind, Outcome, RefererState, Tier, TokenState, UnknownName,
};
