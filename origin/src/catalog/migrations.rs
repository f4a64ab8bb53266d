//! The schema's steps, compiled in. Not by `sqlx::migrate!`: that macro compiles sqlx, tokio and a TLS library a second
//! time, for the compiler's own machine.
//!
//! Keeps true: the steps of an engine are all the files of its folder; a test compares.

use sqlx::{
    SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
};

/// A step: its number, what it brings, its statements.
type Step = (i64, &'static str, &'static str);

/// Names a folder's files as steps: `steps!("sqlite": 1 "0001_catalog", 2 "0002_work")`.
macro_rules! steps {
    ($engine:literal: $($number:literal $name:literal),+ $(,)?) => {
        &[$(($number, $name, include_str!(concat!("../../migrations/", $engine, "/", $name, ".sql")))),+]
    };
}

const SQLITE: &[Step] = steps!(
    "sqlite": 1 "0001_catalog", 2 "0002_work", 3 "0003_balance", 4 "0004_records_by_object", 5 "0005_notes",
    6 "0006_orders", 8 "0008_refused", 9 "0009_hopeless", 10 "0010_failures",
    11 "0011_identity", 12 "0012_dead_objects", 13 "0013_displaced", 14 "0014_totals",
    16 "0016_moves",
);
const POSTGRES: &[Step] = steps!(
    "postgres": 1 "0001_catalog", 3 "0003_balance", 4 "0004_records_by_object", 5 "0005_notes", 6 "0006_orders",
    8 "0008_refused", 9 "0009_hopeless", 10 "0010_failures", 11 "0011_identity", 12 "0012_dead_objects",
    13 "0013_displaced", 14 "0014_totals", 15 "0015_deltas", 16 "0016_moves",
);

/// Returns what brings a SQLite file up to date.
pub(super) fn sqlite() -> Migrator {
    migrator(SQLITE)
}

/// Returns what brings a `PostgreSQL` database up to date.
pub(super) fn postgres() -> Migrator {
    migrator(POSTGRES)
}

/// Returns the newest step of a `SQLite` file that this program knows.
pub(super) fn newest_of_sqlite() -> i64 {
    SQLITE.iter().map(|(number, ..)| *number).max().unwrap_or(0)
}

fn migrator(steps: &[Step]) -> Migrator {
    let migration = |&(number, name, statements): &Step| {
        Migration::new(number, name.into(), MigrationType::Simple, statements.into_sql_str(), false)
    };
    Migrator::with_migrations(steps.iter().map(migration).collect())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    #[test]
    fn every_file_of_a_folder_is_a_step() {
        for (engine, steps) in [("sqlite", SQLITE), ("postgres", POSTGRES)] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(engine);
            let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
            assert!(steps.iter().all(|(number, name, _)| name.starts_with(&format!("{number:04}_"))), "{engine}");
            let named = steps.iter().map(|(_, name, _)| format!("{name}.sql"));
            assert_eq!(files.collect::<BTreeSet<_>>(), named.collect(), "{engine}");
        }
    }
}
