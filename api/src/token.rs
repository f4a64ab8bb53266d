//! Tokens: who may use the API, for what, until when, how much and how often. Pure.
//!
//! A token is `evn_` and 54 characters: 8 bytes that name it, 32 random bytes that prove it. Only a hash of the latter
//! is kept, so whoever reads the file of tokens can use none of them. It is shown once, when it is made.

use std::{fmt, str::FromStr};

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use zeroize::{Zeroize, Zeroizing};

const PREFIX: &str = "evn_";
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;
const CONTEXT: &str = "evernear 2026 v1 api token";
/// Longest name of a token, in bytes.
pub const TOKEN_NAME_BYTES_MAX: usize = 64;
/// The name of the token of all who sign in by a link.
pub(crate) const LINKS_NAME: &str = "console";
/// Requests a second of a token that was made without a rate; for a moment it may make ten times as many.
pub const RATE_DEFAULT: u32 = 100;

/// What a token is called in lists and the audit log; no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenId(pub [u8; ID_BYTES]);

/// What is kept of a token's secret: its BLAKE3 hash under a context of its own. Comparing takes the same time whatever
/// differs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHash(blake3::Hash);

/// A token as its holder has it. The secret is wiped from memory.
pub struct Token {
    id: TokenId,
    secret: Zeroizing<[u8; SECRET_BYTES]>,
}

/// What a token allows; each allows what stands before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Listing what is stored, with the links that open it.
    Read,
    /// Storing, renewing and erasing.
    Write,
    /// Making and ending tokens, and reading the audit log.
    Admin,
}

/// Whose a token is, and with what it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// Whoever may use the owner's state folder, by a command.
    Owner,
    /// Another token over HTTP; it ends with that one.
    Token(TokenId),
    /// The twin, for all who sign in by a link. Nobody holds its secret.
    Links,
}

/// What is known of a token besides its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Its id.
    pub id: TokenId,
    /// What its owner calls it.
    pub name: String,
    /// What it allows.
    pub scope: Scope,
    /// When it was made, seconds since 1970.
    pub created: u64,
    /// When it ends, seconds since 1970; none for never.
    pub expires: Option<u64>,
    /// When it was ended, seconds since 1970.
    pub revoked: Option<u64>,
    /// Bytes that may be stored by it at once; none for no bound.
    pub quota_bytes: Option<u64>,
    /// Requests a second.
    pub rate: u32,
    /// Who made it.
    pub maker: Maker,
}

#[cfg(test)]
impl Grant {
    /// Returns what a token that stores has, with so many bytes.
    pub(crate) fn sample(quota_bytes: u64) -> Self {
        Self {
            id: TokenId([1; 8]),
            name: "a".into(),
            scope: Scope::Write,
            created: 0,
            expires: None,
            revoked: None,
            quota_bytes: Some(quota_bytes),
            rate: RATE_DEFAULT,
            maker: Maker::Owner,
        }
    }
}

/// A text that is no token; its sender's fault. It does not say what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token is `{PREFIX}` and 54 characters of A-Z, a-z, 0-9, - and _")]
pub struct TokenError;

/// Why a token that is known does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// The secret is another, or it was ended.
    #[error("the token is not known, or was ended")]
    Unknown,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
}

/// A word that is no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is no scope: use read, write or admin")]
pub struct ScopeError {
    /// The word, cut at 40 characters.
    pub found: String,
}

/// A text that cannot be a token's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenNameError {
    /// It is empty, long, or has control characters.
    #[error("a token's name has 1 to {TOKEN_NAME_BYTES_MAX} bytes and no control characters")]
    Shape,
    /// It looks as an id does, by which another token is named.
    #[error("16 of 0-9 and a-f are the id of a token; choose another name")]
    Id,
    /// It is that of whoever signs in by a link.
    #[error("{LINKS_NAME:?} is the token of those who sign in by a link; choose another name")]
    Reserved,
}

impl Token {
    /// Makes a token of random bytes.
    ///
    /// # Errors
    /// Those of the source.
    pub fn draw<E>(mut fill: impl FnMut(&mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        let (mut id, mut secret) = ([0; ID_BYTES], Zeroizing::new([0; SECRET_BYTES]));
        fill(&mut id)?;
        fill(&mut secret[..])?;
        Ok(Self { id: TokenId(id), secret })
    }

    /// Returns its id.
    #[must_use]
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// Returns what is kept of it.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash(blake3::Hash::from_bytes(blake3::derive_key(CONTEXT, &self.secret[..])))
    }

    /// Returns the text for its holder.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        let mut bytes = [0; ID_BYTES + SECRET_BYTES];
        bytes[..ID_BYTES].copy_from_slice(&self.id.0);
        bytes[ID_BYTES..].copy_from_slice(&self.secret[..]);
        let text = Zeroizing::new(format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&bytes)));
        bytes.zeroize();
        text
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.id)
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let coded = text.strip_prefix(PREFIX).ok_or(TokenError)?;
        let bytes = Zeroizing::new(BASE64URL_NOPAD.decode(coded.as_bytes()).map_err(|_| TokenError)?);
        let (id, secret) = bytes.split_at_checked(ID_BYTES).ok_or(TokenError)?;
        let mut kept = Zeroizing::new([0; SECRET_BYTES]);
        if secret.len() != SECRET_BYTES {
            return Err(TokenError);
        }
        kept.copy_from_slice(secret);
        Ok(Self { id: TokenId(id.try_into().map_err(|_| TokenError)?), secret: kept })
    }
}

