//! The backups of docs/operate/backup.md, by the commands that it names.

use std::path::Path;

use origin::catalog::{Catalog, CatalogUrl};
use sqlx::Connection;
use testing::{Sample, postgres::Server};

const KEPT: u32 = 100;

async fn fill(catalog: &dyn Catalog, sample: &Sample) {
    catalog.put_record(&sample.record(&sample.lease(1), &"o1".parse().unwrap())).await.unwrap();
}

/// What came before the backup is there, what came after is not, and the copy takes writes and goes on counting.
async fn assert_of_its_time(copy: &CatalogUrl, before: &Sample, after: &Sample) {
    let copy = copy.open(KEPT).await.unwrap();
    assert!(copy.record(&before.sealed.locator).await.unwrap().unwrap().sealed.is_some());
    assert!(copy.record(&after.sealed.locator).await.unwrap().is_none());
    assert_eq!(copy.newest_change().await.unwrap(), 1);
    fill(&*copy, after).await;
    assert_eq!(copy.newest_change().await.unwrap(), 2);
    copy.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_running_sqlite_catalog_opens() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let catalog = CatalogUrl::Sqlite(path("catalog.db")).open(KEPT).await.unwrap();
    let (before, after) = (Sample::new(1, 40_000), Sample::new(2, 40_000));
    fill(&*catalog, &before).await;
    let url = format!("sqlite://{}", path("catalog.db").display());
    let mut other = sqlx::SqliteConnection::connect(&url).await.unwrap();
    // What the program sqlite3 is told to run.
    sqlx::query("VACUUM INTO $1").bind(path("copy.db").to_str().unwrap()).execute(&mut other).await.unwrap();
    other.close().await.unwrap();
    fill(&*catalog, &after).await;
    assert_of_its_time(&CatalogUrl::Sqlite(path("copy.db")), &before, &after).await;
    catalog.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_of_a_running_postgres_catalog_restores() {
    let (server, dir) = (Server::shared(), tempfile::tempdir().unwrap());
    let name = server.new_database();
    let url: CatalogUrl = server.url(&name).parse().unwrap();
    let catalog = url.open(KEPT).await.unwrap();
    let (before, after) = (Sample::new(1, 40_000), Sample::new(2, 40_000));
    fill(&*catalog, &before).await;
    let dump = dir.path().join("catalog.dump");
    let file = |option: &str, path: &Path| format!("{option}={}", path.display());
    server.client("pg_dump", &["--format=custom", &file("--file", &dump), &server.url(&name)]);
    fill(&*catalog, &after).await;
    catalog.close().await;

    let maintenance = format!("--maintenance-db={}", server.url("postgres"));
    server.client("dropdb", &[&maintenance, &name]);
    server.client("createdb", &[&maintenance, "--owner=evernear", "--template=template0", &name]);
    server.client("pg_restore", &["--no-owner", &format!("--dbname={}", server.url(&name)), dump.to_str().unwrap()]);
    assert_of_its_time(&url, &before, &after).await;
}
