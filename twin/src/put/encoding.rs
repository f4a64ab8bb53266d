//! The CPU half of an upload: one blocking thread reads, compresses, seals and hashes, and sends stripes through a
//! bounded channel. Memory: two stripes in the encoder, one that waits in the channel, and what waits for the journal.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use format::{Attributes, EncodeError, EncodedStripe, Encoder, EncoderOptions, Fingerprint, Kind, Sealed};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::{
    media::Inspection,
    plain_file::{self, Stamp},
    progress::Progress,
    unfinished::{PartJournal, UnfinishedError, Withheld},
};

/// Bytes of one read of the source.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Stripes wait for the journal until they have so many bytes together: one sync for all of them (group commit). A sync
/// takes some milliseconds, in which an uplink of a gigabit takes less than this.
const NOTED_BYTES: usize = 4 << 20;

/// Where the bytes of an object come from.
pub(super) enum Source {
    /// A file that the owner named; links on the way are followed.
    File(PathBuf),
    /// A file of a folder that the owner named; a link in its place is not followed.
    Inner(PathBuf),
    /// A stream that can be read only once: standard input, a directory's body.
    Stream(Box<dyn Read + Send>),
}

/// Whether equal uploads of one owner share shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Deduplication {
    /// Every upload has its own random key: nobody can tell that two uploads are equal.
    #[default]
    Off,
    /// The key is derived from the bytes and the owner's secret (convergent encryption within one owner), so nodes see
    /// that two uploads of this owner are equal. The file is read twice.
    On,
}

/// What happens when a file changes while it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Changes {
    /// It is an error: what was read may be no state that the file ever had.
    #[default]
    Refused,
    /// What was read is stored.
    Allowed,
}

/// What the encoding thread needs.
pub(super) struct Encoding {
    pub(super) source: Source,
    /// The path that progress and errors show.
    pub(super) path: PathBuf,
    pub(super) key: Key,
    /// What makes the manifest unlike any other.
    pub(super) random: [u8; 32],
    /// Which stripes were sent in earlier attempts, and which are about to be.
    pub(super) part: Option<PartJournal>,
    pub(super) changes: Changes,
    pub(super) name: String,
    /// The media type; `None` when it is to be detected.
    pub(super) mime: Option<String>,
    pub(super) created: u64,
    pub(super) kind: Kind,
    pub(super) tags: BTreeMap<String, u32>,
    pub(super) progress: Arc<dyn Progress>,
}

/// The key of an object.
pub(super) enum Key {
    /// Its own, which the encoder has.
    Drawn(Box<Encoder>),
    /// Derived from the bytes and the owner's key for de-duplication.
    Derived(EncoderOptions, Zeroizing<[u8; 32]>),
}

/// One stripe on its way to the nodes.
pub(super) struct Outgoing {
    /// Plaintext bytes read until this stripe was ready.
    pub(super) read: u64,
    pub(super) stripe: EncodedStripe,
}

/// Why bytes do not become an object. A retry without a change does not help.
#[derive(Debug, thiserror::Error)]
pub enum EncodingError {
    /// The source cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// What was read.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A stream cannot be read twice.
    #[error("only a file can be de-duplicated: it is read twice")]
    Twice,
    /// The file changed while it was read. Of a de-duplicated file, going on would seal different bytes under one key.
    #[error("{} changed while it was read", path.display())]
    Changed {
        /// Which file.
        path: PathBuf,
    },
    /// The object breaks a bound of the format.
    #[error("{} cannot be an object", path.display())]
    Encode {
        /// What was read.
        path: PathBuf,
        /// Which bound.
        source: EncodeError,
    },
    /// The file, or this program's way to compress, is another than when the upload began. To go on would seal
    /// different bytes under the same key.
    #[error(
        "stripe {stripe} of {} is not what was sent before: the file or this program changed; end the unfinished upload, \
         and store it again",
        path.display()
    )]
    Other {
        /// Which file.
        path: PathBuf,
        /// The first stripe that differs.
        stripe: u64,
    },
    /// What is about to be sent cannot be noted, so it is not sent.
    #[error("what is sent of {} cannot be noted", path.display())]
    Unnoted {
        /// Which file.
        path: PathBuf,
        /// The cause.
        source: UnfinishedError,
    },
    /// The receiver of the stripes is gone. The upload reports its own error.
    #[error("the upload was given up")]
    GivenUp,
}

