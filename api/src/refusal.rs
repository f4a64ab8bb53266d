//! The one table from what went wrong to an HTTP answer, in the shape of nft.storage: `{ok: false, error: {code,
//! message}}`. What is the caller's fault is never a 500.

use std::error::Error;

use axum::{
    Json,
    http::{
        HeaderValue, StatusCode,
        header::{CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use client::{PlacementError, ReadError, TransportError, Unwritable, UploadError};
use edge::PolicyError;
use format::PolicyName;
use serde_json::json;
use twin::{
    EncodingError, GetError, IndexError, LeaseChangeError, NameChangeError, NetworkFull, OperatorError,
    PolicyNameError, PublishError, PurgeOrderError, PutError, RetentionError,
};

use crate::{
    PlacingError,
    intake::IntakeError,
    quota::NoRoom,
    store::StoreError,
    token::{Scope, TokenFault},
    wishes::WishError,
};

/// Seconds after which a caller is told to come again where nobody knows better.
const AGAIN_SECONDS: u64 = 10;
/// The code of a refusal that says that nodes have no room.
pub(crate) const NETWORK_FULL: &str = "ERROR_NETWORK_FULL";

/// An answer that says no, and why.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// Seconds after which the same request may succeed.
    pub(crate) retry_after: Option<u64>,
    /// The rest of the body is not read: the connection ends with this answer.
    pub(crate) closes: bool,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None, closes: false }
    }

    /// The caller asked wrong; the text says all causes.
    pub(crate) fn caller(error: &(dyn Error + 'static)) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "HTTP_ERROR", causes(error))
    }

    /// The caller asked wrong, in words.
    pub(crate) fn wrong(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "HTTP_ERROR", message)
    }

    /// The twin's machine failed: the causes are for its operator.
    pub(crate) fn own(error: &(dyn Error + 'static)) -> Self {
        if let Some(disk) = Unwritable::of(error) {
            return Self::unwritable(disk, error);
        }
        tracing::error!(error = causes(error), "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", error.to_string())
    }

    /// The disk of the twin's state folder takes no write: its operator mends that, and the same request succeeds.
    fn unwritable(disk: Unwritable, error: &(dyn Error + 'static)) -> Self {
        let code = match disk {
            Unwritable::Full => "ERROR_DISK_FULL",
            Unwritable::ReadOnly => "ERROR_DISK_READ_ONLY",
        };
        tracing::error!(error = causes(error), "the twin's disk {disk}");
        let message = format!("the twin's disk {disk}, and try again");
        Self::new(StatusCode::INSUFFICIENT_STORAGE, code, message).after(AGAIN_SECONDS)
    }

    /// Something is away for a while.
    pub(crate) fn away(error: &(dyn Error + 'static)) -> Self {
        tracing::warn!(error = causes(error), "a request failed");
        let message = format!("{}; try again", causes(error));
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ERROR_UNAVAILABLE", message).after(AGAIN_SECONDS)
    }

    pub(crate) fn stopping() -> Self {
        let message = "the twin is stopping; try again when it runs";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ERROR_MAINTENANCE", message).after(AGAIN_SECONDS)
    }

    pub(crate) fn busy() -> Self {
        let message = "as many uploads as there is room for are under way; try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ERROR_BUSY", message).after(AGAIN_SECONDS)
    }

    pub(crate) fn checking() -> Self {
        let message = "policies are being checked for others; try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ERROR_BUSY", message).after(AGAIN_SECONDS)
    }

    /// Somebody works on it.
    pub(crate) fn being_stored() -> Self {
        Self::new(StatusCode::CONFLICT, "HTTP_ERROR", "it is being stored; try again").after(1)
    }

    pub(crate) fn too_many(max: usize) -> Self {
        let message = format!(
            "{max} requests of this token, its maker and those that they made are under way; try again when some are done"
        );
        Self::new(StatusCode::TOO_MANY_REQUESTS, "ERROR_RATE_LIMITED", message).after(1).closing()
    }

    pub(crate) fn too_slow() -> Self {
        let message = "the twin took too long; try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ERROR_TIMEOUT", message).after(AGAIN_SECONDS)
    }

    pub(crate) fn too_often(seconds: u64) -> Self {
        let message = format!("this token asks too often; try again in {seconds} s");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "ERROR_RATE_LIMITED", message).after(seconds)
    }

    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "HTTP_ERROR", what)
    }

    pub(crate) fn no_method() -> Self {
        let message = "there is no such method on this path; /openapi.json has all";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "HTTP_ERROR", message)
    }

    pub(crate) fn no_token() -> Self {
        let message = "API Key is missing, make sure the `Authorization` header has a value in the following format \
                       `Bearer {api key}`.";
        Self::new(StatusCode::UNAUTHORIZED, "EXPECTED_BEARER_STRING", message)
    }

    /// Without a token only those are answered whom no page of somebody else can be.
    pub(crate) fn unknown_host() -> Self {
        let message = "this needs a token here: without one, ask by an address or localhost, or name the host of this URL in `hosts` \
                       of [api] of twin.toml";
        Self::new(StatusCode::UNAUTHORIZED, "EXPECTED_BEARER_STRING", message)
    }

    pub(crate) fn malformed_token() -> Self {
        let message = "API Key is malformed or failed to parse.";
        Self::new(StatusCode::UNAUTHORIZED, "ERROR_MALFORMED_TOKEN", message)
    }

    pub(crate) fn signed_out() -> Self {
        let message = "you are signed out here; sign in again";
        Self::new(StatusCode::UNAUTHORIZED, "ERROR_SESSION_ENDED", message)
    }

    pub(crate) fn spent_link() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "ERROR_LINK_SPENT", StoreError::Spent.to_string())
    }

    pub(crate) fn foreign_page() -> Self {
        let message = "only the console's own page signs in: with the field `x-evernear-console`, from this host";
        Self::new(StatusCode::FORBIDDEN, "ERROR_FOREIGN_PAGE", message)
    }

    pub(crate) fn insecure_sign_in() -> Self {
        let message = "the console was opened by http:// over a network, where whoever reads along would be signed in too. Open it by \
                       https:// through what speaks TLS in front, or on the twin's machine, by a tunnel for instance: \
                       `ssh -L 8081:127.0.0.1:8081 MACHINE`. `insecure_sign_in = true` in [api] of twin.toml allows it as it is";
        Self::new(StatusCode::FORBIDDEN, "ERROR_INSECURE_SIGN_IN", message)
    }

    pub(crate) fn scope(needs: Scope) -> Self {
        let message = format!("Account restricted: this needs a token of scope {needs}.");
        Self::new(StatusCode::FORBIDDEN, "ERROR_ACCOUNT_RESTRICTED", message)
    }

    pub(crate) fn promise(policy: &PolicyName) -> Self {
        let message = format!(
            "Account restricted: the policy {policy} promises that this is kept, which nobody can take back. That needs a token of scope admin, \
             or the policy as the default of twin.toml."
        );
        Self::new(StatusCode::FORBIDDEN, "ERROR_ACCOUNT_RESTRICTED", message)
    }

    pub(crate) fn lesser_maker(what: &str) -> Self {
        let message =
            format!("a token makes none with a later end, more quota or a higher rate than its own: lower the {what}");
        Self::new(StatusCode::FORBIDDEN, "ERROR_ACCOUNT_RESTRICTED", message)
    }

    pub(crate) fn after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    pub(crate) fn closing(self) -> Self {
        Self { closes: true, ..self }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let kept = self.clone();
        let Self { status, code, message, retry_after, closes } = self;
        let body = Json(json!({ "ok": false, "error": { "code": code, "message": message } }));
        let mut answer = (status, body).into_response();
        // Other routes have another shape.
        answer.extensions_mut().insert(kept);
        if let Some(seconds) = retry_after {
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if closes {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if status == StatusCode::UNAUTHORIZED {
            answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        answer
    }
}

/// Returns an error with all its causes, each once.
pub(crate) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

impl From<TokenFault> for Refusal {
    fn from(fault: TokenFault) -> Self {
        match fault {
            TokenFault::Unknown => Self::new(StatusCode::UNAUTHORIZED, "ERROR_TOKEN_NOT_FOUND", "API Key not found."),
            TokenFault::Expired => Self::new(StatusCode::UNAUTHORIZED, "ERROR_DIDT_EXPIRED", "API Key has expired."),
        }
    }
}

impl From<WishError> for Refusal {
    fn from(error: WishError) -> Self {
        Self::caller(&error)
    }
}

impl From<NoRoom> for Refusal {
    fn from(error: NoRoom) -> Self {
        let code = match error {
            NoRoom::Quota { .. } | NoRoom::MakersQuota { .. } => "ERROR_QUOTA_EXCEEDED",
            NoRoom::Share { .. } | NoRoom::Spool { .. } => "ERROR_SPOOL_FULL",
        };
        Self::new(StatusCode::INSUFFICIENT_STORAGE, code, error.to_string()).closing()
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Closed => Self::stopping(),
            StoreError::Spent => Self::spent_link(),
            StoreError::NameTaken { .. } | StoreError::Gone | StoreError::Taken { .. } => {
                Self::new(StatusCode::CONFLICT, "HTTP_ERROR", error.to_string())
            }
            StoreError::Share { .. } | StoreError::Parts { .. } => {
                Self::new(StatusCode::CONFLICT, "INSUFFICIENT_FUNDS", error.to_string())
            }
            StoreError::MakerEnded => Self::from(TokenFault::Unknown),
            StoreError::Unwritable { disk } => Self::unwritable(disk, &error),
            error => Self::own(&error),
        }
    }
}

impl From<IndexError> for Refusal {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Busy { .. } => Self::away(&error),
            IndexError::Full => Self::new(StatusCode::INSUFFICIENT_STORAGE, "ERROR_INDEX_FULL", error.to_string()),
            error => Self::own(&error),
        }
    }
}

