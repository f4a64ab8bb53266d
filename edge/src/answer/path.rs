//! The path of a request: the names that are walked, and the one spelling under which policies, signed links and
//! redirects know it. Pure.
//!
//! Keeps true: two paths that lead to the same names have the same spelling, so no rule about a path is evaded by
//! writing it otherwise.

use std::{borrow::Cow, fmt::Write as _};

use format::limits::PATH_SEGMENTS_MAX;
use sandbox::canonical_path;

use crate::error::Fault;

/// A path that may be walked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path<'r> {
    names: Vec<Cow<'r, str>>,
    spelling: Cow<'r, str>,
}

impl<'r> Path<'r> {
    /// Reads a path as it stands in a request.
    ///
    /// # Errors
    /// [`Fault::Request`] when it does not begin with a slash, an escape is broken, or a name would hold a slash, a NUL
    /// or what is not UTF-8: other programs on the way could read each of these in another way. [`Fault::Path`] when it
    /// is deeper than any tree.
    pub(crate) fn read(text: &'r str) -> Result<Self, Fault> {
        let malformed = Fault::Request { reason: "the path is malformed" };
        let below = text.strip_prefix('/').ok_or_else(|| malformed.clone())?;
        if below.split('/').count() > PATH_SEGMENTS_MAX {
            return Err(Fault::Path);
        }
        let names = below.split('/').map(|segment| decode(segment).ok_or_else(|| malformed.clone()));
        Ok(Self { names: names.collect::<Result<_, _>>()?, spelling: canonical_path(text) })
    }

    /// Returns the names, at least one; the last is empty when the path ends with a slash.
    pub(crate) fn names(&self) -> &[Cow<'r, str>] {
        &self.names
    }

    /// Returns the one spelling: what [`encode`] makes of each name, behind a slash each.
    pub(crate) fn spelling(&self) -> &str {
        &self.spelling
    }

    /// Returns the path as people read it.
    pub(crate) fn shown(&self) -> String {
        format!("/{}", self.names.join("/"))
    }
}

