//! Pages of other web origins use the API as those of nft.storage did: with a token in a field, which no browser sends
//! by itself, so there is nothing that a page of somebody else could ride on. The console's cookie counts for its own
//! page alone (`session`), and no answer allows credentials.

use axum::{
    extract::Request,
    http::{
        HeaderValue, Method, StatusCode,
        header::{
            ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
            ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, CACHE_CONTROL,
            ORIGIN, VARY, X_CONTENT_TYPE_OPTIONS,
        },
    },
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::console;

const METHODS: &str = "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS";
/// What scripts may read of an answer besides its body.
const EXPOSED: &str = "Count, Location, Retry-After, Upload-Offset, Upload-Length, Upload-Metadata, Upload-Expires, Upload-Concat, \
                       Tus-Version, Tus-Resumable, Tus-Extension, Tus-Max-Size, Tus-Checksum-Algorithm, x-evernear-id, x-evernear-label, \
                       x-evernear-url, x-evernear-fault";
const DAY_SECONDS: &str = "86400";

/// What a client of tus asks for by OPTIONS.
const TUS: [(&str, &str); 3] = [
    ("tus-version", "1.0.0"),
    ("tus-extension", "creation,creation-with-upload,termination,checksum,expiration,concatenation"),
    ("tus-checksum-algorithm", "sha1,sha256"),
];

/// Answers preflights, and says in every answer who may read it.
pub(crate) async fn allow(request: Request, next: Next) -> Response {
    let [web_origin, asked] = [ORIGIN, ACCESS_CONTROL_REQUEST_HEADERS].map(|name| request.headers().get(name).cloned());
    let is_tus = request.uri().path().starts_with("/tus");
    // No page but its own has anything to read there.
    let web_origin = web_origin.filter(|_| !request.uri().path().starts_with(console::ROOT));
    let is_preflight = *request.method() == Method::OPTIONS;
    let mut answer = if is_preflight {
        let mut answer = StatusCode::NO_CONTENT.into_response();
        let fields = answer.headers_mut();
        fields.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
        fields.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(DAY_SECONDS));
        if let Some(asked) = asked {
            fields.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked);
        }
        answer
    } else {
        next.run(request).await
    };
    let status = answer.status();
    let fields = answer.headers_mut();
    if is_tus {
        fields.insert("tus-resumable", HeaderValue::from_static("1.0.0"));
        if is_preflight || status == StatusCode::PRECONDITION_FAILED {
            for (name, value) in TUS {
                fields.insert(name, HeaderValue::from_static(value));
            }
        }
    }
    if let Some(web_origin) = web_origin {
        fields.insert(ACCESS_CONTROL_ALLOW_ORIGIN, web_origin);
        fields.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
    fields.append(VARY, HeaderValue::from_static("Origin"));
    // What is answered to a token is for its holder, and a name with HTML in it is no page.
    fields.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    fields.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
