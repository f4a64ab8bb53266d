//! The answer with a file's content: its fields by the plan, and the pieces that are sent.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use http::{StatusCode, header};
use sandbox::{Marks, Tier};

use super::{
    coding::{self, Coding},
    conditions::Validators,
    headers,
    plan::{self, Plan, Prepared, View},
    reply::{Piece, Reply, refusal},
    representation::{CACHE_STATUS, representation},
    request::Request,
};
use crate::{
    error::Fault,
    node::Node,
    policy::decision::Decision,
    store::{
        body::{Body, Source},
        coded::Coded,
        objects::Opened,
    },
};

pub(super) async fn file(
    node: &Node,
    request: &Request,
    file: Arc<Opened>,
    tier: Tier,
    decision: &Decision,
    validators: &Validators,
) -> Result<Reply, Fault> {
    let manifest = file.object.manifest();
    let length = manifest.length;
    let is_saved = decision.marks().contains(Marks::ATTACHMENT) || request.wants_download();
    let saved_as = is_saved.then_some(&*manifest.name);
    let mut whole = representation(decision, validators, &manifest.mime, saved_as);
    let coding = if tier == Tier::None { Coding::Never } else { Coding::of(request, &file, decision.marks()) };
    coding.vary(&mut whole);
    let view = View { method: &request.method, fields: &request.fields, id: request.id };
    let plan = match Plan::of(&view, &Prepared { validators, length, fields: &whole }) {
        Ok(plan) => plan,
        Err(fault) => return Ok(refusal(request, &fault)),
    };
    let mut pieces = Pieces { node, file: &file, tier, is_sent: plan.is_sent, is_begun: false, source: Source::Hit };
    let is_coded = coding == Coding::Zstd && plan.status == StatusCode::OK;
    if is_coded {
        coding::say_zstd(&mut whole, validators);
        if coding::has_zstd(&request.fields, validators) {
            whole.remove(header::CONTENT_ENCODING);
            return Ok(Reply::of(StatusCode::NOT_MODIFIED, whole, None, Source::Own));
        }
    }
    if coding == Coding::Zstd && plan.status == StatusCode::NOT_MODIFIED && coding::asks_by_time(&request.fields) {
        // The tag of what a 200 would bring. Who listed tags is told which of them counts.
        coding::say_zstd(&mut whole, validators);
        whole.remove(header::CONTENT_ENCODING);
    }
    let mut content = Vec::new();
    for piece in plan.pieces() {
        content.push(match piece {
            plan::Piece::Text(text) => Piece::Bytes(text),
            plan::Piece::Range(_) if is_coded => pieces.coded().await?,
            plan::Piece::Range(range) => pieces.range(range).await?,
        });
    }
    // Nothing goes forward for a HEAD: what is known of the file is told, whether or not its content is here.
    let source = if !plan.is_sent && pieces.source == Source::Miss { Source::Own } else { pieces.source };
    let said = match source {
        Source::Hit => "hit",
        Source::Disk => "hit; detail=disk",
        Source::Own if !plan.is_sent => "detail=head",
        Source::Miss | Source::Own if tier == Tier::None => "fwd=uri-miss",
        Source::Miss | Source::Own => "fwd=uri-miss; stored",
    };
    headers::set(&mut whole, CACHE_STATUS, format!("\"{}\"; {said}", node.config.name));
    let (content, source) = if plan.length().is_some() { (Some(content), source) } else { (None, Source::Own) };
    let mut fields = plan.fields(&whole);
    if is_coded {
        // That of the file. The frames have another, which is told where it is known.
        fields.remove(header::CONTENT_LENGTH);
    }
    Ok(Reply::of(plan.status, fields, content, source))
}

/// Makes the pieces of a content, and says of them all where they came from.
struct Pieces<'a> {
    node: &'a Node,
    file: &'a Arc<Opened>,
    tier: Tier,
    /// Whether they are sent, or only their length told.
    is_sent: bool,
    /// Whether there was one before.
    is_begun: bool,
    /// What is true of all so far.
    source: Source,
}

impl Pieces<'_> {
    /// Returns one range, its first block already read where it begins the answer.
    async fn range(&mut self, range: Range<u64>) -> Result<Piece, Fault> {
        if let Some(inline) = self.file.object.inline() {
            let bounds = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(inline.len());
            return Ok(Piece::Bytes(Bytes::copy_from_slice(&inline[bounds(range.start)..bounds(range.end)])));
        }
        let geometry = self.file.object.geometry().ok_or(Fault::Damaged)?;
        if range.start == 0 && self.is_sent {
            self.file.begin();
        }
        let body = Body::new((&self.node.cache, &self.node.fills), Arc::clone(self.file), geometry, range, self.tier);
        self.source = self.source.max(body.source);
        let begins = !std::mem::replace(&mut self.is_begun, true) && self.is_sent;
        Ok(Piece::Blocks(if begins { body.begin(&self.node.fills).await? } else { body }))
    }

    /// Returns all of it compressed, its first block already read.
    async fn coded(&mut self) -> Result<Piece, Fault> {
        let geometry = self.file.object.geometry().ok_or(Fault::Damaged)?;
        let coded = Coded::new((&self.node.cache, &self.node.fills), Arc::clone(self.file), geometry, self.tier);
        self.source = coded.source;
        if !self.is_sent {
            return Ok(Piece::Coded(Box::new(coded)));
        }
        self.file.begin();
        Ok(Piece::Coded(Box::new(coded.begin(&self.node.fills).await?)))
    }
}
