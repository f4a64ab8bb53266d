//! What failed of many: each is told, the others go on, and the exit code is that of the first.

use std::collections::BTreeMap;

use anyhow::Error;
use format::Locator;
use serde::Serialize;
use twin::LeaseChangeError;

use crate::{
    commands::Options,
    fault::{Report, Told},
};

/// One that failed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Failed {
    /// As it was named.
    pub(crate) what: String,
    #[serde(flatten)]
    pub(crate) report: Report,
}

/// All that failed.
pub(crate) struct Failures {
    pub(crate) failed: Vec<Failed>,
}

impl Failures {
    pub(crate) fn of(failures: impl IntoIterator<Item = (String, Error)>) -> Self {
        let failed = failures.into_iter().map(|(what, error)| Failed { what, report: Report::of(&error) });
        Self { failed: failed.collect() }
    }

    /// Takes the failures of objects, each under the name that it was given. When only one was asked for and nothing of
    /// it was done, its failure is that of the command.
    pub(crate) fn of_leases(
        failed: BTreeMap<Locator, LeaseChangeError>,
        named: &BTreeMap<Locator, String>,
        asked: usize,
        done: usize,
    ) -> anyhow::Result<Self> {
        let name = |locator: &Locator| named.get(locator).cloned().unwrap_or_else(|| locator.to_string());
        match failed.into_iter().map(|(locator, error)| (name(&locator), error.into())).collect::<Vec<_>>() {
            failed if asked > 1 || done > 0 => Ok(Self::of(failed)),
            failed => failed.into_iter().next().map_or_else(|| Ok(Self::of([])), |(_, error)| Err(error)),
        }
    }

    /// Ends a command whose answer was given. Without `--json`, which has it in the answer, tells what failed on
    /// standard error.
    pub(crate) fn end(self, options: &Options) -> anyhow::Result<()> {
        let Some(first) = self.failed.first() else { return Ok(()) };
        if !options.json {
            for Failed { what, report } in &self.failed {
                report.tell(what);
            }
        }
        Err(Told { code: first.report.code }.into())
    }
}
