//! Media types by extension: the registered ones (IANA) of what the web uses, where a list of the past or of one
//! system's habit says another.

use std::path::Path;

/// What the bytes of a file of one type are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A text, whose bytes never show more than that.
    Text,
    /// Never a text.
    Binary,
    /// Both are usual: a mesh as text or as numbers.
    Either,
}

/// By extension, sorted within a group. What `mime_guess` knows as well and as registered is not repeated.
const TYPES: &[(&str, &str, Form)] = &[
    // Pages, scripts and what they load.
    ("appcache", "text/cache-manifest", Form::Text),
    ("atom", "application/atom+xml", Form::Text),
    ("cjs", "text/javascript", Form::Text),
    ("json", "application/json", Form::Text),
    ("jsx", "text/javascript", Form::Text),
    ("map", "application/json", Form::Text),
    ("mjs", "text/javascript", Form::Text),
    ("wasm", "application/wasm", Form::Binary),
    ("webmanifest", "application/manifest+json", Form::Text),
    ("wgsl", "text/wgsl", Form::Text),
    // Pictures.
    ("apng", "image/apng", Form::Binary),
    ("avif", "image/avif", Form::Binary),
    ("cur", "image/vnd.microsoft.icon", Form::Binary),
    ("heic", "image/heic", Form::Binary),
    ("heif", "image/heif", Form::Binary),
    ("ico", "image/vnd.microsoft.icon", Form::Binary),
    ("jxl", "image/jxl", Form::Binary),
    ("svg", "image/svg+xml", Form::Text),
    ("svgz", "application/gzip", Form::Binary),
    // Films, music, their segments, lists and subtitles. A `.ts` that is a text is TypeScript, which has no type.
    ("aac", "audio/aac", Form::Binary),
    ("cmfa", "audio/mp4", Form::Binary),
    ("cmfv", "video/mp4", Form::Binary),
    ("flac", "audio/flac", Form::Binary),
    ("m2ts", "video/mp2t", Form::Binary),
    ("m3u", "application/vnd.apple.mpegurl", Form::Text),
    ("m3u8", "application/vnd.apple.mpegurl", Form::Text),
    ("m4a", "audio/mp4", Form::Binary),
    ("m4b", "audio/mp4", Form::Binary),
    ("m4s", "video/iso.segment", Form::Binary),
    ("m4v", "video/mp4", Form::Binary),
    ("mid", "audio/midi", Form::Binary),
    ("midi", "audio/midi", Form::Binary),
    ("mka", "audio/matroska", Form::Binary),
    ("mkv", "video/matroska", Form::Binary),
    ("mpd", "application/dash+xml", Form::Text),
    ("mts", "video/mp2t", Form::Binary),
    ("opus", "audio/ogg", Form::Binary),
    ("srt", "application/x-subrip", Form::Text),
    ("ts", "video/mp2t", Form::Binary),
    ("ttml", "application/ttml+xml", Form::Text),
    ("vtt", "text/vtt", Form::Text),
    ("wav", "audio/wav", Form::Binary),
    ("weba", "audio/webm", Form::Binary),
    // Fonts.
    ("eot", "application/vnd.ms-fontobject", Form::Binary),
    ("otf", "font/otf", Form::Binary),
    ("ttc", "font/collection", Form::Binary),
    ("ttf", "font/ttf", Form::Binary),
    ("woff", "font/woff", Form::Binary),
    ("woff2", "font/woff2", Form::Binary),
    // Documents and what is read by programs.
    ("ics", "text/calendar", Form::Text),
    ("md", "text/markdown", Form::Text),
    ("parquet", "application/vnd.apache.parquet", Form::Binary),
    ("pdf", "application/pdf", Form::Binary),
    ("ps", "application/postscript", Form::Binary),
    ("rtf", "application/rtf", Form::Binary),
    ("sql", "application/sql", Form::Text),
    ("sqlite", "application/vnd.sqlite3", Form::Binary),
    ("toml", "application/toml", Form::Text),
    ("vcf", "text/vcard", Form::Text),
    ("xml", "text/xml", Form::Text),
    ("yaml", "application/yaml", Form::Text),
    ("yml", "application/yaml", Form::Text),
    // Maps and meshes.
    ("3mf", "model/3mf", Form::Binary),
    ("mvt", "application/vnd.mapbox-vector-tile", Form::Binary),
    ("obj", "model/obj", Form::Text),
    ("pmtiles", "application/vnd.pmtiles", Form::Binary),
    ("stl", "model/stl", Form::Either),
    ("usdz", "model/vnd.usdz+zip", Form::Binary),
    // Archives and programs.
    ("deb", "application/vnd.debian.binary-package", Form::Binary),
    ("dll", "application/vnd.microsoft.portable-executable", Form::Binary),
    ("exe", "application/vnd.microsoft.portable-executable", Form::Binary),
    ("gz", "application/gzip", Form::Binary),
    ("rar", "application/vnd.rar", Form::Binary),
    ("rpm", "application/x-rpm", Form::Binary),
    ("tgz", "application/gzip", Form::Binary),
    ("zst", "application/zstd", Form::Binary),
];

