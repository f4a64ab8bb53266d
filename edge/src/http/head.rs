//! Heads of requests of HTTP/1.1 as nearly all viewers send them: one GET or HEAD in origin form, one Host, no content.
//! Pure. What looks otherwise, if only by a line that ends without its carriage return, is left to pingora, so that no
//! form is read in two ways here.

use http::{HeaderMap, Method, request::Parts};
use httparse::{EMPTY_HEADER, Header, Request, Status};

use super::request::HEADER_BYTES_MAX;

/// Fields of a common request; browsers send some 15.
pub(super) const COMMON_FIELDS_MAX: usize = 32;
const END: &[u8] = b"\r\n\r\n";

/// Room for the fields of one head.
pub(super) type Room<'b> = [Header<'b>; COMMON_FIELDS_MAX];
/// Room with nothing in it.
pub(super) const ROOM: Room<'_> = [EMPTY_HEADER; COMMON_FIELDS_MAX];

/// What the bytes that were read so far are.
#[derive(Debug, PartialEq)]
pub(super) enum Begun<'b> {
    /// The beginning of what may become a common request.
    Part,
    /// A common request.
    Common(Head<'b>),
    /// Something else.
    Other,
}

/// A common request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Head<'b> {
    pub(super) is_head: bool,
    /// Begins with a slash.
    pub(super) target: &'b str,
    pub(super) host: &'b str,
    pub(super) fields: &'b [Header<'b>],
    /// The viewer sends nothing more after it.
    pub(super) closes: bool,
    /// Nothing in it, as a condition or a range, changes which part of the content answers it.
    pub(super) is_plain: bool,
    /// Its length.
    pub(super) bytes: usize,
}

/// Reads the head at the beginning of `bytes`, of which the first `seen` were looked at before.
pub(super) fn read<'b>(bytes: &'b [u8], seen: usize, room: &'b mut Room<'b>) -> Begun<'b> {
    if ![&b"GET /"[..], b"HEAD /"].iter().any(|begin| bytes.iter().zip(*begin).all(|(a, b)| a == b)) {
        return Begun::Other;
    }
    // Each byte is looked at once, however slowly they come.
    let from = seen.saturating_sub(END.len() - 1);
    let Some(end) = bytes[from..].windows(END.len()).position(|window| window == END) else {
        let is_part = bytes.len() < HEADER_BYTES_MAX as usize && has_returns(&bytes[from.saturating_sub(1)..]);
        return if is_part { Begun::Part } else { Begun::Other };
    };
    let bytes = &bytes[..from + end + END.len()];
    if bytes.len() > HEADER_BYTES_MAX as usize {
        return Begun::Other;
    }
    common(bytes, room).map_or(Begun::Other, Begun::Common)
}

/// Whether every line in it ends with a carriage return and a line feed.
fn has_returns(bytes: &[u8]) -> bool {
    bytes.iter().zip(bytes.iter().skip(1)).filter(|pair| pair.1 == &b'\n').all(|pair| pair.0 == &b'\r')
}

fn common<'b>(bytes: &'b [u8], room: &'b mut Room<'b>) -> Option<Head<'b>> {
    let mut request = Request::new(room);
    if !has_returns(bytes) || request.parse(bytes) != Ok(Status::Complete(bytes.len())) || request.version != Some(1) {
        return None;
    }
    let (method, target) = (request.method?, request.path?);
    let fields: &'b [Header<'b>] = request.headers;
    let Told { host, closes, is_plain } = Told::by(fields)?;
    // What no name and no address holds, as a comma, others read as two hosts.
    let is_of_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    let host = host.filter(|host| !host.is_empty() && host.bytes().all(is_of_host) && target.is_ascii())?;
    let is_head = method == "HEAD";
    Some(Head { is_head, target, host, fields, closes, is_plain, bytes: bytes.len() })
}

/// Returns a request of HTTP/2 as a head, where it is a common one.
pub(super) fn of_parts<'b>(parts: &'b Parts, room: &'b mut Room<'b>) -> Option<Head<'b>> {
    let is_head = parts.method == Method::HEAD;
    if !(is_head || parts.method == Method::GET) {
        return None;
    }
    let (host, target) = (parts.uri.authority()?.as_str(), parts.uri.path_and_query()?.as_str());
    let fields = fill(room, &parts.headers)?;
    let told = Told::by(fields).filter(|told| told.host.is_none() && target.starts_with('/'))?;
    Some(Head { is_head, target, host, fields, closes: false, is_plain: told.is_plain, bytes: 0 })
}

