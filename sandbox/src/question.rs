//! The questions of a policy, their answers, and the only function that answers them.
//!
//! Fresh runs and remembered decisions both use [`answer`]. Therefore a remembered decision can never differ from what
//! a run would decide.

use std::fmt;

use crate::config::{Config, WrongType};
use crate::country::CountryCode;
use crate::facts::Facts;
use crate::glob::Glob;
use crate::path::canonical_path;
use crate::vocabulary::{ContentKind, Continent, Method, NetworkKind, RefererState, TokenState};

const MINUTE: u32 = 60;
const MINUTES_OF_WEEK: i64 = 7 * 24 * 60;
/// 1970-01-01 was a Thursday. This is the number of minutes from Monday 00:00 to its start.
const EPOCH_MINUTE_OF_WEEK: i64 = 3 * 24 * 60;

/// A hook that a policy may export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hook {
    /// Chooses the edges that DNS answers with.
    Steer,
    /// Decides about each request.
    Serve,
    /// Decides whether and how long an edge keeps an object.
    Hold,
    /// Decides which sites may hold shards.
    Place,
}

/// An interface of facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Area {
    /// The viewer, or in DNS the viewer's resolver.
    Client,
    /// The HTTP request.
    Request,
    /// The requested object.
    Object,
    /// The edge that answers.
    Edge,
    /// The clock.
    Time,
}

impl Hook {
    /// All hooks.
    pub const ALL: [Self; 4] = [Self::Steer, Self::Serve, Self::Hold, Self::Place];

    /// Returns the facts that exist when this hook runs, as the contract lists them.
    #[must_use]
    pub const fn areas(self) -> &'static [Area] {
        match self {
            Self::Steer => &[Area::Client],
            Self::Serve => &[Area::Client, Area::Request, Area::Object, Area::Edge, Area::Time],
            Self::Hold => &[Area::Object, Area::Edge, Area::Time],
            Self::Place => &[Area::Object, Area::Time],
        }
    }

    /// Returns the hook's name in the contract.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Steer => "steer",
            Self::Serve => "serve",
            Self::Hold => "hold",
            Self::Place => "place",
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

macro_rules! questions {
    ($($area:ident { $($case:ident $(($($field:ident: $type:ty),+))? = $name:literal: $doc:literal),+ $(,)? })+) => {
        /// A question to the host, with its arguments. The names are those of the contract.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub enum Question {
            $($(#[doc = $doc] $case $(($($type),+))?,)+)+
        }

        impl Question {
            /// Returns the interface of the question.
            #[must_use]
            pub const fn area(&self) -> Area {
                match self {
                    $($(Self::$case { .. } => Area::$area,)+)+
                }
            }

            /// Returns interface and function, for example `client.country`.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self {
                    $($(Self::$case { .. } => $name,)+)+
                }
            }
        }

        /// Formats the question as test vectors and traces write it: `client.country`, `object.tagged("paid")`.
        impl fmt::Display for Question {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $($(Self::$case $(($($field),+))? => {
                        f.write_str($name)?;
                        $(write!(f, "{:?}", Arguments(&[$($field as &dyn fmt::Debug),+]))?;)?
                        Ok(())
                    })+)+
                }
            }
        }
    };
}

