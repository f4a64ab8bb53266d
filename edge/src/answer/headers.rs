//! The fields of answers that do not hang on the object: what keeps one object's content from another's, and their
//! lists.

use std::io::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use sandbox::{Effect, Header, Marks};

use crate::policy::decision::Decision;

/// One web origin for each object, and nothing of it runs unless its owner's policy sets another
/// `Content-Security-Policy`. What a page leads to may be saved: a browser shows no archive. Any page may embed an
/// object: there are no credentials that such a page could abuse.
const SECURITY: [(HeaderName, HeaderValue); 6] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox allow-downloads")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("cross-origin")),
    (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("origin-agent-cluster"), HeaderValue::from_static("?1")),
];
const ROBOTS: HeaderName = HeaderName::from_static("x-robots-tag");
/// What a script elsewhere may read of an answer beside the fields that it may always read.
const EXPOSED: HeaderValue =
    HeaderValue::from_static("accept-ranges, content-length, content-range, etag, cache-status, server-timing");
/// Our own pages load nothing and have the one style that is theirs.
const OWN_PAGE: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'sha256-nByt4t2218bv0hrqicIcTaWFoFA05EGjwHtZjh7RcnI='; sandbox allow-downloads",
);

/// Adds the fields that every answer has.
pub(crate) fn secure(fields: &mut HeaderMap) {
    for (name, value) in &SECURITY {
        fields.insert(name.clone(), value.clone());
    }
    fields.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
}

/// Marks the answer as one of our own pages.
pub(crate) fn of_own_page(fields: &mut HeaderMap) {
    fields.insert(header::CONTENT_SECURITY_POLICY, OWN_PAGE);
}

/// Adds what a verdict says beside the status and the lifetime: to robots, and in the owner's own words.
pub(crate) fn of_verdict(fields: &mut HeaderMap, decision: &Decision) {
    if decision.marks().contains(Marks::NOINDEX) {
        set(fields, ROBOTS, "noindex");
    }
    of_owner(fields, &decision.said.verdict.headers, &decision.said.effects);
}

/// Adds what the owner's policy says; the sandbox has refused names that are ours. Several fields of one name all stay.
fn of_owner(fields: &mut HeaderMap, headers: &[Header], effects: &[Effect]) {
    let mut set: Vec<HeaderName> = Vec::new();
    let mut add = |fields: &mut HeaderMap, header: &Header| {
        let name = HeaderName::from_bytes(header.name().as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(header.value())) {
            if set.contains(&name) {
                fields.append(name, value);
            } else {
                fields.insert(name.clone(), value);
                set.push(name);
            }
        }
    };
    headers.iter().for_each(|header| add(fields, header));
    for effect in effects {
        match effect {
            Effect::Header(header) => add(fields, header),
            Effect::DropHeader(name) => {
                fields.remove(&**name);
            }
            Effect::Count(_) | Effect::Note(_) => {}
        }
    }
}

/// Adds what a decision says to caches.
pub(crate) fn caching(fields: &mut HeaderMap, decision: &Decision) {
    set(fields, header::CACHE_CONTROL, decision.cache_control());
    vary(fields, decision);
}

/// Adds the fields of the request that a decision hung on.
pub(crate) fn vary(fields: &mut HeaderMap, decision: &Decision) {
    let names = decision.vary();
    if let Ok(value) = HeaderValue::from_str(&names)
        && !names.is_empty()
    {
        fields.append(header::VARY, value);
    }
}

/// Sets a field whose value we made; one that no field can have is left out.
pub(crate) fn set(fields: &mut HeaderMap, name: HeaderName, value: impl AsRef<str>) {
    if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
        fields.insert(name, value);
    }
}

/// Writes a status line and fields.
pub(crate) fn write_head(out: &mut Vec<u8>, status: StatusCode, fields: &HeaderMap) {
    // Writing to a vector does not fail.
    let _ = write!(out, "HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or_default());
    for (name, value) in fields {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_may_open_up_its_own_object() {
        let mut fields = HeaderMap::new();
        secure(&mut fields);
        let csp = Header::new("content-security-policy", "default-src 'self'").unwrap();
        let link = |to| Header::new("link", to).unwrap();
        let effects = [Effect::Header(link("<b>")), Effect::DropHeader("origin-agent-cluster".into())];
        of_owner(&mut fields, &[csp, link("<a>")], &effects);
        assert_eq!(fields["content-security-policy"], "default-src 'self'");
        assert_eq!(fields.get_all("link").iter().count(), 2);
        assert!(!fields.contains_key("origin-agent-cluster") && fields.contains_key("x-content-type-options"));
    }
}
