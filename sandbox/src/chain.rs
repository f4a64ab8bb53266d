//! A policy chain: one to eight links, each a component with its config, evaluated in order.
//!
//! The first link that does not allow decides. Lifetimes are the minimum over the links that ran. Marks, headers and
//! effects of allowing links are combined. A link without the hook is skipped. The traces are joined, and each question
//! names its link.

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

/// One link: a component and its parameters.
#[derive(Clone)]
pub struct Link {
    /// The component.
    pub policy: Arc<Policy>,
    /// Its parameters.
    pub config: Arc<Config>,
}

/// The index of a link, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkIndex(pub u8);

/// A chain of one to eight links.
#[derive(Clone)]
pub struct Chain {
    links: Vec<Link>,
}

/// Why links do not form a chain. The owner is at fault.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// There are no links, or too many.
    #[error("a policy has 1 to {LINKS_MAX} links, not {links}")]
    Links {
        /// Links given.
        links: usize,
    },
    /// A config does not match what its component declares.
    #[error("the configuration of link {link} is not what its component takes")]
    Config {
        /// The link, counted from 1 as its owner does.
        link: usize,
        /// The mismatch.
        source: ConfigError,
    },
}

/// The run of a link gave no verdict, so the chain has none. Messages count links from 1, as their owner does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("link {} failed", link.0 + 1)]
pub struct LinkFault {
    /// The link.
    pub link: LinkIndex,
    /// Why it failed.
    pub source: Fault,
}

/// A chain's decision about a request, with everything that the edge needs and nothing left to look up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// What happens to the request.
    pub outcome: Outcome,
    /// The link that decided; the last one if all allow.
    pub link: LinkIndex,
    /// The HTTP status, as in [`Decision::status`].
    pub status: u16,
    /// The owner's own code.
    pub reason: u16,
    /// Seconds for which the viewer may keep the answer.
    pub client_ttl: u32,
    /// Seconds for which a stale answer may be served while a new one is fetched (stale-while-revalidate).
    pub stale_revalidate: u32,
    /// Seconds for which a stale answer may be served if no new one is available (stale-if-error).
    pub stale_error: u32,
    /// Bits that are copied into the response.
    pub marks: Marks,
    /// Headers of the configs' header sets, in the order of links and bits. Headers of effects come after these.
    pub headers: Vec<Header>,
    /// The redirect target.
    pub target: Option<Box<str>>,
    /// The rate class of the request: the first one that a link named.
    pub rate_class: Option<(LinkIndex, RateClass)>,
}

impl Served {
    /// Joins an allowing decision with the decision after it. Lifetimes are the shorter ones, and the first rate class
    /// stays. If both allow, marks and headers are combined; otherwise only those of the refusal remain.
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
    /// Makes a chain of links in order. There is no other way to make one, so a chain never runs with a config that its
    /// component does not declare.
    ///
    /// # Errors
    /// [`ChainError`] if there are no links or more than eight, or if a config does not match its component.
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

    /// Returns the links in order.
    #[must_use]
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// Returns whether any link has the hook. If none has, the host's defaults apply.
    #[must_use]
    pub fn has(&self, hook: Hook) -> bool {
        self.links.iter().any(|link| link.policy.has(hook))
    }

    /// Decides about a request. Returns `None` if no link has the hook.
    ///
    /// # Errors
    /// [`LinkFault`] of the first link that fails.
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

    /// Decides how long this edge keeps an object: the lowest tier and the shortest lifetimes of all links. A pin of
    /// any link counts, and so does the largest prefetch.
    ///
    /// # Errors
    /// [`LinkFault`] of the first link that fails.
    pub fn hold(&self, facts: &Arc<dyn Facts>) -> Linked<Option<Run<Keep>>> {
        self.all(Hook::Hold, |link| link.policy.hold(facts, &link.config), both_keeps)
    }

    /// Weighs edges. Each edge gets the lowest weight of all links.
    ///
    /// # Errors
    /// [`LinkFault`] of the first link that fails.
    pub fn steer(&self, facts: &Arc<dyn Facts>, candidates: &[Candidate]) -> Linked<Option<Run<Steering>>> {
        self.all(Hook::Steer, |link| link.policy.steer(facts, &link.config, candidates), both_steerings)
    }

    /// Plans shards: the lowest weights and limits of all links, the latest second to keep until and the earliest to
    /// erase after. The first link that sets data shards decides the code.
    ///
    /// # Errors
    /// [`LinkFault`] of the first link that fails.
    pub fn place(&self, facts: &Arc<dyn Facts>, sites: &[Site]) -> Linked<Option<Run<Plan>>> {
        self.all(Hook::Place, |link| link.policy.place(facts, &link.config, sites), both_plans)
    }

    /// Returns a respondent that answers remembered questions from `facts` and the links' configs, for
    /// [`Trie::lookup`](crate::Trie::lookup).
    pub fn respondent<'a>(&'a self, facts: &'a dyn Facts) -> impl Respondent + 'a {
        move |link: u8, question: &Question| -> Answer {
            let link = self.links.get(usize::from(link));
            // Only the trace of another chain can name a missing link, or ask a config for a key of the wrong type. No
            // verdict is stored under this answer.
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

/// Turns a link's run into a run of the chain: its questions now belong to link `index`.
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
        // Tiers are ordered by how much they permit.
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

/// Returns the smaller of two limits. 0 means no limit.
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
