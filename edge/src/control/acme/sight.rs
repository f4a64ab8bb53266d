//! Whether resolvers see what the zone's edges show, asked before an authority is: authorities count what they find
//! wrong (Let's Encrypt: five an hour), resolvers do not.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use hickory_proto::rr::{RData, RecordType};
use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
};
use tokio::time::sleep;

use crate::zone::Zone;

/// Where an authority looks, below the zone (RFC 8555 section 8.4).
const PROOF: &str = "_acme-challenge";
/// One resolver answers by then, or is asked again.
const TIMEOUT: Duration = Duration::from_secs(4);
const ATTEMPTS: usize = 2;
/// Between two questions for the same.
const PAUSE: Duration = Duration::from_secs(1);

/// Why an authority would not find the zone's proof. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnseenError {
    /// Nobody leads there.
    #[error(
        "resolvers know no {zone}: where the names above it are kept, delegate it to {nameservers}, with the address of each that lies in {zone}. If that was \
         done, they remember what they were told before, often for an hour"
    )]
    Undelegated { zone: Zone, nameservers: String },
    /// Somebody else answers.
    #[error(
        "resolvers do not find at {PROOF}.{zone} what this edge shows: delegate {zone} to {nameservers}, and to no other"
    )]
    Elsewhere { zone: Zone, nameservers: String },
    /// The nameservers do not answer them, or not as the zone above says.
    #[error(
        "resolvers get no answer for {PROOF}.{zone} that they believe: its nameservers, {nameservers}, must be reached from everywhere on port 53, by UDP and \
         TCP, and the zone above must have no DS record for it"
    )]
    Unanswered { zone: Zone, nameservers: String, source: NetError },
    /// They do not answer themselves.
    #[error(
        "no resolver answered for {PROOF}.{zone} in time: either they are away, name others in `https.acme.resolvers`, or they wait for the zone's nameservers, \
         {nameservers}, which must be reached from everywhere on port 53, by UDP and TCP"
    )]
    Silent { zone: Zone, nameservers: String, source: NetError },
    /// There is nobody to ask.
    #[error("/etc/resolv.conf names no resolver that could be asked; name some in `https.acme.resolvers`")]
    System(#[source] NetError),
}

/// Waits until resolvers see a value where the zone shows its proof: those named, else the system's.
///
/// # Errors
/// [`UnseenError`]: what they saw last, when the time was over.
pub(super) async fn wait_for(
    value: &str,
    zone: &Zone,
    nameservers: &[String],
    resolvers: Option<&[SocketAddr]>,
    deadline: Instant,
) -> Result<(), UnseenError> {
    let resolver = resolver(resolvers).map_err(UnseenError::System)?;
    loop {
        let (zone, nameservers) = (zone.clone(), nameservers.join(", "));
        let unseen = match resolver.lookup(format!("{PROOF}.{zone}."), RecordType::TXT).await {
            Ok(found) if found.answers().iter().any(|record| is(&record.data, value)) => return Ok(()),
            Err(error) if error.is_nx_domain() => UnseenError::Undelegated { zone, nameservers },
            Ok(_) | Err(NetError::Dns(DnsError::NoRecordsFound(_))) => UnseenError::Elsewhere { zone, nameservers },
            Err(source @ NetError::Dns(_)) => UnseenError::Unanswered { zone, nameservers, source },
            Err(source) => UnseenError::Silent { zone, nameservers, source },
        };
        if Instant::now() + PAUSE > deadline {
            return Err(unseen);
        }
        sleep(PAUSE).await;
    }
}

fn is(data: &RData, value: &str) -> bool {
    matches!(data, RData::TXT(text) if text.txt_data.concat() == value.as_bytes())
}

fn resolver(named: Option<&[SocketAddr]>) -> Result<TokioResolver, NetError> {
    let provider = TokioRuntimeProvider::default();
    let mut builder = match named {
        None => TokioResolver::builder(provider)?,
        Some([]) => return Err(io::Error::from(io::ErrorKind::NotFound).into()),
        Some(named) => {
            let servers = named.iter().map(|address| {
                let connection = |protocol| {
                    let mut connection = ConnectionConfig::new(protocol);
                    connection.port = address.port();
                    connection
                };
                let ways = [ProtocolConfig::Udp, ProtocolConfig::Tcp].map(connection).to_vec();
                NameServerConfig::new(address.ip(), true, ways)
            });
            TokioResolver::builder_with_config(ResolverConfig::from_name_servers(servers.collect()), provider)
        }
    };
    let options: &mut ResolverOpts = builder.options_mut();
    (options.timeout, options.attempts) = (TIMEOUT, ATTEMPTS);
    // What was seen a second ago says nothing.
    (options.cache_size, options.use_hosts_file) = (0, ResolveHosts::Never);
    builder.build()
}
