//! Pages that we write ourselves: refusals, directory listings, the apex. Small, self-contained, without a script.

use std::fmt::Write as _;

use format::{Directory, Kind};
use http::StatusCode;
use serde_json::json;

use super::path::{decode, encode};
use crate::error::Fault;

/// How our pages look. The fields of a page allow it, and no other style, by its hash.
const STYLE: &str = ":root{color-scheme:light dark}\
    body{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem;overflow-wrap:anywhere}\
    small{opacity:.7}";

/// Names on one page of a listing, which has some 100 KiB then, and little more than 1 MiB whatever the names are.
const LISTED_MAX: usize = 512;
/// The parameter of a query behind which name a page of a listing begins.
const BEHIND: &str = "behind=";

/// How to show something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// For people.
    Html,
    /// For programs.
    Json,
}

impl Style {
    /// Reads an Accept field: JSON when it is named with a higher quality than HTML, else HTML.
    pub(crate) fn preferred(accept: &str) -> Self {
        let quality = |wanted: &str| {
            let mut best: f32 = 0.0;
            for range in accept.split(',') {
                let mut parts = range.split(';').map(str::trim);
                if parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case(wanted)) {
                    let q = parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
                    best = best.max(q);
                }
            }
            best
        };
        if quality("application/json") > quality("text/html") { Self::Json } else { Self::Html }
    }

    /// Returns the media type.
    pub(crate) fn mime(self) -> &'static str {
        match self {
            Self::Html => "text/html; charset=utf-8",
            Self::Json => "application/json",
        }
    }
}

/// Writes a refusal.
pub(crate) fn refusal(style: Style, fault: &Fault, request_id: &str) -> String {
    let status = fault.status();
    match style {
        Style::Json => {
            json!({ "status": status.as_u16(), "error": fault.to_string(), "request": request_id }).to_string()
        }
        Style::Html => {
            let title = format!("{} {}", status.as_u16(), reason(status));
            let body = format!(
                "<h1>{title}</h1><p>{} {}</p><p><small>Request {}</small></p>",
                escape(&sentence(&fault.to_string())),
                fault.advice().unwrap_or_default(),
                escape(request_id)
            );
            page(&title, &body)
        }
    }
}

/// Lists a directory called `name`, as many of its names as one page has. The `path` ends with a slash; the `query`
/// says where the page begins.
pub(crate) fn listing(directory: &Directory, (path, name): (&str, &str), query: &str) -> String {
    let mut rows = String::new();
    if path != "/" {
        rows.push_str("<li><a href=\"../\">..</a></li>");
    }
    // No name is empty, so all are behind that one.
    let begin = query.split('&').find_map(|pair| decode(pair.strip_prefix(BEHIND)?)).unwrap_or_default();
    let mut behind = directory.entries_behind(&begin);
    let mut last = "";
    for (name, entry) in behind.by_ref().take(LISTED_MAX) {
        last = name;
        let slash = if entry.kind == Kind::Directory { "/" } else { "" };
        let size =
            if entry.kind == Kind::Directory { String::new() } else { format!(" <small>{} B</small>", entry.length) };
        // "./" keeps a colon in a name from being read as a scheme, <bdi> its direction from turning what stands beside
        // it.
        let (target, name) = (encode(name), escape(name));
        let _ = write!(rows, "<li><a href=\"./{target}{slash}\"><bdi>{name}</bdi>{slash}</a>{size}</li>");
    }
    let mut next = String::new();
    if behind.next().is_some() {
        // A link's token among what else was asked with goes on to the next page.
        let others = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with(BEHIND));
        let others: String = others.map(|pair| format!("{pair}&")).collect();
        let target = escape(&format!("?{others}{BEHIND}{}", encode(last)));
        next = format!("<p><a rel=\"next\" href=\"{target}\">Next names</a></p>");
    }
    // The root has no name in its path.
    let title = escape(if path == "/" && !name.is_empty() { name } else { path });
    page(&title, &format!("<h1><bdi>{title}</bdi></h1><ul>{rows}</ul>{next}"))
}

/// The page at the zone itself.
pub(crate) fn apex(zone: &str) -> String {
    let zone = escape(zone);
    page(
        &zone,
        &format!(
            "<h1>{zone}</h1><p>An edge of an Evernear network. Every file stored here has a name of its own, \
             <code>LABEL.{zone}</code>, and is read, verified, from the edge nearest to you.</p>"
        ),
    )
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style><body>{body}</body></html>\n"
    )
}

