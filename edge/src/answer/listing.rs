//! The answer with a listing of a folder: a page of the edge's, whatever the owner says of the folder's files.

use format::Directory;
use http::{HeaderMap, StatusCode, header};

use super::{
    conditions::{Precondition, Validators},
    headers,
    own::{own_fields, own_page},
    page,
    reply::{Reply, refusal},
    request::Request,
};
use crate::{error::Fault, policy::decision::Decision, store::body::Source};

/// How long a listing may be kept: the folder stays, but another version of the edge may show it otherwise.
const LISTING_SECONDS_MAX: u32 = 3600;

/// Answers with what a directory holds, which is shown under a path and a name.
pub(super) fn listing(request: &Request, decision: &Decision, directory: &Directory, shown: (&str, &str)) -> Reply {
    // Here: a page has so few names that it takes no longer than others of our own, whatever the folder holds.
    let page = page::listing(directory, shown, &request.query);
    let mut fields = HeaderMap::new();
    headers::secure(&mut fields);
    headers::set(&mut fields, header::CACHE_CONTROL, decision.cache_control_up_to(LISTING_SECONDS_MAX));
    headers::vary(&mut fields, decision);
    headers::of_verdict(&mut fields, decision);
    match Validators::none().weigh(&request.fields) {
        Precondition::Answer => own_page(fields, page),
        Precondition::NotModified => Reply::of(StatusCode::NOT_MODIFIED, own_fields(fields), None, Source::Own),
        Precondition::Failed => refusal(request, &Fault::Precondition),
    }
}
