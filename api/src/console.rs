//! The console's pages: files that are part of the program, and the fields that keep a page of somebody else, and a
//! hostile name, from doing harm there. `console/` has their source; nobody needs Node to build this program.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, LazyLock},
};

use axum::{
    Router,
    extract::{Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{
            ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY,
            CONTENT_TYPE, LOCATION, REFERRER_POLICY, VARY,
        },
    },
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::get,
};
use include_dir::{Dir, include_dir};

use crate::{files::InPath, refusal::Refusal, service::Service, sign_in};

/// Where the pages begin; a link to one of their files is relative to it.
pub(crate) const ROOT: &str = "/console/";
const INDEX: &str = "index.html";
/// Letters of a hash in a name.
const HASH_LETTERS: usize = 8;
static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../console/dist");
/// What zstd makes smaller of them, by path.
static CODED: LazyLock<BTreeMap<&'static str, Vec<u8>>> = LazyLock::new(coded);
/// High enough for 64 kB to become 20 kB; a higher one takes longer than it saves.
const ZSTD_LEVEL: i32 = 12;

/// For names that have a hash of what they name: a browser never asks for them again.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// Compresses the files, once for this program. Takes some milliseconds: call it outside of the reactor.
pub(crate) fn prepare() {
    LazyLock::force(&CODED);
}

/// The routes of the console.
pub(crate) fn routes(service: &Arc<Service>) -> Router<Arc<Service>> {
    Router::new()
        .route("/console", get(async || to_console()))
        .route(ROOT, get(async |headers: HeaderMap| file(INDEX, &headers)))
        .route("/console/{*path}", get(async |InPath(path): InPath<String>, headers: HeaderMap| file(&path, &headers)))
        .route("/console/session", get(sign_in::show).post(sign_in::begin).delete(sign_in::end))
        .layer(from_fn_with_state(service.clone(), guard))
}

/// Sends a browser that opens the API's root to the console; programs that list uploads there go on.
pub(crate) async fn welcome(request: Request, next: Next) -> Response {
    let fields = request.headers();
    let is_html = |value: &HeaderValue| value.to_str().is_ok_and(|value| value.contains("text/html"));
    let is_browser = fields.get_all(ACCEPT).iter().any(is_html) && !fields.contains_key(AUTHORIZATION);
    if is_browser { to_console() } else { next.run(request).await }
}

fn to_console() -> Response {
    (StatusCode::FOUND, [(LOCATION, ROOT)]).into_response()
}

/// Says what a page of the console may load and who may show it.
async fn guard(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    let mut answer = next.run(request).await;
    let fields = answer.headers_mut();
    // Without a value there would be no policy at all: the hosts are checked to be plain.
    let policy = HeaderValue::try_from(policy(&service.url.hosts())).expect("plain hosts and our own text");
    fields.insert(CONTENT_SECURITY_POLICY, policy);
    fields.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    fields.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
    answer
}

/// Returns what the console's pages may do. Pictures and films come from edges, whose hosts are `edges`.
fn policy(edges: &str) -> String {
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob: {edges}; media-src {edges}; \
         connect-src 'self' {edges}; font-src 'self'; manifest-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    )
}

fn file(path: &str, headers: &HeaderMap) -> Response {
    let Some(file) = FILES.get_file(path) else {
        return Refusal::not_found("the console has no such file; its pages begin at /console/").into_response();
    };
    let kept = if is_hashed(path) { FOR_EVER } else { "no-cache" };
    let fields = [(CONTENT_TYPE, media_type(path)), (CACHE_CONTROL, kept.to_owned()), (VARY, "accept-encoding".into())];
    match CODED.get(path).filter(|_| takes_zstd(headers)) {
        Some(bytes) => (fields, [(CONTENT_ENCODING, "zstd")], &bytes[..]).into_response(),
        None => (fields, file.contents()).into_response(),
    }
}