impl From<IntakeError> for Refusal {
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::TooLong { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "ERROR_TOO_LARGE", error.to_string()).closing()
            }
            IntakeError::NoRoom(room) => room.into(),
            IntakeError::Slow { .. } => {
                Self::new(StatusCode::REQUEST_TIMEOUT, "ERROR_TIMEOUT", error.to_string()).closing()
            }
            IntakeError::Broken => Self::wrong(error.to_string()).closing(),
            IntakeError::Stopping => Self::stopping().closing(),
            IntakeError::Ended => Self::from(TokenFault::Unknown).closing(),
        }
    }
}

impl From<PolicyNameError> for Refusal {
    fn from(error: PolicyNameError) -> Self {
        match error {
            PolicyNameError::Unknown { .. } => Self::caller(&error),
            PolicyNameError::Unavailable { .. } => Self::away(&error),
        }
    }
}

impl From<PlacingError> for Refusal {
    fn from(error: PlacingError) -> Self {
        match error {
            PlacingError::Name { source, .. } => source.into(),
            PlacingError::Load { source: PolicyError::Origins(_), .. } => Self::away(&error),
            PlacingError::Load { .. } | PlacingError::Failed { .. } | PlacingError::Plan { .. } => Self::caller(&error),
            PlacingError::Engine(_) => Self::own(&error),
            PlacingError::Cut => Self::stopping(),
        }
    }
}

