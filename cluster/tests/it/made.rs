//! A network for one test, files to store on it, and reads through its edges.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use cluster::{Answer, Network, NetworkOptions, curl};
use tempfile::TempDir;
use twin::{PutOptions, Stored, Tenure};

pub(crate) struct Made {
    pub(crate) network: Network,
    pub(crate) folder: TempDir,
}

impl Made {
    pub(crate) async fn new() -> Self {
        Self::with(&NetworkOptions::default()).await
    }

    pub(crate) async fn with(options: &NetworkOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let network = Network::start(folder.path(), options).await.unwrap();
        Self { network, folder }
    }

    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) async fn put(&self, path: &std::path::Path) -> Stored {
        self.put_as(path, self.network.tenure()).await
    }

    pub(crate) async fn put_as(&self, path: &std::path::Path, tenure: Tenure) -> Stored {
        let progress: Arc<dyn twin::Progress> = Arc::new(());
        self.network.twin.put(path, &PutOptions { tenure, ..PutOptions::default() }, &progress).await.unwrap()
    }

    /// Reads a path under a label at an edge.
    pub(crate) async fn get(&self, edge: usize, stored: &Stored, path: &str, more: &[&str]) -> (Answer, Vec<u8>) {
        let body = self.folder.path().join("body");
        let url = self.network.url(&stored.label, path);
        let answer = curl(self.network.edges[edge].http, &url, &body, more).await.unwrap();
        (answer, std::fs::read(&body).unwrap_or_default())
    }

    /// Reads until the answer has this status, for 10 s at most.
    pub(crate) async fn until(&self, edge: usize, stored: &Stored, status: u16, more: &[&str]) -> Duration {
        let start = Instant::now();
        loop {
            let (answer, _) = self.get(edge, stored, "", more).await;
            if answer.status == status {
                return start.elapsed();
            }
            assert!(start.elapsed() < Duration::from_secs(10), "still {} where {status} was expected", answer.status);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
