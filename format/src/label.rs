//! The DNS label of an object: `base32(mode ‖ capability ‖ check)`, 60 characters, one spelling.
//!
//! The check lets a DNS server refuse a garbage label without a look-up. RFC 1035 section 2.3.4 allows 63 octets in a
//! label. RFC 4343 makes names case-insensitive, so any case is read and lower case is written.

use std::{fmt, str::FromStr};

use data_encoding::{BASE32_NOPAD, Encoding, Specification};
use zeroize::Zeroizing;

use crate::Capability;

/// Bytes before base32 encoding: mode, capability, check.
const RAW_BYTES: usize = 1 + 32 + CHECK_BYTES;
const CHECK_BYTES: usize = 4;
/// Characters of a label.
const LABEL_CHARS: usize = 60;
const _: () = assert!((RAW_BYTES * 8).div_ceil(5) == LABEL_CHARS && LABEL_CHARS <= 63);

/// What a label gives to its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Mode 0: the label carries the capability, so any edge can read and serve the object.
    Open,
    /// Mode 2: the label carries the capability of a stable name, whose pointer says which object it stands for now.
    Name,
}

impl Mode {
    const OPEN: u8 = 0;
    /// Reserved: the label carries the locator, and the capability stays in the URL's fragment.
    const SEALED: u8 = 1;
    const NAME: u8 = 2;

    fn byte(self) -> u8 {
        match self {
            Self::Open => Self::OPEN,
            Self::Name => Self::NAME,
        }
    }
}

/// Why a text is not a label. Every case is the viewer's fault (a mistyped or cut link), and a retry does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// The text does not have 60 characters.
    #[error("a label has {LABEL_CHARS} characters, this has {found}; was the link cut?")]
    Length {
        /// Bytes found.
        found: usize,
    },
    /// The text has a character outside a-z and 2-7, or non-zero bits after the last byte.
    #[error("a label has only the characters a-z and 2-7 in their one spelling; was the link retyped?")]
    Spelling,
    /// The check does not match the rest of the label.
    #[error("the label's check does not match; a character was changed")]
    Check,
    /// The mode is known but not served by this version.
    #[error("labels of mode {mode} are reserved for a later version")]
    Reserved {
        /// The mode byte.
        mode: u8,
    },
    /// The mode is unknown.
    #[error("unknown label mode {mode}; the label is from a newer version")]
    UnknownMode {
        /// The mode byte.
        mode: u8,
    },
}

/// The name of exactly one object, or of whatever object its owner points to.
#[derive(Clone, PartialEq, Eq)]
pub struct Label {
    mode: Mode,
    capability: Capability,
}

impl Label {
    /// Makes the open label of a capability.
    #[must_use]
    pub fn open(capability: Capability) -> Self {
        Self { mode: Mode::Open, capability }
    }

    /// Makes the label of a stable name.
    #[must_use]
    pub fn name(capability: Capability) -> Self {
        Self { mode: Mode::Name, capability }
    }

    /// Returns the mode.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Returns the capability of the object or the name.
    #[must_use]
    pub fn capability(&self) -> &Capability {
        &self.capability
    }

    /// Parses a label as DNS delivers it: in any case, with nothing before or after it. Costs about 0.3 µs and
    /// allocates nothing.
    ///
    /// # Errors
    /// [`LabelError`] tells what is wrong with the text.
    pub fn parse(text: &[u8]) -> Result<Self, LabelError> {
        if text.len() != LABEL_CHARS {
            return Err(LabelError::Length { found: text.len() });
        }
        let mut upper = Zeroizing::new([0u8; LABEL_CHARS]);
        upper.copy_from_slice(text);
        upper.make_ascii_uppercase();
        let mut raw = Zeroizing::new([0u8; RAW_BYTES]);
        BASE32_NOPAD.decode_mut(upper.as_slice(), raw.as_mut_slice()).map_err(|_| LabelError::Spelling)?;
        let (body, check) = raw.split_at(1 + 32);
        if check != check_of(body) {
            return Err(LabelError::Check);
        }
        let mode = match body[0] {
            Mode::OPEN => Mode::Open,
            Mode::NAME => Mode::Name,
            mode @ Mode::SEALED => return Err(LabelError::Reserved { mode }),
            mode => return Err(LabelError::UnknownMode { mode }),
        };
        let capability: [u8; 32] = body[1..].try_into().expect("the body is one byte and 32");
        Ok(Self { mode, capability: Capability::from_bytes(capability) })
    }
}

fn check_of(body: &[u8]) -> [u8; CHECK_BYTES] {
    let hash = blake3::hash(body);
    let (check, _) = hash.as_bytes().split_first_chunk().expect("a hash is longer than the check");
    *check
}

fn base32_lower() -> &'static Encoding {
    static LOWER: std::sync::LazyLock<Encoding> = std::sync::LazyLock::new(|| {
        let mut spec = Specification::new();
        spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
        spec.encoding().expect("32 distinct ASCII symbols are a base32 alphabet")
    });
    &LOWER
}

impl FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        Self::parse(text.as_bytes())
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut raw = Zeroizing::new([0u8; RAW_BYTES]);
        raw[0] = self.mode.byte();
        raw[1..33].copy_from_slice(self.capability.expose());
        let check = check_of(&raw[..33]);
        raw[33..].copy_from_slice(&check);
        base32_lower().encode_write(raw.as_slice(), f)
    }
}

/// Shows the locator, never the capability: labels must not reach a log.
impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Label({:?}, {})", self.mode, self.capability.locator())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label() -> Label {
        Label::open(Capability::from_bytes(std::array::from_fn(|i| u8::try_from(i * 7).unwrap_or(1))))
    }

    #[test]
    fn any_case_is_read_and_lower_case_is_written() {
        let text = label().to_string();
        assert_eq!((text.len(), text.to_lowercase()), (60, text.clone()));
        assert_eq!(text.to_uppercase().parse(), Ok(label()));
        let name = Label::name(label().capability().clone());
        assert_eq!(name.to_string().parse(), Ok(name.clone()));
        assert_ne!(name, label(), "the mode is part of a label");
        assert!(!format!("{:?}", label()).contains(&text));
    }

    #[test]
    fn every_changed_character_is_refused() {
        let text = label().to_string();
        for at in 0..text.len() {
            for symbol in b"abcdefghijklmnopqrstuvwxyz234567189-_=.\xc3" {
                let mut bytes = text.clone().into_bytes();
                if bytes[at] != *symbol {
                    bytes[at] = *symbol;
                    assert!(Label::parse(&bytes).is_err(), "{at}");
                }
            }
        }
    }

    #[test]
    fn reserved_modes_and_other_lengths_say_so() {
        for (mode, error) in [(1, LabelError::Reserved { mode: 1 }), (3, LabelError::UnknownMode { mode: 3 })] {
            let mut raw = vec![mode; 33];
            raw.extend(check_of(&raw));
            assert_eq!(Label::parse(base32_lower().encode(&raw).as_bytes()), Err(error));
        }
        assert_eq!(Label::parse(b""), Err(LabelError::Length { found: 0 }));
        assert_eq!(Label::parse(&[b'a'; 63]), Err(LabelError::Length { found: 63 }));
    }
}
