//! The path of a strip at an edge that brings strips for its neighbours.

use std::fmt;

use bytes::Bytes;
use data_encoding::HEXLOWER;

use crate::{NodeName, limits::PUBLIC_MANIFEST_BYTES_MAX};

/// The header field in which the edge that asks tells how long an answer is of use to it, in milliseconds.
pub const WITHIN_MS: &str = "evernear-within-ms";

/// The request of an edge to another that brings strips for its neighbours:
/// `GET /v1/strips/{P}/{column}/{stripe}/{node}`. P is the public manifest in hex: so the other can prove the strip,
/// and needs to know nothing else of the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StripPath {
    /// The encoded public manifest.
    pub public: Bytes,
    /// The column.
    pub column: usize,
    /// The stripe.
    pub stripe: u64,
    /// The origin that has the strip.
    pub node: NodeName,
}

impl StripPath {
    const PREFIX: &str = "/v1/strips/";

    /// Reads a path. Returns `None` if it is none of these; the manifest is not decoded.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let [public, column, stripe, node] = *path.strip_prefix(Self::PREFIX)?.split('/').collect::<Vec<_>>() else {
            return None;
        };
        if public.len() > 2 * PUBLIC_MANIFEST_BYTES_MAX {
            return None;
        }
        let public = HEXLOWER.decode(public.as_bytes()).ok()?.into();
        Some(Self { public, column: column.parse().ok()?, stripe: stripe.parse().ok()?, node: node.parse().ok()? })
    }
}

impl fmt::Display for StripPath {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { public, column, stripe, node } = self;
        write!(to, "{}{}/{column}/{stripe}/{node}", Self::PREFIX, HEXLOWER.encode(public))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_strip_reads_back_and_nothing_else_does() {
        let path = StripPath { public: vec![7; 106].into(), column: 3, stripe: 9, node: "o1".parse().unwrap() };
        let text = path.to_string();
        assert_eq!(StripPath::parse(&text), Some(path));
        let long = format!("/v1/strips/{}/0/0/o1", "00".repeat(PUBLIC_MANIFEST_BYTES_MAX));
        assert!(StripPath::parse(&long).is_some());
        let longer = format!("/v1/strips/{}/0/0/o1", "00".repeat(PUBLIC_MANIFEST_BYTES_MAX + 1));
        for none in
            [&*longer, "/v1/strips/", "/v1/strips/00/0/0", "/v1/strips/0/0/0/o1", "/v1/strips/00/-1/0/o1", &text[1..]]
        {
            assert_eq!(StripPath::parse(none), None, "{none}");
        }
    }
}
