//! What can go wrong on the way to a viewer, and the only table that says what HTTP and DNS answer to it.

use std::time::Duration;

use client::ReadError;
use format::{LabelError, OpenError};
use http::StatusCode;

use crate::zone::Zone;

/// A fault, with whose it is: the viewer's, the owner's decision, the nodes', or ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The label is misspelt. The viewer's.
    #[error("the address is not one of ours: {0}")]
    Label(LabelError),
    /// The host belongs to nobody here. The viewer's, or of whoever set up the name.
    #[error("this edge serves objects at LABEL.{zone} and no other zone; look at what stands behind the label")]
    Host {
        /// The edge's zone.
        zone: Zone,
    },
    /// Malformed or forbidden framing. The viewer's.
    #[error("the request is malformed: {reason}")]
    Request {
        /// What is wrong.
        reason: &'static str,
    },
    /// Another method than GET, HEAD or OPTIONS. The viewer's.
    #[error("only GET, HEAD and OPTIONS are answered here")]
    Method,
    /// Too many bytes of header. The viewer's.
    #[error("the request's header is too large")]
    HeaderTooLarge,
    /// A precondition of the request does not hold. The viewer asked for that.
    #[error("a condition of the request does not hold")]
    Precondition,
    /// The range lies outside the object. The viewer's.
    #[error("the object has {length} bytes; the range asked for is not among them")]
    Range {
        /// Bytes of the object.
        length: u64,
    },
    /// No node knows the object. The viewer's, or the link is older than the object's removal.
    #[error("there is no such object, or no longer")]
    Unknown,
    /// The directory has no such path. The viewer's.
    #[error("there is nothing at this path")]
    Path,
    /// The owner erased the object or let its lease end.
    #[error("the owner has removed this object")]
    Erased,
    /// The stable name's pointer is past its end. The owner's, who renews it, or of nodes that withhold newer ones.
    #[error("what this name stands for was not renewed by its owner in time; ask the owner to renew the name")]
    NameEnded,
    /// The owner's policy refuses the request.
    #[error("the owner of this object does not allow this request ({status})")]
    Denied {
        /// The status of the refusal, 400 to 599.
        status: u16,
    },
    /// The operator of this edge does not serve the object.
    #[error("the operator of this edge does not serve this object")]
    Blocked {
        /// The status of the refusal: 410 or 451.
        status: u16,
    },
    /// The owner's policy is not to be had. Nobody is served on a guess.
    #[error("the owner's rules for this object cannot be read at the moment")]
    Policy,
    /// The directory or an object in it contradicts itself. Its writer's.
    #[error("the object is damaged beyond what its owner stored")]
    Damaged,
    /// Too few nodes gave honest shards.
    #[error("too few storage nodes answered with good data")]
    TooFewShards,
    /// Nodes took too long.
    #[error("the storage nodes took too long")]
    Slow,
    /// No node can be reached.
    #[error("no storage node can be reached")]
    Unreachable,
    /// The nodes give only an older record than one that this edge has seen.
    #[error("the storage nodes are behind; what they have of this is older than what was seen")]
    Outdated,
    /// This edge has more to do than it takes on.
    #[error("this edge is busy")]
    Busy,
}

/// How DNS answers a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameAnswer {
    /// The name does not exist.
    NoSuchName,
    /// The edges all the same: the name may well exist, or a person deserves the page that explains.
    Edges,
}

