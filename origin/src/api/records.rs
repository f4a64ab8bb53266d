//! Records and leases. A write is in the catalog before it is on the own disk, and on both before it is acknowledged.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use format::{
    LeaseError, Locator, OwnerId, RecordError,
    limits::{LEASE_BYTES_MAX, PAGE_ENTRIES_MAX, RECORD_BYTES_MAX},
    wire::LocatorPage,
};
use serde::Deserialize;

use super::{
    Refusal,
    extract::{Filer, InPath, InQuery, Reader, Sent},
};
use crate::{
    catalog::Applied,
    copies, leases,
    node::{Lost, Node},
    peer::Action,
    repair,
    store::StoreError,
};

/// The query of a listing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    /// Whose records; absent: everybody's, for edges.
    owner: Option<OwnerId>,
    /// From the one after this; absent: from the first.
    after: Option<Locator>,
}

pub(super) async fn read(
    State(node): State<Arc<Node>>,
    _: Reader,
    InPath(locator): InPath<Locator>,
) -> Result<Response, Refusal> {
    let local = node.off_reactor(move |store| store.record(&locator)).await?;
    let local = match local {
        Ok(local) => local,
        Err(error) => {
            if matches!(error, StoreError::Damaged { .. }) {
                node.metrics.failed("record");
            }
            tracing::warn!(%error, "a copy of a record cannot be read, asking the catalog");
            // A task of its own: a caller that hangs up does not let another writer pass while the disk still writes.
            let work = node.clone();
            let taken = node.tasks.spawn(async move { copies::take(&work, locator).await });
            if let Err(error) = taken.await.unwrap_or_else(|_| Err(Lost.into())) {
                tracing::warn!(%error, "a copy of a record that cannot be read is not replaced");
            }
            None
        }
    };
    let record = match local {
        Some(record) => record,
        None => node
            .catalog
            .record(&locator)
            .await?
            .ok_or_else(|| Refusal::not_found("no record is filed under this locator"))?,
    };
    Ok(([(CONTENT_TYPE, "application/cbor")], record.encode()).into_response())
}

pub(super) async fn file(
    State(node): State<Arc<Node>>,
    _: Filer,
    InPath(locator): InPath<Locator>,
    sent: Sent,
) -> Result<StatusCode, Refusal> {
    let body = node.body(sent, RECORD_BYTES_MAX).await?;
    // With the own copy, if there is one: most are new, and a thread of its own for that look costs more than the look.
    let read = node.off_reactor(move |store| {
        let record = leases::decode(&body.bytes)?;
        let held = store.filed_record(&record.locator());
        Ok::<_, RecordError>((record, held))
    });
    let (record, held) = read.await?.inspect_err(|_| node.metrics.failed("record"))?;
    same_locator(&locator, &record.locator())?;
    // A task of its own: a caller that hangs up does not leave catalog and disk apart.
    let work = node.clone();
    let task = node.tasks.spawn(async move {
        copies::vouch_by(&work, held, Some(&record.lease)).await?;
        copies::write_or_vouch(&work, locator, || work.catalog.put_record(&record)).await?;
        work.feed.written();
        let outlives = copies::take(&work, locator).await?;
        copies::refuse_outlived(&record.lease, outlives.as_ref())?;
        Ok::<_, Refusal>(())
    });
    task.await.map_err(|_| Lost)??;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn renew(
    State(node): State<Arc<Node>>,
    _: Filer,
    InPath(locator): InPath<Locator>,
    sent: Sent,
) -> Result<StatusCode, Refusal> {
    let envelope = node.small_body(sent, LEASE_BYTES_MAX).await?;
    let opened = envelope.clone();
    let read = node.off_reactor(move |store| {
        let lease = leases::open(&opened)?;
        let held = if store.may_outlive(&lease) { store.filed_record(&lease.locator) } else { Ok(None) };
        Ok::<_, LeaseError>((lease, held))
    });
    let (lease, held) = read.await?.inspect_err(|_| node.metrics.failed("lease"))?;
    same_locator(&locator, &lease.locator)?;
    let (work, is_erased) = (node.clone(), lease.erased);
    let task = node.tasks.spawn(async move {
        copies::vouch_by(&work, held, Some(&lease)).await?;
        let applied = copies::write_or_vouch(&work, locator, || work.catalog.put_lease(&lease, &envelope)).await?;
        work.feed.written();
        copies::refuse_outlived(&lease, copies::refresh(&work, locator).await?.as_ref())?;
        // The owner may want other places now, unless it is to lie nowhere. A lease that is here already says nothing
        // new, however often it comes.
        if applied == Applied::Stored && !is_erased {
            repair::look_at(&work, &locator).await?;
        }
        Ok::<_, Refusal>(())
    });
    task.await.map_err(|_| Lost)??;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn list(
    State(node): State<Arc<Node>>,
    Reader(peer): Reader,
    InQuery(List { owner, after }): InQuery<List>,
) -> Result<Json<LocatorPage>, Refusal> {
    if owner.is_none() && !peer.may(Action::ListAll) {
        return Err(Refusal::wrong(StatusCode::FORBIDDEN, "only edges list the records of all owners; name an owner"));
    }
    let locators = node.catalog.locators(owner.as_ref(), after.as_ref(), PAGE_ENTRIES_MAX).await?;
    let next = locators.last().copied().filter(|_| locators.len() == PAGE_ENTRIES_MAX);
    Ok(Json(LocatorPage { locators, next }))
}

fn same_locator(path: &Locator, body: &Locator) -> Result<(), Refusal> {
    if path == body {
        return Ok(());
    }
    Err(Refusal::wrong(StatusCode::BAD_REQUEST, "the locator in the path is not the one that the owner signed"))
}
