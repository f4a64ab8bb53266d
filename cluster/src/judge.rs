//! The judges: curl and dig, independent clients that send an edge what any viewer sends.

use std::{net::SocketAddr, path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::process::Command;

/// No request of the demo takes longer.
const DEADLINE: Duration = Duration::from_secs(120);

/// What curl got.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status; zero when the connection broke before a status came.
    pub status: u16,
    /// The header as it came.
    pub header: String,
    /// Seconds from start to end, as curl measured them.
    pub seconds: f64,
    /// Body bytes received.
    pub bytes: u64,
    /// Whether curl accepted the answer as complete: it has as many bytes as its header says, and no connection broke.
    pub ended_well: bool,
}

impl Answer {
    /// Returns a field of the header.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.header.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Fetches a URL from an edge with curl and writes the body to `body`. `more` are further arguments of curl.
///
/// # Errors
/// When curl is missing or takes too long; every answer and every broken connection is an [`Answer`].
pub async fn curl(edge: SocketAddr, url: &str, body: &Path, more: &[&str]) -> Result<Answer> {
    let host = url.split('/').nth(2).context("a URL has a host")?;
    let (name, port) = host.rsplit_once(':').context("a URL of the demo has a port")?;
    let header = body.with_extension("header");
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--globoff", "--max-time", "100", "--output"])
        .arg(body)
        .arg("--dump-header")
        .arg(&header)
        .args(["--write-out", "%{http_code} %{time_total} %{size_download}"])
        .args(["--resolve", &format!("{name}:{port}:{}", edge.ip())])
        .args(more)
        .arg(url);
    // curl writes no file for an empty answer, so the file of the last answer must not be taken for it.
    let _ = (std::fs::remove_file(body), std::fs::remove_file(&header));
    let (ended_well, out) = run(command).await?;
    let mut words = out.split_whitespace();
    let mut next = || words.next().context("curl says status, time and size");
    let (status, seconds, bytes) = (next()?.parse()?, next()?.parse()?, next()?.parse()?);
    let header = std::fs::read_to_string(&header).unwrap_or_default();
    Ok(Answer { status, header, seconds, bytes, ended_well })
}

/// Asks an edge for a name with dig and returns the short answers. `more` are further arguments of dig.
///
/// # Errors
/// When dig is missing or nobody answers.
pub async fn dig(edge: SocketAddr, name: &str, more: &[&str]) -> Result<Vec<String>> {
    let mut command = Command::new("dig");
    command
        .args([&format!("@{}", edge.ip()), "-p", &edge.port().to_string(), "+short", "+tries=2", "+time=5", name])
        .args(more);
    let (ok, out) = run(command).await?;
    if !ok {
        bail!("dig got no answer from {edge} for {name}: {out}");
    }
    Ok(out.lines().map(str::to_owned).collect())
}

async fn run(mut command: Command) -> Result<(bool, String)> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output =
        tokio::time::timeout(DEADLINE, output).await.with_context(|| format!("{program} took over {DEADLINE:?}"))?;
    let output = output.with_context(|| format!("{program} does not start; `./x setup` installs it"))?;
    Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
}
