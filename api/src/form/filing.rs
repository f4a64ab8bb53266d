//! The files of a form on their way into a folder: small ones are stored many at once while the form goes on, a large
//! one while it comes.

use std::{io::Read, sync::Arc};

use bytes::{Buf, Bytes};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use multer::Field;
use twin::{Entry, Incoming, MediaType, Progress, PutError, PutOptions, Stored, StreamedFiles, StreamedFolder};
use unixfs::{Profile, Root};

use super::Form;
use crate::{
    cids::{Dag, Folder, Passing},
    intake::{Body, pipe},
    quota::{Reservation, counted},
    refusal::Refusal,
    service::{Service, UnderWay},
    store::MadeOf,
    token::{Grant, TokenId},
    upload::{Kept, SMALL_BYTES, Wanted, both, whole},
    wishes::media_type,
};

/// Small files that are stored at once.
const SMALL_MAX: usize = 32;
/// Longest name of a folder.
const NAME_BYTES_MAX: usize = 4096;

/// What the texts of a form say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Texts {
    /// One called `name` before the first file names the folder.
    Name,
    /// There are none: every part is a file, as on nft.storage.
    Refused,
}

/// A small file on its way: its path, and what came of it.
type Storing<'s> = FuturesUnordered<BoxFuture<'s, (String, Result<Entry, PutError>)>>;

/// A folder that is made of a form.
pub(crate) struct Filing<'s> {
    service: &'s Service,
    token: TokenId,
    profile: Profile,
    form: Form,
    folder: StreamedFolder<'s>,
    /// What the objects count at least, beside the bytes of the form that came until then.
    objects: Reservation,
    files: StreamedFiles<'s>,
    storing: Storing<'s>,
}

impl<'s> Filing<'s> {
    /// Begins a folder. What follows in the form is its files.
    pub(crate) async fn begin(
        service: &'s Service,
        under_way: &UnderWay,
        form: Form,
        (options, profile): (PutOptions, Profile),
    ) -> Result<Self, Refusal> {
        let folder = service.twin.begin_folder(under_way.batch, options).await?;
        let (files, storing, token) = (folder.files(), Storing::new(), under_way.token);
        let mut it = Self { service, token, profile, form, folder, objects: service.account(token), files, storing };
        it.count()?;
        Ok(it)
    }

    /// Takes what the folder's objects count at least of the token's quota.
    fn count(&mut self) -> Result<(), Refusal> {
        Ok(self.objects.reach(counted(0, self.folder.objects()))?)
    }

