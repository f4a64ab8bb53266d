//! Heads of requests of HTTP/1.1 and 2 as nearly all viewers send them: one GET or HEAD of a path, one host, no
//! content. Pure. What looks otherwise is left to others: of HTTP/1.1, if only by a line that ends without its carriage
//! return, to pingora, so that no form is read in two ways here.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header, request::Parts, uri::Authority};
use httparse::{EMPTY_HEADER, Header, Request, Status};
use memchr::memchr_iter;

use super::{page::Style, request::is_same_host};

/// Names, values and separators of all fields, and the request line.
pub(crate) const HEADER_BYTES_MAX: u32 = 16 * 1024;
/// Fields of a common request; browsers send some 15.
pub(crate) const COMMON_FIELDS_MAX: usize = 32;
const END: &[u8] = b"\r\n\r\n";
/// What a viewer says of its connection. Another protocol may be asked for; this one goes on.
//= https://www.rfc-editor.org/rfc/rfc9110#section-7.8
//# A server MAY ignore a received Upgrade header field if it wishes to continue using the current protocol on that
//# connection.
const KNOWN_OPTIONS: [&[u8]; 4] = [b"close", b"keep-alive", b"upgrade", b"http2-settings"];

/// Room for the fields of one head.
pub(crate) type Room<'b> = [Header<'b>; COMMON_FIELDS_MAX];
/// Room with nothing in it.
pub(crate) const ROOM: Room<'_> = [EMPTY_HEADER; COMMON_FIELDS_MAX];

/// The range, and the conditions on which it or all of the content is wanted.
pub(super) const CONDITIONS: [HeaderName; 6] = [
    header::RANGE,
    header::IF_RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
];

/// What the bytes that were read so far are.
#[derive(Debug, PartialEq)]
pub(crate) enum Begun {
    /// The beginning of what may become a common request.
    Incomplete,
    /// So many of them are the head of what may be one.
    Whole(usize),
    /// Something else.
    Other,
}

/// A common request.
#[derive(Debug, PartialEq)]
pub(crate) struct Head<'b> {
    /// GET or HEAD.
    pub(crate) method: Method,
    /// Begins with a slash.
    pub(crate) target: &'b str,
    /// That of the target, where it names one, else that of the field Host.
    pub(crate) host: &'b str,
    pub(crate) fields: &'b [Header<'b>],
    /// The viewer sends nothing more after it.
    pub(crate) closes: bool,
    pub(crate) wants: Wants,
}

/// What of the content a request wants, as far as the names of its fields tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wants {
    /// All of it.
    Whole,
    /// What its range and its conditions leave of it.
    Partial,
    /// Perhaps something else.
    Other,
}

/// Looks whether a head has come whole. Of `bytes` the first `seen` were looked at before: each is looked at once,
/// however slowly they come.
pub(crate) fn begun(bytes: &[u8], seen: usize) -> Begun {
    let begins = [&b"GET /"[..], b"HEAD /", b"GET http", b"HEAD http"];
    if !begins.iter().any(|begin| bytes.iter().zip(*begin).all(|(a, b)| a == b)) {
        return Begun::Other;
    }
    for feed in memchr_iter(b'\n', &bytes[seen..]) {
        let end = seen + feed + 1;
        if !bytes[..end].ends_with(b"\r\n") {
            return Begun::Other;
        }
        if bytes[..end].ends_with(END) {
            return if end <= HEADER_BYTES_MAX as usize { Begun::Whole(end) } else { Begun::Other };
        }
    }
    if bytes.len() < HEADER_BYTES_MAX as usize { Begun::Incomplete } else { Begun::Other }
}

/// Whether every line in it ends with a carriage return and a line feed.
fn has_returns(bytes: &[u8]) -> bool {
    memchr_iter(b'\n', bytes).all(|feed| bytes[..feed].ends_with(b"\r"))
}

/// Reads a head that has come whole; none where it is not that of a common request.
pub(crate) fn read<'b>(bytes: &'b [u8], room: &'b mut Room<'b>) -> Option<Head<'b>> {
    let mut request = Request::new(room);
    if !has_returns(bytes) || request.parse(bytes) != Ok(Status::Complete(bytes.len())) || request.version != Some(1) {
        return None;
    }
    let (method, target) = (request.method?, request.path?);
    let fields: &'b [Header<'b>] = request.headers;
    let Told { host, closes, wants } = Told::by(fields)?;
    //= https://www.rfc-editor.org/rfc/rfc9112#section-3.2.2
    //# When an origin server receives a request with an absolute-form of request-target, the origin server MUST ignore the
    //# received Host header field (if any) and instead use the host information of the request-target.
    let (host, target) = match absolute(target) {
        Some((named, target)) => (host.map(|_| named), target),
        None if target.starts_with('/') => (host, target),
        None => return None,
    };
    // What no name and no address holds, as a comma, others read as two hosts.
    let is_of_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    let host = host.filter(|host| !host.is_empty() && host.bytes().all(is_of_host) && target.is_ascii())?;
    let method = if method == "HEAD" { Method::HEAD } else { Method::GET };
    Some(Head { method, target, host, fields, closes, wants })
}

