//! The certificate over a restart: what a former run kept, and what a successor asks for before it answers.

use std::{io, time::Duration};

use client::{keep, read_kept};
use tokio::time::{sleep, timeout};

use super::{
    Keeper,
    shared::{NoteError, PACKED_BYTES_MAX},
    times::{counts_until, now},
};

/// A successor has the certificate by then, or does not start: sooner than its predecessor gives it up.
const SUCCESSION_DEADLINE: Duration = Duration::from_secs(15);
const SUCCESSION_RETRY: Duration = Duration::from_millis(200);

impl Keeper {
    /// Takes up what a former run kept. What does not read is logged and counts as nothing.
    pub(crate) async fn recall(&mut self) {
        let Some(file) = self.file.clone() else { return };
        let read = client::offload(move || read_kept(&file, PACKED_BYTES_MAX)).await;
        match read.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(None) => {}
            Ok(Some(packed)) => match self.board.unpack(&packed) {
                Ok((version, shared)) => {
                    self.kept = version;
                    self.take_in(version, shared);
                }
                Err(_) => tracing::warn!(
                    "the kept certificate does not open, `https.secret` or the zone is another one; it waits for an origin"
                ),
            },
            Err(error) => tracing::warn!(%error, "the kept certificate does not read; it waits for an origin"),
        }
    }

    /// Asks several origins for the certificate until one has one that counts, or most of them answer, which may know
    /// of none, or it is too late. Returns whether it is known what there is.
    pub(crate) async fn first(&mut self) -> bool {
        let mut last = NoteError::NoOrigin;
        let asked = async {
            loop {
                let (now, answers) = (now(), self.board.read_all().await);
                let asked = answers.len();
                let mut found = Vec::with_capacity(asked);
                for answer in answers {
                    match answer {
                        Ok(note) => found.push(note),
                        Err(error) => last = error,
                    }
                }
                let is_enough = found.len() * 2 > asked;
                let newest = found.into_iter().max_by_key(|(version, it)| (counts_until(it, now), *version));
                if let Some((version, shared)) = newest.filter(|(_, it)| is_enough || counts_until(it, now) > 0) {
                    if !self.goes_before(version, &shared, now) {
                        self.take_in(version, shared);
                    }
                    return;
                }
                sleep(SUCCESSION_RETRY).await;
            }
        };
        let answered = timeout(SUCCESSION_DEADLINE, asked).await.is_ok();
        if !answered {
            tracing::error!(error = client::causes(&last), "the certificate cannot be asked for");
        }
        answered
    }

    /// Keeps the newest version over a restart, if it has a certificate.
    pub(super) async fn keep(&mut self) {
        let Some(file) = self.file.clone().filter(|_| self.kept != self.version) else { return };
        if self.shared.certified.is_none() {
            return;
        }
        let kept = match self.board.pack(self.version, &self.shared) {
            Ok(packed) => {
                let written = client::offload(move || keep(&file, &packed)).await;
                written.unwrap_or_else(|error| Err(io::Error::other(error)))
            }
            Err(error) => Err(io::Error::other(error)),
        };
        match kept {
            Ok(()) => (self.kept, self.is_forgetful) = (self.version, false),
            Err(error) if !self.is_forgetful => {
                tracing::warn!(%error, "the certificate cannot be kept; after a restart it waits for an origin");
                self.is_forgetful = true;
            }
            Err(_) => {}
        }
    }
}
