//! Tests of the store: what is written is found again, and bounds hold.

use super::*;
use crate::token::{Maker, RATE_DEFAULT, Scope, Token};

fn grant(seed: u8, name: &str) -> (Grant, TokenHash) {
    let token = Token::draw(|bytes: &mut [u8]| {
        bytes.fill(seed);
        Ok::<_, ()>(())
    })
    .unwrap();
    let grant = Grant {
        id: token.id(),
        name: name.to_owned(),
        scope: Scope::Admin,
        created: 1,
        expires: Some(u64::from(u32::MAX)),
        revoked: None,
        quota_bytes: Some(1 << 40),
        rate: RATE_DEFAULT,
        maker: Maker::Owner,
    };
    (grant, token.hash())
}

#[tokio::test]
async fn a_disk_that_was_full_takes_writes_again_once_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteConnectOptions::new().filename(folder.path().join("x")).create_if_missing(true);
    let writer = pool().max_connections(1).connect_with(options).await.unwrap();
    sqlx::query("CREATE TABLE filler (bytes BLOB)").execute(&writer).await.unwrap();
    let fill = async || {
        let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query("INSERT INTO filler VALUES (zeroblob(1000000))").execute(&mut *transaction).await?;
        transaction.commit().await
    };
    // The connection takes no page more than the file has, as on a full disk.
    sqlx::query("PRAGMA max_page_count = 1").execute(&writer).await.unwrap();
    let full = fill().await.unwrap_err();
    assert!(full.to_string().contains("full"), "{full}");
    fill().await.unwrap();
}

#[tokio::test]
async fn a_disk_that_is_read_only_is_told_from_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteConnectOptions::new().filename(folder.path().join("x")).create_if_missing(true);
    let writer = pool().max_connections(1).connect_with(options.pragma("query_only", "ON")).await.unwrap();
    let error = sqlx::query("CREATE TABLE t (a INTEGER)").execute(&writer).await.unwrap_err();
    assert!(matches!(StoreError::from(error), StoreError::Unwritable { disk: Unwritable::ReadOnly }));
    let other = sqlx::query("SELECT nothing").execute(&writer).await.unwrap_err();
    assert!(matches!(StoreError::from(other), StoreError::Sqlite(_)));
}

#[tokio::test]
async fn a_full_disk_is_told_from_a_fault_to_all_whose_writes_it_took_along() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let (one, hash) = grant(1, "ci");
    store.add(one.clone(), hash).await.unwrap();
    store.close().await;
    let options = SqliteConnectOptions::new().filename(folder.path().join(STORE_FILE));
    let writer = pool().max_connections(1).connect_with(options.clone()).await.unwrap();
    sqlx::query("PRAGMA max_page_count = 1").execute(&writer).await.unwrap();
    let readers = pool().max_connections(1).connect_with(options).await.unwrap();
    let (jobs, waiting) = mpsc::channel(WAITING_MAX);
    // Together they take more than is left of the last page.
    let large = |at| {
        let (batch, title) = (Batch([at; 16]), Some("x".repeat(1000)));
        Write::Begin { batch, token: one.id, created_ms: 1, source: Source::Files, title }
    };
    // They wait before the writer begins, so they share a transaction.
    let mut told = Vec::new();
    for at in 1..=20 {
        let (tell, answer) = oneshot::channel();
        jobs.send((large(at), tell)).await.unwrap();
        told.push(answer);
    }
    let store = Store { jobs, readers, task: tokio::spawn(writes::run(writer, waiting)) };
    for answer in told {
        let full = StoreError::Unwritable { disk: Unwritable::Full };
        assert_eq!(answer.await.unwrap().unwrap_err().to_string(), full.to_string());
    }
    assert!(store.open_batches().await.unwrap().is_empty());
    store.write(begin(Batch([1; 16]), one.id, 1)).await.unwrap();
    store.close().await;
}

fn begin(batch: Batch, token: TokenId, created_ms: u64) -> Write {
    Write::Begin { batch, token, created_ms, source: Source::Files, title: None }
}

