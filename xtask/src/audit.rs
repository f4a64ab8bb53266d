//! The chore `audit`: finds dependencies with known vulnerabilities, by cargo-audit and a snapshot of the `RustSec`
//! advisory database.
//!
//! Place in the flow: a part of `check`. The snapshot is in `.ci/`, so that the result does not depend on a network.
//! `./x audit --fetch` uses today's database.
//! Keeps true: a commit is audited by a snapshot at most [`AGE_DAYS_MAX`] days older than itself. The commit's date
//! counts, not today's date, so the result for an old commit does not change with time.

use std::ffi::OsStr;

use crate::command;
use crate::fault::Fault;
use crate::setup::{self, Purpose};

/// The folder `crates/` of github.com/RustSec/advisory-db on the day in its name, as a tar packed by zstd.
const SNAPSHOT: &str = ".ci/advisories-2026-08-21.tar.zst";

/// How much older than the commit the snapshot may be: half a year. Only `--fetch` finds what was published after it.
const AGE_DAYS_MAX: i64 = 180;

/// The lock files: of the programs, of the policies that come with them.
const LOCKED: [&str; 2] = ["Cargo.lock", "policies/Cargo.lock"];

/// Audits all lock files against the snapshot, or with `--fetch` against today's database.
pub(crate) fn run(arguments: &[String]) -> Result<(), Fault> {
    setup::install(&[Purpose::Audits])?;
    let audit = |options: &[&OsStr]| {
        LOCKED.iter().try_for_each(|lock| {
            let mut audit = command::cargo(&["audit", "--file", lock]);
            command::run(audit.args(options).env("PATH", setup::path_with_tools()))
        })
    };
    match arguments {
        [] => {
            young_enough(&commit_day())?;
            let unpacked = command::target_folder().join("advisories");
            let failed = |error| Fault::new(format!("{}: {error}", unpacked.display()), "may this user write there?");
            if unpacked.exists() {
                std::fs::remove_dir_all(&unpacked).map_err(failed)?;
            }
            std::fs::create_dir_all(&unpacked).map_err(failed)?;
            let mut tar = command::program("tar", &["--zstd", "-xf", SNAPSHOT, "-C"]);
            command::run(tar.arg(&unpacked))?;
            println!("audit: by {SNAPSHOT}; `./x audit --fetch` asks the database of today");
            audit(&["--no-fetch".as_ref(), "--stale".as_ref(), "--db".as_ref(), unpacked.as_os_str()])
        }
        [only] if only == "--fetch" => audit(&[]),
        _ => Err(Fault::new("audit knows only --fetch", "run `./x audit` or `./x audit --fetch`")),
    }
}

/// The day of the commit that is checked, as `2026-11-28`; of what is not committed yet, the last commit's. Empty in a
/// copy without git.
fn commit_day() -> String {
    let mut git = command::program("git", &["log", "-1", "--format=%cs"]);
    let said = git.output().ok().filter(|said| said.status.success());
    said.map_or_else(String::new, |said| String::from_utf8_lossy(&said.stdout).trim().to_owned())
}

/// Says how old the snapshot was on this day, and refuses one that was too old.
fn young_enough(commit: &str) -> Result<(), Fault> {
    let snapshot = SNAPSHOT.trim_start_matches(|c: char| !c.is_ascii_digit()).get(..10).unwrap_or_default();
    let Some((made, checked)) = days(snapshot).zip(days(commit)) else {
        println!("audit: the age of the snapshot of {snapshot} is unknown: git names no commit here");
        return Ok(());
    };
    let age = checked - made;
    println!("audit: the snapshot is {age} days older than this commit, of {AGE_DAYS_MAX} allowed");
    if age <= AGE_DAYS_MAX {
        return Ok(());
    }
    Err(Fault::new(
        format!("the snapshot of known faults is {age} days older than this commit; {AGE_DAYS_MAX} are allowed"),
        "clone https://github.com/RustSec/advisory-db, there run `tar --zstd -cf advisories-DAY.tar.zst crates`, \
         put it in place of the one in .ci/, and its name into xtask/src/audit.rs",
    ))
}

/// The days from 1970-01-01 to a day of the form `2026-11-28`.
fn days(day: &str) -> Option<i64> {
    let mut numbers = day.split('-').map(str::parse::<i64>);
    let [year, month, day] = [numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?];
    // A year begins in March here, so that the leap day is its last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    Some(year * 365 + leaps + (month * 153 + 2) / 5 + day - 1 - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_over_leap_days_and_centuries() {
        for (day, since) in [("1970-01-01", 0), ("2000-02-29", 11_016), ("2000-03-01", 11_017), ("2026-08-21", 20_686)]
        {
            assert_eq!(days(day), Some(since), "{day}");
        }
        assert_eq!(days(""), None);
        assert_eq!(days("2026-08"), None);
    }

    #[test]
    fn a_snapshot_is_refused_on_the_day_after_its_last() {
        let made = days(SNAPSHOT.split_once("advisories-").unwrap().1.strip_suffix(".tar.zst").unwrap()).unwrap();
        let is_fine = |age: i64| {
            // Whole days from the snapshot's: years and months roll over by themselves.
            let day = format!("1970-01-{}", made + age + 1);
            assert_eq!(days(&day), Some(made + age));
            young_enough(&day).is_ok()
        };
        assert!(is_fine(0) && is_fine(AGE_DAYS_MAX) && !is_fine(AGE_DAYS_MAX + 1));
        young_enough("").unwrap();
        assert!(command::root().join(SNAPSHOT).exists());
    }
}