impl EncodingError {
    /// Returns whether the fault is one file's, and others can be stored without it.
    pub(super) fn is_of_file(&self) -> bool {
        matches!(self, Self::Read { .. } | Self::Changed { .. })
    }
}

impl Encoding {
    /// Encodes the whole source. Blocks on disk and CPU. Ends early when the receiver is gone.
    pub(super) fn run(self, to: &mpsc::Sender<Outgoing>) -> Result<(Sealed, String), EncodingError> {
        let Self { source, path, key, random, part, changes, name, mime, created, kind, tags, progress } = self;
        let fault = |source| fault(&path, source);
        let (mut chunks, mut encoder) = Chunks::begin(source, &path, key)?;
        if changes == Changes::Allowed {
            chunks.watched = None;
        }
        let mut inspection = Inspection::default();
        let mut read = 0;
        let mut outbox = Outbox { part: part.as_ref(), path: &path, to, waiting: Vec::new(), bytes: 0 };
        while let Some(chunk) = chunks.next()? {
            if mime.is_none() {
                inspection.see(chunk);
            }
            let mut input = chunk;
            while let Some(stripe) = encoder.write(&mut input).map_err(fault)? {
                outbox.put(Outgoing { read: read + (chunk.len() - input.len()) as u64, stripe })?;
            }
            read += chunk.len() as u64;
            progress.read(chunk.len() as u64);
        }
        let mut ending = encoder.end();
        while let Some(stripe) = ending.stripe().map_err(fault)? {
            outbox.put(Outgoing { read, stripe })?;
        }
        outbox.send()?;
        let mime = mime.unwrap_or_else(|| inspection.media_type(&name));
        let attributes = Attributes { mime: mime.clone(), name, created, kind, tags };
        Ok((ending.seal(attributes, random).map_err(fault)?, mime))
    }
}

fn fault(path: &Path, source: EncodeError) -> EncodingError {
    let path = path.to_owned();
    match source {
        EncodeError::Changed => EncodingError::Changed { path },
        source => EncodingError::Encode { path, source },
    }
}

/// Stripes that are encoded and not sent yet.
struct Outbox<'e> {
    part: Option<&'e PartJournal>,
    path: &'e Path,
    to: &'e mpsc::Sender<Outgoing>,
    waiting: Vec<Outgoing>,
    /// Bytes of all strips that wait.
    bytes: usize,
}

impl Outbox<'_> {
    fn put(&mut self, stripe: Outgoing) -> Result<(), EncodingError> {
        self.bytes += stripe.stripe.strips.iter().flatten().map(Bytes::len).sum::<usize>();
        self.waiting.push(stripe);
        if self.part.is_some() && self.bytes < NOTED_BYTES { Ok(()) } else { self.send() }
    }

    /// Sends what waits, once the journal has it.
    fn send(&mut self) -> Result<(), EncodingError> {
        if let Some(part) = self.part {
            let rows: Vec<_> = self.waiting.iter().map(|it| (it.stripe.index.0, it.stripe.row.hash())).collect();
            part.rows(&rows).map_err(|withheld| match (withheld, self.path.to_owned()) {
                (Withheld::Other { stripe }, path) => EncodingError::Other { path, stripe },
                (Withheld::Journal(source), path) => EncodingError::Unnoted { path, source },
            })?;
        }
        self.bytes = 0;
        self.waiting.drain(..).try_for_each(|it| self.to.blocking_send(it).map_err(|_| EncodingError::GivenUp))
    }
}

/// The source, chunk by chunk.
struct Chunks<'p> {
    reader: Box<dyn Read + Send>,
    path: &'p Path,
    chunk: Vec<u8>,
    /// The file, and what it was when it was opened.
    watched: Option<(File, Stamp)>,
}

