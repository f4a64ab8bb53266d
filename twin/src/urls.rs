//! Links: the URL of an object from its label, the label from a URL that a user gives, and the HTML that shows the
//! object.

use std::{fmt, str::FromStr};

use format::{Kind, Label, LabelError, limits::PATH_SEGMENTS_MAX};

use crate::{
    index::{Entry, Position},
    put::Stored,
};

const LABEL: &str = "{label}";
const NAME: &str = "{name}";
const DEFAULT: &str = "http://{label}.localhost:8080/{name}";

/// A template of objects' URLs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlTemplate(String);

/// The URL of a stored object, and the HTML to show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its URL.
    pub url: String,
    /// The HTML that shows it in a page.
    pub html: String,
}

/// Why a text is not a template. Its writer must correct it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlTemplateError {
    /// `{label}` is missing, or is not at the start of the host.
    #[error("a URL template needs {LABEL} right after :// such as in {DEFAULT}")]
    Label,
    /// Not http or https.
    #[error("a URL template begins with http:// or https://")]
    Scheme,
}

/// What a user gives to name an object: a label, or a URL that contains one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The label.
    pub label: Label,
    /// The path of the URL, decoded, without empty segments; empty for a bare label.
    pub path: Vec<String>,
}

/// Why a text does not name an object; the fault of whoever wrote or shortened it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// No label where one should be.
    #[error("no label in it: give 60 characters of a-z and 2-7, or a URL whose host begins with them")]
    Label(#[from] LabelError),
    /// A path with a broken percent sign, or not UTF-8.
    #[error("the path {path:?} is not percent-encoded UTF-8")]
    Path {
        /// The path, cut at 200 characters.
        path: String,
    },
    /// An action on whole objects was asked for a part of one.
    #[error(
        "the path leads into a folder, or nobody here knows that it does not, and this is done to whole objects; for all of it give the \
         label alone: {label}"
    )]
    Inside {
        /// The label.
        label: String,
    },
    /// A folder of which nothing is stored.
    #[error("nothing in the index of uploads was stored from {folder:?}")]
    NoFolder {
        /// Its path.
        folder: String,
    },
    /// A path with too many segments.
    #[error("the path has over {PATH_SEGMENTS_MAX} segments")]
    Deep,
}

impl UrlTemplate {
    /// Returns the URL of an object. `name` may contain slashes. A folder's URL ends with a slash, which relative links
    /// need.
    #[must_use]
    pub fn url(&self, label: &Label, name: &str) -> String {
        self.0.replace(LABEL, &label.to_string()).replace(NAME, &encode(name))
    }

    /// Returns the URL of an upload by its own label: a file's ends with its name, that of a folder or a
    /// stable name is the root of its label.
    #[must_use]
    pub fn of_entry(&self, entry: &Entry) -> String {
        let path = match (entry.kind, entry.position) {
            _ if entry.name.is_some() => "",
            (Kind::Directory, _) => "",
            (Kind::File, Position::Top) => &entry.path,
            (Kind::File, Position::Inner) => entry.path.rsplit('/').next().unwrap_or_default(),
        };
        self.url(&entry.label(), path)
    }

    /// Returns the hosts of all objects as a Content-Security-Policy names them, such as `http://*.localhost:8080`;
    /// where a policy cannot name them, those of its scheme.
    #[must_use]
    pub fn hosts(&self) -> String {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("https", ""));
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default().strip_prefix(LABEL).unwrap_or_default();
        let is_plain = host.starts_with('.') && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-:".contains(c));
        if is_plain { format!("{scheme}://*{host}") } else { format!("{scheme}:") }
    }

    /// Returns the link of a stored object.
    #[must_use]
    pub fn link(&self, stored: &Stored) -> Link {
        let entry = &stored.entry;
        let name = if entry.path.is_empty() { "file" } else { &entry.path };
        let url = self.of_entry(entry);
        Link { html: embed(&url, &entry.mime, name), url }
    }
}

impl Default for UrlTemplate {
    fn default() -> Self {
        Self(DEFAULT.to_owned())
    }
}

impl fmt::Display for UrlTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for UrlTemplate {
    type Err = UrlTemplateError;

    fn from_str(text: &str) -> Result<Self, UrlTemplateError> {
        let rest =
            text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).ok_or(UrlTemplateError::Scheme)?;
        if rest.starts_with(LABEL) { Ok(Self(text.to_owned())) } else { Err(UrlTemplateError::Label) }
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let text = text.trim();
        let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
        let end = rest.find(['?', '#']).unwrap_or(rest.len());
        let (host, path) = rest[..end].split_once('/').unwrap_or((&rest[..end], ""));
        let first = host.split(['.', ':']).next().unwrap_or(host);
        Ok(Self { label: first.parse()?, path: segments(path)? })
    }
}

/// Splits the path of a URL into decoded segments.
fn segments(path: &str) -> Result<Vec<String>, TargetError> {
    let wrong = || TargetError::Path { path: path.chars().take(200).collect() };
    let segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    if segments.len() > PATH_SEGMENTS_MAX {
        return Err(TargetError::Deep);
    }
    segments.into_iter().map(|segment| decode(segment).ok_or_else(wrong)).collect()
}

