//! Which answers go out compressed, and what they say of that: the content coding `zstd` (RFC 9659). Pure.
//!
//! A file has two representations then, each with a tag of its own. A range is always one of the file as it is.

use http::{HeaderMap, HeaderName, HeaderValue, Version, header};
use sandbox::Marks;

use super::{conditions::Validators, request::Request};
use crate::store::objects::Opened;

/// A longer file goes out as it is: compressing takes an edge 1.1 ms of CPU for each 256 KiB, once for those that it
/// keeps.
pub(crate) const CODED_BYTES_MAX: u64 = 32 * 1024 * 1024;
const ZSTD: HeaderValue = HeaderValue::from_static("zstd");
const ACCEPT_ENCODING: HeaderValue = HeaderValue::from_static("accept-encoding");

/// How a file is answered to one viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// As it is, as to everybody.
    Never,
    /// As it is. Another viewer may have it compressed.
    Identity,
    /// Compressed, where all of it is sent.
    Zstd,
}

impl Coding {
    /// Says how a file whose content may be kept here is answered to a request.
    pub(crate) fn of(request: &Request, file: &Opened, marks: Marks) -> Self {
        if !may_be_coded(file, marks) {
            return Self::Never;
        }
        // HTTP/1.0 has no framing for a content whose length nobody knows yet.
        let takes = request.version > Version::HTTP_10 && wants_zstd(&request.fields);
        if takes { Self::Zstd } else { Self::Identity }
    }

    /// Says on which field of the request the answer hangs.
    //= https://www.rfc-editor.org/rfc/rfc9110#section-12.5.5
    //# An origin server SHOULD generate a Vary header field on a cacheable response when it wishes that response to be
    //# selectively reused for subsequent requests.
    pub(crate) fn vary(self, fields: &mut HeaderMap) {
        if self != Self::Never {
            fields.append(header::VARY, ACCEPT_ENCODING);
        }
    }
}

/// Whether a file is answered compressed to some viewers: one that has shards, is not too long, is of a type that is
/// worth it, and that its owner's policy does not mark to go out as it is. One that is inline in its manifest takes a
/// few packets as it is.
pub(crate) fn may_be_coded(file: &Opened, marks: Marks) -> bool {
    let object = &file.object;
    !marks.contains(Marks::NO_TRANSFORM)
        && object.geometry().is_some()
        && is_worth_it(object.length(), &object.manifest().mime)
}

fn is_worth_it(length: u64, mime: &str) -> bool {
    (1..=CODED_BYTES_MAX).contains(&length) && compresses(mime)
}

/// Makes the fields of a whole file those of its compressed form.
//= https://www.rfc-editor.org/rfc/rfc9110#section-8.8.1
//# A validator is weak if it is shared by two or more representations of a given resource at the same time, unless those
//# representations have identical representation data.
// So this one is weak: another version of zstd, at another edge, may write other bytes.
pub(crate) fn say_zstd(fields: &mut HeaderMap, validators: &Validators) {
    if let Ok(tag) = HeaderValue::from_str(&zstd_tag(validators)) {
        fields.insert(header::ETAG, tag);
    }
    fields.insert(header::CONTENT_ENCODING, ZSTD);
    fields.remove(header::ACCEPT_RANGES);
}

/// Whether a viewer says that it has the compressed form. Only one who takes it may be told that this is so: a cache
/// lists all that it has, also for a viewer who could read none of it.
pub(crate) fn has_zstd(fields: &HeaderMap, validators: &Validators) -> bool {
    if asks_by_time(fields) {
        return false;
    }
    let tag = zstd_tag(validators);
    let opaque = tag.trim_start_matches("W/");
    texts(fields, header::IF_NONE_MATCH)
        .flat_map(|field| field.split(','))
        .any(|listed| listed.trim().trim_start_matches("W/") == opaque)
}

/// Whether a viewer asks by the time of what it has, and names no tag.
pub(crate) fn asks_by_time(fields: &HeaderMap) -> bool {
    !fields.contains_key(header::IF_NONE_MATCH)
}

//= https://www.rfc-editor.org/rfc/rfc9110#section-8.8.3.3
//# a strong entity tag for a content-encoded representation has to be distinct from the entity tag of an unencoded
//# representation
fn zstd_tag(validators: &Validators) -> String {
    format!("W/\"{}-zstd\"", validators.etag.trim_matches('"'))
}

fn texts(fields: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    fields.get_all(name).into_iter().filter_map(|field| field.to_str().ok())
}

