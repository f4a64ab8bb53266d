//! The Pinning Service API 1.0.0 (<https://ipfs.github.io/pinning-services-api-spec/>), for
//! `ipfs pin remote service add twin http://127.0.0.1:8081 TOKEN`. What is stored here is pinned, what is here in part
//! is being pinned. Nothing is fetched from IPFS: a pin of anything else has failed, and says why. To remove a pin
//! erases nothing.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::{Request, State},
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use twin::Batch;

use crate::{
    caller::{Reader, Writer},
    files::{InPath, InQuery, Sent},
    nft::{cid, iso},
    refusal::Refusal,
    service::Service,
    store::{PinAsk, PinRow, PinStatus, Write},
    token::Grant,
};

/// Bounds of the specification.
const CIDS_MAX: usize = 10;
const NAME_BYTES_MAX: usize = 255;
const ORIGINS_MAX: usize = 20;
const LIMIT: usize = 10;
const LIMIT_MAX: usize = 1000;
/// Of what a pin says beside its CID: keys of `meta`, each of its texts, and all that is kept of it together.
const META_MAX: usize = 1000;
const TEXT_BYTES_MAX: usize = 512;
const PIN_BYTES_MAX: usize = 16 << 10;
/// Of the request that says it, whose JSON may have spaces and escapes.
const BODY_BYTES_MAX: usize = 128 << 10;

/// What is to be pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pin {
    cid: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    origins: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    meta: BTreeMap<String, String>,
}

/// Answers refusals of these routes in the shape of the specification.
pub(crate) async fn shape(request: Request, next: Next) -> Response {
    let answer = next.run(request).await;
    let Some(refusal) = answer.extensions().get::<Refusal>().cloned() else { return answer };
    let reason = match refusal.status {
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => "BAD_REQUEST",
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "UNAUTHORIZED",
        StatusCode::NOT_FOUND => "NOT_FOUND",
        StatusCode::CONFLICT => "INSUFFICIENT_FUNDS",
        status if status.is_server_error() => "INTERNAL_SERVER_ERROR",
        _ => refusal.code,
    };
    let (parts, _) = answer.into_parts();
    let body = Json(json!({ "error": { "reason": reason, "details": refusal.message } }));
    let mut shaped = (parts.status, body).into_response();
    for (name, value) in parts.headers.iter().filter(|(name, _)| !name.as_str().starts_with("content-")) {
        shaped.headers_mut().insert(name, value.clone());
    }
    shaped
}

impl Pin {
    /// Checks what came, and gives its CID the one spelling that it has here.
    fn checked(self) -> Result<Self, Refusal> {
        let cid = cid(&self.cid)?.to_string();
        let is_short = |text: &String| text.len() <= TEXT_BYTES_MAX;
        if self.name.as_ref().is_some_and(|name| name.len() > NAME_BYTES_MAX) {
            return Err(Refusal::wrong(format!("name has at most {NAME_BYTES_MAX} bytes")));
        }
        if self.origins.len() > ORIGINS_MAX || !self.origins.iter().all(is_short) {
            return Err(Refusal::wrong(format!("origins are at most {ORIGINS_MAX} addresses")));
        }
        let are_short = self.meta.iter().all(|(key, value)| is_short(key) && is_short(value));
        if self.meta.len() > META_MAX || !are_short {
            return Err(Refusal::wrong(format!(
                "meta has at most {META_MAX} keys, and texts of {TEXT_BYTES_MAX} bytes"
            )));
        }
        Ok(Self { cid, ..self })
    }
}

fn shown(service: &Service, row: &PinRow) -> serde_json::Value {
    let pin: Pin = serde_json::from_str(&row.pin).unwrap_or(Pin {
        cid: row.cid.clone(),
        name: None,
        origins: Vec::new(),
        meta: BTreeMap::new(),
    });
    let info = match row.status {
        PinStatus::Failed => {
            json!({ "status_details": "it is not stored here, and nothing is fetched from IPFS; upload it" })
        }
        PinStatus::Pinning => json!({ "status_details": "parts of it are here; upload the others" }),
        PinStatus::Pinned => json!({}),
    };
    json!({
        "requestid": row.id.to_string(),
        "status": row.status.word(),
        "created": iso(row.created_ms),
        "pin": pin,
        "delegates": [service.multiaddr()],
        "info": info,
    })
}

/// `POST /pins`.
pub(crate) async fn add(
    State(service): State<Arc<Service>>,
    Writer(grant): Writer,
    sent: Sent,
) -> Result<Response, Refusal> {
    let pin = sent.json::<Pin>(&service, BODY_BYTES_MAX).await?.checked()?;
    let row = put(&service, &grant, pin, None).await?;
    Ok((StatusCode::ACCEPTED, Json(shown(&service, &row))).into_response())
}

