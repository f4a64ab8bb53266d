//! Signed links: a Common Access Token (CTA-5007) in `?token=` that says until when, where and for what an owner's link
//! counts.
//!
//! A token is a CWT (RFC 8392) in a `COSE_Mac0` (RFC 9052) under HMAC-SHA-256, written in base64url without padding
//! (RFC 4648 section 5). Keeps true: nothing in a token is read before its code is right, and a restriction that is not
//! understood is one that is not met.

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr};

use aws_lc_rs::hmac;
use coset::{
    Algorithm, CborSerializable, CoseMac0, CoseMac0Builder, HeaderBuilder, TaggedCborSerializable,
    cbor::{self, value::Value},
    iana,
};
use data_encoding::BASE64URL_NOPAD;
use format::Country;
use sandbox::{TokenState, canonical_path};

use crate::{net::Net, secret::LinkKey};

/// The query's field.
pub(crate) const FIELD: &str = "token";
/// Longest token in characters: a restricted one has some hundreds.
const TOKEN_BYTES_MAX: usize = 4096;
/// What says that a CWT comes (RFC 8392 section 6): tag 61. Optional when read.
const CWT_TAG: [u8; 2] = [0xd8, 61];

/// Claims: IANA's "CBOR Web Token Claims", those from 311 on by CTA-5007.
mod claim {
    pub(super) const ISSUER: i128 = 1;
    pub(super) const SUBJECT: i128 = 2;
    pub(super) const EXPIRES: i128 = 4;
    pub(super) const NOT_BEFORE: i128 = 5;
    pub(super) const ISSUED_AT: i128 = 6;
    pub(super) const ID: i128 = 7;
    pub(super) const VERSION: i128 = 310;
    pub(super) const NETWORKS: i128 = 311;
    pub(super) const URI: i128 = 312;
    pub(super) const COUNTRIES: i128 = 316;
    /// Ours, for private use: the number of slot 0. Those of other slots follow downwards.
    pub(super) const NUMBER: i128 = -70_000;
}

/// Parts of a URI and ways to match one, as CTA-5007 numbers them in `catu`.
mod uri {
    pub(super) const HOST: i128 = 1;
    pub(super) const PATH: i128 = 3;
    pub(super) const EXACT: i128 = 0;
    pub(super) const PREFIX: i128 = 1;
    pub(super) const SUFFIX: i128 = 2;
    pub(super) const CONTAINS: i128 = 3;
}

/// Tags of addresses and prefixes, RFC 9164.
const IPV4_TAG: u64 = 52;
const IPV6_TAG: u64 = 54;

/// What a link is restricted to. What is absent or empty restricts nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// Seconds since 1970 from which on the link is worth nothing.
    pub expires: Option<u64>,
    /// Seconds since 1970 from which on it counts.
    pub not_before: Option<u64>,
    /// The host in lower case, without a port. Absent: all objects of the owner.
    pub host: Option<String>,
    /// What the path begins with, in any spelling.
    pub path: Option<String>,
    /// Where the viewer may be.
    pub countries: Vec<Country>,
    /// Prefixes of the viewer's address.
    pub networks: Vec<Net>,
    /// Numbers for the owner's policy, by slot.
    pub numbers: BTreeMap<u8, u32>,
}

impl Terms {
    /// Signs: returns what stands after `?token=`.
    #[must_use]
    pub fn sign(&self, key: &LinkKey) -> String {
        let mut claims: Vec<(Value, Value)> = Vec::new();
        let mut claim = |name: i128, value: Value| claims.push((integer(name), value));
        if let Some(expires) = self.expires {
            claim(claim::EXPIRES, integer(expires));
        }
        if let Some(not_before) = self.not_before {
            claim(claim::NOT_BEFORE, integer(not_before));
        }
        if !self.networks.is_empty() {
            claim(claim::NETWORKS, Value::Array(self.networks.iter().map(network).collect()));
        }
        let part = |name, way, text: &String| (integer(name), Value::Map(vec![(integer(way), text.clone().into())]));
        let host = self.host.as_ref().map(|host| part(uri::HOST, uri::EXACT, host));
        let path = self.path.as_ref().map(|path| part(uri::PATH, uri::PREFIX, path));
        let parts: Vec<_> = host.into_iter().chain(path).collect();
        if !parts.is_empty() {
            claim(claim::URI, Value::Map(parts));
        }
        if !self.countries.is_empty() {
            let countries = self.countries.iter().map(|country| country.to_string().into());
            claim(claim::COUNTRIES, Value::Array(countries.collect()));
        }
        for (slot, number) in &self.numbers {
            claim(claim::NUMBER - i128::from(*slot), integer(*number));
        }
        let mut payload = Vec::new();
        cbor::ser::into_writer(&Value::Map(claims), &mut payload).expect("values of ours are written to memory");
        let header = HeaderBuilder::new().algorithm(iana::Algorithm::HMAC_256_256).build();
        let signed = CoseMac0Builder::new()
            .protected(header)
            .payload(payload)
            .create_tag(&[], |data| hmac::sign(&key.hmac(), data).as_ref().to_vec())
            .build();
        let signed = signed.to_tagged_vec().expect("values of ours are written to memory");
        BASE64URL_NOPAD.encode(&[&CWT_TAG[..], &signed].concat())
    }
}

