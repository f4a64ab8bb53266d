//! Why an edge does not start.

use std::{io, net::SocketAddr, path::PathBuf};

use client::{IdentityError, TracesError};

use crate::{
    config::ConfigError,
    listen::certificate::CertificateError,
    policy::{denylist::DenylistError, places::PlacesError},
    secret::SecretError,
    store::disk::DiskError,
};

/// Why an edge does not start; the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error("the configuration cannot be used")]
    Config(#[from] ConfigError),
    /// The edge's own certificate is wrong.
    #[error("the identity of [tls] cannot be used")]
    Identity(#[from] IdentityError),
    /// The place table is wrong.
    #[error("the place table cannot be used")]
    Places(#[from] PlacesError),
    /// The policy engine does not start.
    #[error("the policy engine does not start")]
    Engine(#[from] sandbox::EngineError),
    /// The built-in policy does not run.
    #[error("the built-in policy does not run: {reason}")]
    DefaultPolicy {
        /// Why.
        reason: String,
    },
    /// The certificate for viewers is wrong.
    #[error("the certificate of [https] cannot be used")]
    Certificate(#[from] CertificateError),
    /// The collector of traces cannot be told.
    #[error("`traces` cannot be used")]
    Traces(#[from] TracesError),
    /// What is not to be served cannot be read, so nothing is.
    #[error("`denylist` cannot be used")]
    Denylist(#[from] DenylistError),
    /// The folder of the disk cache is wrong.
    #[error("`cache.disk` cannot be used")]
    Disk(#[from] DiskError),
    /// The folder of what is remembered cannot be written.
    #[error("{}, the folder of `state_dir`, cannot be written", path.display())]
    State {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The secret of the zone's edges is wrong.
    #[error("{}, the file of the zone's secret, cannot be used", path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SecretError,
    },
    /// This edge is to take the place of one that may have a certificate, and can have none.
    #[error(
        "there is no certificate for viewers: no origin could be asked for it, and none is kept; start again once an \
         origin answers, or give edges a `state_dir`, where they keep it"
    )]
    Uncertified,
    /// Other edges are to be answered, and there is no certificate for that.
    #[error("`peers` needs `tls`: other edges are answered with its certificate")]
    Peers,
    /// An address cannot be bound.
    #[error("{door} cannot listen on {address}")]
    Bind {
        /// Which door.
        door: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}
