//! The host's side of the contract: it answers a guest's questions and records them.
//!
//! One [`State`] lives in the store of one run. Invariants: a question is answered only if its facts exist in the hook;
//! it is recorded once, in order; every list here is bounded.

use std::sync::Arc;

use wasmtime::{Error, Result};

use crate::bindings::evernear::policy::{client, config, edge, effect, object, request, time, types};
use crate::config::{Config, WrongType};
use crate::country::CountryCode;
use crate::facts::Facts;
use crate::fault::Fault;
use crate::glob::Glob;
use crate::headers::{self, Header};
use crate::limits::{ANSWER_BYTES_MAX, EFFECT_BYTES_MAX, EFFECTS_MAX, Limits, QUESTIONS_MAX};
use crate::policy::Effect;
use crate::question::{Answer, Asked, Hook, Question, answer};
use crate::vocabulary::{ContentKind, Continent, Method, NetworkKind, RefererState, TokenState};

mod limiter;

pub(crate) use limiter::{CORE_INSTANCES_MAX, Limiter, MEMORIES_MAX, TABLES_MAX};

/// What a run knows and records.
pub(crate) struct State {
    facts: Arc<dyn Facts>,
    config: Arc<Config>,
    hook: Hook,
    pub(crate) limiter: Limiter,
    pub(crate) trace: Vec<Asked>,
    answer_bytes: usize,
    pub(crate) effects: Vec<Effect>,
    /// Why the host ended the run.
    pub(crate) fault: Option<Fault>,
}

impl State {
    pub(crate) fn new(facts: Arc<dyn Facts>, config: Arc<Config>, hook: Hook, limits: &Limits) -> Self {
        Self {
            facts,
            config,
            hook,
            limiter: Limiter::new(limits),
            trace: Vec::new(),
            answer_bytes: 0,
            effects: Vec::new(),
            fault: None,
        }
    }

    /// Answers a question, and records it the first time.
    fn ask<T: TryFrom<Answer>>(&mut self, question: Question) -> Result<T> {
        let known = self.trace.iter().find(|asked| asked.question == question).map(|asked| asked.answer.clone());
        let answer = match known {
            Some(answer) => answer,
            None => self.ask_anew(question)?,
        };
        T::try_from(answer).map_err(|_| Error::msg("the host answered a question with another sort of answer"))
    }

    fn ask_anew(&mut self, question: Question) -> Result<Answer> {
        if !self.hook.areas().contains(&question.area()) {
            return Err(self.refuse_question(&question, "its facts do not exist in this hook"));
        }
        if self.trace.len() == QUESTIONS_MAX {
            return Err(self.refuse_question(&question, "a run may ask 64 different questions"));
        }
        if let Question::RequestPathGlob(glob) = &question
            && Glob::new(glob).is_err()
        {
            return Err(self.refuse_question(&question, "the glob has more than 127 letters, `?` and stars"));
        }
        let answer = answer(&*self.facts, &self.config, &question).map_err(|wrong| self.refuse_type(wrong))?;
        self.answer_bytes = self.answer_bytes.saturating_add(answer.heap_bytes());
        if self.answer_bytes > ANSWER_BYTES_MAX {
            return Err(self.refuse_question(&question, "a run may get 16 KiB of text"));
        }
        self.trace.push(Asked { link: 0, question, answer: answer.clone() });
        Ok(answer)
    }

    fn refuse_question(&mut self, question: &Question, reason: &'static str) -> Error {
        self.end(Fault::Question { hook: self.hook, question: question.to_string(), reason })
    }

    fn refuse_type(&mut self, WrongType { key, asked, found }: WrongType) -> Error {
        self.end(Fault::Config { hook: self.hook, key, asked, found })
    }

    fn add_effect(&mut self, effect: std::result::Result<Effect, String>) -> Result<()> {
        let hook = self.hook;
        let refused = match effect {
            Err(reason) => reason,
            Ok(effect) if effect.bytes() > EFFECT_BYTES_MAX => {
                format!("it is longer than {EFFECT_BYTES_MAX} bytes")
            }
            Ok(_) if self.effects.len() == EFFECTS_MAX => format!("a run may add {EFFECTS_MAX}"),
            Ok(effect) => {
                self.effects.push(effect);
                return Ok(());
            }
        };
        Err(self.end(Fault::Effect { hook, reason: refused }))
    }

    /// Ends the run. The error stops the guest; the fault stays here for the caller.
    fn end(&mut self, fault: Fault) -> Error {
        let error = Error::msg(fault.to_string());
        self.fault.get_or_insert(fault);
        error
    }
}

/// Header names in questions are lower case, so two spellings are one question.
fn lower(mut name: String) -> Box<str> {
    name.make_ascii_lowercase();
    name.into()
}

impl types::Host for State {}

impl client::Host for State {
    fn country(&mut self) -> Result<u16> {
        self.ask(Question::ClientCountry).map(CountryCode::packed)
    }
    fn subdivision(&mut self) -> Result<u16> {
        Ok(u16::try_from(self.ask::<u32>(Question::ClientSubdivision)?)?)
    }
    fn continent(&mut self) -> Result<Continent> {
        self.ask(Question::ClientContinent)
    }
    fn asn(&mut self) -> Result<u32> {
        self.ask(Question::ClientAsn)
    }
    fn network(&mut self) -> Result<NetworkKind> {
        self.ask(Question::ClientNetwork)
    }
    fn ipv6(&mut self) -> Result<bool> {
        self.ask(Question::ClientIpv6)
    }
    fn in_group(&mut self, name: String) -> Result<bool> {
        self.ask(Question::ClientInGroup(name.into()))
    }
    fn bucket(&mut self, n: u32) -> Result<u32> {
        self.ask(Question::ClientBucket(n))
    }
}