#[tokio::test]
async fn tokens_are_kept_with_all_that_they_allow_and_names_come_free_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let ((one, hash), (other, hash_2)) = (grant(1, "ci"), grant(2, "ci"));
    store.add(one.clone(), hash).await.unwrap();
    assert!(matches!(store.add(other.clone(), hash_2).await, Err(StoreError::NameTaken { name }) if name == "ci"));
    let (read, kept) = store.token(one.id).await.unwrap().unwrap();
    assert!(read == one && kept == hash && store.token(other.id).await.unwrap().is_none());
    store.revoke(one.id, 77).await.unwrap();
    store.add(other.clone(), hash_2).await.unwrap();
    store.close().await;
    let store = Store::open(folder.path()).await.unwrap();
    let all = store.tokens().await.unwrap();
    assert_eq!(all, [Grant { revoked: Some(77), ..one }, other]);
    store.close().await;
}

#[tokio::test]
async fn an_upload_is_open_until_it_is_kept_and_counts_for_its_token() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let (one, hash) = grant(1, "ci");
    store.add(one.clone(), hash).await.unwrap();
    let [a, b] = [1, 2].map(|at| Batch([at; 16]));
    for (batch, created_ms) in [(a, 10), (b, 11)] {
        store.write(begin(batch, one.id, created_ms)).await.unwrap();
    }
    assert_eq!(store.open_batches().await.unwrap(), [a, b]);
    store
        .write(Write::Keep {
            batch: a,
            locator: Locator([9; 32]),
            bytes: 5,
            dag: Some(("bafy".into(), 9)),
            made_of: MadeOf::Request,
        })
        .await
        .unwrap();
    assert_eq!(store.open_batches().await.unwrap(), [b]);
    assert_eq!((store.used(one.id).await.unwrap(), store.newest_ms().await.unwrap()), (5, 11));
    let kept = store.upload(&Locator([9; 32])).await.unwrap().unwrap();
    assert_eq!((kept.batch, kept.bytes, kept.created_ms), (a, 5, 10));
    assert_eq!(store.by_cid("bafy", u64::MAX, 9).await.unwrap(), [kept]);
    store.write(Write::Drop(a)).await.unwrap();
    assert_eq!((store.used(one.id).await.unwrap(), store.upload(&Locator([9; 32])).await.unwrap()), (0, None));
    store.close().await;
}

#[tokio::test]
async fn writes_at_once_share_a_transaction_and_one_that_fails_spoils_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let (one, hash) = grant(1, "ci");
    store.add(one.clone(), hash).await.unwrap();
    // Every second time is taken already.
    let begin_one = |at: u8| store.write(begin(Batch([at; 16]), one.id, u64::from(at / 2)));
    let all = futures::future::join_all((0..200).map(begin_one)).await;
    assert_eq!(all.iter().filter(|it| it.is_ok()).count(), 100);
    assert_eq!(store.open_batches().await.unwrap().len(), 100);
    store.close().await;
}

#[tokio::test]
async fn the_audit_log_is_appended_to_and_never_changed() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let line = |at_ms| Line {
        at_ms,
        token: TokenId([1; 8]),
        action: "PUT /files/{name}".into(),
        subject: Some(Locator([2; 32])),
        about: Some("ci".into()),
        status: 201,
        bytes: 7,
    };
    for at_ms in 1..=5 {
        store.write(Write::Audit(line(at_ms))).await.unwrap();
    }
    let page = store.audit(None, 3).await.unwrap();
    assert_eq!(page.iter().map(|(_, line)| line.at_ms).collect::<Vec<_>>(), [5, 4, 3]);
    let rest = store.audit(Some(page[2].0), 9).await.unwrap();
    assert_eq!(rest.into_iter().map(|(_, line)| line).collect::<Vec<_>>(), [line(2), line(1)]);
    let other = SqlitePool::connect(&format!("sqlite://{}", folder.path().join(STORE_FILE).display())).await.unwrap();
    for harm in ["UPDATE audit SET status = 200", "DELETE FROM audit WHERE sequence = 1"] {
        let error = sqlx::query(harm).execute(&other).await.unwrap_err().to_string();
        assert!(error.contains("audit log"), "{error}");
    }
    other.close().await;
    store.close().await;
}

