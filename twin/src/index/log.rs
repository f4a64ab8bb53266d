//! The index as its bytes say it: the newest entry of each object, and where reading ended and why. Pure.

use std::collections::BTreeMap;

use format::{Locator, OwnerId, cbor::CborError};

use super::{
    content,
    entry::Entry,
    frame::{self, Chain, Front, HEAD_BYTES, HeadFault},
};

/// What was read of an index.
pub(super) struct Log {
    /// The newest entry of each object.
    pub(super) entries: BTreeMap<Locator, Entry>,
    /// Frames that were read.
    pub(super) frames: usize,
    /// Entries in these frames, superseded ones too.
    pub(super) recorded: usize,
    /// Bound to all bytes up to `end`.
    pub(super) chain: Chain,
    /// Length of what was read, in bytes.
    pub(super) end: usize,
    pub(super) stop: Stop,
}

/// Why reading ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// At the end.
    End,
    /// The last write was cut short by a crash. It was never acknowledged.
    Torn,
    /// A frame does not open although other bytes follow it.
    Damaged,
    /// A frame opens and holds what this program does not know.
    Unknown(CborError),
}

impl Log {
    /// Reads the bytes of an index.
    ///
    /// # Errors
    /// [`HeadFault`].
    pub(super) fn read(bytes: &[u8], owner: &OwnerId, key: &[u8; 32]) -> Result<Self, HeadFault> {
        frame::check_head(bytes, owner)?;
        let chain = Chain::new(&bytes[..HEAD_BYTES]);
        let mut log =
            Self { entries: BTreeMap::new(), frames: 0, recorded: 0, chain, end: HEAD_BYTES, stop: Stop::End };
        while log.end < bytes.len() && log.stop == Stop::End {
            match frame::open(key, &log.chain, &bytes[log.end..]) {
                Front::Frame(content, length) => match content::unpack(&content) {
                    Ok(entries) => log.take(entries, &bytes[log.end..log.end + length]),
                    Err(source) => log.stop = Stop::Unknown(source),
                },
                Front::Torn => log.stop = Stop::Torn,
                Front::Damaged => log.stop = Stop::Damaged,
            }
        }
        Ok(log)
    }

    fn take(&mut self, entries: Vec<Entry>, frame: &[u8]) {
        self.chain = self.chain.clone().then(frame);
        self.end += frame.len();
        self.frames += 1;
        self.recorded += entries.len();
        self.entries.extend(entries.into_iter().map(|entry| (entry.capability.locator(), entry)));
    }
}
