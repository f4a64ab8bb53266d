//! What all that listen share: sockets, and the bounds of connections.

pub(crate) mod connections;
pub(crate) mod sockets;
