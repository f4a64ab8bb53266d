//! The restore of docs/operate/backup.md, with its own commands: the catalog is lost, an older backup replaces it, the
//! disks supply what the backup lacks, and edges that have seen newer state forget it.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use cluster::{
    curl,
    keeper::{Keeper, Kept},
    processes::{ProcessOptions, Processes},
};
use fastrand::Rng;
use format::Profile;
use twin::{NameChange, NameTerms, PolicySource, PutOptions, Renamed, Tenure};

use crate::load::{QUICK, start, until};

const SEED: u64 = 6;
const ORIGINS: usize = 6;
/// What an edge logs when it forgets everything.
const FORGETS: &str = "change feed begins anew";

struct Drill {
    processes: Processes,
    keeper: Arc<Keeper>,
}

impl Drill {
    async fn new() -> Self {
        println!("seed {SEED}");
        let limits = format!("{QUICK}erase_grace_seconds = 1\n");
        let processes = start(ProcessOptions { edges: 2, limits, ..ProcessOptions::default() }).await;
        let keeper = Arc::new(Keeper::open(&processes, Profile::SmallCluster).await.unwrap());
        Self { processes, keeper }
    }

    /// Reads an object at an edge. Returns the status, whether the bytes are exact, and the cache status.
    async fn read(&self, edge: usize, kept: &Kept) -> (u16, bool, String) {
        let body = PathBuf::from(self.processes.path("body"));
        let url = format!("http://{}.localhost:{}/", kept.label, self.processes.http.port());
        let answer = curl(self.processes.doors()[edge], &url, &body, &[]).await.unwrap();
        let exact = fs::read(&body).is_ok_and(|bytes| blake3::hash(&bytes) == kept.hash);
        (answer.status, exact, answer.field("cache-status").unwrap_or_default().to_owned())
    }

    async fn is_served(&self, kept: &Kept) {
        for edge in 0..2 {
            let (status, exact, _) = self.read(edge, kept).await;
            assert_eq!((status, exact), (200, true), "{} at edge {edge}", kept.label.capability().locator());
        }
    }

    async fn until_refused(&self, kept: &Kept, with: u16) {
        for edge in 0..2 {
            until("the refusal", async || self.read(edge, kept).await.0 == with).await;
        }
    }

    async fn remove(&self, kept: &Kept) {
        self.keeper.twin.remove(&kept.label.capability().locator()).await.unwrap();
    }

    async fn point(&self, change: NameChange) -> Renamed {
        self.keeper.twin.point("site", &change, NameTerms::default()).await.unwrap()
    }

    /// Restarts an edge, which has seen nothing then.
    fn restart_edge(&mut self, edge: usize) {
        self.processes.kill_node(ORIGINS + edge).unwrap();
        self.processes.start_node(ORIGINS + edge).unwrap();
    }

    async fn publish(&self, config: &str) -> u64 {
        let link = format!("[[link]]\nuse = \"geo\"\n{config}\n");
        let source = PolicySource::parse(&link, self.processes.path("").as_ref()).unwrap();
        self.keeper.twin.publish(&"places".parse().unwrap(), &source).await.unwrap().manifest.sequence
    }

    async fn put_under_policy(&self) -> Kept {
        let path = PathBuf::from(self.processes.path("under-policy"));
        let bytes = vec![7; 300_000];
        fs::write(&path, &bytes).unwrap();
        let tenure = Tenure { policy: "places".parse().unwrap(), profile: Profile::SmallCluster, ..Tenure::default() };
        let options = PutOptions { tenure, ..PutOptions::default() };
        let progress: Arc<dyn twin::Progress> = Arc::new(());
        let stored = self.keeper.twin.put(&path, &options, &progress).await.unwrap();
        Kept { label: stored.label, hash: blake3::hash(&bytes), length: bytes.len() as u64 }
    }

