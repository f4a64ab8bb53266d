//! `GET /files/{id}/health`: whether all shards of a file or folder are there, and where.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use format::{
    Moment, NodeName, Place,
    wire::{ColumnHealth, ColumnState, ObjectHealth},
};
use serde::Serialize;
use serde_json::json;
use twin::UploadHealth;

use crate::{
    caller::Reader,
    files::{InPath, id},
    refusal::Refusal,
    service::{self, Service},
};

/// Objects of a folder that are asked about: each is a question to an origin.
const OBJECTS_MAX: usize = 100;

/// How an upload is: of a folder, the object in it that may lose the fewest shards.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Health {
    /// `whole`, `degraded`: shards are missing; `in danger`: none more may be lost; `lost`.
    state: &'static str,
    /// Shards that make it, and those beside; none for what lies inside its record, which has no shards.
    data: Option<usize>,
    parity: Option<usize>,
    /// How many more shards may be lost before it cannot be read; below zero, how many are missing.
    margin: Option<i32>,
    columns: Vec<Column>,
    /// Why a repair is wanted: `scan`, `ticket`, `drain` or `place`.
    repair: Option<String>,
    /// Objects of the upload, and those that were asked about.
    objects: usize,
    checked: usize,
    checked_at: String,
}

/// A shard.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Column {
    column: usize,
    /// The nodes that hold it, those that are down too. More than one while it moves.
    nodes: Vec<String>,
    /// The first of them, and where it is: region, country, zone.
    node: Option<String>,
    place: Option<String>,
    /// `healthy`, `moving`: it is to lie elsewhere; `unreachable`: its node is down; `missing`; `empty`: the object is
    /// too short for it.
    state: &'static str,
    bytes: u64,
}

/// `GET /files/{id}/health`.
pub(crate) async fn show(
    State(service): State<Arc<Service>>,
    _: Reader,
    InPath(text): InPath<String>,
) -> Result<Response, Refusal> {
    let locator = id(&text)?;
    if service.twin.upload(locator).await?.is_none() {
        return Err(Refusal::not_found("NFT not found"));
    }
    let health = service.twin.health(&locator, OBJECTS_MAX).await?;
    let nodes = service.twin.network().topology().snapshot();
    let places = nodes.iter().map(|node| (&node.name, &node.place)).collect();
    Ok(Json(json!({ "ok": true, "value": Health::of(health, &places, service::now()) })).into_response())
}

impl Health {
    fn of(upload: UploadHealth, places: &BTreeMap<&NodeName, &Place>, now: u64) -> Self {
        let UploadHealth { weakest, objects, checked } = upload;
        let (data, parity) = weakest.as_ref().and_then(split).unzip();
        let state = state(weakest.as_ref());
        let margin = weakest.as_ref().filter(|it| it.redundancy.is_some()).map(|it| it.margin);
        let repair = weakest.as_ref().and_then(|it| it.repair.clone());
        let columns = weakest.into_iter().flat_map(|it| it.columns).enumerate();
        let columns = columns.map(|(column, it)| Column::of(column, it, places)).collect();
        let checked_at = Moment(now).to_string();
        Self { state, data, parity, margin, columns, repair, objects, checked, checked_at }
    }
}

/// Returns the data and parity shards of an object that has any.
fn split(health: &ObjectHealth) -> Option<(usize, usize)> {
    let (data, parity) = health.redundancy.as_ref()?.split_once('+')?;
    Some((data.parse().ok()?, parity.parse().ok()?))
}

fn state(weakest: Option<&ObjectHealth>) -> &'static str {
    let Some(weakest) = weakest else { return "lost" };
    let is_missing = weakest.columns.iter().any(|column| column.state == ColumnState::Lost);
    match weakest.margin {
        ..0 => "lost",
        0 if is_missing => "in danger",
        _ if is_missing => "degraded",
        _ => "whole",
    }
}

impl Column {
    fn of(
        column: usize,
        ColumnHealth { state, nodes, bytes }: ColumnHealth,
        places: &BTreeMap<&NodeName, &Place>,
    ) -> Self {
        let state = match state {
            ColumnState::Healthy => "healthy",
            ColumnState::Displaced => "moving",
            ColumnState::Lost if nodes.is_empty() => "missing",
            ColumnState::Lost => "unreachable",
            ColumnState::Empty => "empty",
        };
        let place = nodes.first().and_then(|node| places.get(node)).map(|place| place_path(place));
        let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
        Self { column, node: nodes.first().cloned(), nodes, place, state, bytes }
    }
}

/// Writes a place as a path, from the widest to the narrowest.
pub(crate) fn place_path(place: &Place) -> String {
    format!("/{}/{}/{}", place.region, place.country, place.zone)
}

#[cfg(test)]
mod tests {
    use format::{BlobId, ObjectId};

    use super::*;

    fn object(margin: i32, states: &[ColumnState]) -> ObjectHealth {
        let column = |state: &ColumnState| ColumnHealth { state: *state, nodes: Vec::new(), bytes: 1 };
        ObjectHealth {
            object: ObjectId(BlobId::of(b"x").0),
            redundancy: (!states.is_empty()).then(|| "2+1".to_owned()),
            margin,
            columns: states.iter().map(column).collect(),
            repair: None,
        }
    }

    #[test]
    fn the_word_for_an_object_says_how_near_its_loss_is() {
        use ColumnState::{Displaced, Empty, Healthy, Lost};
        for (health, word) in [
            (Some(object(1, &[Healthy; 3])), "whole"),
            (Some(object(1, &[Healthy, Displaced, Empty])), "whole"),
            (Some(object(1, &[Healthy, Healthy, Lost])), "degraded"),
            (Some(object(0, &[Healthy, Healthy, Lost])), "in danger"),
            (Some(object(-1, &[Healthy, Lost, Lost])), "lost"),
            (Some(object(0, &[])), "whole"),
            (None, "lost"),
        ] {
            assert_eq!(state(health.as_ref()), word, "{health:?}");
        }
    }

    #[test]
    fn a_shard_without_a_node_is_missing_and_one_whose_node_is_down_is_not() {
        let lost = |nodes: &[&str]| {
            let nodes = nodes.iter().map(|node| node.parse().unwrap()).collect();
            Column::of(2, ColumnHealth { state: ColumnState::Lost, nodes, bytes: 7 }, &BTreeMap::new())
        };
        assert_eq!(
            (lost(&[]).state, lost(&["o1"]).state, lost(&["o1"]).node.as_deref()),
            ("missing", "unreachable", Some("o1"))
        );
    }
}
