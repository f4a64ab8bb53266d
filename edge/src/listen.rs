//! What all that listen share: sockets, the loop that accepts, the bounds of connections, the certificate. It lies
//! below the doors because DNS, HTTP, the other edges' and the operator's port use it, and the node asks whether there
//! is a certificate.

pub(crate) mod accept;
pub(crate) mod certificate;
pub(crate) mod connections;
pub(crate) mod sockets;
