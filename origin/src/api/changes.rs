//! The change feed, with a bounded wait for news.

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State};
use format::{
    limits::CHANGES_WAIT_SECONDS_MAX,
    wire::{ChangeKind, ChangePage},
};
use serde::Deserialize;

use super::{
    Refusal,
    extract::{InQuery, Reader},
};
use crate::{node::Node, refusals};

/// The query of the feed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ask {
    /// The last change known; zero for all.
    since: u64,
    /// Seconds to wait for news; absent: none. More than 30 count as 30.
    #[serde(default)]
    wait: u32,
}

pub(super) async fn read(
    State(node): State<Arc<Node>>,
    _: Reader,
    InQuery(Ask { since, wait }): InQuery<Ask>,
) -> Result<Json<ChangePage>, Refusal> {
    let wait = Duration::from_secs(wait.min(CHANGES_WAIT_SECONDS_MAX).into());
    let page = node.feed.page(since, wait, &node.stop).await?;
    // Who is told of a list of refused certificates asks this node for it at once.
    let newest = page.changes.iter().filter_map(|change| match change.kind {
        ChangeKind::Refused { number } => Some(number),
        _ => None,
    });
    let held = node.membership.as_ref().map_or(u64::MAX, |membership| membership.refused().number());
    if newest.max().is_some_and(|number| number > held) {
        refusals::agree(&node).await?;
    }
    Ok(Json(page))
}
