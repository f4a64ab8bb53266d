//! Answers of the edge's own: pages, redirects, and what scripts ask before they ask for a file.

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};

use super::{
    headers, page,
    reply::{Reply, refusal},
    request::Request,
};
use crate::{error::Fault, node::Node, policy::decision::Decision, store::body::Source, zone::HostName};

const PREFLIGHT_SECONDS: &str = "86400";

/// Sends a viewer in clear to the same address over TLS.
pub(crate) fn to_https(node: &Node, request: &Request, port: u16) -> Reply {
    let zone = &node.config.zone;
    match zone.read_host(&request.authority) {
        HostName::Elsewhere => return refusal(request, &Fault::Host { zone: zone.clone() }),
        HostName::Malformed(error) => return refusal(request, &Fault::Label(error)),
        HostName::Apex | HostName::Object(_) => {}
    }
    let host = request.authority.split(':').next().unwrap_or("").to_ascii_lowercase();
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let mut fields = HeaderMap::new();
    headers::secure(&mut fields);
    // What has no slash in front, as HTTP/2 lets OPTIONS have it, would be a part of the host's name.
    let path = if request.path.starts_with('/') { &request.path } else { "/" };
    headers::set(&mut fields, header::LOCATION, format!("https://{host}{port}{path}{}", and_query(request)));
    headers::set(&mut fields, header::CACHE_CONTROL, "public, max-age=300");
    Reply::own(StatusCode::PERMANENT_REDIRECT, fields, Bytes::new())
}

/// Returns the query with its question mark, for another address of the same thing.
pub(super) fn and_query(request: &Request) -> String {
    if request.query.is_empty() { String::new() } else { format!("?{}", request.query) }
}

pub(super) fn redirect(status: u16, target: &str, decision: &Decision) -> Result<Reply, Fault> {
    let status = StatusCode::from_u16(status).ok().filter(StatusCode::is_redirection).ok_or(Fault::Policy)?;
    let mut fields = HeaderMap::new();
    headers::secure(&mut fields);
    headers::set(&mut fields, header::LOCATION, target);
    headers::caching(&mut fields, decision);
    headers::of_verdict(&mut fields, decision);
    Ok(Reply::own(status, fields, Bytes::new()))
}

pub(super) fn own_page(fields: HeaderMap, text: String) -> Reply {
    Reply::own(StatusCode::OK, own_fields(fields), text)
}

/// Adds to these fields those of a page of our own.
pub(super) fn own_fields(mut fields: HeaderMap) -> HeaderMap {
    headers::of_own_page(&mut fields);
    headers::set(&mut fields, header::CONTENT_TYPE, "text/html; charset=utf-8");
    fields
}

pub(super) fn apex(zone: &str) -> Reply {
    let mut fields = HeaderMap::new();
    headers::secure(&mut fields);
    headers::set(&mut fields, header::CACHE_CONTROL, "public, max-age=300");
    own_page(fields, page::apex(zone))
}

/// Any page may ask for any range of any object.
pub(super) fn preflight() -> Reply {
    let mut fields = HeaderMap::new();
    headers::secure(&mut fields);
    headers::set(&mut fields, header::ALLOW, "GET, HEAD, OPTIONS");
    headers::set(&mut fields, header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD");
    headers::set(
        &mut fields,
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        "range, if-range, if-match, if-none-match, if-modified-since, if-unmodified-since",
    );
    headers::set(&mut fields, header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS);
    Reply::of(StatusCode::NO_CONTENT, fields, None, Source::Own)
}

//= https://www.rfc-editor.org/rfc/rfc9209#section-2
//# The Proxy-Status HTTP response field allows an intermediary to convey additional information about its handling of an
//# HTTP response
pub(super) fn with_proxy_status(mut reply: Reply, node: &Node, fault: &Fault) -> Reply {
    if let Some(error) = fault.proxy_error() {
        let text = format!("\"{}\"; error={error}", node.config.name);
        headers::set(&mut reply.fields, http::HeaderName::from_static("proxy-status"), text);
    }
    reply
}
