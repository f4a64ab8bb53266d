//! Who calls, by its certificate, and what each role may do. A table, so that it can be read at a glance.

use format::{NodeName, wire::Role};

/// The holder of a connection's verified certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Its name.
    pub(crate) name: NodeName,
    /// Its role.
    pub(crate) role: Role,
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
}

impl Peer {
    /// Returns whether the role allows the action. Edges answer viewers and hold nothing to store.
    #[must_use]
    pub(crate) fn may(&self, action: Action) -> bool {
        match (self.role, action) {
            (_, Action::Read | Action::Announce) | (Role::Twin | Role::Origin, Action::Write) => true,
            (Role::Edge, Action::Write) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_read_and_never_write() {
        let peer = |role| Peer { name: "n1".parse().unwrap(), role };
        for role in [Role::Origin, Role::Edge, Role::Twin] {
            assert!(peer(role).may(Action::Read) && peer(role).may(Action::Announce));
            assert_eq!(peer(role).may(Action::Write), role != Role::Edge);
        }
    }
}
