//! Small notes of the node about its own work. One that is old or lost makes work twice, or a wait that a clock made
//! necessary shorter, so none is a reason to stop.

use super::{Store, StoreError, draft::Scrap, read};
use crate::catalog::CatalogId;

const FEED: &str = "feed";
const SCRUB: &str = "scrub";
const COPIES: &str = "copies";
const CLOCK: &str = "clock";
const CATALOG: &str = "catalog";
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

    /// Returns what was noted of the catalog's clock.
    pub(crate) fn clock_note(&self) -> Option<String> {
        String::from_utf8(self.note(CLOCK)?).ok()
    }

    /// Notes what is known of the catalog's clock. Durable on return.
    pub(crate) fn put_clock_note(&self, note: &str) -> Result<(), StoreError> {
        // Two tasks may find something to note at once.
        let _guard = self.guard(&[0; 32]);
        self.put_note(CLOCK, note.as_bytes())?;
        self.sync_folder(&self.root);
        Ok(())
    }

    /// Returns which catalog knows what is here; none before the first.
    ///
    /// # Errors
    /// [`StoreError`]: unlike the other notes, this one must not be taken for none.
    pub(crate) fn catalog_note(&self) -> Result<Option<CatalogId>, StoreError> {
        let path = self.root.join(CATALOG);
        let Some(note) = read(&path, NOTE_BYTES_MAX)? else { return Ok(None) };
        let id = std::str::from_utf8(&note).ok().and_then(|note| note.trim().parse().ok());
        id.map(Some).ok_or(StoreError::Damaged { path })
    }

    /// Notes which catalog knows what is here. Durable on return.
    pub(crate) fn put_catalog_note(&self, id: &CatalogId) -> Result<(), StoreError> {
        self.put_note(CATALOG, id.to_string().as_bytes())?;
        self.sync_folder(&self.root);
        Ok(())
    }

    fn note(&self, name: &str) -> Option<Vec<u8>> {
        read(&self.root.join(name), NOTE_BYTES_MAX).ok().flatten()
    }

    fn put_note(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let scrap = Scrap::write(self, name, bytes)?;
        scrap.rename(&self.root.join(name))
    }
}
