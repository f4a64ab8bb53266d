//! What answers a GET or HEAD of a file: the status, what of the content goes with it, and what its fields say
//! otherwise than those of all of the file. Pure. One plan for an answer that is made and for one that was ready, on
//! every version of HTTP, so that they agree in all but what is another in each answer: date, the request's name, how
//! long it took.

use std::ops::Range;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::{
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
}

/// How a request is answered.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) status: StatusCode,
    /// Whether the content is sent, or only its length told.
    pub(crate) is_sent: bool,
    content: Content,
    /// The field that the answer has beside those of all of the file, or in place of one of them.
    field: Option<(HeaderName, HeaderValue)>,
}

#[derive(Debug)]
enum Content {
    /// Nothing, and no length is told.
    None,
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
}

impl Plan {
    /// Weighs the conditions of a request first, then its range.
    ///
    /// # Errors
    /// [`Fault::Precondition`] and [`Fault::Range`], which are answered with pages of our own.
    pub(crate) fn of(view: &View<'_>, file: &Prepared<'_>) -> Result<Self, Fault> {
        let length = file.length;
        let (status, content, field) = match file.validators.weigh(view.fields) {
            Precondition::Failed => return Err(Fault::Precondition),
            Precondition::NotModified => (StatusCode::NOT_MODIFIED, Content::None, None),
            Precondition::Answer => match ranges(view, file) {
                Wanted::Unsatisfiable => return Err(Fault::Range { length }),
                Wanted::Whole => (StatusCode::OK, Content::One(0..length), None),
                Wanted::Ranges(ranges) => {
                    let (content, field) = partial(ranges, view.id, file);
                    (StatusCode::PARTIAL_CONTENT, content, Some(field))
                }
            },
        };
        Ok(Self { status, is_sent: *view.method != Method::HEAD, content, field })
    }

    /// Returns the bytes of content; none where no length is told.
    pub(crate) fn length(&self) -> Option<u64> {
        match self.content {
            Content::None => None,
            Content::One(_) | Content::Several(_) => Some(self.pieces().map(|piece| piece.length()).sum()),
        }
    }

    /// Returns the content, piece by piece.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Piece> {
        let (one, several) = match &self.content {
            Content::None => (None, &[][..]),
            Content::One(range) => (Some(Piece::Range(range.clone())), &[][..]),
            Content::Several(pieces) => (None, &pieces[..]),
        };
        one.into_iter().chain(several.iter().cloned())
    }

    /// Returns the fields of the answer, given those of all of the file, Cache-Status among them.
    //= https://www.rfc-editor.org/rfc/rfc9110#section-15.3.7
    //# Otherwise, a sender MUST generate all of the representation header fields that would have been sent in a 200 (OK)
    //# response to the same request.
    //= https://www.rfc-editor.org/rfc/rfc9110#section-15.4.5
    //# The server generating a 304 response MUST generate any of the following header fields that would have been sent in a
    //# 200 (OK) response to the same request
    // And all the others: under the same tag the owner's policy may say something new, and this is how a cache hears of
    // it.
    pub(crate) fn fields(&self, whole: &HeaderMap) -> HeaderMap {
        let length = self.length();
        let is_of_content = |name: &HeaderName| [header::CONTENT_LENGTH, CACHE_STATUS].contains(name);
        let mut fields = HeaderMap::with_capacity(whole.len() + 1);
        for (name, value) in whole {
            // The same place in every answer, whatever of the fields was known before.
            if name == CACHE_STATUS
                && let Some((name, value)) = &self.field
            {
                fields.insert(name.clone(), value.clone());
            }
            if length.is_some() || !is_of_content(name) {
                fields.append(name.clone(), value.clone());
            }
        }
        if let Some(length) = length {
            fields.insert(header::CONTENT_LENGTH, length.into());
        }
        fields
    }
}

impl Piece {
    fn length(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Range(range) => range.end - range.start,
        }
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