impl From<PutError> for Refusal {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Index(error) => error.into(),
            PutError::Policy(error) => error.into(),
            PutError::Retention(RetentionError::Clock(_)) => Self::away(&error),
            PutError::Upload { ref source, .. } if is_full(source) => {
                let message = "the network has no room for it; free some, or add nodes";
                tracing::warn!(error = causes(&error), "the network is full");
                Self::new(StatusCode::INSUFFICIENT_STORAGE, NETWORK_FULL, message)
            }
            PutError::Upload { source: UploadError::Placement(_), .. }
            | PutError::Tree(_)
            | PutError::Directory { .. }
            | PutError::FolderType { .. }
            | PutError::Bounds { .. }
            | PutError::Name { .. }
            | PutError::Tag { .. }
            | PutError::Twice { .. }
            | PutError::Retention(_)
            | PutError::Encoding(EncodingError::Encode { .. }) => Self::caller(&error),
            PutError::Upload { .. } | PutError::Unasked(_) | PutError::Times(_) => Self::away(&error),
            error => Self::own(&error),
        }
    }
}

impl From<NetworkFull> for Refusal {
    fn from(error: NetworkFull) -> Self {
        Self::new(StatusCode::INSUFFICIENT_STORAGE, NETWORK_FULL, error.to_string()).closing()
    }
}