async fn put(service: &Service, grant: &Grant, pin: Pin, instead: Option<Batch>) -> Result<PinRow, Refusal> {
    let id = Batch::draw().map_err(|error| Refusal::own(&error))?;
    let created_ms = service.next_ms();
    let text = serde_json::to_string(&pin).map_err(|error| Refusal::own(&error))?;
    if text.len() > PIN_BYTES_MAX {
        return Err(Refusal::wrong(format!("a pin has at most {PIN_BYTES_MAX} bytes of JSON")));
    }
    let row = PinRow { id, created_ms, cid: pin.cid, pin: text, status: PinStatus::Failed };
    service.write(Write::Pin { row: Box::new(row), token: grant.id, instead }).await?;
    service.store.pin(id).await?.ok_or_else(|| Refusal::not_found("no such pin"))
}

fn id(text: &str) -> Result<Batch, Refusal> {
    let none = || Refusal::not_found("no such pin");
    let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).map_err(|_| none())?;
    bytes.try_into().map(Batch).map_err(|_| none())
}

/// `GET /pins/{requestid}`.
pub(crate) async fn get(
    State(service): State<Arc<Service>>,
    _: Reader,
    InPath(text): InPath<String>,
) -> Result<Response, Refusal> {
    let row = service.store.pin(id(&text)?).await?.ok_or_else(|| Refusal::not_found("no such pin"))?;
    Ok(Json(shown(&service, &row)).into_response())
}

/// `POST /pins/{requestid}`: another pin instead, under another id.
pub(crate) async fn replace(
    State(service): State<Arc<Service>>,
    Writer(grant): Writer,
    InPath(text): InPath<String>,
    sent: Sent,
) -> Result<Response, Refusal> {
    let before = id(&text)?;
    service.store.pin(before).await?.ok_or_else(|| Refusal::not_found("no such pin"))?;
    let pin = sent.json::<Pin>(&service, BODY_BYTES_MAX).await?.checked()?;
    let row = put(&service, &grant, pin, Some(before)).await?;
    Ok((StatusCode::ACCEPTED, Json(shown(&service, &row))).into_response())
}

/// `DELETE /pins/{requestid}`.
pub(crate) async fn remove(
    State(service): State<Arc<Service>>,
    _: Writer,
    InPath(text): InPath<String>,
) -> Result<Response, Refusal> {
    let id = id(&text)?;
    service.store.pin(id).await?.ok_or_else(|| Refusal::not_found("no such pin"))?;
    service.write(Write::Unpin(id)).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

/// What a list is asked for.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Ask {
    cid: Option<String>,
    name: Option<String>,
    #[serde(rename = "match")]
    how: Option<String>,
    status: Option<String>,
    before: Option<String>,
    after: Option<String>,
    limit: Option<String>,
    meta: Option<String>,
}

/// Which pins a list has: what the store looks for, and what is looked at here.
struct Filter {
    ask: PinAsk,
    name: Option<(String, How)>,
    meta: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy)]
enum How {
    Exact,
    IgnoringCase,
    Part,
    PartIgnoringCase,
}

