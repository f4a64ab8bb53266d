//! What a plan owes to RFC 9110, in its words.

use format::Locator;

use super::*;
use crate::answer::{coding::say_zstd, page::Style, reply::refused};

const GET: Method = Method::GET;
const HEAD: Method = Method::HEAD;
const DAY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
const TAG: &str = "\"abababababababababababababababab\"";
const WEAK: &str = "W/\"abababababababababababababababab\"";
const CODED: &str = "W/\"abababababababababababababababab-zstd\"";
const LENGTH: u64 = 1000;

type Pairs<'p> = &'p [(HeaderName, &'p str)];

fn validators(created: Option<u64>) -> Validators {
    Validators::of(&Locator([0xab; 32]), created)
}

/// The fields of all of the file, as a ready answer has them.
fn whole() -> HeaderMap {
    let fields = [
        (header::CONTENT_TYPE, "image/png"),
        (header::CACHE_CONTROL, "public, max-age=60"),
        (header::ETAG, TAG),
        (header::VARY, "accept"),
        (header::LINK, "<a>"),
        (header::LINK, "<b>"),
        (CACHE_STATUS, "\"edge\"; hit"),
        (header::CONTENT_LENGTH, "1000"),
        (header::ALT_SVC, "h3"),
    ];
    fields.map(|(name, value)| (name, HeaderValue::from_static(value))).into_iter().collect()
}

/// The head of all of it compressed.
fn whole_coded() -> HeaderMap {
    let mut fields = whole();
    say_zstd(&mut fields, &validators(None));
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from_static("77"));
    fields
}

fn plan(method: &Method, pairs: Pairs<'_>, length: u64, created: Option<u64>) -> Result<Plan, Fault> {
    plan_of(method, pairs, &Prepared { validators: &validators(created), length, fields: &whole(), is_coded: false })
}

fn plan_of(method: &Method, pairs: Pairs<'_>, file: &Prepared<'_>) -> Result<Plan, Fault> {
    let fields = pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect();
    Plan::of(&View { method, fields: &fields, id: RequestId::next() }, file)
}

/// Says in short what answers a request: the status, what is sent or only told of, and Content-Range.
fn answer(method: &Method, pairs: Pairs<'_>) -> String {
    let planned = plan(method, pairs, LENGTH, Some(784_111_777));
    let (said, fields) = match &planned {
        Ok(plan) => (said(plan), plan.fields(&whole())),
        Err(fault) => (format!("{} page", fault.status().as_str()), refused(Style::Html, fault, RequestId::next()).0),
    };
    let range = fields.get(header::CONTENT_RANGE).map_or("", |range| range.to_str().unwrap());
    format!("{said} {range}").trim_end().to_owned()
}

/// Says in short what a plan has sent, or only tells of.
fn said(plan: &Plan) -> String {
    let pieces = plan.pieces().map(|piece| match piece {
        Piece::Text(_) => "..".to_owned(),
        Piece::Range(range) => format!("{}-{}", range.start, range.end - 1),
        Piece::Coded => "zstd".to_owned(),
    });
    let pieces = pieces.collect::<Vec<_>>().join(" ");
    let content = if plan.is_sent { pieces } else { format!("({pieces})") };
    format!("{} {content}", plan.status.as_str()).trim_end().to_owned()
}

/// Each duty of RFC 9110 that a plan meets, once.
#[test]
fn every_duty_of_conditions_and_ranges_is_met() {
    use header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE};
    const ALL: &str = "200 0-999";
    const SAME: &str = "304";
    const FAILED: &str = "412 page";
    const FIRST: &str = "206 0-9 bytes 0-9/1000";
    let first = (RANGE, "bytes=0-9");
    let table: &[(Method, Pairs<'_>, &str)] = &[
        (GET, &[], ALL),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-9.3.2
        //= type=test
        //# The HEAD method is identical to GET except that the server MUST NOT send content in the response.
        (HEAD, &[], "200 (0-999)"),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-13.1.1
        //= type=test
        //# An origin server MUST use the strong comparison function when comparing entity tags for If-Match
        (GET, &[(IF_MATCH, WEAK)], FAILED),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-13.1.1
        //= type=test
        //# If the field value is a list of entity tags, the condition is true if any of the listed tags match the entity
        //# tag of the selected representation.
        (GET, &[(IF_MATCH, "\"x\", \"abababababababababababababababab\"")], ALL),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-13.1.1
        //= type=test
        //# If the field value is "*", the condition is true if the origin server has a current representation for the
        //# target resource.
        (GET, &[(IF_MATCH, "*")], ALL),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-13.1.1
        //= type=test
        //# An origin server that evaluates an If-Match condition MUST NOT perform the requested method if the condition
        //# evaluates to false.
        (HEAD, &[(IF_MATCH, "\"x\"")], FAILED),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-13.1.2
        //= type=test
        //# A recipient MUST use the weak comparison function when comparing entity tags for If-None-Match
        (GET, &[(IF_NONE_MATCH, WEAK)], SAME),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-13.1.2
        //= type=test
        //# the origin server MUST respond with either a) the 304 (Not Modified) status code if the request method is GET
        //# or HEAD
        (HEAD, &[(IF_NONE_MATCH, TAG)], "304 ()"),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-13.1.3
        //= type=test
        //# A recipient MUST ignore If-Modified-Since if the request contains an If-None-Match header field
        (GET, &[(IF_NONE_MATCH, "\"x\""), (IF_MODIFIED_SINCE, DAY)], ALL),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-13.1.3
        //= type=test
        //# A recipient MUST ignore the If-Modified-Since header field if the received field value is not a valid
        //# HTTP-date, the field value has more than one member, or if the request method is neither GET nor HEAD.
        (GET, &[(IF_MODIFIED_SINCE, "yesterday")], ALL),
        (GET, &[(IF_MODIFIED_SINCE, DAY), (IF_MODIFIED_SINCE, AFTER)], ALL),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-13.1.3
        //= type=test
        //# If the selected representation's last modification date is earlier or equal to the date provided in the field
        //# value, the condition is false.
        (GET, &[(IF_MODIFIED_SINCE, AFTER)], SAME),
        (GET, &[(IF_MODIFIED_SINCE, DAY)], SAME),
        (GET, &[(IF_MODIFIED_SINCE, BEFORE)], ALL),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-13.1.4
        //= type=test
        //# A recipient MUST ignore If-Unmodified-Since if the request contains an If-Match header field
        (GET, &[(IF_MATCH, TAG), (IF_UNMODIFIED_SINCE, BEFORE)], ALL),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-13.1.4
        //= type=test
        //# A recipient MUST ignore the If-Unmodified-Since header field if the received field value is not a valid
        //# HTTP-date (including when the field value appears to be a list of dates).
        (GET, &[(IF_UNMODIFIED_SINCE, "yesterday")], ALL),
        (GET, &[(IF_UNMODIFIED_SINCE, BEFORE), (IF_UNMODIFIED_SINCE, BEFORE)], ALL),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-13.1.4
        //= type=test
        //# If the selected representation's last modification date is earlier than or equal to the date provided in the
        //# field value, the condition is true.
        (GET, &[(IF_UNMODIFIED_SINCE, DAY)], ALL),
        (GET, &[(IF_UNMODIFIED_SINCE, BEFORE)], FAILED),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-13.1.5
        //= type=test
        //# A server MUST ignore an If-Range header field received in a request that does not contain a Range header field.
        (GET, &[(IF_RANGE, "\"x\"")], ALL),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-13.1.5
        //= type=test
        //# If the HTTP-date validator provided exactly matches the Last-Modified field value for the selected
        //# representation, the condition is true.
        (GET, &[first.clone(), (IF_RANGE, DAY)], FIRST),
        (GET, &[first.clone(), (IF_RANGE, AFTER)], ALL),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-13.1.5
        //= type=test
        //# If the entity-tag validator provided exactly matches the ETag field value for the selected representation using
        //# the strong comparison function (Section 8.8.3.2), the condition is true.
        (GET, &[first.clone(), (IF_RANGE, TAG)], FIRST),
        (GET, &[first.clone(), (IF_RANGE, WEAK)], ALL),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-13.1.5
        //= type=test
        //# A recipient of an If-Range header field MUST ignore the Range header field if the If-Range condition evaluates
        //# to false.
        (GET, &[(RANGE, "bytes=1000-"), (IF_RANGE, "\"x\"")], ALL),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-13.2.2
        //= type=test
        //# A recipient cache or origin server MUST evaluate the request preconditions defined by this specification in the
        //# following order:
        (GET, &[(IF_MATCH, "\"x\""), (IF_NONE_MATCH, TAG), first.clone()], FAILED),
        (GET, &[(IF_UNMODIFIED_SINCE, BEFORE), (IF_NONE_MATCH, TAG)], FAILED),
        (GET, &[(IF_MATCH, TAG), (IF_NONE_MATCH, TAG), first.clone()], SAME),
        (GET, &[(IF_MATCH, TAG), (IF_NONE_MATCH, "\"x\""), (IF_RANGE, TAG), first.clone()], FIRST),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-14.1.1
        //= type=test
        //# An int-range is invalid if the last-pos value is present and less than the first-pos.
        (GET, &[(RANGE, "bytes=9-8")], ALL),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-14.1.2
        //= type=test
        //# If the last-pos value is absent, or if the value is greater than or equal to the current length of the
        //# representation data, the byte range is interpreted as the remainder of the representation
        (GET, &[(RANGE, "bytes=990-")], "206 990-999 bytes 990-999/1000"),
        (GET, &[(RANGE, "bytes=990-1000")], "206 990-999 bytes 990-999/1000"),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-14.1.2
        //= type=test
        //# If the selected representation is shorter than the specified suffix-length, the entire representation is used.
        (GET, &[(RANGE, "bytes=-1001")], "206 0-999 bytes 0-999/1000"),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-14.1.2
        //= type=test
        //# recipients MUST anticipate potentially large decimal numerals and prevent parsing errors due to integer
        //# conversion overflows.
        (GET, &[(RANGE, "bytes=990-99999999999999999999")], "206 990-999 bytes 990-999/1000"),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-14.2
        //= type=test
        //# A server MUST ignore a Range header field received with a request method that is unrecognized or for which
        //# range handling is not defined.
        (HEAD, &[(RANGE, "bytes=0-9")], "200 (0-999)"),
        (HEAD, &[(RANGE, "bytes=1000-")], "200 (0-999)"),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-14.2
        //= type=test
        //# An origin server MUST ignore a Range header field that contains a range unit it does not understand.
        (GET, &[(RANGE, "lines=0-9")], ALL),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-14.2
        //= type=test
        //# In other words, Range is ignored when a conditional GET would result in a 304 (Not Modified) response.
        (GET, &[(IF_NONE_MATCH, TAG), (RANGE, "bytes=1000-")], SAME),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-14.4
        //= type=test
        //# For byte ranges, a sender SHOULD indicate the complete length of the representation from which the range has
        //# been extracted
        (GET, &[(RANGE, "bytes=0-0")], "206 0-0 bytes 0-0/1000"),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-15.3.7.1
        //= type=test
        //# the server generating the 206 response MUST generate a Content-Range header field, describing what range of the
        //# selected representation is enclosed, and a content consisting of the range.
        (GET, &[(RANGE, "bytes=1-3")], "206 1-3 bytes 1-3/1000"),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-15.3.7.2
        //= type=test
        //# A server MUST NOT generate a multipart response to a request for a single range
        (GET, &[(RANGE, "bytes=-1")], "206 999-999 bytes 999-999/1000"),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-15.3.7.2
        //= type=test
        //# a server MAY coalesce any of the ranges that overlap, or that are separated by a gap that is smaller than the
        //# overhead of sending multiple parts
        (GET, &[(RANGE, "bytes=0-4,20-29")], "206 0-29 bytes 0-29/1000"),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-15.3.7.2
        //= type=test
        //# A server that generates a multipart response SHOULD send the parts in the same order that the corresponding
        //# range-spec appeared in the received Range header field, excluding those ranges that were deemed unsatisfiable
        //# or that were coalesced into other ranges.
        (GET, &[(RANGE, "bytes=900-909,1000-,0-4,300-309")], "206 .. 900-909 .. 0-4 .. 300-309 .."),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-15.5.13
        //= type=test
        //# The 412 (Precondition Failed) status code indicates that one or more conditions given in the request header
        //# fields evaluated to false when tested on the server
        (GET, &[(IF_MATCH, "\"x\"")], FAILED),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-15.5.17
        //= type=test
        //# A server that generates a 416 response to a byte-range request SHOULD generate a Content-Range header field
        //# specifying the current length of the selected representation
        (GET, &[(RANGE, "bytes=1000-,-0")], "416 page bytes */1000"),
    ];
    for (method, pairs, expected) in table {
        assert_eq!(answer(method, pairs), *expected, "{method} {pairs:?}");
    }
}

//= https://www.rfc-editor.org/rfc/rfc9110#section-13.1.3
//= type=test
//# A recipient MUST ignore the If-Modified-Since header field if the resource does not have a modification date available.
//= https://www.rfc-editor.org/rfc/rfc9110#section-13.1.4
//= type=test
//# A recipient MUST ignore the If-Unmodified-Since header field if the resource does not have a modification date
//# available.
#[test]
fn no_date_is_compared_with_one_that_nobody_knows() {
    for pair in [(header::IF_MODIFIED_SINCE, AFTER), (header::IF_UNMODIFIED_SINCE, BEFORE)] {
        assert_eq!(plan(&GET, std::slice::from_ref(&pair), LENGTH, None).unwrap().status, 200, "{pair:?}");
    }
}

//= https://www.rfc-editor.org/rfc/rfc9110#section-14.2
//= type=test
//# A server that supports range requests MAY ignore a Range header field when the selected representation has no content
#[test]
fn of_an_empty_file_no_range_is_asked_for() {
    for range in ["bytes=-1", "bytes=0-", "bytes=5-9"] {
        let plan = plan(&GET, &[(header::RANGE, range)], 0, None).unwrap();
        assert_eq!((plan.status.as_u16(), plan.length()), (200, Some(0)), "{range}");
    }
}

/// Who takes the compressed form gets that, unless it has the file as it is.
#[test]
fn whoever_takes_the_compressed_form_is_told_of_the_form_it_has_or_gets() {
    use header::{IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE};
    let both = format!("{CODED}, {TAG}");
    let opaque = CODED.trim_start_matches("W/");
    let table: &[(Method, Pairs<'_>, &str, bool)] = &[
        (GET, &[], "200 zstd", true),
        (HEAD, &[], "200 (zstd)", true),
        (GET, &[(IF_NONE_MATCH, CODED)], "304", true),
        (HEAD, &[(IF_NONE_MATCH, opaque)], "304 ()", true),
        (GET, &[(IF_NONE_MATCH, TAG)], "304", false),
        (GET, &[(IF_NONE_MATCH, &both)], "304", false),
        (GET, &[(IF_NONE_MATCH, "*")], "304", false),
        (GET, &[(IF_NONE_MATCH, "\"x\"")], "200 zstd", true),
        (GET, &[(IF_NONE_MATCH, CODED), (IF_MODIFIED_SINCE, BEFORE)], "304", true),
        (GET, &[(IF_MODIFIED_SINCE, DAY)], "304", true),
        (GET, &[(IF_MODIFIED_SINCE, BEFORE)], "200 zstd", true),
        (GET, &[(IF_UNMODIFIED_SINCE, DAY)], "200 zstd", true),
    ];
    for (method, pairs, expected, is_coded) in table {
        let (validators, head) = (validators(Some(784_111_777)), whole_coded());
        let file = Prepared { validators: &validators, length: LENGTH, fields: &head, is_coded: true };
        let plan = plan_of(method, pairs, &file).unwrap();
        assert_eq!((&*said(&plan), plan.is_coded), (*expected, *is_coded), "{method} {pairs:?}");
        // The head of a ready answer, of the form that the plan tells of.
        let fields = plan.fields(&if plan.is_coded { whole_coded() } else { whole() });
        let tag = if *is_coded { CODED } else { TAG };
        assert_eq!(fields[header::ETAG], tag, "{method} {pairs:?}");
        let of_content = [("content-encoding", "zstd"), ("cache-status", "\"edge\"; hit"), ("content-length", "77")];
        for (name, value) in of_content {
            let value = (plan.status == StatusCode::OK).then_some(value);
            assert_eq!(fields.get(name).map(|field| field.to_str().unwrap()), value, "{method} {pairs:?}: {name}");
        }
    }
    let (validators, head) = (validators(Some(784_111_777)), whole_coded());
    let file = Prepared { validators: &validators, length: LENGTH, fields: &head, is_coded: true };
    assert!(matches!(plan_of(&GET, &[(IF_UNMODIFIED_SINCE, BEFORE)], &file), Err(Fault::Precondition)));
}

fn told(fields: &HeaderMap) -> Vec<(&str, &str)> {
    fields.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect()
}

//= https://www.rfc-editor.org/rfc/rfc9110#section-9.3.2
//= type=test
//# The server SHOULD send the same header fields in response to a HEAD request as it would have sent if the request method
//# had been GET.
//= https://www.rfc-editor.org/rfc/rfc9110#section-15.3.7
//= type=test
//# A server that generates a 206 response MUST generate the following header fields, in addition to those required in the
//# subsections below, if the field would have been sent in a 200 (OK) response to the same request: Date, Cache-Control,
//# ETag, Expires, Content-Location, and Vary.
//= https://www.rfc-editor.org/rfc/rfc9110#section-15.4.5
//= type=test
//# The server generating a 304 response MUST generate any of the following header fields that would have been sent in a
//# 200 (OK) response to the same request
#[test]
fn every_head_says_what_that_of_the_whole_file_says() {
    let whole = whole();
    let fields = |method: &Method, pairs: Pairs<'_>| plan(method, pairs, LENGTH, None).unwrap().fields(&whole);
    assert_eq!(fields(&HEAD, &[]), whole);
    assert_eq!(told(&fields(&GET, &[])), told(&whole), "in its order, too");
    let told_of = told(&whole);
    let (before, after) = told_of.split_at(6);
    assert_eq!(after, [("cache-status", "\"edge\"; hit"), ("content-length", "1000"), ("alt-svc", "h3")]);
    let partial = fields(&GET, &[(header::RANGE, "bytes=1-3")]);
    let of_part = [("content-range", "bytes 1-3/1000"), after[0], ("content-length", "3"), after[2]];
    assert_eq!(told(&partial), [before, &of_part[..]].concat());
    let same = fields(&GET, &[(header::IF_NONE_MATCH, "*")]);
    assert_eq!(told(&same), [before, &after[2..]].concat());
}

//= https://www.rfc-editor.org/rfc/rfc9110#section-15.3.7.2
//= type=test
//# If multiple parts are being transferred, the server generating the 206 response MUST generate "multipart/byteranges"
//# content, as defined in Section 14.6, and a Content-Type header field containing the "multipart/byteranges" media type
//# and its required boundary parameter.
//= https://www.rfc-editor.org/rfc/rfc9110#section-14.6
//= type=test
//# The "multipart/byteranges" media type includes one or more body parts, each with its own Content-Type and Content-Range
//# fields.
#[test]
fn several_parts_each_have_the_type_that_the_whole_would_have() {
    for own in [Some("image/png"), None] {
        let mut whole = whole();
        if own.is_none() {
            whole.remove(header::CONTENT_TYPE);
        }
        let fields = [(header::RANGE, HeaderValue::from_static("bytes=0-1,-2"))].into_iter().collect();
        let view = View { method: &GET, fields: &fields, id: RequestId::next() };
        let file = Prepared { validators: &validators(None), length: LENGTH, fields: &whole, is_coded: false };
        let plan = Plan::of(&view, &file).unwrap();
        let fields = plan.fields(&whole);
        let boundary =
            fields["content-type"].to_str().unwrap().strip_prefix("multipart/byteranges; boundary=").unwrap();
        assert_eq!(fields.get_all(header::CONTENT_TYPE).iter().count(), 1);
        let pieces = plan.pieces().map(|piece| match piece {
            Piece::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
            Piece::Range(range) => "x".repeat(usize::try_from(range.end - range.start).unwrap()),
            Piece::Coded => panic!("no part is compressed"),
        });
        let content: String = pieces.collect();
        let own = own.map_or_else(String::new, |own| format!("Content-Type: {own}\r\n"));
        let expected = format!(
            "\r\n--{boundary}\r\n{own}Content-Range: bytes 0-1/1000\r\n\r\nxx\
             \r\n--{boundary}\r\n{own}Content-Range: bytes 998-999/1000\r\n\r\nxx\r\n--{boundary}--\r\n"
        );
        assert_eq!(content, expected);
        assert_eq!(plan.length(), Some(expected.len() as u64));
        assert_eq!(fields["content-length"], *expected.len().to_string());
    }
}