/// Whether nodes have no room: so many of them that it could not be stored if all others came back.
fn is_full(error: &UploadError) -> bool {
    let full = |failed: &[TransportError]| failed.iter().filter(|failure| failure.is_full()).count();
    match error {
        UploadError::Placement(PlacementError::TooFew { need, have, full, .. }) => *full > 0 && have + full >= *need,
        UploadError::Lost { source, failed, .. } => full(failed) > source.columns - source.quorum,
        UploadError::Record { asked, need, failed, .. } => full(failed) + need > *asked,
        _ => false,
    }
}

impl From<NameChangeError> for Refusal {
    fn from(error: NameChangeError) -> Self {
        let conflict = |error: &NameChangeError| Self::new(StatusCode::CONFLICT, "HTTP_ERROR", error.to_string());
        match error {
            NameChangeError::Unknown { .. } => Self::not_found(&error.to_string()),
            NameChangeError::Ended { .. } => Self::new(StatusCode::GONE, "HTTP_ERROR", error.to_string()),
            NameChangeError::Exists { .. }
            | NameChangeError::Ending { .. }
            | NameChangeError::TargetEnding
            | NameChangeError::Sooner { .. } => conflict(&error),
            NameChangeError::Name(_)
            | NameChangeError::Chain
            | NameChangeError::Seconds { .. }
            | NameChangeError::Past { .. }
            | NameChangeError::Target(GetError::Read(ReadError::NotFound { .. } | ReadError::Open(_))) => {
                Self::caller(&error)
            }
            NameChangeError::Clock(_)
            | NameChangeError::Target(_)
            | NameChangeError::Read(_)
            | NameChangeError::File(_) => Self::away(&error),
            NameChangeError::Index(error) => error.into(),
            NameChangeError::Random(_) => Self::own(&error),
        }
    }
}

impl From<PurgeOrderError> for Refusal {
    fn from(error: PurgeOrderError) -> Self {
        match error {
            PurgeOrderError::NoTag { .. } => Self::caller(&error),
            PurgeOrderError::Clock(_) | PurgeOrderError::NoNode { .. } => Self::away(&error),
        }
    }
}

impl From<OperatorError> for Refusal {
    fn from(error: OperatorError) -> Self {
        match error {
            OperatorError::NoRecord { .. } => Self::not_found("NFT not found"),
            OperatorError::NoAnswer { .. } | OperatorError::Refused(_) => Self::away(&error),
        }
    }
}

impl From<PublishError> for Refusal {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::BuiltIn { .. } | PublishError::Ended { .. } | PublishError::Manifest(_) => {
                Self::caller(&error)
            }
            PublishError::NoNode { .. } | PublishError::NoPolicy { .. } | PublishError::Clock(_) => Self::away(&error),
        }
    }
}

