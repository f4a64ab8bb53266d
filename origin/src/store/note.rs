//! Small notes of the node about its own work. One that is old or lost only makes work twice, so none is a reason to
//! stop.

use super::{Store, StoreError, draft::Scrap, read};

const FEED: &str = "feed";
const SCRUB: &str = "scrub";
const COPIES: &str = "copies";
/// Largest note.
const NOTE_BYTES_MAX: usize = 1024;

impl Store {
    /// Returns how far the change feed was followed.
    #[must_use]
    pub fn feed_position(&self) -> Option<u64> {
        std::str::from_utf8(&self.note(FEED)?).ok()?.trim().parse().ok()
    }

    /// Notes how far the change feed was followed.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn put_feed_position(&self, position: u64) -> Result<(), StoreError> {
        self.put_note(FEED, position.to_string().as_bytes())
    }

    /// Returns what the scrub noted.
    pub(crate) fn scrub_note(&self) -> Option<Vec<u8>> {
        self.note(SCRUB)
    }

    /// Notes where the scrub is.
    pub(crate) fn put_scrub_note(&self, note: &[u8]) -> Result<(), StoreError> {
        self.put_note(SCRUB, note)
    }

    /// Returns what was noted of the search for missing copies of records.
    pub(crate) fn copies_note(&self) -> Option<Vec<u8>> {
        self.note(COPIES)
    }

    /// Notes that missing copies of records were looked for.
    pub(crate) fn put_copies_note(&self, note: &[u8]) -> Result<(), StoreError> {
        self.put_note(COPIES, note)
    }

    fn note(&self, name: &str) -> Option<Vec<u8>> {
        read(&self.root.join(name), NOTE_BYTES_MAX).ok().flatten()
    }

    fn put_note(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let scrap = Scrap::write(self, name, bytes)?;
        scrap.rename(&self.root.join(name))
    }
}