#[tokio::test]
async fn a_list_of_pins_takes_what_is_asked_for_and_a_token_has_its_share_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let ((one, hash), (other, hash_2)) = (grant(1, "ci"), grant(2, "laptop"));
    store.add(one.clone(), hash).await.unwrap();
    store.add(other.clone(), hash_2).await.unwrap();
    let pin = |at: u8, cid: &str, token| Write::Pin {
        row: Box::new(PinRow {
            id: Batch([at; 16]),
            created_ms: at.into(),
            cid: cid.to_owned(),
            pin: at.to_string(),
            status: PinStatus::Failed,
        }),
        token,
        instead: None,
    };
    for (at, cid) in [(1, "a"), (2, "b"), (3, "a"), (4, "c")] {
        store.write(pin(at, cid, one.id)).await.unwrap();
    }
    let a = Batch([9; 16]);
    store.write(begin(a, one.id, 9)).await.unwrap();
    let parts = Write::Partial { batch: a, token: one.id, bytes: 1, cid: "c".into(), arrived: 1 };
    store.write(parts).await.unwrap();
    let all = PinAsk { statuses: vec![PinStatus::Failed, PinStatus::Pinning], ..PinAsk::default() };
    for (ask, limit, expected, count) in [
        (all.clone(), 10, vec![4, 3, 2, 1], 4),
        (all.clone(), 2, vec![4, 3], 4),
        (PinAsk { before_ms: Some(3), ..all.clone() }, 10, vec![2, 1], 2),
        (PinAsk { after_ms: Some(3), ..all.clone() }, 10, vec![4], 1),
        (PinAsk { cids: vec!["a".into(), "b".into()], ..all.clone() }, 2, vec![3, 2], 3),
        (PinAsk { statuses: vec![PinStatus::Pinning], ..all.clone() }, 10, vec![4], 1),
        (PinAsk { statuses: vec![PinStatus::Pinned], ..all.clone() }, 10, vec![], 0),
    ] {
        let (rows, found) = store.pins(&ask, limit, None).await.unwrap();
        let ids: Vec<u64> = rows.iter().map(|row| row.created_ms).collect();
        assert_eq!((ids, found), (expected, count), "{ask:?}");
    }
    let odd = |row: &PinRow| row.created_ms % 2 == 1;
    let (rows, count) = store.pins(&all, 1, Some(&odd)).await.unwrap();
    assert_eq!((rows[0].created_ms, rows.len(), count), (3, 1, 2));
    let file = format!("sqlite://{}", folder.path().join(STORE_FILE).display());
    let file = SqlitePool::connect(&file).await.unwrap();
    let many = "WITH RECURSIVE n(at) AS (SELECT 100 UNION ALL SELECT at + 1 FROM n WHERE at < 50095)
        INSERT INTO pins SELECT randomblob(16), $1, at, 'x', '' FROM n";
    sqlx::query(many).bind(&one.id.0[..]).execute(&file).await.unwrap();
    file.close().await;
    let full = store.write(pin(5, "a", one.id)).await;
    assert!(matches!(full, Err(StoreError::Share { max: 50_000, .. })), "{full:?}");
    let instead = Write::Pin {
        row: Box::new(PinRow {
            id: Batch([6; 16]),
            created_ms: 6,
            cid: "a".into(),
            pin: String::new(),
            status: PinStatus::Failed,
        }),
        token: one.id,
        instead: Some(Batch([1; 16])),
    };
    store.write(instead).await.unwrap();
    store.write(pin(7, "a", other.id)).await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn what_is_given_back_is_what_the_rows_counted_and_is_so_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let (one, hash) = grant(1, "ci");
    store.add(one.clone(), hash).await.unwrap();
    let resumable = |at: u8, length: u64, concat: Option<&str>| Resumable {
        batch: Batch([at; 16]),
        token: one.id,
        created: at.into(),
        expires: 100,
        length,
        offset: length,
        metadata: None,
        concat: concat.map(str::to_owned),
        wishes: Vec::new(),
        locator: None,
        final_of: None,
        tries: 0,
        fault: None,
    };
    let begin_resumable = |row: Resumable, parts: &[u8]| Write::Resumable {
        row: Box::new(row),
        parts: parts.iter().map(|at| Batch([*at; 16])).collect(),
    };
    for (at, length) in [(1, 1000), (2, 2000), (3, 4)] {
        store.write(begin_resumable(resumable(at, length, Some("partial")), &[])).await.unwrap();
    }
    store.write(begin_resumable(resumable(4, 3000, Some("final;/tus/1 /tus/2")), &[1, 2])).await.unwrap();
    let taken = store.write(begin_resumable(resumable(5, 6000, Some("final;/tus/2 /tus/3")), &[3, 2])).await;
    assert!(matches!(taken, Err(StoreError::Taken { batch: Batch([2, ..]) })), "{taken:?}");
    assert_eq!(store.resumable(Batch([5; 16])).await.unwrap(), None);
    assert_eq!(store.resumable(Batch([3; 16])).await.unwrap().unwrap().final_of, None, "nothing of it was done");
    assert_eq!(store.used(one.id).await.unwrap(), 3512, "a short one has a least");
    let freed = |stored, spooled| Freed { token: one.id, stored, spooled };
    assert_eq!(store.counted().await.unwrap(), [freed(3512, 3512)]);
    store.write(begin(Batch([9; 16]), one.id, 9)).await.unwrap();
    let keep = || Write::Keep {
        batch: Batch([9; 16]),
        locator: Locator([9; 32]),
        bytes: 3000,
        dag: None,
        made_of: MadeOf::Resumable(Batch([4; 16])),
    };
    let mut given_back = store.write(keep()).await.unwrap();
    given_back.sort_by_key(|it| it.stored);
    assert_eq!(given_back, [freed(0, 0), freed(1000, 1000), freed(2000, 2000)]);
    assert!(matches!(store.write(keep()).await, Err(StoreError::Gone)));
    assert_eq!(store.counted().await.unwrap(), [freed(3512, 512)]);
    assert_eq!(store.write(Write::DropResumable(Batch([4; 16]))).await.unwrap(), [freed(0, 0)]);
    assert_eq!(store.write(Write::DropResumable(Batch([3; 16]))).await.unwrap(), [freed(512, 512)]);
    assert_eq!(store.write(Write::DropResumable(Batch([3; 16]))).await.unwrap(), []);
    assert_eq!(store.write(Write::Drop(Batch([9; 16]))).await.unwrap(), [freed(3000, 0)]);
    assert_eq!(store.write(Write::Drop(Batch([9; 16]))).await.unwrap(), []);
    assert!(store.counted().await.unwrap().is_empty());
    store.close().await;
}