/// Returns the HTML that shows an object in a page, by its media type.
fn embed(url: &str, mime: &str, name: &str) -> String {
    let (url, name) = (escape(url), escape(name));
    match mime.split_once('/').map_or("", |(kind, _)| kind) {
        "image" => format!(r#"<img src="{url}" alt="{name}">"#),
        "video" => format!(r#"<video src="{url}" controls playsinline></video>"#),
        "audio" => format!(r#"<audio src="{url}" controls></audio>"#),
        _ => format!(r#"<a href="{url}">{name}</a>"#),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Percent-encodes all bytes but the unreserved characters of RFC 3986 section 2.3 and the slash.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let [high, low] = [digits[0], digits[1]].map(|digit| char::from(digit).to_digit(16));
        out.push(u8::try_from(high? * 16 + low?).ok()?);
        rest = after;
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use format::Capability;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// RFC 3986 section 3.3: a segment is made of unreserved characters and of bytes behind a percent sign, among
        /// others.
        #[test]
        fn the_path_of_a_url_decodes_to_the_name(name in "[^/]{0,60}") {
            let url = UrlTemplate::default().url(&label(), &name);
            let path = url.strip_prefix(&format!("http://{}.localhost:8080/", label())).unwrap();
            let is_unreserved = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
            prop_assert!(path.chars().all(|c| is_unreserved(c) || c == '%'), "{}", path);
            for escaped in path.split('%').skip(1) {
                let digits = escaped.get(..2).unwrap_or_default();
                prop_assert!(digits.len() == 2 && digits.bytes().all(|digit| b"0123456789ABCDEF".contains(&digit)), "{}", path);
            }
            let names: Vec<String> = Some(name).filter(|name| !name.is_empty()).into_iter().collect();
            prop_assert_eq!(url.parse(), Ok(Target { label: label(), path: names }));
        }

        /// No name ends its attribute or begins an element, and each is read as it is.
        #[test]
        fn the_html_shows_the_name(name in any::<String>()) {
            let html = embed("u", "image/png", &name);
            let alt = html.strip_prefix(r#"<img src="u" alt=""#).and_then(|rest| rest.strip_suffix(r#"">"#)).unwrap();
            prop_assert!(!alt.contains(['"', '<', '>']), "{}", html);
            let read = alt.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
            prop_assert_eq!(read, name);
        }
    }

    fn label() -> Label {
        Label::open(Capability::from_bytes([5; 32]))
    }

    #[test]
    fn a_url_leads_back_to_its_label_and_path() {
        let url = UrlTemplate::default().url(&label(), "größe/a b%.png");
        assert!(url.ends_with(".localhost:8080/gr%C3%B6%C3%9Fe/a%20b%25.png"), "{url}");
        let target: Target = url.parse().unwrap();
        assert_eq!(target, Target { label: label(), path: vec!["größe".into(), "a b%.png".into()] });
        for text in [label().to_string(), format!("https://{}/", label()), format!(" http://{}:8080?x=1#y ", label())] {
            assert_eq!(text.parse(), Ok(Target { label: label(), path: vec![] }), "{text}");
        }
        assert!(matches!("https://example.org/".parse::<Target>(), Err(TargetError::Label(_))));
        for bad in ["%", "%4", "%zz", "%ff"] {
            assert!(matches!(format!("{}/{bad}", label()).parse::<Target>(), Err(TargetError::Path { .. })), "{bad}");
        }
    }

    #[test]
    fn a_template_needs_its_label_in_the_host() {
        assert!("https://{label}.cdn.example/{name}".parse::<UrlTemplate>().is_ok());
        assert_eq!("https://cdn.example/{label}".parse::<UrlTemplate>(), Err(UrlTemplateError::Label));
        assert_eq!("{label}.example".parse::<UrlTemplate>(), Err(UrlTemplateError::Scheme));
    }

    #[test]
    fn hosts_of_objects_are_one_source_of_a_policy() {
        for (template, hosts) in [
            (DEFAULT, "http://*.localhost:8080"),
            ("https://{label}.cdn.example/{name}", "https://*.cdn.example"),
            ("https://{label}.cdn.example", "https://*.cdn.example"),
            ("https://{label}/x", "https:"),
            ("https://{label}-x.example/", "https:"),
            ("https://{label}.a.example; script-src *", "https:"),
        ] {
            assert_eq!(template.parse::<UrlTemplate>().unwrap().hosts(), hosts, "{template}");
        }
    }

    #[test]
    fn names_cannot_break_out_of_the_html() {
        assert_eq!(
            embed("http://x/", "image/png", "\"><script>"),
            r#"<img src="http://x/" alt="&quot;&gt;&lt;script&gt;">"#
        );
        assert_eq!(embed("u", "text/plain", "&amp;"), r#"<a href="u">&amp;amp;</a>"#);
        assert!(embed("u", "video/mp4", "n").starts_with("<video"));
        assert!(embed("u", "audio/ogg", "n").starts_with("<audio"));
        assert_eq!(embed("u", "text/html; charset=utf-8", "n"), r#"<a href="u">n</a>"#);
    }
}