/// Returns whether no field of a request may change which part of the content answers it.
pub(super) fn is_plain(fields: &HeaderMap) -> bool {
    let mut room = ROOM;
    fill(&mut room, fields).and_then(Told::by).is_some_and(|told| told.is_plain)
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
    is_plain: bool,
}

impl<'b> Told<'b> {
    fn by(fields: &[Header<'b>]) -> Option<Self> {
        let (mut host, mut closes, mut is_plain) = (None, false, true);
        for field in fields {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            match field.name.len() {
                4 if is("host") && host.is_none() => host = Some(std::str::from_utf8(field.value).ok()?),
                4 if is("host") => return None,
                5 if is("range") => is_plain = false,
                6 if is("expect") => return None,
                7 if is("upgrade") => return None,
                8 if is("if-match") || is("if-range") => is_plain = false,
                10 if is("connection") => match field.value {
                    value if value.eq_ignore_ascii_case(b"keep-alive") => {}
                    value if value.eq_ignore_ascii_case(b"close") => closes = true,
                    _ => return None,
                },
                13 if is("if-none-match") => is_plain = false,
                14 if is("content-length") => return None,
                14 if is("service-worker") => is_plain = false,
                17 if is("transfer-encoding") => return None,
                17 if is("if-modified-since") => is_plain = false,
                19 if is("if-unmodified-since") => is_plain = false,
                _ => {}
            }
        }
        Some(Self { host, closes, is_plain })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_common(text: &str) -> bool {
        matches!(read(text.as_bytes(), 0, &mut ROOM.clone()), Begun::Common(_))
    }

    #[test]
    fn what_viewers_send_is_read_as_it_stands() {
        let text =
            "GET /a%20b?c HTTP/1.1\r\nHost: a.example:80\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\nGET /next";
        let mut room = ROOM;
        let Begun::Common(head) = read(text.as_bytes(), 0, &mut room) else { panic!() };
        assert_eq!((head.target, head.host, head.fields.len(), head.bytes), ("/a%20b?c", "a.example:80", 3, 82));
        assert!(!head.is_head && !head.closes && head.is_plain);
        let text = "HEAD / HTTP/1.1\r\nhost: a\r\nconnection: Close\r\n\r\n";
        let mut room = ROOM;
        let Begun::Common(head) = read(text.as_bytes(), 0, &mut room) else { panic!() };
        assert!(head.is_head && head.closes);
    }

    #[test]
    fn a_head_may_come_in_any_pieces() {
        let text = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        for cut in 0..text.len() {
            assert_eq!(read(&text[..cut], 0, &mut ROOM.clone()), Begun::Part, "{cut}");
            assert!(matches!(read(text, cut, &mut ROOM.clone()), Begun::Common(_)), "{cut}");
        }
        let long = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}", "x".repeat(HEADER_BYTES_MAX as usize));
        assert_eq!(read(long.as_bytes(), 0, &mut ROOM.clone()), Begun::Other);
        assert_eq!(read(format!("{long}\r\n\r\n").as_bytes(), 0, &mut ROOM.clone()), Begun::Other);
    }

    #[test]
    fn what_a_condition_or_a_range_may_change_is_not_plain() {
        for field in [
            "range: bytes=0-1",
            "if-range: x",
            "if-match: *",
            "If-None-Match: x",
            "if-modified-since: x",
            "if-unmodified-since: x",
            "service-worker: script",
        ] {
            let text = format!("GET / HTTP/1.1\r\nhost: a\r\n{field}\r\n\r\n");
            let mut room = ROOM;
            let Begun::Common(head) = read(text.as_bytes(), 0, &mut room) else { panic!("{field}") };
            assert!(!head.is_plain, "{field}");
        }
    }

    #[test]
    fn all_else_is_left_to_others() {
        assert!(is_common("GET / HTTP/1.1\r\nhost: a\r\n\r\n"));
        for other in [
            "POST / HTTP/1.1\r\nhost: a\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nhost: a\r\n\r\n",
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
            "GET / HTTP/1.1\r\nhost: a\r\nupgrade: h2c\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: \u{e4}\r\nx\u{0}: y\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a, b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: user@a\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\nhost: a\n\n",
            "garbage",
        ] {
            assert_eq!(read(other.as_bytes(), 0, &mut ROOM.clone()), Begun::Other, "{other:?}");
        }
        let many: String = (0..COMMON_FIELDS_MAX).map(|n| format!("x{n}: y\r\n")).collect();
        assert!(!is_common(&format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n")));
    }
}
