//! What answers a GET or HEAD of a file: the status, what of the content goes with it, and what its fields say
//! otherwise than those of all of the file. Pure. One plan for an answer that is made and for one that was ready, on
//! every version of HTTP, so that they agree in all but what is another in each answer: date, the request's name, how
//! long it took.

use std::ops::Range;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::{
    coding::{asks_by_time, has_zstd},
    conditions::{Precondition, Validators},
    range::{Wanted, wanted},
    representation::{CACHE_STATUS, content_range},
    request::RequestId,
};
use crate::error::Fault;

/// A request, as far as its plan hangs on it.
pub(crate) struct View<'r> {
    /// GET or HEAD.
    pub(crate) method: &'r Method,
    /// The conditions and the range, perhaps among others.
    pub(crate) fields: &'r HeaderMap,
    pub(crate) id: RequestId,
}

/// A file that answers.
pub(crate) struct Prepared<'f> {
    pub(crate) validators: &'f Validators,
    /// In bytes.
    pub(crate) length: u64,
    /// The fields of all of it, as far as they are known.
    pub(crate) fields: &'f HeaderMap,
    /// Whether who asks gets it compressed, and names no part of it.
    pub(crate) is_coded: bool,
}

/// How a request is answered.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) status: StatusCode,
    /// Whether the content is sent, or only its length told.
    pub(crate) is_sent: bool,
    /// Whether the answer tells of the compressed form of the file, and not of the file as it is.
    pub(crate) is_coded: bool,
    content: Content,
    /// The field that the answer has beside those of all of the file, or in place of one of them.
    field: Option<(HeaderName, HeaderValue)>,
}

#[derive(Debug)]
enum Content {
    /// Nothing, and no length is told.
    None,
    /// All of the file, compressed.
    Coded,
    One(Range<u64>),
    Several(Vec<Piece>),
}

/// A piece of content, as it is planned.
#[derive(Debug, Clone)]
pub(crate) enum Piece {
    /// What stands between ranges.
    Text(Bytes),
    /// These bytes of the file.
    Range(Range<u64>),
    /// All of the file, compressed.
    Coded,
}

impl Plan {
    /// Weighs the conditions of a request first, then its range.
    ///
    /// # Errors
    /// [`Fault::Precondition`] and [`Fault::Range`], which are answered with pages of our own.
    pub(crate) fn of(view: &View<'_>, file: &Prepared<'_>) -> Result<Self, Fault> {
        let length = file.length;
        let mut is_coded = file.is_coded;
        let (status, content, field) = match file.validators.weigh(view.fields) {
            Precondition::Failed => return Err(Fault::Precondition),
            Precondition::NotModified => {
                // By time it is told the tag of what a 200 would bring. Who listed tags is told which of them counts.
                is_coded &= asks_by_time(view.fields);
                (StatusCode::NOT_MODIFIED, Content::None, None)
            }
            Precondition::Answer if is_coded && has_zstd(view.fields, file.validators) => {
                (StatusCode::NOT_MODIFIED, Content::None, None)
            }
            Precondition::Answer if is_coded => (StatusCode::OK, Content::Coded, None),
            Precondition::Answer => match ranges(view, file) {
                Wanted::Unsatisfiable => return Err(Fault::Range { length }),
                Wanted::Whole => (StatusCode::OK, Content::One(0..length), None),
                Wanted::Ranges(ranges) => {
                    let (content, field) = partial(ranges, view.id, file);
                    (StatusCode::PARTIAL_CONTENT, content, Some(field))
                }
            },
        };
        Ok(Self { status, is_sent: *view.method != Method::HEAD, is_coded, content, field })
    }

    /// Whether there is a content, or would be one for GET.
    pub(crate) fn has_content(&self) -> bool {
        !matches!(self.content, Content::None)
    }

    /// Returns the bytes of content; none where there is none, or where it is compressed: how long that is the plan
    /// does not say.
    fn length(&self) -> Option<u64> {
        let length = |piece| match piece {
            Piece::Text(text) => Some(text.len() as u64),
            Piece::Range(range) => Some(range.end - range.start),
            Piece::Coded => None,
        };
        if self.has_content() { self.pieces().map(length).sum() } else { None }
    }

