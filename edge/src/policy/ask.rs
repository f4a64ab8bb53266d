//! What a policy may ask about one request or DNS question: the facts, without a clock. They are borrowed from the
//! request while what a policy said before is looked up, and owned for a run of it.

use std::{borrow::Cow, fmt, net::IpAddr, sync::Arc};

use format::{Country, Object, OwnerId, Place, PolicyName};
use http::{HeaderMap, HeaderValue};
use sandbox::{ContentKind, Continent as PolicyContinent, CountryCode, Facts, Method, RefererState, TokenState};

use super::{
    places::{Continent, ViewerPlace},
    token::{self, Weighed},
};
use crate::{net::cut, secret::ZoneSecret, zone::Zone};

/// The edge that answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EdgeFacts {
    pub(crate) country: CountryCode,
    pub(crate) continent: PolicyContinent,
    /// 0..=100 in steps of ten, so that decisions can be remembered.
    pub(crate) load: u8,
}

/// Who asks, as far as policies may tell one viewer from another. In DNS it is the resolver, or the subnet it tells.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    pub(crate) address: IpAddr,
    pub(crate) buckets: BucketKey,
}

/// The key by which viewers fall into buckets.
#[derive(Clone, Copy)]
pub(crate) struct BucketKey([u8; 32]);

impl BucketKey {
    /// Derives the key of a zone: the same at all its edges, and nobody's to foretell where they share a secret.
    pub(crate) fn of(secret: Option<&ZoneSecret>, zone: &Zone) -> Self {
        const CONTEXT: &str = "evernear 2026-11 v1 buckets of viewers";
        let zone = zone.as_str().as_bytes();
        Self(secret.map_or_else(|| blake3::derive_key(CONTEXT, zone), |secret| secret.derive(CONTEXT, zone)))
    }
}

impl fmt::Debug for BucketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BucketKey")
    }
}

impl Client {
    #[cfg(test)]
    pub(crate) const UNKNOWN: Self =
        Self { address: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), buckets: BucketKey([0; 32]) };

    /// Returns the bucket in 0..n of this viewer under an owner's policy; 0 if `n` is 0. Addresses of IPv6 count by
    /// their /64, for a viewer changes the rest each day.
    fn bucket(&self, n: u32, policy: Option<&(OwnerId, Cow<'_, PolicyName>)>) -> u32 {
        let mut hasher = blake3::Hasher::new_keyed(&self.buckets.0);
        match cut(self.address, if self.address.is_ipv4() { 32 } else { 64 }) {
            IpAddr::V4(address) => hasher.update(&address.octets()),
            IpAddr::V6(address) => hasher.update(&address.octets()),
        };
        if let Some((owner, name)) = policy {
            hasher.update(owner.as_bytes()).update(name.as_str().as_bytes());
        }
        let mut first = [0; 8];
        hasher.finalize_xof().fill(&mut first);
        let bucket = u64::from_le_bytes(first).checked_rem(n.into()).unwrap_or(0);
        u32::try_from(bucket).unwrap_or(0)
    }
}

/// What is asked for; absent in DNS.
pub(crate) struct RequestFacts<'r> {
    pub(crate) method: Method,
    pub(crate) is_secure: bool,
    pub(crate) range: bool,
    /// As [`host_name`] spells it.
    pub(crate) host: Cow<'r, str>,
    /// In its one spelling.
    pub(crate) path: Cow<'r, str>,
    pub(crate) query: Cow<'r, str>,
    pub(crate) fields: Fields<'r>,
    /// What its token is worth, if it has one.
    pub(crate) token: Option<Weighed>,
}

/// The header fields of a request.
pub(crate) enum Fields<'r> {
    Shared(Arc<HeaderMap>),
    /// As the parser left them in the bytes that were read.
    Parsed(&'r [httparse::Header<'r>]),
}

impl Fields<'_> {
    /// Returns the value of a field; several lines are joined.
    fn value(&self, name: &str) -> Option<Cow<'_, str>> {
        fn join<'f>(lines: impl Iterator<Item = &'f [u8]>) -> Option<Cow<'f, str>> {
            let mut lines = lines.map(String::from_utf8_lossy);
            let first = lines.next()?;
            Some(lines.fold(first, |all, line| Cow::Owned(format!("{all}, {line}"))))
        }
        match self {
            Self::Shared(map) => join(map.get_all(name).iter().map(HeaderValue::as_bytes)),
            Self::Parsed(fields) => {
                join(fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value))
            }
        }
    }
}

/// All facts of one request.
pub(crate) struct Ask<'r> {
    /// Seconds since 1970.
    pub(crate) now: u64,
    pub(crate) viewer: ViewerPlace,
    pub(crate) client: Client,
    pub(crate) edge: EdgeFacts,
    pub(crate) request: Option<RequestFacts<'r>>,
    pub(crate) object: Option<Arc<Object>>,
    /// Whose policy the object is under, and its name.
    pub(crate) policy: Option<(OwnerId, Cow<'r, PolicyName>)>,
}

