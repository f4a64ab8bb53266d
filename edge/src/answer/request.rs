//! A request as the door sees it: framing checked, header bounded, taken out of the session.

use std::{net::IpAddr, sync::Arc};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header,
    request::Parts,
    uri::{Authority, PathAndQuery},
};

use super::{
    head::{HEADER_BYTES_MAX, Head, Wants},
    page::Style,
};
use crate::{error::Fault, net::network, store::hand::Hand, zone::LOCALHOST};

/// Fields of one request.
const FIELDS_MAX: usize = 100;

/// A request whose header was read.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) id: RequestId,
    pub(crate) peer: IpAddr,
    /// Whether it came over TLS.
    pub(crate) is_secure: bool,
    pub(crate) version: Version,
    pub(crate) method: Method,
    /// The host asked for, with port.
    pub(crate) authority: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) fields: Arc<HeaderMap>,
    /// Whether whoever asks keeps answers that are ready, and this may be one.
    pub(crate) keeps: bool,
    /// Of the connection, where other answers go out beside this one.
    pub(crate) hand: Hand,
}

/// A name for a request in pages and logs: 64 bits, unique enough to find one among a day's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestId(u64);

impl RequestId {
    /// Returns one that no other request of this process has. Random numbers tell nobody how many there were.
    pub(crate) fn next() -> Self {
        use std::{
            hash::{BuildHasher, RandomState},
            sync::{
                LazyLock,
                atomic::{AtomicU64, Ordering},
            },
        };
        static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(SEED.hash_one(NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// Returns it as a number, of which each is as likely as any other.
    pub(crate) fn number(self) -> u64 {
        self.0
    }

    /// Returns its hexadecimal digits.
    pub(crate) fn digits(self) -> [u8; 16] {
        let mut digits = [0; 16];
        for (digit, nibble) in digits.iter_mut().zip((0..16).rev().map(|at| self.0 >> (4 * at) & 15)) {
            *digit = b"0123456789abcdef"[usize::try_from(nibble).unwrap_or(0)];
        }
        digits
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What became of reading a header.
pub(crate) enum Intake {
    /// It is HTTP that is not served.
    Refused(Request, Fault),
    /// It may be answered.
    Ready(Request),
}

impl Intake {
    /// Takes a request out of its header, of which `fields` are a part. `target` is what its first line asked for: what
    /// is no path, a parser may have put down as the root.
    pub(crate) fn read(
        head: &Parts,
        fields: HeaderMap,
        target: &[u8],
        has_body: bool,
        (peer, is_secure): (IpAddr, bool),
    ) -> Self {
        let authority = fields.get(header::HOST).and_then(|host| host.to_str().ok());
        // Who asks by HTTP/1.0 need not say whom: balancers that check a server do not.
        // Every edge answers to this name.
        let nobody =
            if head.version == Version::HTTP_10 && !fields.contains_key(header::HOST) { LOCALHOST } else { "" };
        //= https://www.rfc-editor.org/rfc/rfc9112#section-3.2.2
        //# When an origin server receives a request with an absolute-form of request-target, the origin server MUST ignore
        //# the received Host header field (if any) and instead use the host information of the request-target.
        let has_own_host = head.version > Version::HTTP_11;
        let absolute = if has_own_host { None } else { absolute(target) };
        let uri = absolute.as_ref().unwrap_or(&head.uri);
        let authority = uri.authority().map(Authority::as_str).or(authority).unwrap_or(nobody).to_owned();
        let request = Request {
            id: RequestId::next(),
            peer: peer.to_canonical(),
            is_secure,
            version: head.version,
            method: head.method.clone(),
            authority,
            path: uri.path().to_owned(),
            query: uri.query().unwrap_or("").to_owned(),
            fields: Arc::new(fields),
            keeps: false,
            hand: Hand::default(),
        };
        let line = target.len() + request.method.as_str().len();
        // HTTP/2 and 3 have the host in a field of their own, in which nobody is named, and a path that is one.
        //= https://www.rfc-editor.org/rfc/rfc9113#section-8.3.1
        //# A server SHOULD treat a request as malformed if it contains a Host header field that identifies an entity that
        //# differs from the entity in the ":authority" pseudo-header field.
        let hosts = request.fields.get_all(header::HOST);
        let scheme = head.uri.scheme_str();
        let is_told_twice = hosts.iter().any(|host| !is_same_host(&request.authority, host.as_bytes(), scheme));
        if (has_own_host && is_told_twice) || request.authority.contains('@') {
            return Self::Refused(request, Fault::Request { reason: "one host is needed, without a user" });
        }
        if absolute.is_none() && !is_target(target, &request.method) {
            return Self::Refused(request, Fault::Request { reason: "a target begins with a slash" });
        }
        match check(&request, line, has_body) {
            Ok(()) => Self::Ready(request),
            Err(fault) => Self::Refused(request, fault),
        }
    }
}

/// Whether a field Host names the host that `:authority` does, under a scheme: in capitals or not, with the port that
/// the scheme has anyway or without one.
//= https://www.rfc-editor.org/rfc/rfc9113#section-8.3.1
//# The values of fields need to be normalized to compare them (see Section 6.2 of [RFC3986]).
pub(super) fn is_same_host(authority: &str, field: &[u8], scheme: Option<&str>) -> bool {
    fn without<'h>(host: &'h [u8], port: &[u8]) -> &'h [u8] {
        let before = host.strip_suffix(port).unwrap_or(host);
        before.strip_suffix(b":").unwrap_or(host)
    }
    let port = match scheme {
        Some("http") => "80",
        Some("https") => "443",
        _ => "",
    };
    without(authority.as_bytes(), port.as_bytes()).eq_ignore_ascii_case(without(field, port.as_bytes()))
}

/// Returns the target of a request of HTTP/2 or 3, in which a host stands for itself.
pub(crate) fn target_of(head: &Parts) -> &[u8] {
    head.uri.path_and_query().map_or(b"", |target| target.as_str().as_bytes())
}

/// Takes a target apart that names a host before its path.
fn absolute(target: &[u8]) -> Option<Uri> {
    let uri = Uri::try_from(target).ok()?;
    (matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some()).then_some(uri)
}

/// Whether a target without a host is one: a path, or for methods that have no path their own.
//= https://www.rfc-editor.org/rfc/rfc9112#section-3.2
//# Recipients of an invalid request-line SHOULD respond with either a 400 (Bad Request) error or a 301
fn is_target(target: &[u8], method: &Method) -> bool {
    match *method {
        Method::CONNECT => true,
        Method::OPTIONS if target == b"*" => true,
        _ => target.starts_with(b"/"),
    }
}

impl Request {
    pub(crate) fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    /// Whether it asks of the server as a whole.
    //= https://www.rfc-editor.org/rfc/rfc9110#section-9.3.7
    //# An OPTIONS request with an asterisk ("*") as the request target (Section 7.1) applies to the server in general rather
    //# than to a specific resource.
    pub(crate) fn is_of_server(&self) -> bool {
        self.method == Method::OPTIONS && self.path == "*"
    }

    pub(crate) fn field(&self, name: HeaderName) -> Option<&str> {
        self.fields.get(name)?.to_str().ok()
    }

    /// Whether the link says `?download`: save it rather than show it.
    pub(crate) fn wants_download(&self) -> bool {
        self.query.split('&').any(|part| part == "download" || part.starts_with("download="))
    }

    /// How an error is best shown to whoever asked.
    pub(crate) fn style(&self) -> Style {
        Style::preferred(self.field(header::ACCEPT).unwrap_or(""))
    }

    /// Who asked, and how, for the log.
    pub(crate) fn asked(&self) -> Asked<'_> {
        Asked { id: self.id, viewer: for_logs(self.peer), version: self.version, method: self.method.as_str() }
    }

    /// Whether it asks for the same as another; only the name of the request, who keeps the answer, and the hand of its
    /// connection may differ.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (&self.method, self.version, self.is_secure, self.peer)
            == (&other.method, other.version, other.is_secure, other.peer)
            && (&self.authority, &self.path, &self.query, &self.fields)
                == (&other.authority, &other.path, &other.query, &other.fields)
    }

    /// Takes a request that was found to be common.
    pub(crate) fn common(head: &Head<'_>, peer: IpAddr, is_secure: bool) -> Option<Self> {
        let target = PathAndQuery::try_from(head.target).ok()?;
        Authority::try_from(head.host).ok()?;
        let mut fields = HeaderMap::with_capacity(head.fields.len());
        for field in head.fields {
            fields.append(
                HeaderName::from_bytes(field.name.as_bytes()).ok()?,
                HeaderValue::from_bytes(field.value).ok()?,
            );
        }
        Some(Self {
            id: RequestId::next(),
            peer,
            is_secure,
            version: Version::HTTP_11,
            method: head.method.clone(),
            authority: head.host.to_owned(),
            path: target.path().to_owned(),
            query: target.query().unwrap_or("").to_owned(),
            fields: Arc::new(fields),
            keeps: head.wants == Wants::Whole,
            hand: Hand::default(),
        })
    }
}

/// Who asked, and how, as the log tells it. Never the host or the path: a label is a key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'r> {
    pub(crate) id: RequestId,
    pub(crate) viewer: IpAddr,
    pub(crate) version: Version,
    pub(crate) method: &'r str,
}

