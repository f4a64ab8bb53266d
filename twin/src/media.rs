//! The media type of a file: from the signature (magic number) in its first bytes, or else from its extension.

use std::str::FromStr;

use format::limits::MIME_BYTES_MAX;

/// How many first bytes are examined. The signature of tar is at byte 257, and recognizing UTF-8 needs a sample.
pub const SAMPLE_BYTES: usize = 8 * 1024;
const UNKNOWN: &str = "application/octet-stream";
const TEXT: &str = "text/plain";

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

/// Returns the Content-Type of a file from its first [`SAMPLE_BYTES`] and its name.
///
/// A signature takes precedence over the extension, because a misnamed photo is still a photo. But the extension takes
/// precedence over a signature that many formats share (a `.docx` is a zip, an `.svg` is XML). The type of a text names
/// the charset UTF-8 when the sample is valid UTF-8.
#[must_use]
pub fn media_type(name: &str, sample: &[u8]) -> String {
    let sample = &sample[..sample.len().min(SAMPLE_BYTES)];
    let is_text = !sample.contains(&0) && is_utf8(sample);
    let by_name = mime_guess::from_path(name).first_raw();
    let by_bytes = infer::get(sample).map(|found| found.mime_type()).filter(|found| !found.starts_with("text/"));
    // `.ts` is a transport stream to IANA and TypeScript to everybody else.
    let by_name = by_name.filter(|guess| !(is_text && !sample.is_empty() && guess.starts_with("video/")));
    let found = match (by_bytes, by_name) {
        (Some(bytes), Some(name)) if is_shared(bytes) => name,
        (Some(bytes), _) => bytes,
        (None, Some(name)) => name,
        (None, None) => infer::get(sample)
            .map_or(if is_text && !sample.is_empty() { TEXT } else { UNKNOWN }, |found| found.mime_type()),
    };
    if found.starts_with("text/") && is_text { format!("{found}; charset=utf-8") } else { found.to_owned() }
}

/// Returns whether a type is a container that many formats use.
fn is_shared(mime: &str) -> bool {
    matches!(
        mime,
        "application/zip"
            | "application/gzip"
            | "application/x-ole-storage"
            | "video/x-matroska"
            | "audio/ogg"
            | "application/ogg"
    )
}

/// Returns whether a sample is UTF-8. A character cut off at its end does not count.
fn is_utf8(sample: &[u8]) -> bool {
    match std::str::from_utf8(sample) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_extensions_and_text() {
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
        let mp4 = b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41";
        for (name, sample, expected) in [
            ("cat.jpg", &b"\xff\xd8\xff\xe0\0\x10JFIF\0"[..], "image/jpeg"),
            ("misnamed.txt", png, "image/png"),
            ("film", mp4, "video/mp4"),
            ("index.html", b"<!doctype html><p>\xc3\xa9</p>", "text/html; charset=utf-8"),
            ("page", b"<!DOCTYPE html><html>", "text/html; charset=utf-8"),
            ("latin1.txt", b"caf\xe9 au lait", "text/plain"),
            ("style.css", b"p { margin: 0 }", "text/css; charset=utf-8"),
            ("picture.svg", b"<?xml version=\"1.0\"?><svg/>", "image/svg+xml"),
            ("code.ts", b"const x: number = 1;", "text/plain; charset=utf-8"),
            ("README", b"hello", "text/plain; charset=utf-8"),
            ("README", b"", "application/octet-stream"),
            ("blob", b"\0\x01\x02\x03", "application/octet-stream"),
            (
                "letter.docx",
                b"PK\x03\x04\x14\0\0\0\0\0",
                "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            ),
            ("data.json", b"{}", "application/json"),
        ] {
            assert_eq!(media_type(name, sample), expected, "{name}");
        }
    }

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

    #[test]
    fn what_is_found_out_is_a_media_type() {
        for (name, sample) in [("a.html", &b"<p>"[..]), ("a.docx", b"PK\x03\x04"), ("a", b"\0"), ("a", b"")] {
            assert!(media_type(name, sample).parse::<MediaType>().is_ok(), "{name}");
        }
    }

    #[test]
    fn a_character_cut_by_the_sample_is_still_text() {
        let text = "é".repeat(SAMPLE_BYTES);
        assert_eq!(media_type("x", &text.as_bytes()[..SAMPLE_BYTES - 1]), "text/plain; charset=utf-8");
    }
}