/// Undoes percent-encoding (RFC 3986 section 2.1); none when it is broken or hides a slash or what is not UTF-8.
pub(super) fn decode(segment: &str) -> Option<Cow<'_, str>> {
    if !segment.contains('%') {
        return Some(Cow::Borrowed(segment));
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let (hex, after) = after.split_at_checked(2)?;
            if !hex.iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
            bytes.push(u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok().filter(|name| !name.contains('/') && !name.contains('\0')).map(Cow::Owned)
}

/// Encodes a name as one path segment: all but the unreserved characters of RFC 3986 section 2.3.
pub(crate) fn encode(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sandbox::{Answer, Config, Continent, CountryCode, Method, Question};

    use super::*;
    use crate::policy::{
        ask::{Ask, Client, EdgeFacts, Fields, RequestFacts},
        places::ViewerPlace,
    };

    fn names(path: &str) -> Option<Vec<String>> {
        Path::read(path).ok().map(|path| path.names.into_iter().map(Cow::into_owned).collect())
    }

    #[test]
    fn paths_are_cut_and_decoded() {
        assert_eq!(names("/"), Some(vec![String::new()]));
        assert_eq!(names("/a/b.png"), Some(vec!["a".into(), "b.png".into()]));
        assert_eq!(names("/a%20b/%C3%A9/"), Some(vec!["a b".into(), "é".into(), String::new()]));
        for bad in ["", "a", "*", "/%", "/%4", "/%zz", "/%+1", "/%ff", "/a%2Fb", "/a%2fb", "/%00"] {
            assert_eq!(names(bad), None, "{bad}");
        }
        assert!(Path::read(&"/a".repeat(PATH_SEGMENTS_MAX)).is_ok());
        assert_eq!(Path::read(&"/a".repeat(PATH_SEGMENTS_MAX + 1)), Err(Fault::Path));
        assert_eq!(Path::read("/a%20b/%C3%A9/").unwrap().shown(), "/a b/é/");
    }

    #[test]
    fn a_path_is_known_by_one_spelling() {
        for (text, spelling) in [
            ("/%70rivate/x", "/private/x"),
            ("/pr%69vate%2Fx", ""),
            ("/a//b", "/a//b"),
            ("/a/%2e%2E/./b", "/a/.././b"),
            ("/a%2eb/", "/a.b/"),
            ("/a;v=1/@b", "/a%3Bv%3D1/%40b"),
            // What looks alike is another name, so another path: composed and not.
            ("/é", "/%C3%A9"),
            ("/e\u{301}", "/e%CC%81"),
            ("/A", "/A"),
            ("/%3Fa=b", "/%3Fa%3Db"),
            // A backslash separates nothing, and begins no name above.
            (r"/a\b", "/a%5Cb"),
            ("/..%5cb", "/..%5Cb"),
        ] {
            assert_eq!(Path::read(text).map_or(String::new(), |path| path.spelling().to_owned()), spelling, "{text}");
        }
    }

    /// A name, and two ways to write it: each letter plain or escaped, in small or capital digits.
    fn name() -> impl Strategy<Value = (String, [String; 2])> {
        let letters: Vec<char> = "ab.~-Z7 %@;=+,!&'$*?#\"\\é\u{301}ß".chars().collect();
        let letter = (prop::sample::select(letters), 0..3_u8, 0..3_u8);
        prop::collection::vec(letter, 0..6).prop_map(|letters| {
            let write = |(letter, way): (char, u8)| -> String {
                let mut bytes = [0; 4];
                let bytes = letter.encode_utf8(&mut bytes).bytes();
                match way {
                    0 if letter != '%' => letter.to_string(),
                    1 => bytes.map(|byte| format!("%{byte:02x}")).collect(),
                    _ => bytes.map(|byte| format!("%{byte:02X}")).collect(),
                }
            };
            let name = letters.iter().map(|(letter, ..)| *letter).collect();
            let one = letters.iter().map(|(letter, way, _)| write((*letter, *way))).collect();
            let other = letters.iter().map(|(letter, _, way)| write((*letter, *way))).collect();
            (name, [one, other])
        })
    }

    fn ask<'r>(path: &'r Path<'_>) -> Ask<'r> {
        let request = RequestFacts {
            method: Method::Get,
            is_secure: true,
            range: false,
            host: "".into(),
            path: path.spelling().into(),
            query: "".into(),
            fields: Fields::Parsed(&[]),
            token: None,
        };
        Ask {
            now: 0,
            viewer: ViewerPlace::UNKNOWN,
            client: Client::UNKNOWN,
            edge: EdgeFacts { country: CountryCode::UNKNOWN, continent: Continent::Unknown, load: 0 },
            request: Some(request),
            object: None,
            policy: None,
        }
    }

    proptest! {
        #[test]
        fn policies_see_the_path_that_is_walked_however_it_and_their_rules_are_written(
            path in prop::collection::vec(name(), 1..5),
        ) {
            let written = |way: usize| path.iter().map(|(_, texts)| format!("/{}", texts[way])).collect::<String>();
            let (asked, rule) = (written(0), written(1));
            let read = Path::read(&asked).unwrap();
            let names: Vec<&str> = path.iter().map(|(name, _)| &**name).collect();
            prop_assert_eq!(read.names(), &names[..]);
            let spelling: String = names.iter().map(|name| format!("/{}", encode(name))).collect();
            prop_assert_eq!(read.spelling(), &spelling);

            let facts = ask(&read);
            let is_so = |question: Question| {
                sandbox::answer(&facts, &Config::default(), &question).ok() == Some(Answer::Truth(true))
            };
            let (first, last) = (format!("/{}", path[0].1[1]), format!("/{}", path[path.len() - 1].1[1]));
            prop_assert!(is_so(Question::RequestPathIs(rule.clone().into())), "{asked} {rule}");
            prop_assert!(is_so(Question::RequestPathStarts(first.into())), "{asked} {rule}");
            prop_assert!(is_so(Question::RequestPathEnds(last.into())), "{asked} {rule}");
            prop_assert!(!is_so(Question::RequestPathIs(format!("{rule}x").into())), "{asked} {rule}");
        }
    }
}
