//! The canonical form of a path (RFC 3986 section 6.2.2). It makes a rule match a path however either of them is
//! written.
//!
//! Letters, digits, `-`, `.`, `_`, `~` and the slash stand for themselves. Every other byte is `%XX` in capitals.
//! `evernear put` and directory listings write paths in this form.

use std::borrow::Cow;

const DIGITS: &[u8; 16] = b"0123456789ABCDEF";

/// Returns a path, or a part of one, in canonical form.
///
/// A `%` that does not begin an escape stands for itself. An escaped slash stays escaped and separates no segments.
/// Allocates only if the text is not yet canonical.
#[must_use]
pub fn canonical_path(text: &str) -> Cow<'_, str> {
    spell(text, |byte| byte == b'/')
}

/// Returns a glob in the canonical form of the paths that it matches.
pub(crate) fn canonical_glob(pattern: &str) -> Cow<'_, str> {
    spell(pattern, |byte| matches!(byte, b'/' | b'*' | b'?'))
}

/// Converts each byte. Unescaped bytes for which `is_sign` holds stay as they are.
fn spell(text: &str, is_sign: impl Fn(u8) -> bool) -> Cow<'_, str> {
    let mut spelt: Option<String> = None;
    let mut rest = text.as_bytes();
    while let Some((byte, length)) = first(rest) {
        let (found, after) = rest.split_at(length);
        let is_unreserved = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        let (plain, escape) = ([byte], [b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        let wanted: &[u8] = if is_unreserved || (length == 1 && is_sign(byte)) { &plain } else { &escape };
        if spelt.is_none() && found != wanted {
            // Everything before it is ASCII, so it is on a letter boundary.
            spelt = Some(text[..text.len() - rest.len()].to_owned());
        }
        if let Some(spelt) = &mut spelt {
            spelt.extend(wanted.iter().copied().map(char::from));
        }
        rest = after;
    }
    spelt.map_or(Cow::Borrowed(text), Cow::Owned)
}

/// Returns the first byte of a text, unescaped, and the number of bytes in which it is written.
fn first(text: &[u8]) -> Option<(u8, usize)> {
    let byte = *text.first()?;
    let digit = |at: usize| u8::try_from(char::from(*text.get(at)?).to_digit(16)?).ok();
    Some(match (byte, digit(1), digit(2)) {
        (b'%', Some(high), Some(low)) => (high * 16 + low, 3),
        _ => (byte, 1),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_has_one_spelling() {
        for (text, spelt) in [
            ("", ""),
            ("/private/x", "/private/x"),
            ("/%70rivate/%78", "/private/x"),
            ("/a%2db%2E%5F%7e", "/a-b._~"),
            ("/größe/a b", "/gr%C3%B6%C3%9Fe/a%20b"),
            ("/gr%c3%b6%C3%9fe", "/gr%C3%B6%C3%9Fe"),
            ("/@a;b=c,d+e!", "/%40a%3Bb%3Dc%2Cd%2Be%21"),
            ("/a%2fb%2Fc", "/a%2Fb%2Fc"),
            ("//a/../%2e%2e/.", "//a/../../."),
            ("/100%/%4/%zz/%", "/100%25/%254/%25zz/%25"),
            ("/%2541", "/%2541"),
            ("/%00%ff*?", "/%00%FF%2A%3F"),
        ] {
            assert_eq!(canonical_path(text), spelt, "{text}");
        }
        assert_eq!(canonical_glob("/größe/**/%2A?.p%6eg"), "/gr%C3%B6%C3%9Fe/**/%2A?.png");
        assert!(matches!(canonical_path("/a/b%20c.png"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn what_is_spelt_stays_so(text in "[a-c/%246*?éß ]{0,24}") {
            let spelt = canonical_path(&text).into_owned();
            prop_assert!(matches!(canonical_path(&spelt), Cow::Borrowed(_)), "{spelt}");
            let glob = canonical_glob(&text).into_owned();
            prop_assert!(matches!(canonical_glob(&glob), Cow::Borrowed(_)), "{glob}");
        }

        #[test]
        fn every_escape_of_a_byte_is_spelt_alike(bytes in proptest::collection::vec(any::<u8>(), 0..16)) {
            let upper: String = bytes.iter().map(|byte| format!("%{byte:02X}")).collect();
            let lower: String = bytes.iter().map(|byte| format!("%{byte:02x}")).collect();
            prop_assert_eq!(canonical_path(&upper), canonical_path(&lower));
        }
    }
}