#[tokio::test]
async fn what_is_whole_outlives_its_time_until_it_is_stored_or_refused() {
    let (folder, now) = (tempfile::tempdir().unwrap(), 200);
    let store = Store::open(folder.path()).await.unwrap();
    let (one, hash) = grant(1, "ci");
    store.add(one.clone(), hash).await.unwrap();
    let row = |at: u8, offset: u64, concat: Option<&str>| Resumable {
        batch: Batch([at; 16]),
        token: one.id,
        created: 1,
        expires: if at == 6 { 201 } else { 200 },
        length: 10,
        offset,
        metadata: None,
        concat: concat.map(str::to_owned),
        wishes: vec![("x-evernear-tags".into(), "a".into())],
        locator: None,
        final_of: None,
        tries: 0,
        fault: None,
    };
    let rows = [
        (row(1, 10, None), vec![]),
        (row(2, 9, None), vec![]),
        (row(3, 10, Some("partial")), vec![]),
        (row(4, 10, Some("partial")), vec![]),
        (row(5, 10, Some("final;/tus/4")), vec![Batch([4; 16])]),
        (row(6, 9, None), vec![]),
        (row(7, 10, None), vec![]),
    ];
    for (row, parts) in rows {
        store.write(Write::Resumable { row: Box::new(row), parts }).await.unwrap();
    }
    let refused = Fault { reason: "it is too late".into(), due: 150, refused: true };
    store.write(Write::Failed { batch: Batch([7; 16]), fault: refused.clone(), expires: 0 }).await.unwrap();
    let away = Fault { reason: "nodes are away".into(), due: 300, refused: false };
    store.write(Write::Failed { batch: Batch([1; 16]), fault: away.clone(), expires: 900 }).await.unwrap();
    let ids = |rows: Vec<Resumable>| rows.iter().map(|row| row.batch.0[0]).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(ids(store.expired(now).await.unwrap()), [2, 3, 7].into());
    assert_eq!(ids(store.due(now, now).await.unwrap()), [5, 7].into());
    assert_eq!(ids(store.due(300, now).await.unwrap()), [1, 5, 7].into());
    for at in 1..=7 {
        let row = store.resumable(Batch([at; 16])).await.unwrap().unwrap();
        assert_eq!(row.has_expired(now), [2, 3, 7].contains(&at), "{row:?}");
    }
    let first = store.resumable(Batch([1; 16])).await.unwrap().unwrap();
    assert_eq!((first.tries, first.fault), (1, Some(away)));
    // It has its time from when it was refused first, and no more the second time.
    for expires in [500, 800] {
        store.write(Write::Failed { batch: Batch([1; 16]), fault: refused.clone(), expires }).await.unwrap();
    }
    let first = store.resumable(Batch([1; 16])).await.unwrap().unwrap();
    assert_eq!((first.expires, first.has_expired(499), first.has_expired(500)), (500, false, true));
    store.close().await;
}

