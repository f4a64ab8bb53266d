//! What a policy may ask: the caller answers these over its request.
//!
//! One method per fact of the contract, object-safe. A method that the caller leaves out answers "unknown", so that a
//! DNS question need not pretend to be an HTTP request. Facts must not change during a run.

use std::borrow::Cow;

use crate::country::CountryCode;
use crate::groups;
use crate::vocabulary::{ContentKind, Continent, Method, NetworkKind, RefererState, TokenState};

/// The facts of one request, question or object.
///
/// Questions about a text (`path-starts`, `header-has`, ...) have no methods of their own: the sandbox answers them
/// from the text, so that every caller answers them alike.
pub trait Facts: Send + Sync + 'static {
    /// Seconds since 1970-01-01T00:00Z.
    fn now(&self) -> u32;

    /// The viewer's country.
    fn client_country(&self) -> CountryCode {
        CountryCode::UNKNOWN
    }
    /// The viewer's subdivision, packed base 37; 0 = unknown.
    fn client_subdivision(&self) -> u16 {
        0
    }
    /// The viewer's continent.
    fn client_continent(&self) -> Continent {
        Continent::Unknown
    }
    /// The viewer's autonomous system; 0 = unknown.
    fn client_asn(&self) -> u32 {
        0
    }
    /// What sort of network the viewer is in.
    fn client_network(&self) -> NetworkKind {
        NetworkKind::Unknown
    }
    /// Whether the viewer came over IPv6.
    fn client_ipv6(&self) -> bool {
        false
    }
    /// A stable bucket in 0..n of this viewer for this policy, from a keyed hash; 0 when `n` is 0.
    fn client_bucket(&self, n: u32) -> u32 {
        let _ = n;
        0
    }
    /// Whether the viewer's country is in the built-in group `name`. The sandbox adds the groups of the config.
    fn client_in_group(&self, name: &str) -> bool {
        groups::contains(name, self.client_country())
    }

    /// The request's method.
    fn request_method(&self) -> Method {
        Method::Other
    }
    /// Whether the request came over TLS.
    fn request_https(&self) -> bool {
        false
    }
    /// Whether the request asks for a range.
    fn request_range(&self) -> bool {
        false
    }
    /// What the request's token is worth; verified by the caller.
    fn request_token(&self) -> TokenState {
        TokenState::Absent
    }
    /// A number that the token carries; 0 = none.
    fn request_token_claim(&self, slot: u8) -> u32 {
        let _ = slot;
        0
    }
    /// Where the request was linked from.
    fn request_referer(&self) -> RefererState {
        RefererState::Absent
    }
    /// The host name asked for, in lower case, without a port.
    fn request_host(&self) -> &str {
        ""
    }
    /// The path that is walked, beginning with `/`, in its one spelling ([`canonical_path`](crate::canonical_path)),
    /// without the query.
    fn request_path(&self) -> &str {
        ""
    }
    /// The value of the header `name` (lower case); several lines joined by ", ".
    fn request_header(&self, name: &str) -> Option<Cow<'_, str>> {
        let _ = name;
        None
    }
    /// The first value of `name` in the query.
    fn request_query(&self, name: &str) -> Option<Cow<'_, str>> {
        let _ = name;
        None
    }

    /// The object's kind of content.
    fn object_kind(&self) -> ContentKind {
        ContentKind::Other
    }
    /// The object's size in KiB, rounded up.
    fn object_size(&self) -> u32 {
        0
    }
    /// Whether the object is content-addressed and so never changes.
    fn object_immutable(&self) -> bool {
        false
    }
    /// When the object was created, in seconds since 1970; 0 = unknown.
    fn object_created(&self) -> u32 {
        0
    }
    /// Whether the owner gave the object this tag at upload.
    fn object_tagged(&self, tag: &str) -> bool {
        let _ = tag;
        false
    }
    /// The number of a tag that has one.
    fn object_tag_number(&self, tag: &str) -> Option<u32> {
        let _ = tag;
        None
    }

    /// The edge's country.
    fn edge_country(&self) -> CountryCode {
        CountryCode::UNKNOWN
    }
    /// The edge's continent.
    fn edge_continent(&self) -> Continent {
        Continent::Unknown
    }
    /// The edge's region, a number of the operator.
    fn edge_region(&self) -> u16 {
        0
    }
    /// How full the edge is, 0..=100, in coarse steps.
    fn edge_load(&self) -> u8 {
        0
    }
    /// Whether the edge's country is in the built-in group `name`. The sandbox adds the groups of the config.
    fn edge_in_group(&self, name: &str) -> bool {
        groups::contains(name, self.edge_country())
    }
}
