//! The node list that a program learned, kept over restarts, so that it finds the cluster while the nodes of its
//! configuration are away.
//!
//! The file is a hint and needs no seal: who answers at an address proves its name by TLS, and what nodes tell replaces
//! it.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use format::wire::{NodeEntry, Role};

use crate::{
    Topology,
    kept::{keep, read_kept},
};

/// Largest file, as large as the answer of a node that lists all nodes: some 3,000 of them.
const NODES_BYTES_MAX: usize = 1024 * 1024;

/// A file with the nodes last heard of.
#[derive(Debug)]
pub struct KnownNodes {
    path: PathBuf,
    /// What the file holds, as far as this process knows.
    kept: Mutex<Vec<NodeEntry>>,
}

impl KnownNodes {
    /// Names the file; it need not be there.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), kept: Mutex::default() }
    }

    /// Adds the kept nodes to a topology. Those that it has keep their address, since a configuration counts before a
    /// memory, and get the rest, of which a configuration says nothing. A file that does not read is logged and counts
    /// as none. Blocks on the disk.
    pub fn recall(&self, topology: &Topology) {
        let read = read_kept(&self.path, NODES_BYTES_MAX).and_then(|bytes| {
            bytes.map_or(Ok(Vec::new()), |bytes| {
                serde_json::from_slice::<Vec<NodeEntry>>(&bytes).map_err(io::Error::other)
            })
        });
        match read {
            Ok(nodes) => {
                let known = topology.snapshot();
                let with_memory = known.iter().map(|held| match nodes.iter().find(|node| node.name == held.name) {
                    Some(node) => NodeEntry { address: held.address.clone(), ..node.clone() },
                    None => held.clone(),
                });
                let more = nodes.iter().filter(|node| known.iter().all(|held| held.name != node.name)).cloned();
                topology.replace(with_memory.chain(more).collect());
                *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = nodes;
            }
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the kept node list does not read; only configured nodes are known");
            }
        }
    }

    /// Keeps the origins of a list, if they are others or elsewhere than those kept. Blocks on the disk only then.
    ///
    /// # Errors
    /// The error of the operating system.
    pub fn keep(&self, nodes: &[NodeEntry]) -> io::Result<()> {
        let still = |node: &NodeEntry| NodeEntry { capacity_bytes: 0, free_bytes: 0, load: 0, seen: 0, ..node.clone() };
        let nodes: Vec<NodeEntry> = nodes.iter().filter(|node| node.role == Role::Origin).map(still).collect();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if nodes.is_empty() || *kept == nodes {
            return Ok(());
        }
        let bytes = serde_json::to_vec(&nodes).map_err(io::Error::other)?;
        if bytes.len() > NODES_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        keep(&self.path, &bytes)?;
        *kept = nodes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn node(name: &str, address: &str, role: Role) -> NodeEntry {
        let place = format::Place {
            country: "BE".parse().unwrap(),
            region: "eu".into(),
            zone: "z".into(),
            operator: String::new(),
            datacentre: String::new(),
            latitude: 0.0,
            longitude: 0.0,
        };
        NodeEntry {
            name: name.parse().unwrap(),
            role,
            address: Some(address.parse().unwrap()),
            public: vec![],
            place,
            capacity_bytes: 5,
            free_bytes: 4,
            load: 3,
            draining: false,
            seen: 2,
        }
    }

    #[test]
    fn origins_learned_are_known_again_and_the_configuration_counts_before_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nodes.json");
        let learned = [
            node("o1", "192.0.2.1:1", Role::Origin),
            node("o2", "o2.example:1", Role::Origin),
            node("e1", "192.0.2.9:1", Role::Edge),
        ];
        KnownNodes::at(&path).keep(&learned).unwrap();
        let mut seed = node("o1", "192.0.2.7:1", Role::Origin);
        seed.place.zone = "unknown".into();
        let topology = Topology::new(vec![seed.clone()]);
        let known = KnownNodes::at(&path);
        known.recall(&topology);
        let names: Vec<_> = topology.snapshot().iter().map(|node| node.name.to_string()).collect();
        assert_eq!(names, ["o1", "o2"]);
        let held = topology.node(&seed.name).unwrap();
        assert_eq!((held.address, held.place.zone.as_str()), (seed.address, "z"));

        // What changes all the time is not written, a node that moved is.
        fs::remove_file(&path).unwrap();
        known.keep(&learned.each_ref().map(|node| NodeEntry { load: 9, seen: 9, ..node.clone() })).unwrap();
        assert!(!path.exists());
        known.keep(&[node("o1", "192.0.2.2:1", Role::Origin)]).unwrap();
        assert!(path.exists());
        known.keep(&[]).unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains("192.0.2.2:1"));
    }

    #[test]
    fn a_file_that_does_not_read_costs_nothing_but_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nodes.json");
        for bytes in [b"[{}]".to_vec(), b"\xff".to_vec(), vec![b' '; NODES_BYTES_MAX + 1]] {
            fs::write(&path, bytes).unwrap();
            let topology = Topology::new(vec![node("o1", "192.0.2.7:1", Role::Origin)]);
            KnownNodes::at(&path).recall(&topology);
            assert_eq!(topology.snapshot().len(), 1);
        }
    }
}
