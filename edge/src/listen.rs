//! What all that listen share: sockets, the bounds of connections, the certificate. It lies below the doors because
//! DNS, HTTP and the operator's port use it, and the node asks whether there is a certificate.

pub(crate) mod certificate;
pub(crate) mod connections;
pub(crate) mod sockets;

use std::time::Duration;

/// After a failed accept (out of descriptors) the next try waits, or the loop would spin.
pub(crate) const ACCEPT_RETRY: Duration = Duration::from_millis(50);
