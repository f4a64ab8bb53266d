//! A form of several files (`multipart/form-data`, RFC 7578): it becomes a folder, each file under its own path. Small
//! files are stored many at once while the form goes on; a large one is stored while it comes.
//!
//! The parser is `multer`. It takes in whatever is ready, so it is fed in sips: between two of them it has to give out
//! what it read, and head lines without an end are an error.

use std::{
    io::Read,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use futures::{Stream, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use multer::{Field, Multipart};
use tokio::sync::Mutex;
use twin::{Entry, Incoming, Progress, PutError, Stored, StreamedFolder};

use crate::{
    cids::{Dag, Folder, Passing},
    intake::{Body, IntakeError, pipe},
    places::Held,
    refusal::{Refusal, causes},
    service::{Service, UnderWay},
    store::MadeOf,
    token::Grant,
    upload::{Kept, SMALL_BYTES, Wanted, both, whole},
    wishes::media_type,
};

/// Small files that are stored at once.
const SMALL_MAX: usize = 32;
/// What the parser is fed before it has to give something out.
const SIP_BYTES: usize = 64 << 10;
/// What it may hold back: head lines of a part, and what may be the beginning of a boundary.
const HELD_BACK_BYTES_MAX: usize = 256 << 10;
/// Longest boundary, by RFC 2046 section 5.1.1.
const BOUNDARY_BYTES_MAX: usize = 70;
/// Longest text field.
const TEXT_BYTES_MAX: usize = 4096;

/// What the texts of a form say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Texts {
    /// One called `name` before the first file names the folder.
    Name,
    /// There are none: every part is a file, as on nft.storage.
    Refused,
}

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
struct Form {
    parts: Multipart<'static>,
    held_back: Arc<AtomicUsize>,
    held: Held,
}

impl Form {
    fn new(body: Arc<Mutex<Body>>, held: Held, boundary: &str) -> Self {
        let held_back = Arc::new(AtomicUsize::new(0));
        let frames = futures::stream::try_unfold(body, |body| async {
            let frame = body.lock().await.next().await?;
            Ok(frame.map(|bytes| (bytes, body)))
        });
        let sips = Sips { from: Box::pin(frames), given: 0, held_back: held_back.clone() };
        Self { parts: Multipart::new(sips, boundary), held_back, held }
    }

    async fn next(&mut self) -> Result<Option<Field<'static>>, Refusal> {
        let part = self.parts.next_field().await.map_err(refused)?;
        self.held_back.store(0, Relaxed);
        Ok(part)
    }

    async fn chunk(&self, part: &mut Field<'static>) -> Result<Option<Bytes>, Refusal> {
        let chunk = part.chunk().await.map_err(refused)?;
        self.held_back.store(0, Relaxed);
        Ok(chunk)
    }

    /// Reads the beginning of a part, and whether that is all of it.
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

/// A small file on its way: its path, and what came of it.
type Storing<'f> = FuturesUnordered<BoxFuture<'f, (String, Result<Entry, PutError>)>>;

impl Service {
    /// Stores the files of a form as a folder.
    pub(crate) async fn store_form(
        self: &Arc<Self>,
        grant: &Grant,
        body: Body,
        boundary: String,
        wanted: Wanted,
        texts: Texts,
    ) -> Result<Kept, Refusal> {
        let (service, token) = (self.clone(), grant.id);
        let task = async move {
            let under_way = service.begin(token, wanted.source, wanted.title.clone()).await?;
            let held = body.held.clone();
            let body = Arc::new(Mutex::new(body));
            let form = Form::new(body.clone(), held, &boundary);
            let stored = Box::pin(service.read_form(&under_way, form, wanted, texts)).await;
            // The form that read from it is gone.
            let body = Arc::try_unwrap(body).map_err(|_| Refusal::stopping())?.into_inner();
            service.end(under_way, stored, MadeOf::Request, body.reservation).await
        };
        self.tasks.spawn(task).await.map_err(|_| Refusal::stopping())?
    }

    async fn read_form(
        &self,
        under_way: &UnderWay,
        mut form: Form,
        wanted: Wanted,
        texts: Texts,
    ) -> Result<(Stored, Dag), Refusal> {
        let Wanted { mut options, profile, .. } = wanted;
        let mut part = form.next().await?;
        while let Some(text) = part.as_mut().filter(|part| part.file_name().is_none()) {
            if texts == Texts::Refused || text.name() != Some("name") {
                return Err(no_file(texts, text.name()));
            }
            let (bytes, is_whole) = form.head(text, TEXT_BYTES_MAX).await?;
            let name = String::from_utf8(bytes.to_vec()).ok().filter(|_| is_whole);
            options.name = Some(name.ok_or_else(|| Refusal::wrong("the name is no UTF-8 of at most 4096 bytes"))?);
            drop(part);
            part = form.next().await?;
        }
        let mut cids = Folder::new(profile);
        let mut folder = self.twin.begin_folder(under_way.batch, options).await?;
        let files = folder.files();
        let mut storing: Storing<'_> = FuturesUnordered::new();
        let (mut count, mut roots) = (0, Vec::new());
        while let Some(mut file) = part {
            let path = path_of(&file, texts)?;
            folder.take_path(&path)?;
            let mime = media_type(file.content_type().map(AsRef::as_ref))?;
            count += 1;
            // What is being stored goes on while the form comes.
            let (bytes, is_whole) = beside(&mut storing, &mut folder, form.head(&mut file, SMALL_BYTES)).await?;
            let quiet: Arc<dyn Progress> = Arc::new(());
            let passing = Passing::new(profile);
            if is_whole {
                passing.see(&bytes);
                while storing.len() >= SMALL_MAX {
                    settle(&mut storing, &mut folder).await?;
                }
                let files = files.clone();
                roots.push((path.clone(), passing.root()));
                storing.push(Box::pin(async move {
                    let stored = files.store(&path, mime, whole(bytes), &quiet).await;
                    (path, stored)
                }));
            } else {
                while !storing.is_empty() {
                    settle(&mut storing, &mut folder).await?;
                }
                form.held.set(Some(self.place(under_way.token).await?));
                let (inlet, outlet) = pipe();
                let stream = Box::new(passing.tap(bytes.reader().chain(outlet)));
                let pump = async {
                    while let Some(bytes) = form.chunk(&mut file).await? {
                        if !inlet.put(bytes).await {
                            return Ok::<_, Refusal>(());
                        }
                    }
                    inlet.end().await;
                    Ok(())
                };
                let put = files.store(&path, mime, Incoming { stream, length: None }, &quiet);
                let stored = both(Box::pin(put), Box::pin(pump)).await;
                form.held.set(None);
                folder.insert(&path, &stored?)?;
                roots.push((path, passing.root()));
            }
            drop(file);
            part = beside(&mut storing, &mut folder, form.next()).await?;
        }
        while !storing.is_empty() {
            settle(&mut storing, &mut folder).await?;
        }
        if count == 0 {
            return Err(Refusal::wrong("the form has no file"));
        }
        for (path, root) in roots {
            cids.insert(&path, root).map_err(|error| Refusal::caller(&error))?;
        }
        let dag = cids.finish().map_err(|error| Refusal::caller(&error))?;
        Ok((folder.finish().await?, dag))
    }
}

/// Waits for one of the small files.
async fn settle(storing: &mut Storing<'_>, folder: &mut StreamedFolder<'_>) -> Result<(), Refusal> {
    if let Some((path, stored)) = storing.next().await {
        folder.insert(&path, &stored?)?;
    }
    Ok(())
}

/// Waits for some work, and takes what is stored meanwhile.
async fn beside<T>(
    storing: &mut Storing<'_>,
    folder: &mut StreamedFolder<'_>,
    work: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            Some((path, stored)) = storing.next(), if !storing.is_empty() => folder.insert(&path, &stored?)?,
        }
    }
}

fn no_file(texts: Texts, name: Option<&str>) -> Refusal {
    if texts == Texts::Refused {
        return Refusal::wrong("missing Content-Type in multipart part");
    }
    let name: String = name.unwrap_or_default().chars().take(80).collect();
    Refusal::wrong(format!("the part {name:?} is no file; the only text of a form is `name`, before its first file"))
}

/// Returns the path of a file in the folder. Browsers send that of a file in a chosen folder with slashes.
fn path_of(file: &Field<'static>, texts: Texts) -> Result<String, Refusal> {
    let path = file.file_name().ok_or_else(|| no_file(texts, file.name()))?;
    let path = path.trim_start_matches("./").trim_start_matches('/');
    Ok(if path.is_empty() { "blob".to_owned() } else { path.to_owned() })
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
