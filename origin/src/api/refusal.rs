//! The one table from what went wrong to HTTP status and to whose fault it was.

use std::error::Error;

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use client::Unwritable;
use format::{
    LeaseError, PolicyManifestError, PurgeError, RecordError,
    cbor::CborError,
    wire::{ApiError, Fault, FrameError},
};

use crate::{
    catalog::{CatalogError, Refused},
    copies::RefreshError,
    intake::IntakeError,
    node::{Lost, ReserveError, RoomError},
    store::{AppendError, CommitError, StoreError},
    upload::UploadError,
};

/// An answer that says no, and why.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    status: StatusCode,
    body: ApiError,
}

impl Refusal {
    /// The caller asked wrong; the text says all causes.
    pub(super) fn caller(status: StatusCode, error: &(dyn Error + 'static)) -> Self {
        Self { status, body: ApiError { error: causes(error), fault: Fault::Caller } }
    }

    /// The caller asked wrong, in words.
    pub(super) fn wrong(status: StatusCode, text: &str) -> Self {
        Self { status, body: ApiError { error: text.to_owned(), fault: Fault::Caller } }
    }

    /// The node failed: the causes are for its operator, the caller is told to go elsewhere.
    fn node(status: StatusCode, error: &(dyn Error + 'static)) -> Self {
        tracing::warn!(status = status.as_u16(), error = causes(error), "a call failed");
        Self { status, body: ApiError { error: error.to_string(), fault: Fault::Node } }
    }

    pub(super) fn no_route() -> Self {
        Self::wrong(StatusCode::NOT_FOUND, "the node API has no such path")
    }

    pub(super) fn no_method() -> Self {
        Self::wrong(StatusCode::METHOD_NOT_ALLOWED, "the node API has no such method on this path")
    }

    pub(super) fn too_slow() -> Self {
        let error = "the call took too long; try again, or another node".to_owned();
        Self { status: StatusCode::SERVICE_UNAVAILABLE, body: ApiError { error, fault: Fault::Node } }
    }

    pub(super) fn not_found(what: &str) -> Self {
        Self::wrong(StatusCode::NOT_FOUND, what)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

pub(crate) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl From<CatalogError> for Refusal {
    fn from(error: CatalogError) -> Self {
        match &error {
            CatalogError::Refused(refused) => Self::caller(refused_status(refused), refused),
            // It does not pass while a caller waits.
            error if error.is_full() => Self::node(StatusCode::INSUFFICIENT_STORAGE, error),
            CatalogError::Unavailable(_) | CatalogError::Other { .. } => {
                Self::node(StatusCode::SERVICE_UNAVAILABLE, &error)
            }
            CatalogError::Damaged { .. } => Self::node(StatusCode::INTERNAL_SERVER_ERROR, &error),
        }
    }
}

fn refused_status(refused: &Refused) -> StatusCode {
    match refused {
        Refused::NoRecord => StatusCode::NOT_FOUND,
        Refused::VersionTooLarge { .. } => StatusCode::BAD_REQUEST,
        Refused::Erased => StatusCode::GONE,
        Refused::TooManyTickets { .. } => StatusCode::TOO_MANY_REQUESTS,
        Refused::TooManyNotes { .. } => StatusCode::INSUFFICIENT_STORAGE,
        Refused::OtherObject { .. }
        | Refused::OtherManifest
        | Refused::NoManifest
        | Refused::OtherOwner { .. }
        | Refused::Older { .. }
        | Refused::SameVersion { .. }
        | Refused::Kept { .. }
        | Refused::Ended { .. }
        | Refused::OtherRole { .. }
        | Refused::NoBlob { .. }
        | Refused::OtherNote => StatusCode::CONFLICT,
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::NoShard { .. } => Self::caller(StatusCode::NOT_FOUND, &error),
            StoreError::Range { .. } => Self::caller(StatusCode::RANGE_NOT_SATISFIABLE, &error),
            StoreError::Io { source, .. } if Unwritable::of(source).is_some() => {
                Self::node(StatusCode::INSUFFICIENT_STORAGE, &error)
            }
            StoreError::Bucket { .. } => Self::node(StatusCode::SERVICE_UNAVAILABLE, &error),
            StoreError::BucketInUse { .. }
            | StoreError::Io { .. }
            | StoreError::InUse { .. }
            | StoreError::Damaged { .. } => Self::node(StatusCode::INTERNAL_SERVER_ERROR, &error),
        }
    }
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Order { .. } => Self::caller(StatusCode::CONFLICT, &error),
            AppendError::Strip { .. } | AppendError::AfterEmpty { .. } => {
                Self::caller(StatusCode::UNPROCESSABLE_ENTITY, &error)
            }
            AppendError::TooMany => Self::caller(StatusCode::PAYLOAD_TOO_LARGE, &error),
            AppendError::Store(error) => error.into(),
        }
    }
}

impl From<CommitError> for Refusal {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Column { .. } => Self::caller(StatusCode::BAD_REQUEST, &error),
            CommitError::Missing { .. } => Self::caller(StatusCode::CONFLICT, &error),
            CommitError::TooMany { .. } | CommitError::Length { .. } | CommitError::Tail | CommitError::Root { .. } => {
                Self::caller(StatusCode::UNPROCESSABLE_ENTITY, &error)
            }
            CommitError::Store(error) => error.into(),
        }
    }
}