/// What a token is held against.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting<'a> {
    /// Seconds since 1970.
    pub(crate) now: u64,
    /// In lower case, without a port or a final dot.
    pub(crate) host: &'a str,
    /// In its one spelling, as policies see it.
    pub(crate) path: &'a str,
    pub(crate) address: IpAddr,
    pub(crate) country: Country,
}

/// What a request's token is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Weighed {
    pub(crate) state: TokenState,
    /// Seconds since 1970 at which a valid one ends.
    pub(crate) expires: Option<u64>,
    pub(crate) numbers: BTreeMap<u8, u32>,
}

impl Weighed {
    fn worthless(state: TokenState) -> Self {
        Self { state, expires: None, numbers: BTreeMap::new() }
    }

    /// What a token is worth where no key is known.
    pub(crate) fn unknown() -> Self {
        Self::worthless(TokenState::Forged)
    }
}

/// Returns the token of a query.
pub(crate) fn of_query(query: &str) -> Option<&str> {
    let mut fields = query.split('&').filter_map(|field| field.split_once('='));
    fields.find(|(name, _)| *name == FIELD).map(|(_, token)| token)
}

/// Says what a token is worth for a request.
pub(crate) fn weigh(token: &str, key: &LinkKey, setting: &Setting<'_>) -> Weighed {
    match open(token, key) {
        Some(claims) => judge(&claims, setting),
        None => Weighed::worthless(TokenState::Forged),
    }
}

/// Says what signed claims are worth for a request.
fn judge(claims: &[(Value, Value)], setting: &Setting<'_>) -> Weighed {
    let mut weighed = Weighed::worthless(TokenState::Valid);
    let (mut late, mut early, mut elsewhere) = (false, false, false);
    for (name, value) in claims {
        match name.as_integer().map(i128::from) {
            Some(claim::ISSUER | claim::SUBJECT | claim::ISSUED_AT | claim::ID) => {}
            Some(claim::VERSION) => elsewhere |= number(value) != Some(1),
            Some(claim::EXPIRES) => {
                weighed.expires = number(value);
                late |= weighed.expires.is_none_or(|expires| setting.now >= expires);
            }
            Some(claim::NOT_BEFORE) => early |= number(value).is_none_or(|from| setting.now < from),
            Some(claim::NETWORKS) => elsewhere |= !any(value, |net| holds(net, setting.address)),
            Some(claim::URI) => elsewhere |= !matches_uri(value, setting),
            Some(claim::COUNTRIES) => {
                let country = setting.country.to_string();
                let is_known = setting.country != Country::UNKNOWN;
                elsewhere |= !(is_known && any(value, |name| name.as_text() == Some(&country)));
            }
            Some(name) if (claim::NUMBER - 255..=claim::NUMBER).contains(&name) => {
                let slot = u8::try_from(claim::NUMBER - name).unwrap_or(u8::MAX);
                match number(value).and_then(|number| u32::try_from(number).ok()) {
                    Some(number) => drop(weighed.numbers.insert(slot, number)),
                    None => elsewhere = true,
                }
            }
            // Whoever signed it meant to restrict the link by what we do not know.
            _ => elsewhere = true,
        }
    }
    match (late, early, elsewhere) {
        (true, ..) => Weighed::worthless(TokenState::Expired),
        (_, true, _) => Weighed::worthless(TokenState::NotYet),
        (.., true) => Weighed::worthless(TokenState::WrongScope),
        _ => weighed,
    }
}

