//! The decision trie: remembers verdicts under exactly the questions asked, an automatic and exact `Vary`. Pure.
//!
//! A policy is a function of the answers it got, so the question it asks first is always the same, the one it asks next
//! hangs only on the answers so far, and after the last one the verdict stands. A look-up replays these questions
//! against the new facts; nothing that was not asked can split a memory.
//!
//! Time needs no expiry of its own: `time.after(t)` is asked again at every look-up, so a memory made before `t` is not
//! found from second `t` on.
//!
//! When the trie is full it forgets everything. Refusing would let junk paths of one bad hour keep good memories out
//! for ever; an order of use would cost a write on each hit. A forgotten verdict costs one run, microseconds.

use crate::question::{Answer, Asked, Question};

/// Answers questions at look-up; the caller's facts with the configs of its links.
pub trait Respondent {
    /// What `question`, asked by `link`, is answered now.
    fn answer(&self, link: u8, question: &Question) -> Answer;
}

impl<F: Fn(u8, &Question) -> Answer> Respondent for F {
    fn answer(&self, link: u8, question: &Question) -> Answer {
        self(link, question)
    }
}

/// Remembered verdicts of one policy version with one config and one version of the geo and group data.
#[derive(Debug)]
pub struct Trie<V> {
    /// The first is the root; empty = nothing remembered.
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

/// Where an answer leads; sorted by number, then text. The sort key is stored, because computing it at each step of the
/// search was four fifths of a look-up.
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

/// What became of an insertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// Remembered.
    New,
    /// It was known.
    Known,
    /// Bigger than the whole trie may be; not remembered.
    TooBig,
}

/// Two runs with the same answers went different ways: the facts changed during a run, or traces of different policies
/// were mixed. Our fault; drop the trie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("runs with the same answers differ at question {at}; traces of different policies were mixed")]
pub struct NotPure {
    /// Which question, counted from 0.
    pub at: usize,
}

impl<V> Trie<V> {
    /// An empty trie that may grow to about `bytes_max`.
    #[must_use]
    pub const fn new(bytes_max: usize) -> Self {
        Self { nodes: Vec::new(), bytes: 0, bytes_max, forgotten: 0 }
    }

    /// The verdict that a run over these facts would reach, if it is remembered. `bench/results/policy.md` has the
    /// cost.
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

    /// Remembers a verdict under its trace. `verdict_bytes` is what it holds on the heap.
    ///
    /// # Errors
    /// [`NotPure`], when the trace contradicts a remembered one.
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

    /// Questions and verdicts remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// How often the trie was full and forgot everything. Often means that the policy asks too fine questions.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    fn forget(&mut self) {
        self.nodes.clear();
        self.bytes = 0;
        self.forgotten += 1;
    }

    /// Goes along the trace as far as it is known.
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

/// How far a trace is known.
enum Followed {
    Empty,
    Known,
    Forks(Fork),
}

/// Where a trace leaves the known: a new branch of `node`, to insert at `at`, after `matched` known answers.
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

/// About what a question costs, its first branch included.
fn node_bytes<V>(asked: &Asked) -> usize {
    size_of::<Node<V>>() + size_of::<Branch>() + asked.question.to_string().len() + asked.answer.heap_bytes()
}

#[cfg(test)]
mod tests;