#[tokio::test]
async fn what_tokens_that_ended_have_not_finished_is_found_and_none_of_it_is_due() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let tokens = [grant(1, "counts"), grant(2, "revoked"), grant(3, "expired")];
    for (at, (grant, hash)) in (1..).zip(tokens) {
        let expires = Some(if at == 3 { 100 } else { 300 });
        let token = grant.id;
        store.add(Grant { expires, ..grant }, hash).await.unwrap();
        let (batch, part) = (Batch([at; 16]), Batch([at + 10; 16]));
        let row = Resumable {
            batch,
            token,
            created: 1,
            expires: 1000,
            length: 10,
            offset: 10,
            metadata: None,
            concat: None,
            wishes: Vec::new(),
            locator: None,
            final_of: None,
            tries: 0,
            fault: None,
        };
        store.write(Write::Resumable { row: Box::new(row), parts: vec![] }).await.unwrap();
        store.write(begin(part, token, at.into())).await.unwrap();
        let cid = at.to_string();
        store.write(Write::Partial { batch: part, token, bytes: 512, cid, arrived: 1 }).await.unwrap();
        if at == 2 {
            store.revoke(token, 50).await.unwrap();
        }
    }
    let found = async |lived, now| {
        let mut ended = store.resumables_of_ended(lived, now).await.unwrap();
        ended.sort_by_key(|batch| batch.0);
        let mut parts = store.parts_of_ended().await.unwrap();
        parts.sort_by_key(|(batch, _)| batch.0);
        let due = store.due(lived, now).await.unwrap();
        (
            ended.iter().map(|it| it.0[0]).collect::<Vec<_>>(),
            parts.iter().map(|it| it.0.0[0]).collect::<Vec<_>>(),
            due.len(),
        )
    };
    assert_eq!(found(999, 99).await, (vec![2], vec![12], 2));
    // Of a token that ended by itself nothing is forgotten before its own time: the clock may be ahead.
    assert_eq!(found(999, 100).await, (vec![2], vec![12], 1));
    assert_eq!(found(1000, 99).await, (vec![2], vec![12], 2));
    assert_eq!(found(1000, 100).await, (vec![2, 3], vec![12], 1));
    store.close().await;
}

#[tokio::test]
async fn parts_of_a_dag_are_old_when_the_newest_of_them_is() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let (one, hash) = grant(1, "ci");
    store.add(one.clone(), hash).await.unwrap();
    for (at, cid) in [(20, "a"), (10, "a"), (18, "b"), (19, "c")] {
        let batch = Batch([at; 16]);
        store.write(begin(batch, one.id, at.into())).await.unwrap();
        if cid != "c" {
            // Whatever the clock said when it came.
            let (cid, arrived) = (cid.into(), (30 - at).into());
            store.write(Write::Partial { batch, token: one.id, bytes: 5, cid, arrived }).await.unwrap();
        }
    }
    let part = |at: u8, cid: &str| (Batch([at; 16]), cid.to_owned());
    assert_eq!(store.parts_before(15).await.unwrap(), [part(18, "b")]);
    assert_eq!(store.parts_before(21).await.unwrap(), [part(10, "a"), part(18, "b"), part(20, "a")]);
    assert_eq!(store.parts("a").await.unwrap().len(), 2);
    let (shown, count) = store.uploads(None, 10).await.unwrap();
    assert_eq!((shown.iter().map(|it| it.created_ms).collect::<Vec<_>>(), count), (vec![18, 10], 2));
    assert_eq!(store.lying().await.unwrap(), 15);
    store.close().await;
}

