//! The charset of a text: what all of its bytes are, and what it says of itself.
//!
//! The parameter `charset` beats what a page says of itself, so it is given only where both agree.

/// A browser looks for `<meta charset>` in so many first bytes (HTML Standard, "prescan a byte stream").
const PRESCAN_BYTES: usize = 1024;

/// Watches all bytes of a file for whether they are UTF-8.
#[derive(Debug, Default)]
pub(super) struct Utf8Watch {
    is_broken: bool,
    /// The first bytes of a character that the last chunk cut off: at most three.
    cut: Vec<u8>,
    last: u8,
}

impl Utf8Watch {
    /// Takes the next bytes.
    pub(super) fn see(&mut self, bytes: &[u8]) {
        if !self.is_broken {
            self.is_broken = bytes.contains(&0) || self.switches_charset(bytes) || !self.continues(bytes);
        }
    }

    /// Returns whether all bytes seen are UTF-8 without NUL. A character cut off at the end does not count as such.
    pub(super) fn is_utf8(&self) -> bool {
        !self.is_broken && self.cut.is_empty()
    }

    /// Returns whether the bytes have an escape sequence of ISO 2022, whose texts are ASCII by their bytes.
    fn switches_charset(&mut self, bytes: &[u8]) -> bool {
        let begins = |first: u8, second: u8| first == 0x1b && matches!(second, b'$' | b'(');
        let between = bytes.first().is_some_and(|first| begins(self.last, *first));
        self.last = bytes.last().copied().unwrap_or(self.last);
        between || (bytes.contains(&0x1b) && bytes.windows(2).any(|pair| begins(pair[0], pair[1])))
    }

    fn continues(&mut self, mut bytes: &[u8]) -> bool {
        while let (false, Some((first, rest))) = (self.cut.is_empty(), bytes.split_first()) {
            self.cut.push(*first);
            bytes = rest;
            match str::from_utf8(&self.cut) {
                Ok(_) => self.cut.clear(),
                Err(error) if error.error_len().is_some() => return false,
                Err(_) => {}
            }
        }
        match str::from_utf8(bytes) {
            Ok(_) => true,
            Err(error) if error.error_len().is_some() => false,
            Err(error) => {
                self.cut.extend_from_slice(&bytes[error.valid_up_to()..]);
                true
            }
        }
    }
}

/// Returns the charset of a text of type `mime` whose bytes all are UTF-8, or not; none where it is not known, or is
/// told by the text itself.
pub(super) fn charset(mime: &str, sample: &[u8], is_utf8: bool) -> Option<&'static str> {
    if is_utf16(sample) {
        return Some("utf-16");
    }
    let agrees = declared(mime, sample).is_none_or(|label| {
        // A page whose bytes say `<meta charset=utf-16>` in ASCII is UTF-8 to a browser.
        label.eq_ignore_ascii_case(b"utf-8")
            || label.eq_ignore_ascii_case(b"utf8")
            || is_html(mime) && is_utf16_label(label)
    });
    (is_utf8 && agrees).then_some("utf-8")
}

/// Returns whether a text begins with the byte order mark of UTF-16.
pub(super) fn is_utf16(sample: &[u8]) -> bool {
    sample.starts_with(b"\xfe\xff") || sample.starts_with(b"\xff\xfe")
}

fn is_html(mime: &str) -> bool {
    mime == "text/html"
}

fn is_utf16_label(label: &[u8]) -> bool {
    label.get(..6).is_some_and(|label| label.eq_ignore_ascii_case(b"utf-16"))
}

/// Returns the charset that a text of this type says it has.
fn declared<'s>(mime: &str, sample: &'s [u8]) -> Option<&'s [u8]> {
    let text = sample.strip_prefix(b"\xef\xbb\xbf").unwrap_or(sample);
    match mime {
        "text/html" => meta_charset(&text[..text.len().min(PRESCAN_BYTES)]),
        "text/xml" => {
            let end = find(text, b"?>")?;
            value_of(text[..end].strip_prefix(b"<?xml")?, b"encoding")
        }
        "text/css" => value(text.strip_prefix(b"@charset ")?),
        _ => None,
    }
}

/// Returns the charset of the first `<meta>` with one that lies in no comment.
fn meta_charset(mut text: &[u8]) -> Option<&[u8]> {
    while let Some(at) = text.iter().position(|byte| *byte == b'<') {
        text = &text[at..];
        if text.starts_with(b"<!--") {
            text = &text[find(text, b"-->")?..];
            continue;
        }
        let tag = &text[..find(text, b">").unwrap_or(text.len())];
        let is_meta = tag.get(..5).is_some_and(|name| name.eq_ignore_ascii_case(b"<meta"));
        if let (true, Some(charset)) = (is_meta, value_of(tag, b"charset")) {
            return Some(charset);
        }
        text = &text[1..];
    }
    None
}

/// Returns the value behind `name =`: quoted, or up to what cannot belong to the name of a charset.
fn value_of<'t>(text: &'t [u8], name: &[u8]) -> Option<&'t [u8]> {
    let at = text.windows(name.len()).position(|window| window.eq_ignore_ascii_case(name))?;
    value(text[at + name.len()..].trim_ascii_start().strip_prefix(b"=")?)
}

fn value(text: &[u8]) -> Option<&[u8]> {
    let text = text.trim_ascii_start();
    let text = text.strip_prefix(b"\"").or(text.strip_prefix(b"'")).unwrap_or(text).trim_ascii_start();
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_:.+".contains(byte);
    let label = &text[..text.iter().position(|byte| !is_part(byte)).unwrap_or(text.len())];
    (!label.is_empty()).then_some(label)
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn utf8_is_known_however_the_bytes_are_cut(text in ".{0,40}", noise in any::<Option<u8>>(), chunk in 1_usize..9) {
            let bytes: Vec<u8> = text.bytes().chain(noise).filter(|byte| ![0, 0x1b].contains(byte)).collect();
            let mut watch = Utf8Watch::default();
            bytes.chunks(chunk).for_each(|chunk| watch.see(chunk));
            prop_assert_eq!(watch.is_utf8(), str::from_utf8(&bytes).is_ok());
        }
    }

    #[test]
    fn an_escape_that_chunks_cut_is_seen() {
        let mut watch = Utf8Watch::default();
        watch.see(b"a\x1b");
        assert!(watch.is_utf8());
        watch.see(b"$B8l");
        assert!(!watch.is_utf8());
    }

    #[test]
    fn what_a_text_says_of_itself_is_found() {
        for (mime, text, label) in [
            ("text/html", "<meta charset=koi8-r>", Some("koi8-r")),
            ("text/html", "<html><META name=x><meta\n charset = 'Big5' />", Some("Big5")),
            ("text/html", "<meta http-equiv=Content-Type content=\"text/html; charset=euc-kr\">", Some("euc-kr")),
            ("text/html", "<!-- <meta charset=big5> --><meta charset=utf-8>", Some("utf-8")),
            ("text/html", "<p>charset=big5", None),
            ("text/html", "<!-- <meta charset=big5>", None),
            ("text/plain", "<meta charset=big5>", None),
            ("text/xml", "\u{feff}<?xml version='1.0' encoding='ISO-8859-1'?>", Some("ISO-8859-1")),
            ("text/xml", "<?xml version='1.0'?><a encoding='x'/>", None),
            ("text/css", "@charset \"windows-1251\";", Some("windows-1251")),
        ] {
            assert_eq!(declared(mime, text.as_bytes()), label.map(str::as_bytes), "{text}");
        }
    }
}
