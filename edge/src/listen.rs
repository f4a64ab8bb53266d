//! What all that listen share: sockets, the bounds of connections, the certificate. It lies below the doors because DNS,
//! HTTP and the operator's port use it, and the node asks whether there is a certificate.

pub(crate) mod certificate;
pub(crate) mod connections;
pub(crate) mod sockets;