impl<'p> Chunks<'p> {
    /// Opens the source. Returns it with the encoder of the object, for which a de-duplicated file is read once before.
    fn begin(source: Source, path: &'p Path, key: Key) -> Result<(Self, Box<Encoder>), EncodingError> {
        let fault = |source| EncodingError::Read { path: path.to_owned(), source };
        let chunk = vec![0; CHUNK_BYTES];
        let (opened, key) = match (source, key) {
            (Source::File(file), key) => (plain_file::open_named(&file), key),
            (Source::Inner(file), key) => (plain_file::open(&file), key),
            (Source::Stream(_), Key::Derived(..)) => return Err(EncodingError::Twice),
            (Source::Stream(reader), Key::Drawn(encoder)) => {
                return Ok((Self { reader, path, chunk, watched: None }, encoder));
            }
        };
        let file = opened.map_err(fault)?;
        let (mut watched, stamp) = (file.try_clone().map_err(fault)?, Stamp::of(&file).map_err(fault)?);
        let mut chunks = Self { reader: Box::new(file), path, chunk, watched: None };
        let encoder = match key {
            Key::Drawn(encoder) => encoder,
            Key::Derived(options, dedup_key) => {
                let encoder = chunks.encoder(options, &dedup_key)?;
                watched.rewind().map_err(fault)?;
                encoder
            }
        };
        Ok((Self { watched: Some((watched, stamp)), ..chunks }, encoder))
    }

    /// Reads all chunks and derives the key that only these bytes have.
    fn encoder(&mut self, options: EncoderOptions, dedup_key: &[u8; 32]) -> Result<Box<Encoder>, EncodingError> {
        let path = self.path;
        let mut fingerprint = Fingerprint::new(options);
        while let Some(chunk) = self.next()? {
            fingerprint.write(chunk).map_err(|source| fault(path, source))?;
        }
        Ok(Box::new(fingerprint.finish(dedup_key).map_err(|source| fault(path, source))?))
    }

    /// Returns the next chunk, or `None` at the end. Every chunk but the last is full.
    fn next(&mut self) -> Result<Option<&[u8]>, EncodingError> {
        let mut filled = 0;
        while filled < self.chunk.len() {
            match self.reader.read(&mut self.chunk[filled..]) {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(EncodingError::Read { path: self.path.to_owned(), source }),
            }
        }
        let chunk = &self.chunk[..filled];
        if let Some((file, stamp)) = self.watched.as_ref().filter(|_| filled == 0) {
            let now = Stamp::of(file).map_err(|source| EncodingError::Read { path: self.path.to_owned(), source })?;
            if now != *stamp {
                return Err(EncodingError::Changed { path: self.path.to_owned() });
            }
        }
        Ok((filled > 0).then_some(chunk))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        time::{Duration, SystemTime},
    };

    use format::{Compression, OwnerId, Profile, Suite};
    use testing::noise;

    use super::*;
    use crate::{
        index::Batch,
        unfinished::{self, Head, Journals, Resumption},
    };

    fn encoding(path: &Path, dedup_key: Option<[u8; 32]>) -> Encoding {
        let options = EncoderOptions {
            profile: Profile::SmallCluster,
            suite: Suite::ChaCha20Poly1305,
            compression: Compression::Auto,
            owner: OwnerId([1; 32]),
        };
        let drawn = || Key::Drawn(Box::new(Encoder::fresh(options, getrandom::fill).unwrap()));
        Encoding {
            source: Source::File(path.to_owned()),
            path: path.to_owned(),
            key: dedup_key.map_or_else(drawn, |key| Key::Derived(options, Zeroizing::new(key))),
            random: [2; 32],
            part: None,
            changes: Changes::Refused,
            name: "a.txt".into(),
            mime: None,
            created: 1,
            kind: Kind::File,
            tags: BTreeMap::new(),
            progress: Arc::new(()),
        }
    }

    fn run(encoding: Encoding) -> Sealed {
        let (to, _from) = mpsc::channel(64);
        let (sealed, mime) = encoding.run(&to).unwrap();
        assert_eq!(mime, "text/plain; charset=utf-8");
        sealed
    }

