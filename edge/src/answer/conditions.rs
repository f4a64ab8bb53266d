//! Conditional requests: `ETag`, Last-Modified and what a request says about them. Pure.
//!
//! Objects never change, so a strong `ETag` made of the locator is exact for ever, and the time of storing is the last
//! change.

use std::time::{Duration, SystemTime};

use format::Locator;
use http::{HeaderMap, header};

/// What names the current bytes of an object.
#[derive(Debug, Clone)]
pub(crate) struct Validators {
    /// Strong, in quotes; empty for none.
    pub(crate) etag: String,
    /// When the object was stored, whole seconds; none when nobody knows, or the address may show an older object
    /// later.
    pub(crate) modified: Option<SystemTime>,
}

/// What the conditions of a request come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Precondition {
    /// Answer it.
    Answer,
    /// The viewer has these bytes: 304.
    NotModified,
    /// The viewer wants other bytes than there are: 412.
    Failed,
}

impl Validators {
    /// Names the bytes of the object at `locator`, stored at `created` (seconds since 1970), if that is to be told.
    pub(crate) fn of(locator: &Locator, created: Option<u64>) -> Self {
        // Years of more than four digits have no HTTP-date, and zero is no time.
        const YEAR_10000: u64 = 253_402_300_800;
        // The locator itself finds the record at any node; half of it names the bytes just as well.
        let id = &locator.to_string()[..32];
        let created = created.filter(|created| (1..YEAR_10000).contains(created));
        let modified = created.map(|created| SystemTime::UNIX_EPOCH + Duration::from_secs(created));
        Self { etag: format!("\"{id}\""), modified }
    }

    /// Of what is there and has neither a tag nor a date.
    pub(crate) fn none() -> Self {
        Self { etag: String::new(), modified: None }
    }

    /// Returns Last-Modified as sent; an unknown time is not sent.
    pub(crate) fn last_modified(&self) -> Option<String> {
        self.modified.map(httpdate::fmt_http_date)
    }

    /// Weighs the conditions of a GET or HEAD in the order of the standard.
    //= https://www.rfc-editor.org/rfc/rfc9110#section-13.2.2
    //# When more than one conditional request header field is present in a request, the order in which the fields are
    //# evaluated becomes important.
    pub(crate) fn weigh(&self, fields: &HeaderMap) -> Precondition {
        if fields.contains_key(header::IF_MATCH) {
            if !self.listed(fields, header::IF_MATCH, Comparison::Strong) {
                return Precondition::Failed;
            }
        } else if let Some((modified, since)) = self.modified.zip(date(fields, header::IF_UNMODIFIED_SINCE))
            && modified > since
        {
            return Precondition::Failed;
        }
        if fields.contains_key(header::IF_NONE_MATCH) {
            if self.listed(fields, header::IF_NONE_MATCH, Comparison::Weak) {
                return Precondition::NotModified;
            }
        //= https://www.rfc-editor.org/rfc/rfc9110#section-13.1.3
        //# A recipient MUST ignore the If-Modified-Since header field if the resource does not have a modification date
        //# available.
        } else if let Some((modified, since)) = self.modified.zip(date(fields, header::IF_MODIFIED_SINCE))
            && modified <= since
        {
            return Precondition::NotModified;
        }
        Precondition::Answer
    }

    /// Returns whether a Range field counts: always without If-Range, else only when it names these bytes.
    //= https://www.rfc-editor.org/rfc/rfc9110#section-13.1.5
    //# A recipient of an If-Range header field MUST ignore the Range header field if the If-Range condition evaluates to
    //# false.
    pub(crate) fn range_counts(&self, fields: &HeaderMap) -> bool {
        let Some(field) = fields.get(header::IF_RANGE) else { return true };
        let Ok(text) = field.to_str() else { return false };
        if text.starts_with('"') || text.starts_with("W/") {
            return text == self.etag;
        }
        httpdate::parse_http_date(text).is_ok_and(|since| Some(since) == self.modified)
    }

