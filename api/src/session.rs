//! Sessions of the console: what a browser shows instead of a token, and when it counts. Pure.
//!
//! A browser sends the cookies of a host with every request to it, whoever's page makes it, and to each of its ports.
//! So a session is two secrets. One is in a cookie, which no script reads; the other is in the storage of the
//! console's page, which a browser keeps for each port by itself, and comes in a field. A program on another port that
//! is sent the cookie has one of both. The browser must also name no other page than the console's own.

use std::{fmt, net::IpAddr, str::FromStr};

use axum::http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{COOKIE, HOST, ORIGIN},
    uri::Authority,
};
use data_encoding::BASE64URL_NOPAD;
use zeroize::{Zeroize, Zeroizing};

/// The field of the console's requests: its page's secret, or anything else while nobody is signed in.
pub(crate) const FIELD: HeaderName = HeaderName::from_static("x-evernear-console");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const COOKIE_NAME: &str = "evernear-console";
const SECRET_BYTES: usize = 32;
const CONTEXT: &str = "evernear 2026 v1 console secret";
const SESSION_CONTEXT: &str = "evernear 2026 v1 console session";
/// How long a browser stays signed in, unless its token ends before.
pub(crate) const SESSION_SECONDS: u64 = 30 * 86_400;
/// How long a link signs in.
pub(crate) const KEY_SECONDS: u64 = 600;
/// Browsers that are signed in by one token; the oldest gives way.
pub(crate) const SESSIONS_MAX: u32 = 16;
/// Links that wait to be opened; the oldest gives way.
pub(crate) const KEYS_MAX: u32 = 16;

/// The secret of a session or of a link. It is wiped from memory; what is kept of it is its hash.
pub(crate) struct Secret(Zeroizing<[u8; SECRET_BYTES]>);

/// What is kept of a secret. It is of 256 random bits, so it can be looked up like any key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SecretHash(pub(crate) [u8; 32]);

/// A text that is no secret. It does not say what was sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoSecret;

impl Secret {
    /// Makes one of random bytes.
    pub(crate) fn draw<E>(fill: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
        fill(&mut bytes[..])?;
        Ok(Self(bytes))
    }

    pub(crate) fn hash(&self) -> SecretHash {
        SecretHash(blake3::derive_key(CONTEXT, &self.0[..]))
    }

    /// Returns what is kept of a session: one hash, which nobody meets who has not both of its secrets.
    pub(crate) fn hash_with(&self, field: &Self) -> SecretHash {
        let both = Zeroizing::new([&self.0[..], &field.0[..]].concat());
        SecretHash(blake3::derive_key(SESSION_CONTEXT, &both))
    }

    /// Returns the text for its holder.
    pub(crate) fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64URL_NOPAD.encode(&self.0[..]))
    }
}

impl FromStr for Secret {
    type Err = NoSecret;

