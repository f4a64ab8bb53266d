//! The name of an upload session.

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER;

use super::UploadError;

/// The name of a session: 128 random bits, so that nobody guesses another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct UploadId([u8; 16]);

impl UploadId {
    /// Takes 16 random bytes.
    #[must_use]
    pub(crate) fn from_bytes(random: [u8; 16]) -> Self {
        Self(random)
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl FromStr for UploadId {
    type Err = UploadError;

    fn from_str(text: &str) -> Result<Self, UploadError> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(UploadError::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_back_and_nothing_else_is_one() {
        let id = UploadId::from_bytes([2; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("02".parse::<UploadId>().is_err());
    }
}