    /// Returns the content, piece by piece.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Piece> {
        let (one, several) = match &self.content {
            Content::None => (None, &[][..]),
            Content::Coded => (Some(Piece::Coded), &[][..]),
            Content::One(range) => (Some(Piece::Range(range.clone())), &[][..]),
            Content::Several(pieces) => (None, &pieces[..]),
        };
        one.into_iter().chain(several.iter().cloned())
    }

    /// Returns the fields of the answer, given those of all of the file in the form that the answer tells of,
    /// Cache-Status among them.
    //= https://www.rfc-editor.org/rfc/rfc9110#section-15.3.7
    //# Otherwise, a sender MUST generate all of the representation header fields that would have been sent in a 200 (OK)
    //# response to the same request.
    //= https://www.rfc-editor.org/rfc/rfc9110#section-15.4.5
    //# The server generating a 304 response MUST generate any of the following header fields that would have been sent in a
    //# 200 (OK) response to the same request
    // And all the others: under the same tag the owner's policy may say something new, and this is how a cache hears of
    // it.
    pub(crate) fn fields(&self, whole: &HeaderMap) -> HeaderMap {
        let of_content = [header::CONTENT_LENGTH, header::CONTENT_ENCODING, CACHE_STATUS];
        let mut fields = HeaderMap::with_capacity(whole.len() + 1);
        for (name, value) in whole {
            // The same place in every answer, whatever of the fields was known before.
            if name == CACHE_STATUS
                && let Some((name, value)) = &self.field
            {
                fields.insert(name.clone(), value.clone());
            }
            if self.has_content() || !of_content.contains(name) {
                fields.append(name.clone(), value.clone());
            }
        }
        if let Some(length) = self.length() {
            fields.insert(header::CONTENT_LENGTH, length.into());
        }
        fields
    }
}

/// Returns what a request wants of a file, where its conditions hold.
//= https://www.rfc-editor.org/rfc/rfc9110#section-14.2
//# A server MUST ignore a Range header field received with a request method that is unrecognized or for which range
//# handling is not defined.
fn ranges(view: &View<'_>, file: &Prepared<'_>) -> Wanted {
    let counts = *view.method == Method::GET && file.validators.range_counts(view.fields);
    let field = view.fields.get(header::RANGE).filter(|_| counts).and_then(|field| field.to_str().ok());
    field.map_or(Wanted::Whole, |field| wanted(field, file.length))
}

/// Returns ranges of a file as content, and the field that says which they are, or how they are told apart.
fn partial(ranges: Vec<Range<u64>>, id: RequestId, file: &Prepared<'_>) -> (Content, (HeaderName, HeaderValue)) {
    let value = |text: String| HeaderValue::try_from(text).expect("made of letters, digits and punctuation");
    //= https://www.rfc-editor.org/rfc/rfc9110#section-15.3.7.2
    //# A server MUST NOT generate a multipart response to a request for a single range
    let ranges = match <[_; 1]>::try_from(ranges) {
        Ok([range]) => {
            let said = content_range(&range, file.length);
            return (Content::One(range), (header::CONTENT_RANGE, value(said)));
        }
        Err(ranges) => ranges,
    };
    let boundary = format!("evernear-{id}");
    //= https://www.rfc-editor.org/rfc/rfc9110#section-15.3.7.2
    //# If the selected representation would have had a Content-Type header field in a 200 (OK) response, the server SHOULD
    //# generate that same Content-Type header field in the header area of each body part.
    let own = file.fields.get(header::CONTENT_TYPE).and_then(|own| own.to_str().ok());
    let own = own.map_or_else(String::new, |own| format!("Content-Type: {own}\r\n"));
    let mut pieces = Vec::with_capacity(2 * ranges.len() + 1);
    for range in ranges {
        let said = content_range(&range, file.length);
        pieces.push(Piece::Text(format!("\r\n--{boundary}\r\n{own}Content-Range: {said}\r\n\r\n").into()));
        pieces.push(Piece::Range(range));
    }
    pieces.push(Piece::Text(format!("\r\n--{boundary}--\r\n").into()));
    //= https://www.rfc-editor.org/rfc/rfc9110#section-15.3.7.2
    //# To avoid confusion with single-part responses, a server MUST NOT generate a Content-Range header field in the HTTP
    //# header section of a multiple part response (this field will be sent in each part instead).
    let parted = value(format!("multipart/byteranges; boundary={boundary}"));
    (Content::Several(pieces), (header::CONTENT_TYPE, parted))
}

#[cfg(test)]
mod tests;