/// Takes a target apart that names a host before its path.
fn absolute(target: &str) -> Option<(&str, &str)> {
    let rest = ["http://", "https://"].iter().find_map(|scheme| target.strip_prefix(scheme))?;
    let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    // Nor may it be one that the way of all other requests could not read.
    Authority::try_from(host).ok()?;
    match path {
        "" => Some((host, "/")),
        path => path.starts_with('/').then_some((host, path)),
    }
}

/// Returns a request of HTTP/2 as a head, where it is a common one.
pub(crate) fn of_request<'b>(request: &'b Parts, room: &'b mut Room<'b>) -> Option<Head<'b>> {
    let method = Some(&request.method).filter(|method| [Method::GET, Method::HEAD].contains(method))?.clone();
    let (host, target) = (request.uri.authority()?.as_str(), request.uri.path_and_query()?.as_str());
    let fields = fill(room, &request.headers)?;
    let scheme = request.uri.scheme_str();
    let is_same = |told: &Told<'_>| told.host.is_none_or(|own| is_same_host(host, own.as_bytes(), scheme));
    let told = Told::by(fields).filter(|told| is_same(told) && target.starts_with('/'))?;
    Some(Head { method, target, host, fields, closes: false, wants: told.wants })
}

impl Head<'_> {
    pub(crate) fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    /// How an error is best shown to whoever asked.
    pub(crate) fn style(&self) -> Style {
        let accept = self.fields.iter().find(|field| field.name.eq_ignore_ascii_case("accept"));
        let accept = accept.and_then(|field| HeaderValue::from_bytes(field.value).ok());
        Style::preferred(accept.as_ref().and_then(|accept| accept.to_str().ok()).unwrap_or(""))
    }

    /// Returns the values of a field, those that are text.
    pub(super) fn texts(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        // As a `HeaderValue` is text: the way of all other requests reads them so.
        named.filter_map(|field| std::str::from_utf8(field.value).ok().filter(|text| text.is_ascii()))
    }

    /// Returns the fields of [`CONDITIONS`]; none when one of them is no text of a field.
    pub(crate) fn conditions(&self) -> Option<HeaderMap> {
        let mut conditions = HeaderMap::new();
        if self.wants != Wants::Whole {
            for field in self.fields {
                let name = CONDITIONS.iter().find(|name| field.name.eq_ignore_ascii_case(name.as_str()));
                if let Some(name) = name {
                    conditions.append(name, HeaderValue::from_bytes(field.value).ok()?);
                }
            }
        }
        Some(conditions)
    }
}

/// Returns whether no field of a request may change which part of the content answers it.
pub(crate) fn wants_whole(fields: &HeaderMap) -> bool {
    let mut room = ROOM;
    fill(&mut room, fields).and_then(Told::by).is_some_and(|told| told.wants == Wants::Whole)
}

fn fill<'r, 'b>(room: &'r mut Room<'b>, fields: &'b HeaderMap) -> Option<&'r [Header<'b>]> {
    let filled = room.get_mut(..fields.len())?;
    for (at, (name, value)) in filled.iter_mut().zip(fields) {
        *at = Header { name: name.as_str(), value: value.as_bytes() };
    }
    Some(filled)
}

/// What the fields of a common request tell.
struct Told<'b> {
    host: Option<&'b str>,
    closes: bool,
    wants: Wants,
}

