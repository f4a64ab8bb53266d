//! The decision trie: it remembers verdicts under exactly the questions asked. This is an automatic and exact `Vary`
//! (RFC 9110 section 12.5.5). Pure.
//!
//! A policy is a function of its answers. So its first question is always the same, each next question depends only on
//! the answers so far, and after the last answer the verdict is fixed. A look-up replays these questions against the
//! new facts. A fact that was not asked for cannot split a remembered decision.
//!
//! Time needs no expiry of its own. Every look-up asks `time.after(t)` again, so a decision remembered before `t` is
//! not found from second `t` on.
//!
//! A full trie forgets everything. Rejected: refusing new entries, because junk paths of one bad hour would keep out
//! good decisions for ever; and LRU eviction, because it costs a write on each hit. Making a forgotten verdict again
//! costs one run, some microseconds.

use crate::question::{Answer, Asked, Question};

/// Answers questions during a look-up, from the caller's facts and the configs of its links.
pub trait Respondent {
    /// Returns the present answer to `question`, asked by `link`.
    fn answer(&self, link: u8, question: &Question) -> Answer;
}

impl<F: Fn(u8, &Question) -> Answer> Respondent for F {
    fn answer(&self, link: u8, question: &Question) -> Answer {
        self(link, question)
    }
}

/// The remembered verdicts of one policy version, with one config and one version of the geo and group data.
#[derive(Debug)]
pub struct Trie<V> {
    /// The first node is the root. Empty: nothing is remembered.
    nodes: Vec<Node<V>>,
    bytes: usize,
    bytes_max: usize,
    forgotten: u64,
}

#[derive(Debug)]
enum Node<V> {
    Ask { link: u8, question: Question, branches: Vec<Branch> },
    Verdict(V),
}

/// The node to which an answer leads. Branches are sorted by number, then by text. The sort key is stored, because
/// computing it at each step of the search took four fifths of a look-up.
#[derive(Debug)]
struct Branch {
    number: u64,
    text: Option<Box<str>>,
    node: usize,
}

impl Branch {
    fn new(answer: &Answer, node: usize) -> Self {
        let (number, text) = answer.key();
        Self { number, text: text.map(Box::from), node }
    }
}

/// The result of an insertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// The verdict is now remembered.
    New,
    /// The verdict was already known.
    Known,
    /// The entry is larger than the whole trie may be, so it is not remembered.
    TooBig,
}

/// Two runs with the same answers took different ways: the facts changed during a run, or traces of different policies
/// were mixed. Our own software is at fault: drop the trie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("runs with the same answers differ at question {at}; traces of different policies were mixed")]
pub struct NotPure {
    /// The question, counted from 0.
    pub at: usize,
}

impl<V> Trie<V> {
    /// Makes an empty trie that may grow to about `bytes_max`.
    #[must_use]
    pub const fn new(bytes_max: usize) -> Self {
        Self { nodes: Vec::new(), bytes: 0, bytes_max, forgotten: 0 }
    }

    /// Returns the verdict that a run over these facts would reach, if it is remembered. `bench/results/policy.md` has
    /// the cost.
    pub fn lookup(&self, facts: &impl Respondent) -> Option<&V> {
        let mut node = self.nodes.first()?;
        loop {
            match node {
                Node::Verdict(verdict) => return Some(verdict),
                Node::Ask { link, question, branches } => {
                    let answer = facts.answer(*link, question);
                    let at = find(branches, &answer).ok()?;
                    node = self.nodes.get(branches.get(at)?.node)?;
                }
            }
        }
    }

    /// Remembers a verdict under its trace. `verdict_bytes` are the verdict's bytes on the heap.
    ///
    /// # Errors
    /// [`NotPure`] if the trace contradicts a remembered one.
    pub fn insert(&mut self, trace: &[Asked], verdict: V, verdict_bytes: usize) -> Result<Inserted, NotPure> {
        let mut fork = match self.follow(trace)? {
            Followed::Known => return Ok(Inserted::Known),
            Followed::Forks(fork) => Some(fork),
            Followed::Empty => None,
        };
        let bytes_of = |trace: &[Asked]| {
            let asked: usize = trace.iter().map(node_bytes::<V>).sum();
            asked + size_of::<Node<V>>() + verdict_bytes
        };
        if bytes_of(trace) > self.bytes_max {
            return Ok(Inserted::TooBig);
        }
        let mut fresh = &trace[fork.map_or(0, |fork| fork.matched)..];
        if self.bytes + bytes_of(fresh) > self.bytes_max {
            self.forget();
            (fork, fresh) = (None, trace);
        }
        self.bytes += bytes_of(fresh);
        let next = self.nodes.len();
        if let (Some(fork), Some((asked, rest))) = (fork, fresh.split_first())
            && let Some(Node::Ask { branches, .. }) = self.nodes.get_mut(fork.node)
        {
            branches.insert(fork.at, Branch::new(&asked.answer, next));
            fresh = rest;
        }
        for asked in fresh {
            let Asked { link, question, answer } = asked.clone();
            let branches = vec![Branch::new(&answer, self.nodes.len() + 1)];
            self.nodes.push(Node::Ask { link, question, branches });
        }
        self.nodes.push(Node::Verdict(verdict));
        Ok(Inserted::New)
    }

    /// Returns the number of remembered questions and verdicts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Returns whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Returns how often the trie was full and forgot everything. A high number means that the policy's questions are
    /// too detailed.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    fn forget(&mut self) {
        self.nodes.clear();
        self.bytes = 0;
        self.forgotten += 1;
    }

    /// Follows the trace as far as it is known.
    fn follow(&self, trace: &[Asked]) -> Result<Followed, NotPure> {
        let Some(mut node) = self.nodes.first() else {
            return Ok(Followed::Empty);
        };
        let mut index = 0;
        for (matched, asked) in trace.iter().enumerate() {
            let branches = match node {
                Node::Ask { link, question, branches } if *link == asked.link && *question == asked.question => {
                    branches
                }
                _ => return Err(NotPure { at: matched }),
            };
            match find(branches, &asked.answer) {
                Err(at) => {
                    return Ok(Followed::Forks(Fork { node: index, at, matched }));
                }
                Ok(at) => {
                    index = branches[at].node;
                    node = &self.nodes[index];
                }
            }
        }
        match node {
            Node::Verdict(_) => Ok(Followed::Known),
            Node::Ask { .. } => Err(NotPure { at: trace.len() }),
        }
    }
}

/// How much of a trace is known.
enum Followed {
    Empty,
    Known,
    Forks(Fork),
}

/// The point where a trace leaves the known part: a new branch of `node`, to be inserted at `at`, after `matched` known
/// answers.
#[derive(Clone, Copy)]
struct Fork {
    node: usize,
    at: usize,
    matched: usize,
}

fn find(branches: &[Branch], answer: &Answer) -> Result<usize, usize> {
    let (number, text) = answer.key();
    branches.binary_search_by(|branch| branch.number.cmp(&number).then_with(|| branch.text.as_deref().cmp(&text)))
}

/// Returns the approximate bytes of a question, including its first branch.
fn node_bytes<V>(asked: &Asked) -> usize {
    size_of::<Node<V>>() + size_of::<Branch>() + asked.question.to_string().len() + asked.answer.heap_bytes()
}

#[cfg(test)]
mod tests;
