//! The schema's steps, compiled in, each a file of `api/migrations/`. A step that was released is never changed.

use sqlx::{
    SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
};

/// A step: its number, what it brings, its statements.
const STEPS: &[(i64, &str, &str)] = &[
    (1, "0001_api", include_str!("../../migrations/0001_api.sql")),
    (2, "0002_console", include_str!("../../migrations/0002_console.sql")),
    (3, "0003_shares", include_str!("../../migrations/0003_shares.sql")),
    (4, "0004_makers", include_str!("../../migrations/0004_makers.sql")),
    (5, "0005_parts", include_str!("../../migrations/0005_parts.sql")),
    (6, "0006_lived", include_str!("../../migrations/0006_lived.sql")),
];

/// Returns what brings the file up to date.
pub(super) fn all() -> Migrator {
    let migration = |&(number, name, statements): &(i64, &'static str, &'static str)| {
        Migration::new(number, name.into(), MigrationType::Simple, statements.into_sql_str(), false)
    };
    Migrator::with_migrations(STEPS.iter().map(migration).collect())
}