impl<'b> Told<'b> {
    fn by(fields: &[Header<'b>]) -> Option<Self> {
        let (mut host, mut closes, mut wants) = (None, false, Wants::Whole);
        for field in fields {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            match field.name.len() {
                4 if is("host") && host.is_none() => host = Some(std::str::from_utf8(field.value).ok()?),
                4 if is("host") => return None,
                5 if is("range") => wants = wants.max(Wants::Partial),
                6 if is("expect") => return None,
                8 if is("if-match") || is("if-range") => wants = wants.max(Wants::Partial),
                10 if is("connection") => {
                    for option in field.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                        let known = KNOWN_OPTIONS.iter().find(|known| option.eq_ignore_ascii_case(known))?;
                        closes |= *known == b"close";
                    }
                }
                13 if is("if-none-match") => wants = wants.max(Wants::Partial),
                14 if is("content-length") => return None,
                14 if is("service-worker") => wants = Wants::Other,
                17 if is("transfer-encoding") => return None,
                17 if is("if-modified-since") => wants = wants.max(Wants::Partial),
                19 if is("if-unmodified-since") => wants = wants.max(Wants::Partial),
                _ => {}
            }
        }
        Some(Self { host, closes, wants })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_common(text: &str) -> bool {
        match begun(text.as_bytes(), 0) {
            Begun::Whole(end) => read(&text.as_bytes()[..end], &mut ROOM.clone()).is_some(),
            Begun::Incomplete | Begun::Other => false,
        }
    }

    #[test]
    fn what_viewers_send_is_read_as_it_stands() {
        let text =
            "GET /a%20b?c HTTP/1.1\r\nHost: a.example:80\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\nGET /next";
        assert_eq!(begun(text.as_bytes(), 0), Begun::Whole(82));
        let mut room = ROOM;
        let head = read(&text.as_bytes()[..82], &mut room).unwrap();
        assert_eq!((head.target, head.host, head.fields.len()), ("/a%20b?c", "a.example:80", 3));
        assert!(!head.is_head() && !head.closes && head.wants == Wants::Whole);
        let text = "HEAD / HTTP/1.1\r\nhost: a\r\nconnection: Close\r\n\r\n";
        let mut room = ROOM;
        let head = read(text.as_bytes(), &mut room).unwrap();
        assert!(head.is_head() && head.closes);
    }

    //= https://www.rfc-editor.org/rfc/rfc9112#section-3.2.2
    //= type=test
    //# the origin server MUST ignore the received Host header field (if any) and instead use the host information of the
    //# request-target
    #[test]
    fn a_host_in_the_target_stands_over_the_field() {
        for (target, host, path) in [
            ("http://b.example/a?c", "b.example", "/a?c"),
            ("https://b.example:8080/", "b.example:8080", "/"),
            ("http://b.example", "b.example", "/"),
            ("http://b.example//c", "b.example", "//c"),
            ("/http://b.example/", "a", "/http://b.example/"),
        ] {
            let text = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(begun(text.as_bytes(), 0), Begun::Whole(text.len()));
            let mut room = ROOM;
            let head = read(text.as_bytes(), &mut room).unwrap();
            assert_eq!((head.host, head.target), (host, path), "{target}");
        }
    }

    //= https://www.rfc-editor.org/rfc/rfc9110#section-7.8
    //= type=test
    //# A server MAY ignore a received Upgrade header field
    #[test]
    fn another_protocol_that_is_asked_for_is_not_spoken() {
        for (option, closes) in [
            ("Upgrade, HTTP2-Settings", false),
            ("keep-alive, Upgrade", false),
            ("upgrade", false),
            ("Upgrade, CLOSE", true),
            ("close,keep-alive", true),
        ] {
            let text = format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: {option}\r\nupgrade: h2c\r\n\r\n");
            let mut room = ROOM;
            assert_eq!(read(text.as_bytes(), &mut room).map(|head| head.closes), Some(closes), "{option}");
        }
    }

    #[test]
    fn a_head_may_come_in_any_pieces() {
        let text = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        for cut in 0..text.len() {
            assert_eq!(begun(&text[..cut], 0), Begun::Incomplete, "{cut}");
            assert_eq!(begun(text, cut), Begun::Whole(text.len()), "{cut}");
        }
        let long = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}", "x".repeat(HEADER_BYTES_MAX as usize));
        assert_eq!(begun(long.as_bytes(), 0), Begun::Other);
        assert_eq!(begun(format!("{long}\r\n\r\n").as_bytes(), 0), Begun::Other);
    }

    #[test]
    fn what_a_condition_or_a_range_may_change_is_told() {
        for (field, wants) in [
            ("accept: */*", Wants::Whole),
            ("range: bytes=0-1", Wants::Partial),
            ("if-range: x", Wants::Partial),
            ("if-match: *", Wants::Partial),
            ("If-None-Match: x", Wants::Partial),
            ("if-modified-since: x", Wants::Partial),
            ("if-unmodified-since: x", Wants::Partial),
            ("service-worker: script\r\nrange: bytes=0-1", Wants::Other),
        ] {
            let text = format!("GET / HTTP/1.1\r\nhost: a\r\n{field}\r\n\r\n");
            let mut room = ROOM;
            let head = read(text.as_bytes(), &mut room).unwrap();
            assert_eq!(head.wants, wants, "{field}");
            let conditions = head.conditions().unwrap();
            assert_eq!(conditions.len(), usize::from(wants != Wants::Whole), "{field}: {conditions:?}");
        }
    }

    #[test]
    fn all_else_is_left_to_others() {
        assert!(is_common("GET / HTTP/1.1\r\nhost: a\r\n\r\n"));
        for other in [
            "POST / HTTP/1.1\r\nhost: a\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "GET ftp://a/ HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET http://a?x HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET http:/a/ HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET http:///a HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET http://a::b/ HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET http://user@a/ HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
            "GET httpfile HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.0\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: \r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\nx: y\r\n\r\n",
            "GET / HTTP/1.1\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nconnection: host\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nconnection: close;\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nconnection:\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: \u{e4}\r\nx\u{0}: y\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a, b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: user@a\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\nhost: a\n\n",
            "garbage",
        ] {
            assert!(!is_common(other) && begun(other.as_bytes(), 0) != Begun::Incomplete, "{other:?}");
        }
        let many: String = (0..COMMON_FIELDS_MAX).map(|n| format!("x{n}: y\r\n")).collect();
        assert!(!is_common(&format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n")));
    }
}