impl From<LeaseChangeError> for Refusal {
    fn from(error: LeaseChangeError) -> Self {
        match error {
            LeaseChangeError::Unknown | LeaseChangeError::NotOurs => Self::not_found("NFT not found"),
            LeaseChangeError::Erased | LeaseChangeError::Ending => {
                Self::new(StatusCode::GONE, "HTTP_ERROR", error.to_string())
            }
            LeaseChangeError::Kept { .. } | LeaseChangeError::Busy | LeaseChangeError::Shortened { .. } => {
                Self::new(StatusCode::CONFLICT, "HTTP_ERROR", error.to_string())
            }
            LeaseChangeError::Sooner { .. } => {
                let message = format!("{error}; send \"sooner\": true to agree");
                Self::new(StatusCode::CONFLICT, "HTTP_ERROR", message)
            }
            LeaseChangeError::Policy(error) => error.into(),
            LeaseChangeError::Index(error) => error.into(),
            LeaseChangeError::Retention(RetentionError::Clock(_))
            | LeaseChangeError::Read(_)
            | LeaseChangeError::TooFew { .. }
            | LeaseChangeError::Overtaken { .. }
            | LeaseChangeError::Unsure { .. } => Self::away(&error),
            LeaseChangeError::Name
            | LeaseChangeError::Retention(_)
            | LeaseChangeError::Caps { .. }
            | LeaseChangeError::OtherData { .. }
            | LeaseChangeError::MoreParity { .. }
            | LeaseChangeError::NoParity { .. }
            | LeaseChangeError::Length => Self::caller(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind};

    use client::ScatterLost;
    use format::Redundancy;

    use super::*;
    use crate::car::CarFault;

    #[test]
    fn the_network_is_full_where_full_nodes_alone_leave_too_few_and_else_what_is_away_may_come_back() {
        let node = || "o1".parse().unwrap();
        let failed = |full: usize, away: usize| -> Vec<TransportError> {
            let full = (0..full).map(|_| TransportError::Failed { node: node(), status: 507, reason: "full".into() });
            full.chain((0..away).map(|_| TransportError::TimedOut { node: node() })).collect()
        };
        let told = |source: UploadError| {
            let Refusal { status, code, retry_after, .. } = PutError::Upload { path: "f".into(), source }.into();
            match (status, code, retry_after) {
                (StatusCode::INSUFFICIENT_STORAGE, NETWORK_FULL, None) => true,
                (StatusCode::SERVICE_UNAVAILABLE, "ERROR_UNAVAILABLE", Some(_)) => false,
                other => panic!("{other:?}"),
            }
        };
        // Of 4+2 five must be durable, so one full node alone keeps nobody from it.
        for (full, away, is_full) in [(2, 0, true), (2, 1, true), (1, 1, false), (0, 2, false), (1, 5, false)] {
            let source = ScatterLost { left: 6 - full - away, columns: 6, quorum: 5 };
            let lost = UploadError::Lost { source, failed: failed(full, away), silent_zones: [].into() };
            assert_eq!(told(lost), is_full, "{full} {away}");
        }
        for (full, away, is_full) in [(3, 0, true), (2, 1, false), (2, 2, false), (3, 1, true)] {
            let record = UploadError::Record { stored: 5 - full - away, asked: 5, need: 3, failed: failed(full, away) };
            assert_eq!(told(record), is_full, "{full} {away}");
        }
        let (redundancy, wanted, refused) = (Redundancy::new(4, 2).unwrap(), Vec::new(), Vec::new());
        let too_few =
            PlacementError::TooFew { redundancy, need: 6, have: 4, known: 6, full: 2, leaving: 0, wanted, refused };
        assert!(told(too_few.into()));
        let refused = PlacementError::TooFew {
            redundancy,
            need: 6,
            have: 2,
            known: 6,
            full: 2,
            leaving: 2,
            wanted: Vec::new(),
            refused: Vec::new(),
        };
        let refused = Refusal::from(PutError::Upload { path: "f".into(), source: refused.into() });
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn a_disk_that_takes_no_write_is_told_the_same_way_wherever_it_is_met() {
        for (kind, disk, code) in [
            (ErrorKind::StorageFull, Unwritable::Full, "ERROR_DISK_FULL"),
            (ErrorKind::QuotaExceeded, Unwritable::Full, "ERROR_DISK_FULL"),
            (ErrorKind::ReadOnlyFilesystem, Unwritable::ReadOnly, "ERROR_DISK_READ_ONLY"),
        ] {
            let index = || IndexError::Io { path: "x".into(), source: kind.into() };
            let refusals: [Refusal; 5] = [
                index().into(),
                PutError::Index(index()).into(),
                LeaseChangeError::Index(index()).into(),
                CarFault::Spool(kind.into()).into(),
                StoreError::Unwritable { disk }.into(),
            ];
            for refusal in refusals {
                let Refusal { status, code: told, retry_after, .. } = refusal;
                assert_eq!((status, told, retry_after), (StatusCode::INSUFFICIENT_STORAGE, code, Some(AGAIN_SECONDS)));
            }
        }
        let other = Refusal::from(CarFault::Spool(io::Error::from(ErrorKind::PermissionDenied)));
        assert_eq!((other.status, other.retry_after), (StatusCode::INTERNAL_SERVER_ERROR, None));
    }
}
