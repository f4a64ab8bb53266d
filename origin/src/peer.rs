//! Who calls, by its certificate, and what each role may do. A table, so that it can be read at a glance.

use format::{NodeName, wire::Role};
use tokio_util::sync::CancellationToken;

/// The holder of a connection's verified certificate.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Its name.
    pub(crate) name: NodeName,
    /// Its role.
    pub(crate) role: Role,
    /// Cancelled when the connection has ended.
    pub(crate) gone: CancellationToken,
}

/// What a caller may want.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Read shards, records, policies, blobs, nodes, changes, health and metrics.
    Read,
    /// Store shards, records, leases, policies and blobs. What owners sign is verified on top.
    Write,
    /// Announce itself as a node.
    Announce,
    /// Read and write the notes of a zone's edges.
    Share,
    /// List the locators of all owners.
    ListAll,
}

impl Peer {
    /// Returns whether the role allows the action. Edges answer viewers and hold nothing to store.
    #[must_use]
    pub(crate) fn may(&self, action: Action) -> bool {
        match (self.role, action) {
            (_, Action::Read | Action::Announce)
            | (Role::Twin | Role::Origin, Action::Write)
            | (Role::Edge, Action::Share | Action::ListAll) => true,
            (Role::Edge, Action::Write) | (Role::Twin | Role::Origin, Action::Share | Action::ListAll) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_read_and_write_nothing_but_their_notes() {
        let peer = |role| Peer { name: "n1".parse().unwrap(), role, gone: CancellationToken::new() };
        for role in [Role::Origin, Role::Edge, Role::Twin] {
            assert!(peer(role).may(Action::Read) && peer(role).may(Action::Announce));
            assert_eq!(peer(role).may(Action::Write), role != Role::Edge);
            assert_eq!(peer(role).may(Action::Share), role == Role::Edge);
            assert_eq!(peer(role).may(Action::ListAll), role == Role::Edge);
        }
    }
}