    fn back_up(&self) {
        let (catalog, backup) = (self.processes.path("catalog.sqlite"), self.processes.path("backup.sqlite"));
        let output = Command::new("sqlite3").args([&catalog, &format!("VACUUM INTO '{backup}'")]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Kills all origins, like a power cut, and deletes their catalog.
    fn lose_catalog(&mut self) {
        (0..ORIGINS).for_each(|number| self.processes.kill_node(number).unwrap());
        for end in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(self.processes.path(&format!("catalog.sqlite{end}")));
        }
    }

    /// Rebuilds the catalog from all disks and starts the origins.
    fn rebuild(&mut self) {
        let configs: Vec<String> = (0..ORIGINS).map(|number| self.processes.path(&format!("o{number}.toml"))).collect();
        let mut words = vec!["catalog", "rebuild"];
        configs.iter().for_each(|config| words.extend(["--config", config]));
        println!("{}", self.processes.evernear(&words).unwrap());
        self.start();
    }

    fn start(&mut self) {
        for number in 0..ORIGINS {
            self.processes.start_node(number).unwrap();
        }
    }

    /// Returns how often an edge has forgotten everything.
    fn forgot(&self, edge: usize) -> usize {
        fs::read_to_string(self.processes.path(&format!("e{edge}.log"))).unwrap().matches(FORGETS).count()
    }
}

/// Takes 30 s: a cluster of eight processes is started twice, and erasures wait for their grace period.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_restore_all_that_was_stored_is_served_and_nothing_that_was_erased() {
    let mut drill = Drill::new().await;
    let mut rng = Rng::with_seed(SEED);
    let mut put = async |drill: &Drill, length| drill.keeper.put(&mut rng, length).await.unwrap();
    let (kept, small, erased) = (put(&drill, 700_000).await, put(&drill, 900).await, put(&drill, 300_000).await);
    drill.publish("receive-deny = [\"KP\"]").await;
    let governed = drill.put_under_policy().await;
    let name = drill.point(NameChange::New(kept.label.clone())).await.label;
    let named = |object: &Kept| Kept { label: name.clone(), ..object.clone() };
    drill.is_served(&named(&kept)).await;
    drill.back_up();
    let (later, brief) = (put(&drill, 1_500_000).await, put(&drill, 300_000).await);
    drill.point(NameChange::Move(small.label.clone())).await;
    assert_eq!(drill.point(NameChange::Move(later.label.clone())).await.entry.tenure.version, 3);
    until("the name moves", async || drill.read(0, &named(&later)).await.1 && drill.read(1, &named(&later)).await.1)
        .await;
    for object in [&kept, &small, &erased, &later, &brief, &governed] {
        drill.is_served(object).await;
    }
    for object in [&erased, &brief] {
        drill.remove(object).await;
        drill.until_refused(object, 410).await;
    }
    // Edges see versions of this policy that the backup does not have.
    drill.publish("receive-allow = [\"KP\"]").await;
    let seen = drill.publish("receive-allow = [\"KP\", \"JP\"]").await;
    drill.until_refused(&governed, 451).await;

    let forgot = [0, 1].map(|edge| drill.forgot(edge));
    drill.lose_catalog();
    assert!(drill.read(0, &kept).await.2.ends_with("hit"), "what is held is served without origins");
    fs::copy(drill.processes.path("backup.sqlite"), drill.processes.path("catalog.sqlite")).unwrap();
    drill.rebuild();
    for edge in [0, 1] {
        until("the edge forgets", async || drill.forgot(edge) > forgot[edge]).await;
    }
    let (status, exact, cache) = drill.read(0, &kept).await;
    assert!(
        status == 200 && exact && cache.ends_with("hit"),
        "{status} {cache}: a locator has one content, so blocks stay"
    );
    for object in [&kept, &small, &later, &named(&later)] {
        drill.is_served(object).await;
    }
    for object in [&erased, &brief] {
        drill.until_refused(object, 410).await;
    }
    drill.until_refused(&governed, 451).await;