impl From<UploadError> for Refusal {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Unknown => Self::caller(StatusCode::NOT_FOUND, &error),
            UploadError::TooLarge => Self::node(StatusCode::INSUFFICIENT_STORAGE, &error),
            // Whoever lost the answer to a call makes it again while the first may still run.
            // What others, or the caller, have under way ends.
            UploadError::Busy
            | UploadError::TooMany { .. }
            | UploadError::Share { .. }
            | UploadError::BytesShare { .. } => Self::node(StatusCode::SERVICE_UNAVAILABLE, &error),
        }
    }
}

impl From<IntakeError> for Refusal {
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::TooLong { .. } => Self::caller(StatusCode::PAYLOAD_TOO_LARGE, &error),
            IntakeError::Slow => Self::caller(StatusCode::REQUEST_TIMEOUT, &error),
            IntakeError::Broken => Self::caller(StatusCode::BAD_REQUEST, &error),
            IntakeError::Closed => Self::node(StatusCode::SERVICE_UNAVAILABLE, &error),
        }
    }
}

impl From<RoomError> for Refusal {
    fn from(error: RoomError) -> Self {
        match error {
            RoomError::Full | RoomError::Draining => Self::node(StatusCode::INSUFFICIENT_STORAGE, &error),
            RoomError::Store(error) => error.into(),
        }
    }
}

impl From<ReserveError> for Refusal {
    fn from(error: ReserveError) -> Self {
        match error {
            ReserveError::Upload(error) => error.into(),
            ReserveError::Store(error) => error.into(),
        }
    }
}

impl From<Lost> for Refusal {
    fn from(error: Lost) -> Self {
        Self::node(StatusCode::INTERNAL_SERVER_ERROR, &error)
    }
}

impl From<RefreshError> for Refusal {
    fn from(error: RefreshError) -> Self {
        match error {
            RefreshError::Catalog(error) => error.into(),
            RefreshError::Strange(_) => Self::node(StatusCode::SERVICE_UNAVAILABLE, &error),
            RefreshError::Store(error) => error.into(),
            RefreshError::Lost(error) => error.into(),
        }
    }
}

macro_rules! malformed {
    ($($error:ty),*) => { $(
        impl From<$error> for Refusal {
            fn from(error: $error) -> Self {
                Self::caller(StatusCode::BAD_REQUEST, &error)
            }
        }
    )* };
}

malformed!(CborError, FrameError, LeaseError, PolicyManifestError, PurgeError, RecordError);
