//! What the bytes of a file tell of its type, while they go by.
//!
//! No type is guessed against the evidence. Readers get `nosniff` and believe what is said here: bytes that are a text
//! are no picture, program or film, whatever letters they begin with and whatever their name promises.

use super::{
    charset::{Utf8Watch, charset, is_utf16},
    registered::{Form, by_extension, by_name},
};

const UNKNOWN: &str = "application/octet-stream";
const TEXT: &str = "text/plain";

/// Signatures of one or two bytes, by the extension that `infer` has for them: of 65,536 files of any other kind one
/// begins like that. The name alone decides about them.
const WEAK: [&str; 10] = ["Z", "aac", "bc", "bmp", "der", "dll", "exe", "jxl", "obj", "ps"];
/// Signatures of formats that may have no byte that a text has not.
const IN_LETTERS: [(&[u8], &str); 3] =
    [(b"%PDF-", "application/pdf"), (b"%!PS-", "application/postscript"), (b"{\\rtf", "application/rtf")];

/// Sees all bytes of a file and then says what it is.
#[derive(Debug, Default)]
pub struct Inspection {
    sample: Vec<u8>,
    utf8: Utf8Watch,
}

/// What a sample shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Evidence {
    /// The file is empty.
    None,
    /// It is UTF-8, or begins with the byte order mark of UTF-16.
    Text,
    /// It is a text in an old charset, or a binary that happens to have no control character.
    Unclear,
    /// It has bytes that no text has.
    Binary,
}

impl Inspection {
    /// How many first bytes show the type; the charset needs all. The signature of tar is at byte 257, and to recognize
    /// a text needs a sample.
    pub const SAMPLE_BYTES: usize = 8 * 1024;

    /// Takes the next bytes of the file. Costs about a check of UTF-8, and nothing more once they are none.
    pub fn see(&mut self, bytes: &[u8]) {
        let room = Self::SAMPLE_BYTES - self.sample.len();
        self.sample.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.utf8.see(bytes);
    }

    /// Returns the Content-Type of the file, of which all bytes were seen.
    ///
    /// A signature takes precedence over the name, because a misnamed photo is still a photo. But the name takes
    /// precedence over a signature that many formats share: a `.docx` is a zip.
    #[must_use]
    pub fn media_type(&self, name: &str) -> String {
        let promised = by_name(name);
        let found = match evidence(&self.sample) {
            Evidence::None => promised.map_or(UNKNOWN, |(mime, _)| mime),
            Evidence::Text => in_letters(&self.sample, promised)
                .or_else(|| promised.filter(|(_, form)| *form != Form::Binary).map(|(mime, _)| mime))
                .unwrap_or_else(|| plain_or_marked_up(&self.sample, promised)),
            Evidence::Unclear => in_letters(&self.sample, promised)
                .or(promised.map(|(mime, _)| mime))
                .unwrap_or_else(|| plain_or_marked_up(&self.sample, promised)),
            Evidence::Binary => signed(&self.sample, promised).or(promised.map(|(mime, _)| mime)).unwrap_or(UNKNOWN),
        };
        match charset(found, &self.sample, self.utf8.is_utf8()) {
            Some(charset) if found.starts_with("text/") => format!("{found}; charset={charset}"),
            _ => found.to_owned(),
        }
    }
}

/// Says what a sample is by the "binary data bytes" of the MIME Sniffing Standard, section 3.
fn evidence(sample: &[u8]) -> Evidence {
    let is_control = |byte: &u8| matches!(byte, 0..=8 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f);
    if sample.is_empty() {
        Evidence::None
    } else if is_utf16(sample) {
        Evidence::Text
    } else if sample.iter().any(is_control) {
        Evidence::Binary
    } else if str::from_utf8(sample).err().is_none_or(|error| error.error_len().is_none()) {
        // A character that the end of the sample cuts off does not count.
        Evidence::Text
    } else {
        Evidence::Unclear
    }
}