/// Whether a name ends as `-4c2e0199.svg` does.
fn is_hashed(path: &str) -> bool {
    let stem = path.rsplit_once('.').map_or(path, |(stem, _)| stem);
    let hash = stem.rsplit_once('-').map_or("", |(_, hash)| hash);
    hash.len() == HASH_LETTERS && hash.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn media_type(path: &str) -> String {
    let kind = mime_guess::from_path(path).first_raw().unwrap_or("application/octet-stream");
    let charset = if kind.starts_with("text/") { "; charset=utf-8" } else { "" };
    format!("{kind}{charset}")
}

/// Whether a caller names zstd and does not refuse it (RFC 9110 section 12.5.3).
fn takes_zstd(headers: &HeaderMap) -> bool {
    let texts = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).any(|one| {
        let (coding, weight) = one.split_once(';').unwrap_or((one, "q=1"));
        let weight = weight.trim().strip_prefix("q=").and_then(|text| text.parse::<f32>().ok());
        coding.trim().eq_ignore_ascii_case("zstd") && weight.is_some_and(|weight| weight > 0.0)
    })
}

fn coded() -> BTreeMap<&'static str, Vec<u8>> {
    let coded = |(path, bytes): (&'static str, &'static [u8])| -> io::Result<_> {
        Ok(Some((path, zstd::bulk::compress(bytes, ZSTD_LEVEL)?)).filter(|(_, coded)| coded.len() < bytes.len()))
    };
    // What cannot be compressed goes out as it is.
    all(&FILES).into_iter().filter_map(|file| coded(file).ok().flatten()).collect()
}

fn all(folder: &'static Dir<'static>) -> Vec<(&'static str, &'static [u8])> {
    let files = folder.files().filter_map(|file| Some((file.path().to_str()?, file.contents())));
    files.chain(folder.dirs().flat_map(all)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_a_type_that_browsers_take_and_reads_back_from_its_coded_form() {
        let files = all(&FILES);
        assert!(files.iter().any(|(path, _)| *path == INDEX));
        for (path, bytes) in files {
            assert_ne!(media_type(path), "application/octet-stream", "{path}");
            if let Some(coded) = CODED.get(path) {
                assert!(zstd::bulk::decompress(coded, bytes.len()).unwrap() == bytes, "{path}");
            }
        }
        for (path, kind) in [
            ("a.js", "text/javascript; charset=utf-8"),
            ("a/b.css", "text/css; charset=utf-8"),
            ("x.svg", "image/svg+xml"),
        ] {
            assert_eq!(media_type(path), kind);
        }
    }

    #[test]
    fn only_what_is_named_by_its_content_is_kept_for_ever() {
        for (path, hashed) in [
            ("main-63YGWU6A.js", true),
            ("a/icon-4c2e0199.svg", true),
            ("index.html", false),
            ("licences.txt", false),
            ("a-b.js", false),
            ("main-63YGWU6A1.js", false),
            ("main-63YGWU6_.js", false),
        ] {
            assert_eq!(is_hashed(path), hashed, "{path}");
        }
    }

    #[test]
    fn zstd_goes_to_those_alone_who_take_it() {
        let takes =
            |text: &'static str| takes_zstd(&[(ACCEPT_ENCODING, HeaderValue::from_static(text))].into_iter().collect());
        for text in ["zstd", "gzip, deflate, br, zstd", "gzip;q=1.0, ZSTD;q=0.5", "zstd; q=0.1"] {
            assert!(takes(text), "{text}");
        }
        for text in ["", "gzip", "zstd;q=0", "zstd;q=x", "*", "xzstd"] {
            assert!(!takes(text), "{text}");
        }
    }

    #[test]
    fn no_script_or_style_of_a_page_itself_runs() {
        let policy = policy("http://*.localhost:8080");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
        assert!(policy.contains("media-src http://*.localhost:8080;"), "{policy}");
        for word in ["unsafe", "'*'", " * "] {
            assert!(!policy.contains(word), "{policy}");
        }
    }
}