impl Fault {
    /// Returns the HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Label(_) | Self::Request { .. } => StatusCode::BAD_REQUEST,
            Self::Host { .. } => StatusCode::MISDIRECTED_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::HeaderTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Precondition => StatusCode::PRECONDITION_FAILED,
            Self::Range { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Unknown | Self::Path => StatusCode::NOT_FOUND,
            Self::Erased => StatusCode::GONE,
            Self::Denied { status } | Self::Blocked { status } => StatusCode::from_u16(*status)
                .ok()
                .filter(|status| status.is_client_error() || status.is_server_error())
                .unwrap_or(StatusCode::FORBIDDEN),
            Self::Damaged | Self::TooFewShards => StatusCode::BAD_GATEWAY,
            Self::Policy | Self::NameEnded | Self::Unreachable | Self::Outdated | Self::Busy => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Slow => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// Returns how DNS answers.
    #[must_use]
    pub fn name_answer(&self) -> NameAnswer {
        match self {
            Self::Label(_) | Self::Unknown | Self::Path => NameAnswer::NoSuchName,
            _ => NameAnswer::Edges,
        }
    }

    /// Returns after what time another try may do better; none when only another request can.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Policy | Self::Outdated | Self::Busy => Some(Duration::from_secs(2)),
            Self::Unreachable | Self::Slow | Self::TooFewShards | Self::NameEnded => Some(Duration::from_secs(5)),
            _ => None,
        }
    }

    /// Returns how long a viewer may remember the answer.
    #[must_use]
    pub fn time_to_live(&self) -> Duration {
        match self {
            Self::Label(_) | Self::Erased => Duration::from_secs(300),
            Self::Path => Duration::from_secs(5),
            // A list is mended within the time that it takes to hear of it.
            Self::Blocked { .. } => Duration::from_secs(60),
            _ => Duration::ZERO,
        }
    }

    /// Returns what a person who is shown the answer can do; none where the fault itself says it.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Label(_) | Self::Request { .. } | Self::Unknown => {
                Some("Ask whoever gave you the address to send it again.")
            }
            Self::Path => Some("Look at the address without its path."),
            Self::Erased => Some("Ask its owner whether it lies elsewhere now."),
            Self::Denied { status: 451 } => {
                Some("Its owner refuses it where you are, because of the law. Ask the owner.")
            }
            Self::Denied { .. } => {
                Some("If you were given a signed link, use all of it; it may also have ended. Else ask the owner.")
            }
            Self::Blocked { .. } => Some("Ask whoever runs this network for the reason."),
            fault if fault.retry_after().is_some() => Some("Try again in a few seconds."),
            _ => None,
        }
    }

    /// Returns whether the connection must end with the answer, because what follows on it cannot be trusted.
    #[must_use]
    pub fn closes(&self) -> bool {
        matches!(self, Self::Request { .. } | Self::Method | Self::HeaderTooLarge)
    }

    /// Returns the error type of RFC 9209 section 2.3 when storage was at fault.
    #[must_use]
    pub fn proxy_error(&self) -> Option<&'static str> {
        match self {
            Self::Damaged | Self::TooFewShards => Some("http_response_incomplete"),
            Self::Slow => Some("connection_timeout"),
            Self::Unreachable => Some("destination_unavailable"),
            _ => None,
        }
    }
}

/// Whose fault a failed read is.
impl From<&ReadError> for Fault {
    fn from(error: &ReadError) -> Self {
        match error {
            ReadError::NotFound { .. } => Self::Unknown,
            ReadError::Unavailable { .. } => Self::Unreachable,
            ReadError::Old { .. } => Self::Outdated,
            ReadError::Open(OpenError::Erased) => Self::Erased,
            // Every node that answered has something else there, as for the label of an object with the mode of a name.
            ReadError::Open(OpenError::Mismatch | OpenError::Capability | OpenError::Locator | OpenError::Seal(_)) => {
                Self::Unknown
            }
            // Another node may have the right record, and strips may come back; what was broken when stored stays so.
            ReadError::Open(_) | ReadError::Lost { .. } => Self::TooFewShards,
            ReadError::TooSlow { .. } => Self::Slow,
            ReadError::Ending { .. } => Self::Busy,
            ReadError::Decode(_) => Self::Damaged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_cannot_dress_a_refusal_as_success() {
        for (status, sent) in [(451, 451), (200, 403), (302, 403), (0, 403), (9999, 403), (503, 503)] {
            assert_eq!(Fault::Denied { status }.status().as_u16(), sent, "{status}");
        }
    }

    #[test]
    fn names_die_only_when_we_know_they_are_wrong() {
        assert_eq!(Fault::Label(LabelError::Check).name_answer(), NameAnswer::NoSuchName);
        assert_eq!(Fault::Unknown.name_answer(), NameAnswer::NoSuchName);
        for fault in [Fault::Slow, Fault::Unreachable, Fault::Policy, Fault::Erased] {
            assert_eq!(fault.name_answer(), NameAnswer::Edges);
        }
    }
}