impl EdgeFacts {
    pub(crate) fn of(place: &Place, load: u8) -> Self {
        let (country, continent) = policy_place(place);
        Self { country, continent, load: load / 10 * 10 }
    }
}

impl Ask<'_> {
    /// What the request's token is worth.
    pub(crate) fn token(&self) -> Option<&Weighed> {
        self.request.as_ref()?.token.as_ref()
    }
}

impl Facts for Ask<'_> {
    fn now(&self) -> u32 {
        u32::try_from(self.now).unwrap_or(u32::MAX)
    }

    fn client_country(&self) -> CountryCode {
        country_code(self.viewer.country)
    }

    fn client_continent(&self) -> PolicyContinent {
        continent(self.viewer.continent)
    }

    fn client_asn(&self) -> u32 {
        self.viewer.asn
    }

    fn client_ipv6(&self) -> bool {
        self.client.address.is_ipv6()
    }

    fn client_bucket(&self, n: u32) -> u32 {
        self.client.bucket(n, self.policy.as_ref())
    }

    fn request_method(&self) -> Method {
        self.request.as_ref().map_or(Method::Other, |request| request.method)
    }

    fn request_https(&self) -> bool {
        self.request.as_ref().is_some_and(|request| request.is_secure)
    }

    fn request_range(&self) -> bool {
        self.request.as_ref().is_some_and(|request| request.range)
    }

    fn request_referer(&self) -> RefererState {
        let Some(request) = &self.request else { return RefererState::Absent };
        let Some(referer) = request.fields.value("referer") else { return RefererState::Absent };
        let host = referer.parse::<http::Uri>().ok();
        match host.as_ref().and_then(http::Uri::host) {
            Some(host) if host_name(host) == request.host => RefererState::SameSite,
            _ => RefererState::Other,
        }
    }

    fn request_host(&self) -> &str {
        self.request.as_ref().map_or("", |request| &request.host)
    }

    fn request_path(&self) -> &str {
        self.request.as_ref().map_or("", |request| &request.path)
    }

    fn request_header(&self, name: &str) -> Option<Cow<'_, str>> {
        self.request.as_ref()?.fields.value(name)
    }

    fn request_query(&self, name: &str) -> Option<Cow<'_, str>> {
        query_field(&self.request.as_ref()?.query, name).map(Cow::Borrowed)
    }

    fn request_token(&self) -> TokenState {
        self.token().map_or(TokenState::Absent, |token| token.state)
    }

    fn request_token_claim(&self, slot: u8) -> u32 {
        self.token().and_then(|token| token.numbers.get(&slot)).copied().unwrap_or(0)
    }

    fn object_kind(&self) -> ContentKind {
        self.object.as_ref().map_or(ContentKind::Other, |object| content_kind(&object.manifest().mime))
    }

    fn object_size(&self) -> u32 {
        let kib = self.object.as_ref().map_or(0, |object| object.length().div_ceil(1024));
        u32::try_from(kib).unwrap_or(u32::MAX)
    }

    fn object_immutable(&self) -> bool {
        true
    }

    fn object_created(&self) -> u32 {
        let created = self.object.as_ref().map_or(0, |object| object.manifest().created);
        u32::try_from(created).unwrap_or(u32::MAX)
    }

    fn object_tagged(&self, tag: &str) -> bool {
        self.object.as_ref().is_some_and(|object| object.manifest().tags.contains_key(tag))
    }

    fn object_tag_number(&self, tag: &str) -> Option<u32> {
        self.object.as_ref()?.manifest().tags.get(tag).copied()
    }

    fn edge_country(&self) -> CountryCode {
        self.edge.country
    }

    fn edge_continent(&self) -> PolicyContinent {
        self.edge.continent
    }

    fn edge_load(&self) -> u8 {
        self.edge.load
    }
}

/// Returns the country and the continent of a place as policies know them.
#[must_use]
pub fn policy_place(place: &Place) -> (CountryCode, PolicyContinent) {
    (country_code(place.country), continent(ViewerPlace::of_country(place.country).continent))
}

pub(crate) fn country_code(country: Country) -> CountryCode {
    if country == Country::UNKNOWN {
        return CountryCode::UNKNOWN;
    }
    CountryCode::from_letters(country.packed().to_be_bytes()).unwrap_or(CountryCode::UNKNOWN)
}

pub(crate) fn continent(continent: Option<Continent>) -> PolicyContinent {
    match continent {
        None => PolicyContinent::Unknown,
        Some(Continent::Africa) => PolicyContinent::Africa,
        Some(Continent::Antarctica) => PolicyContinent::Antarctica,
        Some(Continent::Asia) => PolicyContinent::Asia,
        Some(Continent::Europe) => PolicyContinent::Europe,
        Some(Continent::NorthAmerica) => PolicyContinent::NorthAmerica,
        Some(Continent::Oceania) => PolicyContinent::Oceania,
        Some(Continent::SouthAmerica) => PolicyContinent::SouthAmerica,
    }
}

