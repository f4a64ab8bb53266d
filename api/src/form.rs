//! A form of several files (`multipart/form-data`, RFC 7578), as it comes: [`filing`] stores its files.
//!
//! The parser is `multer`. It takes in whatever is ready, so it is fed in sips: between two of them it has to give out
//! what it read, and head lines without an end are an error.

pub(crate) mod filing;

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use multer::{Field, Multipart};
use tokio::sync::Mutex;

use crate::{
    intake::{Body, IntakeError},
    places::Held,
    refusal::{Refusal, causes},
};

/// What the parser is fed before it has to give something out.
const SIP_BYTES: usize = 64 << 10;
/// What it may hold back: head lines of a part, and what may be the beginning of a boundary.
const HELD_BACK_BYTES_MAX: usize = 256 << 10;
/// Longest boundary, by RFC 2046 section 5.1.1.
const BOUNDARY_BYTES_MAX: usize = 70;

/// The parser held back more than it may.
#[derive(Debug, thiserror::Error)]
#[error("the head of a part has no end")]
struct HeldBack;

/// Feeds the parser.
struct Sips<S> {
    from: S,
    given: usize,
    held_back: Arc<AtomicUsize>,
}

impl<S: Stream<Item = Result<Bytes, IntakeError>> + Unpin> Stream for Sips<S> {
    type Item = Result<Bytes, Box<dyn std::error::Error + Send + Sync>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.given >= SIP_BYTES {
            self.given = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        match ready!(self.from.poll_next_unpin(context)) {
            Some(Ok(bytes)) => {
                self.given += bytes.len();
                if self.held_back.fetch_add(bytes.len(), Relaxed) + bytes.len() > HELD_BACK_BYTES_MAX {
                    return Poll::Ready(Some(Err(HeldBack.into())));
                }
                Poll::Ready(Some(Ok(bytes)))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
            None => Poll::Ready(None),
        }
    }
}

/// A form that is read.
pub(crate) struct Form {
    parts: Multipart<'static>,
    held_back: Arc<AtomicUsize>,
    held: Held,
}

/// The body of a form that is read.
pub(crate) struct Lent(Arc<Mutex<Body>>);

impl Lent {
    /// Returns the body, once the form is gone.
    pub(crate) fn ended(self) -> Result<Body, Refusal> {
        Ok(Arc::try_unwrap(self.0).map_err(|_| Refusal::stopping())?.into_inner())
    }
}

impl Form {
    /// Begins to read a body as a form.
    pub(crate) fn of(body: Body, boundary: &str) -> (Self, Lent) {
        let (held, held_back) = (body.held.clone(), Arc::new(AtomicUsize::new(0)));
        let body = Arc::new(Mutex::new(body));
        let frames = futures::stream::try_unfold(body.clone(), |body| async {
            let frame = body.lock().await.next().await?;
            Ok(frame.map(|bytes| (bytes, body)))
        });
        let sips = Sips { from: Box::pin(frames), given: 0, held_back: held_back.clone() };
        (Self { parts: Multipart::new(sips, boundary), held_back, held }, Lent(body))
    }

    /// Returns the next part.
    pub(crate) async fn next(&mut self) -> Result<Option<Field<'static>>, Refusal> {
        let part = self.parts.next_field().await.map_err(refused)?;
        self.held_back.store(0, Relaxed);
        Ok(part)
    }

    async fn chunk(&self, part: &mut Field<'static>) -> Result<Option<Bytes>, Refusal> {
        let chunk = part.chunk().await.map_err(refused)?;
        self.held_back.store(0, Relaxed);
        Ok(chunk)
    }

    /// Reads the beginning of a part, and says whether that is all of it.
    async fn head(&self, part: &mut Field<'static>, max: usize) -> Result<(Bytes, bool), Refusal> {
        let mut bytes = BytesMut::new();
        while let Some(chunk) = self.chunk(part).await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > max {
                return Ok((bytes.freeze(), false));
            }
        }
        Ok((bytes.freeze(), true))
    }

    /// Reads a part that is a text of at most `max` bytes.
    pub(crate) async fn text(&self, part: &mut Field<'static>, max: usize) -> Result<String, Refusal> {
        let (bytes, is_whole) = self.head(part, max).await?;
        let text = String::from_utf8(bytes.into()).ok().filter(|_| is_whole);
        text.ok_or_else(|| {
            let name = part.name().unwrap_or_default();
            Refusal::wrong(format!("the part {name:?} is no text in UTF-8 of at most {max} bytes")).closing()
        })
    }
}

fn refused(error: multer::Error) -> Refusal {
    if let multer::Error::StreamReadFailed(cause) = error {
        return match cause.downcast::<IntakeError>() {
            Ok(intake) => (*intake).into(),
            Err(cause) => match cause.downcast::<multer::Error>() {
                Ok(inner) => refused(*inner),
                Err(cause) => Refusal::wrong(format!("the form cannot be read: {cause}")).closing(),
            },
        };
    }
    Refusal::wrong(format!("the form cannot be read: {}", causes(&error))).closing()
}

/// Returns the boundary of a form by its content type; none for what is no form.
pub(crate) fn boundary(content_type: &str) -> Option<Result<String, Refusal>> {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let found = multer::parse_boundary(content_type).ok();
    let found = found.filter(|it| (1..=BOUNDARY_BYTES_MAX).contains(&it.len()) && it.is_ascii());
    Some(found.ok_or_else(|| Refusal::wrong("the content type of the form has no boundary of 1 to 70 characters")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_form_has_a_boundary_and_it_is_of_a_bounded_length() {
        assert!(boundary("image/png").is_none() && boundary("").is_none());
        assert_eq!(boundary("multipart/form-data; boundary=abc").unwrap().unwrap(), "abc");
        assert_eq!(boundary("Multipart/Form-Data; boundary=\"a b\"").unwrap().unwrap(), "a b");
        assert!(boundary("multipart/form-data").unwrap().is_err());
        assert!(boundary(&format!("multipart/form-data; boundary={}", "a".repeat(71))).unwrap().is_err());
    }
}