/// Returns the type of a signature in letters, unless the name promises another kind of text.
fn in_letters(sample: &[u8], promised: Option<(&'static str, Form)>) -> Option<&'static str> {
    let (_, found) = IN_LETTERS.iter().find(|(signature, _)| sample.starts_with(signature))?;
    promised.is_none_or(|(_, form)| form == Form::Binary).then_some(*found)
}

/// Returns the type of a text whose name promises none. What was to be a binary is shown as it is.
fn plain_or_marked_up(sample: &[u8], promised: Option<(&'static str, Form)>) -> &'static str {
    let found = infer::get(sample).map(|found| found.mime_type());
    found.filter(|found| promised.is_none() && matches!(*found, "text/html" | "text/xml")).unwrap_or(TEXT)
}

/// Returns the type that a binary's signature shows, or that its name promises where that is one kind of it.
fn signed(sample: &[u8], promised: Option<(&'static str, Form)>) -> Option<&'static str> {
    // The start code of a transport stream, in three packets of 188 bytes; `infer` does not know it.
    if [0, 188, 376].iter().all(|at| sample.get(*at) == Some(&0x47)) {
        return Some("video/mp2t");
    }
    // A film in several files: only the first begins with `ftyp`.
    if matches!(sample.get(4..8), Some(b"styp" | b"moof" | b"sidx")) {
        return Some(
            promised.map(|(mime, _)| mime).filter(|mime| is_kind_of("video/mp4", mime)).unwrap_or("video/iso.segment"),
        );
    }
    let found = infer::get(sample)?;
    if WEAK.contains(&found.extension()) || found.mime_type().starts_with("text/") {
        return None;
    }
    let mime = by_extension(found.extension()).map_or(found.mime_type(), |(mime, _)| mime);
    Some(promised.map(|(mime, _)| mime).filter(|promised| is_kind_of(mime, promised)).unwrap_or(mime))
}

/// Returns whether files of type `mime` have the signature of the container too.
fn is_kind_of(container: &str, mime: &str) -> bool {
    let is_application = mime.starts_with("application/");
    match container {
        "application/zip" => (is_application || mime.ends_with("+zip") || mime == "model/3mf") && mime != UNKNOWN,
        "application/x-ole-storage" => is_application && mime != UNKNOWN,
        "video/mp4" | "audio/mp4" | "video/quicktime" => {
            matches!(
                mime,
                "video/mp4" | "audio/mp4" | "video/quicktime" | "video/3gpp" | "video/3gpp2" | "video/iso.segment"
            )
        }
        "video/matroska" | "video/webm" => {
            matches!(mime, "video/matroska" | "audio/matroska" | "video/webm" | "audio/webm")
        }
        "audio/ogg" => matches!(mime, "audio/ogg" | "video/ogg" | "application/ogg"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::MediaType;

    fn found(name: &str, bytes: &[u8]) -> String {
        let mut inspection = Inspection::default();
        bytes.chunks(1000).for_each(|chunk| inspection.see(chunk));
        let found = inspection.media_type(name);
        assert!(found.parse::<MediaType>().is_ok(), "{found}");
        found
    }

    #[test]
    fn signatures_names_and_text() {
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
        let mp4 = b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41";
        let zip = b"PK\x03\x04\x14\0\0\0\0\0";
        let packets = [&[0x47][..], &[0; 187], &[0x47], &[0; 187], &[0x47, 0]].concat();
        for (name, bytes, expected) in [
            ("cat.jpg", &b"\xff\xd8\xff\xe0\0\x10JFIF\0"[..], "image/jpeg"),
            ("misnamed.txt", png, "image/png"),
            ("misnamed.mp4", png, "image/png"),
            ("film", mp4, "video/mp4"),
            ("song.m4a", mp4, "audio/mp4"),
            ("song.html", mp4, "video/mp4"),
            ("1.m4s", b"\0\0\0\x18stypmsdh\0\0\0\0", "video/iso.segment"),
            ("1.m4s", b"\0\0\0\x18moof\0\0\0\x10mfhd", "video/iso.segment"),
            ("1.ts", &packets, "video/mp2t"),
            ("segment", &packets, "video/mp2t"),
            ("module", b"\0asm\x01\0\0\0", "application/wasm"),
            ("font", b"wOFF\0\x01\0\0\0\0", "font/woff"),
            ("font", b"\0\x01\0\0\0\x0a", "font/ttf"),
            ("page", b"<!DOCTYPE html><html>", "text/html; charset=utf-8"),
            ("feed", b"<?xml version=\"1.0\"?><a/>", "text/xml; charset=utf-8"),
            ("latin1.txt", b"caf\xe9 au lait", "text/plain"),
            ("latin1", b"caf\xe9 au lait", "text/plain"),
            ("style.css", b"p { margin: 0 }", "text/css; charset=utf-8"),
            ("picture.svg", b"<?xml version=\"1.0\"?><svg/>", "image/svg+xml"),
            ("code.ts", b"const x: number = 1;", "text/plain; charset=utf-8"),
            ("README", b"hello", "text/plain; charset=utf-8"),
            ("README", b"", UNKNOWN),
            ("empty.png", b"", "image/png"),
            ("blob", b"\0\x01\x02\x03", UNKNOWN),
            ("letter.docx", zip, "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
            ("letter.png", zip, "application/zip"),
            ("letter.txt", zip, "application/zip"),
            ("data.json", b"{}", "application/json"),
            ("paper", b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj", "application/pdf"),
            ("paper.pdf", b"%PDF-1.4\n1 0 obj", "application/pdf"),
            ("paper.ps", b"%!PS-Adobe-3.0", "application/postscript"),
            ("key.der", b"\x30\x82\x01\x02\0", "application/x-x509-ca-cert"),
            ("any", b"\x30\x82\x01\x02\0", UNKNOWN),
            ("script", b"#!/bin/sh\n", "text/plain; charset=utf-8"),
        ] {
            assert_eq!(found(name, bytes), expected, "{name}");
        }
    }

    #[test]
    fn a_text_is_no_picture_program_or_film_by_its_letters_nor_by_its_name() {
        for (name, text, expected) in [
            ("bm.txt", "BMW and other makers", "text/plain"),
            ("gif.txt", "GIFTS for all", "text/plain"),
            ("id3.csv", "ID3,name", "text/csv"),
            ("mz.md", "MZ-80K", "text/markdown"),
            ("sqlite.md", "SQLite notes", "text/markdown"),
            ("cws.html", "CWS meeting", "text/html"),
            ("ps.js", "%!fancy", "text/javascript"),
            ("pdf.md", "%PDF- is how they begin", "text/markdown"),
            ("bzip", "BZh is how they begin", "text/plain"),
            ("rar", "8BPS OggS fLaC MThd", "text/plain"),
            ("a.png", "hello", "text/plain"),
            ("a.exe", "hello", "text/plain"),
            ("a.mp4", "<html>", "text/plain"),
            ("a.zip", "hello", "text/plain"),
            ("a.docx", "hello", "text/plain"),
            ("a.pdf", "hello", "text/plain"),
        ] {
            assert_eq!(found(name, text.as_bytes()), format!("{expected}; charset=utf-8"), "{name}");
            // The same in an old charset: also no signature counts, and a name only where it may be right.
            let old = found(name, &[text.as_bytes(), b" caf\xe9"].concat());
            assert!(old == expected || by_name(name).is_some_and(|(mime, _)| mime == old), "{name}: {old}");
        }
    }

    #[test]
    fn every_signature_in_letters_alone_is_a_text() {
        for first in [
            "BM",
            "GIF89a",
            "ID3",
            "MZ",
            "SQLite format 3",
            "CWS",
            "FWS",
            "%!",
            "8BPS",
            "OggS",
            "fLaC",
            "MThd",
            "BZh91AY",
            "BC",
            "RIFF----WEBP",
            "RIFF----WAVE",
            "FORM----AIFF",
            "----ftypisom",
            "----moov",
            "!<arch>",
            "LZIP",
            "MSCF",
            "Cr24",
            "wOFF",
            "OTTO",
            "#!AMR",
            "DSD ",
            "MAC ",
            "dex\n",
            "AC1015",
            "IIRC",
            "070701",
            "-----BEGIN CERTIFICATE-----",
            "PAR2",
            "Rar!",
        ] {
            let text = format!("{first} and so on, for longer than any header: {}", "words ".repeat(100));
            assert_eq!(found("note", text.as_bytes()), "text/plain; charset=utf-8", "{first}");
        }
    }

    #[test]
    fn a_charset_is_told_only_where_all_bytes_have_it_and_the_text_says_no_other() {
        let late = [&b"<p>"[..], &[b'a'; 9000], b"caf\xe9"].concat();
        let long = "é".repeat(Inspection::SAMPLE_BYTES);
        for (name, bytes, expected) in [
            ("a.html", &b"<p>\xc3\xa9"[..], "text/html; charset=utf-8"),
            ("a.html", b"<meta charset=UTF-8>\xc3\xa9", "text/html; charset=utf-8"),
            ("a.html", b"<meta charset=\"iso-2022-jp\">\x1b$BF|K\\8l\x1b(B", "text/html"),
            ("a.html", b"<meta charset=\"shift_jis\">only ASCII", "text/html"),
            ("a.txt", b"\x1b$BF|K\\8l\x1b(B", "text/plain"),
            ("log.txt", b"\x1b[31mred\x1b[0m", "text/plain; charset=utf-8"),
            ("a.html", &late, "text/html"),
            ("a.txt", &late, "text/plain"),
            ("a.xml", b"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><a/>", "text/xml"),
            ("a.xml", b"<?xml version=\"1.0\" encoding=\"UTF-8\"?><a/>", "text/xml; charset=utf-8"),
            ("a.css", b"@charset \"windows-1251\"; a {}", "text/css"),
            ("a.html", b"\xff\xfe<\0p\0>\0", "text/html; charset=utf-16"),
            ("notes", b"\xfe\xff\0h\0i", "text/plain; charset=utf-16"),
            ("a.txt", &[b"\xef\xbb\xbf", "é".as_bytes()].concat(), "text/plain; charset=utf-8"),
            ("a.txt", long.as_bytes(), "text/plain; charset=utf-8"),
            ("a.txt", &long.as_bytes()[..long.len() - 1], "text/plain"),
            ("a.txt", &[&[b'a'; 9000][..], b"\0"].concat(), "text/plain"),
        ] {
            assert_eq!(found(name, bytes), expected, "{name} {:?}", &bytes[..bytes.len().min(40)]);
        }
    }
}