    fn listed(&self, fields: &HeaderMap, name: header::HeaderName, comparison: Comparison) -> bool {
        let is_ours = |tag: &str| !tag.is_empty() && tag == self.etag;
        let names_it = |tag: &str| match (comparison, tag.strip_prefix("W/")) {
            (_, None) => is_ours(tag),
            (Comparison::Weak, Some(tag)) => is_ours(tag),
            (Comparison::Strong, Some(_)) => false,
        };
        let mut lines = fields.get_all(name).iter().filter_map(|field| field.to_str().ok());
        // A star stands alone; in a tag of somebody else's it is a letter. Our tags hold no comma, so cutting at commas
        // finds ours in any well-formed list.
        lines.any(|field| field.trim() == "*" || field.split(',').map(str::trim).any(names_it))
    }
}

#[derive(Clone, Copy)]
enum Comparison {
    Strong,
    Weak,
}

/// Reads a field that is one date; none where it is something else, or stands there more than once.
fn date(fields: &HeaderMap, name: header::HeaderName) -> Option<SystemTime> {
    let mut lines = fields.get_all(name).iter();
    let date = lines.next().filter(|_| lines.next().is_none())?;
    httpdate::parse_http_date(date.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const DAY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

    fn validators() -> Validators {
        Validators::of(&Locator([0xab; 32]), Some(784_111_777))
    }

    fn fields(pairs: &[(&'static str, String)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, String)| {
            (header::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    //= https://www.rfc-editor.org/rfc/rfc9110#section-13.2.2
    //= type=test
    //# evaluate the If-None-Match precondition
    #[test]
    fn conditions_are_weighed_in_order() {
        let it = validators();
        let tag = it.etag.clone();
        assert_eq!(it.last_modified().as_deref(), Some(DAY));
        for (pairs, verdict) in [
            (vec![], Precondition::Answer),
            (vec![("if-none-match", tag.clone())], Precondition::NotModified),
            (vec![("if-none-match", format!("\"x\", W/{tag}"))], Precondition::NotModified),
            (vec![("if-none-match", "*".into())], Precondition::NotModified),
            (vec![("if-none-match", "\"x\"".into())], Precondition::Answer),
            (vec![("if-none-match", "\"a,*,b\"".into())], Precondition::Answer),
            (vec![("if-match", "\"a,*,b\"".into())], Precondition::Failed),
            (vec![("if-match", "*".into())], Precondition::Answer),
            (vec![("if-none-match", "\"x\"".into()), ("if-modified-since", DAY.into())], Precondition::Answer),
            (vec![("if-modified-since", DAY.into())], Precondition::NotModified),
            (vec![("if-modified-since", BEFORE.into())], Precondition::Answer),
            (vec![("if-modified-since", "yesterday".into())], Precondition::Answer),
            (vec![("if-match", tag.clone())], Precondition::Answer),
            (vec![("if-match", format!("W/{tag}"))], Precondition::Failed),
            (vec![("if-match", "\"x\"".into()), ("if-none-match", tag.clone())], Precondition::Failed),
            (vec![("if-match", tag.clone()), ("if-none-match", tag.clone())], Precondition::NotModified),
            (vec![("if-unmodified-since", BEFORE.into())], Precondition::Failed),
            (vec![("if-unmodified-since", DAY.into())], Precondition::Answer),
        ] {
            assert_eq!(it.weigh(&fields(&pairs)), verdict, "{pairs:?}");
        }
    }

    #[test]
    fn if_range_needs_the_very_bytes() {
        let it = validators();
        for (value, counts) in [
            (it.etag.clone(), true),
            (format!("W/{}", it.etag), false),
            ("\"x\"".into(), false),
            (DAY.into(), true),
            (BEFORE.into(), false),
            ("nonsense".into(), false),
        ] {
            assert_eq!(it.range_counts(&fields(&[("if-range", value.clone())])), counts, "{value}");
        }
        assert!(it.range_counts(&HeaderMap::new()));
    }

    #[test]
    fn an_unknown_time_is_not_told() {
        for created in [None, Some(0), Some(u64::MAX)] {
            let it = Validators::of(&Locator([0; 32]), created);
            assert_eq!(it.last_modified(), None);
            // Nor does a condition on it count.
            for condition in ["if-modified-since", "if-unmodified-since"] {
                assert_eq!(it.weigh(&fields(&[(condition, DAY.into())])), Precondition::Answer, "{condition}");
            }
        }
    }
}