questions! {
    Client {
        ClientCountry = "client.country": "The viewer's country.",
        ClientSubdivision = "client.subdivision": "The viewer's subdivision.",
        ClientContinent = "client.continent": "The viewer's continent.",
        ClientAsn = "client.asn": "The viewer's autonomous system.",
        ClientNetwork = "client.network": "The viewer's kind of network.",
        ClientIpv6 = "client.ipv6": "Whether the viewer came over IPv6.",
        ClientInGroup(name: Box<str>) = "client.in-group": "Whether the viewer's country is in a group.",
        ClientBucket(n: u32) = "client.bucket": "The viewer's bucket in 0..n.",
    }
    Request {
        RequestMethod = "request.method": "The request's method.",
        RequestHttps = "request.https": "Whether over TLS.",
        RequestRange = "request.range": "Whether a range is asked for.",
        RequestToken = "request.token": "What the token is worth.",
        RequestTokenClaim(slot: u8) = "request.token-claim": "A number of the token.",
        RequestReferer = "request.referer": "Where the link was.",
        RequestHostIs(name: Box<str>) = "request.host-is": "Whether the host is this one.",
        RequestPathIs(path: Box<str>) = "request.path-is": "Whether the path is this one.",
        RequestPathStarts(prefix: Box<str>) = "request.path-starts": "Whether the path starts so.",
        RequestPathEnds(suffix: Box<str>) = "request.path-ends": "Whether the path ends so.",
        RequestPathGlob(glob: Box<str>) = "request.path-glob": "Whether the path matches a glob.",
        RequestHeaderIs(name: Box<str>, value: Box<str>) = "request.header-is": "Whether a header has this value.",
        RequestHeaderHas(name: Box<str>, part: Box<str>) = "request.header-has": "Whether a header contains this.",
        RequestQueryIs(name: Box<str>, value: Box<str>) = "request.query-is": "Whether a query field has this value.",
        RequestHeader(name: Box<str>, bytes_max: u16) = "request.header": "A header, cut.",
        RequestPath(bytes_max: u16) = "request.path": "The path, cut.",
        // The contract has this question under config, but its answer depends on the request. So it is remembered like
        // a fact.
        PathRule(key: Box<str>) = "config.path-rule": "The number of the first rule whose glob matches the path.",
    }
    Object {
        ObjectKind = "object.kind": "The kind of content.",
        ObjectSize = "object.size": "The size in KiB.",
        ObjectImmutable = "object.immutable": "Whether it never changes.",
        ObjectCreated = "object.created": "When it was created.",
        ObjectTagged(tag: Box<str>) = "object.tagged": "Whether it has a tag.",
        ObjectTagNumber(tag: Box<str>) = "object.tag-number": "The number of a tag.",
    }
    Edge {
        EdgeCountry = "edge.country": "The edge's country.",
        EdgeContinent = "edge.continent": "The edge's continent.",
        EdgeRegion = "edge.region": "The edge's region.",
        EdgeLoad = "edge.load": "How full the edge is.",
        EdgeInGroup(name: Box<str>) = "edge.in-group": "Whether the edge's country is in a group.",
    }
    Time {
        TimeAfter(t: u32) = "time.after": "Whether this second has come.",
        TimeMinuteOfWeek(utc_offset: i16) = "time.minute-of-week": "The minute of the week, Monday 00:00 = 0.",
    }
}

/// Formats arguments as `("a", 1)`.
struct Arguments<'a>(&'a [&'a dyn fmt::Debug]);

impl fmt::Debug for Arguments<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, argument) in self.0.iter().enumerate() {
            write!(f, "{}{argument:?}", if at == 0 { "(" } else { ", " })?;
        }
        f.write_str(")")
    }
}

macro_rules! answers {
    ($($case:ident($type:ty): $doc:literal),+ $(,)?) => {
        /// The answer to a [`Question`].
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Answer {
            $(#[doc = $doc] $case($type),)+
        }

        $(impl From<$type> for Answer {
            fn from(value: $type) -> Self {
                Self::$case(value)
            }
        }

        impl TryFrom<Answer> for $type {
            type Error = Answer;

            fn try_from(answer: Answer) -> Result<Self, Answer> {
                match answer {
                    Answer::$case(value) => Ok(value),
                    other => Err(other),
                }
            }
        })+
    };
}

answers! {
    Truth(bool): "Yes or no.",
    Number(u32): "A number.",
    MaybeNumber(Option<u32>): "A number, or none.",
    Country(CountryCode): "A country.",
    Continent(Continent): "A continent.",
    Network(NetworkKind): "A kind of network.",
    Method(Method): "A method.",
    Token(TokenState): "The state of a token.",
    Referer(RefererState): "The state of a referer.",
    Kind(ContentKind): "A kind of content.",
    Text(Box<str>): "A text.",
    MaybeText(Option<Box<str>>): "A text, or none.",
}

impl Answer {
    /// Returns a sort key for the answers of one question. All answers of a question have the same type, so keys of
    /// different types never meet.
    #[inline]
    pub(crate) fn key(&self) -> (u64, Option<&str>) {
        match self {
            Self::Truth(truth) => (u64::from(*truth), None),
            Self::Number(number) => (u64::from(*number), None),
            Self::MaybeNumber(number) => (number.map_or(0, |number| 1 + u64::from(number)), None),
            Self::Country(country) => (u64::from(country.packed()), None),
            Self::Continent(continent) => (*continent as u64, None),
            Self::Network(network) => (*network as u64, None),
            Self::Method(method) => (*method as u64, None),
            Self::Token(token) => (*token as u64, None),
            Self::Referer(referer) => (*referer as u64, None),
            Self::Kind(kind) => (*kind as u64, None),
            Self::Text(text) => (0, Some(text)),
            Self::MaybeText(text) => (0, text.as_deref()),
        }
    }

    /// Returns the answer's bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.key().1.map_or(0, str::len)
    }
}