/// Whether a request for a whole file is answered with its compressed form where there is one. Who names a range, or
/// the tag of what it wants, gets the file as it is.
fn wants_zstd(fields: &HeaderMap) -> bool {
    let names_a_part = [header::RANGE, header::IF_MATCH].iter().any(|name| fields.contains_key(name));
    !names_a_part && takes_zstd(texts(fields, header::ACCEPT_ENCODING))
}

/// Whether the Accept-Encoding fields of a request take zstd, and not rather the content as it is. `*` alone is no word
/// for it: who sends that seldom reads zstd, and what is sent as it is fits it, too.
//= https://www.rfc-editor.org/rfc/rfc9110#section-12.5.3
//# If the representation's content coding is one of the content codings listed in the Accept-Encoding field value, then it
//# is acceptable unless it is accompanied by a qvalue of 0.
pub(crate) fn takes_zstd<'f>(fields: impl Iterator<Item = &'f str>) -> bool {
    let (mut zstd, mut identity, mut rest) = (None, None, None);
    for listed in fields.flat_map(|field| field.split(',')) {
        let mut parts = listed.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let weight = match name {
            _ if name.eq_ignore_ascii_case("zstd") => &mut zstd,
            _ if name.eq_ignore_ascii_case("identity") => &mut identity,
            "*" => &mut rest,
            _ => continue,
        };
        // What cannot be read takes nothing, and what is listed twice counts as little as it is told to.
        let said = parts.map(quality).try_fold(1000, |least, quality| Some(least.min(quality?))).unwrap_or(0);
        *weight = Some(weight.map_or(said, |before: u16| before.min(said)));
    }
    match zstd {
        Some(weight) => weight > 0 && weight >= identity.unwrap_or(0),
        None => identity == Some(0) && rest.unwrap_or(0) > 0,
    }
}

