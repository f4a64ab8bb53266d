//! What an answer was made of, and whether it may be given again: then it is ready, and hangs on these.

use std::{cell::RefCell, sync::Arc, time::Instant};

use bytes::Bytes;

use super::{
    conditions::Validators,
    ready::{Ready, Seen, Stored, Words},
};
use crate::{node::Node, policy::ask::Ask, store::objects::Opened};

/// What an answer was made of.
pub(super) struct MadeOf {
    pub(super) root: Arc<Opened>,
    pub(super) file: Arc<Opened>,
    /// The directories on the way.
    pub(super) trail: Vec<Arc<Opened>>,
    /// The second since 1970 at which the first lease of these ends.
    pub(super) ends: Option<u64>,
    pub(super) seen: Seen,
    pub(super) validators: Validators,
}

impl MadeOf {
    /// Returns an answer as it may be given again, where one policy alone decides about it.
    pub(super) async fn ready(self, node: &Node, ask: &Ask<'_>, words: Words) -> Option<Ready> {
        let Self { root, file, trail: mut opened, ends, seen, validators } = self;
        let about = ask.request.as_ref().filter(|about| about.token.is_none())?;
        let program = node.sole_program(&root, &file).await?;
        // What is not remembered would not be found again.
        program.known(ask).filter(|said| Arc::ptr_eq(said, &words.said))?;
        let content = match (file.object.inline(), file.object.geometry()) {
            (Some(inline), _) => Stored::Inline(Bytes::copy_from_slice(inline)),
            (None, Some(geometry)) => Stored::Blocks(geometry),
            (None, None) => return None,
        };
        opened.push(Arc::clone(&file));
        let mut trail = Vec::with_capacity(opened.len());
        for opened in &opened {
            trail.push((Arc::downgrade(opened), node.objects.watch(opened).await?));
        }
        let fresh_until = opened.iter().map(|opened| node.objects.fresh_until(opened)).min()?;
        if fresh_until <= Instant::now() {
            return None;
        }
        Some(Ready {
            fresh_until,
            alive_until: ends.unwrap_or(u64::MAX),
            file,
            trail,
            program: Arc::downgrade(&program),
            seen,
            is_secure: about.is_secure,
            host: about.host.to_string(),
            path: about.path.to_string(),
            query: about.query.to_string(),
            content,
            validators,
            words: RefCell::new(vec![words]),
        })
    }
}
