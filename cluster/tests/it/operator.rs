//! The operator's commands on a damaged cluster: health of objects, nodes, and repairs that cannot be done.

use std::{fs, sync::Arc, time::Duration};

use cluster::{
    keeper::Keeper,
    processes::{ProcessOptions, Processes, read_stored},
};
use format::{Label, Locator, Profile};
use serde_json::Value;
use sqlx::{Connection, SqliteConnection};
use testing::noise;

use crate::load::{QUICK, start, until};

const ORIGINS: u8 = 6;
const SPARE: usize = 6;

struct Scene {
    processes: Processes,
    keeper: Arc<Keeper>,
}

impl Scene {
    async fn new() -> Self {
        Self::of(start(ProcessOptions { limits: QUICK.to_owned(), ..ProcessOptions::default() }).await).await
    }

    /// Starts six origins. A seventh does not run yet, and no node knows it.
    async fn with_spare() -> Self {
        let origins = ORIGINS + 1;
        let mut processes =
            start(ProcessOptions { origins, limits: QUICK.to_owned(), ..ProcessOptions::default() }).await;
        (0..=SPARE).for_each(|number| processes.kill_node(number).unwrap());
        change_catalog(&processes, "DELETE FROM nodes WHERE name = 'o6'").await;
        for number in 0..SPARE {
            processes.start_node(number).unwrap();
        }
        Self::of(processes).await
    }

    async fn of(processes: Processes) -> Self {
        let keeper = Arc::new(Keeper::open(&processes, Profile::SmallCluster).await.unwrap());
        Self { processes, keeper }
    }

    /// Stores a file and returns its label.
    fn put(&self, bytes: &[u8]) -> String {
        let path = self.processes.path("file");
        fs::write(&path, bytes).unwrap();
        let stored = read_stored(&self.processes.evernear(&["put", &path, "--json"]).unwrap()).unwrap();
        stored.authority.split('.').next().unwrap().to_owned()
    }

    fn ask(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.processes.evernear(&[words, &["--json"]].concat()).unwrap()).unwrap()
    }

    /// Returns the exit code and the standard error of a command that fails.
    fn refused(&self, words: &[&str]) -> (i32, String) {
        let output = self.processes.command(self.processes.program(), words).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    /// Ends the back-off pauses between repair attempts at once.
    async fn hurry(&self) {
        change_catalog(&self.processes, "UPDATE repairs SET not_before_ms = 0 WHERE holder IS NULL").await;
    }

    async fn until_given_up(&self) {
        until("a repair is given up", async || {
            self.hurry().await;
            self.keeper.operator.repairs().await.is_ok_and(|repairs| repairs.status.dead == 1)
        })
        .await;
    }
}

async fn change_catalog(processes: &Processes, statement: &'static str) {
    let url = format!("sqlite://{}", processes.path("catalog.sqlite"));
    let mut catalog = SqliteConnection::connect(&url).await.unwrap();
    sqlx::query(statement).execute(&mut catalog).await.unwrap();
    catalog.close().await.unwrap();
}