impl Filter {
    fn of(ask: &Ask) -> Result<Self, Refusal> {
        let list = |text: &Option<String>| -> Vec<String> {
            text.iter().flat_map(|text| text.split(',')).map(|part| part.trim().to_owned()).collect()
        };
        let cids = list(&ask.cid);
        if cids.len() > CIDS_MAX {
            return Err(Refusal::wrong(format!("cid names at most {CIDS_MAX}")));
        }
        let cids = cids.iter().map(|text| cid(text).map(|cid| cid.to_string())).collect::<Result<_, _>>()?;
        let how = match ask.how.as_deref() {
            None | Some("exact") => How::Exact,
            Some("iexact") => How::IgnoringCase,
            Some("partial") => How::Part,
            Some("ipartial") => How::PartIgnoringCase,
            Some(_) => return Err(Refusal::wrong("match is exact, iexact, partial or ipartial")),
        };
        if ask.name.as_ref().is_some_and(|name| name.len() > NAME_BYTES_MAX) {
            return Err(Refusal::wrong(format!("name has at most {NAME_BYTES_MAX} bytes")));
        }
        let status = |word: &String| match word.as_str() {
            // Nothing waits here.
            "queued" => Ok(None),
            word => PinStatus::of(word).map(Some).ok_or(()),
        };
        let statuses = match &ask.status {
            None => vec![PinStatus::Pinned],
            some => {
                let words = list(some);
                let found = words.iter().map(status).collect::<Result<Vec<_>, ()>>();
                found
                    .map_err(|()| Refusal::wrong("status is queued, pinning, pinned or failed"))?
                    .into_iter()
                    .flatten()
                    .collect()
            }
        };
        let moment = |text: &Option<String>, what: &str| {
            let wrong = || Refusal::wrong(format!("{what} is no time of RFC 3339"));
            let ms = |text: &String| {
                let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| wrong())?;
                u64::try_from(moment.unix_timestamp_nanos() / 1_000_000).map_err(|_| wrong())
            };
            text.as_ref().map(ms).transpose()
        };
        let meta = ask.meta.as_ref().map(|text| serde_json::from_str(text)).transpose();
        Ok(Self {
            ask: PinAsk {
                cids,
                statuses,
                before_ms: moment(&ask.before, "before")?,
                after_ms: moment(&ask.after, "after")?,
            },
            name: ask.name.clone().map(|name| (name, how)),
            meta: meta.map_err(|_| Refusal::wrong("meta is a JSON object of texts"))?.unwrap_or_default(),
        })
    }

    /// Whether the store decides it alone.
    fn is_plain(&self) -> bool {
        self.name.is_none() && self.meta.is_empty()
    }

    /// Whether a pin has the name and the keys that are asked for. Pure.
    fn takes(&self, row: &PinRow) -> bool {
        let Ok(pin) = serde_json::from_str::<Pin>(&row.pin) else { return false };
        let found = pin.name.unwrap_or_default();
        let is_named = self.name.as_ref().is_none_or(|(name, how)| match how {
            How::Exact => found == *name,
            How::IgnoringCase => found.to_lowercase() == name.to_lowercase(),
            How::Part => found.contains(name.as_str()),
            How::PartIgnoringCase => found.to_lowercase().contains(&name.to_lowercase()),
        });
        is_named && self.meta.iter().all(|(key, value)| pin.meta.get(key) == Some(value))
    }
}

/// `GET /pins`.
pub(crate) async fn list(
    State(service): State<Arc<Service>>,
    _: Reader,
    InQuery(ask): InQuery<Ask>,
) -> Result<Response, Refusal> {
    let filter = Filter::of(&ask)?;
    let limit = ask.limit.map_or(Some(LIMIT), |text| text.parse().ok());
    let limit = limit.filter(|limit| (1..=LIMIT_MAX).contains(limit));
    let limit = limit.ok_or_else(|| Refusal::wrong(format!("limit is a number from 1 to {LIMIT_MAX}")))?;
    let takes = |row: &PinRow| filter.takes(row);
    let takes: Option<&(dyn Fn(&PinRow) -> bool + Sync)> = if filter.is_plain() { None } else { Some(&takes) };
    let (rows, count) = service.store.pins(&filter.ask, limit, takes).await?;
    let results: Vec<_> = rows.iter().map(|row| shown(&service, row)).collect();
    Ok(Json(json!({ "count": count, "results": results })).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, created_ms: u64, status: PinStatus) -> PinRow {
        let cid = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e".to_owned();
        let meta = [("app".to_owned(), "x".to_owned())].into();
        let pin = Pin { cid: cid.clone(), name: Some(name.to_owned()), origins: Vec::new(), meta };
        PinRow { id: Batch([1; 16]), created_ms, cid, pin: serde_json::to_string(&pin).unwrap(), status }
    }

    fn filter(query: &str) -> Filter {
        let ask = axum::extract::Query::try_from_uri(&format!("http://a/?{query}").parse().unwrap()).unwrap().0;
        Filter::of(&ask).unwrap()
    }

    #[test]
    fn each_filter_takes_what_it_says() {
        let cat = row("My Cat", 5_000, PinStatus::Pinned);
        for (query, is_taken) in [
            ("", true),
            ("name=My%20Cat", true),
            ("name=my%20cat", false),
            ("name=my%20cat&match=iexact", true),
            ("name=Cat&match=partial", true),
            ("name=cat&match=partial", false),
            ("name=cat&match=ipartial", true),
            ("meta=%7B%22app%22%3A%22x%22%7D", true),
            ("meta=%7B%22app%22%3A%22y%22%7D", false),
        ] {
            assert_eq!(filter(query).takes(&cat), is_taken, "{query}");
        }
        assert_eq!(filter("").ask.statuses, [PinStatus::Pinned], "without a status those that are pinned are meant");
        assert_eq!(filter("status=pinned,queued").ask.statuses, [PinStatus::Pinned]);
        let range = filter("before=1970-01-01T00:00:05.001Z&after=1970-01-01T00:00:05Z").ask;
        assert_eq!((range.before_ms, range.after_ms), (Some(5_001), Some(5_000)));
    }
}