/// Returns the claims of a token whose code is right.
fn open(token: &str, key: &LinkKey) -> Option<Vec<(Value, Value)>> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let bytes = BASE64URL_NOPAD.decode(token.trim_end_matches('=').as_bytes()).ok()?;
    let bytes = bytes.strip_prefix(&CWT_TAG).unwrap_or(&bytes);
    let signed = CoseMac0::from_tagged_slice(bytes).or_else(|_| CoseMac0::from_slice(bytes)).ok()?;
    let header = &signed.protected.header;
    if header.alg != Some(Algorithm::Assigned(iana::Algorithm::HMAC_256_256)) || !header.crit.is_empty() {
        return None;
    }
    signed.verify_payload_tag(&[], || (), |tag, data| hmac::verify(&key.hmac(), data, tag).map_err(drop)).ok()?;
    read(&signed.payload?)
}

fn read(payload: &[u8]) -> Option<Vec<(Value, Value)>> {
    cbor::de::from_reader::<Value, _>(payload).ok()?.into_map().ok()
}

/// The body of the fuzz target `link_token`: any bytes as a token, and as claims that were signed.
pub fn fuzz(bytes: &[u8]) {
    let country = Country::UNKNOWN;
    let setting = Setting { now: 1, host: "host", path: "/path", address: IpAddr::from([192, 0, 2, 7]), country };
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert_eq!(weigh(text, &LinkKey::new([0; 32]), &setting).state, TokenState::Forged, "nobody has this key");
    }
    if let Some(claims) = read(bytes) {
        let _ = judge(&claims, &setting);
    }
}

fn integer(value: impl Into<i128>) -> Value {
    // CBOR's integers have 65 bits; all of ours have fewer.
    value.into().try_into().map_or(Value::Null, Value::Integer)
}

fn number(value: &Value) -> Option<u64> {
    value.as_integer().and_then(|number| u64::try_from(number).ok())
}

fn any(values: &Value, holds: impl Fn(&Value) -> bool) -> bool {
    values.as_array().is_some_and(|values| values.iter().any(holds))
}

/// Writes a prefix as RFC 9164 section 3.1.2 does: its length, and its bytes without zeros at the end.
fn network(net: &Net) -> Value {
    let (tag, bytes) = match net.address() {
        IpAddr::V4(address) => (IPV4_TAG, address.octets().to_vec()),
        IpAddr::V6(address) => (IPV6_TAG, address.octets().to_vec()),
    };
    let kept = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let prefix = vec![integer(net.length()), Value::Bytes(bytes[..kept].to_vec())];
    Value::Tag(tag, Box::new(Value::Array(prefix)))
}

/// Whether an address, or a prefix, of RFC 9164 holds an address.
fn holds(net: &Value, address: IpAddr) -> bool {
    let read = || {
        let (tag, value) = net.as_tag()?;
        let (length, bytes) = match value {
            Value::Bytes(bytes) => (None, bytes),
            Value::Array(prefix) => match &prefix[..] {
                [length, Value::Bytes(bytes)] => (Some(u8::try_from(number(length)?).ok()?), bytes),
                _ => return None,
            },
            _ => return None,
        };
        let address = match tag {
            IPV4_TAG => IpAddr::from(padded::<4>(bytes)?),
            IPV6_TAG => IpAddr::from(padded::<16>(bytes)?),
            _ => return None,
        };
        Net::new(address, length.unwrap_or(if address.is_ipv4() { 32 } else { 128 }))
    };
    read().is_some_and(|net| net.holds(address.to_canonical()))
}

fn padded<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    let mut padded = [0; N];
    padded.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(padded)
}

