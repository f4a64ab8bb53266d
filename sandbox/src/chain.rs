//! A policy as owners see it: one to eight links, each a component with its config, evaluated in order.
//!
//! The first link that does not allow decides; lifetimes are the minimum over the links that ran; marks, headers and
//! effects of allowing links add up. A link without a hook has no say in it. Traces are joined, each question with its
//! link.

use std::sync::Arc;

use crate::config::{Config, ConfigError, RateClass};
use crate::facts::Facts;
use crate::fault::Fault;
use crate::headers::Header;
use crate::limits::LINKS_MAX;
use crate::policy::{Effect, Policy, Run};
use crate::question::{Answer, Asked, Hook, Question, answer};
use crate::trie::Respondent;
use crate::verdict::{Candidate, Decision, Keep, Plan, Site, Steering};
use crate::vocabulary::{Marks, Outcome};

/// A component and its parameters.
#[derive(Clone)]
pub struct Link {
    /// The component.
    pub policy: Arc<Policy>,
    /// Its parameters.
    pub config: Arc<Config>,
}

/// Which link, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkIndex(pub u8);

/// One to eight links.
#[derive(Clone)]
pub struct Chain {
    links: Vec<Link>,
}

/// Links that make no chain: the owner's fault.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// None, or too many.
    #[error("a policy has 1 to {LINKS_MAX} links, not {links}")]
    Links {
        /// How many were given.
        links: usize,
    },
    /// A config that is not what its component declares.
    #[error("the configuration of link {link} is not what its component takes")]
    Config {
        /// Which link, counted from 1 as its owner does.
        link: usize,
        /// What does not fit.
        source: ConfigError,
    },
}

/// A link's run had no verdict, so the chain has none. Its text counts links from 1 as their owner does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("link {} failed", link.0 + 1)]
pub struct LinkFault {
    /// Which link.
    pub link: LinkIndex,
    /// What happened.
    pub source: Fault,
}

/// What the chain decided about a request: all that the edge needs, with nothing left to look up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// What happens.
    pub outcome: Outcome,
    /// The link that decided; the last one when all allow.
    pub link: LinkIndex,
    /// The HTTP status, as in [`Decision::status`].
    pub status: u16,
    /// The owner's own code.
    pub reason: u16,
    /// Seconds the viewer may keep the answer.
    pub client_ttl: u32,
    /// Seconds a stale answer may serve while a new one is fetched.
    pub stale_revalidate: u32,
    /// Seconds a stale answer may serve when no new one can be had.
    pub stale_error: u32,
    /// Bits that go to the response as they are.
    pub marks: Marks,
    /// Headers of the configs' sets, in order of links and bits. Those of effects come after.
    pub headers: Vec<Header>,
    /// Where to redirect to.
    pub target: Option<Box<str>>,
    /// What to count the request under: the first class that a link named.
    pub rate_class: Option<(LinkIndex, RateClass)>,
}

impl Served {
    /// Joins what was decided first and allows, with what decides after it: lifetimes are the shorter ones, and when
    /// both allow, marks and headers add up. What a refusal says of marks and headers is its own affair.
    #[must_use]
    pub fn and(self, then: Self) -> Self {
        let ttls = Self {
            client_ttl: self.client_ttl.min(then.client_ttl),
            stale_revalidate: self.stale_revalidate.min(then.stale_revalidate),
            stale_error: self.stale_error.min(then.stale_error),
            rate_class: self.rate_class.or(then.rate_class),
            ..then
        };
        if ttls.outcome != Outcome::Allow {
            return ttls;
        }
        let headers = self.headers.into_iter().chain(ttls.headers).collect();
        Self { marks: self.marks | ttls.marks, headers, ..ttls }
    }
}

type Linked<T> = Result<T, LinkFault>;

impl Chain {
    /// Takes the links in order. The only way to a chain, so that none runs whose configs are not what their components
    /// declare.
    ///
    /// # Errors
    /// [`ChainError`] when there are none or more than eight, or a config does not fit its component.
    pub fn new(links: Vec<Link>) -> Result<Self, ChainError> {
        if links.is_empty() || links.len() > LINKS_MAX {
            return Err(ChainError::Links { links: links.len() });
        }
        for (link, of) in (1..).zip(&links) {
            if let Some(keys) = &of.policy.summary().keys {
                of.config.check(keys).map_err(|source| ChainError::Config { link, source })?;
            }
        }
        Ok(Self { links })
    }

    /// The links in order.
    #[must_use]
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// Whether any link has the hook. Without one the host's defaults hold.
    #[must_use]
    pub fn has(&self, hook: Hook) -> bool {
        self.links.iter().any(|link| link.policy.has(hook))
    }

    /// Decides about a request; `None` when no link has the hook.
    ///
    /// # Errors
    /// The fault of the first link that fails.
    pub fn serve(&self, facts: &Arc<dyn Facts>) -> Linked<Option<Run<Served>>> {
        let mut whole = None;
        for (index, link) in self.with(Hook::Serve) {
            let run = link.policy.serve(facts, &link.config).map_err(|source| LinkFault { link: index, source })?;
            let allows = run.verdict.outcome == Outcome::Allow;
            let run = map(run, index, |decision| served(index, &decision, &link.config));
            whole = Some(join(whole, run, Served::and));
            if !allows {
                break;
            }
        }
        Ok(whole)
    }

    /// Decides how long this edge keeps an object: the least that any link allows.
    ///
    /// # Errors
    /// The fault of the first link that fails.
    pub fn hold(&self, facts: &Arc<dyn Facts>) -> Linked<Option<Run<Keep>>> {
        self.all(Hook::Hold, |link| link.policy.hold(facts, &link.config), both_keeps)
    }

