//! Garage, which stores are measured beside: three nodes in three zones, three copies, all else as its manual
//! recommends.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use testing::free_port;

use crate::{
    stores::Side,
    timed::{curl, parallel},
};

const NODES: usize = 3;
const BUCKET: &str = "bench";
const START_DEADLINE: Duration = Duration::from_secs(60);
/// The secret that the nodes share. They listen on loopback alone.
const RPC_SECRET: &str = "0000000000000000000000000000000000000000000000000000000000000001";

/// Whether a node waits until the disk has what it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fsync {
    /// Garage's default.
    Off,
    /// Metadata and data.
    On,
}

/// A cluster that runs. Dropping this kills it.
pub(crate) struct Garage {
    folder: PathBuf,
    nodes: Vec<Node>,
    /// The access key of the bucket and its secret, as curl's `--user` wants them.
    key: String,
}

struct Node {
    config: PathBuf,
    s3: SocketAddr,
    child: Child,
}

impl Garage {
    /// Starts the nodes in a new folder and makes the bucket.
    pub(crate) fn start(folder: PathBuf, fsync: Fsync) -> Result<Self> {
        fs::create_dir(&folder)?;
        let mut it = Self { folder, nodes: Vec::new(), key: String::new() };
        for number in 0..NODES {
            let node = Node::start(&it.folder.join(number.to_string()), fsync)?;
            it.nodes.push(node);
        }
        let first = &it.nodes[0];
        for (number, node) in it.nodes.iter().enumerate() {
            let id = node.run(&["node", "id", "--quiet"])?;
            let (key, _) = id.trim().split_once('@').context("the id of a node has its address")?;
            first.run(&["node", "connect", id.trim()])?;
            first.run(&["layout", "assign", key, "--zone", &format!("z{number}"), "--capacity", "100GB"])?;
        }
        first.run(&["layout", "apply", "--version", "1"])?;
        wait("Garage is not healthy", || Ok(first.json(&["GetClusterHealth"])?["status"] == "healthy"))?;
        let key = first.json(&["CreateKey", "{}"])?;
        let field = |name: &str| key[name].as_str().with_context(|| format!("a new key has {name}"));
        let (id, secret) = (field("accessKeyId")?, field("secretAccessKey")?);
        first.run(&["bucket", "create", BUCKET])?;
        first.run(&["bucket", "allow", BUCKET, "--read", "--write", "--key", id])?;
        it.key = format!("{id}:{secret}");
        Ok(it)
    }

    /// Returns curl with what signs a request. It does not hash the body, so that is not in its CPU time. It asks
    /// before it sends a body (`Expect: 100-continue`): without that field the server refuses what curl 7.88 signs.
    fn client(&self) -> Command {
        let mut curl = curl();
        curl.args(["--aws-sigv4", "aws:amz:garage:s3", "--user", &self.key]);
        curl.args(["--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]);
        curl
    }

    fn url(&self, node: usize, file: &Path) -> Result<String> {
        let name = file.file_name().context("a file has a name")?.to_string_lossy();
        Ok(format!("http://{}/{BUCKET}/{name}", self.nodes[node].s3))
    }
}

impl Side for Garage {
    fn servers(&self) -> Vec<u32> {
        self.nodes.iter().map(|node| node.child.id()).collect()
    }

    fn folders(&self) -> Vec<PathBuf> {
        vec![self.folder.clone()]
    }

    /// Stores the file by one request.
    fn put(&self, file: &Path) -> Result<Command> {
        let mut curl = self.client();
        curl.arg("--upload-file").arg(file).args(["--output", "/dev/null", &self.url(0, file)?]);
        Ok(curl)
    }

    fn get(&self, file: &Path, _put: &str) -> Result<Command> {
        let mut curl = self.client();
        curl.args(["--output", "/dev/null", "--write-out", "%{size_download}", &self.url(0, file)?]);
        Ok(curl)
    }

    /// The nodes in turn.
    fn put_folder(&self, folder: &Path, clients: u32) -> Result<Command> {
        let url = |number, file: &Path| self.url(number % NODES, file);
        parallel(self.client(), folder, &self.folder.join("transfers"), clients, url)
    }
}

impl Drop for Garage {
    fn drop(&mut self) {
        for Node { child, .. } in &mut self.nodes {
            // If it cannot be killed, it has already ended.
            let _ = (child.kill(), child.wait());
        }
    }
}

impl Node {
    fn start(folder: &Path, fsync: Fsync) -> Result<Self> {
        fs::create_dir(folder)?;
        let local = || SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let (rpc, s3, config) = (local(), local(), folder.join("garage.toml"));
        let is_on = fsync == Fsync::On;
        fs::write(
            &config,
            format!(
                "metadata_dir = {:?}\ndata_dir = {:?}\ndb_engine = \"lmdb\"\nreplication_factor = 3\n\
                 metadata_fsync = {is_on}\ndata_fsync = {is_on}\nrpc_bind_addr = \"{rpc}\"\n\
                 rpc_public_addr = \"{rpc}\"\nrpc_secret = \"{RPC_SECRET}\"\n\
                 [s3_api]\ns3_region = \"garage\"\napi_bind_addr = \"{s3}\"\n",
                folder.join("meta"),
                folder.join("data"),
            ),
        )?;
        let log = File::create(folder.join("log"))?;
        let mut server = Command::new("garage");
        server.arg("--config").arg(&config).arg("server").stdin(Stdio::null());
        let child = server.stdout(log.try_clone()?).stderr(log).spawn();
        let child = child.context("garage does not start; `./x setup --bench` builds it")?;
        let it = Self { config, s3, child };
        wait("a node of Garage does not listen", || Ok(TcpStream::connect(it.s3).is_ok()))?;
        Ok(it)
    }

    /// Runs a command of Garage's and returns what it printed.
    fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new("garage").arg("--config").arg(&self.config).args(arguments).output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "garage {} failed: {errors}", arguments.join(" "));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Calls the administration: the name of the call, and what it asks for.
    fn json(&self, call: &[&str]) -> Result<serde_json::Value> {
        Ok(serde_json::from_str(&self.run(&[&["json-api"], call].concat())?)?)
    }
}

/// Waits until something is so.
pub(crate) fn wait(otherwise: &'static str, is_so: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + START_DEADLINE;
    while !is_so()? {
        ensure!(Instant::now() < deadline, otherwise);
        thread::park_timeout(Duration::from_millis(50));
    }
    Ok(())
}
