//! What the sender of an upload wishes for it, from the fields of the request. All of it is checked before the first
//! byte of the body is read; what nobody knows is refused. Pure; the time is an argument.
//!
//! | field | value |
//! |---|---|
//! | `x-evernear-policy` | the name of one of the owner's policies |
//! | `x-evernear-profile` | `standard`, `eco`, `archive`, `small-cluster` or data+parity, such as `4+2` |
//! | `x-evernear-places` | `country:BE,region:eu-west`; with `!` in front where shards may not lie |
//! | `x-evernear-at-most` | `zone=2,operator=4`: how many shards may lie in one place of a kind |
//! | `x-evernear-expires`, `x-evernear-keep-until` | `2027-01-31`, `2027-01-31T12:00:00Z`, `+30d`, or `never` |
//! | `x-evernear-tags` | `premium=1,red`: names with numbers that the policy may ask for |
//! | `x-evernear-name`, `x-name` | the name, in UTF-8 with percent signs |

use std::sync::{Arc, PoisonError, RwLock};

use axum::http::{HeaderMap, HeaderName};
use format::{
    Cap, CapError, Domain, Level, Moment, PlaceError, PolicyManifestError, PolicyName, Profile, ProfileError, Retention,
};
use percent_encoding::percent_decode_str;
use sandbox::CountryCode;
use twin::{MediaType, MediaTypeError, MomentError, PutOptions, Tenure};

use crate::session::FIELD;

const PREFIX: &str = "x-evernear-";
/// The wish that nobody can take back.
pub(crate) const KEEP_UNTIL: &str = "x-evernear-keep-until";
const KNOWN: [&str; 8] = ["policy", "profile", "places", "at-most", "expires", "keep-until", "tags", "name"];

/// What an upload gets where nobody wishes for something else.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    /// Redundancy.
    pub profile: Profile,
    /// Policy.
    pub policy: PolicyName,
}

/// The defaults of an API that runs, which whoever runs it may change.
#[derive(Debug, Clone)]
pub(crate) struct SharedDefaults(Arc<RwLock<Defaults>>);

impl SharedDefaults {
    pub(crate) fn new(defaults: Defaults) -> Self {
        Self(Arc::new(RwLock::new(defaults)))
    }

    pub(crate) fn now(&self) -> Defaults {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_profile(&self, profile: Profile) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).profile = profile;
    }
}

