//! `evernear profiles`: the redundancy table of `format`, with what each row costs and survives.

use format::{Profile, Tier, limits::INLINE_BYTES_MAX};
use serde::Serialize;

use super::Options;
use crate::output::{bytes, table};

#[derive(Serialize)]
struct Answer {
    /// An object of at most this many bytes is stored inside its record, whatever the profile.
    inline_bytes_max: usize,
    profiles: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    profile: String,
    tiers: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    from_bytes: u64,
    data: usize,
    parity: usize,
    /// Origins needed.
    nodes: usize,
    /// Bytes stored for each byte of the object.
    overhead: f64,
    /// How many nodes may be lost, whichever they are.
    losses_survived: usize,
    /// How many shards must be durable before an upload is acknowledged (write quorum).
    quorum: usize,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let row =
        |profile: Profile| Row { profile: profile.to_string(), tiers: profile.tiers().iter().map(Line::of).collect() };
    let answer = Answer { inline_bytes_max: INLINE_BYTES_MAX, profiles: Profile::NAMED.map(row).into() };
    options.answer(&answer, || text(&answer))
}

impl Line {
    fn of(tier: &Tier) -> Self {
        let redundancy = tier.redundancy;
        let nodes = redundancy.columns();
        // Both numbers are at most 256 columns, so the conversion is exact.
        let [stored, plain] =
            [nodes, redundancy.data()].map(|columns| f64::from(u16::try_from(columns).unwrap_or(u16::MAX)));
        Self {
            from_bytes: tier.from_bytes,
            data: redundancy.data(),
            parity: redundancy.parity(),
            nodes,
            overhead: (stored / plain * 100.0).round() / 100.0,
            losses_survived: redundancy.parity(),
            quorum: redundancy.quorum(),
        }
    }
}

fn text(answer: &Answer) -> String {
    let heading =
        ["profile", "from", "data+parity", "nodes", "stored bytes per byte", "losses survived", "acknowledged at"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for Row { profile, tiers } in &answer.profiles {
        for line in tiers {
            rows.push(vec![
                profile.clone(),
                bytes(line.from_bytes),
                format!("{}+{}", line.data, line.parity),
                line.nodes.to_string(),
                format!("{:.2}", line.overhead),
                line.losses_survived.to_string(),
                line.quorum.to_string(),
            ]);
        }
    }
    let inline = bytes(answer.inline_bytes_max as u64);
    table(&rows) + &format!("Up to {inline} an object lies inside its record, which several nodes hold.\n")
}
