//! Where shards lie when they do not lie in the data folder: which object store, and with whose keys it is asked.

use std::{path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use client::read_key_file;
use object_store::{
    Certificate, ClientOptions, ObjectStore, RetryConfig, aws::AmazonS3Builder, local::LocalFileSystem,
    path::Path as Key,
};
use serde::{Deserialize, Deserializer, de::Error as _};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{ConfigError, read_text};
use crate::store::CALL;

/// Longest time to connect; a server that is there answers at once.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest time in which a failed request is sent again; [`CALL`] leaves a request its time beside it.
const RETRY: Duration = Duration::from_secs(10);

/// The object store of an origin's shards.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketConfig {
    /// Which, and below which prefix of its keys. No default.
    pub url: BucketUrl,
    /// URL of a server that speaks S3. Absent: that of AWS, or `AWS_ENDPOINT`. Only a URL that says `http://` goes
    /// without TLS.
    pub endpoint: Option<String>,
    /// The region that requests are signed for. Absent: `AWS_REGION`, or `us-east-1`.
    pub region: Option<String>,
    /// File of the keys: TOML with `access_key_id`, `secret_access_key` and, if there is one, `session_token`; readable
    /// by this user alone. Absent: the `AWS_` variables of the environment, or what the cloud gives its machine.
    pub credentials: Option<PathBuf>,
    /// File of the authority, PEM, that a server of your own proves its name by. Absent: those of the system alone.
    pub authority: Option<PathBuf>,
}

/// Where in which object store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketUrl {
    /// A folder that is there, of a file system that others keep safe.
    File(PathBuf),
    /// A bucket, and a prefix that may be empty.
    S3 {
        /// The bucket.
        bucket: String,
        /// What all keys begin with.
        prefix: Key,
    },
}

/// Not the URL of an object store; the operator's to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no object store; write s3://BUCKET/PREFIX or file:///absolute/folder")]
pub struct BucketUrlError;

/// The keys of a file. Wiped when dropped; the client of the object store keeps its own copy as long as the origin
/// runs.
#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct Keys {
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
}

impl BucketConfig {
    /// Makes the client and returns it with the prefix of all its keys. Asks nobody yet.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub(crate) fn client(&self) -> Result<(Arc<dyn ObjectStore>, Key), ConfigError> {
        let failed = |source| ConfigError::Bucket { source };
        match &self.url {
            BucketUrl::File(folder) => {
                let store = LocalFileSystem::new_with_prefix(folder).map_err(failed)?;
                Ok((Arc::new(store.with_fsync(true)), Key::default()))
            }
            BucketUrl::S3 { bucket, prefix } => {
                let store = self.s3()?.with_bucket_name(bucket).build().map_err(failed)?;
                Ok((Arc::new(store), prefix.clone()))
            }
        }
    }

    fn s3(&self) -> Result<AmazonS3Builder, ConfigError> {
        let mut options = ClientOptions::new().with_connect_timeout(CONNECT).with_timeout(CALL);
        if let Some(path) = &self.authority {
            let pem = read_text(path)?;
            let authority = Certificate::from_pem(pem.as_bytes()).map_err(|source| ConfigError::Bucket { source })?;
            options = options.with_root_certificate(authority);
        }
        let mut builder = match &self.credentials {
            None => AmazonS3Builder::from_env(),
            Some(path) => {
                let keys = Keys::read(path.clone())?;
                let builder = AmazonS3Builder::new()
                    .with_access_key_id(&keys.access_key_id)
                    .with_secret_access_key(&keys.secret_access_key);
                match &keys.session_token {
                    Some(token) => builder.with_token(token),
                    None => builder,
                }
            }
        };
        if let Some(region) = &self.region {
            builder = builder.with_region(region);
        }
        if let Some(endpoint) = &self.endpoint {
            options = options.with_allow_http(endpoint.starts_with("http://"));
            builder = builder.with_endpoint(endpoint);
        }
        let retry = RetryConfig { max_retries: 3, retry_timeout: RETRY, ..RetryConfig::default() };
        // Not every server has the call that deletes many at once, and this node deletes one at a time.
        Ok(builder.with_client_options(options).with_retry(retry).with_disable_bulk_delete(true))
    }
}

impl Keys {
    fn read(path: PathBuf) -> Result<Self, ConfigError> {
        let text = read_key_file(&path)?;
        // What the parser says would quote the line, and so the key.
        toml::from_str(&text).map_err(|_| ConfigError::Keys { path })
    }
}

impl FromStr for BucketUrl {
    type Err = BucketUrlError;

    fn from_str(text: &str) -> Result<Self, BucketUrlError> {
        match text.split_once("://") {
            Some(("file", path)) if path.starts_with('/') => Ok(Self::File(path.into())),
            Some(("s3", rest)) => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                let prefix = Key::parse(prefix).map_err(|_| BucketUrlError)?;
                if bucket.is_empty() { Err(BucketUrlError) } else { Ok(Self::S3 { bucket: bucket.to_owned(), prefix }) }
            }
            _ => Err(BucketUrlError),
        }
    }
}

impl std::fmt::Display for BucketUrl {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(folder) => write!(to, "file://{}", folder.display()),
            Self::S3 { bucket, prefix } => write!(to, "s3://{bucket}/{prefix}"),
        }
    }
}

impl<'de> Deserialize<'de> for BucketUrl {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use client::KeyFileError;

    use super::*;

    #[test]
    fn a_url_names_a_bucket_or_a_folder() {
        for (text, again) in [
            ("s3://b", "s3://b/"),
            ("s3://b/", "s3://b/"),
            ("s3://b/one/two/", "s3://b/one/two"),
            ("file:///srv/shards", "file:///srv/shards"),
        ] {
            assert_eq!(text.parse::<BucketUrl>().unwrap().to_string(), again);
        }
        for bad in ["s3://", "s3:///prefix", "s3://b/one//two", "file://relative", "gs://b", "/srv/shards", ""] {
            assert_eq!(bad.parse::<BucketUrl>(), Err(BucketUrlError), "{bad}");
        }
    }

    #[test]
    fn a_file_of_keys_that_does_not_read_is_named_and_not_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.toml");
        std::fs::write(&path, "access_key_id = \"me\"\nsecret_access_key = hunter2\n").unwrap();
        let open = Keys::read(path.clone()).err().unwrap();
        assert!(matches!(open, ConfigError::KeyFile(KeyFileError::Open { .. })), "{open}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let error = Keys::read(path.clone()).err().unwrap();
        let told = format!("{error} {error:?}");
        assert!(told.contains("keys.toml") && !told.contains("hunter2"), "{told}");
        std::fs::write(&path, "access_key_id = \"me\"\nsecret_access_key = \"hunter2\"\n").unwrap();
        assert_eq!(Keys::read(path).unwrap().secret_access_key, "hunter2");
    }
}