    /// Returns the next part of the form.
    pub(crate) async fn next(&mut self) -> Result<Option<Field<'static>>, Refusal> {
        beside(&mut self.storing, &mut self.folder, self.form.next()).await
    }

    /// Reads a part that is a text of at most `max` bytes.
    pub(crate) async fn text(&mut self, part: &mut Field<'static>, max: usize) -> Result<String, Refusal> {
        beside(&mut self.storing, &mut self.folder, self.form.text(part, max)).await
    }

    /// Stores a part as the file of a path, and returns the root of its DAG.
    pub(crate) async fn file(&mut self, path: &str, mut part: Field<'static>) -> Result<Root, Refusal> {
        self.folder.take_path(path)?;
        self.count()?;
        let mime = media_type(part.content_type().map(AsRef::as_ref))?;
        // What is being stored goes on while the form comes.
        let head = self.form.head(&mut part, SMALL_BYTES);
        let (bytes, is_whole) = beside(&mut self.storing, &mut self.folder, head).await?;
        if is_whole {
            return self.small(path, mime, bytes).await;
        }
        let (quiet, passing): (Arc<dyn Progress>, _) = (Arc::new(()), Passing::new(self.profile));
        while !self.storing.is_empty() {
            self.settle().await?;
        }
        self.form.held.set(Some(self.service.place(self.token).await?));
        let (inlet, outlet) = pipe();
        let stream = Box::new(passing.tap(bytes.reader().chain(outlet)));
        let pump = async {
            while let Some(bytes) = self.form.chunk(&mut part).await? {
                if !inlet.put(bytes).await {
                    return Ok::<_, Refusal>(());
                }
            }
            inlet.end().await;
            Ok(())
        };
        let put = self.files.store(path, mime, Incoming { stream, length: None }, &quiet);
        let stored = both(Box::pin(put), Box::pin(pump)).await;
        self.form.held.set(None);
        self.folder.insert(path, &stored?)?;
        Ok(passing.root())
    }

    /// Stores bytes as one more file, and returns the root of its DAG.
    pub(crate) async fn bytes(&mut self, path: &str, bytes: Bytes) -> Result<Root, Refusal> {
        self.folder.take_path(path)?;
        self.count()?;
        self.small(path, None, bytes).await
    }

    async fn small(&mut self, path: &str, mime: Option<MediaType>, bytes: Bytes) -> Result<Root, Refusal> {
        let (quiet, passing): (Arc<dyn Progress>, _) = (Arc::new(()), Passing::new(self.profile));
        passing.see(&bytes);
        while self.storing.len() >= SMALL_MAX {
            self.settle().await?;
        }
        let (files, path) = (self.files.clone(), path.to_owned());
        self.storing.push(Box::pin(async move {
            let stored = files.store(&path, mime, whole(bytes), &quiet).await;
            (path, stored)
        }));
        Ok(passing.root())
    }

    /// Waits for one of the small files.
    async fn settle(&mut self) -> Result<(), Refusal> {
        if let Some((path, stored)) = self.storing.next().await {
            self.folder.insert(&path, &stored?)?;
        }
        Ok(())
    }

    /// Waits for the small files, and stores the folder.
    pub(crate) async fn finish(mut self) -> Result<Stored, Refusal> {
        while !self.storing.is_empty() {
            self.settle().await?;
        }
        Ok(self.folder.finish().await?)
    }
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

impl Service {
    /// Stores the files of a form as a folder, each under its own path.
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
            let (form, body) = Form::of(body, &boundary);
            let stored = Box::pin(service.read_form(&under_way, form, wanted, texts)).await;
            service.end(under_way, stored, MadeOf::Request, body.ended()?.reservation).await
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
            options.name = Some(form.text(text, NAME_BYTES_MAX).await?);
            drop(part);
            part = form.next().await?;
        }
        let mut filing = Filing::begin(self, under_way, form, (options, profile)).await?;
        let mut roots = Vec::new();
        while let Some(file) = part {
            let path = file_name(&file).ok_or_else(|| no_file(texts, file.name()))?;
            let root = filing.file(&path, file).await?;
            roots.push((path, root));
            part = filing.next().await?;
        }
        if roots.is_empty() {
            return Err(Refusal::wrong("the form has no file"));
        }
        let mut cids = Folder::new(profile);
        for (path, root) in roots {
            cids.insert(&path, root).map_err(|error| Refusal::caller(&error))?;
        }
        let dag = cids.finish().map_err(|error| Refusal::caller(&error))?;
        Ok((filing.finish().await?, dag))
    }
}

fn no_file(texts: Texts, name: Option<&str>) -> Refusal {
    if texts == Texts::Refused {
        return Refusal::wrong("missing Content-Type in multipart part");
    }
    let name: String = name.unwrap_or_default().chars().take(80).collect();
    Refusal::wrong(format!("the part {name:?} is no file; the only text of a form is `name`, before its first file"))
}

/// Returns the name of a file in a form, `blob` where that is empty; none for what is no file. Browsers send that of a
/// file in a chosen folder as a path.
pub(crate) fn file_name(part: &Field<'static>) -> Option<String> {
    let name = part.file_name()?.trim_start_matches("./").trim_start_matches('/');
    Some(if name.is_empty() { "blob".to_owned() } else { name.to_owned() })
}