/// Returns what of a viewer's address may stand in a log.
pub(crate) fn for_logs(peer: IpAddr) -> IpAddr {
    network(peer)
}

/// Refuses what no viewer sends, so that nothing in front of us or behind us can read it another way.
fn check(request: &Request, line_bytes: usize, has_body: bool) -> Result<(), Fault> {
    let malformed = |reason| Err(Fault::Request { reason });
    let field_bytes = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    let bytes = line_bytes + request.fields.iter().map(field_bytes).sum::<usize>();
    if bytes > HEADER_BYTES_MAX as usize || request.fields.len() > FIELDS_MAX {
        return Err(Fault::HeaderTooLarge);
    }
    //= https://www.rfc-editor.org/rfc/rfc9112#section-3.2
    //# A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message that lacks a Host header
    //# field and to any request message that contains more than one Host header field line or a Host header field with an
    //# invalid field value.
    let hosts = request.fields.get_all(header::HOST).iter().count();
    if request.authority.is_empty() || hosts > 1 || (hosts == 0 && request.version == Version::HTTP_11) {
        return malformed("one Host is needed");
    }
    if Authority::try_from(request.authority.as_str()).is_err() {
        return malformed("Host names a host, and maybe a port");
    }
    if request.method == Method::CONNECT {
        return malformed("this is not a proxy");
    }
    if !matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Err(Fault::Method);
    }
    // pingora takes Content-Length away when both are there; what is left still says that a body follows.
    if has_body || request.fields.contains_key(header::TRANSFER_ENCODING) {
        return malformed("a GET or HEAD has no body here");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method, fields: &[(&'static str, &str)]) -> Request {
        let field = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        Request {
            id: RequestId::next(),
            peer: "192.0.2.77".parse().unwrap(),
            is_secure: false,
            version: Version::HTTP_11,
            method,
            authority: "localhost".into(),
            path: "/".into(),
            query: String::new(),
            fields: Arc::new(fields.iter().map(field).collect()),
            keeps: false,
            hand: Hand::default(),
        }
    }

    fn intake(head: http::Request<()>, target: &[u8]) -> Intake {
        let mut head = head.into_parts().0;
        let fields = std::mem::take(&mut head.headers);
        Intake::read(&head, fields, target, false, (IpAddr::from([192, 0, 2, 7]), false))
    }

    #[test]
    fn a_target_without_a_slash_is_no_path() {
        let refused = |method: Method, target: &str| {
            // What is no path, pingora puts down as the root.
            let head = http::Request::builder().method(method).uri("/").header("host", "a.example").body(()).unwrap();
            matches!(intake(head, target.as_bytes()), Intake::Refused(..))
        };
        for target in [
            "",
            "cat.jpg",
            "foo/bar",
            "?x",
            "*",
            "%20/x",
            "user@evil.example",
            "evil.example:80",
            "a.example",
            "http://",
            "http:///x",
            "http://user@a.example/",
            "ftp://a.example/x",
        ] {
            assert!(refused(Method::GET, target), "{target}");
        }
        for target in
            ["/", "/cat.jpg", "/@evil.example", "//evil.example", "HTTP://a.example/cat.jpg", "https://a.example"]
        {
            assert!(!refused(Method::GET, target), "{target}");
        }
        assert!(!refused(Method::OPTIONS, "*") && refused(Method::OPTIONS, "x"));
    }

    #[test]
    fn a_host_in_the_target_stands_over_the_field_for_every_method() {
        let read = |method: Method, version: Version, target: &str, host: Option<&str>| {
            let mut head = http::Request::builder().method(method).version(version).uri("/");
            if let Some(host) = host {
                head = head.header("host", host);
            }
            match intake(head.body(()).unwrap(), target.as_bytes()) {
                Intake::Ready(request) => Some((request.authority, request.path, request.query)),
                Intake::Refused(..) => None,
            }
        };
        let found = |host: &str, path: &str, query: &str| Some((host.to_owned(), path.to_owned(), query.to_owned()));
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            let of = |target| read(method.clone(), Version::HTTP_11, target, Some("a.example"));
            assert_eq!(of("http://b.example/c?d"), found("b.example", "/c", "d"));
            assert_eq!(of("HTTPS://b.example:81"), found("b.example:81", "/", ""));
            assert_eq!(of("http://b.example?d"), found("b.example", "/", "d"));
            assert_eq!(of("http://user@b.example/"), None);
        }
        //= https://www.rfc-editor.org/rfc/rfc9112#section-3.2
        //= type=test
        //# A client MUST send a Host header field (Section 7.2 of [HTTP]) in all HTTP/1.1 request messages.
        assert_eq!(read(Method::GET, Version::HTTP_11, "http://b.example/", None), None);
        assert_eq!(read(Method::GET, Version::HTTP_10, "http://b.example/", None), found("b.example", "/", ""));
    }

    #[test]
    fn a_host_that_could_be_read_two_ways_is_refused() {
        let is_refused = |version, target: &str, host: Option<&str>| {
            let mut head = http::Request::builder().version(version).uri(target);
            if let Some(host) = host {
                head = head.header("host", host);
            }
            let head = head.body(()).unwrap();
            let target = head.uri().path_and_query().map_or("", |target| target.as_str()).to_owned();
            matches!(intake(head, target.as_bytes()), Intake::Refused(..))
        };
        for version in [Version::HTTP_2, Version::HTTP_3] {
            for (target, host) in [
                ("https://a.example/cat.jpg", None),
                ("https://a.example/cat.jpg", Some("a.example")),
                ("https://a.example/", Some("A.Example")),
                ("https://a.example/", Some("a.example:443")),
                ("https://a.example/", Some("a.example:")),
                ("https://A.example:443/", Some("a.example")),
                ("http://a.example/", Some("a.example:80")),
                ("https://a.example:8443/", Some("a.example:8443")),
                ("https://[2001:db8::443]/", Some("[2001:DB8::443]:443")),
            ] {
                assert!(!is_refused(version, target, host), "{version:?} {target} {host:?}");
            }
            for host in ["b.example", "a.example:80", "a.example:8443", "a.example443", "user@a.example", ""] {
                assert!(is_refused(version, "https://a.example/", Some(host)), "{version:?} {host}");
            }
            assert!(is_refused(version, "http://a.example/", Some("a.example:443")), "{version:?}");
            assert!(is_refused(version, "https://user@a.example/", None), "{version:?}");
        }
    }

    #[test]
    fn only_who_speaks_http_1_0_may_ask_nobody() {
        let asked = |version, host: Option<&str>| {
            let head = http::Request::builder().version(version).method(Method::OPTIONS).uri("/");
            let head = host.into_iter().fold(head, |head, host| head.header("host", host)).body(()).unwrap();
            match intake(head, b"/") {
                Intake::Ready(request) => Some(request.authority),
                Intake::Refused(..) => None,
            }
        };
        assert_eq!(asked(Version::HTTP_10, None).as_deref(), Some("localhost"));
        assert_eq!(asked(Version::HTTP_10, Some("a.example")).as_deref(), Some("a.example"));
        assert_eq!((asked(Version::HTTP_10, Some("")), asked(Version::HTTP_11, None)), (None, None));
    }

    #[test]
    fn framing_that_could_be_read_two_ways_is_refused() {
        let fault = |method, fields: &[(&'static str, &str)], body| {
            check(&request(method, &[&[("host", "localhost")], fields].concat()), 5, body).err()
        };
        assert_eq!(fault(Method::GET, &[], false), None);
        assert_eq!(fault(Method::HEAD, &[], false), None);
        assert!(matches!(fault(Method::GET, &[], true), Some(Fault::Request { .. })));
        assert!(matches!(fault(Method::GET, &[("transfer-encoding", "chunked")], false), Some(Fault::Request { .. })));
        assert!(matches!(fault(Method::CONNECT, &[], false), Some(Fault::Request { .. })));
        assert_eq!(fault(Method::POST, &[], true), Some(Fault::Method));
        assert_eq!(
            fault(Method::GET, &[("cookie", &"x".repeat(HEADER_BYTES_MAX as usize))], false),
            Some(Fault::HeaderTooLarge)
        );
        let nobody = Request { authority: String::new(), ..request(Method::GET, &[]) };
        assert!(matches!(check(&nobody, 5, false), Err(Fault::Request { .. })));
    }

    #[test]
    fn ids_differ_and_logs_show_no_whole_address() {
        assert_ne!(RequestId::next(), RequestId::next());
        let id = RequestId(0x0123_4567_89ab_cdef);
        assert_eq!((id.to_string().as_bytes(), &id.digits()), (&b"0123456789abcdef"[..], b"0123456789abcdef"));
        assert_eq!(for_logs("192.0.2.77".parse().unwrap()).to_string(), "192.0.2.0");
    }
}
