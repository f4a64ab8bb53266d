//! `evernear repair status | retry`.

use std::time::Duration;

use clap::{Args, Subcommand};
use format::wire::GivenUp;
use serde::Serialize;
use tokio::time::{Instant, sleep};
use twin::Operator;

use super::Options;
use crate::{
    moment,
    output::{bytes, table},
    owner_access::{ClusterAccess, connect_operator},
};

/// How long the pace of repair is measured.
const MEASURE: Duration = Duration::from_secs(2);

/// See what is being repaired.
#[derive(Debug, Args)]
pub(crate) struct Repair {
    #[command(subcommand)]
    command: RepairCommand,
}

#[derive(Debug, Subcommand)]
enum RepairCommand {
    /// Show what waits, the pace measured over two seconds, and what was given up
    Status {
        /// Show it again and again until nothing waits
        #[arg(long)]
        watch: bool,
        #[command(flatten)]
        cluster: ClusterAccess,
    },
    /// Let repairs that were given up wait again
    Retry {
        #[command(flatten)]
        cluster: ClusterAccess,
    },
}

#[derive(Serialize)]
struct Answer {
    waiting: u64,
    running: u64,
    dead: u64,
    waiting_bytes: u64,
    /// Bytes made or moved in a second, at all origins that answer.
    bytes_per_second: u64,
    /// Seconds until nothing waits at this pace; none when nothing moves or nothing waits.
    seconds_left: Option<u64>,
    /// Every shard was hashed after this second since 1970; zero before the first whole scrub, or when an origin is down.
    scrubbed_since: u64,
    given_up: Vec<GivenUp>,
}

impl Repair {
    pub(crate) async fn run(self, options: &Options) -> anyhow::Result<()> {
        match self.command {
            RepairCommand::Status { watch, cluster } => {
                let operator = connect_operator(&options.state()?, &cluster).await?;
                loop {
                    let answer = measure(&operator).await?;
                    options.answer(&answer, || answer.text())?;
                    if !watch || answer.waiting + answer.running == 0 {
                        return Ok(());
                    }
                }
            }
            RepairCommand::Retry { cluster } => {
                let operator = connect_operator(&options.state()?, &cluster).await?;
                let retried = operator.retry_repairs().await?;
                options.answer(&retried, || format!("{} repairs wait again\n", retried.objects))
            }
        }
    }
}

async fn measure(operator: &Operator) -> anyhow::Result<Answer> {
    let started = Instant::now();
    let before = operator.repairs().await?.repaired_bytes;
    sleep(MEASURE).await;
    let status = operator.repairs().await?;
    let moved = status.repaired_bytes.saturating_sub(before);
    let milliseconds = started.elapsed().as_millis().max(1);
    let bytes_per_second = u64::try_from(u128::from(moved) * 1000 / milliseconds).unwrap_or(u64::MAX);
    Ok(Answer {
        waiting: status.waiting,
        running: status.running,
        dead: status.dead,
        waiting_bytes: status.waiting_bytes,
        bytes_per_second,
        seconds_left: status.waiting_bytes.checked_div(bytes_per_second).filter(|_| status.waiting > 0),
        scrubbed_since: status.scrubbed_since,
        given_up: status.given_up,
    })
}

impl Answer {
    fn text(&self) -> String {
        let row = |name: &str, value: String| vec![name.to_owned(), value];
        let left = match (self.waiting, self.seconds_left) {
            (0, _) => "nothing waits".to_owned(),
            (_, Some(seconds)) => format!("about {seconds} s at this pace"),
            (_, None) => "unknown: nothing was moved while measuring".to_owned(),
        };
        let head = [
            row("waiting", format!("{} objects, {}", self.waiting, bytes(self.waiting_bytes))),
            row("running", format!("{} objects", self.running)),
            row("pace", format!("{}/s", bytes(self.bytes_per_second))),
            row("left", left),
            row("given up", format!("{} objects", self.dead)),
            row("all shards hashed since", moment::show(self.scrubbed_since)),
        ];
        let dead =
            self.given_up.iter().map(|it| vec![it.object.to_string(), it.attempts.to_string(), it.error.clone()]);
        let rows: Vec<_> = dead.collect();
        let hint = if rows.is_empty() { "" } else { "try them again with `evernear repair retry`\n" };
        table(&head) + &table(&rows) + hint
    }
}