/// Formats the answer as test vectors write it: `"DE"`, `17`, `true`; `none` for an absent value.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truth(truth) => truth.fmt(f),
            Self::Number(number) | Self::MaybeNumber(Some(number)) => number.fmt(f),
            Self::Country(country) => country.fmt(f),
            Self::Continent(continent) => continent.fmt(f),
            Self::Network(network) => network.fmt(f),
            Self::Method(method) => method.fmt(f),
            Self::Token(token) => token.fmt(f),
            Self::Referer(referer) => referer.fmt(f),
            Self::Kind(kind) => kind.fmt(f),
            Self::Text(text) | Self::MaybeText(Some(text)) => write!(f, "{text:?}"),
            Self::MaybeNumber(None) | Self::MaybeText(None) => f.write_str("none"),
        }
    }
}

/// A question and its answer, as recorded in a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The link of the chain that asked; 0 outside chains. Each link has its own config.
    pub link: u8,
    /// The question.
    pub question: Question,
    /// The answer.
    pub answer: Answer,
}

/// Answers `question` from the facts and from the config of the link that asks.
///
/// Allocates only for whole texts, globs, and paths that are not in canonical form. A glob that is too long matches
/// nothing here; a run refuses it earlier.
///
/// # Errors
/// [`WrongType`] if the question is about a key that has another type in the config. Such a run gives no verdict, so
/// none is remembered under such a question.
pub fn answer(facts: &dyn Facts, config: &Config, question: &Question) -> Result<Answer, WrongType> {
    Ok(match question {
        Question::ClientCountry => facts.client_country().into(),
        Question::ClientSubdivision => u32::from(facts.client_subdivision()).into(),
        Question::ClientContinent => facts.client_continent().into(),
        Question::ClientAsn => facts.client_asn().into(),
        Question::ClientNetwork => facts.client_network().into(),
        Question::ClientIpv6 => facts.client_ipv6().into(),
        Question::ClientInGroup(name) => {
            let is_own = config.has_country(name, facts.client_country())?;
            (is_own || facts.client_in_group(name)).into()
        }
        Question::ClientBucket(n) => facts.client_bucket(*n).into(),
        Question::RequestMethod => facts.request_method().into(),
        Question::RequestHttps => facts.request_https().into(),
        Question::RequestRange => facts.request_range().into(),
        Question::RequestToken => facts.request_token().into(),
        Question::RequestTokenClaim(slot) => facts.request_token_claim(*slot).into(),
        Question::RequestReferer => facts.request_referer().into(),
        Question::RequestHostIs(name) => (facts.request_host() == &**name).into(),
        Question::RequestPathIs(path) => (facts.request_path() == canonical_path(path)).into(),
        Question::RequestPathStarts(prefix) => facts.request_path().starts_with(&*canonical_path(prefix)).into(),
        Question::RequestPathEnds(suffix) => facts.request_path().ends_with(&*canonical_path(suffix)).into(),
        Question::RequestPathGlob(glob) => Glob::new(glob).is_ok_and(|glob| glob.matches(facts.request_path())).into(),
        Question::RequestHeaderIs(name, value) => {
            facts.request_header(name).is_some_and(|header| header == **value).into()
        }
        Question::RequestHeaderHas(name, part) => {
            facts.request_header(name).is_some_and(|header| header.contains(&**part)).into()
        }
        Question::RequestQueryIs(name, value) => facts.request_query(name).is_some_and(|field| field == **value).into(),
        Question::RequestHeader(name, bytes_max) => {
            facts.request_header(name).map(|header| Box::from(cut(&header, *bytes_max))).into()
        }
        Question::RequestPath(bytes_max) => Box::<str>::from(cut(facts.request_path(), *bytes_max)).into(),
        Question::PathRule(key) => config.path_rule(key, facts.request_path())?.into(),
        Question::ObjectKind => facts.object_kind().into(),
        Question::ObjectSize => facts.object_size().into(),
        Question::ObjectImmutable => facts.object_immutable().into(),
        Question::ObjectCreated => facts.object_created().into(),
        Question::ObjectTagged(tag) => facts.object_tagged(tag).into(),
        Question::ObjectTagNumber(tag) => facts.object_tag_number(tag).into(),
        Question::EdgeCountry => facts.edge_country().into(),
        Question::EdgeContinent => facts.edge_continent().into(),
        Question::EdgeRegion => u32::from(facts.edge_region()).into(),
        Question::EdgeLoad => u32::from(facts.edge_load()).into(),
        Question::EdgeInGroup(name) => {
            let is_own = config.has_country(name, facts.edge_country())?;
            (is_own || facts.edge_in_group(name)).into()
        }
        Question::TimeAfter(t) => (facts.now() >= *t).into(),
        Question::TimeMinuteOfWeek(utc_offset) => u32::from(minute_of_week(facts.now(), *utc_offset)).into(),
    })
}

