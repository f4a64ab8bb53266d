//! The fields of a file's representation: made here once for whatever answer tells of it (200, 206, 304, and HEAD), so
//! that what a cache learns from one answer agrees with what it learns from another. Pure.

use std::ops::Range;

use http::{HeaderMap, HeaderName, header};

use super::{conditions::Validators, headers, path};
use crate::policy::decision::Decision;

pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// Fields of most answers, and room for some of the owner's.
const FIELDS_USUAL: usize = 24;

/// Makes the fields of a file of type `mime`, which may be none; `saved_as` is the name of one that is to be saved.
//= https://www.rfc-editor.org/rfc/rfc9111#section-3.2
//# Caches are required to update a stored response's header fields from another (typically newer) response in several
//# situations
pub(crate) fn representation(
    decision: &Decision,
    validators: &Validators,
    mime: &str,
    saved_as: Option<&str>,
) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(FIELDS_USUAL);
    headers::secure(&mut fields);
    headers::set(&mut fields, header::ETAG, &validators.etag);
    headers::caching(&mut fields, decision);
    if let Some(modified) = validators.last_modified() {
        headers::set(&mut fields, header::LAST_MODIFIED, modified);
    }
    headers::set(&mut fields, header::ACCEPT_RANGES, "bytes");
    // Without a type a browser would guess, and nosniff forbids that.
    fields.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/octet-stream"));
    if !mime.is_empty() {
        headers::set(&mut fields, header::CONTENT_TYPE, mime);
    }
    if let Some(name) = saved_as {
        headers::set(&mut fields, header::CONTENT_DISPOSITION, attachment(name));
    }
    headers::of_verdict(&mut fields, decision);
    fields
}

/// Returns the field that says which bytes of so many these are.
pub(crate) fn content_range(range: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", range.start, range.end - 1)
}

/// Says that a file is to be saved, under its name: in the encoding of RFC 8187, which survives every character, and
/// before it in letters that programs read which do not know that encoding, curl among them.
//= https://www.rfc-editor.org/rfc/rfc6266#appendix-D
//# Include a "filename" parameter when US-ASCII ([US-ASCII]) is sufficiently expressive.
fn attachment(name: &str) -> String {
    if name.is_empty() {
        return "attachment".to_owned();
    }
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || " !#$&+,-.=@^_`~()[]{}'".contains(*c);
    let plain: String = name.chars().map(|c| if is_plain(&c) { c } else { '_' }).collect();
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{}", path::encode(name))
}

#[cfg(test)]
mod tests {
    use format::Locator;
    use sandbox::{Effect, Header, Marks};

    use super::*;

    fn fields(effects: Vec<Effect>, marks: Marks, mime: &str, saved_as: Option<&str>) -> HeaderMap {
        let headers = [("link", "<a>"), ("link", "<b>"), ("access-control-allow-origin", "https://example.org")];
        let headers = headers.map(|(name, value)| Header::new(name, value).unwrap()).to_vec();
        let validators = Validators::of(&Locator([0xab; 32]), Some(784_111_777));
        representation(&Decision::allowing(headers, effects, marks), &validators, mime, saved_as)
    }

    fn effect(name: &str, value: &str) -> Effect {
        Effect::Header(Header::new(name, value).unwrap())
    }

    #[test]
    fn an_owner_s_fields_stand_over_the_edge_s() {
        let effects =
            vec![effect("content-security-policy", "default-src 'self'"), effect("content-type", "text/plain")];
        let fields = fields(effects, Marks::NOINDEX, "text/html", Some("ä.html"));
        for (name, value) in [
            ("content-security-policy", "default-src 'self'"),
            ("content-type", "text/plain"),
            ("access-control-allow-origin", "https://example.org"),
            ("x-content-type-options", "nosniff"),
            ("x-robots-tag", "noindex"),
            ("content-disposition", "attachment; filename=\"_.html\"; filename*=UTF-8''%C3%A4.html"),
            ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("accept-ranges", "bytes"),
        ] {
            assert_eq!(fields[name], value, "{name}");
        }
        assert_eq!(fields.get_all("link").iter().collect::<Vec<_>>(), ["<a>", "<b>"]);
    }

    #[test]
    fn what_is_not_known_or_not_wanted_is_not_said() {
        let fields = fields(vec![], Marks::empty(), "", None);
        assert_eq!(
            (&fields["content-type"], &fields["content-security-policy"]),
            (&"application/octet-stream".parse().unwrap(), &"sandbox allow-downloads".parse().unwrap())
        );
        assert!(!fields.contains_key("content-disposition") && !fields.contains_key("x-robots-tag"));
        assert_eq!(attachment(""), "attachment");
        for (name, says) in [
            ("film (1).mp4", r#"filename="film (1).mp4"; filename*=UTF-8''film%20%281%29.mp4"#),
            (r#"a"\b;50%/c"#, r#"filename="a__b_50__c"; filename*=UTF-8''a%22%5Cb%3B50%25%2Fc"#),
        ] {
            assert_eq!(attachment(name), format!("attachment; {says}"));
        }
    }
}
