//! The answer with a file's content: its fields by the plan, and the pieces that are sent.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
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
        hand::Hand,
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
    let is_coded = coding == Coding::Zstd;
    let plan = match Plan::of(&view, &Prepared { validators, length, fields: &whole, is_coded }) {
        Ok(plan) => plan,
        Err(fault) => return Ok(refusal(request, &fault)),
    };
    if plan.is_coded {
        coding::say_zstd(&mut whole, validators);
    }
    let (hand, is_sent) = (&request.hand, plan.is_sent);
    let mut pieces = Pieces { node, file: &file, tier, hand, is_sent, is_begun: false, source: Source::Hit };
    let mut content = Vec::new();
    for piece in plan.pieces() {
        content.push(match piece {
            plan::Piece::Text(text) => Piece::Bytes(text),
            plan::Piece::Range(range) => pieces.range(range).await?,
            plan::Piece::Coded => pieces.coded().await?,
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
    let (content, source) = if plan.has_content() { (Some(content), source) } else { (None, Source::Own) };
    Ok(Reply::of(plan.status, plan.fields(&whole), content, source))
}

/// Makes the pieces of a content, and says of them all where they came from.
struct Pieces<'a> {
    node: &'a Node,
    file: &'a Arc<Opened>,
    tier: Tier,
    hand: &'a Hand,
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
        let body = Body::new(
            (&self.node.cache, &self.node.fills),
            Arc::clone(self.file),
            geometry,
            range,
            self.tier,
            self.hand.clone(),
        );
        self.source = self.source.max(body.source);
        let begins = !std::mem::replace(&mut self.is_begun, true) && self.is_sent;
        Ok(Piece::Blocks(if begins { body.begin(&self.node.fills).await? } else { body }))
    }

    /// Returns all of it compressed, its first block already read.
    async fn coded(&mut self) -> Result<Piece, Fault> {
        let geometry = self.file.object.geometry().ok_or(Fault::Damaged)?;
        let coded = Coded::new(
            (&self.node.cache, &self.node.fills),
            Arc::clone(self.file),
            geometry,
            self.tier,
            self.hand.clone(),
        );
        self.source = coded.source;
        if !self.is_sent {
            return Ok(Piece::Coded(Box::new(coded)));
        }
        self.file.begin();
        Ok(Piece::Coded(Box::new(coded.begin(&self.node.fills).await?)))
    }
}