/// Reads a weight in thousandths.
//= https://www.rfc-editor.org/rfc/rfc9110#section-12.4.2
//# qvalue = ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] )
fn quality(parameter: &str) -> Option<u16> {
    let (name, value) = parameter.split_once('=')?;
    if !name.trim_end().eq_ignore_ascii_case("q") {
        return None;
    }
    let value = value.trim_start();
    let (whole, part) = value.split_once('.').unwrap_or((value, ""));
    if part.len() > 3 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths = format!("{part:0<3}").parse::<u16>().ok()?;
    match (whole, thousandths) {
        ("0", thousandths) => Some(thousandths),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

/// Types of what is like text without saying so.
const OF_APPLICATION: [&str; 14] = [
    "javascript",
    "x-javascript",
    "ecmascript",
    "json",
    "xml",
    "wasm",
    "x-ndjson",
    "yaml",
    "toml",
    "rtf",
    "sql",
    "vnd.ms-fontobject",
    "x-font-ttf",
    "x-font-otf",
];
const OF_FONT: [&str; 4] = ["ttf", "otf", "sfnt", "collection"];

/// Whether a file of this type is likely to be smaller compressed: text, and what is like it. Never what is played, nor
/// what is compressed by itself.
fn compresses(mime: &str) -> bool {
    let essence = mime.split(';').next().unwrap_or_default().trim();
    let Some((top, sub)) = essence.split_once('/') else { return false };
    let is = |known: &str| top.eq_ignore_ascii_case(known);
    let is_one_of = |known: &[&str]| known.iter().any(|known| sub.eq_ignore_ascii_case(known));
    // What a name ends with (RFC 6839).
    let syntax = sub.rsplit_once('+').map_or("", |(_, syntax)| syntax);
    let is_written = ["json", "xml"].iter().any(|known| syntax.eq_ignore_ascii_case(known));
    is("text")
        || is("application") && (is_written || is_one_of(&OF_APPLICATION))
        || is("font") && is_one_of(&OF_FONT)
        || is("image") && (is_written || is_one_of(&["bmp"]))
        || is("model") && is_written
}

#[cfg(test)]
mod tests {
    use format::Locator;

    use super::*;

    //= https://www.rfc-editor.org/rfc/rfc9110#section-12.5.3
    //= type=test
    //# it is acceptable unless it is accompanied by a qvalue of 0
    #[test]
    fn only_who_takes_zstd_and_not_rather_the_file_as_it_is_gets_it() {
        for (field, takes) in [
            ("zstd", true),
            ("gzip, deflate, br, zstd", true),
            ("ZSTD", true),
            (" zstd ; Q=0.001 ", true),
            ("zstd;q=1.000", true),
            ("zstd;q=0.", false),
            ("zstd;q=0.000", false),
            ("zstd;q=0", false),
            ("zstd;q=1.001", false),
            ("zstd;q=0.1234", false),
            ("zstd;q=x", false),
            ("zstd;q=+1", false),
            ("zstd;level=3", false),
            ("zstd, zstd;q=0", false),
            ("zstd;q=0.5, identity", false),
            ("zstd;q=0.5, identity;q=0.5", true),
            ("zstd;q=0.5, identity;q=0.6", false),
            ("zstd;q=0.1, identity;q=0", true),
            ("zstd;q=0.5, *", true),
            ("zstd, *;q=0", true),
            ("zstd;q=0, *", false),
            ("*", false),
            ("*, identity;q=0", true),
            ("*;q=0, identity;q=0", false),
            ("identity;q=0", false),
            ("gzip;q=1.0, identity; q=0.5, *;q=0", false),
            ("xzstd, zstd2", false),
            ("", false),
        ] {
            assert_eq!(takes_zstd([field].into_iter()), takes, "{field:?}");
        }
        assert!(takes_zstd(["gzip", "zstd"].into_iter()), "a list may come in several fields");
        assert!(!takes_zstd(["zstd", "identity;q=0.1, zstd;q=0"].into_iter()));
        assert!(!takes_zstd(std::iter::empty()));
    }

    #[test]
    fn text_is_compressed_and_what_is_played_or_packed_is_not() {
        for mime in [
            "text/html; charset=utf-8",
            "TEXT/CSS",
            "text/javascript",
            "application/json",
            "application/ld+json",
            "image/svg+xml",
            "application/wasm",
            "font/ttf",
            "model/gltf+json",
            "application/x-font-ttf",
            "image/bmp",
        ] {
            assert!(compresses(mime), "{mime}");
        }
        for mime in [
            "",
            "text",
            "video/mp4",
            "audio/wav",
            "image/png",
            "font/woff2",
            "application/zip",
            "application/gzip",
            "application/zstd",
            "application/octet-stream",
            "application/pdf",
            "application/json+zip",
            "video/x+json",
            "application/",
        ] {
            assert!(!compresses(mime), "{mime}");
        }
        for (length, is_worth) in [(0, false), (1, true), (CODED_BYTES_MAX, true), (CODED_BYTES_MAX + 1, false)] {
            assert_eq!(is_worth_it(length, "text/plain"), is_worth, "{length}");
        }
    }

    fn fields(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn who_names_a_part_or_a_tag_gets_the_file_as_it_is() {
        let accept = (header::ACCEPT_ENCODING, "zstd");
        assert!(wants_zstd(&fields(&[accept.clone(), (header::IF_NONE_MATCH, "\"x\"")])));
        for named in [(header::RANGE, "bytes=0-"), (header::RANGE, "lines=1"), (header::IF_MATCH, "*")] {
            assert!(!wants_zstd(&fields(&[accept.clone(), named.clone()])), "{named:?}");
        }
    }

    //= https://www.rfc-editor.org/rfc/rfc9110#section-8.8.3.3
    //= type=test
    //# a strong entity tag for a content-encoded representation has to be distinct from the entity tag of an unencoded
    //# representation
    #[test]
    fn the_compressed_form_has_a_tag_of_its_own() {
        let validators = Validators::of(&Locator([0xab; 32]), None);
        let mut said = fields(&[(header::ETAG, &*validators.etag), (header::ACCEPT_RANGES, "bytes")]);
        say_zstd(&mut said, &validators);
        let tag = said[header::ETAG].to_str().unwrap().to_owned();
        assert_eq!(tag, format!("W/{}-zstd\"", validators.etag.trim_end_matches('"')));
        assert!(said[header::CONTENT_ENCODING] == "zstd" && !said.contains_key(header::ACCEPT_RANGES));
        let has = |listed: &str| has_zstd(&fields(&[(header::IF_NONE_MATCH, listed)]), &validators);
        assert!(has(&tag) && has(&format!("\"x\", {tag}")) && has(tag.trim_start_matches("W/")));
        for other in [&*validators.etag, "*", "\"x\"", "", &format!("{tag}x")] {
            assert!(!has(other), "{other}");
        }
        let conditions = |name| validators.weigh(&fields(&[(name, &*tag)]));
        assert_eq!(conditions(header::IF_NONE_MATCH), super::super::conditions::Precondition::Answer);
        assert!(!validators.range_counts(&fields(&[(header::IF_RANGE, &*tag)])), "no range of the file continues it");
    }
}