/// A wish that cannot be granted; its sender's fault.
#[derive(Debug, thiserror::Error)]
pub enum WishError {
    /// No such field.
    #[error("there is no field {PREFIX}{field}; there are {}", KNOWN.join(", "))]
    Unknown {
        /// What follows the prefix, cut at 40 characters.
        field: String,
    },
    /// A field stands twice.
    #[error("the field {field} stands there twice")]
    Twice {
        /// Which.
        field: String,
    },
    /// A value that is not text.
    #[error("the field {field} is not ASCII; write other letters with percent signs")]
    Text {
        /// Which.
        field: String,
    },
    /// Broken percent signs, or not UTF-8.
    #[error("the name is not percent-encoded UTF-8")]
    Name,
    /// No policy is called so.
    #[error("{PREFIX}policy")]
    Policy(#[source] PolicyManifestError),
    /// No profile.
    #[error("{PREFIX}profile")]
    Profile(#[source] ProfileError),
    /// No place.
    #[error("{PREFIX}places")]
    Place(#[source] PlaceError),
    /// No country.
    #[error("{PREFIX}places: no country has the ISO 3166-1 code {code}; the United Kingdom is GB, Greece is GR")]
    Country {
        /// The code.
        code: String,
    },
    /// No cap.
    #[error("{PREFIX}at-most")]
    Cap(#[source] CapError),
    /// Two caps for one level.
    #[error("{PREFIX}at-most: {level} is capped twice; name one number")]
    CapTwice {
        /// Which.
        level: Level,
    },
    /// No time.
    #[error("{field}")]
    Moment {
        /// Which field.
        field: &'static str,
        /// Why.
        source: MomentError,
    },
    /// A time that is past.
    #[error("{field}: that is {}, and it is {} now", Moment(*moment), Moment(*now))]
    Past {
        /// Which field.
        field: &'static str,
        /// Seconds since 1970.
        moment: u64,
        /// Seconds since 1970.
        now: u64,
    },
    /// Kept for longer than it exists.
    #[error("it is to be kept until {}, and to end at {}", Moment(*keep_until), Moment(*expires))]
    KeptLonger {
        /// Seconds since 1970.
        keep_until: u64,
        /// Seconds since 1970.
        expires: u64,
    },
    /// No tag.
    #[error("{PREFIX}tags: {tag:?} is no tag; write NAME or NAME=NUMBER, with a number from 0 to {}", u32::MAX)]
    Tag {
        /// What was given, cut at 80 characters.
        tag: String,
    },
    /// No media type.
    #[error("content-type")]
    Type(#[source] MediaTypeError),
}

/// Reads the wishes of an upload at `now`, seconds since 1970. `name` is the one in the path, which counts first.
///
/// # Errors
/// [`WishError`].
pub fn wishes(fields: &HeaderMap, name: Option<&str>, defaults: &Defaults, now: u64) -> Result<PutOptions, WishError> {
    for field in fields.keys().filter(|field| is_wish(field)).filter_map(|field| field.as_str().strip_prefix(PREFIX)) {
        if !KNOWN.contains(&field) {
            return Err(WishError::Unknown { field: field.chars().take(40).collect() });
        }
    }
    let of = |field: &str| one(fields, &format!("{PREFIX}{field}"));
    let policy = of("policy")?.map(|text| text.parse().map_err(WishError::Policy)).transpose()?;
    let profile = of("profile")?.map(|text| text.parse().map_err(WishError::Profile)).transpose()?;
    let (wanted, refused) = places(of("places")?.unwrap_or_default())?;
    let times = (of("keep-until")?, of("expires")?);
    let retention = retention(times, now)?;
    let asked_times = [times.0, times.1].map(|time| time.unwrap_or("-")).join(" ");
    let named = [of("name")?, one(fields, "x-name")?].into_iter().flatten().next().map(decoded).transpose()?;
    Ok(PutOptions {
        tenure: Tenure {
            profile: profile.unwrap_or(defaults.profile),
            policy: policy.unwrap_or_else(|| defaults.policy.clone()),
            wanted,
            refused,
            caps: caps(of("at-most")?.unwrap_or_default())?,
            retention,
            ..Tenure::default()
        },
        tags: list(of("tags")?.unwrap_or_default()).map(tag).collect::<Result<_, _>>()?,
        name: name.map(str::to_owned).or(named),
        asked_times,
        ..PutOptions::default()
    })
}

/// Reads the media type of a body that is one file. None where the sender does not know it: it is found out from the
/// bytes then. What clients send by themselves, without a look at the file, tells nothing.
///
/// # Errors
/// [`WishError::Type`].
pub(crate) fn media_type(text: Option<&str>) -> Result<Option<MediaType>, WishError> {
    const EMPTY: [&str; 4] = ["", "*/*", "application/octet-stream", "application/x-www-form-urlencoded"];
    let told = text.map(str::trim).filter(|text| !EMPTY.contains(text));
    told.map(|text| text.parse().map_err(WishError::Type)).transpose()
}

/// Whether a field is a wish. The console's own is none.
pub(crate) fn is_wish(field: &HeaderName) -> bool {
    field.as_str().starts_with(PREFIX) && *field != FIELD
}

/// Returns the value of a field that may stand once.
fn one<'f>(fields: &'f HeaderMap, field: &str) -> Result<Option<&'f str>, WishError> {
    let mut values = fields.get_all(field).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(WishError::Twice { field: field.to_owned() });
    }
    value.to_str().map(|text| Some(text.trim())).map_err(|_| WishError::Text { field: field.to_owned() })
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// Decodes percent signs. A browser's `encodeURIComponent` and Python's `quote` write them.
pub(crate) fn decoded(text: &str) -> Result<String, WishError> {
    let mut signs = text.split('%').skip(1);
    let is_sign = |rest: &str| rest.as_bytes().get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
    if !signs.all(is_sign) {
        return Err(WishError::Name);
    }
    percent_decode_str(text).decode_utf8().map(Into::into).map_err(|_| WishError::Name)
}

fn places(text: &str) -> Result<(Vec<Domain>, Vec<Domain>), WishError> {
    let (mut wanted, mut refused) = (Vec::new(), Vec::new());
    for place in list(text) {
        let domain: Domain = place.strip_prefix('!').unwrap_or(place).parse().map_err(WishError::Place)?;
        if let Domain::Country(country) = &domain {
            let code = country.to_string();
            if !code.parse().is_ok_and(CountryCode::is_assigned) {
                return Err(WishError::Country { code });
            }
        }
        if place.starts_with('!') { refused.push(domain) } else { wanted.push(domain) }
    }
    Ok((wanted, refused))
}

fn caps(text: &str) -> Result<Vec<Cap>, WishError> {
    let mut caps: Vec<Cap> = Vec::new();
    for cap in list(text) {
        let cap: Cap = cap.parse().map_err(WishError::Cap)?;
        if caps.iter().any(|it| it.level == cap.level) {
            return Err(WishError::CapTwice { level: cap.level });
        }
        caps.push(cap);
    }
    Ok(caps)
}

/// Reads the two times of a lease; `never` is none.
pub(crate) fn retention((keep_until, expires): (Option<&str>, Option<&str>), now: u64) -> Result<Retention, WishError> {
    let keep_until = time(KEEP_UNTIL, keep_until, now)?.unwrap_or(0);
    let expires = time("x-evernear-expires", expires, now)?.unwrap_or(0);
    if expires != 0 && keep_until > expires {
        return Err(WishError::KeptLonger { keep_until, expires });
    }
    Ok(Retention { keep_until, expires })
}

/// Reads a time to come; zero for `never`, none where there is no text.
pub(crate) fn time(field: &'static str, text: Option<&str>, now: u64) -> Result<Option<u64>, WishError> {
    match text {
        None => Ok(None),
        Some("never") => Ok(Some(0)),
        Some(text) => {
            let moment = twin::moment(text, now).map_err(|source| WishError::Moment { field, source })?;
            if moment > now { Ok(Some(moment)) } else { Err(WishError::Past { field, moment, now }) }
        }
    }
}

fn tag(text: &str) -> Result<(String, u32), WishError> {
    let wrong = || WishError::Tag { tag: text.chars().take(80).collect() };
    let (name, number) = text.split_once('=').unwrap_or((text, "1"));
    if name.is_empty() {
        return Err(wrong());
    }
    Ok((decoded(name)?, number.parse().map_err(|_| wrong())?))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&str, &str)| {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), value)
        };
        let mut all = HeaderMap::new();
        for (name, value) in pairs.iter().map(field) {
            all.append(name, value);
        }
        all
    }

    fn read(pairs: &[(&str, &str)]) -> Result<PutOptions, WishError> {
        wishes(&fields(pairs), None, &Defaults::default(), 100)
    }

    #[test]
    fn every_wish_reaches_the_options() {
        let put = read(&[
            ("x-evernear-policy", "europe-only"),
            ("x-evernear-profile", "4+2"),
            ("x-evernear-places", "country:BE, zone:bru1,!operator:acme"),
            ("x-evernear-at-most", "zone=2,operator=4"),
            ("x-evernear-expires", "+1h"),
            ("x-evernear-keep-until", "+30m"),
            ("x-evernear-tags", "premium=7, red,r%C3%A9d=2"),
            ("x-evernear-name", "caf%C3%A9.txt"),
            ("x-name", "other"),
        ]);
        let PutOptions { tenure, tags, name, .. } = put.unwrap();
        assert_eq!((tenure.policy.as_str(), tenure.profile.to_string()), ("europe-only", "4+2".to_owned()));
        assert_eq!(tenure.places(), ["country:BE", "zone:bru1", "!operator:acme"]);
        assert_eq!(tenure.caps.len(), 2);
        assert_eq!(tenure.retention, Retention { keep_until: 1900, expires: 3700 });
        assert_eq!(tags, [("premium".into(), 7), ("red".into(), 1), ("réd".into(), 2)].into());
        assert_eq!(name.as_deref(), Some("café.txt"));
    }

    #[test]
    fn nothing_wished_is_the_default_and_the_path_names_first() {
        let put = read(&[("x-name", "a%20b"), ("content-type", "image/png"), ("x-evernear-console", "1")]).unwrap();
        assert_eq!((put.name.as_deref(), put.tenure), (Some("a b"), Tenure::default()));
        let named = wishes(&fields(&[("x-name", "b")]), Some("a"), &Defaults::default(), 1).unwrap();
        assert_eq!(named.name.as_deref(), Some("a"));
        let never = read(&[("x-evernear-expires", "never")]).unwrap();
        assert_eq!(never.tenure.retention, Retention::default());
    }

    #[test]
    fn what_cannot_be_granted_is_refused_with_the_field_and_the_reason() {
        for (field, value, says) in [
            ("x-evernear-polcy", "a", "there is no field x-evernear-polcy"),
            ("x-evernear-policy", "Über", "not ASCII"),
            ("x-evernear-policy", "A B", "x-evernear-policy"),
            ("x-evernear-profile", "fast", "x-evernear-profile"),
            ("x-evernear-places", "planet:mars", "x-evernear-places"),
            ("x-evernear-places", "country:UK", "Kingdom is GB"),
            ("x-evernear-at-most", "zone=0", "x-evernear-at-most"),
            ("x-evernear-at-most", "zone=1,zone=2", "capped twice"),
            ("x-evernear-expires", "soon", "x-evernear-expires"),
            ("x-evernear-expires", "1970-01-01", "it is 1970-01-01T00:01:40Z now"),
            ("x-evernear-tags", "a=b", "\"a=b\" is no tag"),
            ("x-evernear-tags", "=1", "\"=1\" is no tag"),
            ("x-evernear-name", "%zz", "percent-encoded"),
            ("x-evernear-name", "%ff", "percent-encoded"),
        ] {
            let error = read(&[(field, value)]).unwrap_err().to_string();
            assert!(error.contains(says), "{field}: {value}: {error}");
        }
        assert!(matches!(read(&[("x-name", "a"), ("x-name", "b")]), Err(WishError::Twice { .. })));
        let longer = read(&[("x-evernear-keep-until", "+2d"), ("x-evernear-expires", "+1d")]);
        assert!(matches!(longer, Err(WishError::KeptLonger { .. })));
    }

    #[test]
    fn a_type_that_clients_send_unasked_is_none() {
        for text in [None, Some(""), Some("application/octet-stream"), Some("application/x-www-form-urlencoded")] {
            assert_eq!(media_type(text).unwrap(), None, "{text:?}");
        }
        assert_eq!(media_type(Some("image/png")).unwrap().unwrap().as_str(), "image/png");
        assert!(media_type(Some("image")).is_err());
    }
}