fn locator(label: &str) -> Locator {
    label.parse::<Label>().unwrap().capability().locator()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_health_of_objects_and_nodes_is_as_it_is() {
    let mut scene = Scene::new().await;
    let (film, note) = (scene.put(&noise(1 << 20)), scene.put(b"a note inside its record"));
    let whole = scene.ask(&["object", "health", &film]);
    assert_eq!((&whole["margin"], &whole["redundancy"], &whole["repair"]), (&2.into(), &"4+2".into(), &Value::Null));
    assert_eq!(scene.ask(&["object", "health", &locator(&film).to_string()]), whole, "a locator is enough");
    let columns = whole["columns"].as_array().unwrap();
    assert!(columns.len() == 6 && columns.iter().all(|column| column["state"] == "healthy"), "{whole}");
    let inline = scene.ask(&["object", "health", &note]);
    assert_eq!((&inline["redundancy"], inline["columns"].as_array().unwrap().len()), (&Value::Null, 0));
    let text = scene.processes.evernear(&["object", "health", &note]).unwrap();
    assert!(text.contains("lies inside its record"), "{text}");

    let nodes = scene.ask(&["node", "ls"]);
    let named = |role: &str| -> Vec<String> {
        let of_role = nodes.as_array().unwrap().iter().filter(|node| node["role"] == role);
        of_role.map(|node| node["name"].as_str().unwrap().to_owned()).collect()
    };
    let mut origins = named("origin");
    origins.sort();
    assert_eq!((origins, named("edge")), ((0..6).map(|it| format!("o{it}")).collect(), vec!["e0".to_owned()]));
    let text = scene.processes.evernear(&["node", "ls"]).unwrap();
    assert!(text.lines().count() == 8 && text.lines().skip(1).all(|line| line.contains("active")), "{text}");

    // No origin has the first object, and the second is not a name. The errors repeat nothing.
    let nobodys = format!("{:064x}", 7);
    let (code, said) = scene.refused(&["object", "health", &nobodys]);
    assert!(code == 3 && said.contains("locator"), "{code} {said}");
    let (code, said) = scene.refused(&["object", "health", "no-label"]);
    assert!(code == 2 && said.contains("neither a label nor a locator"), "{code} {said}");

    // First three of six shards are lost with their nodes, then all nodes.
    for number in [0, 1, 2] {
        scene.processes.kill_node(number).unwrap();
    }
    // The configuration names all nodes, so whichever is up is asked.
    until("the margin falls", async || scene.ask(&["object", "health", &film])["margin"] == -1).await;
    let text = scene.processes.evernear(&["object", "health", &film]).unwrap();
    assert!(text.contains("cannot be read: 1 shard too few are up"), "{text}");
    for number in 3..6 {
        scene.processes.kill_node(number).unwrap();
    }
    for words in [&["object", "health", &film][..], &["node", "ls"], &["repair", "status"], &["repair", "retry"]] {
        let start = std::time::Instant::now();
        let (code, said) = scene.refused(words);
        assert!(code == 4 && said.contains("try: "), "{words:?}: {code} {said}");
        assert!(start.elapsed() < Duration::from_secs(60), "{words:?} took {:?}", start.elapsed());
    }
    for number in 0..6 {
        scene.processes.start_node(number).unwrap();
    }
    let margin = |answer: String| serde_json::from_str::<Value>(&answer).unwrap()["margin"].as_i64();
    until("all is well", async || {
        let asked = scene.processes.evernear(&["object", "health", &film, "--json"]);
        asked.is_ok_and(|answer| margin(answer) == Some(2))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_that_cannot_be_done_is_given_up_said_so_and_tried_again_when_told() {
    let scene = Scene::new().await;
    let film = scene.put(&noise(1 << 20));
    let idle = scene.ask(&["repair", "status"]);
    assert_eq!((&idle["waiting"], &idle["dead"], &idle["given_up"]), (&0.into(), &0.into(), &Value::Array(vec![])));
    assert_eq!(scene.ask(&["repair", "retry"])["objects"], 0);

    // All nodes belong to one operator, so this cap cannot be satisfied.
    scene.ask(&["renew", &film, "--at-most", "operator=5"]);
    let health = scene.ask(&["object", "health", &film]);
    assert_eq!((&health["repair"], &health["margin"]), (&"place".into(), &2.into()));
    scene.until_given_up().await;
    let status = scene.ask(&["repair", "status"]);
    let given_up = &status["given_up"][0];
    assert_eq!((&given_up["object"], &given_up["attempts"]), (&health["object"], &8.into()), "{status}");
    assert!(given_up["error"].as_str().unwrap().contains("operator"), "the error says which cap: {given_up}");
    let text = scene.processes.evernear(&["repair", "status"]).unwrap();
    assert!(text.contains("evernear repair retry") && text.contains("nothing waits"), "{text}");

    assert_eq!(scene.ask(&["repair", "retry"])["objects"], 1);
    scene.until_given_up().await;
    assert_eq!(scene.ask(&["repair", "status"])["given_up"][0]["attempts"], 8, "as often as the first time");
    // Once the owner asks for something possible, nothing is left to repair, and no repair is given up any more.
    scene.ask(&["renew", &film, "--at-most", "operator=6"]);
    until("nothing is given up", async || scene.ask(&["repair", "status"])["dead"] == 0).await;
    assert_eq!(scene.ask(&["object", "health", &film])["repair"], Value::Null);
}

/// A repair that was given up for another reason does not keep an object that loses shards from being repaired.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_up_is_repaired_when_it_gets_worse() {
    let mut scene = Scene::new().await;
    let film = scene.put(&noise(1 << 20));
    scene.ask(&["renew", &film, "--at-most", "operator=5"]);
    scene.until_given_up().await;
    let before = scene.ask(&["repair", "status"])["given_up"][0]["error"].clone();
    scene.processes.kill_node(4).unwrap();
    until("it is tried again for the lost shard", async || {
        scene.hurry().await;
        let status = scene.ask(&["repair", "status"]);
        status["waiting"] == 1 || status["running"] == 1 || status["given_up"][0]["error"] != before
    })
    .await;
}

/// Two of six origins are lost for ever. Repair waits for a seventh, even if it had given up before that came, and then
/// repairs as much as one node can hold.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_new_takes_what_was_given_up() {
    let mut scene = Scene::with_spare().await;
    let film = scene.put(&noise(1 << 20));
    for number in [2, 5] {
        scene.processes.kill_node(number).unwrap();
    }
    until("both are missed", async || scene.ask(&["object", "health", &film])["margin"] == 0).await;
    scene.until_given_up().await;
    scene.processes.start_node(SPARE).unwrap();
    until("the new node takes a shard", async || scene.ask(&["object", "health", &film])["margin"] == 1).await;
}
