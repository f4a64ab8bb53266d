//! `evernear repair status | retry`.

use std::{collections::VecDeque, time::Duration};

use clap::{Args, Subcommand};
use format::wire::{GivenUp, Obstacle, RepairStatus, Survey};
use serde::Serialize;
use tokio::time::{Instant, sleep};
use twin::Repairs;

use super::Options;
use crate::{
    moment,
    output::{bytes, count, table},
    owner_access::{ClusterAccess, connect_operator},
};

/// Time between two measurements of the repair rate.
const MEASURE: Duration = Duration::from_secs(2);
/// How many measurements the rate of `--watch` covers: one minute, because shards complete in bursts.
const MEASUREMENTS_MAX: usize = 30;

/// Show and retry repairs.
#[derive(Debug, Args)]
pub(crate) struct Repair {
    #[command(subcommand)]
    command: RepairCommand,
}

#[derive(Debug, Subcommand)]
enum RepairCommand {
    /// Show the repair queue, the rate measured over 2 s, how many shards objects may lose, and the repairs given up
    #[command(after_help = "\
Examples:
  evernear repair status
  evernear repair status --watch        until nothing waits")]
    Status {
        /// Repeat until the queue is empty; the rate is then that of the last minute
        #[arg(long)]
        watch: bool,
        #[command(flatten)]
        cluster: ClusterAccess,
    },
    /// Put repairs that were given up back into the queue
    #[command(after_help = "\
Examples:
  evernear repair retry")]
    Retry {
        #[command(flatten)]
        cluster: ClusterAccess,
    },
}

#[derive(Serialize)]
struct Answer {
    waiting: u64,
    running: u64,
    /// Objects among these that only move to balance how full nodes are.
    balancing: u64,
    dead: u64,
    waiting_bytes: u64,
    /// Bytes of all repairs that wait or run.
    backlog_bytes: u64,
    /// Bytes made or moved per second, by all origins that answer.
    bytes_per_second: u64,
    /// Estimated seconds until the backlog is done at this rate; `None` when nothing moves or there is no backlog. New
    /// repairs that come meanwhile are not counted. A running repair is counted whole, with the part that is done.
    seconds_left: Option<u64>,
    /// Bytes made or moved since the origins started.
    repaired_bytes: u64,
    /// Repaired bytes for each stored byte; `None` before the first complete walk over all objects.
    repaired_per_stored: Option<f64>,
    /// What the last complete walk over all objects counted.
    survey: Option<Survey>,
    /// Every shard was hashed after this time, in seconds since 1970. Zero before the first complete scrub, or when an
    /// origin is down.
    scrubbed_since: u64,
    /// Why repairs have failed so far.
    obstacles: Vec<Obstacle>,
    given_up: Vec<GivenUp>,
}

impl Repair {
    pub(crate) async fn run(self, options: &Options) -> anyhow::Result<()> {
        match self.command {
            RepairCommand::Status { watch, cluster } => {
                let operator = connect_operator(&options.state()?, &cluster).await?;
                let mut measured = VecDeque::from([(Instant::now(), operator.repairs().await?)]);
                loop {
                    sleep(MEASURE).await;
                    let now = (Instant::now(), operator.repairs().await?);
                    let (since, earlier) = measured.front().expect("one was measured before the loop");
                    let answer = Answer::of(&now.1, earlier, now.0.duration_since(*since));
                    options.answer(&answer, || answer.text())?;
                    measured.push_back(now);
                    if measured.len() > MEASUREMENTS_MAX {
                        measured.pop_front();
                    }
                    if !watch || answer.waiting + answer.running == 0 {
                        return Ok(());
                    }
                }
            }
            RepairCommand::Retry { cluster } => {
                let operator = connect_operator(&options.state()?, &cluster).await?;
                let retried = operator.retry_repairs().await?;
                options.answer(&retried, || format!("{} will be tried again\n", count(retried.objects, "repair")))
            }
        }
    }
}

impl Answer {
    fn of(repairs: &Repairs, earlier: &Repairs, elapsed: Duration) -> Self {
        let RepairStatus { waiting, running, balancing, dead, waiting_bytes, .. } = repairs.status;
        let backlog_bytes = waiting_bytes.saturating_add(repairs.status.running_bytes);
        let moved = u128::from(repairs.repaired_since(earlier));
        let bytes_per_second = u64::try_from(moved * 1000 / elapsed.as_millis().max(1)).unwrap_or(u64::MAX);
        let survey = repairs.status.survey.clone();
        let stored = survey.as_ref().map(|survey| survey.stored_bytes).filter(|bytes| *bytes > 0);
        let repaired_bytes = repairs.status.repaired_bytes;
        #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
        let repaired_per_stored = stored.map(|stored| repaired_bytes as f64 / stored as f64);
        Self {
            waiting,
            running,
            balancing,
            dead,
            waiting_bytes,
            backlog_bytes,
            bytes_per_second,
            seconds_left: backlog_bytes.checked_div(bytes_per_second).filter(|_| waiting + running > 0),
            repaired_bytes,
            repaired_per_stored,
            survey,
            scrubbed_since: repairs.status.scrubbed_since,
            obstacles: repairs.status.obstacles.clone(),
            given_up: repairs.status.given_up.clone(),
        }
    }

    fn text(&self) -> String {
        let row = |name: &str, value: String| vec![name.to_owned(), value];
        let left = match (self.waiting + self.running, self.seconds_left) {
            (0, _) => "nothing waits".to_owned(),
            (_, Some(seconds)) => format!("about {seconds} s at this pace"),
            (_, None) => "unknown: nothing was moved while measuring".to_owned(),
        };
        let repaired = match self.repaired_per_stored {
            Some(ratio) => format!("{}, {ratio:.4} for each byte stored", bytes(self.repaired_bytes)),
            None => bytes(self.repaired_bytes),
        };
        let mut head = vec![
            row("waiting", format!("{}, {}", count(self.waiting, "object"), bytes(self.waiting_bytes))),
            row(
                "running",
                format!("{}, {}", count(self.running, "object"), bytes(self.backlog_bytes - self.waiting_bytes)),
            ),
            row("of these only balance", count(self.balancing, "object")),
            row("pace", format!("{}/s", bytes(self.bytes_per_second))),
            row("left", left),
            row("given up", count(self.dead, "object")),
            row("made or moved since start", repaired),
            row("all shards hashed since", moment::show(self.scrubbed_since)),
        ];
        if let Some(survey) = &self.survey {
            head.push(row("last whole walk", moment::show(survey.ended)));
            head.extend(survey.objects.iter().map(|(margin, objects)| {
                let name = match margin {
                    ..0 => format!("  {} too few", count(margin.unsigned_abs(), "shard")),
                    more => format!("  may lose {more} more"),
                };
                row(&name, count(*objects, "object"))
            }));
        }
        let obstacles = self.obstacles.iter().map(|Obstacle { why, amount }| {
            let (objects, held) = (count(amount.objects, "object"), bytes(amount.bytes));
            format!("waiting or given up: {objects} ({held}), because {why}\n")
        });
        let dead =
            self.given_up.iter().map(|it| vec![it.object.to_string(), it.attempts.to_string(), it.error.clone()]);
        let rows: Vec<_> = dead.collect();
        let hint = if rows.is_empty() { "" } else { "try them again with `evernear repair retry`\n" };
        table(&head) + &obstacles.collect::<String>() + &table(&rows) + hint
    }
}