impl request::Host for State {
    fn method(&mut self) -> Result<Method> {
        self.ask(Question::RequestMethod)
    }
    fn https(&mut self) -> Result<bool> {
        self.ask(Question::RequestHttps)
    }
    fn range(&mut self) -> Result<bool> {
        self.ask(Question::RequestRange)
    }
    fn token(&mut self) -> Result<TokenState> {
        self.ask(Question::RequestToken)
    }
    fn token_claim(&mut self, slot: u8) -> Result<u32> {
        self.ask(Question::RequestTokenClaim(slot))
    }
    fn referer(&mut self) -> Result<RefererState> {
        self.ask(Question::RequestReferer)
    }
    fn host_is(&mut self, name: String) -> Result<bool> {
        self.ask(Question::RequestHostIs(lower(name)))
    }
    fn path_is(&mut self, path: String) -> Result<bool> {
        self.ask(Question::RequestPathIs(path.into()))
    }
    fn path_starts(&mut self, prefix: String) -> Result<bool> {
        self.ask(Question::RequestPathStarts(prefix.into()))
    }
    fn path_ends(&mut self, suffix: String) -> Result<bool> {
        self.ask(Question::RequestPathEnds(suffix.into()))
    }
    fn path_glob(&mut self, glob: String) -> Result<bool> {
        self.ask(Question::RequestPathGlob(glob.into()))
    }
    fn header_is(&mut self, name: String, value: String) -> Result<bool> {
        self.ask(Question::RequestHeaderIs(lower(name), value.into()))
    }
    fn header_has(&mut self, name: String, part: String) -> Result<bool> {
        self.ask(Question::RequestHeaderHas(lower(name), part.into()))
    }
    fn query_is(&mut self, name: String, value: String) -> Result<bool> {
        self.ask(Question::RequestQueryIs(name.into(), value.into()))
    }
    fn header(&mut self, name: String, max: u16) -> Result<Option<String>> {
        let text: Option<Box<str>> = self.ask(Question::RequestHeader(lower(name), max))?;
        Ok(text.map(String::from))
    }
    fn path(&mut self, max: u16) -> Result<String> {
        let text: Box<str> = self.ask(Question::RequestPath(max))?;
        Ok(text.into())
    }
}

impl object::Host for State {
    fn kind(&mut self) -> Result<ContentKind> {
        self.ask(Question::ObjectKind)
    }
    fn size(&mut self) -> Result<u32> {
        self.ask(Question::ObjectSize)
    }
    fn immutable(&mut self) -> Result<bool> {
        self.ask(Question::ObjectImmutable)
    }
    fn created(&mut self) -> Result<u32> {
        self.ask(Question::ObjectCreated)
    }
    fn tagged(&mut self, tag: String) -> Result<bool> {
        self.ask(Question::ObjectTagged(tag.into()))
    }
    fn tag_number(&mut self, tag: String) -> Result<Option<u32>> {
        self.ask(Question::ObjectTagNumber(tag.into()))
    }
}

impl edge::Host for State {
    fn country(&mut self) -> Result<u16> {
        self.ask(Question::EdgeCountry).map(CountryCode::packed)
    }
    fn continent(&mut self) -> Result<Continent> {
        self.ask(Question::EdgeContinent)
    }
    fn region(&mut self) -> Result<u16> {
        Ok(u16::try_from(self.ask::<u32>(Question::EdgeRegion)?)?)
    }
    fn load(&mut self) -> Result<u8> {
        Ok(u8::try_from(self.ask::<u32>(Question::EdgeLoad)?)?)
    }
    fn in_group(&mut self, name: String) -> Result<bool> {
        self.ask(Question::EdgeInGroup(name.into()))
    }
}

impl time::Host for State {
    fn after(&mut self, t: u32) -> Result<bool> {
        self.ask(Question::TimeAfter(t))
    }
    fn minute_of_week(&mut self, utc_offset: i16) -> Result<u16> {
        Ok(u16::try_from(self.ask::<u32>(Question::TimeMinuteOfWeek(utc_offset))?)?)
    }
}

impl config::Host for State {
    fn number(&mut self, key: String) -> Result<Option<u32>> {
        self.config.number(&key).map_err(|wrong| self.refuse_type(wrong))
    }
    fn text(&mut self, key: String) -> Result<Option<String>> {
        let text = self.config.text(&key).map(|text| text.map(str::to_owned));
        text.map_err(|wrong| self.refuse_type(wrong))
    }
    fn truth(&mut self, key: String) -> Result<bool> {
        self.config.truth(&key).map_err(|wrong| self.refuse_type(wrong))
    }
    fn has(&mut self, key: String, member: u32) -> Result<bool> {
        self.config.has(&key, member).map_err(|wrong| self.refuse_type(wrong))
    }
    fn has_text(&mut self, key: String, member: String) -> Result<bool> {
        self.config.has_text(&key, &member).map_err(|wrong| self.refuse_type(wrong))
    }
    fn path_rule(&mut self, key: String) -> Result<Option<u32>> {
        self.ask(Question::PathRule(key.into()))
    }
}

impl effect::Host for State {
    fn header(&mut self, name: String, value: String) -> Result<()> {
        self.add_effect(Header::new(&name, &value).map(Effect::Header).map_err(|error| error.to_string()))
    }
    fn drop_header(&mut self, name: String) -> Result<()> {
        let name = headers::checked_name(&name);
        self.add_effect(name.map(Effect::DropHeader).map_err(|error| error.to_string()))
    }
    fn count(&mut self, name: String) -> Result<()> {
        self.add_effect(Ok(Effect::Count(name.into())))
    }
    fn note(&mut self, text: String) -> Result<()> {
        self.add_effect(Ok(Effect::Note(text.into())))
    }
}
