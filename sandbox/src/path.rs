//! The one spelling of a path, so that a rule meets a path however either of them is written (RFC 3986 section 6.2.2).
//!
//! Letters, digits, `-`, `.`, `_`, `~` and the slash stand for themselves, every other byte is `%XX` with capitals: as
//! `evernear put` and the listings of directories write paths.

use std::borrow::Cow;

const DIGITS: &[u8; 16] = b"0123456789ABCDEF";

/// Returns a path, or a part of one, in its one spelling.
///
/// A `%` that begins no escape stands for itself. An escaped slash stays escaped: it parts no segments. Allocates only
/// where the text is spelt otherwise.
#[must_use]
pub fn canonical_path(text: &str) -> Cow<'_, str> {
    spell(text, |byte| byte == b'/')
}

/// Returns a glob in the spelling of the paths that it is to match.
pub(crate) fn canonical_glob(pattern: &str) -> Cow<'_, str> {
    spell(pattern, |byte| matches!(byte, b'/' | b'*' | b'?'))
}

/// Spells each byte; those that are a sign stay as they are unless they are escaped.
fn spell(text: &str, is_sign: impl Fn(u8) -> bool) -> Cow<'_, str> {
    let mut spelt: Option<String> = None;
    let mut rest = text.as_bytes();
    while let Some((byte, length)) = first(rest) {
        let (found, after) = rest.split_at(length);
        let is_unreserved = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        let (plain, escape) = ([byte], [b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        let wanted: &[u8] = if is_unreserved || (length == 1 && is_sign(byte)) { &plain } else { &escape };
        if spelt.is_none() && found != wanted {
            // All before it is ASCII, so it begins a letter.
            spelt = Some(text[..text.len() - rest.len()].to_owned());
        }
        if let Some(spelt) = &mut spelt {
            spelt.extend(wanted.iter().copied().map(char::from));
        }
        rest = after;
    }
    spelt.map_or(Cow::Borrowed(text), Cow::Owned)
}

/// Returns the first byte of a text, its escape undone, and how many bytes it is written with.
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