    #[test]
    fn equal_files_share_shards_only_when_asked_and_only_of_one_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, vec![b'a'; 3 << 20]).unwrap();
        let id = |key| run(encoding(&path, key)).public.id();
        assert_eq!(id(Some([1; 32])), id(Some([1; 32])));
        assert_ne!(id(Some([1; 32])), id(Some([2; 32])));
        assert_ne!(id(None), id(None));
    }

    #[test]
    fn a_file_that_changes_between_its_reads_is_never_sealed_under_the_old_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let old = vec![b'a'; (2 << 20) + 5];
        for change in 0..3 {
            std::fs::write(&path, &old).unwrap();
            let it = encoding(&path, Some([1; 32]));
            let (mut chunks, mut encoder) = Chunks::begin(it.source, &path, it.key).unwrap();
            // It is the encoder that notices, not the file's time.
            chunks.watched = None;
            match change {
                0 => std::fs::write(&path, [&old[..], b"longer"].concat()).unwrap(),
                1 => std::fs::write(&path, &old[..1 << 20]).unwrap(),
                _ => std::fs::write(&path, vec![b'b'; old.len()]).unwrap(),
            }
            let encode = || -> Result<(), EncodeError> {
                while let Some(mut chunk) = chunks.next().unwrap() {
                    while encoder.write(&mut chunk)?.is_some() {}
                }
                let mut ending = encoder.end();
                while ending.stripe()?.is_some() {}
                Ok(())
            };
            assert_eq!(encode(), Err(EncodeError::Changed), "change {change}");
        }
    }

    #[test]
    fn no_stripe_leaves_before_the_journal_has_it_durably_and_several_share_a_sync() {
        const STRIPES: u64 = 24;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, noise(24 << 20)).unwrap();
        let journals = Journals::beside(&folder.path().join("index"), Zeroizing::new([7; 32]), OwnerId([1; 32]));
        let (options, asked, retention) = ([0; 32], [0; 32], format::Retention::default());
        let head = Head { batch: Batch([1; 16]), path: path.clone(), options, retention, asked, begun: 1 };
        let journal = Arc::new(journals.of(head, None, Resumption::Auto).unwrap());
        let stamp = unfinished::Stamp::of(&std::fs::metadata(&path).unwrap());
        let part = journal.part("", stamp, 1).unwrap();
        let it = Encoding { part: Some(part.clone()), ..encoding(&path, None) };
        let (to, mut from) = mpsc::channel(1);
        let encoder = std::thread::spawn(move || it.run(&to).map(drop));
        let (mut syncs, mut stripes) = (BTreeSet::new(), 0);
        while let Some(Outgoing { stripe, .. }) = from.blocking_recv() {
            // The first frames are the beginning and the secrets.
            assert!(part.synced() >= stripe.index.0 + 3, "stripe {} beside {} frames", stripe.index.0, part.synced());
            syncs.insert(part.synced());
            stripes += 1;
        }
        encoder.join().unwrap().unwrap();
        assert!(stripes == STRIPES && syncs.len() <= 8, "{syncs:?} for {stripes} stripes");
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_an_error_unless_that_is_allowed() {
        use std::os::unix::fs::FileExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        for (change, changes) in (0..3).flat_map(|change| [(change, Changes::Refused), (change, Changes::Allowed)]) {
            std::fs::write(&path, vec![b'a'; 6 << 20]).unwrap();
            // Set back, so that the clock of the disk has moved on when the change comes.
            let file = File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
            let (to, mut from) = mpsc::channel(1);
            let it = Encoding { changes, ..encoding(&path, None) };
            let encoder = std::thread::spawn(move || it.run(&to));
            // The first stripe is there, and the second blocks until it is taken.
            from.blocking_recv().unwrap();
            match change {
                0 => file.write_all_at(b"b", 0).unwrap(),
                1 => file.set_len(5 << 20).unwrap(),
                _ => file.set_len(7 << 20).unwrap(),
            }
            while from.blocking_recv().is_some() {}
            let end = encoder.join().unwrap().map(drop);
            match changes {
                Changes::Refused => assert!(matches!(end, Err(EncodingError::Changed { .. })), "{change}: {end:?}"),
                Changes::Allowed => assert!(end.is_ok(), "{change}: {end:?}"),
            }
        }
    }
}
