//! The media type of a file: from the signature (magic number) in its first bytes, or else from its extension.

/// How many first bytes are examined. The signature of tar is at byte 257, and recognizing UTF-8 needs a sample.
pub const SAMPLE_BYTES: usize = 8 * 1024;
const UNKNOWN: &str = "application/octet-stream";
const TEXT: &str = "text/plain";

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
    fn a_character_cut_by_the_sample_is_still_text() {
        let text = "é".repeat(SAMPLE_BYTES);
        assert_eq!(media_type("x", &text.as_bytes()[..SAMPLE_BYTES - 1]), "text/plain; charset=utf-8");
    }
}
