//! Keeps new what a long command, or a twin that runs, knows: the list of nodes, which move, come and go; and its own
//! certificate, which is renewed before it ends.

use std::{sync::Arc, time::Duration};

use client::{IdentityFiles, Membership, Topology, Transport};
use format::Place;
use tokio::{task::JoinHandle, time::sleep};

use crate::learn::refresh;

/// Between two looks at the list. A node that is gone is noticed after this and its silence.
const EVERY: Duration = Duration::from_secs(60);

/// Between two looks at the own certificate. It is renewed months before it ends.
const REREAD_EVERY: Duration = Duration::from_secs(3600);

/// The task that asks. It ends when this is dropped.
pub(crate) struct Refresh(JoinHandle<()>);

impl Refresh {
    /// Asks the nearest origins each minute.
    pub(crate) fn start(transport: Arc<dyn Transport>, topology: Arc<Topology>, here: Place) -> Self {
        Self(tokio::spawn(async move {
            loop {
                sleep(EVERY).await;
                // Who failed was logged.
                let _ = refresh(&*transport, &topology, &topology.origins_by_distance(&here)).await;
            }
        }))
    }
}

impl Refresh {
    /// Takes up the certificate that the files have, each hour. A command that ends sooner reads them once.
    pub(crate) fn of_identity(membership: Arc<Membership>, files: IdentityFiles) -> Self {
        Self(tokio::spawn(async move {
            sleep(REREAD_EVERY).await;
            membership.follow_files(files, REREAD_EVERY).await;
        }))
    }
}

impl Drop for Refresh {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use client::tls::Authority;
    use format::wire::Role;
    use testing::{MemoryTransport, node, place};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_node_that_comes_is_known_within_a_minute_though_the_nearest_is_away() {
        let known = [node("o1", place("z1")), node("o2", place("z1"))];
        let all = [&known[..], &[node("o3", place("z2"))]].concat();
        let memory = Arc::new(MemoryTransport::new(&all));
        let topology = Arc::new(Topology::new(known.to_vec()));
        memory.remove(&topology.origins_by_distance(&place("z1"))[0]);
        let task = Refresh::start(memory, topology.clone(), place("z1"));
        assert_eq!(topology.origins().len(), 2);
        sleep(EVERY + Duration::from_secs(1)).await;
        assert_eq!(topology.origins().len(), 3);
        drop(task);
    }

    #[tokio::test(start_paused = true)]
    async fn a_certificate_that_is_renewed_is_taken_up_within_two_hours() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let files = IdentityFiles { authority: file("a.pem"), certificate: file("me.pem"), key: file("me.key") };
        let authority = Authority::create().unwrap();
        client::keep(&files.authority, authority.certificate_pem().as_bytes()).unwrap();
        let issue = || {
            let issued = authority.issue(&"me".parse().unwrap(), Role::Twin).unwrap();
            client::keep(&files.key, issued.key.as_bytes()).unwrap();
            client::keep(&files.certificate, issued.certificate.as_bytes()).unwrap();
            files.read().unwrap()
        };
        let membership = Membership::new(&issue(), None).unwrap();
        let task = Refresh::of_identity(membership.clone(), files.clone());
        let renewed = issue();
        sleep(2 * REREAD_EVERY + Duration::from_secs(1)).await;
        assert!(!membership.renew(&renewed).unwrap(), "it is in use already");
        drop(task);
    }
}