fn reason(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("Refused")
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let begun: String = chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect());
    if begun.ends_with('?') { begun } else { begun + "." }
}

/// Makes text safe between tags and in quoted attributes.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::{SHA256, digest};
    use data_encoding::BASE64;
    use format::{Capability, Entry};

    use super::*;

    #[test]
    fn a_page_may_have_its_own_style_and_no_other() {
        let mut fields = http::HeaderMap::new();
        crate::answer::headers::of_own_page(&mut fields);
        let allowed = format!("style-src 'sha256-{}';", BASE64.encode(digest(&SHA256, STYLE.as_bytes()).as_ref()));
        let policy = fields[http::header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains(&allowed), "{policy} has not {allowed}");
        assert!(apex("a.example").contains(&format!("<style>{STYLE}</style>")));
    }

    #[test]
    fn json_is_for_those_who_ask_for_it() {
        for (accept, style) in [
            ("", Style::Html),
            ("*/*", Style::Html),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Style::Html),
            ("application/json", Style::Json),
            ("Application/JSON; charset=utf-8", Style::Json),
            ("text/html;q=0.5, application/json;q=0.9", Style::Json),
            ("text/html, application/json;q=0.9", Style::Html),
            ("application/json;q=0", Style::Html),
        ] {
            assert_eq!(Style::preferred(accept), style, "{accept}");
        }
    }

    #[test]
    fn nothing_of_a_name_becomes_markup() {
        let mut directory = Directory::default();
        let capability = Capability::from_bytes([1; 32]);
        let entry = Entry {
            capability,
            length: 7,
            mime: String::new(),
            kind: Kind::File,
            below: Default::default(),
            unknown: Default::default(),
        };
        directory.insert("<img src=x>\"&.png", entry.clone()).unwrap();
        directory.insert("javascript:alert(1)", entry.clone()).unwrap();
        directory.insert("photo_\u{202e}gnp.exe", entry).unwrap();
        let html = listing(&directory, ("/<b>/", ""), "\"><b>&behind=<b>");
        assert!(!html.contains("<img") && !html.contains("<b>") && !html.contains("href=\"javascript:"), "{html}");
        assert!(html.contains("./%3Cimg%20src%3Dx%3E%22%26.png"), "{html}");
        assert!(html.contains("<bdi>photo_\u{202e}gnp.exe</bdi></a> <small>7 B</small>"), "{html}");
    }

    #[test]
    fn the_root_is_called_by_its_name_and_what_lies_below_by_its_path() {
        let title = |path, name| {
            let html = listing(&Directory::default(), (path, name), "");
            html.split("<h1><bdi>").nth(1).unwrap().split("</bdi>").next().unwrap().to_owned()
        };
        assert_eq!(title("/", "holiday"), "holiday");
        assert_eq!((title("/", ""), title("/a/b/", "holiday")), ("/".to_owned(), "/a/b/".to_owned()));
        let has_parent = |path| listing(&Directory::default(), (path, "x"), "").contains("<a href=\"../\">");
        assert!(has_parent("/a/") && !has_parent("/"));
    }

    #[test]
    fn refusals_name_the_request() {
        let html = refusal(Style::Html, &Fault::Erased, "abc");
        assert!(
            html.contains("410 Gone") && html.contains("abc") && html.contains("removed this object. Ask its owner"),
            "{html}"
        );
        let html = refusal(Style::Html, &Fault::Label(format::LabelError::Length { found: 3 }), "abc");
        assert!(html.contains("was the link cut? Ask whoever gave you"), "{html}");
        for fault in [
            Fault::Request { reason: "the path is malformed" },
            Fault::Denied { status: 403 },
            Fault::Unknown,
            Fault::Path,
            Fault::Denied { status: 451 },
            Fault::Blocked { status: 451 },
        ] {
            assert!(fault.advice().is_some(), "{fault}: nobody is told what to do");
        }
        let json: serde_json::Value =
            serde_json::from_str(&refusal(Style::Json, &Fault::Denied { status: 451 }, "abc")).unwrap();
        assert_eq!((json["status"].as_u64(), json["request"].as_str()), (Some(451), Some("abc")));
    }
}