    /// Weighs edges: the least weight that any link gives.
    ///
    /// # Errors
    /// The fault of the first link that fails.
    pub fn steer(&self, facts: &Arc<dyn Facts>, candidates: &[Candidate]) -> Linked<Option<Run<Steering>>> {
        self.all(Hook::Steer, |link| link.policy.steer(facts, &link.config, candidates), both_steerings)
    }

    /// Plans shards: the strictest of all links.
    ///
    /// # Errors
    /// The fault of the first link that fails.
    pub fn place(&self, facts: &Arc<dyn Facts>, sites: &[Site]) -> Linked<Option<Run<Plan>>> {
        self.all(Hook::Place, |link| link.policy.place(facts, &link.config, sites), both_plans)
    }

    /// Answers remembered questions from `facts` and the links' configs, for [`Trie::lookup`](crate::Trie::lookup).
    pub fn respondent<'a>(&'a self, facts: &'a dyn Facts) -> impl Respondent + 'a {
        move |link: u8, question: &Question| -> Answer {
            let link = self.links.get(usize::from(link));
            // Only a trace of another chain names a link that is not here, or asks its config what it cannot answer; no
            // verdict is under this answer.
            link.and_then(|link| answer(facts, &link.config, question).ok()).unwrap_or(Answer::MaybeText(None))
        }
    }

    fn with(&self, hook: Hook) -> impl Iterator<Item = (LinkIndex, &Link)> {
        let links = (0..).map(LinkIndex).zip(&self.links);
        links.filter(move |(_, link)| link.policy.has(hook))
    }

    /// Runs all links that have the hook and joins their verdicts.
    fn all<V>(
        &self,
        hook: Hook,
        run: impl Fn(&Link) -> Result<Run<V>, Fault>,
        both: impl Fn(V, V) -> V + Copy,
    ) -> Linked<Option<Run<V>>> {
        let mut whole = None;
        for (index, link) in self.with(hook) {
            let run = run(link).map_err(|source| LinkFault { link: index, source })?;
            whole = Some(join(whole, map(run, index, |verdict| verdict), both));
        }
        Ok(whole)
    }
}

/// Turns a link's run into a run of the chain: its questions are now those of link `index`.
fn map<V, W>(run: Run<V>, index: LinkIndex, verdict: impl FnOnce(V) -> W) -> Run<W> {
    let trace = run.trace.into_iter().map(|asked| Asked { link: index.0, ..asked }).collect();
    Run { verdict: verdict(run.verdict), trace, effects: run.effects, fuel: run.fuel }
}

fn join<V>(whole: Option<Run<V>>, run: Run<V>, both: impl FnOnce(V, V) -> V) -> Run<V> {
    let Some(mut whole) = whole else { return run };
    whole.trace.extend(run.trace);
    let effects: Vec<Effect> = whole.effects.into_iter().chain(run.effects).collect();
    Run { verdict: both(whole.verdict, run.verdict), trace: whole.trace, effects, fuel: whole.fuel + run.fuel }
}

fn served(link: LinkIndex, decision: &Decision, config: &Config) -> Served {
    let sets = (0..u32::BITS).filter(|set| decision.header_sets >> set & 1 == 1);
    let headers = sets.filter_map(|set| config.header_set(usize::try_from(set).ok()?)).flatten().cloned().collect();
    let is_redirect = decision.outcome == Outcome::Redirect;
    Served {
        outcome: decision.outcome,
        link,
        status: decision.status,
        reason: decision.reason,
        client_ttl: decision.client_ttl,
        stale_revalidate: decision.stale_revalidate,
        stale_error: decision.stale_error,
        marks: decision.marks,
        headers,
        target: config.target(decision.target).filter(|_| is_redirect).map(Box::from),
        rate_class: config.rate_class(decision.rate_class).map(|class| (link, class)),
    }
}

fn both_keeps(first: Keep, then: Keep) -> Keep {
    Keep {
        // The tiers stand in order of how much they permit.
        tier: if (then.tier as u8) < (first.tier as u8) { then.tier } else { first.tier },
        ttl: first.ttl.min(then.ttl),
        stale_revalidate: first.stale_revalidate.min(then.stale_revalidate),
        stale_error: first.stale_error.min(then.stale_error),
        pin: first.pin || then.pin,
        prefetch: first.prefetch.max(then.prefetch),
    }
}

fn both_steerings(first: Steering, then: Steering) -> Steering {
    Steering { ttl: first.ttl.min(then.ttl), weights: least(first.weights, then.weights) }
}

fn both_plans(first: Plan, then: Plan) -> Plan {
    let (data_shards, parity_shards) = match first.data_shards {
        0 => (then.data_shards, then.parity_shards),
        data_shards => (data_shards, first.parity_shards),
    };
    Plan {
        weights: least(first.weights, then.weights),
        data_shards,
        parity_shards,
        per_datacentre: least_limit(first.per_datacentre, then.per_datacentre),
        per_country: least_limit(first.per_country, then.per_country),
        per_operator: least_limit(first.per_operator, then.per_operator),
        keep_until: first.keep_until.max(then.keep_until),
        erase_after: least_limit(first.erase_after, then.erase_after),
    }
}

fn least(first: Vec<u8>, then: Vec<u8>) -> Vec<u8> {
    first.into_iter().zip(then).map(|(first, then)| first.min(then)).collect()
}

/// The smaller of two limits of which 0 means none.
fn least_limit<T: Ord + Default>(first: T, then: T) -> T {
    let none = T::default();
    if first == none {
        then
    } else if then == none {
        first
    } else {
        first.min(then)
    }
}