/// Returns what sort of content a media type is, as policies know it.
#[must_use]
pub fn content_kind(mime: &str) -> ContentKind {
    let essence = mime.split(';').next().unwrap_or("").trim();
    let (top, sub) = essence.split_once('/').unwrap_or((essence, ""));
    match (top, sub) {
        ("text", "html") | ("application", "xhtml+xml") => ContentKind::Html,
        ("text", "css") => ContentKind::Style,
        ("text" | "application", "javascript" | "ecmascript") | ("application", "wasm") => ContentKind::Script,
        ("image", _) => ContentKind::Image,
        ("video", _) => ContentKind::Video,
        ("audio", _) => ContentKind::Audio,
        ("font", _) => ContentKind::Font,
        ("model", _) => ContentKind::Model3d,
        ("application", "zip" | "gzip" | "zstd" | "vnd.rar" | "x-tar" | "x-7z-compressed" | "x-xz" | "x-bzip2") => {
            ContentKind::Archive
        }
        ("application", "vnd.apple.mpegurl" | "dash+xml") => ContentKind::Manifest,
        ("application", "pdf" | "epub+zip" | "msword" | "rtf" | "postscript") | ("text", _) => ContentKind::Document,
        ("application", "json" | "yaml" | "toml" | "xml" | "octet-stream" | "cbor") => ContentKind::Data,
        _ => ContentKind::Other,
    }
}

/// Returns the host of an authority in its one spelling: in lower case, without a port or a final dot.
pub(crate) fn host_name(authority: &str) -> String {
    let host = authority.split(':').next().unwrap_or("");
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// Returns a field of a query, as a policy may see it: never the token, which whoever sees it could hand on.
fn query_field<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = query.split('&').map(|field| field.split_once('=').unwrap_or((field, "")));
    fields.find(|(field, _)| *field == name && name != token::FIELD).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_sees_a_query_but_for_its_token() {
        let query = "v=1&token=secret&flag&v=2";
        assert_eq!(query_field(query, "v"), Some("1"));
        assert_eq!(query_field(query, "flag"), Some(""));
        assert_eq!(query_field(query, "token"), None);
        assert_eq!(query_field(query, "x"), None);
    }

    #[test]
    fn a_viewer_stays_in_its_bucket_and_viewers_spread_over_all() {
        let zone: Zone = "cdn.example".parse().unwrap();
        let key = |secret: u8| BucketKey::of(Some(&ZoneSecret::of([secret; 32])), &zone);
        let policy = |name: &str| Some((OwnerId([1; 32]), Cow::Owned(name.parse::<PolicyName>().unwrap())));
        let bucket = |address: &str, key: BucketKey, n, name: &str| {
            Client { address: address.parse().unwrap(), buckets: key }.bucket(n, policy(name).as_ref())
        };
        let all: Vec<u32> = (0..1000_u32)
            .map(|number| bucket(&std::net::Ipv4Addr::from_bits(0xc000_0200 + number).to_string(), key(1), 10, "new"))
            .collect();
        let counts: Vec<usize> = (0..10).map(|of| all.iter().filter(|bucket| **bucket == of).count()).collect();
        assert!(counts.iter().all(|count| (60..150).contains(count)), "{counts:?}");
        assert_eq!((bucket("192.0.2.1", key(1), 1, "new"), bucket("192.0.2.1", key(1), 0, "new")), (0, 0));
        let many = |address, secret, name| bucket(address, key(secret), u32::MAX, name);
        let own = many("2001:db8::1", 1, "new");
        assert_eq!(own, many("2001:db8::ffff", 1, "new"), "the same network");
        for other in [many("2001:db8:0:1::1", 1, "new"), many("2001:db8::1", 2, "new"), many("2001:db8::1", 1, "b")] {
            assert_ne!(own, other);
        }
    }

    #[test]
    fn a_host_has_one_spelling() {
        for authority in ["a.example", "A.Example.", "a.example:80", "a.EXAMPLE.:80"] {
            assert_eq!(host_name(authority), "a.example", "{authority}");
        }
        assert_eq!((host_name(""), host_name("."), host_name("a..")), (String::new(), String::new(), "a.".to_owned()));
    }

    #[test]
    fn kinds_follow_the_media_type() {
        for (mime, kind) in [
            ("text/html; charset=utf-8", ContentKind::Html),
            ("image/svg+xml", ContentKind::Image),
            ("video/mp4", ContentKind::Video),
            ("application/pdf", ContentKind::Document),
            ("", ContentKind::Other),
            ("nonsense", ContentKind::Other),
        ] {
            assert_eq!(content_kind(mime), kind, "{mime}");
        }
    }
}