impl TokenHash {
    /// Reads back what was kept.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(blake3::Hash::from_bytes(bytes))
    }

    /// Returns the bytes to keep.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

impl Grant {
    /// Checks a token that names this grant, at `now`, seconds since 1970.
    ///
    /// # Errors
    /// [`TokenFault`].
    pub fn check(&self, kept: &TokenHash, shown: &Token, now: u64) -> Result<(), TokenFault> {
        if *kept != shown.hash() { Err(TokenFault::Unknown) } else { self.ended(now).map_or(Ok(()), Err) }
    }

    /// Returns why the token counts no more at `now`, seconds since 1970; none while it does.
    #[must_use]
    pub fn ended(&self, now: u64) -> Option<TokenFault> {
        let is_over = self.expires.is_some_and(|end| end <= now);
        self.revoked.map(|_| TokenFault::Unknown).or(is_over.then_some(TokenFault::Expired))
    }
}

/// Checks a name for a token that somebody makes.
///
/// # Errors
/// [`TokenNameError`].
pub fn check_token_name(name: &str) -> Result<(), TokenNameError> {
    let is_one = (1..=TOKEN_NAME_BYTES_MAX).contains(&name.len()) && !name.contains(char::is_control);
    if !is_one {
        return Err(TokenNameError::Shape);
    }
    let is_id = HEXLOWER.decode(name.as_bytes()).is_ok_and(|bytes| bytes.len() == ID_BYTES);
    match name {
        LINKS_NAME => Err(TokenNameError::Reserved),
        _ if is_id => Err(TokenNameError::Id),
        _ => Ok(()),
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl Scope {
    const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Admin];

    /// Returns the number that stands for it on disk.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Read => 0,
            Self::Write => 1,
            Self::Admin => 2,
        }
    }

    /// Returns the scope that a number stands for.
    #[must_use]
    pub fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.number() == number)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        })
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let found = || ScopeError { found: text.chars().take(40).collect() };
        Self::ALL.into_iter().find(|scope| scope.to_string() == text).ok_or_else(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(seed: u8) -> Token {
        Token::draw(|bytes: &mut [u8]| {
            bytes.fill(seed);
            Ok::<_, ()>(())
        })
        .unwrap()
    }

    fn grant() -> Grant {
        Grant {
            id: token(1).id(),
            name: "laptop".into(),
            scope: Scope::Write,
            created: 10,
            expires: Some(100),
            revoked: None,
            quota_bytes: None,
            rate: RATE_DEFAULT,
            maker: Maker::Owner,
        }
    }

    #[test]
    fn a_token_reads_back_and_nothing_else_is_one() {
        let text = token(7).expose();
        assert_eq!(text.len(), PREFIX.len() + 54);
        let back: Token = text.parse().unwrap();
        assert!(back.id() == token(7).id() && back.hash() == token(7).hash());
        let cut = &text[..text.len() - 1];
        let long = format!("{}A", &*text);
        for bad in ["", "evn_", "evn_AAAA", &text[4..], cut, &long, &text.replace("Bw", "B!"), "Bearer x"] {
            assert!(bad.parse::<Token>().is_err(), "{bad}");
        }
        assert_eq!(format!("{back:?}"), "Token(0707070707070707)", "a log has no secret");
    }

    #[test]
    fn a_token_counts_by_its_secret_until_it_ends() {
        let (kept, grant) = (token(1).hash(), grant());
        assert_eq!(grant.check(&kept, &token(1), 99), Ok(()));
        assert_eq!(grant.check(&kept, &token(1), 100), Err(TokenFault::Expired));
        assert_eq!(grant.check(&kept, &token(2), 50), Err(TokenFault::Unknown));
        let ended = Grant { revoked: Some(20), ..grant.clone() };
        assert_eq!(ended.check(&kept, &token(1), 50), Err(TokenFault::Unknown));
        assert_eq!(Grant { expires: None, ..grant }.check(&kept, &token(1), u64::MAX), Ok(()));
    }

    #[test]
    fn every_bit_of_the_secret_counts() {
        let text = token(9).expose();
        let kept = token(9).hash();
        for at in 16..text.len() {
            let mut other = text.as_bytes().to_vec();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap().parse::<Token>();
            assert!(other.is_err() || other.unwrap().hash() != kept, "{at}");
        }
    }

    #[test]
    fn scopes_are_words_and_each_allows_what_stands_before_it() {
        for scope in Scope::ALL {
            assert_eq!(scope.to_string().parse(), Ok(scope));
            assert_eq!(Scope::of(scope.number()), Some(scope));
        }
        assert!(Scope::Read < Scope::Write && Scope::Write < Scope::Admin);
        assert!("root".parse::<Scope>().is_err() && Scope::of(3).is_none());
    }

    #[test]
    fn a_name_is_short_and_plain() {
        assert!(check_token_name(&"a".repeat(64)).is_ok());
        for bad in ["", &"a".repeat(65), "a\nb"] {
            assert_eq!(check_token_name(bad), Err(TokenNameError::Shape));
        }
        assert_eq!(check_token_name(LINKS_NAME), Err(TokenNameError::Reserved));
        assert_eq!(check_token_name(&token(0xa7).id().to_string()), Err(TokenNameError::Id));
        for near in ["0123456789abcde", "0123456789abcdef0", "0123456789abcdeg", "0123456789ABCDEF"] {
            assert_eq!(check_token_name(near), Ok(()), "{near}");
        }
    }
}
