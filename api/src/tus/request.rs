//! The fields of tus. Pure.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt};

use axum::http::{HeaderMap, StatusCode};
use data_encoding::BASE64;
use twin::Batch;

use super::refused;
use crate::refusal::Refusal;

/// The version of the protocol.
pub(super) const PROTOCOL: &str = "1.0.0";
/// The content type of a chunk.
pub(super) const CHUNK_TYPE: &str = "application/offset+octet-stream";
/// Bytes of one read.
const CHUNK_BYTES: usize = 256 << 10;

/// What the head of a request says.
pub(super) struct Request {
    pub(super) length: Option<u64>,
    pub(super) offset: Option<u64>,
}

impl Request {
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Refusal> {
        if text(headers, "tus-resumable")? != Some(PROTOCOL) {
            let message = format!("Tus-Resumable is missing, or another version than {PROTOCOL}");
            return Err(refused(StatusCode::PRECONDITION_FAILED, &message).closing());
        }
        let number = |name: &'static str| {
            let wrong = || refused(StatusCode::BAD_REQUEST, &format!("{name} is no number of bytes"));
            text(headers, name)?.map(|text| text.parse().map_err(|_| wrong())).transpose()
        };
        Ok(Self { length: number("upload-length")?, offset: number("upload-offset")? })
    }
}

/// Returns the value of a field that may stand once.
pub(super) fn text<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<Option<&'h str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let wrong = || refused(StatusCode::BAD_REQUEST, &format!("{name} stands there twice, or is not ASCII"));
    if values.next().is_some() {
        return Err(wrong());
    }
    value.to_str().map(Some).map_err(|_| wrong())
}

/// How an upload takes part in a concatenation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Concat {
    /// Not at all.
    None,
    /// It will be a part.
    Partial,
    /// It is made of these.
    Final(Vec<String>),
}

impl Concat {
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Refusal> {
        text(headers, "upload-concat")?.map_or(Ok(Self::None), Self::of)
    }

    /// Reads the value of the field. Parts are named by their URLs.
    pub(super) fn of(value: &str) -> Result<Self, Refusal> {
        if value == "partial" {
            return Ok(Self::Partial);
        }
        let wrong = || refused(StatusCode::BAD_REQUEST, "Upload-Concat is `partial`, or `final;` and URLs of parts");
        let urls = value.strip_prefix("final;").ok_or_else(wrong)?.split_whitespace();
        let id = |url: &str| url.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
        Ok(Self::Final(urls.map(id).collect()))
    }

    pub(super) fn is_partial(&self) -> bool {
        *self == Self::Partial
    }

    /// Returns the value of the field, as it is kept.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Partial => Some("partial".to_owned()),
            Self::Final(ids) => {
                Some(format!("final;{}", ids.iter().map(|id| format!("/tus/{id}")).collect::<Vec<_>>().join(" ")))
            }
        }
    }

    /// Returns the parts of a final upload.
    pub(super) fn batches(&self) -> Result<Vec<Batch>, Refusal> {
        let Self::Final(ids) = self else { return Ok(Vec::new()) };
        let wrong = || refused(StatusCode::BAD_REQUEST, "a part is named by no id");
        let batch = |id: &String| {
            let bytes = data_encoding::HEXLOWER.decode(id.as_bytes()).map_err(|_| wrong())?;
            bytes.try_into().map(Batch).map_err(|_| wrong())
        };
        ids.iter().map(batch).collect()
    }
}

/// What a chunk must hash to.
pub(super) struct Checksum {
    algorithm: &'static aws_lc_rs::digest::Algorithm,
    digest: Vec<u8>,
}

impl Checksum {
    pub(super) fn read(headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        let Some(value) = text(headers, "upload-checksum")? else { return Ok(None) };
        let wrong = || refused(StatusCode::BAD_REQUEST, "Upload-Checksum is `sha1` or `sha256`, and base64").closing();
        let (name, digest) = value.split_once(' ').ok_or_else(wrong)?;
        let algorithm = match name {
            "sha1" => &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY,
            "sha256" => &aws_lc_rs::digest::SHA256,
            _ => return Err(wrong()),
        };
        let digest = BASE64.decode(digest.trim().as_bytes()).map_err(|_| wrong())?;
        Ok(Some(Self { algorithm, digest }))
    }

    /// Returns whether it is that of these bytes of a file. Blocks.
    pub(super) fn is_of(&self, file: &File, Range { start, end }: Range<u64>) -> io::Result<bool> {
        let mut context = aws_lc_rs::digest::Context::new(self.algorithm);
        let (mut at, mut chunk) = (start, vec![0; CHUNK_BYTES]);
        while at < end {
            let part = usize::try_from((end - at).min(CHUNK_BYTES as u64)).map_err(io::Error::other)?;
            file.read_exact_at(&mut chunk[..part], at)?;
            context.update(&chunk[..part]);
            at += part as u64;
        }
        Ok(context.finish().as_ref() == self.digest)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn a_request_of_another_version_is_none() {
        for wrong in [headers(&[]), headers(&[("tus-resumable", "0.2.2")])] {
            assert_eq!(Request::read(&wrong).err().unwrap().status, StatusCode::PRECONDITION_FAILED);
        }
        let good = headers(&[("tus-resumable", "1.0.0"), ("upload-length", "7"), ("upload-offset", "0")]);
        let good = Request::read(&good).unwrap();
        assert_eq!((good.length, good.offset), (Some(7), Some(0)));
        for wrong in ["-1", "x", "99999999999999999999999"] {
            assert!(Request::read(&headers(&[("tus-resumable", "1.0.0"), ("upload-length", wrong)])).is_err());
        }
    }

    #[test]
    fn parts_are_named_by_their_urls() {
        let id = "0123456789abcdef0123456789abcdef";
        let concat = Concat::of(&format!("final;/tus/{id} http://a:1/tus/{id}/")).unwrap();
        assert_eq!(concat.batches().unwrap().len(), 2);
        assert_eq!(Concat::of(&concat.text().unwrap()).unwrap(), concat);
        assert!(Concat::of("part").is_err() && Concat::of("final;/tus/x").unwrap().batches().is_err());
    }

    #[test]
    fn a_checksum_is_that_of_the_bytes_and_of_no_others() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"> hello world!", 0).unwrap();
        // printf 'hello world' | openssl dgst -sha1 -binary | base64
        let read = |value| Checksum::read(&headers(&[("upload-checksum", value)]));
        let right = read("sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=").unwrap().unwrap();
        for (range, is_it) in [(2..13, true), (2..14, false), (1..13, false), (2..2, false)] {
            assert_eq!(right.is_of(&file, range.clone()).unwrap(), is_it, "{range:?}");
        }
        for wrong in ["md5 AAAA", "sha1", "sha1 !"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
