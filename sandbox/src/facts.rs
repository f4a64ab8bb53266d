//! The facts that a policy may ask for. The caller implements them for its request.
//!
//! The trait has one method for each fact of the contract and is object-safe. A method that the caller does not
//! implement answers "unknown", so a DNS question need not imitate an HTTP request. Facts must not change during a run.

use std::borrow::Cow;

use crate::country::CountryCode;
use crate::groups;
use crate::vocabulary::{ContentKind, Continent, Method, NetworkKind, RefererState, TokenState};

/// The facts of one request, question or object.
///
/// Questions about a text (`path-starts`, `header-has`, ...) have no methods of their own. The sandbox answers them
/// from the text, so all callers give the same answers.
pub trait Facts: Send + Sync {
    /// Returns the present second since 1970-01-01T00:00Z.
    fn now(&self) -> u32;

    /// Returns the viewer's country.
    fn client_country(&self) -> CountryCode {
        CountryCode::UNKNOWN
    }
    /// Returns the viewer's subdivision, packed in base 37; 0 = unknown.
    fn client_subdivision(&self) -> u16 {
        0
    }
    /// Returns the viewer's continent.
    fn client_continent(&self) -> Continent {
        Continent::Unknown
    }
    /// Returns the viewer's autonomous system number (ASN); 0 = unknown.
    fn client_asn(&self) -> u32 {
        0
    }
    /// Returns the kind of the viewer's network.
    fn client_network(&self) -> NetworkKind {
        NetworkKind::Unknown
    }
    /// Returns whether the viewer connected over IPv6.
    fn client_ipv6(&self) -> bool {
        false
    }
    /// Returns this viewer's stable bucket in 0..n for this policy, from a keyed hash; 0 if `n` is 0.
    fn client_bucket(&self, n: u32) -> u32 {
        let _ = n;
        0
    }
    /// Returns whether the viewer's country is in the built-in group `name`. The sandbox adds the groups of the config.
    fn client_in_group(&self, name: &str) -> bool {
        groups::contains(name, self.client_country())
    }

    /// Returns the request's method.
    fn request_method(&self) -> Method {
        Method::Other
    }
    /// Returns whether the request came over TLS.
    fn request_https(&self) -> bool {
        false
    }
    /// Returns whether the request asks for a range.
    fn request_range(&self) -> bool {
        false
    }
    /// Returns the state of the request's token. The caller has verified it.
    fn request_token(&self) -> TokenState {
        TokenState::Absent
    }
    /// Returns a number that the token carries; 0 = none.
    fn request_token_claim(&self, slot: u8) -> u32 {
        let _ = slot;
        0
    }
    /// Returns where the link to the request was: the state of its `Referer` header.
    fn request_referer(&self) -> RefererState {
        RefererState::Absent
    }
    /// Returns the requested host name, in lower case and without a port.
    fn request_host(&self) -> &str {
        ""
    }
    /// Returns the path that is walked, without the query. It begins with `/` and is in canonical form
    /// ([`canonical_path`](crate::canonical_path)).
    fn request_path(&self) -> &str {
        ""
    }
    /// Returns the value of the header `name` (lower case). Several lines are joined by ", ".
    fn request_header(&self, name: &str) -> Option<Cow<'_, str>> {
        let _ = name;
        None
    }
    /// Returns the first value of `name` in the query.
    fn request_query(&self, name: &str) -> Option<Cow<'_, str>> {
        let _ = name;
        None
    }

    /// Returns the object's kind of content.
    fn object_kind(&self) -> ContentKind {
        ContentKind::Other
    }
    /// Returns the object's size in KiB, rounded up.
    fn object_size(&self) -> u32 {
        0
    }
    /// Returns whether the object is content-addressed and so never changes.
    fn object_immutable(&self) -> bool {
        false
    }
    /// Returns when the object was created, in seconds since 1970; 0 = unknown.
    fn object_created(&self) -> u32 {
        0
    }
    /// Returns whether the owner gave the object this tag at upload.
    fn object_tagged(&self, tag: &str) -> bool {
        let _ = tag;
        false
    }
    /// Returns the number of a tag, if it has one.
    fn object_tag_number(&self, tag: &str) -> Option<u32> {
        let _ = tag;
        None
    }

    /// Returns the edge's country.
    fn edge_country(&self) -> CountryCode {
        CountryCode::UNKNOWN
    }
    /// Returns the edge's continent.
    fn edge_continent(&self) -> Continent {
        Continent::Unknown
    }
    /// Returns the edge's region, a number that the operator assigns.
    fn edge_region(&self) -> u16 {
        0
    }
    /// Returns the edge's load, 0..=100, in coarse steps.
    fn edge_load(&self) -> u8 {
        0
    }
    /// Returns whether the edge's country is in the built-in group `name`. The sandbox adds the groups of the config.
    fn edge_in_group(&self, name: &str) -> bool {
        groups::contains(name, self.edge_country())
    }
}