fn matches_uri(parts: &Value, setting: &Setting<'_>) -> bool {
    let Some(parts) = parts.as_map() else { return false };
    parts.iter().all(|(part, ways)| {
        let (text, is_path) = match part.as_integer().map(i128::from) {
            Some(uri::HOST) => (setting.host, false),
            Some(uri::PATH) => (setting.path, true),
            _ => return false,
        };
        // Whoever signed it may spell a path otherwise.
        let spell = |wanted| if is_path { canonical_path(wanted) } else { Cow::Borrowed(wanted) };
        ways.as_map().is_some_and(|ways| {
            ways.iter().all(|(way, wanted)| match (way.as_integer().map(i128::from), wanted.as_text().map(spell)) {
                (Some(uri::EXACT), Some(wanted)) => text == wanted,
                (Some(uri::PREFIX), Some(wanted)) => text.starts_with(&*wanted),
                (Some(uri::SUFFIX), Some(wanted)) => text.ends_with(&*wanted),
                (Some(uri::CONTAINS), Some(wanted)) => text.contains(&*wanted),
                _ => false,
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use common_access_token::{
        Algorithm as TheirAlgorithm, CborValue, KeyId, RegisteredClaims, Token, TokenBuilder, VerificationOptions,
    };

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn key() -> LinkKey {
        LinkKey::new([7; 32])
    }

    fn setting() -> Setting<'static> {
        Setting {
            now: NOW,
            host: "label.evernear.example",
            path: "/tours/1.jpg",
            address: "192.0.2.7".parse().unwrap(),
            country: "BE".parse().unwrap(),
        }
    }

    fn all_terms() -> Terms {
        Terms {
            expires: Some(NOW + 60),
            not_before: Some(NOW - 60),
            host: Some("label.evernear.example".to_owned()),
            path: Some("/tours/".to_owned()),
            countries: vec!["NL".parse().unwrap(), "BE".parse().unwrap()],
            networks: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
            numbers: BTreeMap::from([(0, 17), (255, u32::MAX)]),
        }
    }

    fn state(token: &str, change: impl FnOnce(&mut Setting<'static>)) -> TokenState {
        let mut setting = setting();
        change(&mut setting);
        weigh(token, &key(), &setting).state
    }

    #[test]
    fn a_link_counts_where_its_terms_hold_and_nowhere_else() {
        let token = all_terms().sign(&key());
        let weighed = weigh(&token, &key(), &setting());
        assert_eq!(weighed.state, TokenState::Valid);
        assert_eq!((weighed.expires, weighed.numbers), (Some(NOW + 60), all_terms().numbers));
        assert_eq!(state(&token, |setting| setting.address = "2001:db8::7".parse().unwrap()), TokenState::Valid);
        assert_eq!(state(&token, |setting| setting.address = "::ffff:192.0.2.7".parse().unwrap()), TokenState::Valid);
        assert_eq!(state(&token, |setting| setting.now = NOW + 60), TokenState::Expired);
        assert_eq!(state(&token, |setting| setting.now = NOW - 61), TokenState::NotYet);
        for change in [
            |setting: &mut Setting<'static>| setting.host = "other.evernear.example",
            |setting: &mut Setting<'static>| setting.path = "/tour",
            |setting: &mut Setting<'static>| setting.address = "192.0.3.7".parse().unwrap(),
            |setting: &mut Setting<'static>| setting.address = "2001:db9::7".parse().unwrap(),
            |setting: &mut Setting<'static>| setting.country = "FR".parse().unwrap(),
            |setting: &mut Setting<'static>| setting.country = Country::UNKNOWN,
        ] {
            assert_eq!(state(&token, change), TokenState::WrongScope);
        }
        let free = Terms::default().sign(&key());
        assert_eq!(state(&free, |setting| setting.country = Country::UNKNOWN), TokenState::Valid);
        let nobody = Terms { countries: vec![Country::UNKNOWN], ..Terms::default() }.sign(&key());
        assert_eq!(state(&nobody, |setting| setting.country = Country::UNKNOWN), TokenState::WrongScope);
    }

    #[test]
    fn a_signed_path_counts_in_whatever_spelling_it_was_signed() {
        let state_of = |signed: &str, path: &'static str| {
            let token = Terms { path: Some(signed.to_owned()), ..Terms::default() }.sign(&key());
            state(&token, |setting| setting.path = path)
        };
        for signed in ["/größe@2/", "/gr%c3%b6%C3%9fe%402/", "/gr%C3%B6%C3%9Fe@2/", "/gr%C3%B6%C3%9Fe%402/"] {
            assert_eq!(state_of(signed, "/gr%C3%B6%C3%9Fe%402/a.png"), TokenState::Valid, "{signed}");
            assert_eq!(state_of(signed, "/gr%C3%B6%C3%9Fe/a.png"), TokenState::WrongScope, "{signed}");
        }
        // A slash in a name parts nothing.
        assert_eq!(state_of("/a%2Fb", "/a/b"), TokenState::WrongScope);
    }

    #[test]
    fn each_flipped_bit_and_another_key_make_a_forgery() {
        let token = all_terms().sign(&key());
        let bytes = BASE64URL_NOPAD.decode(token.as_bytes()).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let weighed = weigh(&BASE64URL_NOPAD.encode(&changed), &key(), &setting());
            // The tags in front (61, 17) say what comes and are under no code.
            assert!(weighed.state == TokenState::Forged || bit < 24, "bit {bit}");
        }
        assert_eq!(weigh(&token, &LinkKey::new([8; 32]), &setting()).state, TokenState::Forged);
        for cut in 0..token.len() {
            assert_eq!(state(&token[..cut], |_| ()), TokenState::Forged, "{cut}");
        }
        assert_eq!(state(&"A".repeat(TOKEN_BYTES_MAX + 1), |_| ()), TokenState::Forged);
    }

    #[test]
    fn what_another_signer_signs_is_read_and_what_it_restricts_unknown_to_us_is_not_met() {
        let claims = || RegisteredClaims::new().with_issuer("shop").with_expiration(NOW + 60);
        let builder = || TokenBuilder::new().algorithm(TheirAlgorithm::HmacSha256).registered_claims(claims());
        let text = |builder: TokenBuilder| {
            let signed = builder.sign(&[7; 32]).unwrap();
            BASE64URL_NOPAD.encode(&signed.to_bytes().unwrap())
        };
        let kid = KeyId::Binary(b"k1".to_vec());
        assert_eq!(state(&text(builder().protected_key_id(kid)), |_| ()), TokenState::Valid);
        assert_eq!(state(&text(builder()), |setting| setting.now = NOW + 60), TokenState::Expired);
        let countries = ["BE", "NL"].map(|name| CborValue::Text(name.to_owned())).to_vec();
        let in_two = builder().custom_array(316, countries);
        assert_eq!(state(&text(in_two.clone()), |_| ()), TokenState::Valid);
        assert_eq!(state(&text(in_two), |setting| setting.country = "FR".parse().unwrap()), TokenState::WrongScope);
        // By Python's hashlib: addresses and prefixes, two parts of the URI, a number.
        let seed = include_str!("../../../fuzz/corpus/link_token/token.seed");
        let there = Setting { host: "host", path: "/path/a", ..setting() };
        let weighed = weigh(seed, &key(), &there);
        assert_eq!((weighed.state, weighed.numbers), (TokenState::Valid, BTreeMap::from([(0, 17)])));
        assert_eq!(weigh(seed, &key(), &Setting { path: "/data", ..there }).state, TokenState::WrongScope);
        // catm, methods: not understood here.
        let methods = builder().custom_array(313, vec![CborValue::Text("GET".to_owned())]);
        assert_eq!(state(&text(methods), |_| ()), TokenState::WrongScope);
    }

    #[test]
    fn another_reader_reads_what_we_sign() {
        // Its clock is the machine's, and it knows no prefixes of addresses.
        let terms = Terms { expires: Some(u64::MAX / 4), not_before: Some(1), networks: vec![], ..all_terms() };
        let bytes = BASE64URL_NOPAD.decode(terms.sign(&key()).as_bytes()).unwrap();
        let token = Token::from_bytes(&bytes).unwrap();
        token.verify(&[7; 32]).unwrap();
        let at = |uri: &str| VerificationOptions::new().require_exp(true).verify_catu(true).uri(uri);
        token.verify_claims(&at("https://label.evernear.example/tours/1.jpg")).unwrap();
        assert!(token.verify_claims(&at("https://other.evernear.example/tours/1.jpg")).is_err());
        assert!(token.verify_claims(&at("https://label.evernear.example/other")).is_err());
        assert!(token.verify(&[8; 32]).is_err());
        assert_eq!(token.claims.registered.exp, terms.expires);
    }

    #[test]
    fn every_seed_of_the_corpus_is_survived() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/link_token");
        let seeds: Vec<_> = std::fs::read_dir(folder).unwrap().map(|seed| seed.unwrap().path()).collect();
        assert!(seeds.len() >= 2);
        for seed in seeds {
            let bytes = std::fs::read(seed).unwrap();
            fuzz(&bytes);
            for at in 0..bytes.len() {
                fuzz(&bytes[..at]);
                for bit in 0..8 {
                    let mut changed = bytes.clone();
                    changed[at] ^= 1 << bit;
                    fuzz(&changed);
                }
            }
        }
    }

    #[test]
    fn queries_have_one_token() {
        assert_eq!(of_query("a=1&token=abc&token=def"), Some("abc"));
        assert_eq!((of_query("tokens=1&atoken=2"), of_query("")), (None, None));
    }
}