    // Owners publish their policies again, and edges follow, whatever versions they have seen. Three versions within
    // one second put the version ahead of the clock, so the test first waits until the clock is ahead again.
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    until("the clock is past what was seen", async || now() > seen).await;
    let again = drill.publish("receive-deny = [\"KP\"]").await;
    assert!(again > seen, "version {again} after {seen}");
    for edge in [0, 1] {
        until("the policy published again", async || drill.read(edge, &governed).await.0 == 200).await;
    }
    // The change feed continues: what is stored and erased from now on reaches edges, including one that starts now.
    let new = put(&drill, 400_000).await;
    drill.restart_edge(1);
    for object in [&kept, &small, &later, &new, &named(&later)] {
        drill.is_served(object).await;
    }
    // Its owner goes on from there, and knows of nothing that was lost.
    let moved = drill.point(NameChange::Move(new.label.clone())).await;
    assert_eq!((moved.behind, moved.entry.tenure.version), (None, 4));
    until("the name moves", async || drill.read(0, &named(&new)).await.1 && drill.read(1, &named(&new)).await.1).await;
    for object in [&later, &new] {
        drill.remove(object).await;
    }
    for object in [&erased, &brief, &later, &new] {
        drill.until_refused(object, 410).await;
    }
    assert!(drill.keeper.is_exact(&kept).await.unwrap());
}

/// An operator forgets the rebuild: the backup alone replaces the catalog. An object that all disks know to be erased
/// stays erased all the same. If one disk had not heard of the erasure, only the rebuild makes sure. Takes 15 s: a
/// cluster of eight processes is started three times.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_catalog_alone_brings_nothing_back_that_all_disks_know_to_be_erased() {
    let mut drill = Drill::new().await;
    let mut rng = Rng::with_seed(SEED + 1);
    let kept = drill.keeper.put(&mut rng, 700_000).await.unwrap();
    // The object has six blocks, so all four data columns and both parity columns have strips, and every origin has a
    // copy of the record.
    let erased = drill.keeper.put(&mut rng, 1_500_000).await.unwrap();
    let moved_to = drill.keeper.put(&mut rng, 900).await.unwrap();
    let name = drill.point(NameChange::New(kept.label.clone())).await.label;
    let named = |object: &Kept| Kept { label: name.clone(), ..object.clone() };
    drill.is_served(&named(&kept)).await;
    drill.back_up();
    drill.point(NameChange::Move(moved_to.label.clone())).await;
    let is_moved = async |drill: &Drill, edge| drill.read(edge, &named(&moved_to)).await.1;
    until("the name moves", async || is_moved(&drill, 0).await && is_moved(&drill, 1).await).await;
    for object in [&kept, &erased] {
        drill.is_served(object).await;
    }
    let name = erased.label.capability().locator().to_string();
    let folders: Vec<PathBuf> = (0..ORIGINS).map(|number| drill.processes.data_dir(number).join("records")).collect();
    let copies = || folders.iter().map(|folder| fs::read(folder.join(&name[..2]).join(&name)).ok());
    until("all disks have the record", async || copies().all(|copy| copy.is_some())).await;
    let before: Vec<Option<Vec<u8>>> = copies().collect();
    drill.remove(&erased).await;
    drill.until_refused(&erased, 410).await;
    until("all disks know", async || copies().zip(&before).all(|(copy, before)| copy != *before)).await;
    drill.lose_catalog();
    fs::copy(drill.processes.path("backup.sqlite"), drill.processes.path("catalog.sqlite")).unwrap();
    let forgot = [0, 1].map(|edge| drill.forgot(edge));
    drill.start();
    for edge in [0, 1] {
        until("the edge forgets", async || drill.forgot(edge) > forgot[edge]).await;
    }
    drill.is_served(&kept).await;
    drill.is_served(&named(&moved_to)).await;
    drill.restart_edge(1);
    drill.is_served(&named(&moved_to)).await;
    let renewed = drill.point(NameChange::Renew).await;
    assert_eq!((renewed.behind, renewed.entry.tenure.version), (None, 3));
    drill.until_refused(&erased, 410).await;
    // It does not come back either when the rebuild is done afterwards.
    (0..ORIGINS).for_each(|number| drill.processes.kill_node(number).unwrap());
    drill.rebuild();
    drill.is_served(&kept).await;
    drill.until_refused(&erased, 410).await;
    assert!(drill.keeper.is_exact(&erased).await.is_err());
}
