//! The media type of a file: written by the owner, or found out from all bytes and the name ([`Inspection`]).

mod charset;
mod inspection;
mod registered;

use std::str::FromStr;

use format::limits::MIME_BYTES_MAX;

pub use inspection::Inspection;

/// A media type as the field `Content-Type` carries it: `image/png`, `text/html; charset=utf-8` (RFC 9110 section
/// 8.3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaType(String);

/// A text that is no media type; its writer's fault. Browsers would make something else of it, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found:?} is no media type: write TYPE/SUBTYPE such as image/png or \"text/html; charset=utf-8\", at most {MIME_BYTES_MAX} bytes; \
     without one it is found out from the bytes and the name"
)]
pub struct MediaTypeError {
    /// What was given, cut at 80 characters.
    pub found: String,
}

impl MediaType {
    /// Returns it as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MediaType {
    type Err = MediaTypeError;

    fn from_str(text: &str) -> Result<Self, MediaTypeError> {
        let (essence, parameters) = text.split_at(text.find([';', ' ', '\t']).unwrap_or(text.len()));
        let is_essence = essence.split_once('/').is_some_and(|(kind, inner)| is_token(kind) && is_token(inner));
        if is_essence && are_parameters(parameters) && text.len() <= MIME_BYTES_MAX {
            Ok(Self(text.to_owned()))
        } else {
            Err(MediaTypeError { found: text.chars().take(80).collect() })
        }
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// RFC 9110 section 5.6.6: each behind a semicolon, its value a token or a quoted string.
fn are_parameters(mut rest: &str) -> bool {
    while !rest.is_empty() {
        let Some(parameter) = rest.trim_start_matches([' ', '\t']).strip_prefix(';') else { return false };
        let Some((name, value)) = parameter.trim_start_matches([' ', '\t']).split_once('=') else { return false };
        let length = match value.strip_prefix('"') {
            Some(quoted) => quoted_length(quoted).map(|length| length + 1),
            None => Some(value.find([';', ' ', '\t']).unwrap_or(value.len())),
        };
        let Some(length) = length else { return false };
        if !is_token(name) || !(value.starts_with('"') || is_token(&value[..length])) {
            return false;
        }
        rest = &value[length..];
    }
    true
}

/// Returns how long a quoted string is, of printable ASCII and its closing quote; none when it does not end.
fn quoted_length(quoted: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in quoted.bytes().enumerate() {
        match byte {
            _ if !(byte == b'\t' || (b' '..=b'~').contains(&byte)) => return None,
            b'"' if !escaped => return Some(at + 1),
            _ => escaped = byte == b'\\' && !escaped,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_is_a_type_a_subtype_and_parameters() {
        for good in [
            "image/png",
            "application/vnd.oasis.opendocument.text",
            "image/svg+xml",
            "text/html; charset=utf-8",
            "text/html;charset=utf-8",
            "text/html ; charset=\"utf-8\" ;x=y",
            "multipart/x; boundary=\"a;b \\\" c\"",
            &format!("a/{}", "b".repeat(MIME_BYTES_MAX - 2)),
        ] {
            assert_eq!(good.parse::<MediaType>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "foo",
            "image/",
            "/png",
            "image/png/x",
            "image png",
            " image/png",
            "image/png ",
            "image/png;",
            "text/html; charset",
            "text/html; charset=",
            "text/html; charset=a b",
            "text/html; charset=\"utf-8",
            "text/html; =x",
            "text/html\r\nx: y",
            "text/html; a=\"\r\nx: y\"",
            "bild/größe",
            &format!("a/{}", "b".repeat(MIME_BYTES_MAX - 1)),
        ] {
            assert!(bad.parse::<MediaType>().is_err(), "{bad}");
        }
    }
}