/// Returns the type of files of an extension, which is in lower case, where the table has it.
pub(super) fn by_extension(extension: &str) -> Option<(&'static str, Form)> {
    TYPES.iter().find(|(known, ..)| *known == extension).map(|(_, mime, form)| (*mime, *form))
}

/// Returns the type that a name promises.
pub(super) fn by_name(name: &str) -> Option<(&'static str, Form)> {
    let extension = Path::new(name).extension()?.to_str()?.to_ascii_lowercase();
    by_extension(&extension).or_else(|| {
        let mime = mime_guess::from_ext(&extension).first_raw()?;
        let is_text = mime.starts_with("text/") || mime.ends_with("+xml") || mime.ends_with("+json");
        // A private kind of text (`text/x-rust`) is shown by a browser only as what it is: text.
        let mime = if mime.starts_with("text/x-") { "text/plain" } else { mime };
        Some((mime, if is_text { Form::Text } else { Form::Binary }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_promise_the_registered_types() {
        for (extensions, mime) in [
            ("html htm", "text/html"),
            ("xhtml", "application/xhtml+xml"),
            ("css", "text/css"),
            ("js mjs cjs jsx", "text/javascript"),
            ("json map", "application/json"),
            ("jsonld", "application/ld+json"),
            ("webmanifest", "application/manifest+json"),
            ("wasm", "application/wasm"),
            ("xml xsl", "text/xml"),
            ("rss", "application/rss+xml"),
            ("atom", "application/atom+xml"),
            ("png", "image/png"),
            ("jpg jpeg JPG", "image/jpeg"),
            ("gif", "image/gif"),
            ("webp", "image/webp"),
            ("avif", "image/avif"),
            ("jxl", "image/jxl"),
            ("apng", "image/apng"),
            ("ico cur", "image/vnd.microsoft.icon"),
            ("svg", "image/svg+xml"),
            ("bmp", "image/bmp"),
            ("tif tiff", "image/tiff"),
            ("heic", "image/heic"),
            ("mp4 m4v cmfv", "video/mp4"),
            ("webm", "video/webm"),
            ("mov", "video/quicktime"),
            ("mkv", "video/matroska"),
            ("ogv", "video/ogg"),
            ("m3u8", "application/vnd.apple.mpegurl"),
            ("mpd", "application/dash+xml"),
            ("ts m2ts mts", "video/mp2t"),
            ("m4s", "video/iso.segment"),
            ("m4a m4b cmfa", "audio/mp4"),
            ("mp3", "audio/mpeg"),
            ("aac", "audio/aac"),
            ("flac", "audio/flac"),
            ("oga opus ogg", "audio/ogg"),
            ("wav", "audio/wav"),
            ("mid", "audio/midi"),
            ("vtt", "text/vtt"),
            ("ttml", "application/ttml+xml"),
            ("woff", "font/woff"),
            ("woff2", "font/woff2"),
            ("ttf", "font/ttf"),
            ("otf", "font/otf"),
            ("ttc", "font/collection"),
            ("eot", "application/vnd.ms-fontobject"),
            ("pdf", "application/pdf"),
            ("epub", "application/epub+zip"),
            ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
            ("odt", "application/vnd.oasis.opendocument.text"),
            ("txt log rs", "text/plain"),
            ("md markdown", "text/markdown"),
            ("csv", "text/csv"),
            ("ics", "text/calendar"),
            ("vcf", "text/vcard"),
            ("yaml yml", "application/yaml"),
            ("toml", "application/toml"),
            ("geojson", "application/geo+json"),
            ("kml", "application/vnd.google-earth.kml+xml"),
            ("kmz", "application/vnd.google-earth.kmz"),
            ("pmtiles", "application/vnd.pmtiles"),
            ("gltf", "model/gltf+json"),
            ("glb", "model/gltf-binary"),
            ("zip", "application/zip"),
            ("gz tgz", "application/gzip"),
            ("zst", "application/zstd"),
            ("rar", "application/vnd.rar"),
        ] {
            for extension in extensions.split(' ') {
                assert_eq!(by_name(&format!("a.b.{extension}")).map(|(mime, _)| mime), Some(mime), "{extension}");
            }
        }
        for name in ["README", ".html", "a.", "a.nonsense"] {
            assert_eq!(by_name(name), None, "{name}");
        }
    }

    #[test]
    fn an_extension_stands_in_the_table_once() {
        let mut all: Vec<&str> = TYPES.iter().map(|(extension, ..)| *extension).collect();
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