/// Returns the first second at which an answer in `trace` changes with time alone, or `None` if none ever does.
///
/// The trie does not need this, because it asks the clock again. Whoever passes the verdict on, such as a cache or a
/// viewer, needs it.
#[must_use]
pub fn valid_until(trace: &[Asked], now: u32) -> Option<u32> {
    let turns = trace.iter().filter_map(|asked| match asked.question {
        Question::TimeAfter(t) if now < t => Some(t),
        Question::TimeMinuteOfWeek(_) => (now - now % MINUTE).checked_add(MINUTE),
        _ => None,
    });
    turns.min()
}

fn minute_of_week(now: u32, utc_offset: i16) -> u16 {
    let minutes = i64::from(now / MINUTE) + EPOCH_MINUTE_OF_WEEK + i64::from(utc_offset);
    u16::try_from(minutes.rem_euclid(MINUTES_OF_WEEK)).expect("a week has 10080 minutes")
}

/// Returns the first `bytes_max` bytes of `text`, or a few less to avoid splitting a letter.
fn cut(text: &str, bytes_max: u16) -> &str {
    &text[..text.floor_char_boundary(usize::from(bytes_max))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn week_begins_on_monday_at_midnight_of_the_offset() {
        let monday = 1_767_571_200; // 2026-01-05T00:00Z
        assert_eq!((minute_of_week(monday, 0), minute_of_week(monday - 1, 0)), (0, 10_079));
        assert_eq!((minute_of_week(monday, 60), minute_of_week(monday, -1)), (60, 10_079));
        assert_eq!((minute_of_week(0, 0), minute_of_week(0, i16::MIN)), (4_320, 1_792));
    }

    #[test]
    fn cuts_between_letters() {
        assert_eq!((cut("größe", 3), cut("größe", 4), cut("größe", 99), cut("ä", 0)), ("gr", "grö", "größe", ""));
    }

    #[test]
    fn questions_read_as_in_test_vectors() {
        assert_eq!(Question::ClientCountry.to_string(), "client.country");
        assert_eq!(Question::RequestHeaderIs("a".into(), "b".into()).to_string(), "request.header-is(\"a\", \"b\")");
        assert_eq!(Question::TimeAfter(7).to_string(), "time.after(7)");
    }

    #[test]
    fn validity_ends_where_the_first_answer_turns() {
        let asked = |question, answer| Asked { link: 0, question, answer };
        let trace = [
            asked(Question::TimeAfter(100), Answer::Truth(true)),
            asked(Question::TimeAfter(500), Answer::Truth(false)),
            asked(Question::TimeAfter(300), Answer::Truth(false)),
        ];
        assert_eq!(valid_until(&trace, 200), Some(300));
        assert_eq!(valid_until(&trace[..1], 200), None);
        assert_eq!(valid_until(&[asked(Question::TimeMinuteOfWeek(0), Answer::Number(1))], 119), Some(120));
    }
}
