//! The probability that an object is lost within a year (durability, MTTDL), for every profile and for plain copies.
//! The model is a birth-death Markov chain over the number of lost columns, as in Patterson, Gibson and Katz (1988) and
//! every RAID paper since, with the lazy threshold of our repair.
//!
//! This is a model, not a measurement. Its inputs are printed above its table, and `docs/durability.md` says what it
//! leaves out.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use format::{Profile, Redundancy};

const HOURS_A_YEAR: f64 = 365.25 * 24.0;

/// The inputs of the model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Assumptions {
    /// Share of nodes whose disk is lost for ever within a year (AFR, annualized failure rate).
    pub(crate) node_failures_a_year: f64,
    /// Share of shards on working disks that become unreadable within a year (latent errors).
    pub(crate) bad_shards_a_year: f64,
    /// Days within which every shard is read once.
    pub(crate) scrub_days: f64,
    /// Hours from the loss of a node to the end of the repair of what it held.
    pub(crate) repair_hours: f64,
}

impl Default for Assumptions {
    fn default() -> Self {
        Self { node_failures_a_year: 0.04, bad_shards_a_year: 0.01, scrub_days: 14.0, repair_hours: 24.0 }
    }
}

impl Assumptions {
    /// Reads `afr=0.04 bad=0.01 scrub=14 repair=24`, each optional.
    pub(crate) fn read(words: &[&str]) -> Result<Self> {
        let mut it = Self::default();
        for word in words {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            let value: f64 = value.parse().map_err(|_| anyhow::anyhow!("{word:?} is not KEY=NUMBER"))?;
            ensure!(value.is_finite() && value > 0.0, "{word:?} must be above zero");
            match key {
                "afr" => it.node_failures_a_year = value,
                "bad" => it.bad_shards_a_year = value,
                "scrub" => it.scrub_days = value,
                "repair" => it.repair_hours = value,
                _ => anyhow::bail!("{key:?} is none of afr, bad, scrub, repair"),
            }
        }
        Ok(it)
    }

    /// Returns the losses of one column per hour.
    fn loss_rate(&self) -> f64 {
        (self.node_failures_a_year + self.bad_shards_a_year) / HOURS_A_YEAR
    }

    /// Returns the mean hours from a loss to its repair, over both kinds of loss. A bad shard is found half a scrub
    /// period later on average.
    fn mean_repair_hours(&self) -> f64 {
        let found_after = self.scrub_days * 24.0 / 2.0;
        let (gone, bad) = (self.node_failures_a_year, self.bad_shards_a_year);
        (gone * self.repair_hours + bad * (found_after + self.repair_hours)) / (gone + bad)
    }
}

/// Returns the mean years until more than m of k + m columns are lost. Repair begins at `repair_from` lost columns and
/// then rebuilds all of them at once.
///
/// From i lost columns the chain goes to i + 1 at (n - i) times the loss rate, and back to 0 at the repair rate. So the
/// probability of climbing from 0 to the loss without a return is the product of the probabilities of the steps. The
/// mean time is the mean time of one such attempt, divided by that product. The formula never subtracts nearly equal
/// numbers (no cancellation), however safe the object is.
fn mean_years_to_loss(redundancy: Redundancy, repair_from: usize, loss_rate: f64, repair_hours: f64) -> f64 {
    let (columns, parity) = (redundancy.columns(), redundancy.parity());
    let count = |n: usize| f64::from(u16::try_from(n).unwrap_or(u16::MAX));
    let (mut hours, mut climb) = (0.0, 1.0);
    for lost in 0..=parity {
        let up = count(columns - lost) * loss_rate;
        let back = if lost >= repair_from { 1.0 / repair_hours } else { 0.0 };
        hours += climb / (up + back);
        climb *= up / (up + back);
    }
    hours / climb / HOURS_A_YEAR
}

/// Prints the table.
pub(crate) fn run(assumptions: Assumptions) -> Result<String> {
    let Assumptions { node_failures_a_year, bad_shards_a_year, scrub_days, repair_hours } = assumptions;
    let (rate, repair) = (assumptions.loss_rate(), assumptions.mean_repair_hours());
    let mut out = String::new();
    writeln!(
        out,
        "assumed: {node_failures_a_year} of nodes and {bad_shards_a_year} of shards lost a year, scrub within"
    )?;
    writeln!(
        out,
        "{scrub_days} days, node repaired within {repair_hours} hours; mean time from loss to repair {repair:.1} hours\n"
    )?;
    writeln!(
        out,
        "| kept as | bytes stored | lost columns survived | repair from | loss of one object in a year | nines |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|")?;
    let mut row = |name: &str, redundancy: Redundancy, repair_from: usize| -> Result<()> {
        let years = mean_years_to_loss(redundancy, repair_from, rate, repair);
        let a_year = -(-1.0 / years).exp_m1();
        let parity = redundancy.parity();
        let stored = f64::from(u16::try_from(redundancy.columns())?) / f64::from(u16::try_from(redundancy.data())?);
        let nines = -a_year.log10();
        writeln!(
            out,
            "| {name} {redundancy} | {stored:.2} x | {parity} | {repair_from} lost | {a_year:.1e} | {nines:.1} |"
        )?;
        Ok(())
    };
    row("3 copies", Redundancy::new(1, 2)?, 1)?;
    for profile in Profile::NAMED {
        for tier in profile.tiers() {
            let lazy = tier.redundancy.columns() - tier.redundancy.quorum();
            row(&profile.to_string(), tier.redundancy, lazy.max(1))?;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a / b - 1.0).abs() < 1e-9
    }

    #[test]
    fn agrees_with_the_closed_forms_of_one_and_two_copies() {
        let (rate, repair) = (1e-5, 10.0);
        let years = |k, m, from| mean_years_to_loss(Redundancy::new(k, m).unwrap(), from, rate, repair) * HOURS_A_YEAR;
        // For two copies: (3 a + b) / (2 a^2), with loss rate a and repair rate b.
        assert!(close(years(1, 1, 1), (3.0 * rate + 0.1) / (2.0 * rate * rate)));
        // Without any repair: the mean time of the second of two losses.
        assert!(close(years(1, 1, 9), 1.0 / (2.0 * rate) + 1.0 / rate));
    }

    #[test]
    fn more_parity_faster_repair_and_earlier_repair_are_safer() {
        let years = |m, from, repair| mean_years_to_loss(Redundancy::new(16, m).unwrap(), from, 1e-6, repair);
        assert!(years(8, 4, 24.0) > years(4, 4, 24.0) * 1e6);
        assert!(years(8, 4, 12.0) > years(8, 4, 24.0));
        assert!(years(8, 1, 24.0) > years(8, 4, 24.0));
    }

    #[test]
    fn inputs_are_read_or_refused() {
        let read = Assumptions::read(&["afr=0.1", "repair=48"]).unwrap();
        assert_eq!(read, Assumptions { node_failures_a_year: 0.1, repair_hours: 48.0, ..Assumptions::default() });
        for bad in ["afr", "afr=x", "afr=-1", "nines=11", "scrub=inf"] {
            assert!(Assumptions::read(&[bad]).is_err(), "{bad}");
        }
    }
}
