//! `Upload-Metadata`: what a client says of its file. Pure.

use axum::http::{HeaderMap, StatusCode};
use data_encoding::BASE64;

use super::{refused, request::text};
use crate::refusal::Refusal;

/// Longest field.
const BYTES_MAX: usize = 8 << 10;

/// What the field says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Metadata {
    /// As it came.
    pub(super) text: Option<String>,
    /// `filename`, or `name`.
    pub(super) name: Option<String>,
    /// `filetype`, or `type`.
    pub(super) mime: Option<String>,
}

impl Metadata {
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Refusal> {
        Self::of(text(headers, "upload-metadata")?)
    }

    /// Reads the value of the field: keys with values in base64, commas between them.
    pub(super) fn of(field: Option<&str>) -> Result<Self, Refusal> {
        let Some(field) = field else { return Ok(Self::default()) };
        let wrong = || {
            let message = format!("Upload-Metadata is keys with values in base64, at most {BYTES_MAX} bytes");
            refused(StatusCode::BAD_REQUEST, &message)
        };
        if field.len() > BYTES_MAX {
            return Err(wrong());
        }
        let mut metadata = Self { text: Some(field.to_owned()), ..Self::default() };
        for pair in field.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (key, coded) = pair.split_once(' ').unwrap_or((pair, ""));
            let value = BASE64.decode(coded.trim().as_bytes()).map_err(|_| wrong())?;
            let value = String::from_utf8(value).map_err(|_| wrong())?;
            match key {
                "filename" | "name" => metadata.name = Some(value).filter(|name| !name.is_empty()).or(metadata.name),
                "filetype" | "type" => metadata.mime = Some(value),
                _ => {}
            }
        }
        Ok(metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_a_type_are_read_and_what_is_no_base64_is_refused() {
        let read = Metadata::of(Some("filename Y2Fmw6kubXA0,filetype dmlkZW8vbXA0,is_confidential")).unwrap();
        assert_eq!((read.name.as_deref(), read.mime.as_deref()), (Some("café.mp4"), Some("video/mp4")));
        for wrong in ["filename !", "filename /w==", &format!("a {}", "A".repeat(9000))] {
            assert!(Metadata::of(Some(wrong)).is_err(), "{wrong}");
        }
        assert_eq!(Metadata::of(None).unwrap(), Metadata::default());
    }
}
