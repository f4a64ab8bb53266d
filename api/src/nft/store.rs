//! `POST /store`: an NFT's metadata and its files, in one form. It becomes a folder in which each file lies below the
//! keys that lead to it in the metadata, as `ipfs://CID/image/cat.png` says; its CID is that of the metadata.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde_json::json;
use twin::Stored;
use unixfs::{Cid, Codec, Profile, Root};

use super::{begin_body, metadata::Metadata, wanted};
use crate::{
    audit::Subject,
    caller::Writer,
    cids::{Dag, Folder},
    files::Sent,
    form::{
        Form, boundary,
        filing::{Filing, file_name},
    },
    refusal::Refusal,
    service::{Service, UnderWay},
    store::{MadeOf, Source},
    upload::Wanted,
};

/// The part of the form that is the metadata.
const META: &str = "meta";
/// The file that the metadata becomes.
const JSON: &str = "metadata.json";
/// Longest metadata, and how many values it has: each takes some hundred bytes of memory, and two of text.
const META_BYTES_MAX: usize = 128 << 10;
const VALUES_MAX: usize = 10_000;

/// `POST /store`.
pub(crate) async fn store(
    State(service): State<Arc<Service>>,
    Writer(grant): Writer,
    sent: Sent,
) -> Result<Response, Refusal> {
    let content_type = sent.content_type()?.to_owned();
    let no_form = || Refusal::wrong("content-type should be `multipart/form-data`");
    let boundary = boundary(&content_type).ok_or_else(no_form)??;
    let wanted = wanted(&service, (&grant, &sent.headers), (&content_type, sent.length()), Source::Metadata).await?;
    let body = begin_body(&service, &grant, sent)?;
    let task = {
        let service = service.clone();
        async move {
            let under_way = service.begin(grant.id, wanted.source, wanted.title.clone()).await?;
            let (form, body) = Form::of(body, &boundary);
            let (stored, data) = match Box::pin(service.read_nft(&under_way, form, wanted)).await {
                Ok((stored, dag, data)) => (Ok((stored, dag)), data),
                Err(refusal) => (Err(refusal), Metadata::Null),
            };
            let kept = service.end(under_way, stored, MadeOf::Request, body.ended()?.reservation).await?;
            Ok::<_, Refusal>((kept, data))
        }
    };
    let (kept, data) = service.tasks.spawn(task).await.map_err(|_| Refusal::stopping())??;
    let (ipnft, subject) = (kept.dag.cid.to_string(), Subject::of(&kept));
    let value = json!({ "ipnft": ipnft, "url": format!("ipfs://{ipnft}/{JSON}"), "data": data });
    let mut answer = Json(json!({ "ok": true, "value": value })).into_response();
    answer.extensions_mut().insert(subject);
    Ok(answer)
}

impl Service {
    /// Stores the files of an NFT while they come, and then its metadata.
    async fn read_nft(
        &self,
        under_way: &UnderWay,
        form: Form,
        Wanted { options, profile, .. }: Wanted,
    ) -> Result<(Stored, Dag, Metadata), Refusal> {
        let mut filing = Filing::begin(self, under_way, form, (options, profile)).await?;
        let (mut meta, mut links, mut dag_bytes) = (None, Vec::new(), 0);
        while let Some(mut part) = filing.next().await? {
            let place = part.name().unwrap_or_default().to_owned();
            if place == META {
                meta = Some(filing.text(&mut part, META_BYTES_MAX).await?);
                continue;
            }
            let name = file_name(&part).ok_or_else(|| Refusal::wrong("expected File part"))?;
            // A path would be folders in the link's own.
            let name = name.rsplit('/').next().unwrap_or_default().to_owned();
            let root = filing.file(&format!("{}/{name}", place.replace('.', "/")), part).await?;
            let folder = alone(profile, &name, root)?;
            dag_bytes += folder.bytes;
            links.push((place, Metadata::Link { folder: folder.cid, name }));
        }
        let meta = meta.ok_or_else(|| Refusal::wrong("missing `meta` in multipart"))?;
        let mut meta = parsed(&meta)?;
        for (place, link) in links {
            meta.put(&place, link).map_err(|error| Refusal::caller(&error))?;
        }
        let text = serde_json::to_string(&meta).map_err(|error| Refusal::own(&error))?;
        let json = filing.bytes(JSON, Bytes::from(text)).await?;
        let root = meta.root(json.cid).map_err(|error| Refusal::caller(&error))?;
        let dag = Dag { cid: Cid::of(Codec::DagCbor, &root), bytes: root.len() as u64 + json.tsize + dag_bytes };
        Ok((filing.finish().await?, dag, meta))
    }
}

/// Reads the text of metadata.
fn parsed(text: &str) -> Result<Metadata, Refusal> {
    // Each value but the first of a list or an object has a comma before it.
    if text.bytes().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count() > VALUES_MAX {
        return Err(Refusal::wrong(format!("`meta` has over {VALUES_MAX} commas and brackets")));
    }
    match serde_json::from_str(text) {
        Ok(meta @ Metadata::Map(_)) => Ok(meta),
        Ok(_) => Err(Refusal::wrong("`meta` is not the JSON of an object")),
        Err(error) => Err(Refusal::wrong(format!("`meta` is not the JSON of an object: {error}"))),
    }
}

/// Returns the DAG of a folder with one file.
fn alone(profile: Profile, name: &str, root: Root) -> Result<Dag, Refusal> {
    let mut folder = Folder::new(profile);
    folder.insert(name, root).and_then(|()| folder.finish()).map_err(|error| Refusal::caller(&error))
}