#[tokio::test]
async fn the_time_that_passed_is_kept_and_uploads_are_paged_by_their_batches() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    assert_eq!(store.lived().await.unwrap(), None);
    for seconds in [1, 2] {
        let lived = Lived { seconds, latest: 1_800_000_000 };
        store.write(Write::Lived(lived)).await.unwrap();
        assert_eq!(store.lived().await.unwrap(), Some(lived));
    }
    let (one, hash) = grant(1, "ci");
    store.add(one.clone(), hash).await.unwrap();
    for at in 1..=4 {
        let (batch, locator) = (Batch([at; 16]), Locator([at; 32]));
        store.write(begin(batch, one.id, at.into())).await.unwrap();
        if at != 2 {
            let keep = Write::Keep { batch, locator, bytes: 5, dag: None, made_of: MadeOf::Request };
            store.write(keep).await.unwrap();
        }
    }
    let mut after = None;
    for page in [&[1, 3][..], &[4], &[]] {
        let kept = store.kept(after, 2).await.unwrap();
        assert_eq!(kept, page.iter().map(|at| (Locator([*at; 32]), Batch([*at; 16]))).collect::<Vec<_>>());
        after = kept.last().map(|(_, batch)| *batch).or(after);
    }
    store.close().await;
}

#[tokio::test]
async fn what_is_not_whole_is_found_without_a_look_at_what_is() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    for ask in reads::NOT_WHOLE {
        let plan = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {ask}")));
        let rows = plan.fetch_all(&store.readers).await.unwrap();
        let steps: Vec<String> = rows.iter().map(|row| sqlx::Row::get(row, "detail")).collect();
        assert!(steps.iter().any(|step| step.contains("uploads_not_whole")), "{ask}: {steps:?}");
    }
    store.close().await;
}

#[tokio::test]
async fn a_dag_and_a_token_have_so_many_parts_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let ((one, hash), (other, hash_2)) = (grant(1, "ci"), grant(2, "laptop"));
    let (made, hash_3) = grant(3, "made");
    let made = Grant { maker: Maker::Token(one.id), ..made };
    for (grant, hash) in [(one.clone(), hash), (other.clone(), hash_2), (made.clone(), hash_3)] {
        store.add(grant, hash).await.unwrap();
    }
    let file = format!("sqlite://{}", folder.path().join(STORE_FILE).display());
    let file = SqlitePool::connect(&file).await.unwrap();
    let rows = async |first: i64, count: i64, cid: &str| {
        let many = "WITH RECURSIVE n(at) AS (SELECT $2 UNION ALL SELECT at + 1 FROM n WHERE at + 1 < $2 + $3)
            INSERT INTO uploads (batch, token, created, state, source, bytes, cid, dag)
            SELECT randomblob(16), $1, at, 2, 3, 512, coalesce($4, at), 0 FROM n";
        let cid = Some(cid).filter(|cid| !cid.is_empty());
        sqlx::query(many).bind(&one.id.0[..]).bind(first).bind(count).bind(cid).execute(&file).await.unwrap();
    };
    let part = async |at: u8, token: TokenId, cid: &str| {
        let batch = Batch([at; 16]);
        store.write(begin(batch, token, at.into())).await.unwrap();
        store.write(Write::Partial { batch, token, bytes: 512, cid: cid.into(), arrived: 1 }).await
    };
    rows(1000, 999, "a").await;
    assert!(part(1, other.id, "a").await.is_ok());
    let full = part(2, other.id, "a").await;
    assert!(matches!(full, Err(StoreError::Parts { max: 1000 })), "{full:?}");
    rows(2000, 9000, "").await;
    assert!(part(3, one.id, "b").await.is_ok());
    for (at, token) in [(4, one.id), (5, made.id)] {
        let full = part(at, token, "b").await;
        assert!(matches!(full, Err(StoreError::Share { max: 10_000, .. })), "{full:?}");
    }
    assert!(part(6, other.id, "b").await.is_ok(), "others have their own");
    file.close().await;
    store.close().await;
}

#[tokio::test]
async fn nobody_else_reads_the_file_and_no_secret_is_in_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("state")).await.unwrap();
    let (one, hash) = grant(0x5a, "ci");
    store.add(one, hash).await.unwrap();
    store.close().await;
    for file in std::fs::read_dir(folder.path().join("state")).unwrap().map(Result::unwrap) {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o77, 0, "{}", file.path().display());
        let bytes = std::fs::read(file.path()).unwrap();
        assert!(!bytes.windows(32).any(|window| window == [0x5a; 32]));
    }
}

#[test]
fn the_least_of_an_object_is_one_number_in_code_and_in_sql() {
    assert_eq!(length_counted!(), format!("max(length, {})", crate::quota::OBJECT_BYTES_MIN));
}