    fn from_str(text: &str) -> Result<Self, NoSecret> {
        let mut read = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| NoSecret)?;
        let secret = read[..].try_into().map(|bytes| Self(Zeroizing::new(bytes)));
        read.zeroize();
        secret.map_err(|_| NoSecret)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Returns whether it is the console's own page that asks, as far as a browser says so.
pub(crate) fn is_own_page(headers: &HeaderMap) -> bool {
    let sites = || headers.get_all(SEC_FETCH_SITE).iter();
    only(headers, FIELD).is_some() && sites().all(|site| site == "same-origin") && is_own_origin(headers)
}

/// Whether what the page of a request sends goes by TLS or stays on its machine, as far as a browser says so; programs
/// that say nothing know what they do.
pub(crate) fn is_private(headers: &HeaderMap) -> bool {
    !headers.contains_key(ORIGIN)
        || only(headers, ORIGIN).and_then(|origin| origin.split_once("://")).is_some_and(|(scheme, authority)| {
            scheme == "https" || authority.parse().is_ok_and(|authority: Authority| is_loopback(authority.host()))
        })
}

/// Whether browsers ask this machine alone for a host (RFC 6761 section 6.3).
pub(crate) fn is_loopback(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.ends_with(".localhost") || bare.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// Whether the web origin that a request names, if it names one, is the host that it asks. Who has a name of theirs
/// lead here is that host too, and a browser sends no cookie of ours to it.
fn is_own_origin(headers: &HeaderMap) -> bool {
    if !headers.contains_key(ORIGIN) {
        return true;
    }
    let authority = only(headers, ORIGIN).and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    authority.zip(only(headers, HOST)).is_some_and(|(authority, host)| authority.eq_ignore_ascii_case(host))
}

/// Returns what is kept of the session whose two secrets a request of the console shows. Of two cookies, somebody else
/// set one: neither counts.
pub(crate) fn shown(headers: &HeaderMap) -> Option<SecretHash> {
    if !is_own_page(headers) {
        return None;
    }
    let field: Secret = only(headers, FIELD)?.parse().ok()?;
    let texts = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let cookies = texts.flat_map(|text| text.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
    let mut ours = cookies.filter(|(name, _)| *name == COOKIE_NAME).map(|(_, value)| value);
    match (ours.next(), ours.next()) {
        (Some(value), None) => value.parse::<Secret>().ok().map(|cookie| cookie.hash_with(&field)),
        _ => None,
    }
}

/// Returns the field that has a browser keep a secret for so many seconds; zero: that has it forget. No script reads
/// the cookie. It is for TLS alone where the page came by TLS.
pub(crate) fn cookie(secret: &str, seconds: u64, headers: &HeaderMap) -> HeaderValue {
    let is_tls = only(headers, ORIGIN).is_some_and(|origin| origin.starts_with("https://"));
    let secure = if is_tls { "; Secure" } else { "" };
    let text = format!("{COOKIE_NAME}={secret}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
    let mut value = HeaderValue::try_from(text).expect("base64 and our own text are ASCII");
    value.set_sensitive(true);
    value
}

/// Returns the value of a field that is there once.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::try_from(*value).unwrap())
        };
        let mut all = HeaderMap::new();
        for (name, value) in lines.iter().map(line) {
            all.append(name, value);
        }
        all
    }

    fn secret(seed: u8) -> Secret {
        Secret(Zeroizing::new([seed; SECRET_BYTES]))
    }

    #[test]
    fn a_secret_reads_back_and_nothing_else_is_one() {
        let text = secret(7).expose();
        assert_eq!(text.parse::<Secret>().unwrap().hash(), secret(7).hash());
        assert_ne!(secret(7).hash(), secret(8).hash());
        for bad in ["", "AAAA", &text[1..], &format!("{}AA", &*text), &text.replace('B', "!")] {
            assert_eq!(bad.parse::<Secret>().map(drop), Err(NoSecret), "{bad}");
        }
        assert_eq!(format!("{:?}", secret(7)), "Secret", "a log has none");
    }

    #[test]
    fn only_the_consoles_own_page_counts() {
        let own = [("x-evernear-console", "1"), ("host", "127.0.0.1:8081")];
        let with = |more: &[(&'static str, &str)]| is_own_page(&headers(&[&own, more].concat()));
        assert!(with(&[]) && with(&[("sec-fetch-site", "same-origin"), ("origin", "http://127.0.0.1:8081")]));
        assert!(is_own_page(&headers(&[own[0], ("host", "Files.Example"), ("origin", "https://files.example")])));
        for foreign in [
            &[("sec-fetch-site", "same-site")][..],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "none")],
            &[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")],
            &[("origin", "http://127.0.0.1:8080")],
            &[("origin", "http://evil.example")],
            &[("origin", "null")],
            &[("origin", "http://127.0.0.1:8081"), ("origin", "http://127.0.0.1:8081")],
            &[("x-evernear-console", "1")],
            &[("host", "127.0.0.1:8081"), ("origin", "http://127.0.0.1:8081")],
        ] {
            assert!(!with(foreign), "{foreign:?}");
        }
        assert!(!is_own_page(&headers(&[own[1]])), "no field");
        assert!(!is_own_page(&headers(&[own[0], ("origin", "http://127.0.0.1:8081")])), "no host to compare with");
    }

    #[test]
    fn what_goes_by_tls_or_stays_on_its_machine_is_private() {
        for origin in [
            "https://files.example",
            "http://127.0.0.1:8081",
            "http://127.9.9.9",
            "http://[::1]:8081",
            "http://localhost:1",
            "http://a.LOCALHOST",
        ] {
            assert!(is_private(&headers(&[("origin", origin)])), "{origin}");
        }
        assert!(is_private(&headers(&[])), "a program");
        for origin in [
            "http://10.0.0.1:8081",
            "http://files.example",
            "http://localhost.example",
            "http://[::2]:1",
            "null",
            "http://",
            "x",
        ] {
            assert!(!is_private(&headers(&[("origin", origin)])), "{origin}");
        }
        let two = [("origin", "https://files.example"), ("origin", "https://files.example")];
        assert!(!is_private(&headers(&two)));
    }

    #[test]
    fn the_cookie_is_found_among_others_and_does_not_count_twice() {
        let (text, field) = (secret(3).expose(), secret(4).expose());
        let ours = format!("{COOKIE_NAME}={}", &*text);
        let found = |cookies: &[&str]| {
            let lines: Vec<_> =
                cookies.iter().map(|value| ("cookie", *value)).chain([("x-evernear-console", &**field)]).collect();
            shown(&headers(&lines))
        };
        for cookies in [&[&*ours][..], &[&format!("a=b; {ours};c=d")], &["a=b", &ours], &[&format!("x{ours}; {ours}")]]
        {
            assert_eq!(found(cookies), Some(secret(3).hash_with(&secret(4))), "{cookies:?}");
        }
        for cookies in
            [&[][..], &["a=b"], &[&format!("x{ours}")], &[&*ours, &*ours], &[&format!("{ours}; {COOKIE_NAME}=x")]]
        {
            assert_eq!(found(cookies), None, "{cookies:?}");
        }
        assert!(shown(&headers(&[("cookie", &ours)])).is_none(), "a cookie alone is nothing");
    }

    #[test]
    fn a_session_is_both_of_its_secrets_in_their_places() {
        let ours = format!("{COOKIE_NAME}={}", &*secret(3).expose());
        let found = |field: &str| shown(&headers(&[("cookie", &ours), ("x-evernear-console", field)]));
        let kept = secret(3).hash_with(&secret(4));
        assert_eq!(found(&secret(4).expose()), Some(kept));
        assert!(found("1").is_none() && found("").is_none(), "who has the cookie alone has nothing");
        for other in [3, 5] {
            assert_ne!(found(&secret(other).expose()), Some(kept));
        }
        assert_ne!(secret(4).hash_with(&secret(3)), kept);
        assert_ne!(secret(3).hash(), kept);
    }

    #[test]
    fn no_script_reads_the_cookie_and_no_other_site_sends_it() {
        let plain = cookie("abc", 60, &headers(&[("origin", "http://127.0.0.1:8081")]));
        assert_eq!(plain, "evernear-console=abc; Path=/; HttpOnly; SameSite=Strict; Max-Age=60");
        let tls = cookie("abc", 60, &headers(&[("origin", "https://files.example")]));
        assert!(tls.to_str().unwrap().ends_with("; Secure") && tls.is_sensitive());
    }
}
